"""The ``trainers`` command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelkit.device import prepare_process, set_threads
from modelkit.errors import one_sentence

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Train chat models through RLHF: SFT, reward model, PPO with PTX.",
)


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="A recipe, such as recipes/pocket.yaml.")],
    out: Annotated[Path, typer.Option(help="The run's directory. An unfinished run there goes on where it stopped.")],
    base: Annotated[Path | None, typer.Option(help="The checkpoint to start from, for recipes that don't train their own.")] = None,
    data: Annotated[Path | None, typer.Option(help="The folder the recipe's data files lie in.")] = None,
    seed: Annotated[int | None, typer.Option(help="Overrides the recipe's seed.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; results depend on their number.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a field of the recipe, e.g. ppo.steps=40.")
    ] = None,
) -> None:
    """Run all stages of a recipe and end with a report card."""
    with one_sentence():
        from trainers import recipe as recipes
        from trainers.loop import Stopped
        from trainers.pipeline import Settings
        from trainers.pipeline import run as run_pipeline
        from trainers.terminal import Terminal

        loaded = recipes.load(recipe, set_)
        settings = Settings(out, loaded.seed if seed is None else seed, set_threads(threads), base, data)
        with Terminal(loaded, settings) as terminal:
            try:
                card = run_pipeline(loaded, settings, terminal.watch)
            except Stopped:
                terminal.say("stopped; the same command goes on from here")
                raise typer.Exit(130) from None
        terminal.show(card)


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
        from modelkit.device import choose_device
        from trainers.gptq.calibration import default_files
        from trainers.gptq.run import Settings
        from trainers.gptq.run import run as run_gptq
        from trainers.gptq.solver import Grid
        from trainers.gptq.terminal import Terminal

        set_threads(threads)
        grid = Grid(bits, group_size, sym, act_order, static_groups)
        settings = Settings(model, out, grid, calibration or default_files(model), samples, seed, choose_device(device))
        with Terminal(settings) as terminal:
            report = run_gptq(settings, terminal.watch, terminal.say)
        terminal.show(report)


def main() -> None:
    """Entry point of the ``trainers`` command."""
    prepare_process()
    app()
