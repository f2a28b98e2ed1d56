"""A tiny world to train on: tokenizer, model, examples, pairs and prompts in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from modelkit import checkpoint
from modelkit.checkpoint import StageInfo
from tests.tiny_llama import language_model
from trainers import tokenizer as tokenizers
from trainers.commands import Request, run
from trainers.data import dataset
from trainers.data.dataset import Counts, Example, Labelled, Pair, Prompt
from trainers.job import Job
from trainers.loop import StageLoop, Stopped
from trainers.pocket import corpus
from trainers.strategies.plain import Single


@dataclass(frozen=True)
class World:
    tokenizer: PreTrainedTokenizerFast
    examples: list[Example]
    pairs: list[Pair]
    prompts: list[Prompt]
    model: Callable[[], PreTrainedModel]


@pytest.fixture(scope="session")
def world() -> World:
    return build_world()


@pytest.fixture(scope="module")
def place(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``base/``, a tiny checkpoint, and ``data/`` of the pocket world."""
    folder = tmp_path_factory.mktemp("place")
    checkpoint.save(world.model(), world.tokenizer, folder / "base", StageInfo(stage="base"))
    (folder / "data").mkdir()
    corpus.write(corpus.build(seed=0, limit=2), folder / "data")
    return folder


def build_world() -> World:
    """The same in every process that asks."""
    made = corpus.build(seed=0, limit=3)
    texts = [row["text"] for row in made.training["text.jsonl"]]
    texts += [message["content"] for row in made.training["sft.jsonl"] for message in row["messages"]]
    tokenizer, _ = tokenizers.train(texts, 700, 128)

    def model() -> PreTrainedModel:
        return language_model(700, initializer_range=0.1)

    return World(
        tokenizer,
        dataset.chat_examples(made.training["sft.jsonl"], tokenizer, 128, Counts()),
        dataset.pairs(made.training["pairs.jsonl"], tokenizer, 128, Counts()),
        dataset.prompts(made.training["prompts.jsonl"], tokenizer, 100, Counts()),
        model,
    )


def from_pairs(pairs: list[Pair]) -> list[Labelled]:
    """Each pair as one good and one bad reply."""
    sides = [(Labelled(pair.chosen, pair.starts[0], True), Labelled(pair.rejected, pair.starts[1], False)) for pair in pairs]
    return [labelled for both in sides for labelled in both]


def built(monkeypatch: pytest.MonkeyPatch, asked: Request) -> Any:
    """The stage that a command makes, before it is trained."""
    found: list[StageLoop] = []

    def keep(_job: Job, stage: StageLoop, _rows: Any) -> None:
        found.append(stage)
        raise Stopped

    monkeypatch.setattr(Job, "train", keep)
    with pytest.raises(Stopped):
        run(asked, Single())
    found[0].begin(0)
    return found[0]
