"""How much memory keys and values may take where nobody says, and when memory has run out."""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch

_SHARE = 4
"""An engine takes one part in so many of what is free: other models load beside it, and a forward pass needs room of its own."""


def cache_budget(device: torch.device) -> int:
    """Bytes that an engine's keys and values may take on *device*: a quarter of what is free there at present."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_on_host()
    return free // _SHARE


def free_on_host(root: Path = Path("/")) -> int:
    """Bytes that the system has available or, in a container with less (control groups, version 2), what its limit leaves."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", _read(root / "proc/meminfo"), re.MULTILINE)
    available = int(found[1]) << 10 if found else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2  # not Linux
    group = root / "sys/fs/cgroup"
    limit, used = _read(group / "memory.max").strip(), _read(group / "memory.current").strip()
    if not (limit.isdigit() and used.isdigit()):
        return available
    files = re.search(r"^inactive_file (\d+)", _read(group / "memory.stat"), re.MULTILINE)  # given back when memory runs short
    return max(0, min(available, int(limit) - int(used) + (int(files[1]) if files else 0)))


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def out_of_memory(error: Exception) -> bool:
    """Whether *error* says that memory ran out, on whatever device."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)
