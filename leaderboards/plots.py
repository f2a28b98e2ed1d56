"""The plots, in plotly: each is made once for each language, and its colours are set where it is shown, for light and dark."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from leaderboards import rated
from leaderboards.board import Board, Cell
from leaderboards.ranking import rank
from leaderboards.standings import Standing
from leaderboards.training import reward_and_kl, tokens_seen
from leaderboards.views import parts_of
from leaderboards.wording import Both, category

if TYPE_CHECKING:
    import plotly.graph_objects as go

COLOURS = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bb5566", "#999999"]
"""Paul Tol's bright palette, which colour-blind people can tell apart."""
MOST = len(COLOURS)
"""Models in one plot; the best by rank."""
_RADAR = (3, 12)
_STRETCHES = 12
_SYMBOLS = 25  # of plotly's, all filled


@dataclass(frozen=True)
class Plot:
    """A plot with its title; ``make`` draws it in a language."""

    id: str
    title: Both
    make: Callable[[str], go.Figure]


def plots(board: Board, standings: Sequence[Standing] = ()) -> list[Plot]:
    """Every plot that there are figures for."""
    found: list[Plot] = []
    if tokens := list(_tokens(board)):
        title = Both("Score against training tokens", "成绩与训练词元数")
        found.append(Plot("tokens", title, partial(_against_tokens, board, tokens)))
    if curves := list(_curves(board)):
        title = Both("Reward against KL, by step", "奖励与 KL（按步）")
        found.append(Plot("reward-kl", title, partial(_reward_kl, curves)))
    if pairs := list(_copies(board)):
        title = Both("Accuracy before and after 4 bits", "4 比特量化前后")
        found.append(Plot("four-bits", title, partial(_four_bits, board, pairs)))
    if costs := list(_costs(board)):
        found.append(Plot("cost", Both("Cost against quality", "成本与质量"), partial(_cost, board, costs)))
    for place, standing in enumerate(standings):
        who = rated.source(standing)
        if any(row.rating is not None for row in standing.ratings.rows):
            title = Both(f"Ratings: {who.en}", f"评分：{who.zh}")
            found.append(Plot(f"ratings-{place}", title, partial(_forest, board, standing)))
        if standing.elo:
            title = Both("Elo over time (history only: it depends on the order)", "Elo 历史（仅供回顾：取决于先后顺序）")
            found.append(Plot(f"elo-{place}", title, partial(_elo, board, standing)))
    return found + list(_by_category(board))


def _by_category(board: Board) -> Iterator[Plot]:
    """Bars, and a radar where it can be read, of every column of shares that has categories; of many models the best by rank."""
    places = rank(board).places
    order = sorted(range(len(places)), key=lambda k: (places[k].rank is None, places[k].rank or 0, k))
    titles = [Both(*pair) for pair in zip(board.titles("en"), board.titles("zh"), strict=True)]
    for place, (column, title) in enumerate(zip(board.columns, titles, strict=True)):
        having = [k for k in order if parts_of(board.cells[k][place])][:MOST]
        parts = {k: parts_of(board.cells[k][place]) for k in sorted(having)}
        names = {name for part in parts.values() for name in part}
        if column.share and len(names) > 1:
            heading = Both(f"{title.en} by category", f"{title.zh}（按类别）")
            yield Plot(f"categories-{place}", heading, partial(_bars, board, parts))
            if _RADAR[0] <= len(names) <= _RADAR[1]:
                yield Plot(f"radar-{place}", Both(f"{title.en}: radar", f"{title.zh}：雷达图"), partial(_radar, board, parts))


def _bars(board: Board, parts: dict[int, dict[str, float]], language: str) -> go.Figure:
    import plotly.graph_objects as go

    traces = [go.Bar(name=board.rows[k].name(language), x=_called(part, language), y=_percent(part.values())) for k, part in parts.items()]
    return _figure(traces, Both("category", "类别"), Both("accuracy, %", "准确率（%）"), language)


def _radar(board: Board, parts: dict[int, dict[str, float]], language: str) -> go.Figure:
    import plotly.graph_objects as go

    traces = []
    for k, part in parts.items():
        names, values = _called([*part, next(iter(part))], language), _percent([*part.values(), next(iter(part.values()))])
        traces.append(go.Scatterpolar(name=board.rows[k].name(language), theta=names, r=values, mode="lines+markers"))
    figure = _figure(traces, Both("", ""), Both("", ""), language)
    return figure.update_layout(polar={"radialaxis": {"range": [0, 100]}})


