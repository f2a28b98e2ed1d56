"""What this machine has: the device that training would use, and how much memory there is."""

from __future__ import annotations

import os

import torch

from modelkit.device import choose_device


def device_here() -> torch.device:
    """The device that training would choose."""
    return choose_device()


def memory_here(per_device: float | None) -> tuple[float, float]:
    """(bytes per device, bytes of the machine's memory); *per_device*, in GiB, stands for a device that isn't here."""
    host = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    if per_device is not None:
        return per_device * 2**30, host
    device = device_here()
    return (float(torch.cuda.get_device_properties(device).total_memory), host) if device.type == "cuda" else (host, host)
