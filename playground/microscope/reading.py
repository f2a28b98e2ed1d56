"""What training changed, token by token: one prompt and reply, read by two checkpoints, the reward model and the critic of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TookTooLong
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from modelkit.chat import Message, encode_chat, encode_prompt, stop_ids
from modelkit.errors import UserError
from playground.api.tokens import TokenTexts
from playground.entries import Entry
from playground.microscope.sentences import sentences
from playground.models import Loaded, LoadedReward, Models
from playground.settings import MAX_PROMPT_CHARACTERS

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MAX_REPLY_TOKENS = 256
MAX_CONVERSATION_TOKENS = 2048
MAX_NEW_TOKENS = 96
"""Most that a model writes from here on."""
ALTERNATIVES = 5
"""How many of each model's likeliest tokens are offered at a position."""
_WAIT_SECONDS = 60.0
Result = TypeVar("Result")


@dataclass(frozen=True)
class Alternative:
    """A token that could stand at a position, with its natural-log probability there under both checkpoints; whether it ends a reply."""

    token: int
    text: str
    before: float
    after: float
    ends: bool = False


@dataclass(frozen=True)
class Token:
    """A token of the reply; the last one usually ``ends`` it. ``kl`` is KL(after ‖ before) over the vocabulary at its position, in nats.

    ``value`` is the critic's once this token is read; ``reward`` what the reward model would give, did the reply end here; either is
    ``None`` where the run has no such model, or one that splits the text otherwise.
    """

    id: int
    text: str
    before: float
    after: float
    kl: float
    alternatives: tuple[Alternative, ...]
    value: float | None = None
    reward: float | None = None
    ends: bool = False

    @property
    def log_ratio(self) -> float:
        """ln p_after − ln p_before, in nats. Summed over a reply that *after* sampled, it estimates the KL that PPO's penalty is of."""
        return self.after - self.before


@dataclass(frozen=True)
class Removed:
    """A sentence, and the reward that the reply would get without it."""

    text: str
    reward: float


@dataclass(frozen=True)
class Reading:
    """All that the microscope shows of a reply to *prompt*. ``before`` and ``after`` are checkpoints' ids, ``context`` what comes before.

    ``reward`` is the whole reply's, ``judge`` whose; ``misaligned`` says that the reward model or critic splits the text otherwise.
    """

    before: str
    after: str
    prompt: str
    context: tuple[int, ...]
    tokens: tuple[Token, ...]
    reward: float | None = None
    judge: str | None = None
    removed: tuple[Removed, ...] = ()
    misaligned: bool = False


def default_pair(models: Models) -> tuple[str | None, str | None]:
    """SFT and RL of the first run that has them; else whatever there is that can write."""
    writers = offered(models)
    shown = {entry.kind: entry.id for entry in writers if entry.id in models.defaults()}
    ids = [entry.id for entry in writers]
    return shown.get("sft") or (ids[0] if ids else None), shown.get("rl") or (ids[-1] if ids else None)


def offered(models: Models) -> list[Entry]:
    """The checkpoints that can be compared: those that give the next token's probabilities."""
    return [entry for entry in models.catalogue() if entry.kind != "reward"]


