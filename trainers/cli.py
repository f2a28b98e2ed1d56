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


@app.callback()
def _group() -> None:
    """Keeps ``run`` a sub-command while it is the only one."""


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


def main() -> None:
    """Entry point of the ``trainers`` command."""
    prepare_process()
    app()
