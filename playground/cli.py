"""`playground page` (which `python app.py` and `playground` alone mean, too), `playground serve` and `playground chat`."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from modelkit.device import prepare_process, take_short_turns
from modelkit.errors import UserError, one_sentence
from playground.api.limits import Limits
from playground.chat.settings import ChatSettings
from playground.guard.content_filter import WordFilter
from playground.guard.credentials import Credentials
from playground.hosting.host import Host
from playground.settings import POCKET_RECIPE, Settings, resolve, with_training

if TYPE_CHECKING:
    from fastapi import FastAPI

    from leaderboards.votes.store import Store
    from playground.hosting.vote_sync import VoteSync
    from playground.models import Models
    from playground.training.jobs import Jobs
    from playground.training.watch import Trainer


class _PageByDefault(TyperGroup):
    """A command line that names no command is the page's."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = bool(args) and (args[0] in self.commands or args[0] == "--help")
        return super().parse_args(ctx, args if named else ["page", *args])


app = typer.Typer(
    cls=_PageByDefault,
    help="The playground: a page, a server, a chat in the terminal.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

_WARM_UP_SECONDS = 15.0
"""So long a page without visitors waits before it imports what chatting needs."""

_Model = Annotated[list[str], typer.Option("-m", "--model", help="Checkpoint: a directory, or owner/name on the hub. Repeat for several.")]
_Dtype = Annotated[str | None, typer.Option(help="fp32, bf16 or fp16 (default: fp32, or what a quantised checkpoint says).")]
_Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:N (default: cuda where there is one).")]
_Memory = Annotated[float | None, typer.Option(min=0.001, help="GiB that models may take (default: four fifths of the memory).")]


@app.command()
def page(
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
    endpoint: Annotated[
        list[str],
        typer.Option(help="TITLE=MODEL@URL: a model behind an OpenAI-compatible server, offered in the chat. Repeat for several."),
    ] = [],  # noqa: B006
    endpoint_key_env: Annotated[str | None, typer.Option(help="Environment variable that holds the endpoints' key.")] = None,
    training: Annotated[
        int | None,
        typer.Option(
            help="Let visitors order trainings, so many at a time. [default: $PLAYGROUND_TRAINING or 0]", show_default=False, min=0
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of data files offered for them. [default: $PLAYGROUND_DATA]", show_default=False)
    ] = None,
    memory: Annotated[
        float | None, typer.Option(help="GiB that models may take. [default: $PLAYGROUND_MEMORY or 4]", show_default=False, min=0.001)
    ] = None,
    api: Annotated[bool, typer.Option("--api", help="Answer OpenAI's API at /v1 too, as `playground serve` does.")] = False,
) -> None:
    """Chat with the checkpoints of a run side by side, watch it being trained, compare its stages."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = str(1 << 62)  # or each event would end in a table of all events before it
    if not os.environ.get("PLAYGROUND_VOTES_DATASET"):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    Host.here().trust_proxies()
    with one_sentence():
        settings = resolve(runs, host, port, recipe if train else None, endpoint, endpoint_key_env, memory)
        run(with_training(settings, training, data), api)


@app.command()
def serve(
    model: _Model = [],  # noqa: B006
    runs: Annotated[Path | None, typer.Option(help="A run, or a folder of runs, all of whose stages are served.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every interface.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any that is free.", min=0, max=65535)] = 8000,
    dtype: _Dtype = None,
    device: _Device = None,
    memory: _Memory = None,
    idle: Annotated[float, typer.Option(min=0.001, help="Minutes after which an unused model of --runs is put away.")] = 15.0,
    cache: Annotated[
        float | None, typer.Option(min=0.001, help="GiB that each model's keys and values may take (default: a quarter of what is free).")
    ] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Samples that each model writes at a time (default: 32).")] = None,
    concurrent: Annotated[int, typer.Option(min=1, help="Requests at work at a time; further ones get 429.")] = Limits.concurrent,
    per_minute: Annotated[int | None, typer.Option(min=1, help="Requests a minute by one client (default: as many as it likes).")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Most tokens that a sample may have.")] = Limits.tokens,
    max_characters: Annotated[int, typer.Option(min=1, help="Most characters of one request's prompts.")] = Limits.characters,
    max_messages: Annotated[int, typer.Option(min=1, help="Most messages of one conversation.")] = Limits.messages,
    drain: Annotated[float, typer.Option(min=0, help="Seconds that requests at work have to finish when the server is stopped.")] = 30.0,
) -> None:
    """Serve checkpoints through OpenAI's API. Set PLAYGROUND_API_KEY to ask every client for that key."""
    with one_sentence():
        from playground.settings import engine_limits, listen, open_models

        listener = listen(host, port)
        models = open_models(model, runs, memory, dtype, device, 60 * idle, engine_limits(cache, rows))

        from playground.api.service import Service
        from playground.api.serving import serve_until_stopped

        limits = Limits(max_messages, max_characters, tokens=max_tokens, concurrent=concurrent, per_minute=per_minute)
        service = Service(models, limits, Credentials.here(), WordFilter.here())
        serve_until_stopped(service, listener, drain, preload=bool(model))


@app.command()
def chat(
    model: Annotated[str, typer.Option("-m", "--model", help="Checkpoint: a directory, or owner/name on the hub.")],
    reward_model: Annotated[str | None, typer.Option(help="Reward model that scores each reply (default: its run's own).")] = None,
    system: Annotated[str, typer.Option(help="System prompt.")] = "",
    temperature: Annotated[float, typer.Option(help="0 for the likeliest tokens.")] = 0.7,
    top_p: Annotated[float, typer.Option(help="Share of the probability that is drawn from.")] = 0.95,
    max_tokens: Annotated[int, typer.Option(help="Longest reply in tokens.")] = 256,
    seed: Annotated[int, typer.Option(help="Seed of the replies.")] = 0,
    dtype: _Dtype = None,
    device: _Device = None,
    memory: _Memory = None,
) -> None:
    """Chat with a checkpoint in the terminal; /help lists what else can be typed. Texts from a pipe are answered line by line."""
    with one_sentence():
        from playground.settings import open_models
        from playground.terminal import TerminalChat

        models = open_models([model, *([reward_model] if reward_model else [])], None, memory, dtype, device)
        TerminalChat.open(models, ChatSettings(temperature, top_p, max_tokens, seed, system=system)).run()


def run(settings: Settings, with_api: bool = False) -> None:
    """Show the page until ^C, SIGTERM or a closed terminal, then stop the trainer this process has started."""
    from leaderboards.votes.store import Store, address
    from playground.endpoints import Served
    from playground.guard.admission import PER_ADDRESS, Admission
    from playground.hosting import zero_gpu
    from playground.leaderboard import LiveBoard
    from playground.models import Models
    from playground.training.watch import Trainer, Watches
    from playground.ui.app import Services, build, launch

    served = tuple(Served.parse(text, settings.endpoint_key_env) for text in settings.endpoints)
    credentials = Credentials.here()
    words = WordFilter.here()
    if zero_gpu.HERE and (served or with_api):
        raise UserError("a ZeroGPU Space has a GPU for its own page's calls alone: leave --api and endpoints out.")
    models = Models([settings.runs], settings.memory_bytes, inline=zero_gpu.HERE)
    gpu = zero_gpu.ZeroGpu(models) if zero_gpu.HERE else None
    votes = Store(address(None, settings.runs))
    sync = _sync(votes, settings) if settings.votes_dataset else None
    trainer = Trainer(settings)
    jobs = _jobs(settings, trainer)
    finished = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: finished.set())
    services = Services(
        models,
        trainer,
        Watches(models, trainer, jobs),
        served=served,
        store=votes,
        jobs=jobs,
        data=settings.data,
        admission=Admission(settings.per_minute or PER_ADDRESS, words),
        longest=settings.max_tokens,
        gpu=gpu,
    )
    page = build(settings, services)
    board = LiveBoard(models.runs, votes, settings.runs)
    api = _api(models, settings, credentials, words) if with_api else None
    url = launch(page, settings, board, api, credentials)
    print(f"RLHF Playground is at {url} and shows the runs in {settings.runs}.", flush=True)
    if jobs:
        jobs.open()
    if trainer.due(models) and trainer.start():
        print(f"Training {settings.recipe} into {trainer.run}; its output goes to {trainer.log}.", flush=True)
    threading.Thread(target=_warm_up, args=(services.visited,), name="warm-up", daemon=True).start()
    try:
        finished.wait()
    finally:
        if jobs:
            jobs.close()
        trainer.stop()
        page.close(verbose=False)
        models.close(wait_seconds=5.0)
        if sync:
            sync.close()
        votes.close()


def _sync(votes: Store, settings: Settings) -> VoteSync:
    """Votes kept in the operator's dataset as well."""
    from playground.hosting.vote_sync import VoteSync

    assert settings.votes_dataset
    return VoteSync(votes, settings.votes_dataset, settings.runs / ".pushed")


def _jobs(settings: Settings, trainer: Trainer) -> Jobs | None:
    """The queue of trainings that visitors order, where they may."""
    from leaderboards.votes.store import VARIABLE, address
    from playground.training.jobs import Jobs

    if not settings.training:
        return None
    votes = {VARIABLE: address(None, settings.runs)}
    jobs = Jobs(settings.runs, settings.training, settings.trainer, votes, lambda: int(trainer.running))
    jobs.claim()
    return jobs


def _api(models: Models, settings: Settings, credentials: Credentials, words: WordFilter | None) -> FastAPI:
    """OpenAI's API to the page's models."""
    from playground.api.app import create
    from playground.api.service import Service
    from playground.api.serving import warn_if_open

    service = Service(models, Limits(per_minute=settings.per_minute), credentials, words)
    warn_if_open(settings.host, credentials)
    return create(service)


def _warm_up(visited: threading.Event) -> None:
    """Import what the first chat needs, once the first visitor has the page before them, which importing would keep waiting."""
    visited.wait(_WARM_UP_SECONDS)
    time.sleep(0.5)
    from modelkit.device import import_transformers, set_threads

    set_threads()
    import_transformers()


def main() -> None:
    """Entry point of the console script and of app.py."""
    prepare_process()
    take_short_turns()
    app()
