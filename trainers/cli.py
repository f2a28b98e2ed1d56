"""The ``trainers`` command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelkit.device import prepare_process, set_threads
from modelkit.errors import one_sentence
from trainers.data.cli import app as data_app
from trainers.plan.cli import plan as plan_command

if TYPE_CHECKING:
    from trainers.commands import Request

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Train chat models: pretraining, SFT, reward models, PPO with PTX, DPO, KTO, GRPO; with LoRA, on one process or many.",
)
app.add_typer(data_app, name="data")
app.command("plan")(plan_command)
doctor_app = typer.Typer(no_args_is_help=True, help="Look for what is wrong with a trained model.")
app.add_typer(doctor_app, name="doctor")

Start = Annotated[Path, typer.Option("--model", "-m", help="The checkpoint to start from, or its name on the hub; adapters work as well.")]
Out = Annotated[Path, typer.Option(help="The run's directory, to which the stage is added. An unfinished stage there goes on.")]
Data = Annotated[Path | None, typer.Option(help="The file to train on (or hf:owner/name), or the folder that the config's files lie in.")]
Config = Annotated[Path | None, typer.Option(help="A YAML file with the stage's settings, as under its name in a recipe.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one setting, e.g. steps=40 or lora.rank=8.")]
Seed = Annotated[int, typer.Option(help="Decides the order of the data, new weights, and all that is sampled.")]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first bad row, rather than put it aside.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; results depend on their number.")]
Parallel = Annotated[str, typer.Option("--strategy", help="How processes share the work: auto, single, ddp, zero1, zero2, zero3, …")]
Processes = Annotated[int, typer.Option("--nproc", min=1, help="Processes to start on this machine.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; by default CUDA where there is one.")]


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="A recipe, such as recipes/pocket.yaml.")],
    out: Annotated[Path, typer.Option(help="The run's directory. An unfinished run there goes on where it stopped.")],
    base: Annotated[Path | None, typer.Option(help="The checkpoint to start from, for recipes that don't train their own.")] = None,
    data: Annotated[Path | None, typer.Option(help="The folder the recipe's data files lie in.")] = None,
    seed: Annotated[int | None, typer.Option(help="Overrides the recipe's seed.")] = None,
    strict: Strict = False,
    threads: Threads = None,
    strategy: Parallel = "auto",
    nproc: Processes = 1,
    device: Device = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a field of the recipe, e.g. ppo.steps=40.")
    ] = None,
) -> None:
    """Run all stages of a recipe and end with a report card."""
    with one_sentence():
        from trainers.reading import load

        loaded = load(recipe, set_)
        if _started_others(nproc):
            return
        from modelkit import hub
        from trainers.distributed import joined
        from trainers.loop import Stopped
        from trainers.pipeline import Settings
        from trainers.pipeline import run as run_pipeline
        from trainers.terminal import Terminal

        chosen, count = loaded.seed if seed is None else seed, set_threads(threads)
        with joined(strategy, device=device) as joint:
            start = hub.find(str(base), say=print) if base else None
            settings = Settings(out, chosen, count, start, data, joint, strict)
            where = f"out {out} · seed {chosen} · {count} threads · {joint.name} × {joint.world}"
            with Terminal(loaded, where, joint.rank) as terminal:
                try:
                    card = run_pipeline(loaded, settings, terminal.watch)
                except Stopped:
                    terminal.say("stopped; the same command goes on from here")
                    raise typer.Exit(130) from None
            terminal.show(card, out)


@app.command()
def pretrain(
    out: Out,
    model: Annotated[Path | None, typer.Option("--model", "-m", help="The checkpoint to train further.")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="Without -m: the folder of the tokenizer that a new model is made for.")] = None,
    data: Data = None,
    config: Config = None,
    set_: Set = None,
    seed: Seed = 0,
    strict: Strict = False,
    threads: Threads = None,
    strategy: Parallel = "auto",
    nproc: Processes = 1,
    device: Device = None,
) -> None:
    """Language modelling on plain texts: a new model (its size is `shape`), or a checkpoint trained further."""
    with one_sentence():
        from trainers.commands import request

        asked = request("base", config, set_ or [], out, seed, model, data, tokenizer=tokenizer, strict=strict)
        _train(asked, threads, strategy, nproc, device)


def _learner(stage: str) -> Callable[..., None]:
    """The command of a stage that needs nothing but a checkpoint and data."""

    def command(
        model: Start,
        out: Out,
        data: Data = None,
        config: Config = None,
        set_: Set = None,
        seed: Seed = 0,
        strict: Strict = False,
        threads: Threads = None,
        strategy: Parallel = "auto",
        nproc: Processes = 1,
        device: Device = None,
    ) -> None:
        with one_sentence():
            from trainers.commands import request

            asked = request(stage, config, set_ or [], out, seed, model, data, strict=strict)
            _train(asked, threads, strategy, nproc, device)

    return command


app.command("sft", help="Supervised fine-tuning on conversations; the loss looks at the assistant's tokens only.")(_learner("sft"))
app.command("rm", help="A reward model from preference pairs; give the SFT checkpoint as the model.")(_learner("rm"))


@app.command()
def ppo(
    model: Start,
    reward: Annotated[Path, typer.Option("--reward", help="The reward model; the critic starts from it.")],
    out: Out,
    data: Data = None,
    config: Config = None,
    set_: Set = None,
    seed: Seed = 0,
    strict: Strict = False,
    threads: Threads = None,
    strategy: Parallel = "auto",
    nproc: Processes = 1,
    device: Device = None,
) -> None:
    """PPO with PTX: the model learns to be rewarded by a reward model without drifting far from where it was."""
    with one_sentence():
        from trainers.commands import request

        asked = request("rl", config, set_ or [], out, seed, model, data, reward, strict=strict)
        _train(asked, threads, strategy, nproc, device)


_DPO = "DPO and its relatives (loss: sigmoid, ipo, hinge, cdpo, robust, simpo, orpo): learning from pairs without a reward model."
app.command("dpo", help=_DPO)(_learner("dpo"))
app.command("kto", help="KTO: learning from single replies that were called good or bad.")(_learner("kto"))


@app.command()
def grpo(
    model: Start,
    out: Out,
    reward: Annotated[Path | None, typer.Option("--reward", help="A reward model's checkpoint, for the term reward_model.")] = None,
    data: Data = None,
    config: Config = None,
    set_: Set = None,
    seed: Seed = 0,
    strict: Strict = False,
    threads: Threads = None,
    strategy: Parallel = "auto",
    nproc: Processes = 1,
    device: Device = None,
) -> None:
    """GRPO: several replies to each prompt, rewarded by rules or a reward model, compared with each other."""
    with one_sentence():
        from trainers.commands import request

        asked = request("grpo", config, set_ or [], out, seed, model, data, reward, strict=strict)
        _train(asked, threads, strategy, nproc, device)


@app.command()
def merge(
    model: Annotated[Path, typer.Option("--model", "-m", help="The adapter's directory.")],
    out: Annotated[Path, typer.Option(help="The directory to write.")],
    dtype: Annotated[str, typer.Option(help="What the merged weights are kept in: fp32, bf16 or fp16.")] = "fp32",
) -> None:
    """Add an adapter into its base's weights: one plain checkpoint with the same logits."""
    with one_sentence():
        from modelkit import hub
        from trainers.merge import merge as merge_adapter

        merge_adapter(hub.find(str(model), say=print), out, dtype)
        print(f"{model} and its base are merged in {out}")


