"""The token cache: the same rows give the same tokens as without it, and a damaged file is made anew."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from modelkit.chat import EncodedChat
from tests.trainers.conftest import World
from trainers.data import dataset
from trainers.data.cache import TokenCache, key_of
from trainers.data.dataset import Counts

ROWS = [{"messages": [{"role": "user", "content": f"What is {n}?"}, {"role": "assistant", "content": f"It is 数 {n}."}]} for n in range(5)]
PAIRS = [{"messages": row["messages"][:1], "chosen": "yes", "rejected": "no"} for row in ROWS]
TEXTS = [{"text": "once upon", "prompt": ""}, {"text": "a time", "prompt": "there was "}]


def test_cached_rows_equal_encoded_ones(world: World, tmp_path: Path) -> None:
    for attempt in range(2):
        cache = TokenCache(tmp_path)
        assert dataset.chat_examples(ROWS, world.tokenizer, 20, Counts(), cache) == dataset.chat_examples(
            ROWS, world.tokenizer, 20, Counts()
        )
        assert dataset.pairs(PAIRS, world.tokenizer, 99, Counts(), cache) == dataset.pairs(PAIRS, world.tokenizer, 99, Counts())
        assert dataset.text_examples(TEXTS, world.tokenizer, 4, Counts(), cache) == dataset.text_examples(
            TEXTS, world.tokenizer, 4, Counts()
        )
        assert (cache.hits, cache.misses, cache.rebuilt) == ((3, 0, 0) if attempt else (0, 3, 0))


def test_another_text_tokenizer_or_template_is_another_key(world: World) -> None:
    template, special = copy.deepcopy(world.tokenizer), copy.deepcopy(world.tokenizer)
    template.chat_template = str(template.chat_template) + " "
    special.add_special_tokens({"additional_special_tokens": ["<new>"]})
    keys = {key_of("chat", tokenizer, ROWS) for tokenizer in (world.tokenizer, template, special)}
    assert len(keys | {key_of("chat", world.tokenizer, ROWS[1:]), key_of("reply", world.tokenizer, ROWS)}) == 5
    assert key_of("chat", copy.deepcopy(world.tokenizer), copy.deepcopy(ROWS)) in keys


@pytest.mark.parametrize("damage", ["truncated", "flipped", "emptied"])
def test_a_damaged_file_is_noticed_and_made_anew(world: World, tmp_path: Path, damage: str) -> None:
    made = [EncodedChat([1, 2, 3], [False, True, True]), EncodedChat([], []), EncodedChat([4], [True])]
    cache = TokenCache(tmp_path)
    assert cache.encoded("x", world.tokenizer, ROWS, lambda: made) == made
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes({"truncated": whole[:-3], "flipped": whole[:-1] + bytes([whole[-1] ^ 1]), "emptied": b""}[damage])
    assert cache.encoded("x", world.tokenizer, ROWS, lambda: made) == made
    assert file.read_bytes() == whole
    assert (cache.hits, cache.misses, cache.rebuilt) == (0, 1, 1)
    assert cache.encoded("x", world.tokenizer, ROWS, lambda: []) == made
