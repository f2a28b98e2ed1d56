"""Answers, pairs, rewards and texts against what they are made of, on tiny random models."""

from __future__ import annotations

import dataclasses
import math
import statistics
from pathlib import Path

import pytest
import torch
from tokenizers import normalizers

from evalkit.bench import Bench
from evalkit.methods import answer, pairs, reward, text
from evalkit.models import local
from evalkit.tasks import yaml_task
from evalkit.types import AnswerTask, PairsTask, RewardTask, TextRow, TextTask
from modelkit.chat import Message, encode_chat, encode_prompt
from modelkit.checkpoint import StageInfo, save
from modelkit.errors import UserError
from modelkit.fingerprint import fingerprint
from modelkit.generation import loop
from modelkit.reward import RewardModel
from modelkit.run import Run
from tests.evalkit.measuring import measured
from tests.evalkit.tiny import CONTEXT, ask, tiny_model, tiny_tokenizer


def bench(run: Run, stage: str) -> Bench:
    path = run.checkpoint(stage)
    model = local.load(path, "reward" if stage == "rm" else "language", torch.float32, torch.device("cpu"))
    return Bench(path, fingerprint(path), model)


def task(run: Run, part: str):
    return yaml_task.load(run.benchmark(), yaml_task.read_suite(run.benchmark()), part, run.path)


def test_answers_are_greedy_and_counted_by_their_form(run: Run) -> None:
    asked, work = task(run, "answer"), bench(run, "sft")
    assert isinstance(asked, AnswerTask)
    found = measured(answer, asked, work)
    for item, sample in zip(asked.items, found.samples, strict=True):
        prompt = encode_prompt(work.tokenizer, item.messages)
        with torch.inference_mode():
            ids = work.model.model.generate(  # type: ignore[operator]
                torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), do_sample=False, max_new_tokens=8, pad_token_id=1
            )
        assert sample.extra["reply"] == str(work.tokenizer.decode(ids[0, len(prompt) :], skip_special_tokens=True)).strip()
        assert sample.correct is False
        assert sample.reason is None
    extra = found.score.model_extra
    assert extra is not None
    assert (found.score.metric, found.score.value, found.score.unscored) == ("exact_match", 0.0, 0)
    assert extra["cut_off"] == sum(sample.extra["finish"] == "length" for sample in found.samples)
    assert extra["no_alternative"] == len(asked.items)


def test_an_answer_is_right_when_it_names_the_reference_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, work = task(run, "answer"), bench(run, "sft")
    replies = iter([" It is Paris.", " Paris or Rome", " Oslo", ""])

    def spoken(model, prompts, *rest, **named) -> list[list[loop.Completion]]:
        return [[loop.Completion(work.tokenizer(next(replies), add_special_tokens=False)["input_ids"], finish="stop")] for _ in prompts]

    monkeypatch.setattr(loop, "generate", spoken)
    found = measured(answer, asked, work)
    assert [sample.correct for sample in found.samples] == [True, False, False, False]
    assert [sample.prediction for sample in found.samples] == ["Paris", None, "Oslo", None]
    assert found.score.value == 0.25
    assert found.score.subjects["capitals"].accuracy == 0.25
    assert found.score.categories["en"].n == 4


def test_a_prompt_without_room_for_a_reply_is_unscored(run: Run) -> None:
    asked = task(run, "answer")
    long = asked.items[0].model_copy(update={"messages": ask("word " * CONTEXT)})
    found = measured(answer, dataclasses.replace(asked, items=[long, asked.items[1]]), bench(run, "sft"))
    assert found.samples[0].reason == f"the prompt leaves no room for a reply in the context of {CONTEXT} tokens"
    assert (found.score.n, found.score.unscored) == (2, 1)


