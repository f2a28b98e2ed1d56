"""The folder that judging leaves: a result for each contestant, every answer, every judgment, and the page of them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from evalkit import results
from evalkit.judge import report, standing
from evalkit.judge.answers import Answer
from evalkit.judge.contestants import Contestant
from evalkit.judge.prompt_set import PromptSet
from evalkit.judge.rubrics import Rubrics
from evalkit.judge.standing import Battle
from modelkit import atomic
from modelkit.records import Judgment, MethodScore, Result, Speed, TaskScore

SUMMARY = "judging.json"
JUDGMENTS = "judgments.jsonl"
Mode = Literal["score", "battle"]


@dataclass(frozen=True)
class Outcome:
    """All that came of judging. A task of its results is called ``<prompts>.<language>@<judge>``, its method by the mode.

    :param judge: name and identity, and the identity of the wording.
    :param unranked: why the contestants aren't ranked; ``None`` when they are.
    :param seconds: of answering and judging; ``spent`` is what the judge took, in words.
    """

    mode: Mode
    judge: dict[str, str]
    prompts: PromptSet
    rubrics: Rubrics
    contestants: Sequence[Contestant]
    answers: Sequence[Answer]
    judgments: Sequence[Judgment]
    identity: str
    seed: int
    device: str
    seconds: float
    spent: str
    unranked: str | None
    battle: Battle | None
    settings: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def by_key(self) -> dict[tuple, Answer]:
        """The answers by their key."""
        return {answer.key: answer for answer in self.answers}

    @cached_property
    def battles(self) -> dict[str, Battle]:
        """The battle in each language."""
        languages = dict.fromkeys(one.language or "" for one in self.judgments)
        return {name: standing.battle([one for one in self.judgments if (one.language or "") == name], self.seed) for name in languages}

    def scores(self, model: str) -> dict[str, MethodScore]:
        """A contestant's score or win rate by language."""
        if self.mode == "score":
            return standing.scores(self.judgments, self.by_key, model)
        return standing.win_rates(self.judgments, self.by_key, model, self.battles)

    @cached_property
    def results(self) -> list[tuple[str, Result]]:
        """(name, result) of each contestant: a task for each language it was judged in. Best first, where they may be ranked."""
        found = [(contestant.name, self._result(contestant)) for contestant in self.contestants]
        return found if self.unranked else sorted(found, key=lambda one: -_mean(one[1]))

    def _result(self, contestant: Contestant) -> Result:
        own = [one for one in self.judgments if any(answer.model == contestant.name for answer in one.answers)]
        tasks = {}
        for language, score in self.scores(contestant.name).items():
            unscored = standing.reasons(one for one in own if one.language == language)
            tasks[f"{self.prompts.name}.{language}@{slug(self.judge['name'])}"] = TaskScore(
                kind="judge",
                data=self.prompts.sha256,
                chat=True,
                methods={self.mode: score},
                unscored_reasons=unscored,
                judge=self.judge["name"],
                judge_identity=[self.judge["identity"], self.judge["wording"]],
                contestants=sorted(one.record.fingerprint for one in self.contestants) if self.mode == "battle" else None,
                language=language,
            )
        tokens = sum(answer.tokens for answer in self.answers if answer.model == contestant.name)
        speed = Speed(seconds=self.seconds, questions_per_s=len(self.judgments) / max(self.seconds, 1e-9), tokens_computed=tokens)
        return Result(
            id=f"{slug(contestant.name)}-{self.identity}",
            model=contestant.record,
            tasks=tasks,
            speed=speed,
            environment=results.environment(self.device),
            seed=self.seed,
            identity=self.identity,
            settings=self.settings,
        )

    def summary(self) -> dict[str, Any]:
        """``judging.json``: who judged whom and how, and in which order they stand."""
        found: dict[str, Any] = {
            "format": 1,
            "mode": self.mode,
            "identity": self.identity,
            "judge": self.judge,
            "prompts": {"name": self.prompts.name, "sha256": self.prompts.sha256, "prompts": len(self.prompts.prompts)},
            "settings": self.settings,
            "contestants": [contestant.record.model_dump() | {"name": contestant.name} for contestant in self.contestants],
            "ranking": None if self.unranked else [name for name, _ in self.results],
            "unranked": self.unranked,
            "unscored": standing.reasons(self.judgments),
            "spent": self.spent,
            "seconds": self.seconds,
        }
        if self.battle is not None:
            found["battle"] = {
                "ratings": [vars(row) for row in self.battle.ratings.rows],
                "length_controlled": [vars(row) for row in self.battle.controlled.rows] if self.battle.controlled else None,
                "length_effect": self.battle.controlled.length if self.battle.controlled else None,
                "position_consistency": self.battle.consistent,
                "first_shown_wins": self.battle.first,
            }
        return found


def write(out: Path, outcome: Outcome) -> None:
    """Write all of it at once, or nothing."""
    with atomic.directory(out) as folder:
        atomic.write_json(folder / SUMMARY, outcome.summary())
        _write_lines(folder, outcome.judgments, outcome.answers)
        for name, result in outcome.results:
            atomic.write_json(folder / slug(name) / "results.json", result.model_dump(mode="json"))
        atomic.write_text(folder / "report.html", report.page(outcome.summary(), dict(outcome.results), _rows(outcome), outcome.rubrics))


def write_votes(out: Path, judgments: Sequence[Judgment], answers: Sequence[Answer]) -> None:
    """Write what was said of the replies of votes, at once or not at all."""
    with atomic.directory(out) as folder:
        _write_lines(folder, judgments, answers)


def slug(name: str) -> str:
    """*name* as the name of a folder."""
    return re.sub(r"[^\w.@+-]+", "-", name).strip("-.") or "model"


def _write_lines(folder: Path, judgments: Sequence[Judgment], answers: Sequence[Answer]) -> None:
    for name, rows in (("answers.jsonl", answers), (JUDGMENTS, judgments)):
        with (folder / name).open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row.model_dump(mode="json"), ensure_ascii=False) + "\n")


def _mean(result: Result) -> float:
    """The mean over the languages of a contestant's values: what it is ranked by."""
    values = [score.value for task in result.tasks.values() for score in task.methods.values() if score.value is not None]
    return sum(values) / len(values) if values else float("-inf")


def _rows(outcome: Outcome) -> list[report.Row]:
    """What the page lists: each turn of each prompt with all answers to it and all that was said of them."""
    said: dict[tuple[str, str, int], list[Judgment]] = {}
    for one in outcome.judgments:
        said.setdefault((one.language or "", one.prompt, one.turn), []).append(one)
    given: Mapping[tuple, Answer] = outcome.by_key
    rows = []
    for prompt in outcome.prompts.prompts:
        for turn in range(1, len(prompt.turns) + 1):
            found = [given.get((contestant.name, *prompt.key, turn)) for contestant in outcome.contestants]
            rows.append(report.Row(prompt, turn, [one for one in found if one is not None], said.get((*prompt.key, turn), [])))
    return rows
