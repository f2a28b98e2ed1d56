"""Nothing measured is lost: cut journals, kills and shared work end in the very bytes of an evaluation that never stopped."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from evalkit import journal
from evalkit.division import Share, dealt, share_of_environment, units
from evalkit.journal import Journal
from evalkit.methods import letters, text
from evalkit.planning import Wanted
from evalkit.preparation import Settings
from evalkit.run import Evaluated, evaluate
from evalkit.types import Question, Sample, TextRow
from modelkit.errors import UserError
from modelkit.records import Result
from modelkit.run import Run
from tests.evalkit.tiny import write_csv, write_jsonl

ROOT = Path(__file__).parents[2]
WORDS = ["Paris", "Rome", "Oslo", "Bern", "Wien", "Riga", "Kyiv", "Baku"]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums are split by thread, so only equal numbers of threads give equal bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLAYGROUND_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three subjects of fifty questions, so that there are several units and batches, and a few texts."""
    folder, draw = tmp_path_factory.mktemp("suite"), random.Random(0)
    for subject in ("cities", "rivers", "months"):
        rows = [[f"{subject} {i} " + "very " * draw.randrange(9) + "near?", *draw.sample(WORDS, 4), draw.choice("ABCD")] for i in range(50)]
        write_csv(folder / f"q/test/{subject}_test.csv", rows)
        write_csv(folder / f"q/dev/{subject}_dev.csv", rows[:2])
    write_jsonl(folder / "text.jsonl", [{"text": " ".join(draw.choices(WORDS, k=40)), "category": "en"} for _ in range(5)])
    tasks = "tasks:\n  q: {kind: choice, data: q, shots: 1, methods: [letters, perplexity]}\n  t: {kind: text, data: text.jsonl}\n"
    (folder / "task.yaml").write_text("name: own\n" + tasks, encoding="utf-8")
    return folder


def measure(run: Run, suite: Path, out: Path, said: list[str] | None = None, **settings) -> Evaluated:
    return evaluate(
        run.checkpoint("sft"),
        Wanted([str(suite)]),
        Settings(out=out, batch_tokens=1500, **settings),
        said.append if said is not None else lambda line: None,
    )


def samples(out: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((out / "samples").iterdir())}


@pytest.fixture(scope="module")
def whole(run: Run, suite: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], str, bytes]:
    """An evaluation that never stopped: its samples, and the name and content of the journal it had."""
    out = tmp_path_factory.mktemp("whole") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "remove", lambda out, digest: None)
        measure(run, suite, out)
    (file,) = journal.folder_of(out).glob("*.jsonl")
    return samples(out), file.name, file.read_bytes()


@pytest.mark.parametrize("seed", range(5))
def test_a_journal_cut_anywhere_ends_in_the_same_bytes(
    run: Run, suite: Path, whole: tuple[dict[str, bytes], str, bytes], tmp_path: Path, seed: int
) -> None:
    expected, name, content = whole
    cut = random.Random(seed).randrange(len(content)) if seed else 0
    journal.folder_of(tmp_path / "out").mkdir()
    (journal.folder_of(tmp_path / "out") / name).write_bytes(content[:cut])
    done = measure(run, suite, tmp_path / "out")
    assert samples(tmp_path / "out") == expected
    assert done.result is not None
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_damaged_line_and_all_behind_it_are_measured_again(
    run: Run, suite: Path, whole: tuple[dict[str, bytes], str, bytes], tmp_path: Path
) -> None:
    expected, name, content = whole
    lines = content.split(b"\n")
    lines[9] = lines[9][:20] + b"\xff" + lines[9][25:]
    journal.folder_of(tmp_path / "out").mkdir()
    (journal.folder_of(tmp_path / "out") / name).write_bytes(b"\n".join(lines))
    said: list[str] = []
    measure(run, suite, tmp_path / "out", said)
    assert samples(tmp_path / "out") == expected
    assert any("is damaged after byte" in line for line in said)
    assert any(line.startswith("going on: ") for line in said)


