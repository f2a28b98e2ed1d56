"""Token ids → text, piece by piece, without ever breaking a character."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenizers.decoders import DecodeStream

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TextStream:
    """Decodes one reply incrementally: constant work per token, and only whole UTF-8 characters come out."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)
        self.text = ""

    def put(self, token: int) -> str:
        """Add a token; return the text that became certain with it (often empty inside a multi-byte character)."""
        piece = self._stream.step(self._tokenizer.backend_tokenizer, token) or ""
        self.text += piece
        return piece


def decode(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    """The text of a finished reply, without special tokens and surrounding blanks."""
    return str(tokenizer.decode(ids, skip_special_tokens=True)).strip()
