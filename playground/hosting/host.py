"""Where the page runs, as the environment tells: a machine of one's own, or a Hugging Face Space with or without a GPU."""

from __future__ import annotations

import os
from dataclasses import dataclass

CPU_SPACE_TOKENS = 128
"""The longest reply on a Space's two cores, which everybody there shares."""
_INSIDE = "127.0.0.1,::1,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10,fc00::/7"
"""Addresses that are only used inside a network: in a Space, its own proxies'."""


@dataclass(frozen=True)
class Host:
    """What is known of the machine before anything is loaded."""

    space: bool = False
    gpu: bool = False
    zero_gpu: bool = False

    @classmethod
    def here(cls) -> Host:
        """What a Space's own variables say; none of them is set elsewhere."""
        zero_gpu = os.environ.get("SPACES_ZERO_GPU") == "true"
        gpu = zero_gpu or os.environ.get("ACCELERATOR", "none") not in ("", "none")
        return cls(bool(os.environ.get("SPACE_ID")), gpu, zero_gpu)

    @property
    def cpu_space(self) -> bool:
        """Whether this is a Space that computes on its few cores."""
        return self.space and not self.gpu

    @property
    def address(self) -> str:
        """Where to listen: a Space is reached through its proxies, another machine by itself alone until somebody says otherwise."""
        return "0.0.0.0" if self.space else "127.0.0.1"

    @property
    def longest(self) -> int | None:
        """Most tokens that a reply may have, where the machine asks for fewer than usual."""
        return CPU_SPACE_TOKENS if self.cpu_space else None

    def trust_proxies(self) -> None:
        """Believe what a Space's proxies say of visitors' addresses; elsewhere ``FORWARDED_ALLOW_IPS`` is the operator's to set."""
        if self.space:
            os.environ.setdefault("FORWARDED_ALLOW_IPS", _INSIDE)
