"""What makes a number doubtful. Doubtful numbers are shown with a mark and the reason; none is hidden."""

from __future__ import annotations

from typing import NamedTuple

from leaderboards.wording import Both
from modelkit.records import MethodScore, TaskScore

UNSCORED = 0.05
"""Share of unscored questions above which a number says too little."""
SUSPICIOUS = 0.98
"""Share of right answers from which on one should ask whether the questions were trained on."""
_ENOUGH = 50


class Doubt(NamedTuple):
    """One reason; ``name`` is for exports."""

    name: str
    text: Both


OLD_DATA = Doubt("old_data", Both("older data than was asked since", "之后已改用更新的数据"))
TWIN = Doubt("shared_id", Both("another result has the same id", "另有结果使用相同 ID"))
_UNSCORED = Doubt("unscored", Both(f"more than {UNSCORED:.0%} unscored", f"超过 {UNSCORED:.0%} 的题目未评分"))
_CHANCE = Doubt("chance", Both("no better than guessing", "不优于随机猜测"))
_SUSPICIOUS = Doubt("suspicious", Both("nearly all right: was it trained on these?", "几乎全对：是否训练过这些题目？"))
_UNVERIFIED = Doubt("other_protocol", Both("another harness: protocol and weights unverified", "来自其他评测工具：协议与权重未经核实"))
_UNOFFICIAL = Doubt("unofficial", Both("differs from the official protocol", "与官方协议不同"))


def doubts(task: TaskScore, score: MethodScore, chance: float | None, share: bool) -> tuple[Doubt, ...]:
    """The reasons to doubt a score that lie in itself.

    :param share: whether its value is a share of right answers.
    """
    facts, found = score.model_extra or {}, []
    if (task.model_extra or {}).get("harness"):
        found.append(_UNVERIFIED)
    if facts.get("unofficial"):
        found.append(_UNOFFICIAL)
    if score.n and score.unscored / score.n > UNSCORED:
        found.append(_UNSCORED)
    if share and score.value is not None:
        low = score.ci95[0] if score.ci95 else score.value
        if chance is not None and low <= chance:
            found.append(_CHANCE)
        if score.value >= SUSPICIOUS and score.n >= _ENOUGH and task.kind in ("choice", "answer"):
            found.append(_SUSPICIOUS)
    return tuple(found)
