"""Rows → token sequences with labels; whatever does not fit is counted."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from modelkit.chat import EncodedChat, HistoryRewritten, encode_chat, encode_prompt
from modelkit.checkpoint import DataSource
from modelkit.errors import UserError
from trainers.data import formats
from trainers.data.cache import TokenCache
from trainers.data.files import HUB, open_source
from trainers.data.formats import Kind, Problem, Row
from trainers.recipe import Mixture

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedTokenizerBase

T = TypeVar("T")


@dataclass(frozen=True)
class Example:
    """One sequence to learn from: ``labelled`` marks the tokens whose prediction counts (never the first).

    ``start`` is the share of a stage's steps after which the example joins in, ``weight`` how often an epoch holds it, ``place`` the
    file and line of its row (here and below), ``row`` that row's index: a long text gives several examples, and so may a conversation.
    """

    ids: list[int]
    labelled: list[bool]
    start: float = 0.0
    weight: float = 1.0
    place: str = ""
    row: int = 0


@dataclass(frozen=True)
class Pair:
    """Two complete conversations with the same prompt, the first preferred (by *margin*, where a grade is known).

    ``starts`` are the positions where the two replies begin; pairs of one ranked list of answers share its ``ranking``.
    """

    chosen: list[int]
    rejected: list[int]
    starts: tuple[int, int] = (0, 0)
    margin: float = 0.0
    ranking: str | None = None
    weight: float = 1.0
    place: str = ""


@dataclass(frozen=True)
class Labelled:
    """A complete conversation, where its last reply begins, and whether that reply was called a good one."""

    ids: list[int]
    start: int
    desirable: bool
    weight: float = 1.0
    place: str = ""

    @property
    def prompt(self) -> tuple[int, ...]:
        """What the reply answers; a pair of replies has it in common."""
        return tuple(self.ids[: self.start])


@dataclass(frozen=True)
class Prompt:
    """Token ids that open the assistant's turn, the text they came from, and the right answer where one is known."""

    ids: list[int]
    text: str
    reference: str | None = None
    weight: float = 1.0
    place: str = ""


@dataclass
class Counts:
    """What happened to the rows of a stage's data: nothing is dropped or cut silently.

    ``divided`` counts conversations that were learnt turn by turn, since their template rewrites earlier turns.
    """

    rows: int = 0
    used: int = 0
    bad: int = 0
    dropped: int = 0
    truncated: int = 0
    divided: int = 0
    sources: list[DataSource] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def first_problem(self) -> str | None:
        """Where the first bad row stands and what is wrong with it."""
        return str(self.problems[0]) if self.problems else None

    def bad_rows(self) -> str:
        """The content of a ``bad_rows.jsonl``: file, line, reason and content of every row that was put aside."""
        return "".join(problem.line() for problem in self.problems)


def read(mixture: Sequence[Mixture], folder: Path, kind: Kind, counts: Counts, strict: bool = False) -> list[Row]:
    """The rows of several files, in order, each with its ``place``; those of a file with a weight or a start carry it.

    :raises UserError: for an unusable file, and for the first bad row if *strict*.
    """
    rows: list[Row] = []
    for part in mixture:
        loaded = formats.load(part.path if part.path.startswith(HUB) else folder / part.path, kind, part.columns, strict)
        counts.rows += len(loaded.rows) + len(loaded.bad)
        counts.bad += len(loaded.bad)
        counts.problems += loaded.bad
        counts.sources.append(DataSource(path=part.path, sha256=loaded.sha256, rows=len(loaded.rows)))
        extra = {key: value for key, value, usual in (("start", part.start, 0.0), ("weight", part.weight, 1.0)) if value != usual}
        rows += [{**row, **extra, "place": place} for row, place in zip(loaded.rows, loaded.places, strict=True)]
    return rows


def changed(sources: Sequence[DataSource], folder: Path) -> list[str]:
    """The files among *sources* that are there, and no longer hold what was read from them."""
    return [
        source.path
        for source in sources
        if not source.path.startswith(HUB) and (folder / source.path).exists() and open_source(folder / source.path).sha256 != source.sha256
    ]


def text_examples(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, context: int, counts: Counts, cache: TokenCache | None = None
) -> list[Example]:
    """Plain texts, each between begin-of-sequence (where the tokenizer has it) and end; longer ones are cut into pieces of *context*.

    A row's ``prompt`` is read before its text but not learnt.
    """

    def encode() -> list[EncodedChat]:
        prompts = tokenizer([row["prompt"] for row in rows], add_special_tokens=False, verbose=False)["input_ids"]
        texts = tokenizer([row["prompt"] + row["text"] for row in rows], add_special_tokens=False, verbose=False)["input_ids"]
        return [
            EncodedChat(ids, [False] * len(prompt) + [True] * (len(ids) - len(prompt))) for prompt, ids in zip(prompts, texts, strict=True)
        ]

    examples = []
    opening = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    texts = [[row["prompt"], row["text"]] for row in rows]
    for i, (row, text) in enumerate(zip(rows, _cached(cache, "text", tokenizer, texts, encode), strict=True)):
        whole = [*opening, *text.ids, tokenizer.eos_token_id]
        labelled = [*(False for _ in opening), *text.assistant, True]
        for at in range(0, len(whole), context):
            marks = [False, *labelled[at + 1 : at + context]]
            if any(marks):
                examples.append(Example(whole[at : at + context], marks, row.get("start", 0.0), *_carried(row), i))
        counts.used += 1
    return examples


