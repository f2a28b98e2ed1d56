"""A recipe from start to end: data → tokenizer → base → SFT → reward model → PPO, each stage evaluated, one report card.

Every stage ends with a checkpoint that appears whole or not at all; a stage whose checkpoint is there is not run again. So the
same command after a crash goes on where it was.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelkit import atomic, checkpoint
from modelkit.chat import PLAIN_TEMPLATE, verify_template
from modelkit.checkpoint import StageInfo
from modelkit.errors import UserError
from modelkit.fingerprint import sha256_of_text
from modelkit.reward import RewardReference
from modelkit.run import Run, RunInfo, Stage
from trainers import report
from trainers.data import dataset
from trainers.data.dataset import Counts, Example, Prompt
from trainers.data.order import hold_out
from trainers.log import Progress, StageLog, Watcher
from trainers.loop import Finished, StageLoop, Stopped, train
from trainers.recipe import Mixture, Recipe
from trainers.seeds import derive

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_TITLES = {
    "base": {"en": "Base", "zh": "基座"},
    "sft": {"en": "SFT", "zh": "SFT 微调"},
    "rm": {"en": "Reward model", "zh": "奖励模型"},
    "critic": {"en": "Critic", "zh": "价值模型"},
    "rl": {"en": "RL (PPO)", "zh": "强化学习 (PPO)"},
}
_KINDS = {"base": "base", "sft": "sft", "rm": "reward", "critic": "critic", "rl": "rl"}
_SHARES = {"data": 1.0, "tokenizer": 2.0, "base": 90.0, "sft": 65.0, "rm": 120.0, "rl": 75.0, "report": 1.0}
"""Expected seconds per stage of the pocket recipe: how progress is shared out before anything is measured."""


@dataclass(frozen=True)
class Settings:
    """What the command line adds to a recipe."""

    out: Path
    seed: int
    threads: int
    base: Path | None = None
    data: Path | None = None


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
    settings.out.mkdir(parents=True, exist_ok=True)
    with _locked(settings.out):
        atomic.sweep(settings.out)
        pipeline = _Pipeline(recipe, settings, watcher)
        try:
            with _stoppable():
                card = pipeline.run()
        except Stopped:
            pipeline.progress.finish("stopped")
            raise
        except UserError as error:
            pipeline.progress.finish("failed", str(error))
            raise
        except BaseException as error:
            pipeline.progress.finish("failed", f"{type(error).__name__}: {error}")
            raise
        pipeline.progress.finish("done")
        return card


class _Pipeline:
    def __init__(self, recipe: Recipe, settings: Settings, watcher: Watcher) -> None:
        self.recipe, self.settings = recipe, settings
        self.digest = sha256_of_text(
            json.dumps(
                [recipe.model_dump(exclude={"bars", "title"}), settings.seed, str(settings.base or ""), str(settings.data or "")],
                sort_keys=True,
            )
        )
        self.home = self._open()
        stages = [
            name
            for name in _SHARES
            if (name != "tokenizer" or recipe.base) and (name != "base" or recipe.base) and (name != "data" or recipe.world)
        ]
        self.progress = Progress(settings.out, stages, {name: _SHARES[name] for name in stages}, watcher)
        self.entries: dict[str, dict[str, Any]] = self._earlier_entries()

    def _open(self) -> Run:
        if (self.settings.out / "run.json").exists():
            found = Run.open(self.settings.out)
            if found.info.recipe != self.digest:
                raise UserError(f"{self.settings.out} holds a run of another recipe, seed or data: choose another --out, or delete it.")
            return found
        names = ["base", "sft", "rm", "critic", "rl"] if self.recipe.base else ["sft", "rm", "critic", "rl"]
        info = RunInfo(
            name=self.recipe.title.get("en", self.recipe.name),
            recipe=self.digest,
            languages=self.recipe.languages,
            seed=self.settings.seed,
            stages=[Stage(name=name, kind=_KINDS[name], title=_TITLES[name]) for name in names],
        )
        return Run.create(self.settings.out, info)

    def run(self) -> dict[str, Any]:
        if self.recipe.world:
            self._make_data()
        if self.recipe.base:
            self._make_tokenizer()
            self._stage("base", self._base)
        self._stage("sft", self._sft)
        self._stage("rm", self._rm)
        self._stage("rl", self._rl)
        self.progress.enter("report")
        results = {name: self._results(name) for name in ("base", "sft", "rm", "rl") if self.home.checkpoint(name).is_dir()}
        return report.build(self.settings.out, self.recipe, list(self.entries.values()), results, self.settings.seed, self.settings.threads)

    # -- the rooms every stage passes through ------------------------------------------------------------------------------

    @property
    def data_folder(self) -> Path:
        return self.settings.data or self.settings.out / "data"

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The run's one tokenizer: made by the recipe, or the base checkpoint's with a chat template where it has none."""
        from transformers import AutoTokenizer

        if self.recipe.base:
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(self.settings.out / "tokenizer")
        else:
            assert self.settings.base is not None
            tokenizer = checkpoint.load_tokenizer(self.settings.base)
            if tokenizer.chat_template is None:
                tokenizer.chat_template = PLAIN_TEMPLATE
            if tokenizer.eos_token_id is None or tokenizer.bos_token_id is None:
                raise UserError(f"the tokenizer of {self.settings.base} has no begin- or end-of-sequence token, which training needs.")
            if tokenizer.pad_token_id is None:
                tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
        verify_template(tokenizer)
        return tokenizer

    def _stage(self, name: str, work: Callable[[Counts], None]) -> None:
        """Run a stage unless its checkpoint is there, then evaluate it unless its results are."""
        if not self.home.checkpoint(name).is_dir():
            began = time.perf_counter()
            counts = Counts()
            self.progress.enter(name)
            work(counts)
            if counts.first_problem:
                print(f"{counts.bad} bad rows were put aside, the first at {counts.first_problem}")
            info = checkpoint.read_stage(self.home.checkpoint(name))
            assert info is not None
            data = {key: getattr(counts, key) for key in ("rows", "used", "bad", "dropped", "truncated")}
            self._note(name, info.steps, info.tokens, max(info.seconds, time.perf_counter() - began), info.metrics, data)
        self._evaluate(name)

    def _train(self, stage: StageLoop) -> Finished:
        name = stage.name
        return train(stage, self.settings.seed, self.home.log(name), self.home.state(name), self.progress)

    def _save(
        self, name: str, model: PreTrainedModel, parent: str | None, finished: Finished, counts: Counts, extra: dict[str, Any] | None = None
    ) -> None:
        info = StageInfo(
            stage=name,
            parent=parent,
            recipe=self.digest,
            data=counts.sources,
            steps=finished.steps,
            tokens=finished.tokens,
            seconds=round(finished.seconds, 2),
            metrics=finished.metrics,
        )
        model.config.use_cache = True
        checkpoint.save(model, self.tokenizer, self.home.checkpoint(name), info, extra)

    # -- the stages --------------------------------------------------------------------------------------------------------

    def _make_data(self) -> None:
        folder = self.settings.out / "data"
        world = self.recipe.world
        if folder.is_dir() or world is None:
            return
        from trainers.pocket import corpus

        self.progress.enter("data")
        began = time.perf_counter()
        made = corpus.build(self.settings.seed, world.limit, corpus.Shares(world.polite, world.plain, world.two_turns))
        with atomic.directory(folder) as beside:
            corpus.write(made, beside)
        rows = sum(len(rows) for rows in made.training.values())
        self._note("data", 0, 0, time.perf_counter() - began, {}, {"rows": rows, "used": rows, "bad": 0, "dropped": 0, "truncated": 0})

    def _make_tokenizer(self) -> None:
        folder = self.settings.out / "tokenizer"
        if folder.is_dir():
            return
        from trainers import tokenizer

        self.progress.enter("tokenizer")
        began = time.perf_counter()
        log = StageLog(self.home.log("tokenizer"))
        log.event("start", stage="tokenizer", steps=1, time=time.time())
        texts = [row["prompt"] + row["text"] for row in self._rows(self.recipe.base.data if self.recipe.base else [], "text", Counts())]
        texts += [message["content"] for row in self._rows(self.recipe.sft.data, "sft", Counts()) for message in row["messages"]]
        made, model = tokenizer.train(texts, self.recipe.vocab_size, self.recipe.model.context)
        with atomic.directory(folder) as beside:
            made.save_pretrained(beside)
            (beside / "tokenizer.model").write_bytes(model)
        seconds = time.perf_counter() - began
        log.event("end", step=1, seconds=round(seconds, 2), metrics={"tokens": len(made)})
        log.close()
        self._note("tokenizer", 0, 0, seconds, {}, None)

    def _base(self, counts: Counts) -> None:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        from trainers.sft import LanguageModelling

        shape, settings = self.recipe.model, self.recipe.base
        assert settings is not None
        rows = self._rows(settings.data, "text", counts)
        examples = dataset.text_examples(rows, self.tokenizer, shape.context, counts)
        torch.manual_seed(derive(self.settings.seed, "base", "weights"))
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=self.recipe.vocab_size,
                hidden_size=shape.hidden_size,
                intermediate_size=shape.intermediate_size,
                num_hidden_layers=shape.layers,
                num_attention_heads=shape.heads,
                num_key_value_heads=shape.kv_heads,
                max_position_embeddings=shape.context,
                rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
                tie_word_embeddings=True,
                bos_token_id=self.tokenizer.bos_token_id,
                eos_token_id=self.tokenizer.eos_token_id,
                pad_token_id=self.tokenizer.pad_token_id,
            )
        )
        stage = LanguageModelling("base", model, self.tokenizer, examples, [], self._probes(), settings, self.settings.seed)
        finished = self._train(stage)
        self._save("base", model, None, finished, counts)

    def _sft(self, counts: Counts) -> None:
        from trainers.sft import LanguageModelling

        settings = self.recipe.sft
        source, parent = self._parent()
        model = checkpoint.load_model(source)
        context = self._context(model)
        chats = dataset.chat_examples(self._rows(settings.data, "sft", counts), self.tokenizer, context, counts)
        examples, held_out = hold_out(chats, settings.held_out, self.settings.seed, "sft")
        if settings.replay:
            examples = examples + dataset.text_examples(self._rows(settings.replay, "text", counts), self.tokenizer, context, counts)
        stage = LanguageModelling("sft", model, self.tokenizer, examples, held_out, self._probes(), settings, self.settings.seed)
        finished = self._train(stage)
        self._save("sft", model, parent, finished, counts)

    def _rm(self, counts: Counts) -> None:
        import torch

        from trainers.reward import RewardModelling, from_language_model

        settings = self.recipe.rm
        sft = checkpoint.load_model(self.home.checkpoint("sft"))
        torch.manual_seed(derive(self.settings.seed, "rm", "weights"))
        model = from_language_model(sft, self.tokenizer)
        pairs = dataset.pairs(self._rows(settings.data, "preference", counts), self.tokenizer, self._context(model), counts)
        training, held_out = hold_out(pairs, settings.held_out, self.settings.seed, "rm")
        finished = self._train(RewardModelling(model, training, held_out, settings, self.settings.seed))
        reference = self._reward_reference(sft, model)
        finished.metrics.update(sft_reward_mean=reference.mean, sft_reward_sd=reference.sd)
        self._save("rm", model, "../sft", finished, counts, {"reward_reference.json": reference.to_json()})

    def _rl(self, counts: Counts) -> None:
        from trainers.ppo.models import Cast, Separate, SharedBackbone
        from trainers.ppo.train import Ppo

        settings = self.recipe.ppo
        sft, rm = self.home.checkpoint("sft"), self.home.checkpoint("rm")
        actor, reward = checkpoint.load_model(sft), checkpoint.load_model(rm, "reward")
        cast: Cast
        if settings.share_backbone and settings.lora:
            cast = SharedBackbone(actor, settings.lora)
        else:
            cast = Separate(actor, checkpoint.load_model(rm, "reward"), checkpoint.load_model(sft))
        scale = RewardReference.read(self.home.checkpoint("rm"))
        if scale is None:
            raise UserError(
                f"{self.home.checkpoint('rm')} has no reward_reference.json: delete that directory, and the run makes it again."
            )
        context = self._context(actor)
        prompts = dataset.prompts(self._rows(settings.data, "prompts", counts), self.tokenizer, context - settings.max_tokens, counts)
        ptx: list[Example] = []
        if settings.ptx:
            ptx = dataset.chat_examples(self._rows(settings.ptx, "sft", counts), self.tokenizer, context, counts)
        stage = Ppo(cast, reward, self.tokenizer, prompts, ptx, self._probes(), scale, settings, self.settings.seed)
        finished = self._train(stage)
        self._save("critic", cast.plain("critic"), "../rm", finished, counts)
        self._save("rl", cast.plain("actor"), "../sft", finished, counts)

    def _reward_reference(self, sft: PreTrainedModel, reward: PreTrainedModel) -> RewardReference:
        """Rewards of sampled SFT replies to prompts that no stage trains on (the recipe's own held-out ones, where it has them)."""
        from modelkit.chat import stop_ids
        from modelkit.generation.sampling import Sampling
        from trainers.ppo.rollout import rewards_of, sample

        count = self.recipe.rm.reference_prompts
        prompts = self._heldout_prompts(count)
        seeds = [derive(self.settings.seed, "reward reference", i) for i in range(len(prompts))]
        sampling = [Sampling(max_tokens=self.recipe.ppo.max_tokens, seed=seed) for seed in seeds]
        reward.eval()
        replies = sample(sft, [prompt.ids for prompt in prompts], sampling, stop_ids(self.tokenizer, sft))
        return RewardReference.of(rewards_of(reward, replies, self.recipe.rm.micro_tokens).tolist())

    # -- small things ------------------------------------------------------------------------------------------------------

    def _rows(self, mixture: list[Mixture], kind: Any, counts: Counts) -> list[dict[str, Any]]:
        return dataset.read(mixture, self.data_folder, kind, self.settings.seed, counts)

    def _parent(self) -> tuple[Path, str]:
        if self.recipe.base:
            return self.home.checkpoint("base"), "../base"
        assert self.settings.base is not None
        return self.settings.base, os.path.relpath(self.settings.base.resolve(), self.home.checkpoint("sft").resolve())

    def _context(self, model: PreTrainedModel) -> int:
        return int(model.config.max_position_embeddings)

    def _heldout_prompts(self, count: int) -> list[Prompt]:
        file = self.home.benchmark() / "prompts.jsonl"
        mixture = [Mixture(path=str(file.resolve()))] if file.exists() else self.recipe.ppo.data
        rows = self._rows(mixture, "prompts", Counts())
        limit = (
            self.recipe.model.context if self.recipe.base else int(checkpoint.check(self._parent()[0]).get("max_position_embeddings", 512))
        )
        found = dataset.prompts(rows, self.tokenizer, limit - self.recipe.ppo.max_tokens, Counts())
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
        atomic.write_json(self.home.state("done") / "stages.json", list(self.entries.values()))

    def _earlier_entries(self) -> dict[str, dict[str, Any]]:
        file = self.home.state("done") / "stages.json"
        return {entry["name"]: entry for entry in json.loads(file.read_text(encoding="utf-8"))} if file.exists() else {}

    def _results(self, name: str) -> list[Path]:
        return sorted(self.home.evaluations().glob(f"{name}-card/results.json"))

    def _evaluate(self, name: str) -> None:
        """Score a checkpoint by starting evalkit (the two packages don't import each other)."""
        if not self.recipe.evaluate or self._results(name):
            return
        began = time.perf_counter()
        command = [sys.executable, "-m", "evalkit", "run", "-m", str(self.home.checkpoint(name)), "-t", ",".join(self.recipe.evaluate)]
        command += ["--seed", str(self.settings.seed), "--out", str(self.home.evaluations() / f"{name}-card")]
        environment = {
            **os.environ,
            "PLAYGROUND_THREADS": str(self.settings.threads),
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        }
        status, said = self._watched(command, environment)
        if status != 0:
            raise UserError(f"evaluating {name} failed: {said or f'evalkit ended with status {status}'}")
        self.entries.setdefault("evaluation", {"name": "evaluation", "steps": 0, "tokens": 0, "seconds": 0.0, "metrics": {}, "data": None})
        self.entries["evaluation"]["seconds"] = round(self.entries["evaluation"]["seconds"] + time.perf_counter() - began, 2)
        atomic.write_json(self.home.state("done") / "stages.json", list(self.entries.values()))

    def _watched(self, command: list[str], environment: dict[str, str]) -> tuple[int, str]:
        """Run a command with a heartbeat in ``progress.json``; its exit status and the last line it said."""
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            try:
                while True:
                    try:
                        output, _ = process.communicate(timeout=1.0)
                    except subprocess.TimeoutExpired:
                        self.progress.beat()
                        continue
                    lines = output.strip().splitlines()
                    return process.returncode, lines[-1] if lines else ""
            except BaseException:
                process.terminate()
                raise


@contextmanager
def _stoppable() -> Iterator[None]:
    """Between training steps SIGTERM ends the block with :class:`Stopped`, as the training loop itself does within them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise Stopped

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the run's lock, so that two trainers never write one run. The kernel lets go of it when the process ends."""
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process is training {folder}: wait for it, stop it, or choose another --out.") from None
        yield
