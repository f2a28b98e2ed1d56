"""The training tab: stepper, curves, sample replies and report card of a run, live; where the operator allows it, new trainings too.

Only what has changed is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr

from playground import fragments
from playground.training import job_cards
from playground.training.curves import RunWatch, thinned
from playground.training.jobs import State
from playground.ui import clock, train_form, train_votes, visitor
from playground.ui.theme import STAGE_COLOURS

if TYPE_CHECKING:
    from playground.ui.app import Services

PLOTS = (
    *(("base", "loss"), ("sft", "loss"), ("rm", "accuracy"), ("rl", "reward"), ("rl", "kl"), ("rl", "length")),
    *(("dpo", "accuracy"), ("kto", "loss"), ("grpo", "reward")),
)
"""Which logged number of which stage is plotted, in reading order. A plot appears with its first points."""

CONTROLS: dict[str, tuple[State, ...]] = {
    "pause": ("queued", "running"),
    "resume": ("paused", "failed"),
    "stop": ("queued", "running", "paused", "failed"),
}
"""What can be done with a job, and in which states."""


def build(page: gr.Blocks, services: Services, i18n: gr.I18n) -> None:
    """Lay out the tab and wire it."""
    jobs = services.jobs
    with gr.Tab(i18n("tab.train"), id="train") as tab:
        run = gr.Dropdown(label=i18n("train.run"), choices=[], visible=False, filterable=False, elem_id="pg-run", render=False)
        if jobs:
            train_form.build(page, tab, services, jobs, run, i18n)
            if services.store:
                train_votes.build(services, jobs, services.store, run, i18n)
        else:
            gr.Markdown(i18n("job.off"), elem_classes="pg-note")
        run.render()
        steps = gr.HTML()
        with gr.Row(elem_id="pg-job-controls"):
            again = gr.Button(i18n("train.again"), visible=False, size="sm", elem_id="pg-try")
            buttons = {name: gr.Button(i18n(f"job.{name}"), visible=False, size="sm", elem_id=f"pg-job-{name}") for name in CONTROLS}
        queue = gr.HTML()
        with gr.Row(elem_id="pg-curves"):
            plots = [_plot(stage, curve, i18n) for stage, curve in PLOTS]
        gr.Markdown(i18n("train.samples"), elem_classes="pg-title")
        said = gr.HTML()
        report = gr.Markdown(elem_id="pg-report", sanitize_html=True, container=True, visible=False)
        seen: gr.State = gr.State({})
        timer = gr.Timer(clock.OFTEN_SECONDS)

    def refresh(seen: dict[str, int], chosen: str | None, request: gr.Request) -> list[Any]:
        language = visitor.language(request)
        watch = services.watches.of(chosen)
        if watch:
            watch.poll()
        trainer = services.trainer
        ours = watch is None or watch.run == trainer.run
        failure = trainer.failure if ours else None
        card = watch.report if watch else None
        fresh = _Fresh(seen)
        names = services.watches.names()
        kept: dict[str, Any] = {} if chosen in names else {"value": names[0] if names else None}
        standings = jobs.standings() if jobs else []
        own = next((one for one in standings if watch and one.name == watch.run.name), None)
        state = own.state if own else None
        starting = (ours and trainer.running) or state == "running"
        shown = fragments.stepper(language, watch, starting, failure, job_cards.status(language, own))
        listed = job_cards.queue(language, standings)
        pause = clock.seconds(services, watch)
        return [
            fresh("run", tuple(names), lambda: gr.Dropdown(choices=names, visible=len(names) > 1, **kept)),
            fresh("steps", shown, lambda: shown),
            fresh("again", failure, lambda: gr.Button(visible=failure is not None)),
            *(fresh(name, state in states, partial(gr.Button, visible=state in states)) for name, states in CONTROLS.items()),
            fresh("queue", listed, lambda: listed),
            *(fresh(f"{stage} {curve}", points := _points(watch, stage, curve), partial(_drawn, points)) for stage, curve in PLOTS),
            fresh("said", talk := fragments.samples(language, watch.logs if watch else {}), lambda: talk),
            fresh("report", card, lambda: gr.Markdown(card or "", visible=card is not None)),
            fresh("clock", pause, lambda: gr.Timer(pause)),
            fresh.seen,
        ]

    def try_again() -> None:
        services.trainer.try_again()

    def control(act: Callable[[str], None]) -> Callable[[str | None], None]:
        """The handler that does something with the job on show."""

        def handler(chosen: str | None) -> None:
            with visitor.told():
                act(chosen or "")

        return handler

    outputs = [run, steps, again, *buttons.values(), queue, *plots, said, report, timer, seen]
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}
    gr.on([page.load, timer.tick, run.change], refresh, [seen, run], outputs, **quiet)
    again.click(try_again, None, None, **quiet).then(refresh, [seen, run], outputs, **quiet)
    for name, act in {"pause": jobs.pause, "resume": jobs.resume, "stop": jobs.stop}.items() if jobs else ():
        told: dict[str, Any] = {**quiet, "api_visibility": "undocumented", "api_name": f"train_{name}"}
        buttons[name].click(control(act), run, None, **told).then(refresh, [seen, run], outputs, **quiet)


class _Fresh:
    """Tells what a page has seen before (by hash) from what it has not; only the latter is made and sent."""

    def __init__(self, seen: dict[str, int]) -> None:
        self.seen = dict(seen)

    def __call__(self, name: str, content: Hashable, make: Callable[[], Any]) -> Any:
        if self.seen.get(name) == hash(content):
            return gr.skip()
        self.seen[name] = hash(content)
        return make()


def _plot(stage: str, curve: str, i18n: gr.I18n) -> gr.LinePlot:
    return gr.LinePlot(
        x="step",
        y="value",
        color="stage",
        color_map=STAGE_COLOURS,
        colors_in_legend=[],
        x_title=" ",
        y_title=" ",
        height=190,
        label=i18n(f"train.curve.{stage}.{curve}"),
        buttons=[],
        visible=False,
        elem_id=f"pg-curve-{stage}-{curve}",
    )


def _points(watch: RunWatch | None, stage: str, curve: str) -> tuple[tuple[int, float, str], ...]:
    log = watch.logs.get(stage) if watch else None
    return tuple((step, value, stage) for step, value in thinned(log.points.get(curve, []))) if log else ()


def _drawn(points: tuple[tuple[int, float, str], ...]) -> gr.LinePlot:
    import pandas as pd

    return gr.LinePlot(pd.DataFrame(points, columns=["step", "value", "stage"]), visible=len(points) > 1)
