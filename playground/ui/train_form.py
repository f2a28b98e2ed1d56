"""The form for a new training: recipe, start, data, stages, and what it will need; the button that puts it into the queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from modelkit.errors import UserError
from playground.settings import UPLOAD_BYTES
from playground.texts import stage_name, t
from playground.training import datasets, job_cards, job_form
from playground.training.estimate import estimate
from playground.training.job_form import LORA_RANKS, MOST_STEPS, STRATEGIES, Form
from playground.training.jobs import Jobs
from playground.ui import visitor

if TYPE_CHECKING:
    from playground.ui.app import Services

_FIRST_RECIPE = "pocket"
_NEW, _AS_RECIPE = "", -1
"""What the lists send for a new model, and for adapters as the recipe has them."""
Updates = dict[Any, Any]


@dataclass
class Face:
    """The fields, in the order in which handlers get them."""

    recipe: gr.Dropdown
    name: gr.Textbox
    start: gr.Dropdown
    offered: gr.Dropdown
    uploads: gr.File
    stages: gr.CheckboxGroup
    steps: gr.Number
    lora: gr.Dropdown
    strategy: gr.Dropdown
    processes: gr.Slider


def build(page: gr.Blocks, tab: gr.Tab, services: Services, jobs: Jobs, run: gr.Dropdown, i18n: gr.I18n) -> None:
    """Lay out the form and wire it; *run* is the list of runs, which shows the new one."""
    with gr.Accordion(i18n("job.new"), open=False, elem_id="pg-new-job"):
        face = _lay_out(services, i18n)
        checked = gr.HTML(elem_id="pg-job-data")
        planned = gr.HTML(elem_id="pg-job-plan")
        with gr.Row(elem_id="pg-job-do"):
            begin = gr.Button(i18n("job.begin"), variant="primary", elem_id="pg-job-begin")
            begun = gr.HTML(elem_id="pg-job-begun")
    on = _Events(services, jobs, face)
    fields = [getattr(face, name) for name in face.__dataclass_fields__]
    quick: dict[str, Any] = {"concurrency_limit": None, "api_visibility": "undocumented", "show_progress": "hidden"}
    heavy: dict[str, Any] = {"concurrency_id": "job-form", "concurrency_limit": 1, "api_visibility": "undocumented"}
    gr.on([page.load, tab.select], on.offer, [face.start, face.offered, face.name], fields, api_name="job_offer", **quick)
    latest: dict[str, Any] = {"trigger_mode": "always_last", "show_progress": "minimal", **heavy}
    chosen = [face.recipe, face.start, face.stages]
    for changed in (
        face.recipe.input(on.choose_recipe, chosen[:2], face.stages, api_name="job_recipe", **quick),
        face.start.input(on.choose_start, chosen[1:], face.stages, api_name="job_start", **quick),
    ):
        changed.then(on.plan, fields, planned, **latest)
    ways = [part.input for part in (face.offered, face.stages, face.steps, face.lora, face.strategy)]
    gr.on([*ways, face.processes.release, face.uploads.change], on.plan, fields, planned, api_name="job_plan", **latest)
    sources = [face.start.input, face.offered.input, face.uploads.change]
    gr.on(sources, on.check, [face.start, face.offered, face.uploads], checked, api_name="job_check", **latest)
    begin.click(on.begin, fields, [begun, face.name, run], api_name="job_begin", **heavy)


def _lay_out(services: Services, i18n: gr.I18n) -> Face:
    first = job_form.stages_of(_FIRST_RECIPE)
    ranks = [(f"r = {rank}", rank) for rank in LORA_RANKS]
    with gr.Row():
        recipe = gr.Dropdown(
            list(job_form.recipes()),
            value=_FIRST_RECIPE,
            label=i18n("job.recipe"),
            info=i18n("job.recipe.info"),
            filterable=False,
            elem_id="pg-job-recipe",
        )
        start = gr.Dropdown(
            [(i18n("job.start.new"), _NEW)],
            value=_NEW,
            label=i18n("job.start"),
            info=i18n("job.start.info"),
            filterable=False,
            elem_id="pg-job-start",
        )
        name = gr.Textbox(label=i18n("job.name"), info=i18n("job.name.info"), max_length=40, elem_id="pg-job-name")
    named = [(i18n(f"stage.{stage}"), stage) for stage in first]
    stages = gr.CheckboxGroup(named, value=first, label=i18n("job.stages"), elem_id="pg-job-stages")
    with gr.Row():
        offered = gr.Dropdown(
            [],
            multiselect=True,
            label=i18n("job.offered"),
            info=i18n("job.offered.info"),
            visible=services.data is not None,
            elem_id="pg-job-offered",
        )
        uploads = gr.File(
            label=i18n("job.upload"),
            file_count="multiple",
            file_types=list(datasets.UPLOADED),
            height=120,
            elem_id="pg-job-upload",
        )
    with gr.Row():
        steps = gr.Number(
            label=i18n("job.steps"),
            info=i18n("job.steps.info"),
            value=0,
            precision=0,
            minimum=0,
            maximum=MOST_STEPS,
            elem_id="pg-job-steps",
        )
        lora = gr.Dropdown(
            [(i18n("job.lora.recipe"), _AS_RECIPE), (i18n("job.lora.off"), 0), *ranks],
            value=_AS_RECIPE,
            label=i18n("job.lora"),
            info=i18n("job.lora.info"),
            filterable=False,
        )
        strategy = gr.Dropdown(list(STRATEGIES), value="auto", label=i18n("job.strategy"), info=i18n("job.strategy.info"), filterable=False)
        most = job_form.most_processes()
        processes = gr.Slider(
            1, max(2, most), value=1, step=1, label=i18n("job.processes"), info=i18n("job.processes.info"), visible=most > 1
        )
    return Face(recipe, name, start, offered, uploads, stages, steps, lora, strategy, processes)


class _Events:
    """The form's handlers. What a visitor's browser sends is checked by :mod:`playground.training.job_form`."""

    def __init__(self, services: Services, jobs: Jobs, face: Face) -> None:
        self._services, self._jobs, self._face = services, jobs, face

    def offer(self, start: str | None, offered: list[str] | None, name: str | None, request: gr.Request) -> Updates:
        """The checkpoints and data there are now, what was chosen kept; a name that is free."""
        language, face = visitor.language(request), self._face
        entries = [(f"{entry.title(language)} ({entry.id})", entry.id) for entry in job_form.starts(self._services.models)]
        files = list(datasets.offered(self._services.data))
        kept = [file for file in offered or [] if file in files]
        choices = [(t(language, "job.start.new"), _NEW), *entries]
        updates: Updates = {  # a value only where it must change: what is chosen meanwhile stays
            face.start: gr.Dropdown(choices) if start in [id for _, id in choices] else gr.Dropdown(choices, value=_NEW),
            face.offered: gr.Dropdown(files) if kept == (offered or []) else gr.Dropdown(files, value=kept),
        }
        return updates if name else {**updates, face.name: self._jobs.free_name("my-run")}

    def choose_recipe(self, recipe: str, start: str | None, request: gr.Request) -> Any:
        """The stages of the recipe, all of them chosen; from a checkpoint, no new model is made."""
        with visitor.told():
            stages, language = job_form.stages_of(recipe), visitor.language(request)
        choices = [(stage_name(language, stage), stage) for stage in stages]
        return gr.CheckboxGroup(choices, value=self.choose_start(start, stages))

    def choose_start(self, start: str | None, stages: list[str] | None) -> list[str]:
        """The stages that were chosen, without the making of a new model where there is a checkpoint to start from."""
        return [stage for stage in stages or [] if stage != "base" or not start]

    def check(self, start: str | None, offered: list[str] | None, uploads: list[str] | None, request: gr.Request) -> str:
        """What the files are, and what would be learnt of them."""
        with visitor.told():
            counter = job_form.tokenizer(start, self._services.models)
            files = datasets.chosen(self._services.data, offered or [], uploads or [], UPLOAD_BYTES)
            reports = {name: datasets.look(name, file, counter) for name, file in files.items()}
            return job_cards.data(visitor.language(request), reports)

    def plan(self, recipe: str, request: gr.Request, *values: Any) -> str:
        """What the training will need; a sentence in its place while the form, half filled in perhaps, can't be trained."""
        try:
            form = self._form(recipe, *values)
            drafted = job_form.draft(form, self._services.models)
            stages = estimate(drafted.recipe, drafted.start, form.strategy, form.processes)
        except UserError as error:
            return job_cards.line(str(error))
        return job_cards.plan(visitor.language(request), stages)

    def begin(self, recipe: str, request: gr.Request, *values: Any) -> tuple[str, str, Any]:
        """Put the training into the queue, and show its run."""
        with visitor.told():
            visitor.admit(self._services.admission, request)
            form = self._form(recipe, *values)
            drafted = job_form.draft(form, self._services.models)
            self._jobs.submit(job_form.job_of(form, drafted), drafted.recipe, drafted.files)
        names = self._services.watches.names()
        return (
            job_cards.begun(visitor.language(request), form.name),
            self._jobs.free_name("my-run"),
            gr.Dropdown(choices=names, value=form.name, visible=len(names) > 1),
        )

    def _form(
        self,
        recipe: str,
        name: str | None,
        start: str | None,
        offered: list[str] | None,
        uploads: list[str] | None,
        stages: list[str] | None,
        steps: int | None,
        lora: int | None,
        strategy: str,
        processes: float,
    ) -> Form:
        files = datasets.chosen(self._services.data, offered or [], uploads or [], UPLOAD_BYTES)
        rank = None if lora in (None, _AS_RECIPE) else int(lora)
        return Form(recipe, name or "", start or None, tuple(stages or ()), files, rank, steps or None, strategy, int(processes))
