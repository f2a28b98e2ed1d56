r"""How answers are put into words, in English and Chinese: the patterns behind :mod:`evalkit.extraction.letters`.

All of them search text that :func:`evalkit.extraction.plain.plain` has undressed, and name the letters they find ``letters``.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

LETTERS = "ABCDEFGHIJ"

_OPEN, _CLOSE = r"(?:[(\[{\"'“‘「『【《]{1,3} ?)?", r"(?: ?[)\]}\"'”’」』】》]{1,3})?"
_JOIN = r" ?(?:[,、;/&+]|\band\b|和|与|及|以及) ?(?:and )?"
_THEN = r"(?=\s*(?:[.。,;!)\]\n]|$|(?:not|rather|instead|because|since|as)\b|因为|由于|而?不))"  # nothing more is said of it

# after "is", ":" and the like
_FILLER = (
    r"(?:(?:the|option|choice|letter|answer|number|statement|therefore|thus|clearly|definitely|likely|probably|most|only|simply|both)\s+)*"
)
_ADJECTIVE = r"(?:correct|right|best|true|proper|appropriate|suitable|final|chosen|accurate|valid)"
_NOUN = rf"(?:answers?|ans|option|choice|{_ADJECTIVE}\s+(?:options?|choices?|statements?|responses?|ones?|alternatives?|letters?))"
_IS = r"(?:\s*(?:\b(?:is|are|was|would be|should be|will be|must be|has to be|can only be|therefore|thus|then)\b|[:=]|[-–—→]+>?))+\s*"

_COPULA = r"(?:is|are|was|were|must be|would be|should be|has to be)"
_SURELY = r"(?:clearly|therefore|indeed|obviously|probably|likely|definitely)"
_PICK = r"(?:answers?|options?|choices?|ones?|pick|response)"
_BAD = r"(?:\w+\s+)?(?:wrong|incorrect|false|worst|least|other)\b"
_CHOOSE = (
    r"\b(?:choos(?:e|es|ing)|chose|pick(?:ed|ing)?|select(?:ed|ing)?|go(?:ing)? with|went with|opt(?:ed)? for|settle on|"
    r"conclude|say|mark|circle|prefer)\s+"
)
_LEAD = (
    r"(?:so|thus|hence|therefore|then|it(?:['’]s| is| must be| should be| would be| has to be)|must be|leaves(?: us with)?|leaving|"
    r"namely|i\.e\.|that is|only|probably|likely|maybe|perhaps|definitely|clearly|both|i(?:['’]d| would)? (?:think|believe|guess|say)|"
    r"option|choice|my guess(?: is)?)"
)

_ZH_SURELY = r"(?:应该?|应当|就|只能|显然|最终|可能|大概|肯定|必然|必须|也|当然)"
_ZH_LEAD = r"(?:所以|因此|因而|故|综上(?:所述)?|可知|即|则|就是|应该?|大概|可能|肯定|我(?:认为|觉得|猜)|选项|是)"
_WHICH_IS = r"(?:一项|选项|答案|说法|表述|叙述|判断|结论|做法|组合|项)*(?:应该?|应当)?\s*(?:是|为|有|[:])\s*(?:选项)?\s*"
_ZH_RIGHT = r"(?:正确|符合题意|符合要求|恰当|合适|合理|成立|当选|入选|对(?![应于称方比面象着外立手话待]))"
_ZH_WRONG = r"(?:错误|不正确|有误|不当|不恰当|不合适|不合理|不符合(?:题意|要求)?|不成立|不对|错)"

_AFTER_NOT = (
    r"that|if|whether|think|believe|say|said|sure|certain|clear|agree|true|the|case|be|have|my|an?|correct|right|final|best|possible|"
    r"likely|for|to|it|is|would|should|i|we|you|will|really|actually"
)
DENIED_BEFORE = re.compile(
    r"(?i:(?:\b(?:not|cannot|never|neither|nor|unlikely|rul(?:e[sd]?|ing) out|eliminat\w+|exclud\w+|if|suppose|assum\w+|whether|unless)"
    rf"|n['’]t)\b(?:\s+(?:{_AFTER_NOT}))*\s*$|\bor\s*$)"
    r"|(?:(?:(?<!不得)不|别|勿|没|非|未|无法)(?:是|能|应该?|可以?|会|要|该|宜|当|再)?|排除|如果|若|假如|假设|倘若|要是|是否|不认为|或者?|还是)"
    r"\s*(?:本题|正确|的|我|认为|说|答案)*$"
)
"""What makes of the statement after it a denial, a supposition or one of two, at the end of a clause."""

DENIED_AFTER = re.compile(
    rf"\s*{_CLOSE}\s*(?:选?项)?(?:也|都|是|均|则|就)?(?:不对|不正确|不符|不成立|不行|不是|不可|错|有误|吗|呢|\?)"
    r"|\s+(?i:is|are|was|were|would be|seems|looks)(?i:n['’]t\b|\s+(?:\w+ly\s+)?(?:not|wrong|incorrect|false|impossible|out)\b)"
    r"|\s+(?i:can(?:no|['’])t)\b"
)
"""What makes of the letter before it a denied or a questioned one."""

ANSWER_IS = re.compile(
    rf"(?i:\b{_NOUN}(?:\s(?:to|for)\s[^.\n:]{{0,60}}?)?(?:,\s\w+,)?{_CLOSE}{_IS})|答案\s*{_CLOSE}\s*{_ZH_SURELY}*\s*[是为:]+[:\s]*"
)
"""What an option's text, standing for its letter, comes after."""


