"""The READMEs' commands exist: every command in a ``bash`` block is parsed by the command line it calls."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parent.parent
READMES = ("README.md", "README.zh-CN.md")
OURS = ("evalkit", "leaderboards", "playground", "trainers")


def commands(readme: str) -> list[str]:
    """The single commands in the ``bash`` blocks, chains taken apart, comments and line continuations removed."""
    blocks = re.findall(r"^```bash\n(.*?)^```", (ROOT / readme).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [command.strip() for line in lines for command in line.split("#")[0].split("&&") if command.strip()]


def program(command: str) -> tuple[str | None, list[str]]:
    """Which of our programs a command calls, and with what arguments; ``None`` for another's."""
    words = shlex.split(command)
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    if words[:2] == ["python", "app.py"]:
        return "playground", words[2:]
    if words[:2] == ["python", "-m"]:
        words = words[2:]
    return (words[0], words[1:]) if words[0] in OURS else (None, words)


OUR_COMMANDS = [
    command
    for page in (
        "README.md",
        "docs/data.md",
        "docs/gptq.md",
        "docs/hosting.md",
        "docs/judge.md",
        "docs/leaderboards.md",
        "docs/methods.md",
        "docs/playground.md",
        "docs/server.md",
        "docs/strategies.md",
        "docs/training.md",
        "docs/votes.md",
    )
    for command in commands(page)
    if program(command)[0]
]


@pytest.mark.parametrize("command", OUR_COMMANDS)
def test_the_command_line_knows_the_command_and_its_options(command: str) -> None:
    name, arguments = program(command)
    asked = CliRunner().invoke(importlib.import_module(f"{name}.cli").app, [*arguments, "--help"])
    assert asked.exit_code == 0, asked.output


def test_files_that_commands_name_are_there() -> None:
    named = {word for command in OUR_COMMANDS for word in shlex.split(command) if word.startswith("recipes/") or word.endswith(".py")}
    assert not [name for name in sorted(named) if not (ROOT / name).is_file()]


def test_both_readmes_have_the_same_commands_pictures_and_links() -> None:
    english, chinese = (commands(readme) for readme in READMES)
    assert english == chinese
    pictures = [re.findall(r"\]\((docs/images/[^)]+)\)", (ROOT / readme).read_text(encoding="utf-8")) for readme in READMES]
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize(
    "document",
    [
        *READMES,
        "CHANGELOG.md",
        "docs/architecture.md",
        "docs/data.md",
        "docs/gptq.md",
        "docs/hosting.md",
        "docs/judge.md",
        "docs/leaderboards.md",
        "docs/server.md",
        "docs/training.md",
        "docs/votes.md",
        "docs/methods.md",
        "docs/playground.md",
        "docs/strategies.md",
    ],
)
def test_local_links_lead_somewhere(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    targets = [target.split("#")[0] for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text)]
    assert not [target for target in targets if not (ROOT / document).parent.joinpath(target).exists()]


def test_the_test_command_is_the_one_that_ci_runs() -> None:
    chained = "pip install -r requirements-dev.txt -e . && pytest"
    assert all(chained in (ROOT / file).read_text(encoding="utf-8") for file in (*READMES, ".ci/run"))
