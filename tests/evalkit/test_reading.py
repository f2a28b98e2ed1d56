"""Data files: every cell stays the text it is, and complaints name file and row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evalkit.reading import Columns, read_entries, read_jsonl, sha256_of_files
from evalkit.types import AnswerRow, PairRow, PromptRow, TextRow
from modelkit.errors import UserError
from tests.evalkit.tiny import write_csv

GOOD = ["Which?", "None", "NA", "nan", "", "B"]
CHINESE = Columns("question", ("A", "B", "C", "D"), "answer")


def test_none_and_na_and_empty_cells_are_text(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [GOOD])
    (entry,) = read_entries(tmp_path / "a.csv", None)
    assert (entry.options, entry.gold) == (("None", "NA", "nan", ""), "B")


def test_cells_keep_commas_quotes_blanks_and_line_breaks(tmp_path: Path) -> None:
    text = ' A "quoted",\nline\u2028, \x0b '
    write_csv(tmp_path / "a.csv", [[text, "1", "1", "3", "4", "A"]])
    assert read_entries(tmp_path / "a.csv", None)[0].text == text


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_byte_order_mark_and_line_ends_make_no_difference(tmp_path: Path, mark: str, end: str) -> None:
    lines = ["id,question,A,B,C,D,answer", "7,问,一,二,三,四,D", ""]
    (tmp_path / "a.csv").write_bytes((mark + end.join(lines)).encode())
    (entry,) = read_entries(tmp_path / "a.csv", CHINESE)
    assert (entry.text, entry.options, entry.gold, entry.row, entry.line) == ("问", ("一", "二", "三", "四"), "D", 0, 2)
    (tmp_path / "a.jsonl").write_bytes((mark + '{"question": "问", "A": "一", "B": "二", "answer": "B"}' + end).encode())
    (entry,) = read_entries(tmp_path / "a.jsonl", CHINESE)
    assert (entry.text, entry.options, entry.gold) == ("问", ("一", "二"), "B")


def test_the_same_rows_are_read_from_every_kind_of_file(tmp_path: Path) -> None:
    import pandas

    rows = [{"q": "one", "options": ["a", "b", "c"], "gold": 2}, {"q": "two", "options": ["None", "NA"], "gold": 0}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "a.json").write_text(json.dumps(rows), encoding="utf-8")
    pandas.DataFrame(rows).to_parquet(tmp_path / "a.parquet")
    read = [read_entries(tmp_path / f"a.{kind}", Columns("q", "options", "gold")) for kind in ("jsonl", "json", "parquet")]
    told = [[(entry.text, entry.options, entry.gold, entry.row) for entry in entries] for entries in read]
    assert told[0] == told[1] == told[2] == [("one", ("a", "b", "c"), 2, 0), ("two", ("None", "NA"), 0, 1)]


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([GOOD, GOOD[:-1]], r"a\.csv:2 has 5 columns where the first row has 6"),
        ([["one column"]], r"a\.csv:1 has 1 columns"),
        ([], r"a\.csv is empty"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, rows: list[list[str]], complaint: str) -> None:
    write_csv(tmp_path / "a.csv", rows)
    with pytest.raises(UserError, match=complaint):
        read_entries(tmp_path / "a.csv", None)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [["id", "question", "A"], ["0", "q", "x"]])
    with pytest.raises(UserError, match=r"a\.csv:1 has no column 'B': it has id, question, A"):
        read_entries(tmp_path / "a.csv", CHINESE)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b'"never closed,1,2,3,4,A\n'])
def test_a_file_that_is_no_csv_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.csv"):
        read_entries(tmp_path / "a.csv", None)


def test_rows_get_ids_and_a_subject(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "a"}\n\n{"text": "b", "category": "zh", "more": 1}\n', encoding="utf-8")
    rows = read_jsonl(tmp_path / "t.jsonl", TextRow)
    assert [(row.id, row.subject, row.categories) for row in rows] == [("all/0", "all", ()), ("zh/1", "zh", ("zh",))]


@pytest.mark.parametrize(
    ("kind", "line", "complaint"),
    [
        (TextRow, "{", r"t\.jsonl:2 is not valid JSON"),
        (TextRow, '{"text": ""}', r"t\.jsonl:2: text: .*empty"),
        (PairRow, '{"messages": [{"role": "user", "content": "x"}], "chosen": "a"}', r"t\.jsonl:2: rejected"),
        (PromptRow, '{"messages": [{"role": "assistant", "content": "x"}]}', r"t\.jsonl:2: messages: .*user"),
        (PromptRow, '{"messages": []}', r"t\.jsonl:2: messages"),
        (AnswerRow, '{"messages": [{"role": "user", "content": "x"}], "reference": "a", "alternatives": "a"}', r"t\.jsonl:2: alternatives"),
        (TextRow, '["a"]', r"t\.jsonl:2"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, kind: type, line: str, complaint: str) -> None:
    (tmp_path / "t.jsonl").write_text("\n" + line + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=complaint):
        read_jsonl(tmp_path / "t.jsonl", kind)


def test_missing_and_empty_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no data file"):
        read_jsonl(tmp_path / "t.jsonl", TextRow)
    (tmp_path / "t.jsonl").touch()
    with pytest.raises(UserError, match="is empty"):
        read_jsonl(tmp_path / "t.jsonl", TextRow)


def test_the_datas_hash_depends_on_names_and_bytes_only(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for name in "ab":
            (tmp_path / folder / name).write_text(name, encoding="utf-8")
    one, two = (sha256_of_files([root / "b", root / "a"], root) for root in (tmp_path / "one", tmp_path / "two"))
    assert one == two == sha256_of_files([tmp_path / "one" / "a", tmp_path / "one" / "b"], tmp_path / "one")
    (tmp_path / "two" / "a").write_text("c", encoding="utf-8")
    assert sha256_of_files([tmp_path / "two" / "a", tmp_path / "two" / "b"], tmp_path / "two") != one