def examine(models: Models, before: str, after: str, prompt: str, reply: str) -> Reading:
    """Read a reply with every model that has something to say about it, each in one pass on its own thread.

    :raises UserError: when there is no text, too much of it, or the two checkpoints split it into different tokens.
    """
    messages = _conversation(prompt, reply)
    first, second = models.language(models.entry(before)), models.language(models.entry(after))
    ids, start = _encoded(second.tokenizer, messages)
    if _encoded(first.tokenizer, messages)[0] != ids:
        raise UserError("these two checkpoints split the text into different tokens, which can't be compared: choose two of one run.")
    if len(ids) - start > MAX_REPLY_TOKENS or len(ids) > MAX_CONVERSATION_TOKENS:
        raise UserError(
            f"prompt and reply have {len(ids):,} tokens, {len(ids) - start:,} of them the reply's: "
            f"at most {MAX_CONVERSATION_TOKENS:,} and {MAX_REPLY_TOKENS} can be looked at."
        )
    for loaded in (first, second):
        if loaded.engine.context is not None and len(ids) > loaded.engine.context:
            raise UserError(f"prompt and reply have {len(ids):,} tokens, but a model reads {loaded.engine.context:,}: shorten them.")
    judge, critic = models.reward(models.entry(after)), models.critic(models.entry(after))
    passes = [loaded.worker.run(_job(_logprobs, loaded.model, ids, start)) for loaded in (first, second)]
    judged = judge.worker.run(_job(_rewards, judge, messages)) if judge else None
    valued = critic.worker.run(_job(_values, critic, messages)) if critic else None
    old, new = (_wait(reading) for reading in passes)
    if old.shape != new.shape:
        raise UserError("these two checkpoints have vocabularies of different sizes, which can't be compared: choose two of one run.")
    tokens = _tokens(TokenTexts(second.tokenizer), stop_ids(second.tokenizer, second.model), ids[start:], old, new)
    rewards, values = _wait(judged) if judged else None, _wait(valued) if valued else None
    misaligned = any(found is not None and found.ids != ids for found in (rewards, values))
    return Reading(
        before,
        after,
        messages[0]["content"],
        tuple(ids[:start]),
        tuple(
            replace(token, value=value, reward=reward)
            for token, value, reward in zip(tokens, _along(values, ids, len(tokens)), _along(rewards, ids, len(tokens)), strict=True)
        ),
        rewards.running[-1] if rewards else None,
        _judge_of(models, after) if rewards else None,
        tuple(Removed(text.strip(), reward) for text, reward in rewards.removed) if rewards else (),
        misaligned,
    )


def write(models: Models, writer: str, prompt: str) -> str:
    """The likeliest reply of a checkpoint, token by token.

    :raises UserError: when it can't answer.
    """
    loaded = models.language(models.entry(writer))
    prompt = _checked(prompt)
    return _decoded(loaded, _drawn(loaded, encode_prompt(loaded.tokenizer, [Message(role="user", content=prompt)]), MAX_NEW_TOKENS))


def go_on(models: Models, reading: Reading, place: int, token: int, writer: str) -> str:
    """The reply up to a position, another token there, and how *writer* goes on from it, always taking the likeliest token.

    :raises UserError: when the token isn't among the position's alternatives, or the writer not one of the two that were compared.
    """
    offered = reading.tokens[place].alternatives if 0 <= place < len(reading.tokens) else ()
    if token not in {other.token for other in offered} or writer not in (reading.before, reading.after):
        raise UserError("this token is not on offer any more: look at the reply again.")
    loaded = models.language(models.entry(writer))
    said = [*(other.id for other in reading.tokens[:place]), token]
    room = min(MAX_NEW_TOKENS, MAX_REPLY_TOKENS - len(said) - 1)
    if token not in stop_ids(loaded.tokenizer, loaded.model) and room > 0:
        said += _drawn(loaded, [*reading.context, *said], room)
    return _decoded(loaded, said)


@dataclass(frozen=True)
class _Scores:
    """Scalars by token of the reply, the tokens they belong to (the whole conversation's), and rewards without each sentence."""

    ids: list[int]
    running: list[float]
    removed: tuple[tuple[str, float], ...] = ()


def _conversation(prompt: str, reply: str) -> list[Message]:
    if not (reply or "").strip():
        raise UserError("there is no reply to look at: type one, or let a checkpoint write it.")
    return [Message(role="user", content=_checked(prompt)), Message(role="assistant", content=_checked(reply))]


def _checked(text: str) -> str:
    text = (text or "").strip()
    if not text:
        raise UserError("there is no prompt: type one.")
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise UserError(f"this text has {len(text):,} characters, more than the {MAX_PROMPT_CHARACTERS:,} allowed.")
    return text


