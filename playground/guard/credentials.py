"""Who may come in: names and passwords for the page, which open the API as well, and the API's own key."""

from __future__ import annotations

import base64
import binascii
import hmac
import os
from dataclasses import dataclass

from modelkit.errors import UserError

USERS, KEY = "PLAYGROUND_AUTH", "PLAYGROUND_API_KEY"
"""The environment variables that hold them; a command line would show them to whoever lists processes."""


@dataclass(frozen=True)
class Credentials:
    """``users`` are asked for by the page and, each as ``name:password``, open the API like its ``key``. Nothing set, nothing is asked."""

    users: tuple[tuple[str, str], ...] = ()
    key: str | None = None

    @classmethod
    def here(cls) -> Credentials:
        """What the environment says: ``PLAYGROUND_AUTH=ann:secret;bob:other`` and ``PLAYGROUND_API_KEY``.

        :raises UserError: when a pair has another shape, which would leave the door open or shut by accident.
        """
        pairs = [pair.strip() for pair in os.environ.get(USERS, "").split(";") if pair.strip()]
        users = [tuple(part.strip() for part in pair.split(":", 1)) for pair in pairs]
        if any(len(user) != 2 or not all(user) for user in users):
            raise UserError(f"{USERS} has another shape than NAME:PASSWORD, with a semicolon between two of them: write it so.")
        return cls(tuple((name, password) for name, password in users), os.environ.get(KEY) or None)

    @property
    def pairs(self) -> list[str]:
        """Each user as ``name:password``."""
        return [f"{name}:{password}" for name, password in self.users]

    @property
    def guard_api(self) -> bool:
        """Whether the API asks for anything."""
        return bool(self.users or self.key)

    def admits(self, name: str, password: str) -> bool:
        """Whether this is a user's name and password; it takes as long whichever of them is wrong."""
        return _among(f"{name}:{password}", self.pairs)

    def opens(self, authorization: str) -> bool:
        """Whether an ``Authorization`` header opens the API: ``Bearer`` with the key or ``name:password``, or ``Basic`` with the latter."""
        scheme, _, told = authorization.partition(" ")
        told = told.strip()
        if scheme.lower() == "bearer":
            return _among(told, [*self.pairs, *([self.key] if self.key else [])])
        return scheme.lower() == "basic" and _among(_decoded(told), self.pairs)


OPEN = Credentials()
"""Nothing is asked."""


def _among(told: str, accepted: list[str]) -> bool:
    """Whether a secret is one of several; all of them are compared, each in constant time."""
    return sum(hmac.compare_digest(told.encode(), one.encode()) for one in accepted) > 0


def _decoded(told: str) -> str:
    try:
        return base64.b64decode(told, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
