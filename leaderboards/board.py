"""The board: models × tasks, with the latest score of each.

Two numbers share a column only when they answer the same questions in the same way: see :class:`Column`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from leaderboards.collect import Collection, Found
from leaderboards.doubts import OLD_DATA, TWIN, Doubt, doubts
from leaderboards.significance import near_best
from modelkit.fingerprint import sha256_of_text
from modelkit.records import MethodScore, TaskScore

KINDS = ("choice", "answer", "judge", "pairs", "reward", "text")
LOWER_IS_BETTER = {"bits_per_byte", "byte_perplexity", "word_perplexity", "perplexity"}
NOT_SHARES = {"bits_per_byte", "reward", "score"}
BEST = "★"
NEAR = "≈"
NONE = "–"

_TEXTS = {
    "en": {
        "shots": "{}-shot",
        "chat": "chat",
        "n": "n = {:,}",
        "no_n": "n unknown",
        "chance": "chance {}",
        "unscored": "{} unscored",
        "only": "{} only",
    },
    "zh": {
        "shots": "{} 样本",
        "chat": "对话",
        "n": "n = {:,}",
        "no_n": "题数未知",
        "chance": "随机 {}",
        "unscored": "{} 题未评分",
        "only": "仅 {}",
    },
}
_CHINESE_NAMES = {
    "letters": "字母概率",
    "perplexity": "逐选项困惑度",
    "generate": "生成作答",
    "accuracy": "准确率",
    "exact_match": "精确匹配",
    "reward": "平均奖励",
    "score": "评分（1–10）",
    "win_rate": "胜率",
    "bits_per_byte": "每字节比特数",
}


@dataclass(frozen=True)
class Column:
    """What makes two numbers comparable.

    ``setting`` is a sha256 of what else they depend on: the data, the subjects asked, and for rewards the reward model, the
    reference and the samples drawn, for judgments the judge, its wording and whom one was compared with, for another harness what
    it put before the questions. ``chance`` is the share that guessing gets, where that is known.
    ``lower``: less is better.
    """

    task: str
    kind: str
    method: str
    metric: str
    shots: int
    chat: bool
    n: int
    setting: str
    chance: float | None = field(compare=False)
    share: bool = field(compare=False, default=True)
    lower: bool = field(compare=False, default=False)

    @classmethod
    def of(cls, name: str, task: TaskScore, method: str, score: MethodScore) -> Column:
        """The column of one task's score by one method."""
        facts, own = task.model_extra or {}, score.model_extra or {}
        deciding = ("reward_model", "reference", "samples", "judge_identity", "contestants", "prompting")
        setting = [task.data, sorted(score.subjects), {fact: facts[fact] for fact in deciding if facts.get(fact) is not None}]
        mark = sha256_of_text(json.dumps(setting))
        chance = 0.5 if task.kind == "pairs" else facts.get("chance")
        known = chance if isinstance(chance, float) else None
        share = score.metric not in NOT_SHARES and not own.get("raw")
        lower = score.metric in LOWER_IS_BETTER or bool(own.get("lower_is_better"))
        return cls(name, task.kind, method, score.metric, task.shots, task.chat, score.n, mark, known, share, lower)

    def details(self, language: str = "en") -> list[str]:
        """Method, settings, number of questions and chance, in words."""
        texts = _TEXTS[language]
        name = self.method if self.kind == "choice" else self.metric
        parts = [_CHINESE_NAMES.get(name, name) if language == "zh" else name.replace("_", " ")]
        parts += [texts["shots"].format(self.shots)] if self.kind == "choice" else []
        parts += [texts["chat"]] if self.chat and self.kind == "choice" else []
        parts += [texts["n"].format(self.n) if self.n else texts["no_n"]]
        parts += [texts["chance"].format(self.show(self.chance))] if self.chance is not None else []
        return parts

    def show(self, value: float | None) -> str:
        """A value as people read it: shares in per cent, others as they are."""
        if value is None:
            return NONE
        return f"{100 * value:.1f} %" if self.share else f"{value:.3f}"

    @property
    def benchmark(self) -> str:
        """The task without its protocol."""
        return self.task.split("@")[0]


@dataclass(frozen=True)
class Row:
    """A model: a stage of a run, or a checkpoint from elsewhere. ``names`` is what it is called, by language.

    No two runs of a board have the same ``run``.
    """

    run: str
    stage: str
    fingerprint: str
    dtype: str
    names: dict[str, str]

    def name(self, language: str = "en") -> str:
        """What the model is called in *language*, or in English where it has no name in it."""
        return self.names.get(language, self.names["en"])


