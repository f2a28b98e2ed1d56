"""What ``evalkit run`` says from start to end: the settings as they were resolved, the table, and what to know beside it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from evalkit import show, workers
from evalkit.assembly import methods_of
from evalkit.division import share_of_environment
from evalkit.notes import notes
from evalkit.planning import Wanted
from evalkit.preparation import Prepared, Settings, prepare
from evalkit.run import carry_out, merge
from modelkit.errors import UserError
from modelkit.records import Result


class Unaccounted(UserError):
    """Questions without an answer and without a reason: a mistake of ours."""

    status = 1


def run(model: str, wanted: Wanted, settings: Settings, processes: int, arguments: Sequence[str], console: Console) -> None:
    """Evaluate, alone, with *processes* workers, or as one of several ranks; print the result once it is whole.

    :param arguments: the command's own words, for the workers.
    :param console: where the table goes.
    :raises UserError: for input that won't do, for a worker that died, and for questions that nobody accounts for.
    """
    notes = Console(stderr=True, highlight=False, soft_wrap=True)

    def say(line: str) -> None:
        notes.print(line, markup=False)

    share = share_of_environment()
    if processes > 1 and share.world > 1:
        raise UserError("--workers starts processes of its own: leave it out under torchrun, or unset RANK and WORLD_SIZE.")
    prepared = prepare(model, wanted, settings, say)
    if share.rank == 0:
        say(resolved(prepared, max(processes, share.world)))
    if processes > 1:
        workers.run(prepared, processes, [*arguments, *_resolved_paths(prepared, settings)], say)
        done = merge(prepared)
    else:
        done = carry_out(prepared, share, say)
    if done.result is None and share.world > 1:
        say(f"rank {share.rank} of {share.world} is done; {done.owed:,} answers are still to come, and whoever is last merges.")
        return
    if done.result is None:
        raise Unaccounted(f"{done.owed:,} questions are neither scored nor have a reason: please report this.")
    report(done.result, str(done.out), console)


def report(result: Result, out: str, console: Console) -> None:
    """Print a result's table, its notes and its speed."""
    console.print(show.table(result))
    for line in notes(result):
        print(line)
    speed = result.speed
    shared = f", {speed.tokens_reused:,} reused" if speed.tokens_reused else ""
    print(f"{speed.seconds:.1f} s, {speed.questions_per_s:.1f} questions/s, {speed.tokens_computed:,} tokens computed{shared} → {out}")


def resolved(prepared: Prepared, processes: int) -> str:
    """One line with everything that was chosen: what the numbers will be of."""
    settings = prepared.settings
    asked = ", ".join(f"{task.name} ({len(task.items):,} × {'+'.join(methods_of(task))})" for task in prepared.plan.tasks)
    if settings.endpoint:
        how = [f"served by {settings.endpoint.url}", f"{settings.endpoint.concurrency} requests at a time"]
    else:
        how = [prepared.dtype, f"on {prepared.device}", "exact" if settings.exact else "shared prefixes where the model allows"]
    how += [f"batches of {settings.batch_tokens:,} tokens"] if settings.batch_tokens else []
    how += ["chat template"] if settings.chat else []
    how += ["all cyclic option orders"] if settings.permute else []
    how += [f"{processes} processes"] if processes > 1 else []
    mark = prepared.fingerprint.rpartition(":")[2][:12]
    return f"{prepared.name} [{mark}] · {', '.join(how)} · seed {settings.seed} · {asked} → {prepared.out}"


def _resolved_paths(prepared: Prepared, settings: Settings) -> list[str]:
    """The result folder that the workers write to together."""
    return [] if settings.out else ["--out", str(prepared.out)]