def chat_examples(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, context: int, counts: Counts, cache: TokenCache | None = None
) -> list[Example]:
    """Conversations with the assistant's tokens labelled. Cut at *context*; dropped when no labelled token is left.

    Under a template that rewrites earlier turns a conversation becomes one example for each of the assistant's turns, so that
    each is learnt behind exactly the tokens that a model sees when it answers.
    """
    chats, owners = _conversations([row["messages"] for row in rows], tokenizer, cache)
    examples = []
    used: set[int] = set()
    for chat, owner in zip(chats, owners, strict=True):
        ids, labelled = chat.ids[:context], [False, *chat.assistant[1:context]]
        if any(labelled):
            counts.truncated += len(chat.ids) > context
            used.add(owner)
            examples.append(Example(ids, labelled, rows[owner].get("start", 0.0), *_carried(rows[owner]), owner))
    counts.used += len(used)
    counts.dropped += len(rows) - len(used)
    counts.divided += len({owner for before, owner in itertools.pairwise(owners) if before == owner})
    return _some(examples, "conversation", context)


def pairs(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, context: int, counts: Counts, cache: TokenCache | None = None
) -> list[Pair]:
    """Preference pairs. One with a side longer than *context* is dropped: cut, it would be judged by half an answer."""
    chats = _replies([(row["messages"], row[side]) for row in rows for side in ("chosen", "rejected")], tokenizer, cache)
    result = []
    for row, better, worse in zip(rows, chats[::2], chats[1::2], strict=True):
        if max(len(better.ids), len(worse.ids)) > context or better.ids == worse.ids:
            counts.dropped += 1
            continue
        counts.used += 1
        starts, margin = (better.prompt_length, worse.prompt_length), float(row.get("margin") or 0.0)
        result.append(Pair(better.ids, worse.ids, starts, margin, row.get("ranking"), *_carried(row)))
    return _some(result, "preference pair", context)


def labelled(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, context: int, counts: Counts, cache: TokenCache | None = None
) -> list[Labelled]:
    """Replies that were labelled one by one (kind ``unpaired``). Those longer than *context* are dropped."""
    result = []
    for row, chat in zip(rows, _replies([(row["messages"], row["reply"]) for row in rows], tokenizer, cache), strict=True):
        if len(chat.ids) > context:
            counts.dropped += 1
            continue
        counts.used += 1
        result.append(Labelled(chat.ids, chat.prompt_length, row["desirable"], *_carried(row)))
    return _some(result, "labelled reply", context)


def prompts(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, context: int, counts: Counts) -> list[Prompt]:
    """Prompts of at most *context* tokens (the caller leaves room for the answer); longer ones are dropped."""
    result = []
    for row in rows:
        ids = encode_prompt(tokenizer, row["messages"])
        if len(ids) > context:
            counts.dropped += 1
            continue
        counts.used += 1
        result.append(Prompt(ids, row["messages"][-1]["content"], row.get("reference"), *_carried(row)))
    return _some(result, "prompt", context)


def _carried(row: Row) -> tuple[float, str]:
    """The weight and the place that a row has from its file."""
    return row.get("weight", 1.0), row.get("place", "")


def _conversations(
    conversations: list[Any], tokenizer: PreTrainedTokenizerBase, cache: TokenCache | None
) -> tuple[list[EncodedChat], list[int]]:
    """Encoded conversations, and for each the index of the one it came from: several, where the template rewrites history."""
    try:
        chats = _cached(cache, "chat", tokenizer, conversations, lambda: [encode_chat(tokenizer, messages) for messages in conversations])
        return chats, list(range(len(chats)))
    except HistoryRewritten:
        turns = [
            (i, upto + 1) for i, messages in enumerate(conversations) for upto, one in enumerate(messages) if one["role"] == "assistant"
        ]
        return _cached(
            cache,
            "chat turn by turn",
            tokenizer,
            conversations,
            lambda: [encode_chat(tokenizer, conversations[i][:upto], last_only=True) for i, upto in turns],
        ), [i for i, _ in turns]


def _replies(exchanges: list[tuple[Any, str]], tokenizer: PreTrainedTokenizerBase, cache: TokenCache | None) -> list[EncodedChat]:
    """Encoded (prompt, reply) exchanges with the reply marked."""

    def encode() -> list[EncodedChat]:
        return [encode_chat(tokenizer, [*messages, {"role": "assistant", "content": said}], last_only=True) for messages, said in exchanges]

    return _cached(cache, "reply", tokenizer, exchanges, encode)


def _cached(
    cache: TokenCache | None, how: str, tokenizer: PreTrainedTokenizerBase, rows: list[Any], encode: Callable[[], list[EncodedChat]]
) -> list[EncodedChat]:
    return encode() if cache is None else cache.encoded(how, tokenizer, rows, encode)


def _some(items: list[T], what: str, context: int) -> list[T]:
    if not items:
        raise UserError(f"no {what} fits into the model's context of {context} tokens: use other data or a model with a longer context.")
    return items
