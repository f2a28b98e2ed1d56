from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.errors import UserError
from playground.guard.content_filter import BUILTIN, MASK, VARIABLE, WordFilter

FEW = WordFilter(["fuck", "piece of shit", "kill yourself", "i'll hit you", "他妈的", "傻逼", "3p 视频"])


def ideograph(symbol: str) -> bool:
    return "\u3040" <= symbol <= "\u30ff" or "\u3400" <= symbol <= "\u9fff"


def letter(symbol: str) -> bool:
    return symbol.isalnum() and not ideograph(symbol)


def symbols(text: str) -> list[tuple[str, int]]:
    """What a text is compared by, with the place that each symbol comes from."""
    found = []
    for place, character in enumerate(text):
        for part in unicodedata.normalize("NFKD", character).casefold():
            kind = unicodedata.category(part)
            if part.isspace() or kind in ("Pd", "Pc"):
                found.append((" ", place))
            elif kind not in ("Mn", "Cf", "Cc"):
                found.append((part, place))
    return found


def obviously_masked(phrases: list[str], text: str) -> str:
    """The slow twin: every phrase as a regular expression, tried at every place."""
    compared = symbols(text)
    joined = "".join(symbol for symbol, _ in compared)
    masked: set[int] = set()
    for phrase in phrases:
        spelt = re.sub(" +", " ", "".join(symbol for symbol, _ in symbols(phrase)).strip())
        if not spelt:
            continue
        pattern = re.compile("".join(" +" if one == " " else re.escape(one) + (" *" if ideograph(one) else "") for one in _ungapped(spelt)))
        for start in range(len(joined)):
            if (match := pattern.match(joined, start)) is None:
                continue
            end = start + len(match[0].rstrip(" "))
            inside = start > 0 and letter(joined[start]) and letter(joined[start - 1])
            goes_on = end < len(joined) and letter(joined[end - 1]) and letter(joined[end])
            if not inside and not goes_on:
                masked |= set(range(compared[start][1], compared[end - 1][1] + 1))
    return "".join(MASK if place in masked and not one.isspace() else one for place, one in enumerate(text))


def _ungapped(spelt: str) -> str:
    """Without gaps after ideographs, where they don't matter."""
    return "".join(one for place, one in enumerate(spelt) if one != " " or not ideograph(spelt[place - 1]))


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("What the fuck?", "What the ▮▮▮▮?"),
        ("FUCK Ｆｕｃｋ fück f\u200buck", "▮▮▮▮ ▮▮▮▮ ▮▮▮▮ ▮▮▮▮▮"),
        ("fuckoff or fucks are other words", "fuckoff or fucks are other words"),
        ("you piece  of-shit!", "you ▮▮▮▮▮  ▮▮▮▮▮▮▮!"),
        ("a piece of ship", "a piece of ship"),
        ("kill\nyourself", "▮▮▮▮\n▮▮▮▮▮▮▮▮"),
        ("你他妈的说什么", "你▮▮▮说什么"),
        ("他 妈 的", "▮ ▮ ▮"),
        ("I’ll hit you, I'LL hit you", "▮▮▮▮ ▮▮▮ ▮▮▮, ▮▮▮▮ ▮▮▮ ▮▮▮"),
        ("看3P视频吗", "看3P视频吗"),
        ("看3p 视 频吗", "看▮▮ ▮ ▮吗"),
        ("fuck傻逼fuck", "▮▮▮▮▮▮▮▮▮▮"),
        ("", ""),
    ],
)
def test_phrases_are_masked_however_they_are_written(text: str, masked: str) -> None:
    assert FEW.mask(text) == masked
    assert FEW.allows(text) == (text == masked)


def test_a_stream_gives_out_a_word_once_it_is_known_to_be_harmless() -> None:
    stream = FEW.stream()
    assert [stream.put(piece) for piece in ("a pie", "ce of", " cake", " and fu", "ck", "s, fuc", "k", "!")] == [
        "a ", "", "piece of cake", " and ", "", "fucks, ", "", "▮▮▮▮!",
    ]  # fmt: skip
    assert stream.found
    assert stream.put("kill") == ""
    assert stream.flush() == "kill"


_TEXTS = st.text(alphabet="abAB 你好-_\u200b\u0301é.１\n", max_size=30)
_PHRASES = st.lists(st.text(alphabet="ab 你好-é1", min_size=1, max_size=5), max_size=4)


@given(phrases=_PHRASES, text=_TEXTS)
def test_masking_agrees_with_the_obvious_way(phrases: list[str], text: str) -> None:
    assert WordFilter(phrases).mask(text) == obviously_masked(phrases, text)


@given(phrases=_PHRASES, pieces=st.lists(st.text(alphabet="abA 你好-é\u200b", max_size=6), max_size=12))
def test_a_stream_says_the_same_however_the_text_is_cut(phrases: list[str], pieces: list[str]) -> None:
    words = WordFilter(phrases)
    stream, shown, text = words.stream(), "", ""
    for piece in pieces:
        text += piece
        shown += stream.put(piece)
        assert shown == words.mask_unfinished(text)
        assert words.mask(text).startswith(shown)
    assert shown + stream.flush() == words.mask(text)


@given(phrases=_PHRASES, text=_TEXTS)
def test_what_was_masked_has_nothing_left_to_mask(phrases: list[str], text: str) -> None:
    words = WordFilter(phrases)
    masked = words.mask(text)
    assert len(masked) == len(text)
    assert words.allows(masked)
    assert words.mask(masked) == masked


@given(text=_TEXTS)
def test_without_phrases_nothing_changes_and_nothing_is_held_back(text: str) -> None:
    assert WordFilter([]).mask_unfinished(text) == text


def test_the_own_lists_are_in_both_languages_and_know_what_is_harmless() -> None:
    words = WordFilter.read([BUILTIN])
    assert not words.allows("go kill yourself")
    assert not words.allows("你这个傻逼")
    assert words.allows("What is the capital of France? 法国的首都是哪里？ Assess the class in Scunthorpe.")


def test_the_environment_names_the_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert WordFilter.here() is None
    mine = tmp_path / "mine.txt"
    mine.write_text("blue moon", encoding="utf-8")
    monkeypatch.setenv(VARIABLE, f"builtin; {mine};")
    words = WordFilter.here()
    assert words is not None
    assert not words.allows("blue moon")
    assert not words.allows("傻逼")


def test_lists_are_read_from_files_and_a_bad_one_is_one_sentence(tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("\ufeff# a comment\n\n  blue moon \r\n", encoding="utf-8")
    assert WordFilter.read([str(mine)]).mask("once in a Blue  Moon, # a comment") == "once in a ▮▮▮▮  ▮▮▮▮, # a comment"
    mine.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="UTF-8"):
        WordFilter.read([str(mine)])
    mine.write_text("# nothing\n", encoding="utf-8")
    with pytest.raises(UserError, match="is empty"):
        WordFilter.read([str(mine)])
    with pytest.raises(UserError, match="there is no word list"):
        WordFilter.read([str(tmp_path / "none.txt")])