def test_pairs_are_right_when_the_chosen_reply_scores_higher(run: Run) -> None:
    asked, work = task(run, "pairs"), bench(run, "rm")
    assert isinstance(asked, PairsTask)
    found = measured(pairs, asked, work)
    right = 0
    for item, sample in zip(asked.items, found.samples, strict=True):
        rewards = {}
        for name, reply in (("chosen", item.chosen), ("rejected", item.rejected)):
            ids = encode_chat(work.tokenizer, [*item.messages, {"role": "assistant", "content": reply}]).ids
            with torch.inference_mode():
                hidden = work.model.model.base_model(input_ids=torch.tensor([ids])).last_hidden_state
                rewards[name] = float(work.model.model.score(hidden)[0, -1, 0])  # type: ignore[operator]
        assert sample.extra["rewards"] == pytest.approx(rewards, abs=1e-5)
        right += rewards["chosen"] > rewards["rejected"]
    assert found.score.value == right / 5
    assert set(found.score.subjects) == {"truth", "length"}
    assert found.score.model_extra == {"length_baseline": 0.8, "ties": 0}


def test_a_tie_is_wrong_and_counted_and_half_right_for_length(run: Run) -> None:
    asked = task(run, "pairs")
    same = asked.items[0].model_copy(update={"rejected": asked.items[0].chosen})
    found = measured(pairs, dataclasses.replace(asked, items=[same]), bench(run, "rm"))
    assert (found.score.value, found.samples[0].prediction) == (0.0, "tie")
    assert found.score.model_extra == {"length_baseline": 0.5, "ties": 1}


def test_a_pair_longer_than_the_context_is_unscored(run: Run) -> None:
    asked = task(run, "pairs")
    long = asked.items[0].model_copy(update={"rejected": "no " * CONTEXT})
    found = measured(pairs, dataclasses.replace(asked, items=[asked.items[1], long]), bench(run, "rm"))
    assert [sample.reason for sample in found.samples] == [None, f"a reply is longer than the context of {CONTEXT} tokens"]


def test_rewards_compare_a_checkpoint_with_its_reference(run: Run) -> None:
    asked, work = task(run, "reward"), bench(run, "rl")
    assert isinstance(asked, RewardTask)
    found = measured(reward, asked, work)
    judge, sft = RewardModel.load(run.checkpoint("rm")), bench(run, "sft")
    own, others, wins, divergences = [], [], [], []
    for i, (item, sample) in enumerate(zip(asked.items, found.samples, strict=True)):
        said: list[list[Message]] = [[*item.messages, {"role": "assistant", "content": reply}] for reply in sample.extra["replies"]]
        assert judge.score(said) == pytest.approx(sample.extra["rewards"], abs=1e-5)
        means = [statistics.fmean(sample.extra[name]) for name in ("rewards", "reference_rewards")]
        wins.append(float(means[0] > means[1]))
        own.append(means[0])
        others += sample.extra["reference_rewards"]
        prompt = encode_prompt(work.tokenizer, item.messages)
        sampling = loop.Sampling(8, seed=3 * i)
        for completion in loop.generate(work.model.model, [prompt], sampling, [work.tokenizer.eos_token_id], n=3)[0]:
            ids = torch.tensor([[*prompt, *completion.ids]])
            with torch.inference_mode():
                left, right = (one.model.model(input_ids=ids).logits[0, :-1].log_softmax(-1) for one in (work, sft))
            gap = (left - right).gather(-1, ids[0, 1:, None])[len(prompt) - 1 :, 0]
            divergences.append(float(gap.sum()))
    extra = found.score.model_extra
    assert extra is not None
    assert found.score.value == pytest.approx(statistics.fmean(own))
    assert extra["reward_reference_mean"] == pytest.approx(statistics.fmean(others))
    assert extra["reference_sd"] == pytest.approx(statistics.stdev(others))
    assert extra["effect_size"] == pytest.approx((statistics.fmean(own) - statistics.fmean(others)) / statistics.stdev(others))
    assert extra["win_rate"] == statistics.fmean(wins)
    assert extra["kl_to_reference"] == pytest.approx(statistics.fmean(divergences), abs=1e-3)
    assert 1 <= extra["length"] <= 8


def test_a_checkpoint_that_is_the_reference_is_measured_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(*arguments, **named) -> list[list[loop.Completion]]:
        calls.append(1)
        return loop.generate(*arguments, **named)

    monkeypatch.setattr(reward, "generate", counted)
    extra = measured(reward, task(run, "reward"), bench(run, "sft")).score.model_extra
    assert extra is not None
    assert len(calls) == 1
    assert (extra["win_rate"], extra["effect_size"], extra["kl_to_reference"]) == (0.5, 0.0, 0.0)


