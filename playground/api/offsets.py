"""``text_offset``: where in a text each of its tokens begins.

A token begins where the text of those before it ends. One that is a part of a character has written nothing yet; the character
belongs to the token that completes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from modelkit.generation.stream import LONGEST_CHARACTER, TextStream

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def offsets_in(text: str, ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Where the tokens of a prompt begin in its *text*; special tokens are part of that only where they were spelt out."""
    stream, special, spelt, found = TextStream(tokenizer), set(tokenizer.all_special_ids), 0, []
    for token in ids:
        place = spelt + stream.length
        found.append(min(place, len(text)))
        stream.put(token)
        if token in special and text.startswith(name := str(tokenizer.convert_ids_to_tokens(token)), place):
            spelt += len(name)
    return found


class Offsets:
    """Those of one sample, as its tokens come.

    :param prompt: the token ids that it goes on from.
    :param echoed: where in their text these begin (:func:`offsets_in`), when they are the sample's first tokens themselves.
    :param start: the length of that text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int], echoed: Sequence[int] = (), start: int = 0) -> None:
        self._stream = TextStream(tokenizer, before=prompt[-LONGEST_CHARACTER:])
        self._echoed, self._start = list(echoed), start

    def of(self, ids: Sequence[int]) -> list[int]:
        """Where the next tokens begin; an echoed prompt's come first, all at once."""
        found, self._echoed = self._echoed, []
        for token in ids[len(found) :]:
            found.append(self._start + self._stream.length)
            self._stream.put(token)
        return found
