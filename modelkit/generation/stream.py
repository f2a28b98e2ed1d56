"""Token ids → text, piece by piece: whole characters and emoji only, and nothing of a stop string."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PICTURE = (
    "[\u00a9\u00ae\u203c\u2049\u2100-\u214f\u2190-\u21ff\u2300-\u23ff\u24c2\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff\u3030\u303d\u3297\u3299"
)
_PICTURE += "\U0001f000-\U0001f1e5\U0001f200-\U0001f3fa\U0001f400-\U0001faff]"
_DRESSED = _PICTURE + "[\ufe0e\ufe0f\u20e3\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]{0,16}"
_OPEN_EMOJI = re.compile(
    f"(?:{_DRESSED}(?:\u200d{_DRESSED}){{0,8}}\u200d?"  # a picture with variation, skin tone, tags; several joined to one
    "|(?<![\U0001f1e6-\U0001f1ff])(?:[\U0001f1e6-\U0001f1ff]{2}){0,8}(?P<half>[\U0001f1e6-\U0001f1ff])"  # half a flag
    r"|[0-9#*]\ufe0f?)\Z"  # a keycap's digit
)
"""An emoji at the end of a text that a further character might continue (Unicode Technical Standard 51, section 1.4)."""


LONGEST_CHARACTER = 5
"""Tokens that a character of four bytes may take, with one for the blank that some tokenizers put first."""


class TextStream:
    """Decodes one reply incrementally, with constant work per token.

    What comes out is certain: whole UTF-8 characters, whole emoji (which may consist of several characters, as families, flags and
    skin tones do), and no beginning of a stop string. ``finished`` turns true when a stop string has been completed; the text
    ends before it.

    :param before: the last tokens of the text that this one goes on from.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str] = (), before: Sequence[int] = ()) -> None:
        self._decode = getattr(tokenizer, "backend_tokenizer", tokenizer).decode
        self._ids = list(before)
        self._known, self._prefix = len(self._ids), self._text()
        self._stops = [stop for stop in stops if stop]
        self._pieces: list[str] = []
        self._released = 0
        self._held = ""
        self.finished = False

    @property
    def text(self) -> str:
        """Everything that has come out so far."""
        return "".join(self._pieces)

    @property
    def length(self) -> int:
        """How many characters the tokens so far have written, with those that are held back."""
        return self._released + len(self._held)

    def put(self, token: int) -> str:
        """Add a token; return the text that became certain with it (often empty)."""
        if self.finished:
            return ""
        self._held += self._decoded(token)
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            self.finished = True
            self._held = self._held[: min(found)]
            return self._release(len(self._held))
        return self._release(min(_open_stop(self._held, self._stops), _open_emoji(self._held)))

    def _decoded(self, token: int) -> str:
        """What *token* adds to the text. The tokens of the last piece stay in the window, since decoders look at what stands before.

        Bytes that are no character are waited for at most as long as the longest takes; after that they are not going to be one.
        """
        self._ids.append(token)
        text = self._text()
        if text.endswith("\ufffd") and len(self._ids) - self._known < LONGEST_CHARACTER:
            return ""
        piece = text[len(self._prefix) :]
        del self._ids[: self._known]
        self._known = len(self._ids)
        self._prefix = self._text()
        return piece

    def _text(self) -> str:
        return str(self._decode(self._ids, skip_special_tokens=True)) if self._ids else ""

    def flush(self) -> str:
        """The reply has ended: return what was held back. Bytes that never became a character are left out."""
        return self._release(len(self._held))

    def _release(self, length: int) -> str:
        piece, self._held = self._held[:length], self._held[length:]
        if piece:
            self._pieces.append(piece)
            self._released += len(piece)
        return piece


def decode(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    """The text of a finished reply, without special tokens and surrounding blanks."""
    return str(tokenizer.decode(ids, skip_special_tokens=True)).strip()


def _open_stop(text: str, stops: Sequence[str]) -> int:
    """Where the longest end of *text* begins that may yet become a stop string; its length where there is none."""
    ends = (len(text) - size for stop in stops for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size]))
    return min(ends, default=len(text))


def _open_emoji(text: str) -> int:
    """Where the emoji begins that ends *text* and may not be whole; its length where there is none."""
    found = _OPEN_EMOJI.search(text)
    return len(text) if found is None else found.start("half") if found["half"] else found.start()
