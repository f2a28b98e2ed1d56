"""Every format people have becomes canonical rows; every bad row is named and put aside."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from modelkit.errors import UserError
from trainers.data.files import open_source
from trainers.data.formats import Kind, convert, load

REAL: dict[str, dict[Kind, tuple[str, int, int]]] = {
    "stanford-alpaca/data/alpaca_5000.json": {"sft": ("alpaca", 4998, 2), "prompts": ("alpaca", 5000, 0)},
    "stanford-alpaca/seed_tasks.jsonl": {"sft": ("self-instruct", 175, 0), "prompts": ("instruction-wild", 175, 0)},
    "llama-factory-demo/alpaca_en_demo.json": {"sft": ("alpaca", 999, 0)},
    "llama-factory-demo/alpaca_zh_demo.json": {"sft": ("alpaca", 1000, 0)},
    "llama-factory-demo/identity.json": {"sft": ("alpaca", 91, 0)},
    "llama-factory-demo/dpo_en_demo.json": {"preference": ("sharegpt", 300, 0), "sft": ("sharegpt", 300, 0)},
    "llama-factory-demo/dpo_zh_demo.json": {"preference": ("sharegpt", 300, 0), "unpaired": ("sharegpt", 600, 0)},
    "llama-factory-demo/kto_en_demo.json": {"unpaired": ("kto", 300, 0), "sft": ("messages", 150, 150), "prompts": ("messages", 300, 0)},
    "oaast-zh/oaast_sft_zh.json": {"sft": ("alpaca", 689, 0)},
    "oaast-zh/oaast_rm_zh.json": {"preference": ("ranked", 1798, 3), "sft": ("alpaca", 775, 0), "unpaired": ("ranked", 1544, 3)},
    "hh-rlhf/harmless-base/test.jsonl.gz": {"preference": ("hh-rlhf", 2299, 13), "prompts": ("hh-rlhf", 2300, 12)},
    "instruction-wild/data/seed_prompts_ch.jsonl": {"prompts": ("instruction-wild", 429, 0)},
    "instruction-wild/data/seed_prompts_en.jsonl": {"prompts": ("instruction-wild", 429, 0)},
    "instruction-wild/data_v2/user_1.jsonl": {"prompts": ("instruction-wild", 429, 0), "sft": ("", 0, 429)},
    "instruction-wild/data_v2/user_2.jsonl": {"prompts": ("instruction-wild", 246, 2)},
    "instruction-wild/data_v2/user_3.jsonl": {"prompts": ("instruction-wild", 198, 3)},
    "fastchat-judge/data/mt_bench/question.jsonl": {"prompts": ("fastchat", 80, 0)},
    "fastchat-judge/data/vicuna_bench/question.jsonl": {"prompts": ("fastchat", 80, 0)},
    "fastchat-judge/data/judge_prompts.jsonl": {"prompts": ("", 0, 8)},
    "colossaleval-gpt-eval/gpt_evaluation/data/eval_cn_examples.json": {"prompts": ("alpaca", 25, 0)},
    "colossaleval-gpt-eval/gpt_evaluation/data/eval_en_examples.json": {"prompts": ("alpaca", 25, 0)},
    "wikitext-2/wikitext-2/valid.txt": {"text": ("text", 2461, 0)},
    "wikitext-2/wikitext-2/test.txt": {"text": ("text", 2891, 0)},
    "hongloumeng/input.txt": {"text": ("text", 3150, 0)},
}

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
        ("text", {"source": "s", "target": "t", "category": "c"}, {"text": "t", "prompt": "s", "category": "c"}),
        ("prompts", {"messages": [said("user", "q", "content")], "gt_answer": 4}, {"messages": [USER], "reference": "4", "category": None}),
        (
            "unpaired",
            {"prompt": [said("user", "q", "content")], "completion": said("assistant", "a", "content"), "label": False},
            {"messages": [USER], "reply": "a", "desirable": False, "source": "kto"},
        ),
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
    assert [problem.place.line for problem in loaded.bad] == [2, 4, 5, 6]
    assert str(loaded.bad[0]).startswith(f"{file}:2: not valid JSON")
    assert "its fields: what" in loaded.bad[2].reason
    assert json.loads(loaded.bad[2].line())["content"] == {"what": 1}
    with pytest.raises(UserError, match=r"x\.jsonl:2: not valid JSON"):
        load(file, "sft", strict=True)


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


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"messages": [USER, {"role": "robot", "content": "a"}]}, "role 'robot'"),
        ({"messages": [USER, {"role": "assistant", "content": " "}]}, "an empty turn"),
        ({"messages": [USER, USER, REPLY]}, "don't alternate"),
        ({"messages": [REPLY]}, "starts with the assistant"),
        ({"messages": [USER, {"role": "system", "content": "s"}, REPLY]}, "don't alternate"),
        ({"messages": []}, "empty"),
        ({"messages": "q"}, "empty"),
        ({"messages": [USER, {"role": "assistant", "content": "a\0"}]}, "NUL"),
        ({"messages": [USER, {"role": "assistant", "content": "\ud83d"}]}, "surrogate"),
        ({"instruction": "q", "output": "a", "history": ["p"]}, "history"),
        ({"messages": [USER, REPLY], "label": False}, "undesirable"),
    ],
)
def test_a_conversation_that_can_not_be_learnt_says_why(tmp_path: Path, row: dict[str, Any], says: str) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text("\n".join(json.dumps(one) for one in ({"messages": [USER, REPLY]}, row)), encoding="utf-8")
    (problem,) = load(file, "sft").bad
    assert says in problem.reason
    assert problem.place.line == 2


@pytest.mark.parametrize(
    ("raw", "replies"),
    [
        ({"messages": [USER, REPLY], "label": True}, [("a", True)]),
        ({"prompt": "q", "completion": "a", "label": "undesirable"}, [("a", False)]),
        ({"instruction": "q", "output": "a", "kto_tag": 0}, [("a", False)]),
        ({"messages": [USER], "reply": "a", "desirable": True, "source": "s"}, [("a", True)]),
        (PAIR, [("a", True), ("b", False)]),
        ({"instruction": "q", "output": ["best", "middle", "worst"]}, [("best", True), ("worst", False)]),
    ],
)
def test_labelled_replies_and_both_sides_of_pairs_are_unpaired_rows(
    tmp_path: Path, raw: dict[str, Any], replies: list[tuple[str, bool]]
) -> None:
    rows = load(write(tmp_path / "x.jsonl", [raw]), "unpaired").rows
    assert [(row["reply"], row["desirable"]) for row in rows] == replies
    assert all(row["messages"] == [USER] for row in rows)


def test_a_preference_also_serves_as_a_demonstration_of_its_better_side(tmp_path: Path) -> None:
    assert load(write(tmp_path / "x.jsonl", [PAIR]), "sft").rows == [{"messages": [USER, REPLY]}]


def test_continuations_of_several_turns_share_all_but_their_last(tmp_path: Path) -> None:
    def sides(second: dict[str, str]) -> dict[str, Any]:
        return {"context": [USER], "chosen": [REPLY, *EARLIER], "rejected": [second, EARLIER[0], {"role": "assistant", "content": "x"}]}

    loaded = load(write(tmp_path / "x.jsonl", [sides(REPLY), sides({"role": "assistant", "content": "other"})]), "preference")
    assert loaded.rows == [{"messages": [USER, REPLY, EARLIER[0]], "chosen": "r", "rejected": "x", "source": "colossalchat"}]
    assert "differ before their last turn" in loaded.bad[0].reason


def test_columns_give_a_files_fields_our_names(tmp_path: Path) -> None:
    file = write(tmp_path / "x.jsonl", [{"question": "q", "good": "a", "bad": "b", "input": "ignored by nobody"}, {"question": "q"}])
    loaded = load(file, "preference", {"prompt": "question", "chosen": "good", "rejected": "bad"})
    assert loaded.rows == [{**PAIR, "source": "prompt"}]
    assert "no field 'good'" in loaded.bad[0].reason
    with pytest.raises(UserError, match="did you mean 'prompt'"):
        load(file, "preference", {"promt": "question"})


def test_the_real_files_of_every_peer_load(shared: Path) -> None:
    """(usable, bad) rows of each kind that a file is used as: formats may grow, but no row may go missing unnoticed."""
    for name, expected in REAL.items():
        for kind, counts in expected.items():
            loaded = convert(open_source(shared / "data" / name), kind)
            assert (loaded.format, len(loaded.rows), len(loaded.bad)) == counts, (name, kind, [str(one) for one in loaded.bad[:3]])


def test_the_five_malformed_lines_of_instruction_wild_are_named(shared: Path) -> None:
    folder = shared / "data/instruction-wild/data_v2"
    lines = {name: [one.place.line for one in load(folder / name, "prompts").bad] for name in ("user_2.jsonl", "user_3.jsonl")}
    assert lines == {"user_2.jsonl": [134, 168], "user_3.jsonl": [10, 121, 122]}
