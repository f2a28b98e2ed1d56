"""Running the command line inside the test's process."""

from __future__ import annotations

from typer.testing import CliRunner
from typer.testing import Result as Done

from evalkit.cli import app


def evalkit(*arguments: object) -> Done:
    """The command with these arguments, in a window of 200 columns."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def assert_one_sentence(done: Done, *parts: str, status: int = 2) -> None:
    """The command failed with this status and said one line, with these *parts* in it."""
    assert done.exit_code == status, done.output
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert all(part in line for part in parts), line
