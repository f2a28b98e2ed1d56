from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from modelkit.errors import UserError
from playground.settings import resolve

ROOT = Path(__file__).parents[2]


def test_the_environment_fills_in_what_the_command_line_leaves_open(
    tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAYGROUND_RUNS", str(tmp_path))
    monkeypatch.setenv("GRADIO_SERVER_NAME", "localhost")
    monkeypatch.setenv("GRADIO_SERVER_PORT", str(free_port))
    settings = resolve(None, None, None, None)
    assert (settings.runs, settings.host, settings.port) == (tmp_path, "localhost", free_port)
    assert settings.training_run is None
    assert settings.memory_bytes == 4 << 30
    assert resolve(tmp_path, "127.0.0.1", free_port, None).host == "127.0.0.1"
    monkeypatch.setenv("PLAYGROUND_MEMORY", "12")
    assert resolve(tmp_path, None, None, None).memory_bytes == 12 << 30
    assert resolve(tmp_path, None, None, None, memory_gib=0.5).memory_bytes == 1 << 29


def test_the_default_folder_is_made(tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PLAYGROUND_RUNS", raising=False)
    monkeypatch.chdir(tmp_path)
    assert resolve(None, None, free_port, None).runs == tmp_path / "runs"
    assert (tmp_path / "runs").is_dir()


def test_a_missing_folder_recipe_or_a_senseless_port_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="there is no directory"):
        resolve(tmp_path / "none", None, None, None)
    with pytest.raises(UserError, match="there is no recipe"):
        resolve(tmp_path, None, None, tmp_path / "none.yaml")
    monkeypatch.setenv("GRADIO_SERVER_PORT", "many")
    with pytest.raises(UserError, match="GRADIO_SERVER_PORT"):
        resolve(tmp_path, None, None, None)


def test_a_port_in_use_ends_the_program_with_a_sentence_and_status_2(tmp_path: Path) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = str(busy.getsockname()[1])
        command = [sys.executable, "app.py", "--runs", str(tmp_path), "--port", port, "--no-train"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"port {port}" in done.stderr
    assert "--port" in done.stderr


def test_the_page_is_built_without_torch_and_without_transformers() -> None:
    code = "import sys, playground.cli, playground.ui.app; print([name for name in ('torch', 'transformers') if name in sys.modules])"
    environment = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True, env=environment)
    assert done.stdout.strip() == "[]"
