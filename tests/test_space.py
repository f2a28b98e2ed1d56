"""What Hugging Face Spaces read of this repository: the head of README.md, requirements.txt and app.py."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
KEYS = {
    *("title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "python_version", "app_file", "app_port", "base_path", "fullWidth"),
    *("header", "short_description", "models", "datasets", "tags", "thumbnail", "pinned", "license", "suggested_hardware"),
    *("hf_oauth", "hf_oauth_scopes", "hf_oauth_expiration_minutes", "hf_oauth_authorized_org", "disable_embedding"),
    *("startup_duration_timeout", "custom_headers", "preload_from_hub"),
}
"""https://huggingface.co/docs/hub/spaces-config-reference"""
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
PYTHONS, TORCHES = ("3.10", "3.12"), ("2.8.0", "2.9.1", "2.10.0", "2.11.0")
"""What ZeroGPU offers."""


def head() -> dict[str, Any]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.startswith("---\n")
    return dict(yaml.safe_load(text.split("---\n")[1]))


def required(name: str) -> Requirement:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    found = [Requirement(line.split("#")[0].strip()) for line in lines if line.split("#")[0].strip()]
    return next(one for one in found if one.name == name)


def test_the_head_of_the_readme_has_documented_keys_with_possible_values() -> None:
    told = head()
    assert not told.keys() - KEYS
    assert {told["colorFrom"], told["colorTo"]} <= COLOURS
    assert told["sdk"] == "gradio"
    assert told["python_version"] in PYTHONS
    assert isinstance(told["sdk_version"], str)
    assert Version(told["sdk_version"]) in required("gradio").specifier
    assert len(told["short_description"]) <= 60
    assert not told["emoji"].isascii()


def test_a_space_finds_its_program_and_a_torch_that_zero_gpu_offers() -> None:
    assert (ROOT / head()["app_file"]).is_file()
    assert all(Version(version) in required("torch").specifier for version in TORCHES)


def test_the_package_is_written_for_the_pythons_that_spaces_offer() -> None:
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'requires-python = ">=3.10"' in settings
    assert 'target-version = "py310"' in settings
    assert re.search(r'^python_version = "3\.10"$', settings, flags=re.MULTILINE)
