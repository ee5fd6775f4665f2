"""Does the paper's order hold? Ranks, pairs of methods, rounds, and judge against guide, from stored scores alone.

What is compared is methods: the backbone, floors and ceilings are none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from benchmarks.assemble import Inputs
from benchmarks.comparisons import UNRANKED, scaled
from benchmarks.measures import AND_FLUENT
from benchmarks.order_rounds import Step, steps
from benchmarks.order_scores import Scored, Shared, bounded, difference, set_scores, shared, verdict
from benchmarks.published import Published
from benchmarks.rebuild import Built
from benchmarks.table_inputs import TableMeta
from benchmarks.table_model import Row, Section, Table, TableColumn
from evaluators.agreement import LEAST_METHODS, Agreement, agreement_between, agreement_with
from evaluators.paired import holm

STRICTER = (AND_FLUENT, "_by_guide", "_by_second")
"""Ends of metrics that judge the same replies otherwise, each held against the paper's judged values, too."""
OTHERS = STRICTER[1:]
"""Of them, what another than the judge says."""
FIGURE_ERROR = 0.2
"""Points by which a value that was read off a figure may be off; values that differ by less than twice this are not
ordered if either was."""


class Ordered(NamedTuple):
    """How well the methods' order in a column agrees with another one."""

    decoding: str
    column: TableColumn
    against: str
    """Title of the other column; empty: the paper's values."""
    marked_out: bool
    """Without methods whose numbers are marked, and so are not ranked?"""
    names: tuple[str, ...]
    """Of the methods compared."""
    marked: tuple[str, ...]
    """Marked methods: among them, or left out."""
    unknown: tuple[str, ...]
    """Left out: what the paper has for them is not known, or nothing."""
    without: tuple[str, ...]
    """Left out: without scores in this column, or in the other."""
    sure: tuple[str, ...]
    """How sure the paper's values are, one a name; keys of `benchmarks.published.LETTERS`."""
    found: Agreement | None


class Claim(NamedTuple):
    """Two methods that the paper's numbers order, the better one first, and what is measured of them."""

    decoding: str
    column: TableColumn
    first: str
    second: str
    paper: tuple[Published, Published]
    """Of the first and the second."""
    value: float
    """First minus second, in points; so are the limits."""
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    """Adjusted for all pairs of this decoding and column."""
    n: int
    seeds: int
    marks: tuple[str, ...]
    """Of either method: what keeps it from being ranked."""

    @property
    def verdict(self) -> str:
        """Does the paper's order of the two hold?"""
        return verdict(self.value, self.p_holm, "holds", "reversed")


class Claims(NamedTuple):
    """The pairs of methods in one column."""

    decoding: str
    column: TableColumn
    pairs: tuple[Claim, ...]
    unordered: int
    """Pairs left out: the paper's values are equal, or too close for how sure they are."""

    def counts(self, *, marked: bool) -> dict[str, int]:
        """Pairs by verdict; without those of marked methods, if so asked."""
        kept = [pair.verdict for pair in self.pairs if marked or not pair.marks]
        return {name: kept.count(name) for name in ("holds", "reversed", "undecided")}

    def uncorrected(self, *, marked: bool) -> dict[str, int]:
        """The same by each pair's own p, as if it were the only one."""
        kept = [verdict(pair.value, pair.p, "holds", "reversed") for pair in self.pairs if marked or not pair.marks]
        return {name: kept.count(name) for name in ("holds", "reversed")}


class Order(NamedTuple):
    """What a table says of the paper's order; empty where it has nothing to say."""

    ordered: tuple[Ordered, ...]
    """Against the paper's."""
    claims: tuple[Claims, ...]
    steps: tuple[Step, ...]
    judges: tuple[Ordered, ...]
    """The judge's order against that of others."""


def analyse(built: Built) -> Order:
    """All that a table's stored scores say of the paper's order. Equal scores give an equal analysis.

    A report asks for it twice, for its files and for its page: the last few are kept.
    """
    for table, inputs, found in _KEPT:
        if table is built.table and inputs is built.inputs:
            return found
    scored, table, meta = Scored(built), built.table, built.inputs.meta
    usual = table.marks_of_all_rows()
    ordered: list[Ordered] = []
    claims: list[Claims] = []
    judges: list[Ordered] = []
    for section in table.sections:
        place = _Place(scored, section, table.columns, UNRANKED - usual)
        for column, paper in _claimed(table.columns, built, meta):
            ordered += _against_paper(place, column, paper)
            if not column.key.split("@")[0].endswith(OTHERS):
                claims += _claims(place, column, paper)
        for column, other in _other_judges(table.columns, built):
            judges += _between(place, column, other)
    found = Order(tuple(ordered), tuple(claims), tuple(steps(built, scored)), tuple(judges))
    _KEPT.append((table, built.inputs, found))
    del _KEPT[:-_MOST_KEPT]
    return found


_KEPT: list[tuple[Table, Inputs, Order]] = []
_MOST_KEPT = 8
"""Tables: those of a usual report."""


_AgreementOf = Callable[[Sequence[str]], Agreement | None]
"""Of methods by name."""


class _Place(NamedTuple):
    """A way of decoding."""

    scored: Scored
    section: Section
    columns: Sequence[TableColumn]
    doubts: frozenset[str]
    """Marks that keep a number from being ranked, but for what marks every row."""

    def methods(self) -> list[Row]:
        return [row for row in self.section.rows if row.kind == "method"]

    def marks(self, row: Row, column: TableColumn) -> tuple[str, ...]:
        cell = row.cells[self.columns.index(column)]
        return tuple(mark for mark in dict.fromkeys((*row.marks, *cell.marks)) if mark in self.doubts)


