"""Why a reward model says the same for everything: looks at its files, its template, its data and its rewards, cause by cause."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from modelkit import checkpoint
from modelkit.chat import Message
from modelkit.context import longest_sequence
from modelkit.errors import UserError
from modelkit.reward import last_token_values
from modelkit.scoring.batches import by_length, right_pad
from trainers.data import formats

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_MOST = 200
_SAME = 1e-4
_BUDGET = 8192
_PROBES = [
    ("What is two plus two?", "Two plus two is four.", "no no no no no no"),
    ("Name a fruit.", "An apple is a fruit.", "Go away."),
    ("What colour is the sky?", "The sky is blue on a clear day.", "The sky"),
    ("How do I boil an egg?", "Put it into boiling water for about eight minutes.", "egg egg egg egg"),
    ("天空是什么颜色？", "晴天时天空是蓝色的。", "别再问我了。"),
    ("请说出一种水果。", "苹果是一种水果。", "石头 石头 石头"),
]
"""What is asked when there is no data: answers that any reward model should tell apart."""


@dataclass(frozen=True)
class Finding:
    """One cause: its name, what was seen, and what to do about it."""

    cause: str
    seen: str
    remedy: str


@dataclass(frozen=True)
class Examination:
    """What was measured (rewards of pairs, as plain numbers) and what was found, the likeliest cause first."""

    pairs: int
    source: str
    numbers: dict[str, float]
    findings: list[Finding]


@dataclass(frozen=True)
class _Case:
    """Everything the questions below are asked about. Sequences alternate: chosen, rejected, chosen, …"""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    context: int
    texts: list[str]
    sequences: list[list[int]]
    replies: list[str]


def examine(path: Path, data: Path | None = None) -> Examination:
    """Look at the reward model in *path*, on the pairs of *data*, of its own run, or on a few made up here.

    :raises UserError: when the checkpoint isn't a whole reward model or the data can't be read.
    """
    model, tokenizer = checkpoint.load_model(path, "reward"), checkpoint.load_tokenizer(path)
    source, rows = _rows(path, data)
    conversations: list[list[Message]] = [
        [*row["messages"], {"role": "assistant", "content": row[side]}] for row in rows for side in ("chosen", "rejected")
    ]
    if tokenizer.chat_template is None:
        raise UserError(
            f"{path} has no chat template, so nobody can know what it was trained on: copy chat_template.jinja from its SFT model."
        )
    texts = [_render(tokenizer, chat) for chat in conversations]
    sequences = [_ids(tokenizer, text) for text in texts]
    context = min(longest_sequence(model.config) or tokenizer.model_max_length, tokenizer.model_max_length)
    case = _Case(model, tokenizer, context, texts, sequences, [chat[-1]["content"] for chat in conversations])
    findings = [finding for question in _QUESTIONS for finding in question(case)]
    rewards = _rewards(model, [ids[:context] for ids in sequences])
    numbers = _numbers(rewards)
    findings += _head(case, numbers)
    return Examination(len(rows), source, numbers, findings)


def describe(found: Examination) -> str:
    """The examination in a few lines: what was measured, then each cause with what was seen and what to do."""
    numbers = found.numbers
    lines = [
        f"{found.pairs} pairs from {found.source}",
        f"ranked right {numbers['accuracy']:.1%} (95 % interval {numbers['accuracy_low']:.1%} … {numbers['accuracy_high']:.1%}) · "
        f"margin {numbers['margin']:.3g} · rewards {numbers['reward_mean']:.3g} ± {numbers['reward_sd']:.3g}",
    ]
    lines += [f"✗ {finding.cause}: {finding.seen}\n  → {finding.remedy}" for finding in found.findings]
    return "\n".join(lines if found.findings else [*lines, "✓ no cause for concern was found"])


def _template_lacks_the_reply(case: _Case) -> Iterator[Finding]:
    missing = sum(reply.strip() not in text for reply, text in zip(case.replies, case.texts, strict=True))
    if missing:
        yield Finding(
            "template lacks the reply",
            f"{missing} of {len(case.texts)} rendered conversations don't contain the assistant's last reply",
            "use the chat template the model was trained with: it must write out assistant turns",
        )


def _identical_texts(case: _Case) -> Iterator[Finding]:
    same = sum(one == other for one, other in zip(case.sequences[::2], case.sequences[1::2], strict=True))
    if same:
        yield Finding(
            "identical texts",
            f"in {same} of {len(case.sequences) // 2} pairs chosen and rejected are the same tokens",
            "remove such pairs, or look for what makes them equal (see the other findings)",
        )


def _truncation_cut_the_answer(case: _Case) -> Iterator[Finding]:
    long = sum(len(ids) > case.context for ids in case.sequences)
    cut = [(one[: case.context], other[: case.context]) for one, other in zip(case.sequences[::2], case.sequences[1::2], strict=True)]
    made_equal = sum(
        one == other and before != after for (one, other), before, after in zip(cut, case.sequences[::2], case.sequences[1::2], strict=True)
    )
    if long:
        yield Finding(
            "truncation cuts the answer",
            f"{long} of {len(case.sequences)} conversations are longer than {case.context} tokens; cut, {made_equal} pairs become equal",
            "drop such rows as `trainers rm` does, cut prompts from the left, or use a model with a longer context",
        )


def _pad_and_eos(case: _Case) -> Iterator[Finding]:
    pad, eos = case.model.config.pad_token_id, case.tokenizer.eos_token_id
    if pad is None:
        yield Finding(
            "no padding token",
            "config.json has no pad_token_id, so transformers refuses batches, or reads the reward at their last column",
            "set pad_token_id to a token that never ends a reply",
        )
    elif pad == eos:
        yield Finding(
            "pad is the end-of-sequence token",
            f"pad_token_id and eos_token_id are both {eos}: code that looks for padding takes the reply's own end for it",
            "give the tokenizer a padding token of its own and set pad_token_id to it",
        )


def _wrong_last_token(case: _Case) -> Iterator[Finding]:
    """The reward must be read where the reply ends: by the template's order, and by transformers' own forward pass."""
    eos = case.tokenizer.eos_token_id
    tails = [ids[ids.index(eos, len(ids) - min(len(ids), 8)) + 1 :] if eos in ids[-8:] else None for ids in case.sequences]
    if all(tail is None for tail in tails):
        yield Finding(
            "wrong last token",
            "no conversation ends with the end-of-sequence token, so the reward is read in mid-text",
            "use a chat template that writes the end-of-sequence token after each reply",
        )
    pad = case.model.config.pad_token_id
    fitting = [ids for ids in case.sequences if len(ids) <= case.context][:8]
    if pad is None or len(fitting) < 2:
        return
    ours, theirs = _rewards(case.model, fitting), _by_transformers(case.model, fitting, pad)
    differing = int(((ours - theirs).abs() > 1e-3 * (1 + ours.abs())).sum())
    if differing:
        yield Finding(
            "wrong last token",
            f"in {differing} of {len(fitting)} conversations of a padded batch transformers reads another token than the last",
            f"make pad_token_id ({pad}) a token that no text contains, and pad on the right",
        )


_QUESTIONS = (_template_lacks_the_reply, _identical_texts, _truncation_cut_the_answer, _pad_and_eos, _wrong_last_token)


def _head(case: _Case, numbers: dict[str, float]) -> Iterator[Finding]:
    head: Any = case.model.score
    weight = head.weight.detach().float()
    fresh = (case.model.config.hidden_size + 1) ** -0.5, float(getattr(case.model.config, "initializer_range", 0.02))
    spread = float(weight.std())
    guesses = numbers["accuracy_low"] <= 0.5
    if float(weight.abs().max()) == 0:
        yield Finding(
            "head not trained", "all weights of the scalar head are zero", "train it, or look for the head among the weights saved"
        )
    elif numbers["reward_sd"] < _SAME:
        yield Finding(
            "the same reward for everything",
            f"rewards of {int(numbers['texts'])} texts spread by {numbers['reward_sd']:.1e} only",
            "look at the other findings; without any, the body's last layer has collapsed: train again at a lower learning rate",
        )
    elif numbers["accuracy_high"] < 0.5:
        yield Finding(
            "sides mixed up",
            f"only {numbers['accuracy']:.0%} of the pairs are ranked right, fewer than guessing would",
            "swap chosen and rejected, here or in the data it was trained on",
        )
    elif guesses and any(abs(spread / expected - 1) < 4 / math.sqrt(2 * weight.numel()) for expected in fresh):
        yield Finding(
            "head not trained",
            f"the head's weights spread by {spread:.4f}, as if drawn at random, and it ranks {numbers['accuracy']:.0%} of pairs right",
            "train it longer or at a higher learning rate; a LoRA run must save the head (modules_to_save)",
        )
    elif guesses:
        yield Finding(
            "no better than guessing",
            f"{numbers['accuracy']:.0%} of the pairs are ranked right (95 % interval from {numbers['accuracy_low']:.0%})",
            "check that the data is of the kind it was trained on, and train longer",
        )


def _numbers(rewards: torch.Tensor) -> dict[str, float]:
    """Accuracy with its 95 % interval (Wilson 1927), mean margin, spread; ties count as wrong."""
    differences = rewards[::2] - rewards[1::2]
    n, share, z = len(differences), float((differences > 0).float().mean()), 1.96
    centre, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return {
        "texts": float(len(rewards)),
        "accuracy": share,
        "accuracy_low": (centre - half) / (1 + z * z / n),
        "accuracy_high": (centre + half) / (1 + z * z / n),
        "margin": float(differences.mean()),
        "reward_mean": float(rewards.mean()),
        "reward_sd": float(rewards.std()),
    }


@torch.inference_mode()
def _rewards(model: PreTrainedModel, sequences: Sequence[list[int]]) -> torch.Tensor:
    result = torch.zeros(len(sequences))
    for rows in by_length([len(ids) for ids in sequences], _BUDGET):
        result[rows] = last_token_values(model, [sequences[i] for i in rows]).cpu()
    return result


@torch.inference_mode()
def _by_transformers(model: PreTrainedModel, sequences: Sequence[list[int]], pad: int) -> torch.Tensor:
    """The rewards that transformers' own forward pass gives a right-padded batch."""
    lengths = torch.tensor([len(ids) for ids in sequences])
    mask = torch.arange(int(lengths.max()))[None] < lengths[:, None]
    ids = right_pad(sequences).masked_fill(~mask, pad)
    return model(input_ids=ids.to(model.device), attention_mask=mask.long().to(model.device)).logits[:, 0].float().cpu()


def _render(tokenizer: PreTrainedTokenizerBase, chat: Sequence[Message]) -> str:
    plain = [{"role": message["role"], "content": message["content"]} for message in chat]
    return str(tokenizer.apply_chat_template(plain, tokenize=False))


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Tokens up to the last end-of-sequence token, where there is one: what a template writes after it is never scored."""
    ids = list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    eos = tokenizer.eos_token_id
    return ids[: len(ids) - ids[::-1].index(eos)] if eos in ids else ids


def _rows(path: Path, data: Path | None) -> tuple[str, list[dict[str, Any]]]:
    """Where the pairs come from, and at most 200 of them, evenly from the file."""
    own = [path.parent / "data" / "benchmark" / "pairs.jsonl", path.parent / "data" / "pairs.jsonl"]
    file = data or next((one for one in own if one.is_file()), None)
    if file is None:
        rows = [{"messages": [{"role": "user", "content": asked}], "chosen": good, "rejected": bad} for asked, good, bad in _PROBES]
        return "six pairs made up for this", rows
    rows = formats.load(file, "preference").rows
    return str(file), rows[:: max(1, len(rows) // _MOST)][:_MOST]
