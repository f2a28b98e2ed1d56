"""Letter probabilities: which of " A", " B", … does the model expect right after the question?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from evalkit.aggregate import share_right, shots_used
from evalkit.bench import Bench
from evalkit.encoding import Encoder
from evalkit.fitting import Fitted, longest
from evalkit.methods import Record
from evalkit.prompts import prompts
from evalkit.types import LETTERS, ChoiceTask, Question, Sample
from modelkit.errors import UserError
from modelkit.records import MethodScore

if TYPE_CHECKING:
    import torch


def measure(task: ChoiceTask, items: Sequence[Question], bench: Bench, record: Record) -> dict[str, Any]:
    """Score questions by the natural-log probability of each letter over the full vocabulary; the highest is the answer.

    The letters' tokens are those that the tokenizer gives them behind the prompt, with the protocol's lead (in a chat: with
    what the template writes before a reply). A letter that takes several tokens has the product of their probabilities.

    :raises UserError: when a letter has no tokens of its own behind the prompt.
    """
    encoder = bench.encoder()
    groups = _groups(task, encoder)
    room = max(len(ids) for tokens in groups.values() for ids in tokens.values()) - 1
    limit = longest(task.protocol.limit, bench.model.context, room)
    fitted = prompts(task, items, "letters", encoder, limit)
    samples = [
        Sample(item, "letters", gold=item.gold, prompt=one.text, reason=_why_not(item, one))
        for item, one in zip(items, fitted, strict=True)
    ]
    for sample, one in zip(samples, fitted, strict=True):
        sample.extra = ({} if one.header else {"header_dropped": True}) | ({"tokens_cut": one.cut} if one.cut else {})
    record([sample for sample in samples if sample.reason is not None])
    for ending, tokens in groups.items():
        asked = [i for i, sample in enumerate(samples) if sample.reason is None and _ending(task, items[i]) == ending]
        _score_group(bench, tokens, [fitted[i] for i in asked], [samples[i] for i in asked], record)
    facts = {lead_in: tokens for (lead_in, _), tokens in groups.items()}
    one_group = next(iter(groups.values()))
    return {"letter_tokens": one_group if len(groups) == 1 else facts, "bos": encoder.bos, "limit": limit}


def _score_group(bench: Bench, tokens: dict[str, list[int]], fitted: Sequence[Fitted], samples: Sequence[Sample], record: Record) -> None:
    """Score the questions behind whose prompts the letters are the same tokens."""

    def settle(batch: list[int], found: torch.Tensor) -> None:
        for row, k in enumerate(batch):
            question = samples[k].item
            assert isinstance(question, Question)
            samples[k].answer(dict(zip(LETTERS[: len(question.options)], found[row].tolist(), strict=False)), fitted[k].shots)
        record([samples[k] for k in batch])

    bench.model.string_logprobs([one.ids for one in fitted], list(tokens.values()), settle, record.wanted([sample.item for sample in samples]))


def score(task: ChoiceTask, samples: Sequence[Sample]) -> MethodScore:
    """Accuracy, and with how many shots the questions were asked."""
    dropped, cut = (sum(name in sample.extra for sample in samples) for name in ("header_dropped", "tokens_cut"))
    return share_right(
        samples, "accuracy", task.protocol.official, shots_used=shots_used(samples), headers_dropped=dropped, prompts_cut=cut
    )


def _groups(task: ChoiceTask, encoder: Encoder) -> dict[tuple[str, str], dict[str, list[int]]]:
    """For each way in which the task's prompts end: every letter's tokens behind it."""
    found: dict[tuple[str, str], list[Question]] = {}
    for item in task.items:
        if item.options:
            found.setdefault(_ending(task, item), []).append(item)
    if not found:
        raise UserError(f"{task.name} has no question with options, so no letters to score: use --method generate.")
    groups = {}
    for ending, questions in found.items():
        letters = LETTERS[: max(len(question.options) for question in questions)]
        (ask,) = task.protocol.asks(questions[0].subject, (), questions[:1], "letters")
        tokens = encoder.answer_tokens(ask.prompt(chat=encoder.chat), ending[1], list(letters))
        groups[ending] = dict(zip(letters, tokens, strict=True))
    return groups


def _ending(task: ChoiceTask, item: Question) -> tuple[str, str]:
    """The end of the question's prompt and what comes between it and a letter: all that a letter's tokens depend on."""
    return task.protocol.block(item)[-4:], task.protocol.lead(item)


def _why_not(item: Question, fitted: Fitted) -> str | None:
    return fitted.reason if item.options else "it has no options: only --method generate can ask it"
