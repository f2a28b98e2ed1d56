"""A recipe from start to end: data → tokenizer → base → SFT → reward model → PPO, DPO, …, each stage evaluated, one report card.

Every stage ends with a checkpoint that appears whole or not at all; a stage whose checkpoint is there is not run again. So the
same command after a crash goes on where it was.
"""

from __future__ import annotations

import json
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelkit import atomic, checkpoint
from modelkit.context import longest_sequence
from modelkit.errors import UserError
from modelkit.fingerprint import fingerprint
from modelkit.run import Run, RunInfo
from trainers import folder, report, rewards, stages
from trainers.data import dataset
from trainers.data.dataset import Counts, Prompt
from trainers.data.files import HUB, open_source
from trainers.data.order import hold_out
from trainers.evaluation import evaluate
from trainers.job import Job, checked, tokenizer_for
from trainers.log import Progress, StageLog, Watcher
from trainers.recipe import Mixture, Recipe
from trainers.strategies import Strategy
from trainers.strategies.plain import Single

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SECONDS = {"data": 1, "tokenizer": 2, "base": 90, "sft": 65, "rm": 120, "rl": 75, "dpo": 40, "kto": 40, "grpo": 75, "report": 1}
"""Expected of each stage of the pocket recipe: how progress is shared out before anything is measured."""


@dataclass(frozen=True)
class Settings:
    """What the command line adds to a recipe."""

    out: Path
    seed: int
    threads: int
    base: Path | None = None
    data: Path | None = None
    strategy: Strategy = field(default_factory=Single)
    strict: bool = False


def run(recipe: Recipe, settings: Settings, watcher: Watcher = lambda progress: None) -> dict[str, Any]:
    """Make (or finish) the run and return its report card.

    :raises UserError: for missing data or checkpoints, or when *out* holds a run of another recipe or another process's run.
    :raises trainers.loop.Stopped: when asked to stop; the next call goes on.
    """
    if recipe.base is None and settings.base is None:
        raise UserError(f"the recipe {recipe.name} starts from a checkpoint: give one with --base DIR.")
    if recipe.base is not None and settings.base is not None:
        raise UserError(f"the recipe {recipe.name} trains its own base model: leave --base out.")
    if recipe.world is None and settings.data is None:
        raise UserError(f"the recipe {recipe.name} reads data files: name their folder with --data DIR.")
    if settings.base is not None:
        checkpoint.check(settings.base)
    if recipe.grpo:
        rewards.require(term.name for term in recipe.grpo.rewards)
    if settings.data:
        _require_files(recipe, settings.data)
    settings.out.mkdir(parents=True, exist_ok=True)
    with folder.locked(settings.out) if settings.strategy.rank == 0 else nullcontext():
        if settings.strategy.rank == 0:
            atomic.sweep(settings.out)
        settings.strategy.barrier()
        pipeline = _Pipeline(recipe, settings, watcher)
        with folder.watched(pipeline.progress):
            return pipeline.run()


def _require_files(recipe: Recipe, data: Path) -> None:
    """:raises UserError: for the first data file of any stage that isn't there: better now than after the stages before."""
    for part in (part for stage in recipe.stages.values() for part in stage.files):
        if not part.path.startswith(HUB):
            open_source(data / part.path)


