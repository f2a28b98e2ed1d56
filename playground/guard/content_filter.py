"""Words and phrases that the operator doesn't want on the page: found in whole texts, and masked in texts that are still being written.

What counts as the same is judged character by character, without regard to case, width, accents, invisible characters and the
shape of apostrophes. The parts of a phrase may stand apart by blanks, dashes and underscores. A phrase of an alphabet matches whole words
only; Chinese, which is written without blanks, matches anywhere, and whatever blanks lie between its characters.

A stream gives a character out once no phrase that it could belong to may still follow, so it says the same however the text is cut.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from modelkit.errors import UserError

VARIABLE = "PLAYGROUND_WORD_LISTS"
MASK = "▮"
BUILTIN = "builtin"
"""The name of the lists that come with this project."""
_LISTS = Path(__file__).parent / "words"
_GAP = " "


class _Node:
    """What may follow a beginning of phrases. ``holds``: blanks here change nothing."""

    __slots__ = ("ends", "holds", "next")

    def __init__(self, holds: bool = False) -> None:
        self.next: dict[str, _Node] = {}
        self.ends, self.holds = False, holds


class WordFilter:
    """Phrases to look for. It is read-only once made, so many threads may share it."""

    def __init__(self, phrases: Iterable[str]) -> None:
        self._root = _Node()
        for phrase in phrases:
            node = self._root
            for symbol in _spelt(phrase):
                node = node.next.setdefault(symbol, _Node(symbol == _GAP or _is_ideograph(symbol)))
            node.ends = node is not self._root

    @classmethod
    def read(cls, names: Sequence[str]) -> WordFilter:
        """The phrases of files, one a line; lines that begin with ``#`` are left out. ``builtin`` names this project's own lists.

        :raises UserError: when a file isn't there or no text, or nothing is in it.
        """
        phrases: list[str] = []
        for name in names:
            for file in sorted(_LISTS.glob("*.txt")) if name == BUILTIN else [Path(name)]:
                found = [line.strip() for line in _read(file).splitlines() if line.strip() and not line.startswith("#")]
                if not found:
                    raise UserError(f"the word list {file} is empty: put one phrase on each line.")
                phrases += found
        return cls(phrases)

    @classmethod
    def here(cls) -> WordFilter | None:
        """What ``PLAYGROUND_WORD_LISTS`` names, files separated by semicolons; ``None`` where it names nothing.

        :raises UserError: when a file isn't there or no text, or nothing is in it.
        """
        names = [name.strip() for name in os.environ.get(VARIABLE, "").split(";") if name.strip()]
        return cls.read(names) if names else None

    def allows(self, text: str) -> bool:
        """Whether none of the phrases is in *text*."""
        stream = self.stream()
        stream.put(text)
        stream.flush()
        return not stream.found

    def mask(self, text: str) -> str:
        """*text* with a mark in place of every character that belongs to a phrase; blanks stay."""
        stream = self.stream()
        return stream.put(text) + stream.flush()

    def mask_unfinished(self, text: str) -> str:
        """The same for a text that goes on: without its last characters while they may belong to a phrase."""
        return self.stream().put(text)

    def stream(self) -> MaskStream:
        """Masks one text as it is written."""
        return MaskStream(self._root)


class MaskStream:
    """One text on its way through a filter. ``found`` tells whether a phrase has been in it."""

    def __init__(self, root: _Node) -> None:
        self._root, self._before, self.found = root, "", False
        self._held: list[str] = []
        self._first = 0  # how many characters have been given out
        self._masked: set[int] = set()
        self._open: list[tuple[int, _Node]] = []  # where phrases may have begun, and how far they have come
        self._whole: list[tuple[int, int]] = []  # phrases that count unless the word goes on

    def put(self, piece: str) -> str:
        """What can be given out once *piece* has been written."""
        for character in piece:
            place = self._first + len(self._held)
            self._held.append(character)
            for symbol in _symbols(character):
                self._step(symbol, place)
        return self._given(min((start for start, _ in (*self._open, *self._whole)), default=self._first + len(self._held)))

    def flush(self) -> str:
        """The rest, when nothing follows."""
        self._settle()
        self._open = []
        return self._given(self._first + len(self._held))

    def _step(self, symbol: str, place: int) -> None:
        in_word = _is_letter(symbol)
        if in_word:
            self._whole = []
        self._settle()
        begins = not (in_word and _is_letter(self._before))
        still_open = []
        for start, node in (*self._open, *([(place, self._root)] if begins else [])):
            if symbol == _GAP and node.holds:
                still_open.append((start, node))
            elif (following := node.next.get(symbol)) is not None:
                if following.next:
                    still_open.append((start, following))
                if following.ends:
                    self._whole.append((start, place))
        self._open, self._before = still_open, symbol
        if not in_word:
            self._settle()

    def _settle(self) -> None:
        """What has ended with a whole word is masked."""
        for start, end in self._whole:
            self.found = True
            self._masked.update(range(start, end + 1))
        self._whole = []

    def _given(self, until: int) -> str:
        count = until - self._first
        given = "".join(
            MASK if place in self._masked and not character.isspace() else character
            for place, character in enumerate(self._held[:count], self._first)
        )
        self._masked.difference_update(range(self._first, until))
        self._held, self._first = self._held[count:], until
        return given


_APOSTROPHES = str.maketrans(dict.fromkeys("’‘ʼ", "'"))
"""Phones write these by themselves; lists have the plain one."""


@lru_cache(maxsize=4096)
def _symbols(character: str) -> str:
    """What a character is compared by: nothing for one that can't be seen, several for a ligature."""
    found = ""
    for part in unicodedata.normalize("NFKD", character.translate(_APOSTROPHES)).casefold():
        kind = unicodedata.category(part)
        if part.isspace() or kind in ("Pd", "Pc"):
            found += _GAP
        elif kind not in ("Mn", "Cf", "Cc"):
            found += part
    return found


def _spelt(phrase: str) -> str:
    """A phrase as symbols, with one gap at most between two, and none after an ideograph, where they don't matter."""
    spelt = ""
    for symbol in "".join(map(_symbols, phrase)).strip(_GAP):
        if symbol != _GAP or not (spelt[-1] == _GAP or _is_ideograph(spelt[-1])):
            spelt += symbol
    return spelt


def _is_letter(symbol: str) -> bool:
    """Whether a symbol makes words together with its neighbours."""
    return symbol.isalnum() and not _is_ideograph(symbol)


def _is_ideograph(symbol: str) -> bool:
    return "\u3040" <= symbol <= "\u30ff" or "\u3400" <= symbol <= "\u9fff" or "\U00020000" <= symbol <= "\U0003ffff"


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"there is no word list at {file}: check the path, or name {BUILTIN}.") from None
    except (OSError, UnicodeDecodeError):
        raise UserError(f"the word list {file} can't be read: write it as UTF-8 text, one phrase on each line.") from None
