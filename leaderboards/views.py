"""The tables of scores: overview, categories, stages of a run, quoted figures."""

from __future__ import annotations

from collections.abc import Sequence

from leaderboards.board import BEST, Board, Cell, Column, Row
from leaderboards.grid import Field, Grid, Head, Line
from leaderboards.published import BENCHMARKS, SOURCE, Quoted, published
from leaderboards.ranking import rank
from leaderboards.wording import Both, category, same
from modelkit.records import SubjectScore

_MODEL = Head([Both("Model", "模型")])
_RANK_NOTE = Both(
    "“Over chance” is the mean share above guessing over the columns marked “ranks” ({n} here; guessing 0 %, all right 100 %); only models "
    "with all of them have a rank. Brackets: 95 % interval. ★ best of a column, ≈ not significantly worse (z test on the intervals, "
    "Holm), ⚠ doubtful, with the reason.",
    "“超出随机”为标有“计入排名”的列（共 {n} 列）上高于随机猜测的平均比例（随机 0 %，全对 100 %）；只有具备全部列的模型才有名次。"
    "方括号为 95% 置信区间。★ 该列最佳；≈ 与最佳无显著差异（基于区间的 z 检验，Holm 校正）；⚠ 存疑及原因。",
)
_NO_SCORES = Both("No results yet: they appear once a checkpoint has been evaluated.", "暂无结果：完成评测后会显示在这里。")
_FEW_CATEGORIES, _FEW_SUBJECTS = 3, 20
_MICRO, _MACRO = Both("micro", "微平均"), Both("macro", "宏平均")


def overview(board: Board) -> Grid:
    """Every model by every column, ranked, columns that rank first; quoted figures stand last, by benchmark and number of shots."""
    ranking = rank(board)
    counting = set(ranking.columns)
    places = sorted(range(len(board.columns)), key=lambda k: board.columns[k] not in counting)
    columns = [board.columns[k] for k in places]
    en, zh = ([heads[k] for k in places] for heads in (board.heads("en"), board.heads("zh")))
    heads = [
        Head(
            [Both(*pair) for pair in zip(a, b, strict=True)] + ([Both("ranks", "计入排名")] if column in counting else []),
            column.lower,
            column.benchmark,
        )
        for a, b, column in zip(en, zh, columns, strict=True)
    ]
    rows = []
    for row, cells, place in zip(board.rows, board.cells, ranking.places, strict=True):
        covered = same(f"{place.covered} / {len(ranking.columns)}")
        over = Field([same(_percent(place.value)), covered], place.value) if place.value is not None else None
        position = Field([same(str(place.rank))], -float(place.rank)) if place.rank is not None else None
        fields = [_field(cell, board.columns[k]) if (cell := cells[k]) else None for k in places]
        rows.append(Line(_name(row), [position, over, *fields], row.fingerprint, group=row.run))
    order = sorted(range(len(rows)), key=lambda k: (ranking.places[k].rank is None, ranking.places[k].rank or 0))
    quoted = [line for one in published() if (line := _quoted(one, columns))]
    note = Both(*(text.format(n=len(ranking.columns)) for text in _RANK_NOTE))
    top = [_MODEL, Head([Both("Rank", "名次")]), Head([Both("Over chance", "超出随机")]), *heads]
    return Grid("overview", Both("Scores", "成绩"), note, top, [*(rows[k] for k in order), *quoted], _NO_SCORES)


def categories(board: Board) -> list[Grid]:
    """A table for each column that has categories or subjects."""
    grids = []
    for place, (column, en, zh) in enumerate(zip(board.columns, board.heads("en"), board.heads("zh"), strict=True)):
        parts = [parts_of(cells[place]) for cells in board.cells]
        names = list(dict.fromkeys(name for part in parts for name in part))
        if not names:
            continue
        values = {name: [part[name] for part in parts if name in part] for name in names}
        best = {name: (min if column.lower else max)(some) for name, some in values.items() if len(some) > 1}
        rows = [
            Line(_name(row), [_share(column, part.get(name), best.get(name)) for name in names], row.fingerprint, group=row.run)
            for row, part in zip(board.rows, parts, strict=True)
            if part
        ]
        title = Both(" · ".join(en), " · ".join(zh))
        note = Both("Shares within each category; ★ best of a category.", "各类别内的成绩；★ 为该类别最佳。")
        grids.append(Grid(f"category-{place}", title, note, [_MODEL, *(Head([category(name)]) for name in names)], rows))
    return grids


