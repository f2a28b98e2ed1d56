"""Letter probabilities: which of " A", " B", … does the model expect right after the question?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evalkit.aggregate import lost, several_right, share_right, shots_used
from evalkit.bench import Bench
from evalkit.calibration import calibration
from evalkit.fitting import Fitted, longest
from evalkit.methods import Record
from evalkit.models.face import Face, Letters, Reading
from evalkit.prompts import prompts
from evalkit.types import LETTERS, ChoiceTask, Question, Sample
from modelkit.errors import UserError
from modelkit.records import MethodScore


def measure(task: ChoiceTask, items: Sequence[Question], bench: Bench, record: Record) -> dict[str, Any]:
    """Score questions by the natural-log probability of each letter over the full vocabulary; the highest is the answer.

    The letters are looked for behind the protocol's lead (in a chat: behind what the template writes before a reply).

    :raises UserError: when the model can't tell a letter's probability there.
    """
    face = bench.face
    groups = _groups(task, face)
    limit = longest(task.protocol.limit, face.context, max(letters.room for letters in groups.values()))
    fitted = prompts(task, items, "letters", face.encoder, limit)
    samples = [
        Sample(item, "letters", gold=item.gold, prompt=one.text, reason=why_not(item, one)) for item, one in zip(items, fitted, strict=True)
    ]
    for sample, one in zip(samples, fitted, strict=True):
        sample.extra = one.losses
    record([sample for sample in samples if sample.reason is not None])
    for ending, letters in groups.items():
        asked = [i for i, sample in enumerate(samples) if sample.reason is None and task.ending(items[i]) == ending]
        _score_group(face, letters, [fitted[i] for i in asked], [samples[i] for i in asked], record)
    facts = {lead_in: letters.shown for (lead_in, _), letters in groups.items()}
    return {"letter_tokens": facts if len(groups) > 1 else next(iter(facts.values())), "bos": face.encoder.bos, "limit": limit}


def _score_group(face: Face, letters: Letters, fitted: Sequence[Fitted], samples: Sequence[Sample], record: Record) -> None:
    """Score the questions behind whose prompts the letters are the same tokens."""

    def settle(batch: list[int], found: list[Reading]) -> None:
        for k, reading in zip(batch, found, strict=True):
            question = samples[k].item
            assert isinstance(question, Question)
            samples[k].reason = reading.reason
            samples[k].extra |= reading.facts
            if reading.reason is None:
                samples[k].answer(dict(zip(LETTERS[: len(question.options)], reading.logprobs, strict=False)), fitted[k].shots)
        record([samples[k] for k in batch])

    face.letter_logprobs(fitted, letters, settle, record.wanted([sample.item for sample in samples]))


def score(task: ChoiceTask, samples: Sequence[Sample]) -> MethodScore:
    """Accuracy, calibration, and with how many shots the questions were asked."""
    return share_right(
        samples,
        "accuracy",
        task.protocol.official,
        shots_used=shots_used(samples),
        **lost(samples),
        calibration=calibration([(sample.scores, sample.gold) for sample in samples if sample.scores and sample.gold in sample.scores]),
        **several_right(samples),
    )


def _groups(task: ChoiceTask, face: Face) -> dict[tuple[str, str], Letters]:
    """For each way in which the task's prompts end: how the letters are looked for behind it."""
    if not task.endings:
        raise UserError(f"{task.name} has no question with options, so no letters to score: use --method generate.")
    groups = {}
    for ending, question in task.endings.items():
        (ask,) = task.protocol.asks(question.subject, (), [question], "letters")
        groups[ending] = face.letters(
            ask.prompt(chat=face.encoder.chat), task.protocol.lead(question), task.protocol.symbols[: len(question.options)]
        )
    return groups


def why_not(item: Question, fitted: Fitted) -> str | None:
    """Why letters and options' texts can't be scored, if they can't."""
    return fitted.reason if item.fault or item.options else "it has no options: only --method generate can ask it"
