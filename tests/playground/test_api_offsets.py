"""Where each token begins in its text, for tokenizers that tell bytes and blanks in different ways."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, processors
from transformers import PreTrainedTokenizerFast

from modelkit.generation.stream import LONGEST_CHARACTER, TextStream
from playground.api.offsets import Offsets, offsets_in
from tests.playground.fake_run import make_tokenizer


def llamas() -> Any:
    """A tokenizer as LLaMA has it: a mark for the blank before a word, bytes for unknown characters, ``<s>`` in front."""
    words = ["<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "好", "▁a", "▁ab"]
    vocabulary = {word: id for id, word in enumerate(words)}
    bpe = Tokenizer(models.BPE(vocabulary, [("▁", "a"), ("▁a", "b")], byte_fallback=True))
    bpe.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bpe.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    bpe.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>")


TOKENIZERS = {"bytes": make_tokenizer(), "llamas": llamas()}
TEXTS = st.text(alphabet="ab 12\n好吃é🙂", max_size=20)


def parts(tokenizer: Any, ids: list[int]) -> list[str]:
    """The slow twin: what each token adds to the text of those before it, once that has whole characters."""
    texts = [""]
    for end in range(1, len(ids) + 1):
        text = str(tokenizer.decode(ids[:end], skip_special_tokens=True)).rstrip("\ufffd")
        texts.append(max(texts[-1], text, key=len))  # a broken byte can take those before it along
    return [text[len(before) :] for before, text in pairwise(texts)]


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(prompt=TEXTS, reply=TEXTS, echo=st.booleans())
def test_between_two_offsets_lies_what_a_token_has_written(kind: str, prompt: str, reply: str, echo: bool) -> None:
    tokenizer = TOKENIZERS[kind]
    ids, new = (list(tokenizer(text, add_special_tokens=own)["input_ids"]) for text, own in ((prompt, True), (reply, False)))
    assume(ids)
    stream = TextStream(tokenizer, before=ids[-LONGEST_CHARACTER:])
    written = "".join(map(stream.put, new)) + stream.flush()
    expected = parts(tokenizer, [*ids, *new])
    if echo:
        text, tokens = prompt + written, [*ids, *new]
        offsets = Offsets(tokenizer, ids, offsets_in(prompt, ids, tokenizer), len(prompt))
    else:
        text, tokens, expected = written, new, expected[len(ids) :]
        offsets = Offsets(tokenizer, ids)
    found = [*offsets.of(tokens[: len(ids)]), *offsets.of(tokens[len(ids) :])]
    assert found == sorted(found)
    assert [text[start:end] for start, end in pairwise([*found, len(text)])] == expected


def test_special_tokens_are_part_of_a_prompt_that_spells_them_out() -> None:
    prompt = "<s>The</s>é"
    for kind, before in (("bytes", []), ("llamas", [0])):  # the token that the tokenizer puts in front isn't spelt out
        tokenizer = TOKENIZERS[kind]
        ids = list(tokenizer(prompt)["input_ids"])
        found = offsets_in(prompt, ids, tokenizer)
        [(start, end)] = [span for token, span in zip(ids, pairwise([*found, len(prompt)]), strict=True) if token == 1]
        assert (found[: len(before)], prompt[start:end]) == (before, "</s>")
        assert found == sorted(found)


def test_ids_that_are_half_a_character_stay_within_the_text() -> None:
    tokenizer = TOKENIZERS["bytes"]
    ids = list(tokenizer("好")["input_ids"])[:-1]
    text = str(tokenizer.decode(ids))
    found = Offsets(tokenizer, ids, offsets_in(text, ids, tokenizer), len(text)).of([*ids, 5])
    assert found == [0] * len(ids) + [len(text)]
