"""Who answers: checkpoints, all that chat in a run, or a file of answers given elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from evalkit.judge import answers
from evalkit.judge.answers import Answer
from evalkit.judge.cache import Table, key_of
from evalkit.judge.prompt_set import Prompt, PromptSet
from evalkit.judge.rubrics import Rubrics
from evalkit.models import local
from evalkit.models.local import LocalModel
from evalkit.preparation import default_dtype
from modelkit import checkpoint, hub
from modelkit.chat import Message, encode_prompt, has_template
from modelkit.device import choose_device, dtype_of
from modelkit.errors import ModelError, UserError
from modelkit.fingerprint import fingerprint, sha256_of_text
from modelkit.generation.loop import Completion
from modelkit.generation.sampling import Sampling
from modelkit.generation.stream import decode
from modelkit.records import ModelRecord
from modelkit.run import Run, run_of


@dataclass(frozen=True)
class Answering:
    """How answers are made. ``temperature`` replaces the categories' own."""

    max_tokens: int = 512
    temperature: float | None = None
    seed: int = 0
    dtype: str | None = None
    device: str | None = None


@dataclass(frozen=True)
class Contestant:
    """Somebody whose answers are judged. ``path`` is a checkpoint, or a file that has the answers."""

    name: str
    record: ModelRecord
    path: Path
    given: Sequence[Answer] | None = None


def find(names: Sequence[str], prompts: PromptSet, answering: Answering, say: Callable[[str], None]) -> list[Contestant]:
    """The contestants called for: ``PATH`` or ``NAME=PATH`` each; a run stands for all its stages that chat.

    :raises UserError: when one isn't there or can't answer, or two have the same name.
    """
    where = choose_device(answering.device)
    dtype = answering.dtype or default_dtype(str(where))
    found: list[Contestant] = []
    for name in names:
        title, _, text = name.rpartition("=") if not Path(name).exists() else ("", "", name)
        path = hub.find(text, say=say)
        if path.suffix in (".json", ".jsonl"):
            given = answers.read(path, prompts)
            for model, lines in given.items():
                mark = ModelRecord(path=str(path), fingerprint=lines[0].fingerprint, dtype="answers")
                found.append(Contestant(title if title and len(given) == 1 else model, mark, path, lines))
        elif (path / "run.json").is_file():
            found += _stages(Run.open(path), dtype, say)
        else:
            found.append(_checkpoint(title, path, dtype))
    often = Counter(contestant.name for contestant in found)
    if twice := [name for name, count in often.items() if count > 1]:
        raise UserError(f"two contestants are called {twice[0]}: name one of them otherwise, as in -m NAME=PATH.")
    return found


def answer(
    contestant: Contestant, prompts: PromptSet, rubrics: Rubrics, answering: Answering, table: Table, progress: Callable[[int], None]
) -> list[Answer]:
    """The contestant's answers to all turns of all prompts, in their order; those that were given before are not made again."""
    if contestant.given is not None:
        progress(len(contestant.given))
        return [one.model_copy(update={"model": contestant.name}) for one in contestant.given]
    speaker = _Speaker(contestant, rubrics, answering, table)
    said: dict[tuple[str, str], list[Answer]] = {prompt.key: [] for prompt in prompts.prompts}
    for turn in range(1, max(len(prompt.turns) for prompt in prompts.prompts) + 1):
        asked = [prompt for prompt in prompts.prompts if len(prompt.turns) >= turn]
        for prompt, one in zip(asked, speaker.answer(asked, turn, [said[prompt.key] for prompt in asked], progress), strict=True):
            said[prompt.key].append(one)
    return [one for prompt in prompts.prompts for one in said[prompt.key]]


