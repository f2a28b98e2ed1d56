"""What reaches a person: one sentence and an exit status."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelkit.errors import DataError, one_sentence


def said(action, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    statuses: list[int] = []
    with one_sentence(statuses.append):
        action()
    return statuses[0], capsys.readouterr().err


def test_a_users_error_is_a_line_with_the_status_of_its_kind(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise DataError("x.jsonl:3 is broken: mend it.")

    assert said(fail, capsys) == (4, "error: x.jsonl:3 is broken: mend it.\n")


def test_a_path_that_can_not_be_used_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.touch()
    for action, says in (
        (file.mkdir, "is there already, and is no folder"),
        ((file / "sub").mkdir, "goes through a file as if it were a folder"),
        (tmp_path.read_text, "is a folder, where a file is needed"),
        ((tmp_path / ("x" * 300)).mkdir, "is too long a name"),
    ):
        status, line = said(action, capsys)
        assert status == 2
        assert says in line
        assert str(tmp_path) in line


def test_a_defect_of_ours_is_no_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), one_sentence():
        (tmp_path / "none").read_text()
