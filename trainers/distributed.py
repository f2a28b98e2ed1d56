"""Several processes as one command: starting them, joining them together, choosing what they do, and ending them all in one sentence."""

from __future__ import annotations

import difflib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from modelkit.device import available_threads
from modelkit.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

    from trainers.strategies import Strategy

OURS = ("single", "ddp", "zero1", "zero2", "zero3", "zero3_offload")
COLOSSALAI = ("colossalai_ddp", "colossalai_zero1", "colossalai_zero2", "colossalai_zero2_cpu", "colossalai_gemini")
_LAUNCHED = "TRAINERS_LAUNCHED"
_ERROR_FILE = "TORCHELASTIC_ERROR_FILE"
_PATIENCE = timedelta(hours=24)
"""How long ranks wait for one that does something by itself, such as evaluating a checkpoint. A dead one isn't found by this, but by its
launcher and by connections that end."""


def launched() -> bool:
    """Whether this process is one of several that torchrun, ``--nproc`` or ``colossalai run`` started."""
    return "WORLD_SIZE" in os.environ


def launch(processes: int, arguments: Sequence[str]) -> None:
    """Run ``python -m trainers ARGUMENTS`` as *processes* ranks on this machine, and wait.

    The cores are divided among them. When one ends badly the others are ended too.

    :raises UserError: with what the first of them said, or how it ended.
    :raises KeyboardInterrupt: when asked to stop; the ranks have saved their state.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if launched():
        raise UserError("--nproc starts processes itself: leave it out under torchrun.")
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    os.environ[_LAUNCHED] = "1"
    os.environ["PLAYGROUND_THREADS"] = str(max(1, available_threads() // processes))
    config = LaunchConfig(1, 1, processes, run_id="trainers", rdzv_backend="c10d", rdzv_endpoint="localhost:0", max_restarts=0)
    try:
        elastic_launch(config, sys.executable)("-m", "trainers", *arguments)
    except SignalException:
        raise KeyboardInterrupt from None
    except ChildFailedError as error:
        raise _why(error.failures) from None


def _why(failures: dict[int, ProcessFailure]) -> UserError:
    """The failure that the others followed from, as a sentence and with its exit status."""
    ends = sorted(failures.items(), key=lambda item: (not _killed(item[1]), item[1].message == _GONE, item[1].timestamp))
    rank, first = ends[0]
    status = first.exitcode
    if status < 0:
        error = UserError(f"rank {rank} was ended by {signal.Signals(-status).name}; the same command goes on from the last saved state.")
    elif first.error_file == "<N/A>":
        error = UserError(f"rank {rank} failed with status {status}; what it said stands above.")
    else:
        error = UserError(str(first.message))
    error.status = max(1, status)
    return error


def _killed(failure: ProcessFailure) -> bool:
    return failure.exitcode < 0 and -failure.exitcode != signal.SIGTERM


@contextmanager
def joined(name: str = "auto", dtype: torch.dtype | None = None, device: str | None = None) -> Iterator[Strategy]:
    """The strategy called *name*, over all the processes that were started; only rank 0 prints.

    :param dtype: what sharded models compute in, if not in the dtype of their weights.
    :raises UserError: when this machine, or this number of processes, can't run it: with one that can.
    """
    import torch

    from modelkit.device import choose_device

    world, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    with _told_once():
        found = choose_device(device)
        devices = torch.cuda.device_count() if found.type == "cuda" else 0
        name = choose(name, world, devices, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        if found.type == "cuda" and world > 1:
            found = torch.device("cuda", local)
            torch.cuda.set_device(found)
        if name == "single":
            from trainers.strategies.plain import Single

            yield Single(found)
            return
        with _group(found):
            yield build(name, found, dtype)


def choose(name: str, world: int, devices: int, local_world: int = 1) -> str:
    """*name*, or for ``auto`` the strategy that suits: one process is ``single``, CPUs are ``ddp``, GPUs ``zero2``.

    :param devices: CUDA devices of this machine that may be used, 0 for the CPU. :param local_world: processes on this machine.
    :raises UserError: for a name there isn't, or a strategy that can't run here.
    """
    here = "single" if world == 1 else "zero2" if devices else "ddp"
    if name == "colossalai_3d":
        raise UserError(f"colossalai_3d (ShardFormer) needs transformers 4.51, which this project is beyond: use --strategy {here}.")
    if name not in ("auto", *OURS, *COLOSSALAI):
        near = difflib.get_close_matches(name, (*OURS, *COLOSSALAI), 1)
        raise UserError(f"there is no strategy {name!r}: {f'did you mean {near[0]}' if near else f'use one of auto, {_list()}'}?")
    if devices and local_world > devices:
        raise UserError(f"{local_world} processes need as many CUDA devices, and this machine has {devices}: use --nproc {devices}.")
    if name == "single" and world > 1:
        raise UserError(f"single is one process, and {world} were started: use --strategy {here}, or leave --nproc out.")
    if name in COLOSSALAI:
        from trainers.strategies import colossal

        colossal.check(name, devices, here)
    return here if name == "auto" else name


def _list() -> str:
    return ", ".join((*OURS, *COLOSSALAI))


def build(name: str, device: torch.device, dtype: torch.dtype | None = None) -> Strategy:
    """The strategy called *name* (:func:`choose` has let it through) in the process group there is."""
    if name in COLOSSALAI:
        from trainers.strategies.colossal import Boosted

        return Boosted(name, device)
    if name in ("ddp", "zero1"):
        from trainers.strategies.ddp import DataParallel, ZeroOne

        return DataParallel(device) if name == "ddp" else ZeroOne(device)
    from trainers.strategies.fsdp import FullySharded

    return FullySharded(name, device, dtype)


@contextmanager
def _group(device: torch.device) -> Iterator[None]:
    """A process group for the block: gloo between CPUs, and NCCL besides between GPUs. Ranks but the first print nothing."""
    import torch.distributed as dist

    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    alone: dict[str, Any] = {} if launched() else {"store": dist.HashStore(), "rank": 0, "world_size": 1}
    dist.init_process_group(backend, timeout=_PATIENCE, **alone)
    said = sys.stdout
    if dist.get_rank():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (open until the block ends)
    try:
        yield
    except RuntimeError as error:
        if not any(sign in str(error) for sign in _LOST):
            raise
        raise UserError(_GONE) from None
    finally:
        if sys.stdout is not said:
            sys.stdout.close()
        sys.stdout = said
    dist.barrier()
    dist.destroy_process_group()


_GONE = "another process of this run is gone; the same command goes on from the last saved state."
_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "NCCL error", "Timed out waiting")


@contextmanager
def _told_once() -> Iterator[None]:
    """Leave a user's error to the process that started this one, which says it once for all ranks."""
    try:
        yield
    except UserError as error:
        if _ERROR_FILE in os.environ:
            with open(os.environ[_ERROR_FILE], "w", encoding="utf-8") as file:
                json.dump({"message": str(error), "timestamp": int(time.time())}, file)
        if _LAUNCHED not in os.environ:
            raise
        _leave(error.status)


def _leave(status: int, exit_now: Callable[[int], NoReturn] = os._exit) -> NoReturn:
    """End the process at once: collective calls that other threads wait in would never let the interpreter end."""
    sys.stdout.flush()
    sys.stderr.flush()
    exit_now(status)
