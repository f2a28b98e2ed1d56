"""Process-wide settings that results depend on: threads, device, dtype. Imports torch only when asked to."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from typing import TYPE_CHECKING

from modelkit.errors import UserError

if TYPE_CHECKING:
    import torch

DTYPES = ("fp32", "bf16", "fp16")


def prepare_process(spin: int = 1000) -> None:
    """Set what must be set before torch is imported. Every entry point calls it first.

    OpenMP's threads spin for *spin* turns before they sleep. Endless spinning, the default, starves whatever else runs on a small
    machine: beside a training process one decode step of a tiny model took 264 ms, and 1.8 ms with none (measured on 2 cores).
    A thousand turns, a few microseconds, cost nobody anything. Four thousand bridge the gap between the operations of a small model:
    those that work for minutes take them (a step of the pocket model's training took 0.19 s instead of 0.24; a decode step of the
    page beside it 7.8 ms instead of 7.4), the page doesn't.

    oneDNN keeps a compiled product for every shape it met, a thousand by default at up to a megabyte each; it hardly ever needs more
    than two hundred again.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", str(spin))
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")
    os.environ.setdefault("LRU_CACHE_CAPACITY", "256")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")


def set_threads(count: int | None = None) -> int:
    """Fix the number of CPU threads for this process, by default :func:`available_threads`, and return it.

    Sums are split by thread, so results depend on the count; it is recorded beside them. Small models gain nothing beyond 8.
    """
    import torch

    count = max(1, available_threads() if count is None else count)
    torch.set_num_threads(count)
    return count


def available_threads() -> int:
    """What ``PLAYGROUND_THREADS`` says, else the number of cores this process may use, at most 8.

    :raises UserError: when the variable holds no whole number.
    """
    given = os.environ.get("PLAYGROUND_THREADS", "")
    if given and not given.isdigit():
        raise UserError(f"PLAYGROUND_THREADS is {given!r}: give a whole number of threads, such as 2.")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return int(given) if given else min(cores, 8)


def take_short_turns() -> None:
    """Let the threads of this process have the interpreter for half a millisecond at a time, for those that serve and compute at once.

    A model lets go of the interpreter in each of its operations, hundreds a step, and by default waits up to 5 ms to have it back from a
    thread that is at work on the page: with fifty visitors on two cores the median reply was whole after 4.4 s instead of 6.0.
    """
    sys.setswitchinterval(0.0005)


def give_back_memory() -> None:
    """Return freed memory to the system where the C library holds on to it (glibc): loading a 7B model in 4 bits leaves 0.3 GB behind."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


_importing = threading.Lock()


def import_transformers() -> None:
    """Import transformers, for processes in which several threads may be the first to need it.

    It puts another module in its own place while it is imported; a thread that asks at that moment gets the one without any names.
    """
    with _importing:
        import transformers  # noqa: F401


def choose_device(name: str | None = None) -> torch.device:
    """The device asked for, else ``cuda`` where there is one, else ``cpu``.

    :raises UserError: when the device asked for is not there.
    """
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"{name!r} is no device: use cpu, cuda or cuda:N.") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"{name!r} was asked for, but this machine has no CUDA device: use --device cpu.")
    return device


def dtype_of(name: str) -> torch.dtype:
    """``fp32`` / ``bf16`` / ``fp16`` → the torch dtype.

    :raises UserError: for any other name.
    """
    import torch

    if name not in DTYPES:
        raise UserError(f"{name!r} is no dtype: use one of {', '.join(DTYPES)}.")
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]