def _claimed(
    columns: Iterable[TableColumn], built: Built, meta: TableMeta
) -> Iterator[tuple[TableColumn, Mapping[str, Published]]]:
    """The columns that the paper has values for, each with them by row; a stricter one has those of the judged one."""
    for column in columns:
        metric, at, prompts = column.key.partition("@")
        plain = next((name for name in built.inputs.judges for end in STRICTER if metric == name + end), metric)
        if meta.paper is None or not at:
            continue
        found = {name: meta.paper.lookup(name, plain, prompts) for name in meta.expected}
        values = {name: value for name, value in found.items() if value is not None}
        if any(value.value is not None for value in values.values()):
            yield column, values


def _other_judges(columns: Sequence[TableColumn], built: Built) -> Iterator[tuple[TableColumn, TableColumn]]:
    """Each judged column with each in which another classifier judges the same replies."""
    by_key = {column.key: column for column in columns}
    for column in columns:
        metric, _, prompts = column.key.partition("@")
        if metric in built.inputs.judges:
            for end in OTHERS:
                if other := by_key.get(f"{metric}{end}@{prompts}"):
                    yield column, other


def _against_paper(place: _Place, column: TableColumn, paper: Mapping[str, Published]) -> Iterator[Ordered]:
    rows = place.methods()
    known = [row for row in rows if (value := paper.get(row.name)) is not None and value.value is not None]
    unknown = tuple(row.name for row in rows if row not in known)

    def agreement(names: Sequence[str]) -> Agreement | None:
        found = _shared(place, names, column)
        return agreement_with(set_scores(found), [paper[name].value or 0.0 for name in names]) if found else None

    for one in _both_ways(place, known, (column,), agreement):
        yield one._replace(unknown=unknown, sure=tuple(paper[name].certainty for name in one.names))


def _between(place: _Place, column: TableColumn, other: TableColumn) -> Iterator[Ordered]:
    def agreement(names: Sequence[str]) -> Agreement | None:
        both = _shared(place, names, column, other)
        if not both:
            return None
        half = len(names)
        first, second = (
            [one._replace(values=one.values[part], replies=one.replies[part]) for one in both]
            for part in (np.s_[:half], np.s_[half:])
        )
        return agreement_between(set_scores(first), set_scores(second))

    for one in _both_ways(place, place.methods(), (column, other), agreement):
        yield one._replace(against=other.title)


def _both_ways(
    place: _Place, rows: Sequence[Row], columns: Sequence[TableColumn], agreement: _AgreementOf
) -> Iterator[Ordered]:
    """Over all methods with scores, if they are enough; and, where some of them are marked, over the others."""
    there = [row for row in rows if all(place.scored.answers(*_where(place, row.name, column)) for column in columns)]
    if len(there) < LEAST_METHODS:
        return
    without = tuple(row.name for row in rows if row not in there)
    marked = [row for row in there if any(place.marks(row, column) for column in columns)]
    for out in (False, True) if marked else (False,):
        names = tuple(row.name for row in there if not (out and row in marked))
        yield Ordered(
            decoding=place.section.decoding,
            column=columns[0],
            against="",
            marked_out=out,
            names=names,
            marked=tuple(row.name for row in marked),
            unknown=(),
            without=without,
            sure=(),
            found=agreement(names),
        )


def _where(place: _Place, name: str, column: TableColumn) -> tuple[tuple[str, int | None], str, str]:
    return (name, None), place.section.decoding, column.key


def _shared(place: _Place, names: Sequence[str], *columns: TableColumn) -> list[Shared]:
    """The scores of methods, column by column."""
    return shared([place.scored.answers(*_where(place, name, column)) for column in columns for name in names])


def _claims(place: _Place, column: TableColumn, paper: Mapping[str, Published]) -> Iterator[Claims]:
    """What is measured of each pair that the paper orders."""
    rows = {row.name: row for row in place.methods() if place.scored.answers(*_where(place, row.name, column))}
    known = [name for name in rows if name in paper and paper[name].value is not None]
    pairs: list[Claim] = []
    unordered = 0
    for pair in combinations(known, 2):
        first, second = sorted(pair, key=lambda name: -(paper[name].value or 0.0))
        if not _orders(paper[first], paper[second]):
            unordered += 1
            continue
        found = _shared(place, (first, second), column)
        if not found:
            continue
        apart = difference(found, proportion=bounded(column.key.split("@")[0]))
        value, low, high = scaled(apart, 100.0, furthest=100.0)
        pairs.append(
            Claim(
                decoding=place.section.decoding,
                column=column,
                first=first,
                second=second,
                paper=(paper[first], paper[second]),
                value=value,
                low=low,
                high=high,
                p=apart.p,
                p_holm=None,
                n=apart.n,
                seeds=apart.seeds,
                marks=tuple(dict.fromkeys(place.marks(rows[first], column) + place.marks(rows[second], column))),
            )
        )
    adjusted = holm({str(index): pair.p for index, pair in enumerate(pairs) if pair.p is not None})
    kept = [pair._replace(p_holm=adjusted.get(str(index))) for index, pair in enumerate(pairs)]
    if kept or unordered:
        yield Claims(place.section.decoding, column, tuple(kept), unordered)


def _orders(first: Published, second: Published) -> bool:
    """Does the paper say that the first is better? Not where a value read off a figure may be as far off."""
    apart = (first.value or 0.0) - (second.value or 0.0)
    read_off = "figure" in (first.certainty, second.certainty)
    return apart > 1e-9 and not (read_off and apart < 2 * FIGURE_ERROR - 1e-9)
