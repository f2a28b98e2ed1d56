"""Rule-based rewards: plain functions of a prompt, a reply and the right answer, named in a recipe.

``def reward(prompt: str, reply: str, reference: str | None) -> float``. A function of one's own is named ``file.py:function`` (seen from
the folder that the command is given in) or ``module:function``.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

from modelkit.errors import UserError
from modelkit.fingerprint import sha256_of_file

Reward = Callable[[str, str, str | None], float]

_CJK = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_WORD = re.compile(r"[^\W\d_\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+")
_ENDS = (".", "!", "?", "。", "！", "？", "…", '"', "”", ")", "）", "```")
_LONG = 400


def exact_answer(prompt: str, reply: str, reference: str | None) -> float:
    """1 when the reply is the right answer and nothing else, apart from case, surrounding blanks and a closing full stop."""
    return float(reference is not None and _bare(reply) == _bare(reference))


def contains_answer(prompt: str, reply: str, reference: str | None) -> float:
    """1 when the right answer stands in the reply, in words of Latin letters and numbers as a whole."""
    if not reference or not reference.strip():
        return 0.0
    start, end = (r"(?<![^\W_])" if not _CJK.match(reference[0]) else ""), (r"(?![^\W_])" if not _CJK.match(reference[-1]) else "")
    return float(re.search(start + re.escape(reference) + end, reply, re.IGNORECASE) is not None)


def same_language(prompt: str, reply: str, reference: str | None) -> float:
    """1 when prompt and reply are both mostly Chinese or both mostly not; a reply without letters goes with every prompt."""
    asked, answered = _chinese(prompt), _chinese(reply)
    return float(asked is None or answered is None or asked == answered)


def brief(prompt: str, reply: str, reference: str | None) -> float:
    """1 for an empty reply, falling in a straight line to 0 at 400 characters."""
    return max(0.0, 1 - len(reply.strip()) / _LONG)


def well_formed(prompt: str, reply: str, reference: str | None) -> float:
    """1 when the reply says something, ends as a sentence does, and has no line twice."""
    lines = [line.strip() for line in reply.splitlines() if line.strip()]
    return float(bool(lines) and lines[-1].endswith(_ENDS) and len(set(lines)) == len(lines))


BUILT_IN: dict[str, Reward] = {
    "exact_answer": exact_answer,
    "contains_answer": contains_answer,
    "same_language": same_language,
    "brief": brief,
    "well_formed": well_formed,
}


def find(name: str) -> Reward:
    """The built-in of this name, or the function that ``file.py:function`` or ``module:function`` names, which is imported.

    :raises UserError: when there is no such built-in, file, module or function.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    where, colon, function_name = name.rpartition(":")
    if not colon:
        raise UserError(f"there is no reward called {name!r}: use one of {', '.join(BUILT_IN)}, reward_model, or file.py:function.")
    try:
        module = _of_file(Path(where)) if where.endswith(".py") else importlib.import_module(where)
    except Exception as error:  # importing runs a user's code
        raise UserError(
            f"the reward {name!r} can't be imported ({type(error).__name__}: {error}): check its path, or PYTHONPATH."
        ) from None
    function = getattr(module, function_name, None)
    if not callable(function):
        raise UserError(f"{where} has no function {function_name!r}: write {function_name}(prompt, reply, reference) -> float there.")
    return function


def require(names: Iterable[str]) -> None:
    """:raises UserError: for the first of *names* that :func:`find` doesn't find; ``reward_model`` is a checkpoint's matter."""
    for name in names:
        if name != "reward_model":
            find(name)


def code_of(names: Iterable[str]) -> dict[str, str]:
    """The sha256 of each file that one of the rewards called *names* is in: what a result depends on besides its settings."""
    files = {name.rpartition(":")[0] for name in names}
    return {file: sha256_of_file(Path(file)) for file in sorted(files) if file.endswith(".py") and Path(file).is_file()}


def value(name: str, reward: Reward, prompt: str, reply: str, reference: str | None) -> float:
    """What *reward* gives, made sure to be a finite number.

    :raises UserError: naming the reward and what it was asked, when it isn't.
    """
    try:
        found = float(reward(prompt, reply, reference))
    except Exception as error:  # a user's function may fail in any way
        raise UserError(f"the reward {name} failed on the reply {reply[:60]!r} ({type(error).__name__}: {error}).") from error
    if not math.isfinite(found):
        raise UserError(f"the reward {name} gave {found} for the reply {reply[:60]!r}: a finite number is needed.")
    return found


def _of_file(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None, "a name that ends in .py is that of a module"
    assert spec.loader is not None, "a module in a file has a loader"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _bare(text: str) -> str:
    return " ".join(text.split()).rstrip(".。").casefold()


def _chinese(text: str) -> bool | None:
    """Whether most of a text's words are Chinese characters; ``None`` without any letters."""
    chinese, words = len(_CJK.findall(text)), len(_WORD.findall(text))
    return chinese >= words if chinese + words else None