def _encoded(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> tuple[list[int], int]:
    """A conversation's token ids, and where its last reply begins."""
    chat = encode_chat(tokenizer, messages, last_only=True)
    return chat.ids, chat.assistant.index(True)


def _along(scores: _Scores | None, ids: list[int], count: int) -> Sequence[float | None]:
    """Scalars by token, where there are any for these very tokens."""
    return scores.running if scores and scores.ids == ids else [None] * count


def _job(work: Callable[..., Result], *told: object) -> Callable[[], Result]:
    """A pass without gradients."""

    def job() -> Result:
        import torch

        with torch.inference_mode():
            return work(*told)

    return job


def _wait(future: Future[Result]) -> Result:
    try:
        return future.result(_WAIT_SECONDS)
    except TookTooLong:
        future.cancel()
        raise UserError("the models are busy: try again in a minute.") from None


def _logprobs(model: PreTrainedModel, ids: Sequence[int], start: int) -> torch.Tensor:
    """Natural-log probabilities of every token at the reply's positions, fp32 [reply, vocabulary], on the CPU."""
    import torch

    from modelkit.scoring.logits import logits_at

    columns = torch.arange(start - 1, len(ids) - 1, device=model.device)
    logits = logits_at(model, torch.tensor([ids], device=model.device), torch.zeros_like(columns), columns)
    return logits.log_softmax(-1).cpu()


def _rewards(judge: LoadedReward, messages: Sequence[Message]) -> _Scores:
    """The reward of the reply cut after each of its tokens, and without each of its sentences; what they share is computed once."""
    from modelkit.linear import fast_linear
    from modelkit.reward import grouped_last_token_values

    model, tokenizer = judge.model.model, judge.model.tokenizer
    ids, start = _encoded(tokenizer, messages)
    end = ids[-1:] if ids[-1] == tokenizer.eos_token_id else []
    cut = [ids[:place] + end for place in range(start + 1, len(ids) - len(end) + 1)]
    parts = sentences(messages[-1]["content"])
    shorter = ["".join(parts[:place] + parts[place + 1 :]).strip() for place in range(len(parts))]
    without = [_encoded(tokenizer, [*messages[:-1], Message(role="assistant", content=text)])[0] for text in shorter]
    with fast_linear(model.device, model.dtype):
        found = grouped_last_token_values(model, [[*cut, *without]]).tolist()
    running = [*found[: len(cut)], *found[len(cut) - 1 : len(cut)] * len(end)]
    return _Scores(ids, running, tuple(zip(parts, found[len(cut) :], strict=True)))


def _values(critic: LoadedReward, messages: Sequence[Message]) -> _Scores:
    """The critic's value after each token of the reply."""
    import torch

    from modelkit.reward import token_values

    model = critic.model.model
    ids, start = _encoded(critic.model.tokenizer, messages)
    return _Scores(ids, token_values(model, torch.tensor([ids], device=model.device))[0, start:].tolist())


def _tokens(texts: TokenTexts, stops: Sequence[int], ids: Sequence[int], before: torch.Tensor, after: torch.Tensor) -> list[Token]:
    """The reply's tokens from both models' log-probabilities, [reply, vocabulary]; *stops* end a reply."""
    import torch

    from playground.microscope.divergence import exact_kl, likeliest

    found = []
    kl, others = exact_kl(before, after).tolist(), likeliest(before, after, torch.tensor(ids), ALTERNATIVES)
    for place, (token, offered) in enumerate(zip(ids, others, strict=True)):
        alternatives = {
            other: Alternative(other, legible(texts.bytes(other)), float(before[place, other]), float(after[place, other]), other in stops)
            for other in offered
        }
        own = alternatives[token]
        found.append(Token(token, own.text, own.before, own.after, kl[place], tuple(alternatives.values()), ends=own.ends))
    return found


def legible(written: bytes) -> str:
    """What a token writes; bytes that are no whole characters by themselves in hexadecimal, ``‹E4 BD›``."""
    try:
        return written.decode()
    except UnicodeDecodeError:
        return f"‹{written.hex(' ').upper()}›"


def _drawn(loaded: Loaded, ids: Sequence[int], room: int) -> list[int]:
    from modelkit.generation.requests import Request
    from modelkit.generation.sampling import Sampling

    asked = Request(ids, Sampling(max_tokens=room, temperature=0.0), stop_ids(loaded.tokenizer, loaded.model), seconds=_WAIT_SECONDS)
    sample = loaded.engine.submit(asked).samples()[0]
    if sample.error:
        raise UserError(sample.error)
    return sample.ids


def _decoded(loaded: Loaded, ids: Sequence[int]) -> str:
    """Text of token ids; a character that the length limit has cut off is left out."""
    return str(loaded.tokenizer.decode(list(ids), skip_special_tokens=True)).rstrip("\ufffd").strip()


def _judge_of(models: Models, checkpoint: str) -> str | None:
    judge = models.sibling(models.entry(checkpoint), "reward")
    return judge.id if judge else None
