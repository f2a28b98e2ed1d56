"""4-bit layers under the engine: their text is a plain loop's, as far as the company keeps to one side of the switch-over."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from modelkit import checkpoint
from modelkit.generation.batch import Batch
from modelkit.generation.sampling import Sampling
from modelkit.generation.sequences import Token
from modelkit.gptq.layer import KERNEL_ROWS, always_dequantise
from tests.modelkit.test_gptq import dense_twin, needs_kernel, quantised_copy

GREEDY = Sampling(max_tokens=16, temperature=0)
PROMPTS = [[5, 6, 7], [40, 41], [9] * 8, [100, 101, 102, 103], [60, 50, 40, 30, 20], [7]]


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return quantised_copy(saved, tmp_path / "quantised")


def quantised(folder: Path) -> PreTrainedModel:
    return checkpoint.load_model(folder, dtype=torch.float32)


def texts(model: PreTrainedModel, prompts: list[list[int]]) -> list[list[int]]:
    """What one batch writes after each prompt."""
    batch, found = Batch(model), []
    keys = [batch.add(prompt, GREEDY, stop=[]) for prompt in prompts]
    while batch.busy:
        found += batch.step()
    return [[token.id for token in found if token.key == key] for key in keys]


def plain(model: PreTrainedModel, prompt: list[int]) -> list[int]:
    """The likeliest token each time, the whole sequence anew for every one."""
    ids = list(prompt)
    with torch.inference_mode():
        for _ in range(GREEDY.max_tokens):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def test_dequantised_layers_write_the_dequantised_models_text_alone_and_in_company(folder: Path, saved: Path) -> None:
    model = quantised(folder)
    always_dequantise(model)
    dense = dense_twin(folder, saved)
    expected = [plain(dense, prompt) for prompt in PROMPTS]
    assert texts(model, PROMPTS) == expected
    assert [texts(model, [prompt])[0] for prompt in PROMPTS] == expected


@needs_kernel
def test_the_kernel_writes_the_same_text_alone_and_in_company_of_few_rows(folder: Path) -> None:
    model = quantised(folder)
    assert len(PROMPTS) * max(map(len, PROMPTS)) <= KERNEL_ROWS
    expected = [plain(model, prompt) for prompt in PROMPTS]
    assert texts(model, PROMPTS) == expected
    assert [texts(model, [prompt])[0] for prompt in PROMPTS] == expected


@needs_kernel
def test_a_prompt_read_beside_others_is_rounded_otherwise_unless_always_dequantised(folder: Path) -> None:
    model = quantised(folder)
    prompts = [[first, *range(20, 20 + KERNEL_ROWS * 3 // 4)] for first in (5, 6)]

    def chance(company: list[list[int]]) -> float:
        batch, drawn = Batch(model), list[Token]()
        for prompt in company:
            batch.add(prompt, GREEDY, stop=[])
        while not drawn:
            drawn = batch.step()
        return drawn[0].logprob

    alone, together = chance(prompts[:1]), chance(prompts)
    assert alone != pytest.approx(together, abs=1e-5)
    assert alone == pytest.approx(together, abs=0.2)
    always_dequantise(model)
    assert chance(prompts[:1]) == pytest.approx(chance(prompts), abs=1e-5)
