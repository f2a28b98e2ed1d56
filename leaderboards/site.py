"""The site: one static page of tables and plots, self-contained, light and dark, English and Chinese."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from leaderboards.grid import Grid
from leaderboards.plots import Plot
from leaderboards.wording import Both

PLOTLY = "plotly.min.js"
"""The plots' script, beside the page: it is 5 MB, and read only when a plot is looked at."""


@dataclass(frozen=True)
class Section:
    """A part of the page. With ``choose``, one of its tables is shown at a time."""

    id: str
    title: Both
    grids: Sequence[Grid] = ()
    plots: Sequence[Plot] = ()
    choose: bool = False


@dataclass(frozen=True)
class Site:
    """What the page holds. ``damaged`` and ``notes`` are sentences about what counts for nothing.

    :param version: what the page is a picture of, for one that stands in another page and is asked for again when this changes; such
        a page has no head of its own.
    """

    sections: Sequence[Section]
    damaged: Sequence[str] = field(default_factory=tuple)
    notes: Sequence[str] = field(default_factory=tuple)
    version: str = ""


def page(site: Site) -> str:
    """``index.html``. Every text is escaped by the template engine, so a model's name or a title can't bring markup in."""
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    folder = resources.files("leaderboards")
    template = environment.from_string((folder / "page.html.jinja").read_text(encoding="utf-8"))
    style, script = ((folder / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    sections = [section for section in site.sections if section.grids or section.plots]
    drawn = [plot for section in sections for plot in section.plots]
    figures = {plot.id: {language: _figure(plot, language) for language in ("en", "zh")} for plot in drawn}
    return (
        template.render(
            sections=sections,
            damaged=site.damaged,
            notes=site.notes,
            version=site.version,
            style=style,
            script=script,
            figures=figures,
            plotly=PLOTLY,
        )
        + "\n"
    )


def plotly_script() -> str:
    """plotly.js as it comes with the package."""
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


def _figure(plot: Plot, language: str) -> Any:
    return json.loads(plot.make(language).to_json())
