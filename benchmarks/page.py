"""The report's page: one HTML file that holds all it needs, for any browser, with or without a network.

What people or models wrote goes into the page as data and is shown as text; a policy in its head forbids every script
and style but the page's own, and every request.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.page_grids import Grid, grids, ledger_grid
from benchmarks.page_order import OrderView, order_view
from benchmarks.page_plots import inline_svg
from benchmarks.page_reader import read
from benchmarks.table_model import EXPLAINED, Row, Table
from benchmarks.table_text import NO_DATA
from benchmarks.writing import write_whole

if TYPE_CHECKING:
    from benchmarks.rebuild import Built

TEMPLATES = Path(__file__).parent / "templates"
FILE = "index.html"


class Part(NamedTuple):
    """The rows of one way of decoding."""

    anchor: str
    decoding: str
    description: str
    grids: tuple[Grid, ...]


class View(NamedTuple):
    """A table, as the template takes it."""

    anchor: str
    title: str
    name: str
    preset: str
    synthetic: bool
    seeds: str
    parts: tuple[Part, ...]
    judges: tuple[str, ...]
    marks: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    ledger: Grid | None
    order: OrderView | None
    """Does the paper's order hold?"""
    plots: tuple[tuple[str, str], ...]
    """Title, and SVG that is safe as it is."""


def write_page(
    built: Sequence[Built], plots: Mapping[str, Sequence[tuple[str, str]]], out: Path, *, text: bool
) -> Path:
    """Write the page of a report.

    Args:
        built: the tables, in their order.
        plots: of each table by its name, titles and SVG documents that this package drew.
        out: the folder of the report.
        text: show contexts and replies; without them the reader shows scores only.

    Returns:
        The file. Equal tables, plots and predictions give equal bytes.
    """
    path = out / FILE
    write_whole(path, render(built, plots, text=text).encode("utf-8", "replace"))
    return path


def render(built: Sequence[Built], plots: Mapping[str, Sequence[tuple[str, str]]], *, text: bool) -> str:
    """The page as HTML; see `write_page`."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    views = [_view(f"table-{index}", entry, plots.get(entry.name, ())) for index, entry in enumerate(built, start=1)]
    reader = read(built, text=text)
    return environment.get_template("page.html").render(
        policy=_policy(style, script),
        style=style,
        script=script,
        views=views,
        generated=[view.title for view in views if view.synthetic],
        reader=reader,
        text=text,
    )


def _policy(style: str, script: str) -> str:
    """The content security policy: this style, this script, nothing else from anywhere."""
    hashes = [base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in (style, script)]
    return (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _view(anchor: str, entry: Built, plots: Sequence[tuple[str, str]]) -> View:
    table = entry.table
    everywhere = table.marks_of_all_rows()
    present = {
        mark for row in _rows(table) for marks in (row.marks, *(cell.marks for cell in row.cells)) for mark in marks
    }
    marks = [
        (f"{mark}, in every row" if mark in everywhere else mark, sentence)
        for mark, sentence in EXPLAINED.items()
        if mark in present
    ]
    if any(cell.value is None for row in _rows(table) for cell in row.cells):
        marks.append((NO_DATA, "no data"))
    columns = [f"{column.title}: {column.note}" for column in table.columns if column.note]
    return View(
        anchor=anchor,
        title=table.title,
        name=entry.name,
        preset=table.preset,
        synthetic=table.synthetic,
        seeds=", ".join(map(str, entry.inputs.meta.seeds)),
        parts=tuple(
            Part(
                anchor=f"{anchor}-{index}",
                decoding=section.decoding,
                description=section.description,
                grids=tuple(grids(table, section, everywhere)),
            )
            for index, section in enumerate(table.sections, start=1)
        ),
        judges=tuple(judge.text for judge in table.judges),
        marks=tuple(marks),
        notes=(*columns, *table.notes),
        ledger=ledger_grid(table.ledger) if table.ledger else None,
        order=order_view(entry),
        plots=tuple(
            (title, inline_svg(svg, f"{anchor}-plot-{place}", title)) for place, (title, svg) in enumerate(plots, 1)
        ),
    )


def _rows(table: Table) -> list[Row]:
    return [row for section in table.sections for row in section.rows]
