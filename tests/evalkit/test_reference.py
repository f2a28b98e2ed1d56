"""evalkit against the oracle, on real questions: the same predictions, the same shots, log-probabilities within 1e-4."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from evalkit.bench import Bench
from evalkit.methods import letters
from evalkit.models.local import LocalModel
from evalkit.tasks import ceval, cmmlu, mmlu
from modelkit.checkpoint import load_model, load_tokenizer
from tests.evalkit import reference_scorer
from tests.evalkit.measuring import measured
from tests.tiny_llama import language_model

ASKED = {
    "mmlu": (mmlu, {"abstract_algebra": " abstract algebra", "professional_law": " professional law", "anatomy": " anatomy"}),
    "cmmlu": (cmmlu, {"agronomy": "农学", "elementary_chinese": "小学语文", "professional_law": "专业法学"}),
    "ceval": (ceval, {"accountant": "注册会计师", "law": "法学", "operating_system": "操作系统"}),
}


@cache
def random_model(shared: Path, tokenizer: str):
    """A random LLaMA that reads 2,048 tokens, with a real tokenizer."""
    loaded = AutoTokenizer.from_pretrained(shared / "data" / "tokenizers" / tokenizer)
    return language_model(len(loaded), seed=5, max_position_embeddings=2048, tie_word_embeddings=False), loaded


def stories(shared: Path):
    """The trained model of 260 K parameters, which reads 512 tokens: most prompts are too long for it."""
    path = shared / "data" / "stories260k"
    return load_model(path), load_tokenizer(path)


@cache
def loaded(shared: Path, benchmark: str):
    """A benchmark with its five shots."""
    return ASKED[benchmark][0].load(shared / "data" / benchmark, 5)


@pytest.mark.parametrize("benchmark", ASKED)
@pytest.mark.parametrize(("name", "shots"), [("llama", 5), ("gpt2", 2), ("stories260k", 5), ("llama", 0)])
def test_predictions_and_log_probabilities_are_those_of_the_authors_scripts(shared: Path, benchmark: str, name: str, shots: int) -> None:
    model, tokenizer = stories(shared) if name == "stories260k" else random_model(shared, name)
    titles = ASKED[benchmark][1]
    rows = [0, 17]
    task = loaded(shared, benchmark)
    items = [item for item in task.items if item.subject in titles and int(item.id.rpartition("/")[2]) in rows]
    task = dataclasses.replace(task, items=items, shots=shots)
    bench = Bench(shared, "sha256:0", LocalModel(model, tokenizer, torch.device("cpu"), torch.float32))
    found = measured(letters, task, bench)
    limit = min(2048, model.config.max_position_embeddings - (max(map(len, found.facts["letter_tokens"].values())) - 1))
    for subject, title in titles.items():
        own = [sample for sample in found.samples if sample.item.subject == subject]
        folder = shared / "data" / benchmark
        expected = reference_scorer.score_file(model, tokenizer, benchmark, folder, subject, title, rows[: len(own)], shots, limit)
        for sample, answer in zip(own, expected, strict=True):
            if sample.reason:
                assert "even without shots" in sample.reason
                continue
            assert sample.shots_used == answer.shots
            assert sample.scores == pytest.approx(answer.scores, abs=1e-4)
            assert sample.prediction == answer.prediction
