"""Letters and per-choice perplexity against slow twins that ask one question at a time."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from evalkit.bench import Bench
from evalkit.encoding import Encoder
from evalkit.methods import letters, perplexity
from evalkit.models import local
from evalkit.tasks import yaml_task
from evalkit.types import LETTERS, ChoiceTask
from modelkit.chat import encode_chat, encode_prompt
from modelkit.checkpoint import load_model, load_tokenizer
from modelkit.errors import UserError
from modelkit.run import Run
from modelkit.scoring.strings import string_logprobs
from tests.evalkit.measuring import Measured, measured
from tests.evalkit.tiny import ask, tiny_model, tiny_tokenizer


def bench(run: Run, stage: str = "sft", chat: bool = False) -> Bench:
    path = run.checkpoint(stage)
    return Bench(path, "sha256:0", local.load(path, "language", torch.float32, torch.device("cpu")), chat)


def choice(run: Run, shots: int = 0) -> ChoiceTask:
    task = yaml_task.load(run.benchmark(), yaml_task.read_suite(run.benchmark()), "choice", run.path, shots)
    assert isinstance(task, ChoiceTask)
    return task


@torch.inference_mode()
def slow_logprob(model, ids: list[int], start: int) -> torch.Tensor:
    """Natural-log probabilities of the tokens from *start* on, by the model's own forward pass over this text alone."""
    logits = model(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(-1)
    return torch.stack([logits[i - 1, ids[i]] for i in range(start, len(ids))])


def answers(found: Measured) -> list[tuple[str | None, bool | None, int | None]]:
    return [(sample.prediction, sample.correct, sample.shots_used) for sample in found.samples]


@pytest.mark.parametrize("shots", [0, 1, 3])
def test_letters_are_those_of_asking_one_question_at_a_time(run: Run, shots: int) -> None:
    task, work = choice(run, shots), bench(run)
    found = measured(letters, task, work)
    for item, sample in zip(task.items, found.samples, strict=True):
        used = sample.shots_used or 0
        text = task.protocol.headline(item.subject) + "".join(map(task.protocol.shot, task.dev.get(item.subject, [])[:used]))
        text += task.protocol.block(item)
        assert sample.prompt == text
        before = work.tokenizer(text)["input_ids"]
        assert before[0] == work.tokenizer.bos_token_id != before[1]
        assert sample.scores is not None
        for letter, score in sample.scores.items():
            whole = work.tokenizer(f"{text} {letter}")["input_ids"]
            assert score == pytest.approx(float(slow_logprob(work.model.model, whole, len(before)).sum()), abs=2e-5)
        assert sample.prediction == max(sample.scores, key=sample.scores.__getitem__)
        assert sample.correct == (sample.prediction == item.gold)
    if shots == 3:
        assert found.score.model_extra is not None
        assert set(found.score.model_extra["shots_used"]) != {"3"}


@pytest.mark.parametrize("shots", [0, 1])
def test_perplexity_is_the_mean_over_each_options_own_tokens(run: Run, shots: int) -> None:
    task, work = choice(run, shots), bench(run)
    found = measured(perplexity, task, work)
    for item, sample in zip(task.items, found.samples, strict=True):
        shot = task.dev[item.subject][0] if sample.shots_used else None
        text = f"Question: {shot.text}\nAnswer: {shot.options[LETTERS.index(shot.gold)]}\n\n" if shot else ""
        text += f"Question: {item.text}\nAnswer:"
        assert sample.prompt == text
        before = work.tokenizer(text)["input_ids"]
        assert sample.scores is not None
        for option, score in zip(item.options, sample.scores.values(), strict=True):
            whole = work.tokenizer(f"{text} {option}")["input_ids"]
            assert whole[: len(before)] == before
            assert score == pytest.approx(float(slow_logprob(work.model.model, whole, len(before)).mean()), abs=2e-5)


def test_in_a_chat_the_question_is_a_users_turn_and_the_letter_the_reply(run: Run) -> None:
    task, work = choice(run), bench(run, chat=True)
    found = measured(letters, task, work)
    item, sample = task.items[0], found.samples[0]
    messages = ask(task.protocol.headline(item.subject) + task.protocol.block(item))
    before = encode_prompt(work.tokenizer, messages)
    assert sample.scores is not None
    for letter, score in sample.scores.items():
        whole = encode_chat(work.tokenizer, [*messages, {"role": "assistant", "content": letter}]).ids
        assert whole[-1] == work.tokenizer.eos_token_id
        assert score == pytest.approx(float(slow_logprob(work.model.model, whole[:-1], len(before)).sum()), abs=2e-5)
    assert found.facts["bos"] == "by the chat template"


def test_options_of_a_question_that_has_fewer_are_not_made_up(run: Run) -> None:
    task = choice(run)
    short = dataclasses.replace(task.items[0], options=("Paris", "Rome"))
    found = measured(letters, dataclasses.replace(task, items=[short, *task.items[1:]]), bench(run))
    assert list(found.samples[0].scores or ()) == ["A", "B"]
    assert list(found.samples[1].scores or ()) == ["A", "B", "C", "D"]


def test_a_question_longer_than_the_context_is_unscored_with_a_reason(run: Run) -> None:
    task = choice(run)
    long = dataclasses.replace(task.items[1], text="Oh " * 300)
    for method in (letters, perplexity):
        found = measured(method, dataclasses.replace(task, items=[task.items[0], long]), bench(run))
        assert found.samples[1].reason is not None
        assert "even without shots" in found.samples[1].reason
        assert found.samples[1].correct is None
        assert (found.score.n, found.score.unscored) == (2, 1)
        assert found.score.value == float(bool(found.samples[0].correct))


def test_nan_scores_are_a_reason_not_an_answer(run: Run) -> None:
    task, work = choice(run), bench(run)
    with torch.no_grad():
        work.model.model.lm_head.weight.fill_(float("nan"))
    found = measured(letters, task, work)
    assert found.score.unscored == len(task.items)
    assert {sample.reason for sample in found.samples} == {"the model gave no number (NaN): use --dtype fp32"}


def test_results_do_not_depend_on_what_else_is_in_the_batch(run: Run) -> None:
    task = choice(run)
    together = measured(letters, task, bench(run)).samples
    alone = [measured(letters, dataclasses.replace(task, items=[item]), bench(run)).samples[0] for item in task.items]
    for left, right in zip(together, alone, strict=True):
        assert left.scores == pytest.approx(right.scores, abs=1e-5)


@pytest.mark.parametrize("strings", [[[5], [6], [7], [8]], [[5, 1], [6], [5, 2], [5, 3]], [[5, 1], [6, 1], [7], [5, 2, 3]], [[9]]])
def test_strings_of_several_tokens_have_the_probability_of_the_whole_string(strings: list[list[int]]) -> None:
    model = tiny_model(7)
    prompts = [[0, 20, 30, 40], [0, 9], list(range(50, 90))]
    done: list[int] = []
    found = string_logprobs(model, prompts, strings, token_budget=50, on_progress=done.append)
    for i, prompt in enumerate(prompts):
        for j, string in enumerate(strings):
            assert float(found[i, j]) == pytest.approx(float(slow_logprob(model, [*prompt, *string], len(prompt)).sum()), abs=2e-5)
    assert done[-1] == len(prompts)
    assert done == sorted(done)


def test_there_is_exactly_one_beginning_of_sequence() -> None:
    tokenizer = tiny_tokenizer()
    assert Encoder(tokenizer).encode(["hi", "<s>hi"]) == [tokenizer("hi")["input_ids"]] * 2
    silent = tiny_tokenizer()
    silent.backend_tokenizer.post_processor = None
    assert Encoder(silent).encode(["hi"]) == [silent("hi", add_special_tokens=False)["input_ids"]]
    assert Encoder(silent).bos == "none"
    (chat,) = Encoder(tokenizer, chat=True).encode(["hi"])
    assert chat.count(tokenizer.bos_token_id) == 1


def test_a_letter_that_melts_into_the_prompt_is_refused() -> None:
    encoder = Encoder(tiny_tokenizer())
    with pytest.raises(UserError, match="merges the answer"):
        encoder.answer_tokens("Answer: Par", "", ["is"])


def test_stories_letters_of_two_tokens_are_scored_like_one_at_a_time(shared: Path) -> None:
    path = shared / "data" / "stories260k"
    model, tokenizer = load_model(path), load_tokenizer(path)
    text = "What is red?\nA. sun\nB. sky\nAnswer:"
    tokens = Encoder(tokenizer).answer_tokens(text, " ", list("ABCD"))
    assert {len(ids) for ids in tokens} == {1, 2}
    before = tokenizer(text)["input_ids"]
    found = string_logprobs(model, [before], tokens)[0]
    expected = [float(slow_logprob(model, tokenizer(f"{text} {letter}")["input_ids"], len(before)).sum()) for letter in "ABCD"]
    assert found.tolist() == pytest.approx(expected, abs=2e-5)