def test_what_is_journalled_is_not_computed_again(
    run: Run, suite: Path, whole: tuple[dict[str, bytes], str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, name, content = whole
    journal.folder_of(tmp_path / "out").mkdir()
    (journal.folder_of(tmp_path / "out") / name).write_bytes(content)
    monkeypatch.setattr("evalkit.models.local.load", lambda *arguments: pytest.fail("the model was loaded"))
    done = measure(run, suite, tmp_path / "out")
    assert done.result is not None
    assert done.result.speed.seconds > 0
    assert measure(run, suite, tmp_path / "out").result == done.result


def test_a_journal_of_another_evaluation_is_kept_and_not_used(
    run: Run, suite: Path, whole: tuple[dict[str, bytes], str, bytes], tmp_path: Path
) -> None:
    _, name, content = whole
    said: list[str] = []
    file = journal.folder_of(tmp_path / "out") / name
    file.parent.mkdir()
    file.write_bytes(content)
    measure(run, suite, tmp_path / "out", said, seed=1, dtype="bf16")
    assert file.read_bytes() == content
    (line,) = (line for line in said if "another evaluation" in line)
    assert "differs in dtype and seed: kept, but not used" in line
    result = Result.read(tmp_path / "out" / "results.json")
    assert (result.model.dtype, result.seed) == ("bf16", 1)


def test_changed_weights_and_changed_questions_are_another_evaluation(run: Run, suite: Path, tmp_path: Path) -> None:
    from evalkit.preparation import prepare

    def digest(stage: str, folder: Path) -> str:
        return prepare(run.checkpoint(stage), Wanted([str(folder)]), Settings(out=tmp_path / "out"), lambda line: None).digest

    other = tmp_path / "suite"
    subprocess.run(["cp", "-r", suite, other], check=True)
    assert digest("sft", other) == digest("sft", suite)
    assert digest("rl", suite) != digest("sft", suite)
    file = other / "q/test/cities_test.csv"
    file.write_text(file.read_text(encoding="utf-8").replace("near", "far", 1), encoding="utf-8")
    assert digest("sft", other) != digest("sft", suite)
    subprocess.run(["cp", suite / "q/test/cities_test.csv", file], check=True)
    yaml = other / "task.yaml"
    yaml.write_text(yaml.read_text(encoding="utf-8").replace("shots: 1", "shots: 1, header: 'Now {subject}: '"), encoding="utf-8")
    assert digest("sft", other) != digest("sft", suite)


def test_two_processes_cannot_write_the_same_journal(tmp_path: Path) -> None:
    with Journal(tmp_path / "out", {"model": "a"}, Share()), pytest.raises(UserError, match="another process is writing"):
        Journal(tmp_path / "out", {"model": "a"}, Share())
    with Journal(tmp_path / "out", {"model": "a"}, Share()), Journal(tmp_path / "out", {"model": "a"}, Share(1, 2)):
        pass


def test_an_interrupted_batch_is_the_only_loss(run: Run, suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = 0
    keep = Journal.samples

    def three_batches(self: Journal, *arguments) -> None:
        nonlocal batches
        batches += 1
        if batches == 4:
            raise KeyboardInterrupt
        keep(self, *arguments)

    monkeypatch.setattr(Journal, "samples", three_batches)
    with pytest.raises(KeyboardInterrupt):
        measure(run, suite, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (file,) = journal.folder_of(tmp_path / "out").glob("*.jsonl")
    assert sum("meter" in json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()) == 3


def rank(monkeypatch: pytest.MonkeyPatch, rank: int, world: int) -> None:
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", str(world))


def test_ranks_one_of_them_run_again_end_in_the_bytes_of_one_process(
    run: Run, suite: Path, whole: tuple[dict[str, bytes], str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _, _ = whole
    out = tmp_path / "out"
    rank(monkeypatch, 1, 2)
    first = measure(run, suite, out)
    assert first.result is None
    assert first.owed > 0
    (file,) = journal.folder_of(out).glob("*.1-of-2.jsonl")
    file.write_bytes(file.read_bytes()[:-1500])
    rank(monkeypatch, 0, 2)
    second = measure(run, suite, out)
    assert second.result is None
    assert second.owed < first.owed
    rank(monkeypatch, 1, 2)
    third = measure(run, suite, out)
    assert samples(out) == expected
    assert third.result is not None
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    rank(monkeypatch, 0, 2)
    assert measure(run, suite, out).result == third.result


def test_one_process_finishes_what_ranks_have_left(
    run: Run, suite: Path, whole: tuple[dict[str, bytes], str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rank(monkeypatch, 2, 3)
    assert measure(run, suite, tmp_path / "out").owed
    rank(monkeypatch, 0, 1)
    assert measure(run, suite, tmp_path / "out").result is not None
    assert samples(tmp_path / "out") == whole[0]


@pytest.mark.parametrize(("number", "world"), [("2", "2"), ("-1", "2"), ("x", "1")])
def test_ranks_that_make_no_sense_are_refused(monkeypatch: pytest.MonkeyPatch, number: str, world: str) -> None:
    monkeypatch.setenv("RANK", number)
    monkeypatch.setenv("WORLD_SIZE", world)
    with pytest.raises(UserError, match="make no sense"):
        share_of_environment()


def question(subject: str, row: int, part: int = 0, parts: int = 1) -> Question:
    return Question(f"{subject}/{row}.{part}", subject, (), "x" * (row % 7), ("a", "b"), "A", part=part, parts=parts)


def test_units_are_whole_subjects_and_hold_every_item_once() -> None:
    items = [question(subject, row) for subject, count in [("law", 700), ("art", 3), ("tea", 20), ("sea", 100)] for row in range(count)]
    made = units(items)
    assert [item for unit in made for item in unit] == items
    assert [len(unit) for unit in made] == [233, 233, 234, 23, 100]
    assert {item.subject for item in made[3]} == {"art", "tea"}


def test_questions_of_one_prompt_stay_in_one_unit() -> None:
    items = [question("cloze", row, part, 20) for row in range(30) for part in range(20)]
    for unit in units(items):
        assert unit[0].part == 0  # type: ignore[union-attr]


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_every_unit_is_dealt_to_exactly_one_process_and_loads_balance(world: int) -> None:
    items = [question(f"s{subject}", row) for subject in range(20) for row in range(80)]
    parts = units(items)
    shares = [dealt(parts, Share(number, world)) for number in range(world)]
    assert sorted(unit[0].id for share in shares for unit in share) == sorted(unit[0].id for unit in parts)
    loads = [sum(len(unit) for unit in share) for share in shares]
    assert max(loads) - min(loads) <= 80


SIGNALLED = """
import os, signal
sync, left = os.fsync, [int(os.environ["AFTER"])]
def counted(descriptor):
    left[0] -= 1
    if left[0] == 0:
        os.SENT
    sync(descriptor)
if os.environ.get("RANK", "0") == os.environ["VICTIM"]:
    os.fsync = counted
"""
KILL = SIGNALLED.replace("SENT", "kill(os.getpid(), signal.SIGKILL)")
CTRL_C = SIGNALLED.replace("SENT", "killpg(os.getpgrp(), signal.SIGINT)")
"""What a process does when it has written so often to its journal: it dies, or somebody presses Ctrl-C in its terminal."""


def command(
    run: Run, suite: Path, out: Path, *more: str, launcher: Sequence[str] = (), accident: str = "", after: int = 0, victim: int = 0
) -> subprocess.CompletedProcess[str]:
    """``evalkit run`` as a program; *accident* happens to the process of rank *victim*, *after* so many writes."""
    words = ["run", "-m", run.checkpoint("sft"), "-t", suite, "--batch-tokens", "1500", "--out", out, *more]
    start = out.with_name("start")
    start.mkdir(exist_ok=True)
    (start / "sitecustomize.py").write_text(accident, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": f"{start}{os.pathsep}{ROOT}", "AFTER": str(after), "VICTIM": str(victim)}
    whole = [sys.executable, *(launcher or ["-m"]), "evalkit", *map(str, words)]
    return subprocess.run(whole, env=environment, capture_output=True, text=True, check=False, start_new_session=True)


def test_a_command_killed_again_and_again_ends_in_the_same_bytes(
    run: Run, suite: Path, whole: tuple[dict[str, bytes], str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for after in (4, 9):
        assert command(run, suite, out, accident=KILL, after=after).returncode == -signal.SIGKILL
        assert not out.exists()
    done = command(run, suite, out)
    assert done.returncode == 0, done.stderr
    assert "going on: " in done.stderr
    assert samples(out) == whole[0]


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_is_one_sentence_and_keeps_the_journals(
    run: Run, suite: Path, whole: tuple[dict[str, bytes], str, bytes], tmp_path: Path, workers: int
) -> None:
    out = tmp_path / "out"
    done = command(run, suite, out, "--workers", str(workers), accident=CTRL_C, after=4)
    assert done.returncode == 128 + signal.SIGINT, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == "stopped: what has been measured is kept, and the same command goes on from there."
    assert not out.exists()
    assert list(journal.folder_of(out).glob("*.jsonl"))
    again = command(run, suite, out, "--workers", str(workers))
    assert again.returncode == 0, again.stderr
    assert samples(out) == whole[0]


def test_a_killed_worker_is_named_and_only_its_work_is_left(
    run: Run, suite: Path, whole: tuple[dict[str, bytes], str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = command(run, suite, out, "--workers", "2", accident=KILL, after=4, victim=1)
    assert done.returncode == 1, done.stderr
    assert "worker 1 of 2 was killed by SIGKILL; the others go on." in done.stderr
    assert done.stderr.splitlines()[-1] == (
        "error: 1 of 2 workers did not finish: worker 1 was killed by SIGKILL; what was measured is kept, and the same command goes on "
        "from there."
    )
    assert not out.exists()
    journals = sorted(file.name.partition(".")[2] for file in journal.folder_of(out).glob("*.jsonl"))
    assert journals == ["0-of-2.jsonl", "1-of-2.jsonl"]
    again = command(run, suite, out, "--workers", "2")
    assert again.returncode == 0, again.stderr
    assert samples(out) == whole[0]


def test_workers_end_in_the_bytes_of_one_process(run: Run, suite: Path, whole: tuple[dict[str, bytes], str, bytes], tmp_path: Path) -> None:
    done = command(run, suite, tmp_path / "out", "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert samples(tmp_path / "out") == whole[0]
    assert "own.q" in done.stdout


def test_torchruns_ranks_end_in_the_bytes_of_one_process(
    run: Run, suite: Path, whole: tuple[dict[str, bytes], str, bytes], tmp_path: Path
) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    done = command(run, suite, tmp_path / "out", launcher=launcher)
    assert done.returncode == 0, done.stderr
    assert samples(tmp_path / "out") == whole[0]
    assert not journal.folder_of(tmp_path / "out").exists()
    assert done.stdout.count("questions/s") == 1, "only the rank that finds all journals finished tells the result"


def test_samples_of_methods_are_kept_apart(tmp_path: Path) -> None:
    item = TextRow(id="a/0", subject="a", text="x")
    with Journal(tmp_path / "out", {"model": "a"}, Share()) as own:
        for module in (letters, text):
            own.samples("t", [Sample(item, module.__name__.rpartition(".")[2])], False, {"seconds": 1.0})
    from evalkit.identity import digest

    entries = journal.read(tmp_path / "out", digest({"model": "a"}))
    assert set(entries.samples) == {("t", "letters"), ("t", "text")}
    assert entries.count() == journal.count(tmp_path / "out", digest({"model": "a"})) == 2
