"""The analysis of the paper's order, as the page's template takes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.order import analyse
from benchmarks.order_text import grids, notes, sentences
from benchmarks.page_grids import Grid, Head, Shown
from benchmarks.rebuild import Built

WORDS = frozenset(
    {"", "column", "methods", "pair", "comparison", "number", "judge", "other", "verdict", "marks", "left out"}
    | {"pairs", "paper", "paper's values"}
)
"""Heads of columns that hold words, and are sorted as such."""


class OrderView(NamedTuple):
    """Sentences first, then the tables that they come from."""

    sentences: tuple[str, ...]
    grids: tuple[Grid, ...]
    notes: tuple[str, ...]


def order_view(built: Built) -> OrderView | None:
    """What a table says of the paper's order; None where it says nothing."""
    found = analyse(built)
    if not any(found):
        return None
    shown = tuple(_grid(heading, header, lines) for heading, header, lines in grids(found))
    return OrderView(tuple(sentences(found)), shown, tuple(notes(built, found)))


def _grid(heading: str, header: Sequence[str], lines: Sequence[Sequence[str]]) -> Grid:
    heads = tuple(Head(title or "decoding", first="ascending", numeric=title not in WORDS) for title in header)
    cells = tuple(
        tuple(_shown(text, numeric=head.numeric) for text, head in zip(line, heads, strict=True)) for line in lines
    )
    return Grid(heading, heads, cells)


def _shown(text: str, *, numeric: bool) -> Shown:
    """A text; a number is sorted by its value, and its interval stands small below it."""
    if not numeric:
        return Shown(text, text)
    value, bracket, limits = text.partition(" [")
    return Shown(value, _order(value), bracket.strip() + limits)


def _order(text: str) -> str:
    """What a number is sorted by; empty where there is none."""
    plain = text.removeprefix("< ").removeprefix("+")
    try:
        return f"{float(plain):.6g}"
    except ValueError:
        return ""
