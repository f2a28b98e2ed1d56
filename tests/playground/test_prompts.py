from __future__ import annotations

from pathlib import Path

from modelkit.run import Run
from playground.prompts import examples
from playground.texts import EXAMPLES
from tests.playground import fake_run


def test_the_run_offers_its_own_prompts_in_the_visitors_language_first(tmp_path: Path) -> None:
    fake_run.create(tmp_path / "pocket")
    run = Run.open(tmp_path / "pocket")
    english = ["What is 0 plus 2?", "What is 3 plus 2?", "What is 6 plus 2?"]
    assert examples(run, "en")[:3] == english
    assert examples(run, "zh")[3:] == english


def test_without_a_run_or_with_a_damaged_file_our_own_are_offered(tmp_path: Path) -> None:
    assert examples(None, "zh") == EXAMPLES["zh"] + EXAMPLES["en"]
    fake_run.create(tmp_path / "pocket")
    run = Run.open(tmp_path / "pocket")
    (run.benchmark() / "prompts.jsonl").write_text('nonsense\n{"messages": 3}\n{"messages": []}\n')
    assert examples(run, "en") == EXAMPLES["en"] + EXAMPLES["zh"]
