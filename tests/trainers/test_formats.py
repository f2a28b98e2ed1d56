"""Every format people have becomes canonical rows; every bad row is named and put aside."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from modelkit.errors import UserError
from trainers.data.formats import Kind, load

USER, REPLY = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
EARLIER = [{"role": "user", "content": "p"}, {"role": "assistant", "content": "r"}]
PAIR = {"messages": [USER], "chosen": "a", "rejected": "b"}


def said(who: str, text: str, key: str = "value") -> dict[str, str]:
    return {"from": who, key: text}


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("kind", "raw", "expected"),
    [
        ("sft", {"messages": [USER, REPLY]}, {"messages": [USER, REPLY]}),
        ("sft", {"instruction": "q", "input": "", "output": "a"}, {"messages": [USER, REPLY]}),
        ("sft", {"instruction": "q", "input": "more", "output": "a"}, {"messages": [{"role": "user", "content": "q\nmore"}, REPLY]}),
        ("sft", {"conversations": [said("human", "q"), said("gpt", "a")]}, {"messages": [USER, REPLY]}),
        ("sft", {"messages": [said("user", "q", "content"), said("assistant", "a", "content")]}, {"messages": [USER, REPLY]}),
        ("sft", {"system": "s", "instruction": "q", "output": "a"}, {"messages": [{"role": "system", "content": "s"}, USER, REPLY]}),
        ("sft", {"instruction": "q", "output": "a", "history": [["p", "r"]]}, {"messages": [*EARLIER, USER, REPLY]}),
        ("text", {"text": "t"}, {"text": "t", "prompt": "", "category": None}),
        ("prompts", {"messages": [USER, REPLY]}, {"messages": [USER], "reference": None, "category": None}),
        ("prompts", {"prompt": "q", "reference": "r"}, {"messages": [USER], "reference": "r", "category": None}),
        ("preference", {**PAIR, "source": "s"}, {**PAIR, "source": "s"}),
        (
            "preference",
            {"conversations": [said("human", "q")], "chosen": said("gpt", "a"), "rejected": said("gpt", "b")},
            {**PAIR, "source": "sharegpt"},
        ),
        (
            "preference",
            {"context": [said("user", "q", "content")], "chosen": [said("assistant", "a", "content")], "rejected": [{"content": "b"}]},
            {**PAIR, "source": "colossalchat"},
        ),
        (
            "preference",
            {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"},
            {**PAIR, "source": "hh-rlhf"},
        ),
    ],
)
def test_a_known_format_becomes_the_canonical_row(tmp_path: Path, kind: Kind, raw: dict[str, Any], expected: dict[str, Any]) -> None:
    assert load(write(tmp_path / "x.jsonl", [raw]), kind).rows == [expected]


def test_ranked_answers_give_all_ordered_pairs_of_one_ranking(tmp_path: Path) -> None:
    rows = load(write(tmp_path / "x.jsonl", [{"instruction": "q", "input": "", "output": ["best", "middle", "worst"]}]), "preference").rows
    assert [(row["chosen"], row["rejected"]) for row in rows] == [("best", "middle"), ("best", "worst"), ("middle", "worst")]
    assert len({row["ranking"] for row in rows}) == 1


def test_bad_rows_are_named_by_line_and_put_aside(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    good = json.dumps({"messages": [USER, REPLY]})
    file.write_text("\n".join([good, "{not json", "", '"text"', '{"what": 1}', json.dumps({"messages": [USER]}), good]), encoding="utf-8")
    loaded = load(file, "sft")
    assert len(loaded.rows) == 2
    assert [problem.split(": ")[0].rsplit(":", 1)[1] for problem in loaded.bad] == ["2", "4", "5", "6"]
    assert "not valid JSON" in loaded.bad[0]
    assert "its fields: what" in loaded.bad[2]


@pytest.mark.parametrize("row", [{"chosen": "a", "rejected": "a"}, {"chosen": " ", "rejected": "b"}, {"chosen": "a"}])
def test_pairs_that_teach_nothing_are_bad_rows(tmp_path: Path, row: dict[str, str]) -> None:
    good = {"messages": [USER], "chosen": "a", "rejected": "b"}
    loaded = load(write(tmp_path / "x.jsonl", [good, {"messages": [USER], **row}]), "preference")
    assert len(loaded.rows) == len(loaded.bad) == 1


def test_files_may_be_json_csv_gzip_or_text(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"text": "x"}, {"text": "y"}]))
    (tmp_path / "b.csv").write_text('text\n"x\nx"\ny\n')
    with gzip.open(tmp_path / "c.jsonl.gz", "wt") as file:
        file.write('{"text": "x"}\n')
    (tmp_path / "d.txt").write_text("x\n\ny\n")
    (tmp_path / "e.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "x"}\r\n')
    assert [len(load(tmp_path / name, "text").rows) for name in ("a.json", "b.csv", "c.jsonl.gz", "d.txt", "e.jsonl")] == [2, 2, 1, 2, 1]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "there is no data file"),
        (b"", "no usable sft row"),
        (b"[1,", "not valid JSON"),
        (b"\xff\xfe{", "UTF-8"),
        (b'{"a": 1}', "the first problem"),
    ],
)
def test_an_unusable_file_gets_one_sentence(tmp_path: Path, content: bytes | None, says: str) -> None:
    if content is not None:
        (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(UserError, match=says):
        load(tmp_path / "x.json", "sft")


def test_the_real_files_of_every_peer_load(shared: Path) -> None:
    data = shared / "data"
    expected: list[tuple[str, Kind, int]] = [
        ("stanford-alpaca/data/alpaca_5000.json", "sft", 4990),
        ("llama-factory-demo/alpaca_zh_demo.json", "sft", 900),
        ("llama-factory-demo/dpo_en_demo.json", "preference", 290),
        ("oaast-zh/oaast_rm_zh.json", "preference", 700),
        ("hh-rlhf/harmless-base/test.jsonl.gz", "preference", 2200),
    ]
    for name, kind, least in expected:
        loaded = load(data / name, kind)
        assert len(loaded.rows) >= least, (name, len(loaded.rows), loaded.bad[:3])
