"""The result of an evaluation: what it says, where it goes, and that it appears whole or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from evalkit import results
from evalkit.models.local import LocalModel
from evalkit.notes import notes
from evalkit.planning import Wanted
from evalkit.preparation import Settings
from evalkit.run import Evaluated, evaluate
from evalkit.types import Sample, TextRow
from modelkit.errors import UserError
from modelkit.fingerprint import fingerprint, sha256_of_text
from modelkit.records import Result
from modelkit.run import Run


@pytest.fixture(scope="module")
def measured(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    out = tmp_path_factory.mktemp("out") / "result"
    return evaluate(run.checkpoint("rl"), Wanted(["pocket"], shots=1), Settings(log_prompts=True, seed=4, out=out))


def lines(out: Path, task: str) -> list[dict]:
    return [json.loads(line) for line in (out / "samples" / f"{task}.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_result_says_all_that_is_needed_to_trust_and_repeat_it(run: Run, measured: Evaluated) -> None:
    assert measured.result is not None
    result = Result.read(measured.out / "results.json")
    assert result.model_dump(mode="json") == measured.result.model_dump(mode="json")
    assert (result.model.fingerprint, result.model.dtype, result.model.stage) == (fingerprint(run.checkpoint("rl")), "fp32", "rl")
    assert result.seed == 4
    assert {"torch", "transformers", "python", "threads", "device"} <= result.environment.keys()
    choice = result.tasks["pocket.choice"]
    facts = choice.model_extra or {}
    assert (choice.shots, choice.data[:7], choice.chat) == (1, "sha256:", False)
    assert (facts["protocol"], facts["bos"], facts["chance"]) == ("hendrycks", "added by the tokenizer", 0.25)
    assert set(facts["letter_tokens"]) == set("ABCD")
    assert sum(choice.shots_used.values()) == 8
    score = choice.methods["letters"]
    assert (score.official, (score.model_extra or {})["unofficial"]) == (None, ["asked with 1 shot, not 0"])
    assert score.value == score.micro
    assert score.ci95 is not None
    assert score.ci95[0] <= score.micro <= score.ci95[1]  # type: ignore[operator]
    assert score.subjects["首都"].category == "zh"
    assert score.categories["en"].n == 6
    assert result.speed.tokens_computed > 0
    assert {name: list(task.methods) for name, task in result.tasks.items() if name != "pocket.choice"} == {
        "pocket.answer": ["answer"],
        "pocket.reward": ["reward"],
        "pocket.text": ["text"],
    }
    assert (result.model_extra or {})["left_out"] == {"pocket.pairs": "it is for reward models"}


def test_samples_hold_one_line_for_each_question_and_method(measured: Evaluated) -> None:
    choice = lines(measured.out, "pocket.choice")
    assert [(line["method"], line["id"]) for line in choice[:2]] == [("perplexity", "capitals/0"), ("perplexity", "capitals/1")]
    assert len(choice) == 16
    for line in choice:
        assert line["prediction"] == max(line["scores"], key=line["scores"].get)
        assert line["correct"] == (line["prediction"] == line["gold"])
        assert line["prompt_sha256"] == sha256_of_text(line["prompt"])
        assert line["reason"] is None
    assert measured.result is not None
    letters = measured.result.tasks["pocket.choice"].methods["letters"]
    assert letters.micro == sum(line["correct"] for line in choice if line["method"] == "letters") / 8
    assert all({"reply", "named", "finish"} <= line.keys() for line in lines(measured.out, "pocket.answer"))
    assert all(len(line["rewards"]) == len(line["replies"]) == 3 for line in lines(measured.out, "pocket.reward"))
    assert measured.owed == 0


def test_some_questions_are_scored_again_alone(run: Run, measured: Evaluated, tmp_path: Path) -> None:
    assert measured.result is not None
    for score in measured.result.tasks["pocket.choice"].methods.values():
        checked = (score.model_extra or {})["verified"]
        assert checked["n"] == 1
        assert 0 <= checked["max_delta"] < 1e-4
    exact = evaluate(run.checkpoint("sft"), Wanted(["pocket.choice"]), Settings(out=tmp_path / "out", exact=True)).result
    assert exact is not None
    assert "verified" not in (exact.tasks["pocket.choice"].methods["letters"].model_extra or {})


def test_a_number_that_sharing_falsified_would_be_seen(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = LocalModel.string_logprobs

    def off(self: LocalModel, prompts, answers, on_batch, wanted=None) -> None:
        honest(self, prompts, answers, on_batch if self.exact else lambda batch, found: on_batch(batch, found - 0.5), wanted)

    monkeypatch.setattr(LocalModel, "string_logprobs", off)
    wanted = Wanted(["pocket.choice"], methods=["letters"])
    result = evaluate(run.checkpoint("sft"), wanted, Settings(out=tmp_path / "out")).result
    assert result is not None
    assert (result.tasks["pocket.choice"].methods["letters"].model_extra or {})["verified"]["max_delta"] == pytest.approx(0.5, abs=1e-4)
    assert any("1 scored again, alone and without reuse: max |Δ log p| 5.0e-01" in line for line in notes(result))


def test_the_same_command_gives_the_same_result_and_the_same_place(run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "tiny"
    shutil.copytree(run.path, copy)
    one, two = (evaluate(copy / "rl", Wanted(["pocket.answer", "pocket.reward"]), Settings()) for _ in range(2))
    assert one.out == two.out
    assert one.out.parent == copy.resolve() / "eval"
    assert one.result is not None
    assert two.result is not None
    assert one.result.tasks == two.result.tasks
    assert [folder.name for folder in (copy / "eval").iterdir()] == [one.result.id]
    other = evaluate(copy / "rl", Wanted(["pocket.answer", "pocket.reward"]), Settings(seed=1))
    assert other.out != one.out
    assert "prompt" not in lines(one.out, "pocket.answer")[0]


def test_a_result_is_called_after_model_task_and_settings(tmp_path: Path) -> None:
    name = results.result_id(str(tmp_path / "runs" / "rl"), ["mmlu", "../x/my suite"], {"a": 1})
    assert name.startswith("rl-mmlu+my_suite-")
    assert name != results.result_id(str(tmp_path / "runs" / "rl"), ["mmlu", "../x/my suite"], {"a": 2})


def test_a_folder_that_is_no_result_is_not_replaced(run: Run, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("years of work", encoding="utf-8")
    with pytest.raises(UserError, match="holds something else than a result"):
        evaluate(run.checkpoint("sft"), Wanted(["pocket.text"]), Settings(out=tmp_path / "thesis"))
    assert (tmp_path / "thesis" / "thesis.tex").exists()


def test_a_place_that_cannot_be_written_is_named_before_the_model_is_loaded(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("modelkit.checkpoint.load_model", lambda *arguments: pytest.fail("the model was loaded"))
    with pytest.raises(UserError, match="can't be written"):
        evaluate(run.checkpoint("sft"), Wanted(["pocket.text"]), Settings(out=tmp_path / "file" / "out"))


def test_nothing_is_left_when_writing_fails(measured: Evaluated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sample, "to_json", lambda *arguments: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert measured.result is not None
    with pytest.raises(OSError, match="No space"):
        results.write(tmp_path / "out", measured.result, {"t": [Sample(TextRow(text="x"), "text")]}, False)
    assert list(tmp_path.iterdir()) == []


def test_a_sample_comes_back_from_its_line() -> None:
    item = TextRow(id="a/0", subject="a", text="x")
    full = Sample(item, "letters", "A", "B", False, {"A": -1.1, "B": -0.1 / 3}, 5, prompt="Q", extra={"rewards": [0.1]})
    for sample in (full, Sample(item, "text", reason="too long")):
        assert Sample.from_json(json.loads(json.dumps(sample.to_json(prompts=True))), item) == sample
    bare = Sample.from_json(full.to_json(), item)
    assert (bare.prompt, bare.prompt_sha256) == (None, sha256_of_text("Q"))
    assert bare.to_json() == full.to_json()


def test_chat_needs_a_template(run: Run) -> None:
    with pytest.raises(UserError, match="--chat needs a chat template"):
        evaluate(run.checkpoint("base"), Wanted(["pocket.choice"]), Settings(chat=True))
