"""Generated answers: one reply for each prompt, read by the protocol's ladder, and counted honestly."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from evalkit.bench import Bench
from evalkit.encoding import Untokenised
from evalkit.methods import Record, generate, letters, perplexity
from evalkit.models import local
from evalkit.models.face import Prompt, Replies, Reply, Wanted
from evalkit.protocol import Protocol
from evalkit.tasks import yaml_task
from evalkit.types import LETTERS, ChoiceTask, Question, Sample
from modelkit.generation.sampling import Sampling
from modelkit.run import Run
from tests.evalkit.measuring import Measured, measured


class Scripted:
    """A model that says what it was told to say, prompt by prompt."""

    encoder = Untokenised()
    context: int | None = None

    def __init__(self, replies: dict[str, Reply]) -> None:
        self.replies = replies
        self.asked: list[str] = []

    def complete(
        self, prompts: Sequence[Prompt], sampling: Sampling, stop: Sequence[str], on_batch: Replies, wanted: Wanted = None
    ) -> None:
        for i, prompt in enumerate(prompts):
            if wanted is None or i in wanted:
                self.asked.append(str(prompt.said))
                on_batch([i], [next(reply for part, reply in self.replies.items() if part in str(prompt.said))])


def question(row: int, text: str, gold: str = "A", **fields: Any) -> Question:
    options = fields.pop("options", ("red", "green", "blue", "white"))
    part = f".{fields['part']}" if "part" in fields else ""
    return Question(f"s/{row}{part}", "s", (), text, options, gold, **fields)


def told(items: Sequence[Question], replies: dict[str, Reply], **protocol: Any) -> tuple[ChoiceTask, Bench, Scripted]:
    fields: dict[str, Any] = {"name": "test", "official": "micro", "methods": ("generate",), "shots": 0, **protocol}
    task = ChoiceTask("test@test", "sha256:0", items, Protocol(**fields), {}, 0, ("generate",))
    bench = Bench(Path("model"), "sha256:0", cast(local.LocalModel, None))
    face = Scripted(replies)
    bench.__dict__["face"] = face
    return task, bench, face


def find(items: Sequence[Question], replies: dict[str, Reply], **protocol: Any) -> tuple[Measured, Scripted]:
    task, bench, face = told(items, replies, **protocol)
    return measured(generate, task, bench), face


def test_a_reply_is_read_and_compared_with_the_gold() -> None:
    items = [question(0, "one?"), question(1, "two?", "B"), question(2, "three?", "C")]
    found, _ = find(items, {"one?": Reply("The answer is A.", 5), "two?": Reply("故选A", 3), "three?": Reply("No idea.", 3)})
    assert [(sample.prediction, sample.correct) for sample in found.samples] == [("A", True), ("A", False), (None, False)]
    assert all(sample.scores is None for sample in found.samples)
    assert found.samples[0].extra == {"reply": "The answer is A.", "finish": "stop", "tokens": 5}
    extra = found.score.model_extra or {}
    assert (found.score.n, found.score.unscored, found.score.value) == (3, 0, pytest.approx(1 / 3))
    assert (extra["unparsed"], extra["cut_off"], extra["reply_tokens"]) == (1, 0, pytest.approx(11 / 3))


def test_an_endpoints_failure_is_unscored_and_a_reply_without_end_is_counted() -> None:
    items = [question(0, "one?"), question(1, "two?")]
    found, _ = find(items, {"one?": Reply(reason="the server said 500"), "two?": Reply("Let me think", 32, "length")})
    assert [sample.reason for sample in found.samples] == ["the server said 500", None]
    assert (found.score.n, found.score.unscored, found.score.value) == (2, 1, 0.0)
    assert (found.score.model_extra or {})["cut_off"] == 1


def test_parts_of_a_question_share_one_reply() -> None:
    items = [question(0, "three gaps", gold, part=part, parts=3, points=2.0) for part, gold in enumerate("BCA")]
    reply = Reply("【答案】: B <eoa>\n【答案】: C <eoa>\n【答案】: D <eoa>", 20)
    found, face = find([*items, question(1, "alone", "D")], {"three gaps": reply, "alone": Reply("【答案】D", 3)}, extraction="gaokao")
    assert len(face.asked) == 2
    assert [sample.prediction for sample in found.samples] == ["B", "C", "D", "D"]
    assert found.score.value == 0.75


@dataclasses.dataclass(frozen=True)
class TwoSteps(Protocol):
    """Thoughts, and then the answer."""

    def conclusion(self, question: Question) -> str:
        return "So it is"


def two_steps(count: int, replies: dict[str, Reply], chat: bool = False) -> tuple[ChoiceTask, Bench, Scripted]:
    task, bench, face = told([question(i, f"{i}?", "B") for i in range(count)], replies, max_tokens=64, answer_tokens=8)
    face.encoder = Untokenised(chat)
    fields = {field.name: getattr(task.protocol, field.name) for field in dataclasses.fields(Protocol)}
    return dataclasses.replace(task, protocol=TwoSteps(**fields)), bench, face


@pytest.mark.parametrize("chat", [False, True])
def test_an_answer_is_asked_for_behind_the_thoughts(chat: bool) -> None:
    task, bench, face = two_steps(2, {"So it is": Reply(" (B).", 3), "0?": Reply("It is not A.", 5), "1?": Reply("Hm", 64, "length")}, chat)
    found = measured(generate, task, bench)
    assert [sample.prediction for sample in found.samples] == ["B", "B"]
    assert found.samples[0].extra == {"reply": " (B).", "finish": "stop", "tokens": 8, "thoughts": "It is not A."}
    assert found.samples[1].extra["finish"] == "length"
    assert len(face.asked) == 4
    first, second = face.asked[0], face.asked[2]
    assert "It is not A.\\nSo it is" in second if chat else second == f"{first}\nIt is not A.\nSo it is"


def test_thoughts_without_an_answer_are_unscored() -> None:
    task, bench, _ = two_steps(2, {"So it is": Reply(reason="the server failed (500)"), "0?": Reply("A", 1), "1?": Reply(reason="gone")})
    found = measured(generate, task, bench)
    assert [sample.reason for sample in found.samples] == ["the server failed (500)", "gone"]
    assert found.score.unscored == 2


def test_thoughts_and_answers_are_recorded_slice_by_slice() -> None:
    task, bench, face = two_steps(80, {"So it is": Reply("B", 1), "?": Reply("Well.", 2)})
    batches: list[int] = []
    generate.measure(task, task.items, bench, Record({f"s/{i}" for i in range(40, 80)}, lambda samples: batches.append(len(samples))))
    assert batches == [24, 16]
    assert len(face.asked) == 2 * (80 - 32)


def test_what_a_prompt_lost_stays_beside_its_reply(run: Run) -> None:
    items = [question(0, "very " * 200 + "far?"), question(1, "near?")]
    protocol = Protocol("lm-eval", "micro", cue="\nAnswer:", drop="left", limit=None, max_tokens=8)
    task = ChoiceTask("test@lm-eval", "sha256:0", items, protocol, {}, 0, ("generate",))
    path = run.checkpoint("sft")
    found = measured(generate, task, Bench(path, "", local.load(path, "language", torch.float32, torch.device("cpu"))))
    assert found.samples[0].extra.keys() == {"tokens_cut", "reply", "finish", "tokens"}
    assert (found.score.model_extra or {})["prompts_cut"] == 1


def test_a_part_that_is_asked_without_its_siblings_keeps_its_place() -> None:
    found, _ = find([question(0, "gaps", "C", part=1, parts=3)], {"gaps": Reply("1. B 2. C 3. D", 9)})
    assert found.samples[0].correct


def test_only_what_is_left_to_do_is_asked() -> None:
    items = [question(0, "gaps", "B", part=0, parts=2), question(0, "gaps", "C", part=1, parts=2), question(1, "one?"), question(2, "two?")]
    task, bench, face = told(items, {"gaps": Reply("BC", 2), "one?": Reply("A", 1), "two?": Reply("A", 1)})
    done: list[Sample] = []
    generate.measure(task, items, bench, Record({"s/0.1", "s/2"}, done.extend))
    assert sorted(sample.item.id for sample in done) == ["s/0.1", "s/2"]
    assert len(face.asked) == 2


def test_sets_and_points_are_scored_by_the_official_rule() -> None:
    golds = {"both?": "AC", "half?": "AC", "over?": "AC", "single?": "B"}
    items = [question(row, text, gold, kind="multiple", points=6.0, partial=0.5) for row, (text, gold) in enumerate(golds.items())]
    replies = {"both?": "选CA", "half?": "答案：A", "over?": "ABC", "single?": "B"}
    found, _ = find(items, {text: Reply(reply, 2) for text, reply in replies.items()}, official="points")
    assert [sample.prediction for sample in found.samples] == ["AC", "A", "ABC", "B"]
    assert found.score.value == pytest.approx((6 + 3 + 0 + 6) / 24)
    assert (found.score.model_extra or {})["multiple"] == {
        "n": 4,
        "exact_match": 0.5,
        "partial_credit": pytest.approx((1 + 0.5 + 0 + 1) / 4),
    }


def test_cloze_answers_are_compared_as_mathematics() -> None:
    items = [
        question(0, "half?", r"$\frac{1}{2}$", kind="cloze", options=()),
        question(1, "root?", r"$2\sqrt{3}$", kind="cloze", options=()),
    ]
    replies = {"half?": Reply("So the answer is 0.50.", 6), "root?": Reply(r"\boxed{\sqrt{12}}", 6)}
    robust, _ = find(items, replies)
    assert [sample.correct for sample in robust.samples] == [True, True]
    strict, _ = find(items, replies, extraction="agieval-zero-shot")
    assert [sample.correct for sample in strict.samples] == [False, False]


def test_questions_without_public_answers_are_answered_but_not_scored() -> None:
    found, _ = find([question(0, "one?", "")], {"one?": Reply("B", 1)})
    assert (found.samples[0].prediction, found.samples[0].correct, found.score.value) == ("B", None, None)


@pytest.mark.parametrize(
    ("symbols", "reply", "letter"), [("abcd", "The answer is b.", "B"), ("甲乙丙丁", "答案是丙。", "C"), ("1234", "4", "D")]
)
def test_options_may_be_called_otherwise(symbols: str, reply: str, letter: str) -> None:
    found, _ = find([question(0, "one?")], {"one?": Reply(reply, 1)}, symbols=symbols)
    assert found.samples[0].prediction == letter


def local_bench(run: Run, chat: bool = False) -> Bench:
    path = run.checkpoint("sft")
    return Bench(path, "sha256:0", local.load(path, "language", torch.float32, torch.device("cpu")), chat)


def choice(run: Run, **protocol: Any) -> ChoiceTask:
    task = yaml_task.load(run.benchmark(), yaml_task.read_suite(run.benchmark()), "choice", run.path, 0)
    assert isinstance(task, ChoiceTask)
    return dataclasses.replace(task, protocol=dataclasses.replace(task.protocol, **protocol))


@pytest.mark.parametrize("chat", [False, True])
def test_replies_are_the_models_greedy_continuations(run: Run, chat: bool) -> None:
    task, bench = choice(run, max_tokens=6), local_bench(run, chat)
    found = measured(generate, task, bench)
    for sample in found.samples:
        assert sample.prompt is not None
        ids = bench.tokenizer(sample.prompt, add_special_tokens=not chat)["input_ids"]
        written: list[int] = []
        while len(written) < 6 and (not written or written[-1] != bench.tokenizer.eos_token_id):
            with torch.inference_mode():
                written.append(int(bench.model.model(input_ids=torch.tensor([ids + written])).logits[0, -1].argmax()))
        assert sample.extra["reply"] == bench.tokenizer.decode(written, skip_special_tokens=True)
        assert sample.extra["tokens"] == len(written)


def test_a_reply_ends_at_a_stop_string_without_writing_on(run: Run) -> None:
    bench = local_bench(run)
    whole = measured(generate, choice(run, max_tokens=24), bench).samples
    stop = next(sample.extra["reply"][3] for sample in whole if len(sample.extra["reply"]) > 8)
    cut = measured(generate, choice(run, max_tokens=24, stop=(stop,)), bench).samples
    for long, short in zip(whole, cut, strict=True):
        assert short.extra["reply"] == long.extra["reply"].split(stop)[0]
        if stop in long.extra["reply"]:
            assert short.extra["finish"] == "stop"
            assert short.extra["tokens"] <= long.extra["tokens"]
    assert sum(sample.extra["tokens"] for sample in cut) < sum(sample.extra["tokens"] for sample in whole)


def test_three_normalisations_come_out_of_one_pass(run: Run) -> None:
    task, bench = choice(run), local_bench(run)
    found = measured(perplexity, task, bench)
    for item, sample in zip(task.items, found.samples, strict=True):
        assert sample.scores is not None
        for letter, option in zip(LETTERS, item.options, strict=False):
            tokens = len(bench.tokenizer(f"{sample.prompt} {option}")["input_ids"]) - len(bench.tokenizer(sample.prompt)["input_ids"])
            assert sample.extra["raw"][letter] == pytest.approx(sample.scores[letter] * tokens)
            assert sample.extra["per_byte"][letter] == pytest.approx(sample.extra["raw"][letter] / len(option.encode()))
    shares = (found.score.model_extra or {})["normalisations"]
    assert shares["per_token"] == found.score.value
    raw = [max(sample.extra["raw"], key=sample.extra["raw"].__getitem__) == sample.gold for sample in found.samples]
    assert shares["raw"] == pytest.approx(sum(raw) / len(raw))


def test_a_single_letter_for_several_right_ones_is_no_match_but_has_partial_credit(run: Run) -> None:
    task, bench = choice(run), local_bench(run)
    items = [dataclasses.replace(item, gold="ABCD", kind="multiple") for item in task.items]
    for method in (letters, perplexity):
        found = measured(method, dataclasses.replace(task, items=items), bench)
        assert found.score.value == 0.0
        assert (found.score.model_extra or {})["multiple"] == {"n": len(items), "exact_match": 0.0, "partial_credit": 0.25}


def test_a_question_without_options_is_unscored_by_perplexity(run: Run) -> None:
    task = choice(run)
    cloze = dataclasses.replace(task.items[0], options=(), kind="cloze", gold="5")
    found = measured(perplexity, dataclasses.replace(task, items=[cloze, *task.items[1:]]), local_bench(run))
    assert found.samples[0].reason is not None
    assert found.score.unscored == 1
