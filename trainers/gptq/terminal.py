"""What ``trainers gptq`` shows: a bar over the blocks with each layer's error, every fall-back, and a closing table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from trainers.gptq.solver import DAMPING

if TYPE_CHECKING:
    from trainers.gptq.run import At, Report, Settings


class Terminal:
    """The bar on standard error (only in a terminal), everything else on standard output."""

    def __init__(self, settings: Settings) -> None:
        self._console = Console(highlight=False)
        errors = Console(stderr=True, highlight=False)
        self._bars = Progress(
            TextColumn("block"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[layer]}"),
            console=errors,
            disable=not errors.is_terminal,
        )
        self._task = self._bars.add_task("blocks", total=None, layer="")
        self._settings = settings

    def __enter__(self) -> Terminal:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def watch(self, at: At) -> None:
        """Follow the work; fall-backs and raised damping are said as they happen."""
        layer = at.layer
        if at.block == 0 and layer is None:
            grid = self._settings.grid
            traits = ["sym" if grid.sym else "asym", *["act-order"] * grid.act_order, *["static groups"] * grid.static_groups]
            self.say(f"{self._settings.model} → {self._settings.out} · {grid.bits} bits · group {grid.group} · {' · '.join(traits)}")
        text = "" if layer is None else f"{layer.name}  lost {layer.error:.3%} (to nearest {layer.nearest_error:.3%})"
        self._bars.update(self._task, completed=at.block, total=at.blocks, layer=text)
        if layer is not None and layer.fallback:
            self.say(f"warning: {layer.name} is rounded to nearest: {layer.fallback}")
        elif layer is not None and layer.damping is not None and layer.damping > DAMPING[0]:
            self.say(f"warning: the Hessian of {layer.name} needed a damping of {layer.damping}")

    def say(self, text: str) -> None:
        """One line."""
        self._bars.console.print(text, markup=False, soft_wrap=True)

    def show(self, report: Report) -> None:
        """What became of the model, by kind of layer."""
        by_kind: dict[str, list[tuple[float, float]]] = {}
        for layer in report.layers:
            by_kind.setdefault(layer.name.rpartition(".")[2], []).append((layer.error, layer.nearest_error))
        table = Table("layers", "number", "output lost by GPTQ", "rounded to nearest")
        for kind, errors in by_kind.items():
            gptq, nearest = (sum(pair[side] for pair in errors) / len(errors) for side in (0, 1))
            table.add_row(kind, str(len(errors)), f"{gptq:.3%}", f"{nearest:.3%}")
        self._console.print(table)
        fallen = sum(layer.fallback is not None for layer in report.layers)
        counts = report.counts
        self._console.print(
            f"{counts.used} calibration sequences, {report.tokens:,} tokens ({counts.truncated} cut, {counts.bad} bad rows put aside) · "
            f"{fallen} layers rounded to nearest · {len(report.dense)} left in 16 bits · {report.resumed_blocks} blocks taken up",
            soft_wrap=True,
        )
        self._console.print(f"{report.bytes_before / 1e6:,.1f} MB → {report.bytes_after / 1e6:,.1f} MB in {report.seconds:.0f} s")