@app.command()
def gptq(
    model: Annotated[Path, typer.Option("--model", "-m", help="The checkpoint to quantise.")],
    out: Annotated[Path, typer.Option(help="The directory to write. A killed command goes on when it is given again.")],
    bits: Annotated[int, typer.Option(help="Bits per weight: 4, 8, 3 or 2.")] = 4,
    group_size: Annotated[int, typer.Option(help="Inputs that share a scale: 32, 64, 128, 256, or -1 for all.")] = 128,
    act_order: Annotated[bool, typer.Option("--act-order/--no-act-order", help="Round the columns that matter most first.")] = False,
    static_groups: Annotated[
        bool,
        typer.Option(
            "--static-groups/--dynamic-groups", help="Fix groups and scales before rounding; with act-order, keeps groups together."
        ),
    ] = False,
    sym: Annotated[bool, typer.Option("--sym/--asym", help="Zero points in the middle of the range, or wherever they fit best.")] = True,
    calibration: Annotated[
        list[Path] | None,
        typer.Option(help="Texts or conversations to quantise on; can be repeated. By default what a run's stage was trained on."),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Calibration sequences, evenly from all files.")] = 128,
    seed: Annotated[int, typer.Option(help="Which sequences are drawn.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; by default CUDA where there is one.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; results depend on their number.")] = None,
) -> None:
    """Quantise a checkpoint's linear layers with GPTQ, in the layout that transformers, vLLM and GPTQModel load."""
    with one_sentence():
        from modelkit import hub
        from modelkit.device import choose_device
        from trainers.gptq.calibration import default_files
        from trainers.gptq.run import Settings
        from trainers.gptq.run import run as run_gptq
        from trainers.gptq.solver import Grid
        from trainers.gptq.terminal import Terminal

        set_threads(threads)
        grid = Grid(bits, group_size, sym, act_order, static_groups)
        source = hub.find(str(model), say=print)
        settings = Settings(source, out, grid, calibration or default_files(source), samples, seed, choose_device(device))
        with Terminal(settings) as terminal:
            report = run_gptq(settings, terminal.watch, terminal.say)
        terminal.show(report)


@doctor_app.command("rm")
def doctor_rm(
    model: Annotated[Path, typer.Option("--model", "-m", help="The reward model.")],
    data: Annotated[Path | None, typer.Option(help="Preference pairs; by default those of the model's own run.")] = None,
    threads: Threads = None,
) -> None:
    """Explain why a reward model says the same for everything; exit status 1 when a cause is found."""
    with one_sentence():
        from modelkit import hub
        from trainers.doctor import describe, examine

        set_threads(threads)
        found = examine(hub.find(str(model), say=print), data)
        print(describe(found))
    raise typer.Exit(1 if found.findings else 0)


def _train(asked: Request, threads: int | None, strategy: str, nproc: int, device: str | None) -> None:
    if _started_others(nproc):
        return
    from modelkit.device import dtype_of
    from trainers.commands import run as run_stage
    from trainers.distributed import joined
    from trainers.loop import Stopped
    from trainers.terminal import Terminal

    count = set_threads(threads)
    dtype = None if asked.settings.dtype == "fp32" else dtype_of(asked.settings.dtype)
    with joined(strategy, dtype, device) as joint:
        where = f"out {asked.out} · seed {asked.seed} · {count} threads · {joint.name} × {joint.world}"
        with Terminal(asked.settings, f"stage {asked.stage} · from {asked.model or asked.tokenizer} · {where}", joint.rank) as terminal:
            try:
                info, counts = run_stage(asked, joint, terminal.watch)
            except Stopped:
                terminal.say("stopped; the same command goes on from here")
                raise typer.Exit(130) from None
        terminal.made(info, counts, asked.out / asked.stage)


def _started_others(nproc: int) -> bool:
    """Whether several processes were asked for; they have done the work by the time this returns."""
    if nproc == 1:
        return False
    from trainers.distributed import launch

    given = sys.argv[1:]
    at = next(i for i, word in enumerate(given) if word == "--nproc" or word.startswith("--nproc="))
    launch(nproc, given[:at] + given[at + (1 if "=" in given[at] else 2) :])
    return True


def main() -> None:
    """Entry point of the ``trainers`` command."""
    prepare_process(spin=4000)
    app()