@dataclass(frozen=True)
class Cell:
    """The latest score of a model in a column.

    ``best``: there are others in the column and none is better. ``near``: not the best, but not significantly worse. ``doubts``:
    why it may not be what it seems.
    """

    score: MethodScore
    found: Found
    best: bool
    near: bool = False
    doubts: tuple[Doubt, ...] = ()

    def text(self, column: Column, language: str = "en") -> list[str]:
        """The value, its 95 % interval, and the unscored questions if there are any."""
        parts = [column.show(self.score.value) + (f" {BEST}" if self.best else f" {NEAR}" if self.near else "")]
        if self.score.ci95 is not None:
            low, high = (column.show(bound).removesuffix(" %") for bound in self.score.ci95)
            parts.append(f"[{low}, {high}]")
        if self.score.unscored:
            parts.append(_TEXTS[language]["unscored"].format(self.score.unscored))
        return parts


@dataclass(frozen=True)
class Board:
    """Rows in the order of runs and their stages, columns by task, ``cells[row][column]`` where there is a score."""

    rows: list[Row]
    columns: list[Column]
    cells: list[list[Cell | None]]

    @cached_property
    def names(self) -> dict[str, Row]:
        """The row of each fingerprint; of a checkpoint that was run in several types, the first."""
        return {row.fingerprint: row for row in reversed(self.rows)}

    def heads(self, language: str = "en") -> list[list[str]]:
        """Task and details of each column; columns that would read the same get what tells them apart."""
        heads = [[column.task, *column.details(language)] for column in self.columns]
        return [[*head, *more] for head, more in zip(heads, self._apart(heads, language), strict=True)]

    def titles(self, language: str = "en") -> list[str]:
        """Task and method of each column in a line, and what tells apart columns that would read the same."""
        heads = [[column.task, column.details(language)[0]] for column in self.columns]
        return [" · ".join([*head, *more]) for head, more in zip(heads, self._apart(heads, language), strict=True)]

    def _apart(self, heads: list[list[str]], language: str) -> list[list[str]]:
        """What tells columns with the same head apart: the only run they were measured in, else the start of their setting's sha256."""
        often = Counter(map(tuple, heads))
        runs = [sorted({row.run for row, cells in zip(self.rows, self.cells, strict=True) if cells[k]}) for k in range(len(heads))]
        own = [runs[k][0] if len(runs[k]) == 1 else "" for k in range(len(heads))]
        claimed = Counter((tuple(head), run) for head, run in zip(heads, own, strict=True))
        more: list[list[str]] = []
        for head, run, column in zip(heads, own, self.columns, strict=True):
            alone = run and claimed[tuple(head), run] == 1
            mark = _TEXTS[language]["only"].format(run) if alone else f"setting {_short(column.setting)}"
            more.append([mark] if often[tuple(head)] > 1 else [])
        return more


_Model = tuple[str, str, str]  # run path or "", fingerprint, dtype


def make_board(collection: Collection) -> Board:
    """Lay out *collection*: of several scores of the same weights in the same column, the one written last counts."""
    home = {found.result.model.fingerprint: str(found.run.path) for found in reversed(collection.results) if found.run}
    latest: dict[_Model, dict[Column, tuple[Found, MethodScore]]] = {}
    owner: dict[_Model, Found] = {}
    for found in sorted(collection.results, key=lambda found: (found.written, found.result.id)):
        record = found.result.model
        run = str(found.run.path) if found.run else home.get(record.fingerprint, "")
        model = (run, record.fingerprint, record.dtype)
        if found.run or model not in owner:
            owner[model] = found
        scores = latest.setdefault(model, {})
        for name, task in found.result.tasks.items():
            for method, score in task.methods.items():
                scores[Column.of(name, task, method, score)] = (found, score)

    runs = list(dict.fromkeys(found.run.path for found in collection.results if found.run))
    places = {path: place for place, path in enumerate(runs)}
    models = sorted(latest, key=lambda model: _place(owner[model], places))
    columns = _in_order([column for model in models for column in latest[model]])
    best = {column: _best(column, [latest[model][column][1] for model in models if column in latest[model]]) for column in columns}

    near: set[tuple[_Model, Column]] = set()
    for column in columns:
        having = [model for model in models if column in latest[model]]
        marks = near_best([latest[model][column][1] for model in having], best[column])
        near |= {(model, column) for model, mark in zip(having, marks, strict=True) if mark}
    old, twins = _old_data(latest), collection.twins

    def cell(model: _Model, column: Column) -> Cell | None:
        if column not in latest[model]:
            return None
        found, score = latest[model][column]
        task = found.result.tasks[column.task]
        why = doubts(task, score, column.chance, column.share)
        why += (OLD_DATA,) if (_question(column), task.data) in old else ()
        why += (TWIN,) if found.result.id in twins else ()
        return Cell(score, found, score.value is not None and score.value == best[column], (model, column) in near, why)

    return Board(_rows([owner[model] for model in models]), columns, [[cell(model, column) for column in columns] for model in models])


