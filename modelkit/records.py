"""The rows that packages exchange as files: results, votes, judgments and preferences."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from modelkit.chat import Message
from modelkit.errors import UserError


class ModelRecord(BaseModel):
    """Which weights were measured, and how they were run. Those behind an ``endpoint``, an address, can't be verified."""

    model_config = ConfigDict(protected_namespaces=())
    path: str
    fingerprint: str
    dtype: str
    stage: str | None = None
    endpoint: str | None = None


class SubjectScore(BaseModel):
    """One subject's row. ``accuracy`` is null when none of its questions could be scored."""

    n: int
    unscored: int = 0
    accuracy: float | None
    category: str | None = None


class MethodScore(BaseModel):
    """What one method found on one task. All shares lie in 0…1; ``ci95`` is a 95 % interval of ``value``.

    ``value`` is the number the protocol calls official; for choice tasks it equals ``micro`` or ``macro``, as ``official``
    says, or is the share of points. Other kinds of task name theirs in ``metric``. ``n`` counts all that was asked,
    ``unscored`` those among it that could not be scored; shares are over the rest.
    """

    model_config = ConfigDict(extra="allow")
    metric: str = "accuracy"
    value: float | None
    n: int
    unscored: int = 0
    ci95: tuple[float, float] | None = None
    micro: float | None = None
    macro: float | None = None
    official: Literal["micro", "macro", "points"] | None = None
    subjects: dict[str, SubjectScore] = {}
    categories: dict[str, SubjectScore] = {}


class TaskScore(BaseModel):
    """One task@protocol: its data, its shots, and each method's score."""

    model_config = ConfigDict(extra="allow")
    kind: str = "choice"
    shots: int = 0
    data: str
    chat: bool = False
    methods: dict[str, MethodScore]
    unscored_reasons: dict[str, int] = {}
    shots_used: dict[str, int] = Field(default={}, description="how many questions were asked with how many shots")


class Speed(BaseModel):
    """Throughput of an evaluation. ``peak_memory_bytes`` is the process's peak resident size (or the GPU's).

    ``tokens_computed`` went through the model; ``tokens_reused`` were wanted as well, but known from another question's beginning.
    ``flops`` are the operations that the computed ones needed.
    """

    seconds: float
    questions_per_s: float
    tokens_computed: int
    tokens_reused: int = 0
    flops: float = 0.0
    peak_memory_bytes: int = 0


class Result(BaseModel):
    """``results.json`` of an evaluation: everything needed to trust and repeat a number (design §3.3)."""

    model_config = ConfigDict(extra="allow")
    format: Literal[1] = 1
    id: str
    model: ModelRecord
    tasks: dict[str, TaskScore]
    speed: Speed
    environment: dict[str, Any]
    seed: int = 0

    @classmethod
    def read(cls, file: Path) -> Result:
        """:raises UserError: when the file is missing or isn't a result."""
        try:
            return cls.model_validate_json(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"there is no result at {file}.") from None
        except (ValidationError, UnicodeDecodeError) as error:
            raise UserError(f"{file} is no result file: {str(error).splitlines()[0]}.") from None


class Side(BaseModel):
    """One of the two conversations a person compared; the last message is the reply that was judged.

    ``checkpoint`` is the id that the page knows it by (``run/stage``), ``reward`` raw and by the run's own reward model,
    ``seconds`` from the request to the last token. ``sha256`` is :func:`modelkit.fingerprint.sha256_of_messages`.
    """

    checkpoint: str
    fingerprint: str
    messages: list[Message]
    sha256: str
    seed: int = 0
    reward: float | None = None
    tokens: int = 0
    seconds: float = 0.0
    finish: str | None = None

    @property
    def reply(self) -> str:
        """What was judged."""
        return self.messages[-1]["content"]


class Vote(BaseModel):
    """What one person thought of two replies to one prompt. ``session`` is a random name: no address and no account is kept.

    ``status`` is ``new`` until somebody has looked at it: only accepted votes become preferences to train on. ``reward_model`` is
    the fingerprint of the one that gave the sides' rewards.
    """

    format: Literal[1] = 1
    id: str
    time: float
    session: str
    a: Side
    b: Side
    winner: Literal["a", "b", "tie", "both_bad"]
    blind: bool = True
    language: Literal["en", "zh"] | None = None
    category: str | None = None
    sampling: dict[str, float] = {}
    reward_model: str | None = None
    seconds: float | None = Field(default=None, description="from both replies being there to the vote")
    status: Literal["new", "accepted", "rejected"] = "new"

    @property
    def prompt(self) -> list[Message]:
        """What both sides answered."""
        return self.a.messages[:-1]

    @property
    def decided(self) -> tuple[Side, Side] | None:
        """The better and the worse side; ``None`` for a tie or two bad replies."""
        return {"a": (self.a, self.b), "b": (self.b, self.a)}.get(self.winner)

    @property
    def agreed(self) -> bool | None:
        """Whether the rewards say the same as the person. ``None`` without rewards or a better side; equal rewards don't agree."""
        if self.decided is None:
            return None
        better, worse = (side.reward for side in self.decided)
        return None if better is None or worse is None else better > worse


class Conversation(BaseModel):
    """What a person has let the operator keep of a chat, under the sentence in ``consent`` that stood beside the switch."""

    format: Literal[1] = 1
    id: str
    time: float
    session: str
    consent: str = Field(min_length=1)
    checkpoint: str
    fingerprint: str
    messages: list[Message]
    language: Literal["en", "zh"] | None = None


class Answered(BaseModel):
    """An answer that was judged: whose it is, its text's length, which length control needs, and what a vote calls it.

    ``sha256`` is that of the whole conversation, as in :class:`Side`: judges and people who saw the same two replies find each other.
    """

    model: str
    fingerprint: str
    characters: int
    sha256: str = ""


class Judgment(BaseModel):
    """What a judge said of one answer (``score``) or of two (``winner``). ``unscored`` says why there is neither.

    In a pairwise judgment each order of the two answers was asked; ``orders`` has what each said, and a disagreement is a tie.
    """

    format: Literal[1] = 1
    id: str
    judge: str
    mode: Literal["single", "pairwise"]
    prompt: str = Field(description="the prompt's id")
    turn: int = Field(default=1, description="which of the prompt's turns was answered, from 1")
    category: str | None = None
    language: Literal["en", "zh"] | None = None
    answers: list[Answered]
    score: float | None = None
    criteria: dict[str, float] = {}
    winner: Literal["a", "b", "tie"] | None = None
    orders: list[Literal["a", "b", "tie"] | None] = []
    reason: str = ""
    unscored: str | None = None


class Preference(BaseModel):
    """A canonical preference row (design §3.4): *messages* end with the user's turn, *chosen* is the better reply."""

    messages: list[Message]
    chosen: str
    rejected: str
    source: str
