"""The server's process: a socket, uvicorn, and an end that lets everybody finish."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from playground.api.app import create
from playground.api.service import Service
from playground.guard.credentials import Credentials


def serve_until_stopped(service: Service, listener: socket.socket, drain_seconds: float, preload: bool) -> None:
    """Answer on *listener* until SIGINT, SIGTERM or SIGHUP; then take nothing new and finish what is under way.

    :param drain_seconds: after which what is not finished ends where it is. A second signal ends it at once.
    :param preload: whether every model is loaded before the first request is answered, rather than when it is asked for.
    :raises UserError: when a model that is to be loaded can't be.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    config = uvicorn.Config(
        create(service),
        access_log=False,
        log_config=None,
        log_level="warning",
        lifespan="off",
        timeout_graceful_shutdown=max(1, round(drain_seconds)),
    )
    names = [entry.id for entry in service.models.catalogue()]
    try:
        if preload:
            service.models.load_all()
        asyncio.run(_Server(config, lambda: _announce(service, listener, names)).serve([listener]))
    finally:
        service.models.close(wait_seconds=5.0)


def _announce(service: Service, listener: socket.socket, names: list[str]) -> None:
    host, port = listener.getsockname()[:2]
    print(f"Serving {', '.join(names)} at http://{f'[{host}]' if ':' in host else host}:{port}/v1", flush=True)
    warn_if_open(host, service.credentials)


def warn_if_open(host: str, credentials: Credentials) -> None:
    """Say so when machines other than this one may use the API without a key."""
    addresses = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    if not credentials.guard_api and not all(ipaddress.ip_address(address).is_loopback for address in addresses):
        print("Whoever can reach this port may use the API: set PLAYGROUND_API_KEY to ask for a key.", file=sys.stderr, flush=True)


class _Server(uvicorn.Server):
    """uvicorn's, but a signal is a request to end rather than something to die of afterwards."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        def end(number: int, frame: FrameType | None) -> None:
            self.force_exit, self.should_exit = self.should_exit, True

        before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
