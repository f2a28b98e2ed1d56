"""The ``evaluate`` modules load by path, offline and without evalkit, and compute what their formulas say."""

from __future__ import annotations

import math
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from evalkit.calibration import equal_width, expected_error
from evalkit.metrics.bits_per_byte.formula import bits_per_byte
from evalkit.metrics.choice_accuracy.formula import choice_accuracy
from evalkit.metrics.expected_calibration_error.formula import expected_calibration_error
from evalkit.metrics.multi_answer.formula import multi_answer
from evalkit.metrics.win_rate.formula import win_rate

METRICS = Path(__file__).parents[2] / "evalkit" / "metrics"
NAMES = sorted(file.parent.name for file in METRICS.glob("*/README.md"))


def test_micro_counts_questions_and_macro_counts_subjects() -> None:
    found = choice_accuracy("AAAAB", "AAAAA", ["big"] * 3 + ["small"] * 2)
    assert found == {"micro": 0.8, "macro": 0.75, "subjects": {"big": 1.0, "small": 0.5}}


def test_sets_of_letters_are_compared_as_sets_and_a_wrong_letter_costs_all_partial_credit() -> None:
    found = multi_answer(["BA", "A", "AC", "", "ABC"], ["AB", "AB", "AB", "AB", "ABC"])
    assert found == {"exact_match": pytest.approx(0.4), "partial_credit": pytest.approx((1 + 0.5 + 0 + 0 + 1) / 5)}


def test_a_uniform_guess_over_bytes_costs_eight_bits() -> None:
    assert bits_per_byte([-3 * math.log(256)], ["你"]) == pytest.approx(8)


def test_a_side_compared_with_itself_wins_half() -> None:
    assert win_rate([1.0, 2.0], [1.0, 2.0]) == {"win_rate": 0.5, "wins": 0, "ties": 2, "losses": 0}
    assert win_rate([1.0, 2.0, 3.0], [0.0, 3.0, 3.0])["win_rate"] == 0.5


def test_calibration_error_is_that_of_the_binned_definition() -> None:
    draw = random.Random(3)
    sure = [(draw.random(), draw.random() < 0.6) for _ in range(500)] + [(0.0, True), (1.0, False)]
    found = expected_calibration_error([confidence for confidence, _ in sure], [right for _, right in sure])
    assert found == pytest.approx(expected_error(equal_width(sure)))


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_has_a_readme_whose_example_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("evaluate")
    example = (METRICS / name / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(METRICS.parents[1])
    scope: dict = {}
    exec(example, scope)
    shown = eval(example.rsplit("# ", 1)[1])
    assert set(scope["found"]) == set(shown)
    for key, value in shown.items():
        assert scope["found"][key] == (value if isinstance(value, dict) else pytest.approx(value, abs=0.05))


def test_a_metric_needs_no_evalkit(tmp_path: Path) -> None:
    pytest.importorskip("evaluate")
    for name in NAMES:
        shutil.copytree(METRICS / name, tmp_path / "elsewhere" / name)
    code = f"import evaluate, sys\nfor name in {NAMES}: print(evaluate.load('elsewhere/' + name).name)\nassert 'evalkit' not in sys.modules"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache"), "PYTHONPATH": ""}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == NAMES