_Question = tuple[str, str, str, int, bool]


def _question(column: Column) -> _Question:
    """What two columns on different data have in common."""
    return column.task, column.method, column.metric, column.shots, column.chat


def _old_data(latest: dict[_Model, dict[Column, tuple[Found, MethodScore]]]) -> set[tuple[_Question, str]]:
    """The data on which a question was asked before the same run, or anything outside of runs, was asked it on other data.

    A run may have a benchmark of its own, so what another run is asked later says nothing about its data's age.
    """
    asked: dict[tuple[str, _Question], dict[str, float]] = {}
    for (run, _, _), scores in latest.items():
        for column, (found, _) in scores.items():
            times = asked.setdefault((run, _question(column)), {})
            data = found.result.tasks[column.task].data
            times[data] = max(times.get(data, found.written), found.written)
    return {(question, data) for (_, question), times in asked.items() for data in times if times[data] < max(times.values())}


def _place(found: Found, runs: Mapping[Path, int]) -> tuple[bool, int, int, str]:
    """Runs first, as they were found; within a run its stages in order; then checkpoints from elsewhere by path."""
    if found.run is None:
        return True, 0, 0, found.result.model.path
    stages = found.run.info.stages
    stage = stages.index(found.stage) if found.stage else len(stages)
    return False, runs[found.run.path], stage, found.result.model.path


def _in_order(columns: list[Column]) -> list[Column]:
    """Each column once: by suite as first seen, kind, task as first seen, shots; methods as first seen."""
    found = list(dict.fromkeys(columns))
    suites = {name: place for place, name in enumerate(dict.fromkeys(_suite(column.task) for column in found))}
    tasks = {name: place for place, name in enumerate(dict.fromkeys(column.task for column in found))}
    kinds = {kind: i for i, kind in enumerate(KINDS)}
    places = {column: place for place, column in enumerate(found)}
    return sorted(
        found,
        key=lambda column: (
            suites[_suite(column.task)],
            kinds.get(column.kind, len(kinds)),
            tasks[column.task],
            column.shots,
            places[column],
        ),
    )


def _suite(task: str) -> str:
    return task.split("@")[0].split(".")[0]


def _best(column: Column, scores: list[MethodScore]) -> float | None:
    values = [score.value for score in scores if score.value is not None]
    if len(values) < 2:
        return None
    return min(values) if column.lower else max(values)


def _rows(owners: list[Found]) -> list[Row]:
    """Name each model; equal names (a stage trained anew, say) get the start of the fingerprint and the dtype beside them."""
    runs = _run_names({found.run.path for found in owners if found.run})
    homes = [runs[found.run.path] if found.run else "" for found in owners]
    names = [_names(found, run) for found, run in zip(owners, homes, strict=True)]
    often = Counter(name["en"] for name in names)
    rows = []
    for found, run, name in zip(owners, homes, names, strict=True):
        model = found.result.model
        if often[name["en"]] > 1:
            name = {language: f"{text} ({_short(model.fingerprint)}, {model.dtype})" for language, text in name.items()}
        stage = found.stage.name if found.stage else model.stage or ""
        rows.append(Row(run, stage, model.fingerprint, model.dtype, name))
    return rows


def _run_names(runs: Iterable[Path]) -> dict[Path, str]:
    """What each run is called: its folder's name, with as many of the folders around it as tell it from the others."""
    parts = {run: run.resolve().parts for run in runs}
    names = {}
    for run, own in parts.items():
        others = [other for path, other in parts.items() if path != run]
        depth = next(depth for depth in range(1, len(own) + 1) if depth == len(own) or all(one[-depth:] != own[-depth:] for one in others))
        names[run] = Path(*own[-depth:]).as_posix()
    return names


def _names(found: Found, run: str) -> dict[str, str]:
    path = found.result.model.path
    if not run:
        return {"en": path}
    if found.stage is None:
        return {"en": f"{run} · {path}"}
    return {"en": f"{run} · {found.stage.name}"} | {language: f"{run} · {title}" for language, title in found.stage.title.items()}


def _short(sha256: str) -> str:
    return sha256.removeprefix("sha256:")[:8]