def parts_of(cell: Cell | None) -> dict[str, float]:
    """A score's judged categories, or its categories, with its subjects where both are few, by name."""
    if cell is None:
        return {}
    score = cell.score
    judged = (score.model_extra or {}).get("by_category") or {}
    if judged:
        return {name: part["value"] for name, part in judged.items() if part.get("value") is not None}
    few = len(score.categories) < _FEW_CATEGORIES and len(score.subjects) <= _FEW_SUBJECTS
    parts: dict[str, SubjectScore] = score.categories | score.subjects if few else score.categories or score.subjects
    return {name: part.accuracy for name, part in parts.items() if part.accuracy is not None}


def stages(board: Board) -> list[Grid]:
    """For each run, its tasks by its stages in order, with the change from the stage before."""
    grids = []
    for run in dict.fromkeys(row.run for row in board.rows if row.run):
        own = [k for k, row in enumerate(board.rows) if row.run == run]
        if len(own) < 2:
            continue
        heads = [Head([Both("Task", "任务")]), *(Head([_name(board.rows[k])]) for k in own)]
        rows = []
        for place, (en, zh) in enumerate(zip(board.heads("en"), board.heads("zh"), strict=True)):
            cells = [board.cells[k][place] for k in own]
            if any(cells):
                rows.append(Line(Both(" · ".join(en), " · ".join(zh)), _steps(cells, board.columns[place])))
        note = Both(
            "In the order of training; below each score the change from the stage before it.", "按训练顺序；成绩下方为与前一阶段之差。"
        )
        grids.append(Grid(f"stages-{run}", same(run), note, heads, rows))
    return grids


def quoted_figures() -> Grid:
    """The published figures of well-known models, all of them."""
    heads = [
        _MODEL,
        Head([Both("Tokens", "训练词元")]),
        Head([Both("Shots", "样本数")]),
        *(Head([same(name)]) for name in BENCHMARKS.values()),
    ]
    rows = []
    for one in published():
        fields = [_quote(one, name) for name in BENCHMARKS]
        rows.append(
            Line(same(one.model), [Field([same(one.tokens or "–")]), Field([same(str(one.shots))], one.shots), *fields], quoted=True)
        )
    return Grid("published", Both("Published figures (quoted)", "已发表成绩（引用）"), SOURCE, heads, rows)


def _steps(cells: Sequence[Cell | None], column: Column) -> list[Field | None]:
    fields: list[Field | None] = []
    before: float | None = None
    for cell in cells:
        found = _field(cell, column) if cell else None
        value = cell.score.value if cell else None
        if found and value is not None and before is not None:
            unit = f"{100 * (value - before):+.1f}" if column.share else f"{value - before:+.3f}"
            found = Field([*found.lines, Both(f"{unit} from before", f"较前一阶段 {unit}")], found.value, found.mark, found.doubt)
        before = value if value is not None else before
        fields.append(found)
    return fields


def _field(cell: Cell, column: Column) -> Field:
    en, zh = cell.text(column, "en"), cell.text(column, "zh")
    lines = [Both(*pair) for pair in zip(en, zh, strict=True)]
    other = {"micro": (_MACRO, cell.score.macro), "macro": (_MICRO, cell.score.micro)}.get(cell.score.official or "")
    if other and other[1] is not None:
        own = {"micro": _MICRO, "macro": _MACRO}[cell.score.official or "micro"]
        lines.append(Both(f"{own.en} (official)", f"{own.zh}（官方）"))
        lines.append(Both(f"{other[0].en} {column.show(other[1])}", f"{other[0].zh} {column.show(other[1])}"))
    mark = "best" if cell.best else "near" if cell.near else ""
    return Field(lines, cell.score.value, mark, [doubt.text for doubt in cell.doubts])  # type: ignore[arg-type]


def _share(column: Column, value: float | None, best: float | None) -> Field | None:
    if value is None:
        return None
    shown = column.show(value)
    return Field([same(f"{shown} {BEST}")], value, "best") if value == best else Field([same(shown)], value)


def _quoted(one: Quoted, columns: Sequence[Column]) -> Line | None:
    fields = [_quote(one, column.benchmark) if column.kind == "choice" and column.shots == one.shots else None for column in columns]
    if not any(fields):
        return None
    return Line(Both(f"{one.model} (quoted)", f"{one.model}（引用）"), [None, None, *fields], SOURCE.en, quoted=True, group="quoted")


def _quote(one: Quoted, benchmark: str) -> Field | None:
    if benchmark not in one.measured:
        return None
    official = f" ({100 * one.official[benchmark]:.1f})" if benchmark in one.official else ""
    return Field([same(f"{100 * one.measured[benchmark]:.1f} %{official}")], one.measured[benchmark])


def _name(row: Row) -> Both:
    return Both(row.name("en"), row.name("zh"))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
