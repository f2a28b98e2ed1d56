"""A tiny run with a suite of its own: everything evalkit does, in a second."""

from __future__ import annotations

import pytest

from modelkit.chat import PLAIN_TEMPLATE
from modelkit.checkpoint import StageInfo, save
from modelkit.run import Run, RunInfo, Stage
from tests.evalkit.tiny import tiny_model, tiny_tokenizer, write_suite


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run: base (no chat template), sft, rm, rl, and its benchmark. Read only."""
    path = tmp_path_factory.mktemp("runs") / "tiny"
    stages = [
        Stage(name=name, kind=kind, title={"en": name}) for name, kind in [("base", "base"), ("sft", "sft"), ("rm", "reward"), ("rl", "rl")]
    ]
    made = Run.create(path, RunInfo(name="tiny", recipe="sha256:0", languages=["en", "zh"], stages=stages))
    for seed, stage in enumerate(stages):
        template = None if stage.kind == "base" else PLAIN_TEMPLATE
        save(tiny_model(seed, stage.kind == "reward"), tiny_tokenizer(template), path / stage.name, StageInfo(stage=stage.name))
    write_suite(made.benchmark())
    return made
