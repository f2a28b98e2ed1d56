"""Tasks of one's own: a folder with a ``task.yaml`` that holds one task, or a suite of several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from evalkit.reading import read_jsonl, sha256_of_files
from evalkit.tasks.yaml_choice import ChoiceSpec, load_choice
from evalkit.types import AnswerRow, AnswerTask, PairRow, PairsTask, PromptRow, RewardTask, Task, TextRow, TextTask
from modelkit.errors import UserError


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid")
    data: str


class AnswerSpec(_Spec):
    """Greedy chat answers with known alternatives."""

    kind: Literal["answer"]
    max_tokens: PositiveInt = 64


class PairsSpec(_Spec):
    """Preference pairs for reward models."""

    kind: Literal["pairs"]


class RewardSpec(_Spec):
    """Sampled replies under a reward model. Both checkpoints are named relative to the run (or to the folder of task.yaml)."""

    kind: Literal["reward"]
    reward_model: str
    reference: str
    samples: PositiveInt = 4
    max_tokens: PositiveInt = 64


class TextSpec(_Spec):
    """Texts to predict."""

    kind: Literal["text"]


Spec = Annotated[ChoiceSpec | AnswerSpec | PairsSpec | RewardSpec | TextSpec, Field(discriminator="kind")]


Name = Annotated[str, Field(pattern=r"^[^/\\]+$")]
"""Part of a file's name in the result, ``samples/<suite>.<task>.jsonl``."""


class Suite(BaseModel):
    """``task.yaml``: several tasks under one name."""

    model_config = ConfigDict(extra="forbid")
    name: Name
    languages: list[str] = []
    tasks: dict[Name, Spec] = Field(min_length=1)


class _Single(BaseModel):
    name: str
    languages: list[str] = []
    task: Spec


def read_suite(folder: Path) -> Suite:
    """The ``task.yaml`` of *folder*; a file that holds one task becomes a suite of it, under its kind.

    :raises UserError: when the file is missing or says something else.
    """
    file = folder / "task.yaml"
    try:
        value: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder} holds no task.yaml, so it is no task.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not valid YAML ({' '.join(str(error).split())[:200]}).") from None
    if not isinstance(value, dict):
        raise UserError(f"{file} should hold a name and tasks.")
    try:
        if "tasks" in value:
            return Suite.model_validate(value)
        name, languages = value.pop("name", folder.resolve().name), value.pop("languages", [])
        single = _Single.model_validate({"name": name, "languages": languages, "task": value})
        return Suite(name=single.name, languages=single.languages, tasks={single.task.kind: single.task})
    except ValidationError as error:
        problem = error.errors()[0]
        raise UserError(f"{file}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}.") from None


def load(folder: Path, suite: Suite, part: str, checkpoints: Path, shots: int | None = None, methods: Sequence[str] | None = None) -> Task:
    """Read one task of a suite, as ``<suite>.<part>``.

    :param checkpoints: the folder that the names of a reward task's checkpoints are relative to.
    :param shots, methods: what the command line asks for instead of the file.
    :raises UserError: for missing or malformed data.
    """
    spec, name = suite.tasks[part], f"{suite.name}.{part}"
    if isinstance(spec, ChoiceSpec):
        return load_choice(folder, name, spec, shots, methods)
    file = folder / spec.data
    if isinstance(spec, AnswerSpec):
        return AnswerTask(name, items=read_jsonl(file, AnswerRow), max_tokens=spec.max_tokens, data=sha256_of_files([file], folder))
    if isinstance(spec, PairsSpec):
        return PairsTask(name, items=read_jsonl(file, PairRow), data=sha256_of_files([file], folder))
    if isinstance(spec, TextSpec):
        return TextTask(name, items=read_jsonl(file, TextRow), data=sha256_of_files([file], folder))
    return RewardTask(
        name,
        items=read_jsonl(file, PromptRow),
        data=sha256_of_files([file], folder),
        reward_model=checkpoints / spec.reward_model,
        reference=checkpoints / spec.reference,
        samples=spec.samples,
        max_tokens=spec.max_tokens,
    )
