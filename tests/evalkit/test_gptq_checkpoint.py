"""A 4-bit checkpoint is scored like any other, and its scores don't depend on how questions are batched."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from evalkit.models.local import LocalModel, load
from modelkit.gptq.layer import GPTQLinear
from modelkit.run import Run
from trainers.gptq.run import Settings, run
from trainers.gptq.solver import Grid

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def four_bit(run_of_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("four") / "bit"
    text = tmp_path_factory.mktemp("text") / "text.jsonl"
    text.write_text('{"text": "The capital of France is Paris, and the capital of China is Beijing."}\n' * 8, encoding="utf-8")
    run(Settings(run_of_tiny, out, Grid(group=32), [text], samples=4), say=lambda line: None)
    return out


@pytest.fixture(scope="module")
def run_of_tiny(run: Run) -> Path:
    return run.path / "sft"


def test_scores_are_the_same_alone_and_in_company(four_bit: Path) -> None:
    model = load(four_bit, "language", torch.float32, CPU)
    assert any(isinstance(module, GPTQLinear) for module in model.model.modules())
    prompts = [[0, *range(2, 20 + 3 * i)] for i in range(12)]
    alone, together = (_scores(asked, prompts) for asked in (model.alone(), model))
    for i in range(len(prompts)):
        assert together[i] == pytest.approx(alone[i], abs=1e-4)


def _scores(model: LocalModel, prompts: list[list[int]]) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}

    def keep(batch: list[int], rows: torch.Tensor) -> None:
        found.update(zip(batch, rows.tolist(), strict=True))

    model.string_logprobs(prompts, [[5], [6], [7]], keep)
    return found
