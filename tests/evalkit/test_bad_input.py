"""Whatever is wrong with what the command is given: one sentence, the exit status of its kind, and nothing left behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evalkit.cli import app
from modelkit.errors import DataError, EndpointError, ModelError, UserError
from modelkit.run import Run
from tests.evalkit.served import Reply, Served, error, serve
from tests.evalkit.tiny import write_csv

ROW = ["Which?", "1", "2", "3", "4", "A"]
COMMAND, MODEL, DATA, ENDPOINT = (kind.status for kind in (UserError, ModelError, DataError, EndpointError))


@pytest.fixture
def place(tmp_path: Path, run: Run) -> Path:
    """A copy of a checkpoint and two subjects of MMLU, to spoil."""
    shutil.copytree(run.checkpoint("sft"), tmp_path / "model")
    for subject in ("anatomy", "virology"):
        write_csv(tmp_path / "data" / "dev" / f"{subject}_dev.csv", [ROW] * 5)
        write_csv(tmp_path / "data" / "test" / f"{subject}_test.csv", [ROW] * 3)
    return tmp_path


def complaint(place: Path, status: int, *arguments: object) -> str:
    """The one sentence that the command ends with."""
    before = snapshot(place)
    done = CliRunner().invoke(app, ["run", *map(str, arguments)], env={"COLUMNS": "300"})
    assert (done.exit_code, done.stdout) == (status, ""), done.output
    assert "Traceback" not in done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert line == done.stderr.splitlines()[-1]
    assert line.endswith(".")
    assert snapshot(place) == before
    return line


def snapshot(place: Path) -> dict[str, bytes]:
    return {str(file.relative_to(place)): file.read_bytes() if file.is_file() else b"" for file in place.rglob("*")}


def run_on(place: Path, **changed: object) -> list[object]:
    options = {"-m": place / "model", "-t": "mmlu", "--data": place / "data", "--shots": 1, "--out": place / "out"} | changed
    return [word for name, value in options.items() if value is not None for word in (name, value)]


def spoil(file: str, content: bytes) -> Callable[[Path], object]:
    return lambda place: (place / file).write_bytes(content)


def remove(file: str) -> Callable[[Path], object]:
    return lambda place: shutil.rmtree(place / file) if (place / file).is_dir() else (place / file).unlink()


def pickled(place: Path) -> None:
    (place / "model/model.safetensors").rename(place / "model/pytorch_model.bin")


@pytest.mark.parametrize(
    ("damage", "status", "says"),
    [
        (remove("data"), DATA, "there is no folder"),
        (remove("data/test"), DATA, "is not laid out like mmlu"),
        (remove("data/dev"), DATA, "anatomy_dev.csv"),
        (remove("data/dev/virology_dev.csv"), DATA, "virology_dev.csv"),
        (spoil("data/test/virology_test.csv", b""), DATA, "virology_test.csv is empty"),
        (spoil("data/test/virology_test.csv", b"Which?,1,2,3,4,A\nWhich?,1,2,3,A\n"), DATA, "virology_test.csv:2 has 5 columns"),
        (spoil("data/test/virology_test.csv", b'Which?,1,2,3,4,A\n"never closed,1,2,3,4,A\n'), DATA, "virology_test.csv"),
        (spoil("data/test/virology_test.csv", b"\xff\xfe\x00W"), DATA, "virology_test.csv"),
        (remove("model"), MODEL, "no checkpoint at"),
        (remove("model/config.json"), MODEL, "has no config.json"),
        (spoil("model/config.json", b"{"), MODEL, "config.json is not valid JSON"),
        (remove("model/model.safetensors"), MODEL, "has no weights"),
        (spoil("model/model.safetensors", b"\x08\0\0\0\0\0\0\0{}"), MODEL, "model.safetensors is cut off"),
        (remove("model/tokenizer.json"), MODEL, "has no tokenizer"),
        (spoil("model/tokenizer.json", b"{}"), MODEL, "tokenizer of"),
        (pickled, MODEL, "keeps its weights as a pickle (pytorch_model.bin), which can run code"),
        (spoil("out", b"a file"), COMMAND, "holds something else than a result: name another --out"),
    ],
)
def test_damaged_files_are_named(place: Path, damage: Callable[[Path], object], status: int, says: str) -> None:
    damage(place)
    assert says in complaint(place, status, *run_on(place))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"-t": "mmlu@hendriks"}, "mmlu has no protocol 'hendriks'"),
        ({"-t": "mlmu"}, "'mlmu' is no task"),
        ({"-t": ","}, "',' names nothing"),
        ({"--data": None}, "give --data DIR"),
        ({"--subjects": "anatmy"}, "has no subject 'anatmy'"),
        ({"--subjects": ","}, "',' names nothing"),
        ({"--method": "leters"}, "'leters' is no method"),
        ({"--method": ""}, "'' names nothing"),
        ({"--shots": 9}, "9 shots were asked for, but"),
        ({"--dtype": "fp8"}, "'fp8' is no dtype"),
        ({"--device": "tpu9"}, "is no device"),
        ({"--out": "/proc/nowhere/out"}, "can't be written"),
    ],
)
def test_impossible_wishes_are_named(place: Path, changed: dict[str, object], says: str) -> None:
    assert says in complaint(place, COMMAND, *run_on(place, **changed))


def test_the_nearest_name_is_proposed(place: Path) -> None:
    assert "hendrycks" in complaint(place, COMMAND, *run_on(place, **{"-t": "mmlu@hendriks"}))
    assert "anatomy" in complaint(place, COMMAND, *run_on(place, **{"--subjects": "anatmy"}))
    assert "letters" in complaint(place, COMMAND, *run_on(place, **{"--method": "leters"}))


def test_a_corrupt_task_of_ones_own_is_named(place: Path) -> None:
    own = place / "own"
    own.mkdir()
    (own / "task.yaml").write_text("name: own\nkind: text\ndata: t.jsonl\n", encoding="utf-8")
    (own / "t.jsonl").write_text('{"text": "fine"}\n{"text": "cut', encoding="utf-8")
    wanted = run_on(place, **{"-t": own, "--data": None, "--shots": None})
    assert "t.jsonl:2 is not valid JSON" in complaint(place, DATA, *wanted)
    (own / "t.jsonl").write_text('{"text": ""}\n', encoding="utf-8")
    assert "t.jsonl:1" in complaint(place, DATA, *wanted)
    (own / "t.jsonl").unlink()
    assert "no data file" in complaint(place, DATA, *wanted)


@pytest.fixture
def served(run: Run) -> Iterator[Served]:
    with serve(Served(run.checkpoint("sft"))) as server:
        yield server


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (error(401, "bad key"), "refuses the key (401) (bad key): put a valid one into the environment variable OPENAI_API_KEY"),
        (error(403, "not you"), "the server forbids this (403)"),
        (Reply(500, b"oops"), "the server failed (500)"),
        (Reply(body=b"<html>hello</html>"), "the server's reply makes no sense: no JSON"),
        (error(404, "no"), "the server knows no such path or model (404)"),
        (error(429, "quota", "insufficient_quota"), "the quota of this key is used up (429)"),
    ],
    ids=["401", "403", "500", "garbage", "404", "quota"],
)
def test_a_server_that_will_not_is_quoted(place: Path, served: Served, reply: Reply, says: str) -> None:
    served.script = lambda number, path, body: reply
    assert says in complaint(place, ENDPOINT, *run_on(place, **{"-m": "tiny", "--endpoint": served.url, "--patience": 1}))


def test_nobody_at_the_address(place: Path) -> None:
    wanted = run_on(place, **{"-m": "tiny", "--endpoint": "http://127.0.0.1:9/v1", "--patience": 1})
    assert "the connection to the server failed" in complaint(place, ENDPOINT, *wanted)


def test_a_server_without_log_probabilities_is_asked_to_generate(place: Path, served: Served) -> None:
    served.tops = 0
    says = complaint(place, ENDPOINT, *run_on(place, **{"-m": "tiny", "--endpoint": served.url}))
    assert "gives no log-probabilities, so letters can't be scored: use --method generate" in says


def test_an_endpoint_has_no_weights_for_some_tasks(place: Path, served: Served) -> None:
    own = place / "own"
    own.mkdir()
    (own / "task.yaml").write_text("name: own\nkind: text\ndata: t.jsonl\n", encoding="utf-8")
    (own / "t.jsonl").write_text(json.dumps({"text": "fine"}) + "\n", encoding="utf-8")
    wanted = run_on(place, **{"-m": "tiny", "-t": own, "--data": None, "--shots": None, "--endpoint": served.url})
    assert "weights" in complaint(place, COMMAND, *wanted)