def _tokens(board: Board) -> Iterator[tuple[int, int, Cell, int]]:
    """(row, column, cell, tokens) of every share of a run's stages."""
    for k, cells in enumerate(board.cells):
        found = next((cell.found for cell in cells if cell and cell.found.run and cell.found.stage), None)
        seen = tokens_seen(found.run, found.stage.name) if found and found.run and found.stage else None
        for place, (column, cell) in enumerate(zip(board.columns, cells, strict=True)):
            if seen and cell and column.share and cell.score.value is not None and column.chance is not None:
                yield k, place, cell, seen


def _against_tokens(board: Board, points: Sequence[tuple[int, int, Cell, int]], language: str) -> go.Figure:
    import plotly.graph_objects as go

    groups: dict[tuple[int, str], list[tuple[int, int, Cell, int]]] = {}
    for point in points:
        groups.setdefault((point[1], board.rows[point[0]].run), []).append(point)
    heads, traces = board.heads(language), []
    for (place, run), own in [group for group in groups.items() if len(group[1]) > 1][: 2 * MOST]:
        ordered = sorted(own, key=lambda point: point[3])
        values = [cell.score.value or 0.0 for _, _, cell, _ in ordered]
        bounds = [cell.score.ci95 or (value, value) for (_, _, cell, _), value in zip(ordered, values, strict=True)]
        traces.append(
            go.Scatter(
                name=" · ".join([run, *heads[place][:2]]),
                x=[seen for *_, seen in ordered],
                y=_percent(values),
                text=[board.rows[k].name(language) for k, *_ in ordered],
                mode="lines+markers",
                error_y={
                    "array": _percent([high - value for (_, high), value in zip(bounds, values, strict=True)]),
                    "arrayminus": _percent([value - low for (low, _), value in zip(bounds, values, strict=True)]),
                },
            )
        )
    figure = _figure(traces, Both("training tokens", "训练词元"), Both("accuracy, %", "准确率（%）"), language)
    return figure.update_xaxes(type="log")


def _curves(board: Board) -> Iterator[tuple[Both, list[tuple[float, float]]]]:
    """Name, and (KL, reward) by step, of each stage trained by reinforcement in the runs of the board."""
    cells = ((row, cell) for row, own in zip(board.rows, board.cells, strict=True) for cell in own if cell)
    runs = {row.run: cell.found.run for row, cell in cells if cell.found.run}
    for name, run in runs.items():
        for stage in run.info.stages:
            if stage.kind == "rl" and stage.copy_of is None and (points := reward_and_kl(run, stage.name)):
                titles = (stage.title.get(language, stage.name) for language in ("en", "zh"))
                yield Both(*(f"{name} · {title}" for title in titles)), points


def _reward_kl(curves: Sequence[tuple[Both, list[tuple[float, float]]]], language: str) -> go.Figure:
    import plotly.graph_objects as go

    traces = []
    for (title, points), colour in zip(curves[:MOST], COLOURS, strict=False):
        name = title.of(language)
        dots = {"color": colour, "size": 5, "opacity": 0.4}
        traces.append(
            go.Scatter(
                name=name, x=[kl for kl, _ in points], y=[reward for _, reward in points], mode="markers", marker=dots, showlegend=False
            )
        )
        means = _means(points)
        traces.append(
            go.Scatter(
                name=name, x=[kl for kl, _ in means], y=[reward for _, reward in means], mode="lines+markers", line={"color": colour}
            )
        )
    return _figure(traces, Both("KL to the reference, nats per reply", "与参考模型的 KL（纳特/回复）"), Both("reward", "奖励"), language)


