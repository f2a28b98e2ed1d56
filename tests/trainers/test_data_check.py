"""``trainers data``: what is said of a file is true of it, and converting it loses nothing unsaid."""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from modelkit.chat import encode_chat, verify_template
from modelkit.errors import UserError
from modelkit.run import Run, RunInfo
from tests.trainers.conftest import World
from trainers.cli import app
from trainers.data import dataset
from trainers.data.check import check, histogram
from trainers.data.dataset import Counts
from trainers.data.formats import load
from trainers.job import Job
from trainers.log import Progress
from trainers.recipe import Mixture
from trainers.strategies.plain import Single

REWRITING = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>"
    "{{ message['content'] if message['role'] == 'user' or loop.last else message['content'].split('~')[-1] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""Drops what stands before ``~`` from all replies but the last, as reasoning models' templates do."""


def conversation(*turns: str) -> dict[str, Any]:
    return {"messages": [{"role": ("user", "assistant")[i % 2], "content": turn} for i, turn in enumerate(turns)]}


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def said(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["data", *map(str, arguments)], env={"COLUMNS": "160"})
    return result.exit_code, result.output


def test_a_file_is_taken_for_the_most_specific_kind_most_rows_serve_as(tmp_path: Path) -> None:
    pair = {"prompt": "q", "chosen": "a", "rejected": "b"}
    rows: dict[str, list[Any]] = {
        "preference": [pair, pair, {"prompt": "only"}],
        "unpaired": [{"prompt": "q", "completion": "a", "label": True}],
        "sft": [conversation("q", "a"), pair, {"instruction": "q", "output": "a"}],
        "text": [{"text": "t"}],
        "prompts": [{"instruction": "q"}],
    }
    found = {kind: check(write(tmp_path / f"{kind}.jsonl", lines)).kind for kind, lines in rows.items()}
    assert found == {kind: kind for kind in rows}
    assert check(tmp_path / "preference.jsonl", kind="prompts").kind == "prompts"


def test_counts_duplicates_and_lengths_are_those_of_the_rows(world: World, tmp_path: Path) -> None:
    rows = [conversation("a?", "b."), conversation("a?", "b."), conversation("a?", "c."), {"messages": []}]
    file = write(tmp_path / "x.jsonl", rows)
    report = check(file, tokenizer=world.tokenizer)
    assert (report.raw, len(report.loaded.rows), len(report.loaded.bad)) == (4, 3, 1)
    assert (report.duplicates, report.repeated_prompts) == (1, 1)
    assert report.lengths == [len(encode_chat(world.tokenizer, row["messages"]).ids) for row in rows[:3]]
    assert report.fitting(max(report.lengths)) == 1
    assert report.fitting(0) == 0


def test_the_preview_shows_the_trained_tokens_apart(world: World, tmp_path: Path) -> None:
    report = check(write(tmp_path / "x.jsonl", [conversation("one?", "two.", "three?", "four.")]), tokenizer=world.tokenizer)
    (passages,) = report.preview
    assert [passage.trained for passage in passages] == [False, True, False, True]
    assert [passage.text for passage in passages if passage.trained] == ["two.</s>", "four.</s>"]


@given(st.lists(st.integers(1, 100_000), min_size=1, max_size=50))
def test_every_length_is_in_one_bin_of_the_histogram(lengths: list[int]) -> None:
    bins = histogram(lengths)
    assert sum(count for _, _, count in bins) == len(lengths)
    assert all(high == following for (_, high, _), (following, _, _) in itertools.pairwise(bins))


def test_check_prints_what_it_found(world: World, tmp_path: Path) -> None:
    world.tokenizer.save_pretrained(tmp_path / "model")
    file = tmp_path / "x.json"
    file.write_text('{"instruction": "q", "output": "a"}\n{bad\n')
    status, output = said("check", file, "-m", tmp_path / "model")
    assert status == 0
    for part in (
        "sft, from alpaca (1)",
        "2 read → 1 usable, 1 bad",
        f"{file}:2: not valid JSON",
        "rows that fit",
        "holds JSON Lines",
        "⟦…⟧: the loss looks at these tokens",
        "⟦a</s>⟧",
    ):
        assert part in output, output


def test_convert_writes_canonical_rows_and_puts_bad_ones_aside(tmp_path: Path) -> None:
    file = write(tmp_path / "x.jsonl", [{"question": "q", "answer": "a"}, {"question": "q"}])
    out = tmp_path / "out.jsonl"
    status, output = said("convert", file, out, "--to", "sft", "--columns", "prompt=question")
    assert status == 0, output
    assert load(out, "sft").rows == [conversation("q", "a")]
    (bad,) = (tmp_path / "out.bad_rows.jsonl").read_text().splitlines()
    assert json.loads(bad)["line"] == 2
    assert said("convert", file, out, "--to", "sft")[0] == 4, "what is there already stays"


