"""Completions, and the log-probabilities of prompts that evaluation harnesses ask for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch
from typer.testing import CliRunner

from evalkit.cli import app as evalkit
from modelkit import checkpoint
from tests.evalkit.served import letter_checkpoint
from tests.evalkit.tiny import write_csv
from tests.playground.served import Server, server


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("letters") / "tiny"
    letter_checkpoint(path)
    return path


@pytest.fixture(scope="module")
def served(path: Path) -> Iterator[Server]:
    with server("-m", path) as running:
        yield running


@pytest.fixture
def client(served: Server) -> Any:
    return openai.OpenAI(base_url=served.url, api_key="none", max_retries=0)


def reference(path: Path, ids: list[int]) -> torch.Tensor:
    """Log-probabilities [length, vocabulary] of what follows each token, by the plain model."""
    with torch.inference_mode():
        return checkpoint.load_model(path)(torch.tensor([ids])).logits[0].float().log_softmax(-1)


def test_a_prompt_may_be_a_text_ids_or_a_list_of_either(client: Any, path: Path) -> None:
    texts = ["Question: What is it?\nAnswer:", "the capital of"]
    tokenizer = checkpoint.load_tokenizer(path)
    ids = [list(tokenizer(text)["input_ids"]) for text in texts]
    wish: dict[str, Any] = {"model": "tiny", "max_tokens": 7, "temperature": 0}
    prompts: list[Any] = [texts, ids]
    together = [[choice.text for choice in client.completions.create(prompt=prompt, **wish).choices] for prompt in prompts]
    alone = [client.completions.create(prompt=prompt, **wish).choices[0].text for prompt in (texts[0], ids[1])]
    assert together == [alone, alone]
    twice = client.completions.create(prompt=texts, n=2, seed=4, **{**wish, "temperature": 1})
    assert [choice.index for choice in twice.choices] == [0, 1, 2, 3]
    assert twice.usage is not None
    assert twice.usage.prompt_tokens == sum(map(len, ids))


def test_a_text_goes_on_with_the_blank_between_words(client: Any, path: Path) -> None:
    told = client.completions.create(model="tiny", prompt="Question: What is it?\nAnswer:", max_tokens=1, temperature=0)
    assert told.choices[0].text in (" A", " B", " C", " D")


@pytest.mark.parametrize("new", [0, 1, 3])
def test_an_echoed_prompt_has_the_models_own_log_probabilities(client: Any, path: Path, new: int) -> None:
    tokenizer = checkpoint.load_tokenizer(path)
    text = "Question: What is the capital of land 7?\nAnswer: 中国"
    told = client.completions.create(model="tiny", prompt=text, max_tokens=new, temperature=0, echo=True, logprobs=3).choices[0]
    ids = list(tokenizer(text)["input_ids"])
    logprobs = told.logprobs
    assert logprobs is not None
    assert logprobs.token_logprobs is not None
    assert logprobs.top_logprobs is not None
    assert told.text.startswith(text)
    assert len(logprobs.token_logprobs) == len(ids) + new
    assert logprobs.token_logprobs[0] is None
    for _ in range(new):
        ids.append(int(reference(path, ids)[-1].argmax()))
    expected = reference(path, ids)
    for i, value in enumerate(logprobs.token_logprobs[1:]):
        assert value == pytest.approx(float(expected[i, ids[i + 1]]), abs=1e-4)
        assert max(logprobs.top_logprobs[i + 1].values()) == pytest.approx(float(expected[i].max()), abs=1e-4)
    assert told.finish_reason in ("length", "stop")


def test_where_a_token_begins_points_into_the_text_and_tells_the_answer_from_the_prompt(client: Any, path: Path) -> None:
    prompt = "Question: 什么是 7?\nAnswer:"
    wish: dict[str, Any] = {"model": "tiny", "prompt": prompt, "max_tokens": 4, "temperature": 0, "logprobs": 0}
    read, alone = client.completions.create(**wish, echo=True).choices[0], client.completions.create(**wish).choices[0]
    offsets = read.logprobs.text_offset
    count = len(checkpoint.load_tokenizer(path)(prompt)["input_ids"])
    assert [offset >= len(prompt) for offset in offsets] == [False] * count + [True] * 4
    assert read.text[offsets[count] :] == alone.text
    assert alone.logprobs.text_offset == [offset - len(prompt) for offset in offsets[count:]]
    parts = [read.text[start:end] for start, end in pairwise([*offsets, len(read.text)])]
    assert parts[0] == ""  # <s>, which nobody has written
    assert all(part == token or token.startswith("bytes:") for part, token in list(zip(parts, read.logprobs.tokens, strict=True))[1:])


def test_the_chosen_token_is_among_the_likeliest_that_are_told(client: Any) -> None:
    wish: dict[str, Any] = {"model": "tiny", "prompt": "Who?", "max_tokens": 12, "temperature": 2, "seed": 1, "echo": True}
    for top in (0, 2):
        told = client.completions.create(**wish, logprobs=top).choices[0].logprobs
        assert {len(likeliest) for likeliest in told.top_logprobs[1:]} <= {top or 1, top + 1}
        for token, logprob, likeliest in list(zip(told.tokens, told.token_logprobs, told.top_logprobs, strict=True))[1:]:
            assert likeliest[token] == logprob
            assert list(likeliest.values()) == sorted(likeliest.values(), reverse=True)


def test_each_prompt_has_seeds_of_its_own(client: Any) -> None:
    wish: dict[str, Any] = {"model": "tiny", "max_tokens": 12, "n": 2}
    together = [choice.text for choice in client.completions.create(**wish, prompt=["Who?"] * 3, seed=4).choices]
    assert len(set(together)) == 6
    alone = [client.completions.create(**wish, prompt="Who?", seed=seed).choices for seed in (4, 6, 8)]
    assert [choice.text for choices in alone for choice in choices] == together


def test_echo_streams_too(client: Any) -> None:
    wish: dict[str, Any] = {"model": "tiny", "prompt": "What is it?", "temperature": 0, "echo": True}
    for more in ({"max_tokens": 5}, {"max_tokens": 1, "logprobs": 2}, {"max_tokens": 5, "logprobs": 0}):
        whole = client.completions.create(**wish, **more).choices[0]
        chunks = [chunk.choices[0] for chunk in client.completions.create(**wish, **more, stream=True)]
        assert "".join(choice.text for choice in chunks) == whole.text
        assert chunks[-1].finish_reason == whole.finish_reason
        if whole.logprobs is not None:
            values = [value for choice in chunks if choice.logprobs for value in choice.logprobs.token_logprobs or ()]
            assert values == pytest.approx(whole.logprobs.token_logprobs, abs=1e-5)
            offsets = [offset for choice in chunks if choice.logprobs for offset in choice.logprobs.text_offset]
            assert offsets == whole.logprobs.text_offset


def test_a_prompt_as_long_as_the_context_can_be_read_but_not_continued(served: Server, path: Path) -> None:
    context = checkpoint.load_model(path).config.max_position_embeddings
    wish = {"model": "tiny", "prompt": [5] * context, "max_tokens": 1, "temperature": 0}
    read = httpx.post(f"{served.url}/completions", json={**wish, "echo": True, "logprobs": 1})
    assert len(read.json()["choices"][0]["logprobs"]["tokens"]) == context + 1
    refused = httpx.post(f"{served.url}/completions", json=wish)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")


@pytest.mark.parametrize("method", ["letters", "perplexity", "generate"])
def test_evalkit_finds_the_same_through_the_server_as_on_the_checkpoint(served: Server, path: Path, tmp_path: Path, method: str) -> None:
    rows = [[f"Number {i * 7}?", "one", "two", "three", "four", "ABCD"[i % 4]] for i in range(8)]
    write_csv(tmp_path / "data/test/virology_test.csv", rows)
    write_csv(tmp_path / "data/dev/virology_dev.csv", rows[:2])

    def run(model: str, out: Path, *more: str) -> tuple[dict, list[dict]]:
        words = ["run", "-m", model, "-t", "mmlu", "--data", str(tmp_path / "data"), "--shots", "1", "--method", method, "--out", str(out)]
        done = CliRunner().invoke(evalkit, [*words, *more], env={"COLUMNS": "200"})
        assert done.exit_code == 0, done.output
        score = json.loads((out / "results.json").read_text(encoding="utf-8"))["tasks"]["mmlu@hendrycks"]["methods"][method]
        lines = (out / "samples/mmlu@hendrycks.jsonl").read_text(encoding="utf-8").splitlines()
        return score, sorted(map(json.loads, lines), key=lambda line: line["id"])

    here, found = run(str(path), tmp_path / "here")
    there, served_found = run("tiny", tmp_path / "there", "--endpoint", served.url, "--tokenizer", str(path))
    assert (there["value"], there["n"], there["unscored"]) == (here["value"], here["n"], 0)
    for ours, theirs in zip(found, served_found, strict=True):
        assert theirs["prediction"] == ours["prediction"]
        if method != "generate":
            assert theirs["scores"] == pytest.approx(ours["scores"], abs=1e-3)
