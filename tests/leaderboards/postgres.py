"""A real PostgreSQL server in a temporary folder, for the tests that need one."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def binaries() -> Path | None:
    """The folder of PostgreSQL's server programs, or ``None`` where it isn't installed."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((folder for folder in reversed(folders) if (folder / "postgres").exists()), None)


@contextmanager
def server(programs: Path) -> Iterator[str]:
    """Start a server that listens on a free port of this machine only; gives the URL of an empty database."""
    user = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))

    def call(program: str, *arguments: str) -> None:
        command = [str(programs / program), "-D", str(folder / "data"), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, user=user)

    try:
        if user:
            shutil.chown(folder, user)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        call("initdb", "-U", "votes", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        options = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder}"
        call("pg_ctl", "-w", "-t", "300", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql+psycopg://votes@127.0.0.1:{port}/postgres"
        finally:
            call("pg_ctl", "-w", "-t", "300", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
