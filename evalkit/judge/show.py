"""A judging in the terminal: the table, ratings, categories, agreement."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from evalkit.judge.agreement import Agreement, Opinions
from evalkit.judge.prompt_set import PromptSet
from evalkit.judge.rubrics import Rubrics
from evalkit.statistics import Interval
from modelkit.records import MethodScore

if TYPE_CHECKING:
    from rich.table import Table

    from evalkit.judge.outcome import Outcome


def outcome(made: Outcome, out: Path, console: Console) -> None:
    """Print what a judging came to."""
    found = {name: _by_language(result.tasks.values()) for name, result in made.results}
    console.print(_standing(made, found))
    if made.battle is not None:
        console.print(_ratings(made))
    console.print(_categories(made, found))
    for line in _notes(made):
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"{made.seconds:.1f} s · {made.spent} → {out}", markup=False, soft_wrap=True)


def agreement(left: Opinions, right: Opinions, rows: Sequence[Agreement], scores: tuple[int, float] | None, console: Console) -> None:
    """Print how far two sides agree."""
    made = _table(f"A {left.name}\nB {right.name}")
    for name in ("", "n", "equal", "95 %", "κ", "95 %", "decided", "equal"):
        made.add_column(name, justify="left" if not name else "right", no_wrap=True)
    for row in rows:
        made.add_row(
            row.group,
            f"{row.n:,}",
            _share(row.equal),
            f"{_share(row.equal_ci95[0])}–{_share(row.equal_ci95[1])}",
            "–" if row.kappa is None else f"{row.kappa:.2f}",
            "" if row.kappa_ci95 is None else f"{row.kappa_ci95[0]:.2f}–{row.kappa_ci95[1]:.2f}",
            f"{row.decided:,}",
            _share(row.decided_equal),
        )
    console.print(made)
    console.print("decided: neither calls a tie. κ is agreement beyond chance; – where one side always says the same.")
    for side in (left, right):
        alone = sum(map(len, side.by_pair.values())) - sum(len(side.by_pair[key]) for key in left.by_pair.keys() & right.by_pair.keys())
        notes = [f"{alone:,} comparisons the other side hasn't"] if alone else []
        notes += [f"{count:,} left out: {reason}" for reason, count in side.left_out.items()]
        if notes:
            console.print(f"{side.name}: {'; '.join(notes)}", markup=False, soft_wrap=True)
    if scores is not None:
        console.print(f"scores of {scores[0]:,} answers that both gave: Spearman's ρ {scores[1]:.2f}")


def prompts(found: PromptSet, rubrics: Rubrics, console: Console) -> None:
    """Print what a set holds: prompts, turns and references by category and language."""
    made = _table(f"{found.name} · {len(found.prompts):,} prompts · {found.sha256[:19]}")
    for name in ("category", "", "language", "prompts", "turns", "references", "temperature", "criteria"):
        made.add_column(name, justify="right" if name in ("prompts", "turns", "references", "temperature") else "left", overflow="fold")
    groups = dict.fromkeys((prompt.category, prompt.language) for prompt in found.prompts)
    for category, language in groups:
        own = [prompt for prompt in found.prompts if (prompt.category, prompt.language) == (category, language)]
        temperatures = {prompt.temperature if prompt.temperature is not None else rubrics.temperature(category) for prompt in own}
        made.add_row(
            category,
            rubrics.title(category, language),
            language,
            f"{len(own):,}",
            f"{sum(len(prompt.turns) for prompt in own):,}",
            f"{sum(any(prompt.references) for prompt in own):,}",
            ", ".join(f"{value:g}" for value in sorted(temperatures)),
            ", ".join(rubrics.of(category, language).criteria),
        )
    console.print(made)


def _standing(made: Outcome, found: dict[str, dict[str, MethodScore]]) -> Table:
    table = _table(f"{made.prompts.name} · {made.mode} · judged by {made.judge['name']}")
    table.add_column("model", overflow="fold")
    languages = sorted({language for scores in found.values() for language in scores})
    for language in languages:
        for name in (language, "95 %", "n", "unscored", "language", "characters"):
            table.add_column(name, justify="right", no_wrap=True)
    for name, scores in found.items():
        cells = [cell for language in languages for cell in _cells(made, scores.get(language))]
        table.add_row(name, *cells)
    return table


def _cells(made: Outcome, score: MethodScore | None) -> list[str]:
    if score is None:
        return [""] * 6
    extra = score.model_extra or {}
    return [
        _value(made, score.value),
        f"{_value(made, score.ci95[0])}–{_value(made, score.ci95[1])}" if score.ci95 else "",
        f"{score.n:,}",
        f"{score.unscored:,}",
        _share(extra.get("language_match")),
        f"{extra['characters']:.0f}" if "characters" in extra else "",
    ]


def _ratings(made: Outcome) -> Table:
    assert made.battle is not None
    table = _table("Bradley–Terry, Elo's scale, mean 1000")
    for name in ("model", "rating", "95 %", "at equal length", "won", "tied", "lost"):
        table.add_column(name, justify="left" if name == "model" else "right")
    controlled = {row.player: row.rating for row in made.battle.controlled.rows} if made.battle.controlled else {}
    for row in made.battle.ratings.rows:
        table.add_row(
            row.player,
            row.reason or "" if row.rating is None else f"{row.rating:.0f}",
            _interval(row.ci95),
            f"{rating:.0f}" if (rating := controlled.get(row.player)) is not None else "",
            *(f"{count:,}" for count in (row.wins, row.ties, row.losses)),
        )
    return table


def _categories(made: Outcome, found: dict[str, dict[str, MethodScore]]) -> Table:
    table = _table("by category")
    table.add_column("category")
    table.add_column("")
    for name in found:
        table.add_column(name, justify="right", overflow="fold")
    groups = dict.fromkeys((prompt.category, prompt.language) for prompt in made.prompts.prompts)
    for category, language in groups:
        cells = [
            (scores[language].model_extra or {})["by_category"].get(category) if language in scores else None for scores in found.values()
        ]
        table.add_row(category, language, *(_value(made, cell["value"]) if cell else "" for cell in cells))
    return table


def _notes(made: Outcome) -> list[str]:
    lines = [made.unranked] if made.unranked else []
    lines += [f"{count:,} unscored: {reason}" for reason, count in made.summary()["unscored"].items()]
    if made.battle is not None and made.battle.consistent is not None:
        lines.append(f"position: both orders agree in {_share(made.battle.consistent)}; the first shown wins {_share(made.battle.first)}")
    if made.battle is not None and made.battle.controlled is not None and made.battle.controlled.length is not None:
        lines.append(f"length: log-odds {made.battle.controlled.length:+.2f} for an answer that is far longer")
    return lines


def _by_language(tasks: Any) -> dict[str, MethodScore]:
    return {task.model_extra["language"]: score for task in tasks for score in task.methods.values()}


def _value(made: Outcome, value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}" if made.mode == "score" else f"{value:.1%}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _interval(bounds: Interval | None) -> str:
    return f"{bounds[0]:.0f}–{bounds[1]:.0f}" if bounds else ""


def _table(title: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    return Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
