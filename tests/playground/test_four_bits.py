"""Checkpoints that `trainers gptq` has made are loaded, answer and score like any other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import torch

from modelkit.generation.requests import Request
from modelkit.generation.sampling import Sampling
from modelkit.gptq.layer import GPTQLinear
from modelkit.run import Run, Stage
from playground.api.app import create
from playground.api.reading import read_prompts
from playground.api.service import Service
from playground.models import LoadedReward, Models
from tests.playground import fake_run
from trainers.gptq.run import Settings, run
from trainers.gptq.solver import Grid


@pytest.fixture(scope="module")
def quantised_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose RL and reward models have copies in 4 bits."""
    path = tmp_path_factory.mktemp("quantised") / "pocket"
    fake_run.make_run(path)
    text = path / "calibration.jsonl"
    text.write_text('{"text": "The capital of France is Paris, and the capital of China is Beijing."}\n' * 8, encoding="utf-8")
    for name, kind in (("rl", "rl"), ("rm", "reward")):
        run(Settings(path / name, path / f"{name}-gptq4", Grid(group=32), [text], samples=4), say=lambda line: None)
        Run.open(path).with_stage(Stage(name=f"{name}-gptq4", kind=kind, title={"en": "4 bits"}, copy_of=name))
    return path


@pytest.fixture
def models(quantised_run: Path) -> Iterator[Models]:
    models = Models([quantised_run], 1 << 30)
    yield models
    models.close()


def test_a_copy_in_4_bits_stays_in_4_bits_and_answers(models: Models) -> None:
    loaded = models.language(models.entry("pocket/rl-gptq4"))
    assert sum(isinstance(module, GPTQLinear) for module in loaded.model.modules()) == 14
    [sample] = loaded.engine.submit(Request([5, 6, 7], Sampling(temperature=0, max_tokens=8))).samples()
    assert (len(sample.ids), sample.finish) == (8, "length")


def test_the_api_answers_with_a_copy_in_4_bits(models: Models) -> None:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(create(Service(models))), base_url="http://test") as client:
            messages = [{"role": "user", "content": "What is seven plus five?"}]
            return await client.post("/v1/chat/completions", json={"model": "pocket/rl-gptq4", "messages": messages, "max_tokens": 8})

    answer = asyncio.run(ask())
    assert answer.status_code == 200
    assert answer.json()["usage"]["completion_tokens"] in range(1, 9)


def test_the_log_probabilities_of_a_prompt_do_not_depend_on_its_company(quantised_run: Path) -> None:
    models = Models([quantised_run], 1 << 30, dtype=torch.float32)
    loaded = models.language(models.entry("pocket/rl-gptq4"))
    prompts = [[0, *range(2, 12 + 30 * i)] for i in range(6)]
    alone, together = (read_prompts(loaded, asked, 0, lambda: None) for asked in (prompts[:1], prompts))
    assert together[0][0].logprobs[1:] == pytest.approx(alone[0][0].logprobs[1:], abs=1e-4)
    assert any(module.kernel_rows for module in loaded.model.modules() if isinstance(module, GPTQLinear))
    models.close()


def test_the_reward_of_a_conversation_does_not_depend_on_its_company(models: Models) -> None:
    judge = models.reward(models.entry("pocket/rm-gptq4"))
    assert isinstance(judge, LoadedReward)
    judge.model.model.float()
    conversations = [[0, *range(2, 12 + 7 * i)] for i in range(6)]
    assert judge.model.score_ids(conversations)[0] == pytest.approx(judge.model.score_ids(conversations[:1])[0], abs=1e-5)
