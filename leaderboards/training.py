"""What a run's own files say for plots: how many tokens a stage has seen, and its reward and KL by step."""

from __future__ import annotations

import json

from modelkit.checkpoint import StageInfo
from modelkit.errors import UserError
from modelkit.run import Run


def tokens_seen(run: Run, stage: str) -> int | None:
    """Training tokens of a stage and all its parents within the run; ``None`` where a ``stage.json`` on the way can't be read."""
    total, name, seen = 0, stage, set()
    while name and name not in seen:
        seen.add(name)
        try:
            info = StageInfo.model_validate_json((run.checkpoint(name) / "stage.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, UserError):
            return None
        total += info.tokens
        name = (info.parent or "").rstrip("/").rpartition("/")[2] if (info.parent or "").startswith("../") else ""
    return total


def reward_and_kl(run: Run, stage: str, most: int = 300) -> list[tuple[float, float]]:
    """(KL, reward) by step of a stage's log, at most so many points; a line that is cut off and a step without both are passed over.

    A step of a run that has diverged has ``null`` there: what is infinite or NaN can't stand in JSON.
    """
    try:
        lines = run.log(stage).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    points = []
    for line in lines:
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(event, dict) and event.get("event") == "step":
            kl, reward = event.get("kl"), event.get("reward")
            if kl is not None and reward is not None:
                points.append((float(kl), float(reward)))
    every = max(1, -(-len(points) // most))
    return points[::every]
