"""A model behind an OpenAI-compatible server, asked in texts; see :class:`evalkit.models.face.Face`."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal, TypeVar

from evalkit.encoding import Encoder, PromptEncoder, Said, Untokenised
from evalkit.models.face import Letters, Prompt, Reading, Readings, Replies, Reply, Wanted
from evalkit.models.probe import Abilities, probe
from evalkit.models.retry import Failed, Patience
from evalkit.models.server import Endpoint, Server, finished
from evalkit.models.wire import Completion
from modelkit.checkpoint import read_tokenizer
from modelkit.errors import EndpointError
from modelkit.fingerprint import sha256_of_text
from modelkit.generation.sampling import Sampling

A = TypeVar("A", Reading, Reply)
Sent = Said | list[int]
"""What goes to a server: words, or token ids."""
_UNCUT = "too long for the context, and what a chat reads can't be cut on the left"
_STEADY = ("id", "root", "parent", "owned_by", "max_model_len", "meta")


@dataclass
class EndpointModel:
    """A served model. ``encoder`` knows tokens where the tokenizer is at hand, and says whether prompts are asked as chats."""

    server: Server
    abilities: Abilities
    encoder: PromptEncoder
    flops: float = 0.0

    @property
    def tokens_computed(self) -> int:
        """Tokens that the server says it read and wrote, without those out of its cache."""
        return self.server.tokens_computed

    @property
    def tokens_reused(self) -> int:
        """Tokens that the server says came out of its cache."""
        return self.server.tokens_reused

    @property
    def context(self) -> int | None:
        """The longest sequence in tokens, if the server says, without the one token that every request must write."""
        told = self.abilities.reported.get("max_model_len")
        return told - 1 if isinstance(told, int) and told > 1 else None

    @property
    def fingerprint(self) -> str:
        """``endpoint:sha256:…`` over address, name, and what the server says of the model that is not the time of day.

        Weights that are served can't be verified: others behind the same address and name have the same fingerprint.
        """
        told = "\n".join(f"{name} {self.abilities.reported.get(name)!r}" for name in _STEADY)
        return "endpoint:" + sha256_of_text(f"{self.server.endpoint.url}\n{self.server.endpoint.model}\n{told}")

    def letters(self, prompt: Said, lead: str, letters: Sequence[str]) -> Letters:
        """See :meth:`evalkit.models.face.Face.letters`.

        :raises EndpointError: when the server tells no log-probabilities, or a letter takes several tokens and it doesn't echo.
        """
        url, top, echoes = self.server.endpoint.url, self._top(prompt), self._echoes(prompt)
        if not top:
            raise EndpointError(f"{url} gives no log-probabilities, so letters can't be scored: use --method generate.")
        tokens = tuple(map(tuple, self.encoder.answer_tokens(prompt, lead, letters)))
        longest = max(map(len, tokens), default=1)
        if longest > 1 and not echoes:
            raise EndpointError(f"a letter takes several tokens, and {url} tells only the first one's probability: use --method generate.")
        leads = "" if self._chats(prompt) else lead
        return Letters(tuple(leads + letter for letter in letters), tokens, room=longest if echoes else 0)

    def letter_logprobs(self, prompts: Sequence[Prompt], letters: Letters, on_batch: Readings, wanted: Wanted = None) -> None:
        """See :meth:`evalkit.models.face.Face.letter_logprobs`.

        The letters are looked up among the likeliest tokens. When some are missing there, a server that echoes is asked for each
        letter's own probability. From one that doesn't, they get an upper bound and are named as ``bounded``; what decides is
        who is likeliest, which is known as long as one letter is among them. When none is, the reading has a reason.
        """

        async def ask(group: list[int]) -> list[Reading]:
            return [await self._letters(_sent(prompts[group[0]]), letters)]

        self._each([[i] for i in self._askable(prompts, wanted, on_batch, Reading(reason=_UNCUT))], ask, on_batch, _unread)

    def continuation_logprobs(
        self, prompts: Sequence[Prompt], lead: str, texts: Sequence[str], on_batch: Readings, wanted: Wanted = None
    ) -> None:
        """See :meth:`evalkit.models.face.Face.continuation_logprobs`.

        :raises EndpointError: when the server doesn't echo prompts with their log-probabilities.
        """
        if not all(self._echoes(prompt.said) for prompt in prompts[:1]):
            raise EndpointError(
                f"{self.server.endpoint.url} doesn't send a prompt's own log-probabilities back, which perplexity needs: "
                "use --method letters or --method generate."
            )
        groups: dict[str, list[int]] = {}
        for i in _places(prompts, wanted):
            groups.setdefault(str(prompts[i].said), []).append(i)

        async def ask(group: list[int]) -> list[Reading]:
            said = str(prompts[group[0]].said)
            return await self._continuations(said, [said + lead + texts[i] for i in group])

        self._each(list(groups.values()), ask, on_batch, _unread)

    def complete(
        self, prompts: Sequence[Prompt], sampling: Sampling, stop: Sequence[str], on_batch: Replies, wanted: Wanted = None
    ) -> None:
        """See :meth:`evalkit.models.face.Face.complete`.

        :raises EndpointError: when the server has no completions for a text, or no chat for a conversation.
        """
        body: dict[str, Any] = {"temperature": sampling.temperature}
        if sampling.temperature:
            body |= {"top_p": sampling.top_p, "seed": sampling.seed}
        if stop:
            body["stop"] = list(stop[:4])  # as many as the protocol of the API allows; the rest is cut here

        async def ask(group: list[int]) -> list[Reply]:
            return [_reply(await self._ask(_sent(prompts[group[0]]), sampling.max_tokens, **body), stop)]

        places = self._askable(prompts, wanted, on_batch, Reply(reason=_UNCUT))
        self._each([[i] for i in places], ask, on_batch, lambda failure: Reply(reason=failure.reason))

    async def _letters(self, said: Sent, letters: Letters) -> Reading:
        top, own = self._top(said), letters.texts
        likeliest: dict[str, float] = {}
        if max(map(len, letters.tokens), default=1) == 1:
            wanted = {"logprobs": True, "top_logprobs": top} if self._chats(said) else {"logprobs": top}
            answer = await self._ask(said, 1, temperature=0, **wanted)
            for token, value in answer.choices[0].first_token().items():
                likeliest.setdefault(token.replace("▁", " ").replace("Ġ", " "), value)
        if not all(text in likeliest for text in own) and self._echoes(said):
            behind: list[Any] = list(own) if isinstance(said, str) else [list(ids) for ids in letters.tokens]
            found = await self._continuations(said, [said + answer for answer in behind], whole=True)
            reason = next((reading.reason for reading in found if reading.reason), None)
            return Reading(reason=reason) if reason else Reading(tuple(math.fsum(reading.logprobs) for reading in found))
        taken = _spelling(own, likeliest)
        if taken is None:
            return Reading(reason=f"none of the letters is among the {top} likeliest tokens that the server tells")
        bound = _bound(list(likeliest.values()), top)
        bounded = [text.strip() for text in taken if text not in likeliest]
        facts = ({"spelled": taken[0]} if taken != own else {}) | ({"bounded": bounded} if bounded else {})
        return Reading(tuple(likeliest.get(text, bound) for text in taken), facts)

    async def _continuations(self, prompt: Sent, wholes: Sequence[Sent], whole: bool = False) -> list[Reading]:
        """The log-probabilities of the tokens by which each of *wholes* differs from the prompt that it begins with.

        :param whole: only tokens that the prompt doesn't share with the text will do.
        """
        before, *afters = await asyncio.gather(*(self._echo(text) for text in (prompt, *wholes)))
        return [_difference(before, after, whole) for after in afters]

    async def _echo(self, text: Sent) -> list[tuple[str, float | None]]:
        return (await self._ask(text, 1, temperature=0, logprobs=1, echo=True)).echoed()

    async def _ask(self, said: Sent, max_tokens: int, **body: Any) -> Completion:
        """One completion of a text or of tokens, or in a chat of a conversation."""
        if not self._chats(said):
            return await self.server.complete("/completions", {"prompt": said, "max_tokens": max_tokens, **body})
        turns = [{"role": "user", "content": said}] if isinstance(said, str) else list(said)
        return await self.server.complete("/chat/completions", {"messages": turns, self.abilities.chat_limit: max_tokens, **body})

    def _each(
        self,
        groups: Sequence[list[int]],
        ask: Callable[[list[int]], Awaitable[list[A]]],
        on_batch: Callable[[list[int], list[A]], None],
        unanswered: Callable[[Failed], A],
    ) -> None:
        finished(self.server.each(groups, ask, on_batch, unanswered))

    def _askable(self, prompts: Sequence[Prompt], wanted: Wanted, on_batch: Callable[[list[int], list[A]], None], uncut: A) -> list[int]:
        """The places of prompts that are to be asked; those too long for a chat, which takes no tokens, get *uncut* at once."""
        places = _places(prompts, wanted)
        if too_long := [i for i in places if prompts[i].cut and self._chats(prompts[i].said)]:
            on_batch(too_long, [uncut] * len(too_long))
        return [i for i in places if i not in set(too_long)]

    def _chats(self, said: Sent) -> bool:
        """Whether *said* goes to the chat.

        :raises EndpointError: when the server hasn't what it takes.
        """
        chats, endpoint = self.encoder.chat or not (isinstance(said, str) or isinstance(said[0], int)), self.server.endpoint
        if chats and not self.abilities.chat:
            raise EndpointError(f"{endpoint.url} offers no chat with {endpoint.model}: leave out --chat.")
        if not chats and not self.abilities.completions:
            raise EndpointError(f"{endpoint.url} completes no plain texts with {endpoint.model}: add --chat.")
        return chats

    def _top(self, said: Sent) -> int:
        return self.abilities.chat_top if self._chats(said) else self.abilities.top

    def _echoes(self, said: Sent) -> bool:
        return not self._chats(said) and self.abilities.echo


def connect(endpoint: Endpoint, chat: bool) -> EndpointModel:
    """Find out what the server can do, and be ready to ask.

    :raises EndpointError: when it can't be asked at all.
    :raises ModelError: when there is no tokenizer where *endpoint* names one.
    """
    encoder = Encoder(read_tokenizer(endpoint.tokenizer), chat) if endpoint.tokenizer else Untokenised(chat)
    server = Server(endpoint, Patience(endpoint.patience))

    async def look() -> Abilities:
        async with server.connected():
            return await probe(server)

    return EndpointModel(server, finished(look()), encoder)


def _sent(prompt: Prompt) -> Sent:
    """What the server gets: what is said, or the tokens that are left of it where it was cut."""
    return prompt.ids if prompt.cut else prompt.said


def _places(prompts: Sequence[Prompt], wanted: Wanted) -> list[int]:
    return [i for i in range(len(prompts)) if wanted is None or i in wanted]


def _unread(failure: Failed) -> Reading:
    return Reading(reason=failure.reason, facts={"server": failure.detail} if failure.detail else {})


def _spelling(own: tuple[str, ...], likeliest: Mapping[str, float]) -> tuple[str, ...] | None:
    """The spelling of the letters that the model answers in: that of the likeliest token among them, of equals the protocol's *own*."""
    present = [texts for texts in _spellings(own) if not likeliest.keys().isdisjoint(texts)]
    return max(present, key=lambda texts: max(likeliest.get(text, -math.inf) for text in texts), default=None)


