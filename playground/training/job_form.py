"""What a visitor has filled in → the recipe of a training. Nothing in it is a path: recipes, checkpoints and files are known by ids."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelkit.errors import UserError
from playground.entries import Entry
from playground.models import Models
from playground.settings import POCKET_RECIPE
from playground.training import datasets
from playground.training.jobs import Job
from trainers.reading import checked, load
from trainers.recipe import Recipe

LORA_RANKS = (8, 16, 32, 64)
STRATEGIES = ("auto", "single", "ddp", "zero1", "zero2", "zero3")
MOST_STEPS = 100_000
MOST_PROCESSES = 8
_SECTIONS = {"rl": "ppo"}
"""What a recipe calls the stages whose checkpoints have other names."""
_LOOKS_PER_STAGE = 4
"""Sample replies are taken, and states saved, at least so often in a stage of few steps."""


@dataclass(frozen=True)
class Form:
    """A training as it was filled in. ``start`` is a checkpoint's id, ``files`` the data chosen or uploaded, by name.

    ``lora`` is the adapters' rank: 0 trains all weights, ``None`` does as the recipe says; so does ``steps``, which holds for each stage.
    """

    recipe: str
    name: str = "new"
    start: str | None = None
    stages: tuple[str, ...] = ()
    files: Mapping[str, Path] = field(default_factory=dict)
    lora: int | None = None
    steps: int | None = None
    strategy: str = "auto"
    processes: int = 1


@dataclass(frozen=True)
class Draft:
    """The recipe that a form means, the checkpoint that it starts from, and the uploaded or chosen files by their names in it."""

    recipe: Recipe
    start: Path | None
    files: Mapping[str, Path]


def recipes() -> dict[str, Path]:
    """The recipes that are offered, by name."""
    return {file.stem: file for file in sorted(POCKET_RECIPE.parent.glob("*.yaml"))}


def stages_of(recipe: str) -> list[str]:
    """The stages that a recipe has."""
    return list(_load(recipe).stages)


def starts(models: Models) -> list[Entry]:
    """The checkpoints that can be trained further: language models that are nobody's smaller copy."""
    return [entry for entry in models.catalogue() if entry.kind != "reward" and not entry.is_copy]


def tokenizer(start: str | None, models: Models) -> Path | None:
    """Whose tokenizer counts the rows' tokens: that of the checkpoint to start from; for a new model, of the first one there is."""
    entries = starts(models)
    return next((entry.path for entry in entries if entry.id == start), entries[0].path if entries else None)


def draft(form: Form, models: Models) -> Draft:
    """Check a form and write its recipe.

    :raises UserError: for what can't be trained so, with what to change.
    """
    given = _load(form.recipe)
    start = next((entry for entry in starts(models) if entry.id == form.start), None)
    if form.start and start is None:
        raise UserError("this checkpoint is not in the list: choose one of those offered.")
    wanted = [stage for stage in given.stages if stage in form.stages and not (stage == "base" and start)]
    if not wanted:
        raise UserError("no stage is chosen that could be trained: choose one.")
    if start is None and "base" not in wanted:
        raise UserError("there is no model to start from: choose a checkpoint, or the stage base where the recipe has one.")
    if not form.files and given.world is None:
        raise UserError(f"the recipe {form.recipe} brings no data: upload a file, or choose one.")
    content: dict[str, Any] = given.model_dump(mode="json", exclude_unset=True)
    content |= {"name": form.name, "title": {}}
    for stage in given.stages:
        section = _SECTIONS.get(stage, stage)
        if stage in wanted:
            _change(content[section], stage, form, from_nothing=stage == "base")
        else:
            del content[section]
    content["bars"] = [bar for bar in content.get("bars", []) if {bar["stage"], bar.get("minus") or bar["stage"]} <= set(wanted)]
    if form.files:
        _learn_from(content, wanted, form.files, tokenizer(form.start, models))
    return Draft(checked(Recipe, content, "this training"), start.path if start else None, form.files)


def job_of(form: Form, drafted: Draft) -> Job:
    """The job of a form that was checked.

    :raises UserError: for a way to share the work that isn't offered.
    """
    if form.strategy not in STRATEGIES or not 1 <= form.processes <= most_processes():
        raise UserError(f"choose one of the strategies {', '.join(STRATEGIES)} and 1 to {most_processes()} processes.")
    return Job(
        name=form.name,
        submitted=time.time(),
        base=drafted.start,
        data=bool(drafted.files),
        strategy=form.strategy,
        processes=form.processes,
    )


def most_processes() -> int:
    """How many processes may share the work here."""
    return min(MOST_PROCESSES, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _load(recipe: str) -> Recipe:
    known = recipes()
    if recipe not in known:
        raise UserError("this recipe is not in the list: choose one of those offered.")
    return load(known[recipe])


def _change(section: dict[str, Any], stage: str, form: Form, from_nothing: bool) -> None:
    """Put the form's steps and adapters into a stage's settings; a model made from nothing has no weights to adapt."""
    if form.steps is not None:
        if not 1 <= form.steps <= MOST_STEPS:
            raise UserError(f"a stage has 1 to {MOST_STEPS:,} steps, not {form.steps:,}: change the steps.")
        often = max(1, form.steps // _LOOKS_PER_STAGE)
        section |= {"steps": form.steps} | {key: min(section.get(key, often), often) for key in ("save_every", "sample_every")}
    if form.lora is None or from_nothing:
        return
    section["lora"] = {"rank": form.lora, "alpha": 2.0 * form.lora} if form.lora else None
    if form.lora:
        section["optimiser"] = "adamw"


def _learn_from(content: dict[str, Any], stages: list[str], files: Mapping[str, Path], counter: Path | None) -> None:
    """Let the stages learn from *files* instead of the recipe's own data, and leave out what only those allow."""
    reports = {name: datasets.look(name, file, counter) for name, file in files.items()}
    content.pop("world", None)
    content |= {"evaluate": [], "bars": []}
    for stage, names in datasets.shared_out(stages, reports).items():
        section = content[_SECTIONS.get(stage, stage)]
        section["data"] = [{"path": name} for name in names]
        section.pop("replay", None)
        if "ptx" in section:
            section["ptx"] = [{"path": name} for name, report in reports.items() if report.kind == "sft"]
        if "rewards" in section:
            terms = [term for term in section["rewards"] if ":" not in term["name"]]
            section["rewards"] = terms or [{"name": "reward_model"}]
