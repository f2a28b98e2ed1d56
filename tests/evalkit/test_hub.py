"""Benchmarks by name: copies of datasets on disk, the libraries' ways when online, one sentence when not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas
import pytest

from evalkit.tasks import ceval, cmmlu, hub, mmlu
from modelkit.errors import UserError
from tests.evalkit.tiny import write_jsonl

ROWS = [{"question": f"Q{i}?", "subject": "law", "choices": ["None", "b", "c", "d"], "answer": i % 4} for i in range(3)]


def mmlu_copy(root: Path) -> Path:
    """Two subjects, laid out like cais/mmlu on the hub."""
    for subject in ("anatomy", "astronomy"):
        (root / subject).mkdir(parents=True)
        pandas.DataFrame(ROWS[:2]).to_parquet(root / subject / "dev-00000-of-00001.parquet")
        pandas.DataFrame(ROWS[:2]).to_parquet(root / subject / "test-00000-of-00002.parquet")
        pandas.DataFrame(ROWS[2:]).to_parquet(root / subject / "test-00001-of-00002.parquet")
    return root


def test_a_copy_of_the_dataset_is_read_shard_by_shard(tmp_path: Path) -> None:
    task = mmlu.load(mmlu_copy(tmp_path), 2)
    assert [(item.id, item.gold) for item in task.items[:4]] == [
        ("anatomy/0", "A"),
        ("anatomy/1", "B"),
        ("anatomy/2", "C"),
        ("astronomy/0", "A"),
    ]
    assert [shot.text for shot in task.dev["anatomy"]] == ["Q0?", "Q1?"]
    assert task.items[0].options == ("None", "b", "c", "d")
    assert task.origin == "cais/mmlu"
    assert task.data.startswith("sha256:")


def test_copies_as_jsonl_and_in_folders_of_splits_are_read_too(tmp_path: Path) -> None:
    row = {"Question": "问？", "A": "一", "B": "二", "C": "三", "D": "四", "Answer": "C"}
    write_jsonl(tmp_path / "cmmlu/agronomy/test.jsonl", [row])
    write_jsonl(tmp_path / "cmmlu/agronomy/dev.jsonl", [row])
    assert [(item.id, item.gold) for item in cmmlu.load(tmp_path / "cmmlu", 1).items] == [("agronomy/0", "C")]
    row = {"id": "0", "question": "问？", "A": "一", "B": "二", "C": "三", "D": "四", "answer": "D", "explanation": "因为"}
    write_jsonl(tmp_path / "ceval/accountant/ceval-exam-val/0000.jsonl", [row])
    write_jsonl(tmp_path / "ceval/accountant/ceval-exam-dev/0000.jsonl", [row])
    task = ceval.load(tmp_path / "ceval", 1, protocol="official-cot")
    assert (task.items[0].gold, task.dev["accountant"][0].explanation) == ("D", "因为")


def test_a_copy_without_a_split_is_named(tmp_path: Path) -> None:
    (mmlu_copy(tmp_path) / "anatomy/dev-00000-of-00001.parquet").unlink()
    with pytest.raises(UserError, match="anatomy holds no dev split"):
        mmlu.load(tmp_path, 1)


def test_by_name_the_revision_is_recorded_and_every_subject_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[tuple[str, str, str, str | None]] = []

    def load_dataset(name: str, subject: str, split: str, revision: str | None) -> list[dict[str, Any]]:
        asked.append((name, subject, split, revision))
        return ROWS

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(hub, "_revision", lambda dataset: "abc123")
    task = mmlu.load(None, 2)
    assert len(task.items) == 57 * 3
    assert task.origin == "cais/mmlu@abc123"
    assert ("cais/mmlu", "anatomy", "test", "abc123") in asked
    assert len(asked) == 57 * 2
    assert mmlu.load(None, 2).data == task.data


@pytest.mark.parametrize(("module", "dataset"), [(mmlu, "cais/mmlu"), (cmmlu, "haonan-li/cmmlu"), (ceval, "ceval/ceval-exam")])
def test_offline_and_without_data_one_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch, module: Any, dataset: str) -> None:
    def load_dataset(*_: Any, **__: Any) -> None:
        raise ConnectionError(f"Couldn't reach '{dataset}' on the Hub\nmore")

    import datasets

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(hub, "_revision", lambda name: None)
    with pytest.raises(UserError, match=rf"^{dataset} can't be had by name here \(ConnectionError: [^\n]*\): give --data DIR[^\n]*\.$"):
        module.load(None, 0)