class Phrases(NamedTuple):
    """The patterns for one number of options, from the plainest kind of statement to the least plain."""

    said: tuple[re.Pattern[str], ...]
    judged: tuple[re.Pattern[str], ...]
    hinted: tuple[re.Pattern[str], ...]
    opening: re.Pattern[str]
    label: re.Pattern[str]
    goes_on: re.Pattern[str]
    goes_on_alone: re.Pattern[str]


@lru_cache(maxsize=len(LETTERS))
def phrases(n: int) -> Phrases:
    """The patterns for options A, B, … (*n* of them)."""
    some = LETTERS[:n]
    upper = f"(?<![A-Za-z0-9])[{some}]{{1,{n}}}(?![A-Za-z0-9]|['’-][A-Za-z]| ?[=^_<>]| ?\\+ ?\\d)"
    # "A student", "I think": an article or a pronoun, unless the next word can't follow one
    upper += (
        r"(?!(?<=\b[AI]) (?!(?:because|since|as|is|are|was|and|or|for|due|by|with|which|but|not|would|must|should|seems|looks)\b)[a-z])"
    )
    lower = f"(?:(?<=\\()[{some.lower()}](?=\\))|(?<![A-Za-z0-9])[{some.lower()}](?=\\s*(?:[.,;)\\]\\n]|$)))"
    one = rf"{_OPEN}{upper}{_CLOSE}"
    more = rf"(?:[(\[]{{1,2}} ?)?{upper}{_CLOSE}"  # no quotes in front, so that a gap can be read in one way only
    predicate = r"(?!\s*(?:is|are|was|were|has|have|does|can|would|项|选项|不|错|的|说|是|中))"
    joined = rf"(?P<letters>{one}(?:(?:{_JOIN}| )?{more}){{0,{n}}})"
    listed = rf"(?P<letters>{one}(?:(?:{_JOIN}| )?{more}{predicate}){{0,{n}}})"
    stacked = rf"(?P<letters>{one}(?:(?:{_JOIN}|\s)?{more}){{0,{n}}})"
    line = rf"(?m:^)[ \-•]*(?:(?i:option|choice|选项)\s*)?{_OPEN}"
    said = (
        rf"(?i:\b{_NOUN}(?:\s(?:to|for)\s[^.\n:]{{0,60}}?)?(?:,\s\w+,)?{_CLOSE}{_IS}{_FILLER})(?:{listed}|{_OPEN}(?P<lower>{lower}))",
        rf"(?i:\banswer\s+){listed}{_THEN}",
        rf"(?i:{_CHOOSE}{_FILLER}){listed}",
        rf"{joined}\s*(?i:{_COPULA}\s+(?:{_SURELY}\s+)?(?:the|our|my)\s+(?!{_BAD})(?:\w+\s+){{0,2}}{_PICK}\b)",
        rf"答案\s*{_CLOSE}\s*(?:选项)?{_ZH_SURELY}*(?:[:=]|是|为|选(?!项)择?|-+>?|→|\s)*(?:选项|字母)?\s*:?\s*{listed}",
        rf"(?:选(?!项)择?|勾选)\s*(?:的?是|为|:|了|取|答案|选项)*\s*{listed}(?![\u4e00-\u9fff](?<![项是吧的因由理原解而不]))",
        rf"(?<![不没])(?:{_ZH_RIGHT})的?{_WHICH_IS}{listed}",
        rf"{line}{stacked}\s*[.。:;,!]?(?m:$)",
        rf"{line}(?P<lower>[{some.lower()}]){_CLOSE}\s*[.]?(?m:$)",
    )
    judged = (
        rf"{joined}\s*(?i:(?:{_COPULA}|seems?|looks?|appears?(?: to be)?)\s+(?:(?!not\b)\w+\s+)?{_ADJECTIVE})\b",
        rf"{joined}\s*(?:选项|[两三四]?项|都|均|全部|的?说法|的?表述|的?叙述)*\s*(?:是|为|最|完全|才)*{_ZH_RIGHT}",
        rf"{_ZH_WRONG}的?{_WHICH_IS}{listed}",
        rf"(?i:\b(?:incorrect|wrong|false)\s+(?:answer|option|choice|statement|one)(?:\s+is|:)\s+){listed}",
        rf"(?:而是|应为|应是|应该是)\s*(?:选项)?\s*{listed}",
        rf"(?i:\bbut (?:rather )?){listed}{_THEN}",
    )
    hinted = (
        rf"(?:\b(?i:{_LEAD}),?\s+|{_ZH_LEAD}[,:]?\s*){{1,4}}{listed}{_THEN}",
        rf"(?:\A|[。,;:!?\n(]|\.\s) ?{joined}(?=\s*(?:[,;!。)]|\.?\s*(?:\n|$)))",
    )
    return Phrases(
        said=tuple(map(re.compile, said)),
        judged=tuple(map(re.compile, judged)),
        hinted=tuple(map(re.compile, hinted)),
        opening=re.compile(
            rf"\A(?:(?i:option|choice|选项)\s*)?{listed}(?=\s*[.。):、,;\-–—\n]|\s*(?:because|since|as|因为|由于|项|选项)|$)"
        ),
        label=re.compile(rf"^\s*\(?([{some}])[).:、,]\s*(?=\S)", re.MULTILINE),
        goes_on=re.compile(rf"(?:\s*,?\s*(?:or\b|或者?|还是)|{_JOIN})\s*{one}{predicate}"),
        goes_on_alone=re.compile(rf"(?:\s*,?\s*(?:or\b|或者?|还是)|{_JOIN})\s*{one}"),
    )
