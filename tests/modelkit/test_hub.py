"""Models by name: what a folder of the hub's cache is called, and what is said where there is neither folder nor network."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelkit import hub
from modelkit.errors import ModelError


def test_a_folder_of_the_hubs_cache_has_its_models_name(tmp_path: Path) -> None:
    cached = tmp_path / "models--someone--a-model.v2" / "snapshots" / "0123abcd"
    cached.mkdir(parents=True)
    assert hub.name_of(cached) == "someone/a-model.v2"
    assert hub.name_of(tmp_path) is None
    assert hub.name_of(tmp_path / "models--someone--x" / "base") is None


def test_a_path_stays_a_path(tmp_path: Path) -> None:
    assert hub.find(str(tmp_path / "none")) == tmp_path / "none"
    with pytest.raises(ModelError, match="is a path"):
        hub.find(str(tmp_path), revision="main")
