"""What a model is asked, token by token, found out by listening to the method itself: no weights are loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from evalkit.encoding import Encoder, Said
from evalkit.methods import Record, method
from evalkit.models.face import Letters, Prompt, Readings, Replies, Wanted
from evalkit.types import ChoiceTask, Item, PromptRow, Sample, Task, TextRow
from modelkit.errors import UserError

if TYPE_CHECKING:
    from rich.console import RenderableType
    from transformers import PreTrainedTokenizerBase

    from modelkit.generation.sampling import Sampling

_VISIBLE = str.maketrans({" ": "·", "\n": "⏎\n", "\t": "→", "\r": "␍", "\u3000": "□", "\u00a0": "⍽"})
ENDS = 8


@dataclass
class Asked:
    """What a model is given for one item by one method.

    :param text: the prompt as the model reads it, apart from a beginning-of-sequence token that the tokenizer adds.
    :param answers: the texts that are scored behind it, each with its token ids.
    :param facts: what else decides: shots, limit, sampling.
    :param reason: why the item is not asked at all.
    """

    item: Item
    method: str
    text: str = ""
    ids: Sequence[int] = ()
    answers: dict[str, list[int]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None


def inspect(task: Task, tokenizer: PreTrainedTokenizerBase, context: int | None, chat: bool = False) -> list[Asked]:
    """What each item of *task* is asked by each of its methods.

    :raises UserError: for a kind of task that has no single prompt, or letters that the tokenizer can't tell.
    """
    if not isinstance(task, ChoiceTask):
        return [_plain(task, item, tokenizer) for item in task.items]
    return [_listen(task, item, name, Encoder(tokenizer, chat), context) for item in task.items for name in task.methods]


def visible(text: str) -> str:
    """*text* with its white space to be seen: · blank, ⏎ line end, → tabulator, □ wide blank, ⍽ one that doesn't break."""
    return text.translate(_VISIBLE)


def shown(task: Task, asked: Asked, tokenizer: PreTrainedTokenizerBase) -> RenderableType:
    """The prompt, its ends token by token, all ids, and the answers that are scored behind it."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    facts = " · ".join(f"{name} {value}" for name, value in asked.facts.items())
    parts: list[RenderableType] = [Text(f"{task.name} · {asked.method} · {asked.item.id}", "bold"), Text(facts)]
    if asked.reason is not None:
        return Group(*parts, Text(f"not asked: {asked.reason}"))
    parts.append(Panel(Text(visible(asked.text)), title="prompt", title_align="left"))
    parts.append(Text(f"{len(asked.ids):,} tokens"))
    parts += [Text(f"{place} {_pieces(ids, tokenizer)}") for place, ids in (("first", asked.ids[:ENDS]), ("last ", asked.ids[-ENDS:]))]
    parts.append(Text(f"ids   {' '.join(map(str, asked.ids))}", "dim"))
    parts += [Text(f"then  {visible(text)!r} = {_pieces(ids, tokenizer)}") for text, ids in asked.answers.items()]
    return Group(*parts)


def _pieces(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    return " ".join(f"{id}={_piece(id, tokenizer)}" for id in ids)


def _piece(id: int, tokenizer: PreTrainedTokenizerBase) -> str:
    """A token's text; sentencepiece drops a leading blank in decoding, which matters here."""
    text = str(tokenizer.decode([id]))
    blank = " " if str(tokenizer.convert_ids_to_tokens(id)).startswith("▁") and not text.startswith(" ") else ""
    return visible(blank + text).rstrip() or "∅"


def _listen(task: ChoiceTask, item: Any, name: str, encoder: Encoder, context: int | None) -> Asked:
    """Let the method ask one question, and keep what it says."""
    listener = _Listener(encoder, context)
    told: list[Sample] = []
    facts = method(name).measure(task, [item], _Bench(listener, encoder.chat), Record({item.id}, told.extend))  # type: ignore[arg-type]
    asked = Asked(item, name, facts=_facts(task, facts, listener), answers=listener.answers, reason=told[0].reason if told else None)
    if listener.prompts:
        asked.text, asked.ids = encoder.render(listener.prompts[0].said), listener.prompts[0].ids
        asked.facts["shots"] = f"{getattr(listener.prompts[0], 'shots', 0)} of {task.shots}"
    return asked


def _facts(task: ChoiceTask, facts: dict[str, Any], listener: _Listener) -> dict[str, Any]:
    known = {"protocol": task.protocol.name, "beginning of sequence:": facts.get("bos"), "longest prompt": facts.get("limit")}
    return {name: value for name, value in (known | listener.facts).items() if value is not None}


def _plain(task: Task, item: Item, tokenizer: PreTrainedTokenizerBase) -> Asked:
    """A conversation or a text, as the other kinds of task give it to the model."""
    from modelkit.chat import encode_prompt, render_prompt

    if isinstance(item, PromptRow):
        return Asked(item, task.kind, render_prompt(tokenizer, item.messages), encode_prompt(tokenizer, item.messages))
    if isinstance(item, TextRow):
        return Asked(item, task.kind, item.text, tokenizer(item.text, add_special_tokens=False)["input_ids"])
    raise UserError(f"{task.name} has no prompts to look at.")


@dataclass
class _Bench:
    """As much of :class:`evalkit.bench.Bench` as asking a question takes."""

    face: _Listener
    chat: bool
    seed: int = 0


class _Listener:
    """A :class:`evalkit.models.face.Face` that never answers and remembers what it was asked."""

    def __init__(self, encoder: Encoder, context: int | None) -> None:
        self.encoder, self.context = encoder, context
        self.prompts: list[Prompt] = []
        self.answers: dict[str, list[int]] = {}
        self.facts: dict[str, Any] = {}

    def letters(self, prompt: Said, lead: str, letters: Sequence[str]) -> Letters:
        tokens = self.encoder.answer_tokens(prompt, lead, letters)
        return Letters(tuple(lead + letter for letter in letters), tuple(map(tuple, tokens)), room=max(map(len, tokens)) - 1)

    def letter_logprobs(self, prompts: Sequence[Prompt], letters: Letters, on_batch: Readings, wanted: Wanted = None) -> None:
        self.prompts += prompts
        if prompts:
            self.answers = {text: list(ids) for text, ids in zip(letters.texts, letters.tokens, strict=True)}

    def continuation_logprobs(
        self, prompts: Sequence[Prompt], lead: str, texts: Sequence[str], on_batch: Readings, wanted: Wanted = None
    ) -> None:
        self.prompts += prompts
        wholes = self.encoder.encode_answered([prompt.said for prompt in prompts], lead, texts)
        for prompt, text, whole in zip(prompts, texts, wholes, strict=True):
            shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(prompt.ids, whole, strict=False)))
            self.answers[lead + text] = whole[shared:]

    def complete(
        self, prompts: Sequence[Prompt], sampling: Sampling, stop: Sequence[str], on_batch: Replies, wanted: Wanted = None
    ) -> None:
        self.prompts += prompts
        self.facts |= {"at most": f"{sampling.max_tokens} tokens", "temperature": sampling.temperature, "stops at": list(stop) or None}
