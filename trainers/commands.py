"""One stage by itself, as the commands ask for it: settings, checkpoints and data in, a checkpoint in a run's directory out."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelkit import atomic, checkpoint, hub
from modelkit.checkpoint import StageInfo
from modelkit.errors import ModelError, UserError
from modelkit.fingerprint import fingerprint
from trainers import folder, rewards
from trainers.data.files import HUB
from trainers.log import Progress, Watcher
from trainers.reading import load_section
from trainers.recipe import DpoStage, GrpoStage, KtoStage, Optimisation, PpoStage, PretrainStage, RewardStage, SftStage

if TYPE_CHECKING:
    from trainers.data.dataset import Counts
    from trainers.job import Job
    from trainers.strategies import Strategy

SECTIONS: dict[str, type[Optimisation]] = {
    "base": PretrainStage,
    "sft": SftStage,
    "rm": RewardStage,
    "rl": PpoStage,
    "dpo": DpoStage,
    "kto": KtoStage,
    "grpo": GrpoStage,
}
"""What each stage's settings are. The names are those of the checkpoints."""


@dataclass(frozen=True)
class Request:
    """What a command line asked for. ``model`` is trained from; ``data`` is the folder of its files, where one was named."""

    stage: str
    settings: Any
    out: Path
    seed: int
    model: Path | None
    data: Path | None
    reward: Path | None = None
    tokenizer: Path | None = None
    strict: bool = False


def request(
    stage: str,
    config: Path | None,
    overrides: list[str],
    out: Path,
    seed: int,
    model: Path | None,
    data: Path | None,
    reward: Path | None = None,
    tokenizer: Path | None = None,
    strict: bool = False,
) -> Request:
    """Check everything that can be checked without loading a model. Models may be named as on the hub, *data* as ``hf:owner/name``.

    :raises UserError: for settings, checkpoints or data that can't be used.
    """
    if stage == "base" and (model is None) == (tokenizer is None):
        raise UserError(
            "pretraining starts from a checkpoint (-m DIR) or from nothing, with a tokenizer (--tokenizer DIR): give one of both."
        )
    where, given = _data(data)
    settings: Any = load_section(SECTIONS[stage], config, overrides, given)
    if not settings.data:
        why = f"{data} is a folder: name one of its files" if data else f"there is no data to train {stage} on: name a file"
        raise UserError(f"{why} with --data, or list files under data in the settings.")
    model, reward, tokenizer = (None if path is None else hub.find(str(path), say=print) for path in (model, reward, tokenizer))
    if model is not None:
        checkpoint.check(model)
        if checkpoint.is_reward_model(model) and stage != "rm":
            raise ModelError(f"{model} is a reward model, but a language model is needed to start from.")
    if reward is not None:
        checkpoint.check(reward)
        if not checkpoint.is_reward_model(reward):
            raise ModelError(f"{reward} is a language model, but --reward needs a reward model.")
    if stage == "grpo":
        rewards.require(term.name for term in settings.rewards)
        if settings.needs_reward_model and reward is None:
            raise UserError("the reward term reward_model needs a reward model: give its checkpoint with --reward, or leave the term out.")
    return Request(stage, settings, out, seed, model, where, reward, tokenizer, strict)


def _data(data: Path | None) -> tuple[Path | None, dict[str, Any]]:
    """The folder that data files lie in, if ``--data`` names one, and what it says about which they are.

    :raises UserError: when there is no such file or folder.
    """
    if data is None:
        return None, {"data": []}
    if str(data).startswith(HUB):
        return None, {"data": [{"path": str(data)}]}
    if data.is_dir():
        return data, {"data": []}
    if not data.is_file():
        raise UserError(f"there is no data file or folder {data}: check --data.")
    return data.parent, {"data": [{"path": data.name}]}


def run(asked: Request, strategy: Strategy, watcher: Watcher = lambda progress: None) -> tuple[StageInfo, Counts | None]:
    """Make the stage's checkpoint, or finish it.

    :returns: its ``stage.json``, and what became of the data's rows (``None`` when the checkpoint was there already).
    :raises UserError: when the run holds this stage made in another way, or another process is training it.
    :raises trainers.loop.Stopped: when asked to stop; the next call goes on.
    """
    from trainers.job import Job, checked, tokenizer_for

    first, data = strategy.rank == 0, asked.data or Path()
    starts = [fingerprint(path) if path is not None else None for path in (asked.model, asked.reward)]
    resolved = {
        "settings": asked.settings.model_dump(mode="json"),
        "seed": asked.seed,
        "data": str(asked.data.resolve()) if asked.data else "",
        "starts": starts,
    }
    if code := rewards.code_of(term.name for term in getattr(asked.settings, "rewards", [])):
        resolved["code"] = code
    digest = folder.digest(asked.stage, resolved)
    if asked.model is None:
        assert asked.tokenizer is not None
        tokenizer = checked(checkpoint.read_tokenizer(asked.tokenizer), str(asked.tokenizer), chat=False)
    else:
        tokenizer = tokenizer_for(asked.model, chat=asked.stage != "base")
    asked.out.mkdir(parents=True, exist_ok=True)
    with folder.locked(asked.out) if first else nullcontext():
        if first:
            atomic.sweep(asked.out)
            home = folder.with_stages(asked.out, ["critic", "rl"] if asked.stage == "rl" else [asked.stage], asked.seed)
            missing = folder.claim(home, asked.stage, digest, resolved, data)
        strategy.barrier()
        if not first:
            home = folder.Run.open(asked.out)
            missing = folder.claim(home, asked.stage, digest, resolved, data)
        strategy.barrier()
        counts = None
        if missing:
            progress = Progress(asked.out if first else None, [asked.stage], {asked.stage: 1.0}, watcher)
            job = Job(home, asked.stage, data, asked.seed, digest, tokenizer, strategy, progress, strict=asked.strict)
            with folder.watched(progress):
                counts = _work(asked, job)
        info = checkpoint.read_stage(home.checkpoint(asked.stage))
        assert info is not None
        return info, counts


def _work(asked: Request, job: Job) -> Counts:
    from trainers import stages

    settings = asked.settings
    if asked.stage == "base":
        return stages.pretrain(settings, job, asked.model, settings.shape)
    assert asked.model is not None
    if asked.stage == "rl":
        assert asked.reward is not None
        return stages.ppo(settings, job, asked.model, asked.reward)
    if asked.stage == "grpo":
        return stages.grpo(settings, job, asked.model, asked.reward)
    work: Any = {"sft": stages.sft, "rm": stages.rm, "dpo": stages.dpo, "kto": stages.kto}[asked.stage]
    return work(settings, job, asked.model)
