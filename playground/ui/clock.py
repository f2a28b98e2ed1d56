"""How often a page asks what is new: often while something is being trained, seldom when there is hardly anything to tell.

Every asking costs the server some milliseconds, and fifty open pages ask a lot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playground.training.curves import RunWatch
    from playground.ui.app import Services

OFTEN_SECONDS = 2.0
_SELDOM_SECONDS = 10.0


def seconds(services: Services, watch: RunWatch | None = None) -> float:
    """Until the next asking, of a page that shows the run of *watch*."""
    lively = (watch is not None and watch.alive) or services.watches.busy or not services.models.catalogue()
    return OFTEN_SECONDS if lively else _SELDOM_SECONDS
