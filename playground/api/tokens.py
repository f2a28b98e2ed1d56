"""How tokens are told apart in log-probabilities: the text, and the bytes, that each one writes."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenTexts:
    """Single tokens of a tokenizer, as they are written within a text: with the blank before a word, and also half a character."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._special = set(tokenizer.all_special_ids)
        decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
        self._byte_level = "ByteLevel" in repr(decoder)

    def bytes(self, token: int) -> bytes:
        """The UTF-8 bytes that the token adds to a text."""
        written = str(self._tokenizer.convert_ids_to_tokens(token) or "")
        if token in self._special:
            return written.encode()
        if self._byte_level and all(character in _bytes_of_characters() for character in written):
            return bytes(map(_bytes_of_characters().__getitem__, written))
        if (byte := _BYTE.fullmatch(written)) is not None:
            return bytes([int(byte[1], 16)])
        return written.replace("▁", " ").encode()

    def text(self, token: int) -> str:
        """The same as text; ``bytes:\\\\xe4`` for what is no whole character, as OpenAI writes it."""
        written = self.bytes(token)
        try:
            return written.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in written)

    def told(self, token: int, logprob: float) -> dict[str, Any]:
        """A token in a chat's log-probabilities."""
        return {"token": self.text(token), "logprob": logprob, "bytes": list(self.bytes(token))}


@cache
def _bytes_of_characters() -> dict[str, int]:
    """The printable stand-ins that byte-level vocabularies have for bytes."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return {character: byte for byte, character in bytes_to_unicode().items()}
