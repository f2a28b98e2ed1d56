"""How a column's replies are sampled: the settings a visitor turns, their bounds, and a few that go well together."""

from __future__ import annotations

from dataclasses import dataclass, replace

from modelkit.errors import UserError
from playground.settings import MAX_CANDIDATES, MAX_PROMPT_CHARACTERS, MAX_TOKENS


@dataclass(frozen=True)
class ChatSettings:
    """How a reply is sampled. Of ``n`` samples the one with the highest reward is the reply; a reward model's column, which can't
    write, takes the best of ``best_of`` SFT samples.

    :raises UserError: when a value is out of bounds.
    """

    temperature: float = 0.7
    top_p: float = 0.95
    max_tokens: int = 96
    seed: int = 0
    n: int = 1
    best_of: int = 8
    system: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.max_tokens <= MAX_TOKENS:
            raise UserError(f"the reply may have from 1 to {MAX_TOKENS} tokens, not {self.max_tokens}.")
        if not (1 <= self.n <= MAX_CANDIDATES and 1 <= self.best_of <= MAX_CANDIDATES):
            raise UserError(f"the best of 1 to {MAX_CANDIDATES} samples can be taken.")
        if not 0 <= self.temperature <= 2 or not 0 < self.top_p <= 1:
            raise UserError("the temperature lies between 0 and 2, top-p above 0 and at most 1.")
        if not 0 <= self.seed < 1 << 53:
            raise UserError("the seed is a whole number from 0 to 2⁵³ − 1.")
        if len(self.system) > MAX_PROMPT_CHARACTERS:
            raise UserError(f"the system prompt has {len(self.system):,} characters, more than the {MAX_PROMPT_CHARACTERS:,} allowed.")


@dataclass(frozen=True)
class Setting:
    """What a visitor has set: who answers, from left to right, the message, and how replies are sampled.

    ``own`` holds each column's own settings where they are not ``shared``; the system prompt always is.
    """

    models: tuple[str, ...] = ()
    prompt: str = ""
    shared: ChatSettings = ChatSettings()
    own: tuple[ChatSettings, ...] | None = None

    def of(self, column: int) -> ChatSettings:
        """The settings of one column."""
        return replace(self.own[column], system=self.shared.system) if self.own else self.shared


PRESETS: dict[str, tuple[float, float]] = {"precise": (0.0, 1.0), "balanced": (0.7, 0.95), "free": (1.0, 1.0)}
"""Name → temperature and top-p. ``free`` draws from the model's own distribution, unchanged."""
