"""How a plan is shown in a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from trainers.plan.estimate import Plan, Request

_PARTS = ("weights", "gradients", "optimizer", "activations", "cache", "allocator")


def show(plan: Plan, request: Request, limit: float, host: float, rate: float | None, console: Console | None = None) -> None:
    """Print memory by strategy and part, the time of a step where a rate is known, and the cheapest strategy that fits."""
    out = console or Console(highlight=False)
    out.print(f"[bold]{request.stage}[/bold] · a model of {plan.parameters:,} parameters · {plan.trained:,} trained altogether")
    table = Table("GiB per device", *plan.memory)
    for part in (*_PARTS, "device", "host"):
        title = {"device": "together", "host": "in the machine's memory"}.get(part, part)
        table.add_row(title, *(f"{getattr(memory, part) / 2**30:.2f}" for memory in plan.memory.values()), end_section=part == "allocator")
    fits = (memory.device <= limit and memory.host <= host for memory in plan.memory.values())
    table.add_row("fits", *("yes" if one else "no" for one in fits))
    out.print(table)
    work = f"a step of {request.tokens:,} tokens is {plan.flops:.3g} floating-point operations"
    if rate:
        seconds = plan.seconds(rate, request.devices)
        work += f": about {seconds:.3g} s, {request.tokens / seconds:,.0f} tokens/s, at {rate / 1e12:.3g} TFLOP/s per device"
    out.print(work)
    cheapest = plan.cheapest(limit, host)
    devices = f"{request.devices} × {limit / 2**30:.1f} GiB"
    if cheapest:
        out.print(f"[bold green]{cheapest}[/bold green] is the cheapest strategy that fits {devices}")
    else:
        out.print(f"[bold red]nothing fits[/bold red] {devices}: try {', '.join(remedies(request))}")


def remedies(request: Request) -> list[str]:
    """What would make it smaller, the mildest first."""
    found = []
    if request.micro_tokens > request.length:
        found.append(f"--micro-tokens {max(request.length, request.micro_tokens // 2)}")
    if not request.recompute:
        found.append("--gradient-checkpointing")
    if request.dtype.itemsize == 4:
        found.append("--dtype bf16")
    if request.lora is None:
        found.append("--lora-rank 16")
    return [*found, f"--devices {2 * request.devices}"]
