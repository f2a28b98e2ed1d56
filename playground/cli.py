"""`python app.py` and `playground`: open the runs (training one where there is none) and serve the page."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelkit.device import prepare_process
from modelkit.errors import one_sentence
from playground.settings import POCKET_RECIPE, Settings, resolve

if TYPE_CHECKING:
    import pandas as pd

    from playground.models import Models
    from playground.texts import Language

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def serve(
    runs: Annotated[
        Path | None, typer.Option(help="A run, or a folder of runs. [default: $PLAYGROUND_RUNS or runs]", show_default=False)
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. [default: $GRADIO_SERVER_NAME or 127.0.0.1]", show_default=False)
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on. [default: $GRADIO_SERVER_PORT or 7860]", show_default=False, min=1, max=65535)
    ] = None,
    train: Annotated[bool, typer.Option(help="Train the recipe when there is no checkpoint to talk to.")] = True,
    recipe: Annotated[Path, typer.Option(help="What is trained then.", show_default="recipes/pocket.yaml")] = POCKET_RECIPE,
) -> None:
    """Chat with the checkpoints of a run side by side, watch it being trained, compare its stages."""
    with one_sentence():
        run(resolve(runs, host, port, recipe if train else None))


def run(settings: Settings) -> None:
    """Serve until ^C, SIGTERM or a closed terminal, then stop the trainer this process has started."""
    from playground.models import Models
    from playground.training import Trainer, Watches
    from playground.ui.app import Services, build, launch

    models = Models([settings.runs], settings.memory_bytes)
    trainer = Trainer(settings)
    finished = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: finished.set())
    page = build(settings, Services(models, trainer, Watches(models, trainer), lambda language: rankings(models, language)))
    url = launch(page, settings)
    print(f"RLHF Playground is at {url} and shows the runs in {settings.runs}.", flush=True)
    if trainer.due(models) and trainer.start():
        print(f"Training {settings.recipe} into {trainer.run}; its output goes to {trainer.log}.", flush=True)
    threading.Thread(target=_warm_up, name="warm-up", daemon=True).start()
    try:
        finished.wait()
    finally:
        trainer.stop()
        page.close(verbose=False)
        models.close(wait_seconds=5.0)


def rankings(models: Models, language: Language) -> pd.DataFrame:
    """The leaderboard of all runs."""
    from leaderboards.tables import leaderboard

    return leaderboard(models.runs(), language)


def _warm_up() -> None:
    """Import what the first chat needs, once the page has answered."""
    time.sleep(1.0)
    from modelkit.device import set_threads

    set_threads()
    import transformers  # noqa: F401


def main() -> None:
    """Entry point of the console script and of app.py."""
    prepare_process()
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    app()