def _spellings(texts: Sequence[str]) -> list[tuple[str, ...]]:
    """The letters as the protocol leads up to them, then without a blank or with one: servers drop it, and models do."""
    bare = tuple(text.strip() for text in texts)
    return [tuple(texts), bare, tuple(f" {text}" for text in bare)]


def _bound(told: Sequence[float], top: int) -> float:
    """An upper bound for the log-probability of a token that is none of the *top* likeliest, just below the last of them.

    Neither can it be likelier than all that the others leave.
    """
    last = sorted(told, reverse=True)[:top][-1]
    left = 1.0 - math.fsum(math.exp(value) for value in told)
    return math.nextafter(min(last, math.log(left)) if left > 0 else last, -math.inf)


def _difference(before: Sequence[tuple[str, float | None]], after: Sequence[tuple[str, float | None]], whole: bool) -> Reading:
    """What comes in *after* behind the tokens that it shares with *before*."""
    shared = sum(1 for _ in takewhile(lambda pair: pair[0][0] == pair[1][0], zip(before, after, strict=False)))
    values = [value for _, value in after[shared:]]
    if not values or shared == 0:
        return Reading(reason="an option has no tokens")
    if whole and shared < len(before):
        return Reading(reason="the server's tokenizer merges a letter with the end of the prompt")
    return Reading(tuple(math.nan if value is None else value for value in values))


def _reply(answer: Completion, stop: Sequence[str]) -> Reply:
    choice = answer.choices[0]
    if choice.finish_reason == "content_filter":
        return Reply(reason="the server's content filter")
    end = min((at for mark in stop if (at := choice.said.find(mark)) >= 0), default=len(choice.said))
    finish: Literal["stop", "length"] = "length" if choice.finish_reason == "length" and end == len(choice.said) else "stop"
    return Reply(choice.said[:end], answer.usage.completion_tokens if answer.usage else 0, finish)
