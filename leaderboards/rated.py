"""The tables of ratings: who stands where by people and by each judge, who beats whom, whether reward models agree."""

from __future__ import annotations

from collections.abc import Sequence

from evalkit.ratings import win_matrix
from leaderboards.board import Board
from leaderboards.grid import Field, Grid, Head, Line
from leaderboards.standings import FEWEST_GAMES, Standing
from leaderboards.votes.agreement import FEWEST_VOTES
from leaderboards.wording import Both, same

_FEW = Both("too few votes", "票数太少")
_REASONS = {
    "won every game": "全部获胜",
    "lost every game": "全部失败",
    "only won or only lost against the rest": "对其余模型只胜或只负",
    "no games that link it with the rest": "与其余模型没有相连的对局",
}
_LEFT_OUT = {"rejected": "已拒绝", "not blind": "非盲投", "a model against itself": "模型与自身对比", "unscored": "未评分"}
_LARGEST = 40
"""Players of a win matrix; the best are shown."""


def source(standing: Standing) -> Both:
    """Who said it."""
    return Both("People", "人类投票") if standing.judge is None else Both(f"Judge {standing.judge}", f"裁判 {standing.judge}")


def name(player: str, standing: Standing, board: Board) -> Both:
    """What a player is called on the board, or by the source."""
    row = board.names.get(player)
    return Both(row.name("en"), row.name("zh")) if row else same(standing.names[player])


def ratings(standing: Standing, board: Board, place: int) -> Grid:
    """The ratings of one source."""
    heads = [
        Head([Both("Model", "模型")]),
        Head([Both("Rating", "评分")]),
        Head([Both("At equal length", "等长度评分")]),
        Head([Both("Games", "对局")]),
        Head([Both("Wins · ties · losses", "胜 · 平 · 负")]),
    ]
    controlled = standing.equal_length
    rows = []
    for row in standing.ratings.rows:
        if row.rating is None:
            first = Field([Both(f"no finite rating: {row.reason}", f"无有限评分：{_REASONS.get(row.reason or '', row.reason or '')}")])
        else:
            interval = [same(f"[{row.ci95[0]:.0f}, {row.ci95[1]:.0f}]")] if row.ci95 else []
            first = Field([same(f"{row.rating:.0f}"), *interval], row.rating, doubt=[_FEW] if row.games < FEWEST_GAMES else [])
        if row.player not in board.names:
            first = Field(
                first.lines, first.value, first.mark, [*first.doubt, Both("no results of these weights here", "此处没有该权重的评测结果")]
            )
        length = controlled.get(row.player)
        rows.append(
            Line(
                name(row.player, standing, board),
                [
                    first,
                    Field([same(f"{length:.0f}")], length) if length is not None else None,
                    Field([same(f"{row.games:,}")], row.games),
                    Field([same(f"{row.wins:,} · {row.ties:,} · {row.losses:,}")], row.wins),
                ],
                row.player,
            )
        )
    return Grid(f"ratings-{place}", source(standing), _note(standing), heads, rows)


def matrix(standing: Standing, board: Board, place: int) -> Grid:
    """Each model's share of points against each other, ties counted half."""
    met = win_matrix(standing.games)
    players = [row.player for row in standing.ratings.rows][:_LARGEST]
    rows = []
    for a in players:
        fields: list[Field | None] = []
        for b in players:
            wins, ties, losses = met.get((a, b), (0, 0, 0))
            n = wins + ties + losses
            share = (wins + ties / 2) / n if n else 0.0
            fields.append(Field([same(f"{100 * share:.0f} %"), same(f"n = {n:,}")], share) if n else None)
        rows.append(Line(name(a, standing, board), fields, a))
    note = Both("Share of points of the row against the column; a tie is half a point.", "行对列的得分率；平局计半分。")
    title = Both(f"Who beats whom: {source(standing).en}", f"两两胜率：{source(standing).zh}")
    return Grid(f"matrix-{place}", title, note, [Head([Both("Model", "模型")]), *(Head([name(b, standing, board)]) for b in players)], rows)


def agreement(standings: Sequence[Standing], board: Board) -> Grid | None:
    """How often reward models say the same as people; ``None`` without votes that have rewards."""
    found = [one for standing in standings for one in standing.agreements]
    if not found:
        return None
    heads = [Head([Both("Reward model", "奖励模型")]), Head([Both("Agrees with people", "与人一致")]), Head([same("n")])]
    rows = []
    for one in found:
        row = board.names.get(one.reward_model)
        called = Both(row.name("en"), row.name("zh")) if row else same(one.reward_model.removeprefix("sha256:")[:12])
        low, high = one.interval
        share = Field(
            [same(f"{100 * one.agreed / one.n:.1f} %"), same(f"[{100 * low:.1f}, {100 * high:.1f}]")],
            one.agreed / one.n,
            doubt=[_FEW] if one.n < FEWEST_VOTES else [],
        )
        rows.append(Line(called, [share, Field([same(f"{one.n:,}")], one.n)], one.reward_model))
    note = Both("Of blind votes that prefer one reply; equal rewards don't agree.", "仅计偏好明确的盲投；奖励相等视为不一致。")
    return Grid("agreement", Both("Reward models and people", "奖励模型与人"), note, heads, rows)


def _note(standing: Standing) -> Both:
    left = standing.left_out
    en = "".join(f" Not counted, {why}: {count:,}." for why, count in left.items())
    zh = "".join(f"未计入（{_LEFT_OUT.get(why, why)}）：{count:,}。" for why, count in left.items())
    return Both(
        f"Bradley–Terry on Elo's scale, 1000 on average, with 95 % bootstrap intervals; a tie is half a win. {len(standing.games):,} games."
        + en,
        f"Bradley–Terry 评分（Elo 刻度，均值 1000），附 95% 自助法区间；平局计半胜。共 {len(standing.games):,} 局。" + zh,
    )
