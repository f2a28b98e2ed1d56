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
        """The name of whoever asks from *host*. An IPv6 network of 64 bits, which is one household or company, is one asker; an IPv4
        address that is written as IPv6 is what it is."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            network = host
        else:
            if isinstance(address, ipaddress.IPv6Address):
                address = address.ipv4_mapped or address
            network = str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else str(address)
        return hashlib.blake2s(network.encode(), key=self._key, digest_size=16).hexdigest()