def test_bits_per_byte_and_perplexity_are_those_of_one_pass_over_each_text(run: Run) -> None:
    asked, work = task(run, "text"), bench(run, "sft")
    assert isinstance(asked, TextTask)
    short = dataclasses.replace(
        asked, items=[TextRow(id="a/0", text="The capital is Paris."), TextRow(id="a/1", text="中国的首都是北京。")]
    )
    nats = tokens = 0.0
    for item in short.items:
        ids = torch.tensor([work.tokenizer(item.text)["input_ids"]])
        assert ids[0, 0] == work.tokenizer.bos_token_id
        with torch.inference_mode():
            nats += float(work.model.model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1)
        tokens += ids.shape[1] - 1
    found = measured(text, short, work)
    size = sum(len(item.text.encode()) for item in short.items)
    assert found.score.value == pytest.approx(nats / math.log(2) / size, rel=1e-5)
    assert (found.score.model_extra or {})["perplexity"] == pytest.approx(math.exp(nats / tokens), rel=1e-5)


@pytest.mark.parametrize(("length", "context"), [(2, 8), (8, 8), (9, 8), (40, 8), (41, 7), (5, 1), (3, 2), (1, 8)])
def test_windows_score_every_token_once_within_the_context(length: int, context: int) -> None:
    spans = text.windows(length, max(2, context))
    scored = [token for _, first, end in spans for token in range(first, end)]
    assert scored == list(range(1, length))
    for start, first, end in spans:
        assert 0 <= start < first < end <= start + max(2, context)
    assert all(first - start >= max(2, context) // 2 for start, first, _ in spans[1:])


def test_a_text_without_tokens_has_a_reason(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, work = task(run, "text"), bench(run, "sft")
    monkeypatch.setattr(work.tokenizer.backend_tokenizer, "normalizer", normalizers.Strip())
    found = measured(text, dataclasses.replace(asked, items=[TextRow(id="a/0", text=" \n"), TextRow(id="a/1", text="Paris.")]), work)
    assert [sample.reason for sample in found.samples] == ["the tokenizer makes no token of it", None]
    assert (found.score.n, found.score.unscored) == (2, 1)


def test_a_long_text_is_read_in_windows(run: Run) -> None:
    asked, work = task(run, "text"), bench(run, "sft")
    long = asked.items[0]
    ids = work.tokenizer(long.text * 3)["input_ids"]
    assert len(ids) > 2 * CONTEXT
    nats = 0.0
    for start, first, end in text.windows(len(ids), CONTEXT):
        with torch.inference_mode():
            logits = work.model.model(input_ids=torch.tensor([ids[start:end]])).logits[0].log_softmax(-1)
        nats -= sum(float(logits[i - 1 - start, ids[i]]) for i in range(first, end))
    found = measured(text, dataclasses.replace(asked, items=[TextRow(text=long.text * 3)]), work)
    assert found.samples[0].extra["tokens"] == len(ids) - 1
    assert found.score.value == pytest.approx(nats / math.log(2) / len((long.text * 3).encode()), rel=1e-5)
    assert found.score.ci95 is None


def test_a_reference_with_another_tokenizer_is_refused(run: Run, tmp_path: Path) -> None:
    save(tiny_model(9), tiny_tokenizer("{{ messages[0]['content'] }}</s>"), tmp_path / "odd", StageInfo(stage="sft"))
    with pytest.raises(UserError, match="tokenise prompts differently"):
        measured(reward, dataclasses.replace(task(run, "reward"), reference=tmp_path / "odd"), bench(run, "rl"))


def test_equal_replies_tie_whatever_batch_they_were_scored_in(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    said = [loop.Completion([40, 41, 42], [-1.0] * 3, "stop"), loop.Completion([50], [-1.0], "stop")]

    def spoken(model, prompts, *rest, **named) -> list[list[loop.Completion]]:
        return [said[:: 1 if model.config.name_or_path.endswith("sft") else -1] for _ in prompts]

    monkeypatch.setattr(reward, "generate", spoken)
    extra = measured(reward, task(run, "reward"), bench(run, "rl")).score.model_extra
    assert extra is not None
    assert (extra["win_rate"], extra["effect_size"]) == (0.5, 0.0)