def _means(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The means of points that follow each other, in about as many groups as show the way and not the noise."""
    size = max(1, -(-len(points) // _STRETCHES))
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(kl for kl, _ in group) / len(group), sum(reward for _, reward in group) / len(group)) for group in groups]


def _copies(board: Board) -> Iterator[tuple[int, int, int]]:
    """(original's row, 4-bit copy's row, column) wherever both have a share."""
    stages = {(row.run, row.stage): k for k, row in enumerate(board.rows)}
    for k, (row, cells) in enumerate(zip(board.rows, board.cells, strict=True)):
        stage = next((cell.found.stage for cell in cells if cell and cell.found.stage), None)
        original = stages.get((row.run, stage.copy_of)) if stage and stage.copy_of else None
        if original is not None:
            for place, column in enumerate(board.columns):
                if column.share and _value(board.cells[original][place]) is not None and _value(cells[place]) is not None:
                    yield original, k, place


def _value(cell: Cell | None) -> float | None:
    return cell.score.value if cell else None


def _four_bits(board: Board, pairs: Sequence[tuple[int, int, int]], language: str) -> go.Figure:
    import plotly.graph_objects as go

    titles, traces = board.titles(language), []
    for side, name in ((0, Both("before", "量化前")), (1, Both("4 bits", "4 比特"))):
        labels = [f"{board.rows[pair[0]].name(language)} · {titles[pair[2]]}" for pair in pairs]
        values = _percent([_value(board.cells[pair[side]][pair[2]]) for pair in pairs])
        traces.append(go.Bar(name=name.of(language), x=labels, y=values))
    return _figure(traces, Both("", ""), Both("accuracy, %", "准确率（%）"), language)


def _costs(board: Board) -> Iterator[tuple[int, float, float]]:
    """(row, GFLOPs a question, mean over chance) of models whose results count operations."""
    places = rank(board).places
    for k, (cells, place) in enumerate(zip(board.cells, places, strict=True)):
        results = {cell.found.file: cell.found.result for cell in cells if cell}
        counted = [result for result in results.values() if result.speed.flops > 0]
        asked = sum(score.n for result in counted for task in result.tasks.values() for score in task.methods.values())
        flops = sum(result.speed.flops for result in counted)
        if place.value is not None and asked:
            yield k, flops / asked / 1e9, place.value


def _cost(board: Board, costs: Sequence[tuple[int, float, float]], language: str) -> go.Figure:
    import plotly.graph_objects as go

    groups: dict[str, list[tuple[int, float, float]]] = {}
    for one in costs:
        groups.setdefault(board.rows[one[0]].run, []).append(one)
    traces = [
        go.Scatter(
            name=run or Both("elsewhere", "其他").of(language),
            x=[cost for _, cost, _ in own],
            y=_percent([value for *_, value in own]),
            text=[board.rows[k].name(language) for k, *_ in own],
            mode="markers",
            marker={"size": 10, "symbol": place % _SYMBOLS},
        )
        for place, (run, own) in enumerate(groups.items())
    ]
    x, y = Both("GFLOPs a question and method", "每题每方法 GFLOPs"), Both("over chance, %", "超出随机（%）")
    return _figure(traces, x, y, language).update_xaxes(type="log")


def _forest(board: Board, standing: Standing, language: str) -> go.Figure:
    import plotly.graph_objects as go

    rows = [row for row in standing.ratings.rows if row.rating is not None][: 5 * MOST][::-1]
    bounds = [row.ci95 or (row.rating or 0.0, row.rating or 0.0) for row in rows]
    trace = go.Scatter(
        x=[row.rating for row in rows],
        y=[rated.name(row.player, standing, board).of(language) for row in rows],
        mode="markers",
        showlegend=False,
        error_x={
            "array": [high - (row.rating or 0.0) for (_, high), row in zip(bounds, rows, strict=True)],
            "arrayminus": [(row.rating or 0.0) - low for (low, _), row in zip(bounds, rows, strict=True)],
        },
    )
    return _figure([trace], Both("rating", "评分"), Both("", ""), language)


def _elo(board: Board, standing: Standing, language: str) -> go.Figure:
    import plotly.graph_objects as go

    order = [row.player for row in standing.ratings.rows][:MOST]
    traces = [
        go.Scatter(
            name=rated.name(player, standing, board).of(language),
            x=[number for number, _ in standing.elo[player]],
            y=[rating for _, rating in standing.elo[player]],
            mode="lines",
        )
        for player in order
    ]
    return _figure(traces, Both("votes", "投票数"), Both("Elo", "Elo"), language)


def _figure(traces: Sequence[Any], x: Both, y: Both, language: str) -> go.Figure:
    import plotly.graph_objects as go

    figure = go.Figure(list(traces))
    figure.update_layout(
        template="none",
        colorway=COLOURS,
        margin={"l": 60, "r": 20, "t": 20, "b": 60},
        legend={"orientation": "h", "x": 0.0, "y": 1.02, "yanchor": "bottom"},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        barmode="group",
        bargap=0.3,
    )
    figure.update_xaxes(title_text=x.of(language), automargin=True)
    return figure.update_yaxes(title_text=y.of(language), automargin=True)


def _called(names: Iterable[str], language: str) -> list[str]:
    return [category(name).of(language) for name in names]


def _percent(shares: Any) -> list[float]:
    return [round(100.0 * share, 3) for share in shares]
