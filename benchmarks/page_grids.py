"""The tables of the page, as the template takes them: text, what a column is sorted by, and places of intervals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from benchmarks.published import LETTERS, Published
from benchmarks.table_model import ONE_SEED, Cell, LedgerRow, Section, Table, TableColumn
from benchmarks.table_notes import of_prompts
from benchmarks.table_text import NO_DATA, NO_PAPER, SPENT, ledger_texts, number


class Head(NamedTuple):
    """The head of a column."""

    title: str
    sub: str = ""
    """Small, below."""
    first: str = "descending"
    """How a first click sorts: the best at the top, as far as one direction is better."""
    numeric: bool = True
    tags: tuple[str, ...] = ()


class Whisker(NamedTuple):
    """An interval as places from 0 to 100 across its cell."""

    low: float
    value: float
    high: float


class Shown(NamedTuple):
    """A cell as it is shown."""

    text: str
    order: str = ""
    """What the column is sorted by; empty: no data, always last."""
    small: str = ""
    marks: tuple[str, ...] = ()
    doubted: bool = False
    whisker: Whisker | None = None


class Grid(NamedTuple):
    """A table of the page. The first column names the rows."""

    caption: str
    heads: tuple[Head, ...]
    lines: tuple[tuple[Shown, ...], ...]


def grids(table: Table, section: Section, everywhere: set[str]) -> Iterator[Grid]:
    """The scores of a section, what the replies are like, and the differences from the baseline.

    Args:
        table: that the section belongs to.
        section: one way of decoding.
        everywhere: marks of all rows, which are said once elsewhere.
    """
    captions = {"scores": "Scores", "judges": "The judge, and what others say", "quality": "What the replies are like"}
    for group, caption in captions.items():
        chosen = table.columns_of(group)
        if chosen:
            yield _scores(table, section, chosen, caption, everywhere if group == "scores" else None)
    if section.differences:
        yield _differences(section)


def _scores(table: Table, section: Section, chosen: Sequence[int], caption: str, everywhere: set[str] | None) -> Grid:
    """A grid of cells; with the paper's values and marks where ``everywhere`` says which need not be repeated."""
    paper = everywhere is not None and any(cell.paper is not None for row in section.rows for cell in row.cells)
    heads = [Head("", numeric=False, first="ascending")]
    lines = [[Shown(row.name, row.name, small=row.kind if row.kind != "method" else "")] for row in section.rows]
    for index in chosen:
        column, cells = table.columns[index], [row.cells[index] for row in section.rows]
        usual = max((cell.n for cell in cells), default=0)
        tags = ("weak judge",) * column.weak + ("ranks",) * (column.title == section.ranked_by)
        first = "ascending" if column.higher_is_better is False else "descending"
        # A unit stays with its word, and a word whole.
        title = column.title.replace(" %", "\u00a0%").replace(" ×", "\u00a0×").replace("-", "\u2011")
        heads.append(Head(title, of_prompts(usual) if usual else "", first, tags=tags))
        scale = _scale(column, cells)
        for line, cell in zip(lines, cells, strict=True):
            line.append(_cell(cell, column, usual, scale))
        if column.with_paper and paper:
            heads.append(Head("paper", title, first))
            for line, cell in zip(lines, cells, strict=True):
                line.append(_paper(cell.paper))
    if everywhere is not None:
        heads.append(Head("marks", numeric=False, first="ascending"))
        for line, row in zip(lines, section.rows, strict=True):
            marks = tuple(mark for mark in row.marks if mark not in everywhere)
            line.append(Shown("", "; ".join(marks), marks=marks))
    return Grid(f"{caption}, {section.decoding}", tuple(heads), tuple(map(tuple, lines)))


def _scale(column: TableColumn, cells: Sequence[Cell]) -> tuple[float, float]:
    """What the ends of a cell's line stand for: 0 and 100 of a share, else the column's lowest and highest limit."""
    if "%" in column.title or "×100" in column.title:
        return 0.0, 100.0
    limits = [limit for cell in cells for limit in (cell.low, cell.value, cell.high) if limit is not None]
    return (min(limits), max(limits)) if limits else (0.0, 1.0)


def _cell(cell: Cell, column: TableColumn, usual: int, scale: tuple[float, float]) -> Shown:
    text = number(cell.value, column.digits)
    if cell.value is None:
        return Shown(text)
    small, whisker = "", None
    if column.with_interval:
        limits = [number(limit, column.digits) for limit in (cell.low, cell.high)]
        small = f"[{limits[0]}, {limits[1]}]" if cell.low is not None and cell.high is not None else f"[{NO_DATA}]"
        if cell.low is not None and cell.high is not None and scale[1] > scale[0]:
            places = (100 * (limit - scale[0]) / (scale[1] - scale[0]) for limit in (cell.low, cell.value, cell.high))
            whisker = Whisker(*(round(min(100.0, max(0.0, place)), 1) for place in places))
    if cell.n != usual:
        small = f"{small} n={cell.n}".strip()
    doubted = any(mark != ONE_SEED for mark in cell.marks)
    return Shown(text, f"{cell.value:.6g}", small, doubted=doubted, whisker=whisker)


def _paper(paper: Published | None) -> Shown:
    if paper is None:
        return Shown(NO_PAPER)
    sure = paper.certainty.replace("_", " ")
    if paper.value is None:
        return Shown(LETTERS[paper.certainty], small=sure)
    return Shown(str(paper.value), f"{paper.value:.6g}", f"({LETTERS[paper.certainty]}) {sure}")


def _differences(section: Section) -> Grid:
    heads = (
        Head("", numeric=False, first="ascending"),
        Head(f"{section.ranked_by} − {section.baseline}"),
        Head("p", first="ascending"),
        Head("p (Holm)", first="ascending"),
        Head("rank", first="ascending"),
    )
    lines = []
    for entry in section.differences:
        limits = f"[{number(entry.low, 1)}, {number(entry.high, 1)}]" if entry.low is not None else ""
        value = Shown("–") if entry.value is None else Shown(number(entry.value, 1), f"{entry.value:.6g}", limits)
        place, tie = str(entry.rank), "tie" * entry.ties_with_best
        rank = Shown("–") if entry.rank is None else Shown(place, place, tie)
        lines.append((Shown(entry.name, entry.name), value, _p_value(entry.p), _p_value(entry.p_holm), rank))
    return Grid(f"Differences from {section.baseline}, {section.decoding}", heads, tuple(lines))


def _p_value(p: float | None) -> Shown:
    if p is None:
        return Shown("–")
    return Shown("< 0.001" if p < 0.001 else number(p, 3), f"{p:.6g}")


def ledger_grid(entries: Iterable[LedgerRow]) -> Grid:
    """What each method spent, a row a quantity."""
    names: dict[str, None] = {}
    rows: dict[str, list[Shown]] = {}
    for entry, text in ledger_texts(entries):
        names[entry.name] = None
        order = "" if entry.low is None else f"{entry.low:.12g}"
        rows.setdefault(entry.quantity, []).append(Shown(text, order))
    heads = (Head("", numeric=False, first="ascending"), *(Head(name) for name in names))
    lines = tuple((Shown(quantity, quantity), *cells) for quantity, cells in rows.items())
    return Grid(SPENT, heads, lines)
