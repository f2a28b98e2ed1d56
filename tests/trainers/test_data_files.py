"""Files of every layout give the same rows, each named by its place, and whatever is odd about a file is said."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from modelkit.errors import UserError
from trainers.data.files import BadRow, open_source

ROWS = [{"text": "one"}, {"text": "二\n2"}, {"text": "three"}]


def read(path: Path | str) -> tuple[list[Any], list[str], list[str]]:
    source = open_source(path)
    found = list(source.rows())
    return [row for _, row in found], [str(place) for place, _ in found], source.notes


def lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def layouts(folder: Path) -> dict[str, Path]:
    import pyarrow
    import pyarrow.parquet

    texts = {
        "lines.jsonl": lines(ROWS),
        "crlf.jsonl": lines(ROWS).replace("\n", "\r\n"),
        "bom.jsonl": "\ufeff" + lines(ROWS),
        "array.json": json.dumps(ROWS),
        "pretty.json": json.dumps(ROWS, indent=2, ensure_ascii=False),
        "field.json": json.dumps({"version": 1, "data": ROWS}, indent=1),
        "table.csv": 'text\none\n"二\n2"\nthree\n',
        "array.jsonl": json.dumps(ROWS),
        "lines.json": lines(ROWS),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="")
        with gzip.open(folder / f"{name}.gz", "wt", encoding="utf-8", newline="") as file:
            file.write(text)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), folder / "table.parquet")
    return {file.name: file for file in folder.iterdir()}


def test_every_layout_gives_the_same_rows(tmp_path: Path) -> None:
    for name, file in layouts(tmp_path).items():
        assert read(file)[0] == ROWS, name


def test_places_are_the_lines_an_editor_shows(tmp_path: Path) -> None:
    files = layouts(tmp_path)
    assert read(files["crlf.jsonl"])[1] == [f"{files['crlf.jsonl']}:{n}" for n in (1, 2, 3)]
    assert read(files["table.csv"])[1] == [f"{files['table.csv']}:{n}" for n in (2, 3, 5)]
    assert read(files["pretty.json"])[1] == [f"{files['pretty.json']}:{n} (row {i})" for i, n in ((1, 2), (2, 5), (3, 8))]
    assert read(files["table.parquet"])[1] == [f"{files['table.parquet']}: row {n}" for n in (1, 2, 3)]


def test_a_file_that_is_not_what_its_name_says_is_noted(tmp_path: Path) -> None:
    files = layouts(tmp_path)
    assert "holds one JSON array" in read(files["array.jsonl"])[2][0]
    assert "holds JSON Lines" in read(files["lines.json"])[2][0]
    assert "its field 'data'" in read(files["field.json"])[2][0]
    assert read(files["lines.jsonl"])[2] == []


def test_one_bad_line_costs_one_row(tmp_path: Path) -> None:
    good = b'{"text": "x"}'
    file = tmp_path / "x.jsonl"
    file.write_bytes(b"\n".join([good, b'{"text": "a\0b"}', b'{"text": "\xff"}', b"[" * 100_000, b"1" * 5000, b'{"text": ', good]))
    rows = read(file)[0]
    assert [isinstance(row, BadRow) for row in rows] == [False, True, True, True, isinstance(rows[4], BadRow), True, False]
    assert "NUL" in str(rows[1])
    assert "UTF-8" in str(rows[2])


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.json", b'[{"a": 1}\n{"a": 2}]', r"x\.json:2 is not valid JSON \(a comma is missing\)"),
        ("x.json", b'[{"a": 1},\n', r"x\.json:2 is not valid JSON"),
        ("x.json", b'[{"a": 1}', "the array is not closed"),
        ("x.json", b"[\xff]", "not UTF-8"),
        ("x.jsonl", '{"text": "a"}'.encode("utf-16"), "is UTF-16 text: save the file as UTF-8"),
        ("x.jsonl.gz", b"no gzip", "damaged or no gzip"),
        ("x.parquet", b"PAR1 nothing", "can't be read as parquet"),
        ("x.xlsx", b"PK", "no data file that can be read"),
    ],
)
def test_an_unreadable_file_gets_one_sentence(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=says):
        read(tmp_path / name)


def test_more_fields_than_the_header_is_a_bad_row(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("text\na,b\nc\n")
    rows = read(tmp_path / "x.csv")[0]
    assert isinstance(rows[0], BadRow)
    assert rows[1] == {"text": "c"}


def test_a_folder_as_the_hub_lays_it_out_is_read_split_by_split(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "README.md").write_text("about")
    for split, part in (("train", ROWS[:2]), ("test", ROWS[2:])):
        (tmp_path / f"data/{split}-00000-of-00001.jsonl").write_text(lines(part), encoding="utf-8")
    assert read(f"{tmp_path}:train")[0] == ROWS[:2]
    assert read(f"{tmp_path}:test")[0] == ROWS[2:]
    with pytest.raises(UserError, match="several splits"):
        open_source(tmp_path)
    with pytest.raises(UserError, match="no data file of a split 'dev'"):
        open_source(f"{tmp_path}:dev")


def test_a_dataset_saved_to_disk_is_read_without_the_library(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS[:2]), "test": datasets.Dataset.from_list(ROWS[2:])}).save_to_disk(
        tmp_path
    )
    assert read(f"{tmp_path}:train")[0] == read(tmp_path / "train")[0] == ROWS[:2]
    with pytest.raises(UserError, match="holds the splits train, test"):
        open_source(tmp_path)


def test_a_dataset_by_name_needs_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    with pytest.raises(UserError, match="names no dataset"):
        open_source("hf:alpaca")
    asked: list[Any] = []

    def fetch(name: str, subset: str | None, split: str) -> Any:
        asked.append((name, subset, split))
        if split == "gone":
            raise ConnectionError("Couldn't reach the Hub\nand more")
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", fetch)
    rows, places, _ = read("hf:owner/name/part:test")
    assert (rows, places[0]) == (ROWS, "hf:owner/name/part:test: row 1")
    read("hf:owner/name")
    assert asked == [("owner/name", "part", "test"), ("owner/name", None, "train")]
    with pytest.raises(UserError, match="can't be fetched .*Couldn't reach the Hub.: go online, or name the folder"):
        open_source("hf:owner/name:gone")
