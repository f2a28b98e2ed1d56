"""What a reader of a result's table should know beside the numbers, line by line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from evalkit.permutation import Robustness
from modelkit.records import MethodScore, Result, TaskScore

_MANY_UNPARSED = 0.05


def notes(result: Result) -> list[str]:
    """One line for each: what was dropped or left unscored, what is not the official number, and further numbers."""
    lines = []
    for task, score in result.tasks.items():
        lines += [f"{task}: {line}" for line in _of_task(score)]
        for method, found in score.methods.items():
            lines += [f"{task} · {method}: {line}" for line in _of_method(found)]
    return lines


def number(found: MethodScore, value: float | None) -> str:
    """A value of a score: a share in per cent, anything else as it is, none at all as a dash."""
    if value is None:
        return "–"
    return f"{value:.1%}" if found.micro is not None else f"{value:.4f}"


def _of_task(score: TaskScore) -> Iterator[str]:
    extra = score.model_extra or {}
    if score.shots and set(score.shots_used) != {str(score.shots)}:
        used = ", ".join(f"{shots}: {count:,}" for shots, count in score.shots_used.items())
        yield f"not all {score.shots} shots fit the model's context; questions by shots used: {used or 'none'}"
    if approximate := extra.get("approximate"):
        yield f"approximate, since {approximate}"
    if oddities := extra.get("data_notes"):
        yield "in its data, by row in quarantine.jsonl: " + ", ".join(f"{rule} {count:,}" for rule, count in oddities.items())
    for reason, count in score.unscored_reasons.items():
        yield f"{count:,} unscored: {reason}"
    if tokens := extra.get("letter_tokens"):
        yield f"letters are tokens {tokens}; beginning of sequence: {extra['bos']}"


def _of_method(found: MethodScore) -> Iterator[str]:
    further = dict(found.model_extra or {})
    if unofficial := further.get("unofficial"):
        yield f"not the official number: {', '.join(unofficial)}"
    if checked := further.get("verified"):
        yield f"{checked['n']:,} scored again, alone and without reuse: max |Δ log p| {checked['max_delta']:.1e}"
    if unparsed := further.pop("unparsed", 0):
        much = " – many: read some of them before you trust the score" if unparsed > _MANY_UNPARSED * found.n else ""
        yield f"{unparsed:,} replies of {found.n:,} state no answer{much}"
    if shares := further.get("normalisations"):
        yield "value by log-probability " + ", ".join(f"{kind} {number(found, value)}" for kind, value in shares.items())
    if sets := further.get("multiple"):
        yield (
            f"{sets['n']:,} questions with several right options: {sets['exact_match']:.1%} whole sets, "
            f"{sets['partial_credit']:.1%} with partial credit"
        )
    if plain := _plain_numbers(further):
        yield plain
    for exam, part in (further.get("exam") or {}).items():
        yield f"{part['points']:.1f} of the {part['of']:.0f} points that objective papers decide in the exam of {exam}"
    if sure := further.get("calibration"):
        yield f"mean confidence {sure['confidence']:.1%}, ECE {sure['ece']:.3f}, Brier score {sure['brier']:.3f}"
    if turned := further.get("permutation"):
        yield _permutation(turned)


def _plain_numbers(further: dict[str, Any]) -> str:
    """All that is but a number, apart from what stands in the table; counts of what never happened are left out."""
    numbers = {name: value for name, value in further.items() if name != "over_chance" and isinstance(value, int | float)}
    return ", ".join(f"{name} {value:.4g}" for name, value in numbers.items() if value or isinstance(value, float))


def _permutation(found: Robustness) -> str:
    if not found["n"]:
        return "no question was scored in all orders of its options"
    accuracies = ", ".join(f"{share:.1%}" for share in found["accuracy"])
    chosen = ", ".join(f"{letter} {place['chosen']:.1%}" for letter, place in found["places"].items())
    return (
        f"options in every order, {found['n']:,} questions: accuracy {accuracies} (mean {found['mean']:.1%}); same text chosen in all "
        f"orders {found['consistency']:.1%}; chosen by place {chosen}; recall varies by {found['recall_sd']:.3f} between places"
    )
