"""No call leaves the machine unless the operator asked for it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.playground.started import battle, chat, look, started, visitor

GUARD = """
import ipaddress, os, sys

def _inside(host):
    if host in (None, "", "localhost", b"localhost"):
        return True
    try:
        return ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host).is_loopback
    except ValueError:
        return False

def _heard(event, arguments):
    host = None
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    if host is not None and not _inside(host) and host != "0.0.0.0":
        with open(os.environ["HEARD"], "a") as file:
            print(event, host, file=file)
        raise OSError(f"{event} {host}: nothing may leave this machine")

sys.addaudithook(_heard)
"""
"""A module that Python imports before any other: no socket of the process reaches further than this machine, and each attempt is noted.
Audit hooks can't be taken away, and see what is below the libraries' own switches."""


@pytest.mark.slow
def test_a_whole_visit_calls_nobody(finished_run: Path, free_port: int, tmp_path: Path) -> None:
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "sitecustomize.py").write_text(GUARD, encoding="utf-8")
    runs, heard = tmp_path / "runs", tmp_path / "heard.txt"
    shutil.copytree(finished_run.parent, runs)
    offline = {"HF_HUB_OFFLINE": "0", "HEARD": str(heard)}  # the page's own settings have to do it, not the tests'
    with started(runs, free_port, "--api", before=tmp_path / "guard", **offline) as address:
        for path in ("", "config", "gradio_api/info", "v1/models", "leaderboard/"):
            request = urllib.request.Request(address + path, headers={"Accept": "text/html"})
            with urllib.request.urlopen(request, timeout=60) as answer:
                assert answer.status == 200
        client = visitor(address)
        assert len(chat(client, "What is 1 plus 2?", "pocket/base", "pocket/sft", "pocket/rm", "pocket/rl")) == 4
        battle(client, "What is 2 plus 2?")
        client.predict(api_name="/arena_vote_tie")
        assert "pg-" in look(client, "What is 1?", "One.")
        client.predict("pocket/sft", "pocket/rl", "What is 1?", api_name="/microscope_write")
        client.predict(api_name="/export_md")
        client.close()
    assert not heard.exists() or heard.read_text(encoding="utf-8") == ""


def test_the_guard_hears_a_call(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(GUARD, encoding="utf-8")
    code = "import socket\ntry:\n socket.create_connection(('192.0.2.1', 80), 1)\nexcept OSError as error:\n print(error)"
    environment = {"PYTHONPATH": str(tmp_path), "HEARD": str(tmp_path / "heard.txt")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert "nothing may leave" in done.stdout
    assert (tmp_path / "heard.txt").read_text(encoding="utf-8").startswith("socket.getaddrinfo 192.0.2.1")