class _Speaker:
    """A checkpoint that is loaded as soon as something is to be said that isn't in the table."""

    def __init__(self, contestant: Contestant, rubrics: Rubrics, answering: Answering, table: Table) -> None:
        self._who, self._rubrics, self._how, self._table = contestant, rubrics, answering, table
        self._loaded: LocalModel | None = None

    def answer(
        self, prompts: Sequence[Prompt], turn: int, earlier: Sequence[Sequence[Answer]], progress: Callable[[int], None]
    ) -> list[Answer]:
        """Answers to turn *turn* (from 1) of each prompt, after those to the *earlier* turns."""
        texts = [[one.text for one in before] for before in earlier]
        asked = [answers.conversation(prompt, turn, before) for prompt, before in zip(prompts, texts, strict=True)]
        samplings = [self._sampling(prompt, turn) for prompt in prompts]
        keys = [
            key_of(self._who.record.fingerprint, self._who.record.dtype, messages, vars(sampling))
            for messages, sampling in zip(asked, samplings, strict=True)
        ]
        failed = [next((one.unanswered for one in before if one.unanswered), None) for before in earlier]
        missing = [i for i, key in enumerate(keys) if failed[i] is None and self._table.get(key) is None]
        progress(len(prompts) - len(missing))
        self._say([asked[i] for i in missing], [samplings[i] for i in missing], [keys[i] for i in missing], progress)
        return [
            self._made(prompt, turn, messages, None if reason else self._table.get(key), reason)
            for prompt, messages, key, reason in zip(prompts, asked, keys, failed, strict=True)
        ]

    def _made(self, prompt: Prompt, turn: int, asked: Sequence[Message], row: dict | None, reason: str | None) -> Answer:
        row = row or {"reason": reason or "the prompt leaves no room for an answer in the model's context"}
        one = answers.made(self._who.name, self._who.record.fingerprint, prompt, turn, asked, row.get("text"), row.get("reason"))
        return one.model_copy(update={"tokens": row.get("tokens", 0), "finish": row.get("finish")})

    def _say(
        self, asked: Sequence[list[Message]], samplings: Sequence[Sampling], keys: Sequence[str], progress: Callable[[int], None]
    ) -> None:
        if not asked:
            return
        model = self._model()
        prompts = [encode_prompt(model.tokenizer, messages) for messages in asked]
        room = model.context or 10**9
        fitting = [i for i, prompt in enumerate(prompts) if len(prompt) < room]
        progress(len(prompts) - len(fitting))

        def keep(batch: list[int], found: list[Completion]) -> None:
            rows = [{"text": decode(model.tokenizer, one.ids), "tokens": len(one.ids), "finish": one.finish} for one in found]
            self._table.put({keys[fitting[k]]: row for k, row in zip(batch, rows, strict=True)})
            progress(len(batch))

        model.generate([prompts[i] for i in fitting], [samplings[i] for i in fitting], keep)

    def _model(self) -> LocalModel:
        if self._loaded is None:
            self._loaded = local.load(self._who.path, "language", dtype_of(self._who.record.dtype), choose_device(self._how.device))
        return self._loaded

    def _sampling(self, prompt: Prompt, turn: int) -> Sampling:
        """Every contestant draws the same random numbers for the same turn."""
        temperature = self._how.temperature
        if temperature is None:
            temperature = prompt.temperature if prompt.temperature is not None else self._rubrics.temperature(prompt.category)
        digits = sha256_of_text(f"{prompt.language}/{prompt.id}/{turn}").removeprefix("sha256:")[:8]
        seed = self._how.seed + int(digits, 16) if temperature else 0
        return Sampling(max_tokens=self._how.max_tokens, temperature=temperature, seed=seed)


def _checkpoint(title: str, path: Path, dtype: str) -> Contestant:
    checkpoint.check(path)
    if checkpoint.is_reward_model(path):
        raise ModelError(f"{path} is a reward model, which can judge but not answer: name it with --judge.")
    if not has_template(path):
        raise ModelError(f"{path} has no chat template, so it can't be asked as an assistant: train it on conversations first.")
    stage = checkpoint.read_stage(path)
    run = run_of(path)
    name = title or (f"{run.path.resolve().name}/{path.resolve().name}" if run else path.resolve().name)
    return Contestant(
        name, ModelRecord(path=str(path), fingerprint=fingerprint(path), dtype=dtype, stage=stage.stage if stage else None), path
    )


def _stages(run: Run, dtype: str, say: Callable[[str], None]) -> list[Contestant]:
    found = []
    for stage in run.ready():
        path = run.checkpoint(stage.name)
        if stage.kind in ("reward", "critic"):
            continue
        if not has_template(path):
            say(f"left out {path}: it has no chat template, so it can't be asked as an assistant.")
            continue
        found.append(_checkpoint("", path, dtype))
    if not found:
        raise UserError(f"{run.path} has no stage yet that can answer: wait for its SFT stage, or name a checkpoint.")
    return found
