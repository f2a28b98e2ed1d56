"""Visitors' addresses as names that tell nobody where they are, and that no other process could find again."""

from __future__ import annotations

import hashlib
import ipaddress
import secrets


class Addresses:
    """Names for addresses: a keyed hash, whose key is drawn anew by every process and never leaves it."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def name(self, host: str) -> str:
        """The name of whoever asks from *host*. An IPv6 network of 64 bits, which is one household or company, is one asker."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            network = host
        else:
            network = str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else host
        return hashlib.blake2s(network.encode(), key=self._key, digest_size=16).hexdigest()
