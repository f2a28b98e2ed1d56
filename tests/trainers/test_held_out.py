"""What is held out is of no use in training: rows that share a source stay on one side."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from modelkit import checkpoint
from modelkit.checkpoint import StageInfo
from tests.trainers.conftest import World, built
from tests.trainers.test_data_check import REWRITING, conversation
from trainers.commands import request
from trainers.data.dataset import Labelled
from trainers.kto import mismatched


def made(monkeypatch: pytest.MonkeyPatch, folder: Path, stage: str, rows: list[dict[str, Any]]) -> Any:
    """The stage that is trained on *rows*, half of them held out, from the checkpoint in *folder*."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = ["steps=1", "lr=1e-3", "held_out=0.5"]
    return built(monkeypatch, request(stage, None, settings, folder / "run", 0, folder / "base", folder / "rows.jsonl"))


def test_both_replies_of_a_pair_are_held_out_or_neither(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(world.model(), world.tokenizer, tmp_path / "base", StageInfo(stage="base"))
    rows = [{"prompt": f"Question {i}?", "chosen": "Yes.", "rejected": "No."} for i in range(8)]
    kto = made(monkeypatch, tmp_path, "kto", rows)
    training, held_out = ({row.prompt for row in part.rows} for part in (kto._training, kto._held_out))
    assert (len(training), len(held_out)) == (4, 4)
    assert not training & held_out


def test_the_turns_of_a_conversation_are_held_out_together(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = copy.deepcopy(world.tokenizer)
    tokenizer.chat_template = REWRITING
    checkpoint.save(world.model(), tokenizer, tmp_path / "base", StageInfo(stage="base"))
    sft = made(monkeypatch, tmp_path, "sft", [conversation(f"a{i}", "why~b", "c", "so~d") for i in range(8)])
    training, held_out = ([one.row for one in part] for part in (sft._examples, sft._held_out))
    assert (len(training), len(held_out)) == (8, 8)
    assert not set(training) & set(held_out)


def test_held_out_rows_of_one_prompt_are_mismatched_with_the_replies_of_others() -> None:
    alone, others = [Labelled([1, 2, reply], 2, True) for reply in (5, 6)], [Labelled([3, 4, reply], 2, True) for reply in (7, 8)]
    assert [row.ids for row in mismatched(alone, others)] == [[1, 2, 8], [1, 2, 7]]
    assert [row.ids for row in mismatched([*alone, *others], others)] == [[1, 2, 7], [1, 2, 8], [3, 4, 5], [3, 4, 6]]