class _Pipeline:
    def __init__(self, recipe: Recipe, settings: Settings, watcher: Watcher) -> None:
        self.recipe, self.settings, self.first = recipe, settings, settings.strategy.rank == 0
        code = rewards.code_of(term.name for term in (recipe.grpo.rewards if recipe.grpo else []))
        self.digest = folder.digest(
            recipe.model_dump(exclude={"bars", "title"}),
            settings.seed,
            fingerprint(settings.base) if settings.base else "",
            str(settings.data.resolve()) if settings.data else "",
            *([code] if code else []),
        )
        self.home = self._open()
        made = [*(["data"] if recipe.world else []), *(["tokenizer"] if recipe.base else [])]
        names = [*made, *recipe.stages, "report"]
        self.progress = Progress(settings.out if self.first else None, names, {name: float(_SECONDS[name]) for name in names}, watcher)
        self.entries: dict[str, dict[str, Any]] = self._earlier_entries()

    def _open(self) -> Run:
        out = self.settings.out
        if (out / "run.json").exists():
            found = Run.open(out)
            if found.info.recipe == self.digest:
                return found
            if folder.has_begun(out, ["data", "tokenizer", *(stage.name for stage in found.info.stages)]):
                raise UserError(f"{out} holds a run of another recipe, base, seed or data: choose another --out, or delete it.")
        self.settings.strategy.barrier()
        names = [made for name in self.recipe.stages for made in (["critic", "rl"] if name == "rl" else [name])]
        info = RunInfo(
            name=self.recipe.title.get("en", self.recipe.name),
            recipe=self.digest,
            languages=self.recipe.languages,
            seed=self.settings.seed,
            stages=[folder.stage(name) for name in names],
        )
        made = Run.create(out, info) if self.first else Run(out, info)
        self.settings.strategy.barrier()
        return made

    def run(self) -> dict[str, Any]:
        recipe = self.recipe
        if self.first:
            if recipe.world:
                self._make_data()
            if recipe.base:
                self._make_tokenizer()
        self.settings.strategy.barrier()
        for name in recipe.stages:
            self._stage(name)
        self.progress.enter("report")
        results = {name: self._results(name) for name in recipe.stages}
        card = report.build(recipe, list(self.entries.values()), results, self.settings.seed, self.settings.threads)
        if self.first:
            report.write(card, self.settings.out)
        self.settings.strategy.barrier()
        return card

    def _stage(self, name: str) -> None:
        """Run a stage unless its checkpoint is there, then evaluate it unless its results are."""
        if not self.home.checkpoint(name).is_dir():
            began = time.perf_counter()
            self.progress.enter(name)
            settings, strategy = self.settings, self.settings.strategy
            job = Job(
                *(self.home, name, self.data_folder, settings.seed, self.digest, self.tokenizer, strategy, self.progress),
                self._probes(),
                settings.strict,
            )
            counts = self._work(job, self.recipe.stages[name])
            if counts.first_problem:
                print(f"{counts.bad} bad rows were put aside, the first at {counts.first_problem}")
            info = checkpoint.read_stage(self.home.checkpoint(name))
            assert info is not None
            data = {key: getattr(counts, key) for key in ("rows", "used", "bad", "dropped", "truncated")}
            self._note(name, info.steps, info.tokens, max(info.seconds, time.perf_counter() - began), info.metrics, data)
        else:
            folder.same_data(self.home, name, self.data_folder)
        if self.first:
            self._evaluate(name)
        self.settings.strategy.barrier()

    def _work(self, job: Job, settings: Any) -> Counts:
        """Train the stage that the job is named after."""
        start, reward = self._start, self.home.checkpoint("rm")
        match job.name:
            case "base":
                return stages.pretrain(settings, job, shape=self.recipe.model)
            case "sft":
                return stages.sft(settings, job, self._origin)
            case "rm":
                return stages.rm(settings, job, start, self._scale_prompts(), self._reply_tokens)
            case "rl":
                return stages.ppo(settings, job, start, reward)
            case "grpo":
                return stages.grpo(settings, job, start, reward if settings.needs_reward_model else None)
        work: Any = {"dpo": stages.dpo, "kto": stages.kto}[job.name]
        return work(settings, job, start)

    @property
    def _origin(self) -> Path:
        """The model that the recipe begins with: the checkpoint given, or what its ``base`` made."""
        return self.settings.base or self.home.checkpoint("base")

    @property
    def _start(self) -> Path:
        """What the stages after SFT learn from."""
        return self.home.checkpoint("sft") if self.recipe.sft else self._origin

    @property
    def _reply_tokens(self) -> int:
        """How long the replies may be that the run's policies learn from."""
        return max((section.max_tokens for section in (self.recipe.ppo, self.recipe.grpo) if section), default=stages.REPLY_TOKENS)

    @property
    def data_folder(self) -> Path:
        return self.settings.data or self.settings.out / "data"

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The run's one tokenizer: made by the recipe, or the base checkpoint's with a chat template where it has none."""
        from transformers import AutoTokenizer

        if self.settings.base is not None:
            return tokenizer_for(self.settings.base)
        return checked(AutoTokenizer.from_pretrained(self.settings.out / "tokenizer"), str(self.settings.out / "tokenizer"))

    def _make_data(self) -> None:
        data = self.settings.out / "data"
        world = self.recipe.world
        if data.is_dir() or world is None:
            return
        from trainers.pocket import corpus

        self.progress.enter("data")
        began = time.perf_counter()
        made = corpus.build(self.settings.seed, world.limit, corpus.Shares(world.polite, world.plain, world.two_turns))
        with atomic.directory(data) as beside:
            corpus.write(made, beside)
        rows = sum(len(rows) for rows in made.training.values())
        self._note("data", 0, 0, time.perf_counter() - began, {}, {"rows": rows, "used": rows, "bad": 0, "dropped": 0, "truncated": 0})

    def _make_tokenizer(self) -> None:
        place = self.settings.out / "tokenizer"
        if place.is_dir():
            return
        from trainers import tokenizer

        self.progress.enter("tokenizer")
        began = time.perf_counter()
        log = StageLog(self.home.log("tokenizer"))
        log.event("start", stage="tokenizer", steps=1, time=time.time())
        texts = [row["prompt"] + row["text"] for row in self._rows(self.recipe.base.data if self.recipe.base else [], "text")]
        chats = self._rows(self.recipe.sft.data, "sft") if self.recipe.sft else []
        texts += [message["content"] for row in chats for message in row["messages"]]
        made, model = tokenizer.train(texts, self.recipe.vocab_size, self.recipe.model.context)
        with atomic.directory(place) as beside:
            made.save_pretrained(beside)
            (beside / "tokenizer.model").write_bytes(model)
        seconds = time.perf_counter() - began
        log.event("end", step=1, seconds=round(seconds, 2), metrics={"tokens": len(made)})
        log.close()
        self._note("tokenizer", 0, 0, seconds, {}, None)

    def _rows(self, mixture: list[Mixture], kind: Any) -> list[dict[str, Any]]:
        return dataset.read(mixture, self.data_folder, kind, Counts())

    def _scale_prompts(self) -> list[Prompt]:
        """Prompts that no stage trains on (the recipe's own held-out ones, where it has them), to scale rewards on."""
        return self._heldout_prompts(self.recipe.rm.reference_prompts if self.recipe.rm else 0)

    def _heldout_prompts(self, count: int) -> list[Prompt]:
        """At most *count* prompts; none where neither the run's benchmark nor a stage has any, and stages look for their own."""
        file = self.home.benchmark() / "prompts.jsonl"
        asked = self.recipe.ppo or self.recipe.grpo
        mixture = [Mixture(path=str(file.resolve()))] if file.exists() else asked.data if asked else []
        if not mixture:
            return []
        base = self.settings.base
        context = (longest_sequence(checkpoint.check(base)) or 512) if base else self.recipe.model.context
        context = min(context, asked.max_length or context) if asked else context
        found = dataset.prompts(self._rows(mixture, "prompts"), self.tokenizer, context - self._reply_tokens, Counts())
        _, chosen = hold_out(found, min(1.0, count / len(found)), self.settings.seed, "reward reference")
        return chosen or found

    def _probes(self) -> list[Prompt]:
        """A few held-out prompts in every language, to show how replies change while training."""
        found = self._heldout_prompts(400)
        chinese = [prompt for prompt in found if any("一" <= character <= "鿿" for character in prompt.text)]
        other = [prompt for prompt in found if prompt not in chinese]
        return [*other[:3], *chinese[:3]]

    def _note(self, name: str, steps: int, tokens: int, seconds: float, metrics: dict[str, float], data: dict[str, int] | None) -> None:
        self.entries[name] = {
            "name": name,
            "steps": steps,
            "tokens": tokens,
            "seconds": round(seconds, 2),
            "metrics": metrics,
            "data": data,
        }
        self._write_entries()

    def _write_entries(self) -> None:
        if self.first:
            atomic.write_json(self.home.state("done") / "stages.json", list(self.entries.values()))

    def _earlier_entries(self) -> dict[str, dict[str, Any]]:
        file = self.home.state("done") / "stages.json"
        return {entry["name"]: entry for entry in json.loads(file.read_text(encoding="utf-8"))} if file.exists() else {}

    def _results(self, name: str) -> list[Path]:
        return sorted(self.home.evaluations().glob(f"{name}-card/results.json"))

    def _evaluate(self, name: str) -> None:
        if not self.recipe.evaluate or self._results(name):
            return
        began = time.perf_counter()
        out = self.home.evaluations() / f"{name}-card"
        evaluate(self.home.checkpoint(name), self.recipe.evaluate, out, self.settings.seed, self.settings.threads, self.progress.beat)
        entry = {"name": "evaluation", "steps": 0, "tokens": 0, "seconds": 0.0, "metrics": {}, "data": None}
        spent = self.entries.setdefault("evaluation", entry)
        spent["seconds"] = round(spent["seconds"] + time.perf_counter() - began, 2)
        self._write_entries()
