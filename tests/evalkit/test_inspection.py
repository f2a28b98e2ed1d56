"""`evalkit inspect`: what is shown is what the methods ask, token by token."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from evalkit.encoding import Encoder
from evalkit.inspection import inspect, visible
from evalkit.planning import Candidate, Wanted, plan
from evalkit.tasks.mmlu import HENDRYCKS
from evalkit.types import ChoiceTask
from modelkit.run import Run
from tests.evalkit.answered import questions
from tests.evalkit.command import assert_one_sentence, evalkit
from tests.evalkit.tiny import tiny_tokenizer


def task(shots: int = 2, methods: tuple[str, ...] = ("letters",)) -> ChoiceTask:
    dev = {"us_history": questions("us_history", "BD")}
    return ChoiceTask("mmlu@hendrycks", "sha256:0", questions("us_history", "AC"), HENDRYCKS, dev, shots, methods)


def test_white_space_is_seen() -> None:
    assert visible("a b\n\tc\u3000") == "a·b⏎\n→c□"


def test_the_prompt_is_the_protocols_and_its_ids_are_what_is_scored() -> None:
    tokenizer = tiny_tokenizer()
    first, second = inspect(task(), tokenizer, 2048)
    assert first.text.startswith("The following are multiple choice questions (with answers) about  us history.\n\nus_history question 0?")
    assert first.text.count("Answer:") == 3
    assert first.ids == tokenizer(first.text)["input_ids"]
    assert first.answers == {
        f" {letter}": ids for letter, ids in zip("ABCD", Encoder(tokenizer).answer_tokens(first.text, " ", "ABCD"), strict=True)
    }
    assert first.facts["shots"] == "2 of 2"
    assert first.facts["beginning of sequence:"] == "added by the tokenizer"
    assert second.item.id == "us_history/1"


def test_shots_that_do_not_fit_are_missing_here_too() -> None:
    tokenizer = tiny_tokenizer()
    whole = len(inspect(task(), tokenizer, None)[0].ids)
    (one, _) = inspect(task(), tokenizer, whole - 1)
    assert one.facts["shots"] == "1 of 2"
    (none, _) = inspect(task(), tokenizer, 20)
    assert none.reason is not None
    assert "even without shots" in none.reason


def test_perplexity_shows_each_option_with_its_own_tokens() -> None:
    (one, *_) = inspect(task(methods=("perplexity",)), tiny_tokenizer(), None)
    assert one.text.endswith("Question: us_history question 0?\nAnswer:")
    assert list(one.answers) == [" red", " green", " blue", " gold"]
    assert tiny_tokenizer().decode(one.answers[" gold"]) == " gold"


def test_a_chat_is_rendered_by_the_template() -> None:
    tokenizer = tiny_tokenizer()
    (one, _) = inspect(task(), tokenizer, None, chat=True)
    assert "User: The following" in one.text
    assert one.facts["beginning of sequence:"] == "by the chat template"


def test_the_command_loads_no_weights_and_asks_what_run_asks(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelkit.checkpoint.load_model", lambda *arguments: pytest.fail("the model was loaded"))
    done = evalkit("inspect", "pocket", "-m", run.checkpoint("sft"), "-n", 1)
    assert done.exit_code == 0, done.stderr
    for text in (
        "pocket.choice · letters · capitals/0",
        "pocket.choice · perplexity",
        "pocket.answer",
        "pocket.text",
        "Answer:",
        "first 0=<s>",
    ):
        assert text in done.stdout, text


def test_mistakes_get_one_sentence(run: Run, tmp_path: Path) -> None:
    assert_one_sentence(evalkit("inspect", "pocket.choice", "-m", run.checkpoint("base"), "--chat"), "--chat needs a chat template")
    assert_one_sentence(evalkit("inspect", "nothing", "-m", run.checkpoint("base")), "'nothing' is no task")
    assert_one_sentence(evalkit("inspect", "pocket.choice", "-m", tmp_path / "no"), "there is no checkpoint", status=3)


def test_a_real_benchmark_is_shown_with_a_real_tokenizer(shared: Path) -> None:
    path = shared / "data" / "stories260k"
    planned = plan(Wanted(["mmlu"], shared / "data", shots=0, subjects=["anatomy"], limit=1), Candidate(path, False, False, None))
    (one,) = inspect(planned.tasks[0], AutoTokenizer.from_pretrained(path), 512)
    assert "about  anatomy.\n\n" in one.text
    assert set(one.answers) == {" A", " B", " C", " D"}
