"""A table as data; `benchmarks.table_text` writes it down. Every number is in the unit of its column's title."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.published import Published

COLLAPSED = "collapsed"
UNLIKE_HUMAN = "unlike human text"
ONE_SEED = "one seed"
WEAK_JUDGE = "weak judge"
SHARED_JUDGE = "shared judge"
MISFIT = "rates do not fit †"
"""The only mark of a single cell, which shows it by its dagger."""

EXPLAINED = {
    COLLAPSED: (
        "not ranked: fewer than half of the replies are distinct; a judged share is then a verdict on a few sentences"
    ),
    UNLIKE_HUMAN: "not ranked: the nll a token lies outside the central 95 % of human replies",
    ONE_SEED: "not ranked: a claim about this model only; the interval covers other dialogues, not other seeds",
    WEAK_JUDGE: "not ranked: the AUC of the column's judge is below 0.70",
    MISFIT: "the judge passes more replies, or fewer, than its error rates on human text allow; it is cut off",
    SHARED_JUDGE: "not ranked: the judge is the guide that methods were trained or steered with, as in the paper",
}
"""What each mark says, for the legend."""

Kind = Literal["floor", "backbone", "method", "ceiling"]
MODELS: tuple[Kind, ...] = ("backbone", "method")
"""The kinds of rows that a model replied for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A number with its uncertainty. ``value`` None is "no data", never 0."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    """Prompts."""
    seeds: int = 0
    paper: Published | None = None
    """The paper's value; None when it has none for this row, this column or this decoding."""
    marks: tuple[str, ...] = ()
    """Keys of `EXPLAINED`. What is marked is not ranked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TableColumn:
    """What the cells of a column are."""

    key: str
    """``metric@prompts``, or the name of a quality of the same replies."""
    title: str
    """Names the unit."""
    digits: int
    higher_is_better: bool | None
    judged: bool = False
    with_paper: bool = False
    with_interval: bool = True
    weak: bool = False
    """Scored by a judge that can hardly tell the classes apart."""
    group: Literal["scores", "judges", "quality"] = "scores"
    """Which grid of a section it stands in: the scores, what others than the judge say, or what replies are like."""
    note: str = ""
    """What it measures, for the legend."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A method, or what it is compared to. ``cells`` follow the table's columns."""

    name: str
    kind: Kind
    cells: tuple[Cell, ...]
    marks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A row against the baseline, over the same prompts and seeds, in the column that ranks."""

    name: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    """Two-sided, of no difference."""
    p_holm: float | None = None
    """The same, adjusted for all rows of the section (Holm 1979)."""
    rank: int | None = None
    """1 is best; None for the baseline's reference row where it is marked, as for every row that is not ranked."""
    ties_with_best: bool = False
    """Cannot be told apart from the best row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """The rows of one way of decoding."""

    decoding: str
    description: str
    rows: tuple[Row, ...]
    ranking: str = ""
    """Key of the column that ranks."""
    differences: tuple[Difference, ...] = ()
    """Of backbone and methods to the baseline; empty without a baseline."""
    ranked_by: str = ""
    """Title of the column that ranks."""
    baseline: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerRow:
    """What one method spent of something; ``low`` and ``high`` over its seeds, None without a ledger entry."""

    quantity: str
    name: str
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeLine:
    """How far the judge of a metric can be believed, as a sentence and as the report that it is made of."""

    metric: str
    text: str
    report: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A table of the report, a pure function of stored scores."""

    title: str
    synthetic: bool
    preset: str
    columns: tuple[TableColumn, ...]
    sections: tuple[Section, ...]
    judges: tuple[JudgeLine, ...]
    notes: tuple[str, ...]
    ledger: tuple[LedgerRow, ...]

    def columns_of(self, group: str) -> list[int]:
        """Places of a grid's columns. What others than the judge say stands beside what the judge says, once more."""
        own = [index for index, column in enumerate(self.columns) if column.group == group]
        if group != "judges" or not own:
            return own
        judged = {judge.metric for judge in self.judges}
        return [index for index, column in enumerate(self.columns) if column.key.split("@")[0] in judged] + own

    def marks_of_all_rows(self) -> set[str]:
        """One seed in every row is said once, under the table."""
        rows = [row for section in self.sections for row in section.rows if row.kind in MODELS]
        filled = [row for row in rows if any(cell.value is not None for cell in row.cells)]
        return {ONE_SEED} if filled and all(ONE_SEED in row.marks for row in filled) else set()