@pytest.mark.parametrize("kind", ["sft", "preference", "prompts", "unpaired"])
def test_canonical_rows_are_read_back_as_they_are(tmp_path: Path, kind: Any) -> None:
    file = write(tmp_path / "x.jsonl", [{"prompt": "q", "chosen": "a", "rejected": "b", "reference": "r"}])
    rows = load(file, kind).rows
    assert load(write(tmp_path / "y.jsonl", rows), kind).rows == rows


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["check", "gone.jsonl"], 4, "there is no data file"),
        (["check", "x.jsonl", "--strict"], 4, "x.jsonl:2"),
        (["check", "x.jsonl", "--columns", "prompt"], 2, "OURS=THEIRS"),
        (["check", "x.jsonl", "--columns", "promt=q"], 2, "did you mean 'prompt'"),
        (["check", "x.jsonl", "--as", "text"], 4, "no usable row of kind text"),
        (["convert", "x.jsonl", "y.csv", "--to", "sft"], 4, "let its name end in .jsonl"),
    ],
)
def test_what_can_not_be_done_is_said_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], status: int, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "x.jsonl", [conversation("q", "a"), {"what": 1}])
    result = CliRunner().invoke(app, ["data", *arguments])
    assert result.exit_code == status
    assert says in result.output
    assert "Traceback" not in result.output


def test_strict_reading_stops_a_mixture_and_otherwise_rows_are_counted(tmp_path: Path) -> None:
    write(tmp_path / "x.jsonl", [conversation("q", "a"), {"what": 1}])
    write(tmp_path / "y.jsonl", [{"question": "q", "output": "a"}])
    mixture = [Mixture(path="x.jsonl", weight=0.5), Mixture(path="y.jsonl", columns={"instruction": "question"}, start=0.25)]
    counts = Counts()
    rows = dataset.read(mixture, tmp_path, "sft", counts)
    places = [f"{tmp_path / 'x.jsonl'}:1", f"{tmp_path / 'y.jsonl'}:1"]
    expected = [{"weight": 0.5, "place": places[0]}, {"start": 0.25, "place": places[1]}]
    assert rows == [{**conversation("q", "a"), **carried} for carried in expected]
    assert (counts.rows, counts.bad, str(counts.first_problem)) == (3, 1, str(counts.problems[0]))
    assert [json.loads(line)["line"] for line in counts.bad_rows().splitlines()] == [2]
    with pytest.raises(UserError, match=r"x.jsonl:2"):
        dataset.read(mixture, tmp_path, "sft", Counts(), strict=True)


def test_a_template_that_rewrites_history_is_learnt_turn_by_turn(world: World) -> None:
    tokenizer = copy.deepcopy(world.tokenizer)
    tokenizer.chat_template = REWRITING
    verify_template(tokenizer)
    rows = [conversation("a", "why~b", "c", "so~d"), conversation("e", "f")]
    counts = Counts()
    examples = dataset.chat_examples(rows, tokenizer, 128, counts)
    learnt = [tokenizer.decode([t for t, flag in zip(one.ids, one.labelled, strict=True) if flag]) for one in examples]
    assert learnt == ["why~b</s>", "so~d</s>", "f</s>"]
    assert "why" not in tokenizer.decode(examples[1].ids), "the second answer is learnt behind what a model sees"
    assert (counts.used, counts.divided, counts.dropped) == (2, 1, 0)


def test_rows_whose_answer_was_cut_off_are_dropped_and_counted(world: World) -> None:
    counts = Counts()
    rows = [conversation("what " * 60, "x"), conversation("a", "b " * 60), conversation("a", "b")]
    examples = dataset.chat_examples(rows, world.tokenizer, 30, counts)
    assert (len(examples), counts.used, counts.dropped, counts.truncated) == (2, 2, 1, 1)
    assert all(any(one.labelled) for one in examples)
    with pytest.raises(UserError, match="no conversation fits"):
        dataset.chat_examples(rows[:1], world.tokenizer, 30, Counts())


def test_a_stages_bad_rows_are_kept_in_the_run_each_once(world: World, tmp_path: Path) -> None:
    write(tmp_path / "x.jsonl", [conversation("q", "a"), {"what": 1}, {"what": 2}])
    run = Run(tmp_path / "run", RunInfo(name="x", recipe="x", languages=["en"], seed=0, stages=[]))
    job = Job(run, "sft", tmp_path, 0, "", world.tokenizer, Single(), Progress(tmp_path, ["sft"], {"sft": 1.0}))
    for _ in range(2):
        assert len(job.rows([Mixture(path="x.jsonl")], "sft", Counts())) == 1
    assert [json.loads(line)["line"] for line in (tmp_path / "run/bad_rows.jsonl").read_text().splitlines()] == [2, 3]
