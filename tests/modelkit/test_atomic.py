from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelkit import atomic
from modelkit.errors import ModelError


def test_a_directory_appears_only_when_the_block_succeeds(tmp_path: Path) -> None:
    target = tmp_path / "checkpoint"
    with atomic.directory(target) as beside:
        (beside / "a").write_text("1")
        assert not target.exists()
    assert (target / "a").read_text() == "1"


def test_a_failed_block_leaves_the_old_directory_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "checkpoint"
    with atomic.directory(target) as beside:
        (beside / "a").write_text("old")
    with pytest.raises(RuntimeError), atomic.directory(target) as beside:
        (beside / "a").write_text("new")
        raise RuntimeError
    assert (target / "a").read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint"]


def test_a_directory_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "checkpoint"
    for name in ("first", "second"):
        with atomic.directory(target) as beside:
            (beside / name).touch()
    assert [entry.name for entry in target.iterdir()] == ["second"]


def test_sweep_undoes_what_killed_writers_left(tmp_path: Path) -> None:
    (tmp_path / ".half.77.tmp").mkdir()
    (tmp_path / ".file.json.77.tmp").touch()
    (tmp_path / ".kept.77.old").mkdir()
    (tmp_path / "kept").mkdir()
    (tmp_path / ".lost.77.old").mkdir()
    atomic.sweep(tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["kept", "lost"]


def test_a_full_disk_is_an_os_error_whoever_reports_it(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left") as raised, atomic.directory(tmp_path / "checkpoint"):
        raise RuntimeError("I/O error: No space left on device (os error 28)")
    assert raised.value.errno == 28
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ModelError), atomic.directory(tmp_path / "checkpoint"):
        raise ModelError("it can't be loaded (No such file (os error 2)).")


def test_json_is_written_as_utf8_and_read_back(tmp_path: Path) -> None:
    atomic.write_json(tmp_path / "deep" / "x.json", {"首都": 1})
    assert "首都" in (tmp_path / "deep" / "x.json").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "deep" / "x.json").read_text(encoding="utf-8")) == {"首都": 1}
