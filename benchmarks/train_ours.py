"""Our side of benchmarks.train_vs_trl, in a process of its own: `python -m benchmarks.train_ours STAGE WORK OUT`.

Trains the stage on the slices in WORK through the same loop as `trainers`, and writes seconds and what was read to OUT.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelkit.device import prepare_process, set_threads

prepare_process()  # before torch is imported

import torch  # noqa: E402

from modelkit import checkpoint  # noqa: E402
from modelkit.generation.sampling import Sampling  # noqa: E402
from modelkit.linear import fast_linear  # noqa: E402
from modelkit.reward import RewardReference  # noqa: E402
from trainers.data.dataset import Example, Pair, Prompt  # noqa: E402
from trainers.log import Progress  # noqa: E402
from trainers.loop import StageLoop, train  # noqa: E402
from trainers.ppo.models import Separate  # noqa: E402
from trainers.ppo.rollout import sample  # noqa: E402
from trainers.ppo.train import Ppo  # noqa: E402
from trainers.recipe import PpoStage, RewardStage, SftStage  # noqa: E402
from trainers.reward import RewardModelling  # noqa: E402
from trainers.sft import LanguageModelling  # noqa: E402

ALWAYS: dict[str, Any] = {"data": [], "save_every": 10**9, "sample_every": 10**9}


class Clock:
    """Adds up the seconds that methods of a stage take, by name, and what its steps read."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.tokens = self.rows = 0

    def watch(self, stage: Any, method: str, name: str) -> None:
        """Count the time of every call of *method* as *name*."""
        plain: Callable[..., Any] = getattr(stage, method)

        def timed(*arguments: Any, **named: Any) -> Any:
            started = time.perf_counter()
            found = plain(*arguments, **named)
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
            if method == "step":
                self.tokens, self.rows = self.tokens + found.tokens, self.rows + len(found.rows)
            return found

        setattr(stage, method, timed)


def sft(slices: dict[str, Any], work: Path) -> LanguageModelling:
    """As many steps as the peer takes: an epoch in batches of eight rows on average."""
    examples = [Example(row["ids"], [False, *row["labelled"][1:]]) for row in slices["sft"]]
    steps = len(examples) // slices["batch"]
    tokens = sum(len(example.ids) for example in examples)
    settings = SftStage(steps=steps, lr=2e-5, tokens=per_step(tokens, steps, len(examples)), **ALWAYS)
    model = checkpoint.load_model(work / "model")
    return LanguageModelling("sft", model, checkpoint.load_tokenizer(work / "model"), examples, [], [], settings, seed=0)


def rm(slices: dict[str, Any], work: Path) -> RewardModelling:
    """Pairs in batches of eight on average."""
    pairs = [Pair(pair["chosen"], pair["rejected"]) for pair in slices["rm"]]
    steps = len(pairs) // slices["batch"]
    tokens = sum(len(pair.chosen) + len(pair.rejected) for pair in pairs)
    settings = RewardStage(steps=steps, lr=2e-5, tokens=per_step(tokens, steps, len(pairs)), **ALWAYS)
    return RewardModelling(checkpoint.load_model(work / "rm", "reward"), pairs, [], settings, seed=0)


def ppo(slices: dict[str, Any], work: Path) -> Ppo:
    """One rollout of all prompts and four passes over it."""
    actor, reference = (checkpoint.load_model(work / "model") for _ in range(2))
    critic, judge = (checkpoint.load_model(work / "rm", "reward") for _ in range(2))
    prompts = [Prompt(ids, "") for ids in slices["ppo"]]
    settings = PpoStage(
        steps=1,
        lr=3e-6,
        critic_lr=3e-6,
        prompts=len(prompts),
        epochs=4,
        minibatches=1,
        temperature=0.7,
        max_tokens=slices["reply"],
        **ALWAYS,
    )
    scale = RewardReference([], 0.0, 1.0)
    cast = Separate(actor, critic, reference)
    return Ppo(cast, judge, checkpoint.load_tokenizer(work / "model"), prompts, [], [], scale, settings, seed=0)


def per_step(tokens: int, steps: int, rows: int) -> int:
    """The token budget with which *steps* steps make one epoch: a step ends with the row that reaches it, half a row late on average."""
    return max(1, round(tokens / steps - tokens / rows / 2))


def generation(slices: dict[str, Any], work: Path) -> dict[str, float]:
    """New tokens per second: the rollout of PPO beside `generate` with one prompt at a time, replies of one and of different lengths."""
    model: Any = checkpoint.load_model(work / "model")
    prompts, longest = slices["ppo"], slices["reply"]
    few = prompts[:: max(1, len(prompts) // 8)]
    started = time.perf_counter()
    for ids in few:
        model.generate(
            torch.tensor([ids]),
            max_new_tokens=longest,
            min_new_tokens=longest,
            do_sample=True,
            top_k=0,
            attention_mask=torch.ones(1, len(ids)),
        )
    found = {"one by one": longest * len(few) / (time.perf_counter() - started)}
    for name, lengths in {
        "rollout": [longest] * len(prompts),
        "rollout, different lengths": [longest * (1 + i * 7 % 8) // 8 for i in range(len(prompts))],
    }.items():
        sampling = [Sampling(max_tokens=length, temperature=1.0, seed=i) for i, length in enumerate(lengths)]
        started = time.perf_counter()
        with fast_linear(model.device, torch.float32):
            replies = sample(model, prompts, sampling, [])
        found[name] = float(replies.mask.sum()) / (time.perf_counter() - started)
    return found


STAGES: dict[str, Callable[[dict[str, Any], Path], StageLoop]] = {"sft": sft, "rm": rm, "ppo": ppo}


def main(stage: str, work: Path, out: Path) -> None:
    """Run one stage and write what it took."""
    set_threads()
    torch.manual_seed(0)
    slices = json.loads((work / "slices.json").read_text(encoding="utf-8"))
    if stage == "generation":
        out.write_text(json.dumps({"rates": generation(slices, work)}), encoding="utf-8")
        return
    loop, clock = STAGES[stage](slices, work), Clock()
    clock.watch(loop, "step", "step")
    if stage == "ppo":
        for method, name in {"_rollout": "rollout", "_evaluated": "scoring", "_update": "update"}.items():
            clock.watch(loop, method, name)
    with tempfile.TemporaryDirectory() as folder:
        started, worked = time.perf_counter(), time.process_time()
        train(loop, 0, Path(folder) / "log.jsonl", Path(folder) / "state", Progress(None, [loop.name], {loop.name: 1.0}))
        seconds, processor = time.perf_counter() - started, time.process_time() - worked
    phases = {name: spent for name, spent in clock.seconds.items() if name != "step"}
    versions = {"torch": torch.__version__}
    found = {"tokens": clock.tokens, "rows": clock.rows, "phases": phases, "versions": versions}
    result = {"seconds": seconds, "processor": processor, **found}
    out.write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
