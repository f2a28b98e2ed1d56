"""From votes to a reward model: how many there are, the button that trains on them, agreement with people before and after."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from playground.training import job_cards, people
from playground.training.jobs import Jobs
from playground.ui import visitor

if TYPE_CHECKING:
    from leaderboards.votes.store import Store
    from playground.ui.app import Services

_REFRESH_SECONDS = 10.0


def build(services: Services, jobs: Jobs, store: Store, run: gr.Dropdown, i18n: gr.I18n) -> None:
    """Lay out the section and wire it; *run* is the list of runs, which shows the new one."""
    with gr.Accordion(i18n("votes.train"), open=False, elem_id="pg-votes-job") as section:
        counted = gr.HTML(elem_id="pg-votes-count")
        with gr.Row(elem_id="pg-votes-do"):
            judge = gr.Dropdown([], label=i18n("votes.judge"), filterable=False, elem_id="pg-votes-judge")
            steps = gr.Slider(10, 500, value=people.STEPS, step=10, label=i18n("votes.steps"))
            begin = gr.Button(i18n("votes.begin"), variant="primary", elem_id="pg-votes-begin")
        begun = gr.HTML()
        agreed = gr.HTML(elem_id="pg-votes-agreement")
        timer = gr.Timer(_REFRESH_SECONDS)

    def offer(chosen: str | None, request: gr.Request) -> tuple[str, Any, str]:
        """The votes, the reward models there are now, and what was measured."""
        language = visitor.language(request)
        entries = [(f"{entry.title(language)} ({entry.id})", entry.id) for entry in people.judges(services.models)]
        ids = [id for _, id in entries]
        value = chosen if chosen in ids else ids[0] if ids else None
        with visitor.told():
            counts = job_cards.votes(language, people.ballots(store))
        return counts, gr.Dropdown(entries, value=value), job_cards.agreement(language, people.agreements(jobs))

    def look(request: gr.Request) -> str:
        """What was measured by now."""
        return job_cards.agreement(visitor.language(request), people.agreements(jobs))

    def train(chosen: str | None, steps: float, request: gr.Request) -> tuple[str, Any]:
        """Put the training into the queue, and show its run."""
        with visitor.told(), tempfile.TemporaryDirectory() as folder:
            visitor.admit(services.admission, request)
            job = people.train(store, services.models, jobs, chosen or "", int(steps), Path(folder))
        names = services.watches.names()
        return job_cards.begun(visitor.language(request), job.name), gr.Dropdown(choices=names, value=job.name, visible=len(names) > 1)

    quick: dict[str, Any] = {"concurrency_limit": None, "api_visibility": "undocumented", "show_progress": "hidden"}
    section.expand(offer, judge, [counted, judge, agreed], api_name="votes_offer", **quick)
    timer.tick(look, None, agreed, api_name="votes_agreement", **quick)
    begin.click(train, [judge, steps], [begun, run], api_name="votes_train", concurrency_limit=1, api_visibility="undocumented")
