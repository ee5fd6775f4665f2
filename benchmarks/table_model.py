"""A table as data, and its three files: Markdown for people, CSV for spreadsheets, JSON for programs.

Every number is in the unit of its column's title and passes through `number` on its way out, so that equal scores
give equal bytes.
"""

from __future__ import annotations

import csv
import io
import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from benchmarks.published import LETTERS, Published
from evaluators.diversity import DISTINCT_TOKENS

SCHEMA, VERSION = "cringe.table", 2
CSV_HEADER = (
    *("table", "decoding", "row", "kind", "column", "value", "low", "high", "n", "seeds"),
    *("paper", "certainty", "marks", "generated_data", "baseline", "p", "p_holm", "rank", "ties_with_best"),
)
NO_DATA, NO_PAPER, NOTHING, MARKS = "n/a", "–", "–", "marks"
SPENT = "What was spent (a range where seeds differ; – where nothing of the kind was counted)"
"""Title of the ledgers."""

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

    def to_markdown(self) -> str:
        """GitHub's Markdown, aligned so that it reads in a terminal too."""
        parts = [f"## {escape(self.title)}{' (generated data)' if self.synthetic else ''}"]
        parts.append(_wrapped(f"Preset: {self.preset}. {self._sizes()} In brackets: 95 % intervals."))
        if self.synthetic:
            parts.append("**The data are generated: these numbers say nothing about human dialogue.**")
        everywhere = self.marks_of_all_rows()
        for section in self.sections:
            parts.append(f"### Decoding: {escape(section.decoding)}")
            parts.append(_wrapped(section.description))
            parts.append(self._grid_of(section, "scores", everywhere))
            parts.append(self._grid_of(section, "judges", everywhere))
            parts.append(self._grid_of(section, "quality", everywhere))
            parts.append(_differences(section))
        parts.extend(_wrapped(judge.text) for judge in self.judges)
        parts.append(_bullets(self._legend() + list(self.notes)))
        if self.ledger:
            parts.append(f"### {SPENT}")
            parts.append(_ledger_grid(self.ledger))
        return "\n\n".join(part for part in parts if part) + "\n"

    def to_csv(self) -> str:
        """One line a cell or ledger entry; empty fields where there is no data."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(CSV_HEADER)
        flag = str(self.synthetic).lower()
        for section in self.sections:
            for row in section.rows:
                for column, cell in zip(self.columns, row.cells, strict=True):
                    paper = cell.paper or Published(None, "")
                    writer.writerow(
                        ["scores", section.decoding, row.name, row.kind, column.title]
                        + [number(value, 4, "") for value in (cell.value, cell.low, cell.high)]
                        + [cell.n, cell.seeds, "" if paper.value is None else paper.value, paper.certainty]
                        + ["; ".join(cell.marks), flag, *[""] * 5]
                    )
            for difference in section.differences:
                writer.writerow(
                    ["differences", section.decoding, difference.name, "", section.ranked_by]
                    + [number(value, 4, "") for value in (difference.value, difference.low, difference.high)]
                    + [*[""] * 5, flag, section.baseline]
                    + [number(value, 6, "") for value in (difference.p, difference.p_holm)]
                    + ["" if difference.rank is None else difference.rank, str(difference.ties_with_best).lower()]
                )
        for entry in self.ledger:
            low, high = number(entry.low, 0, ""), number(entry.high, 0, "")
            value = low if low == high else ""
            spent = ["ledger", "", entry.name, "", entry.quantity, value, low, high, *[""] * 5, flag, *[""] * 5]
            writer.writerow(spent)
        return out.getvalue()

    def to_json(self) -> str:
        """Everything, with sorted keys; numbers rounded to six places."""
        content = {"schema": SCHEMA, "version": VERSION, "marks": EXPLAINED} | _plain(asdict(self))
        return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"

    def _sizes(self) -> str:
        """Prompts of each set and seeds, as the rows have them."""
        counts: dict[str, set[int]] = {}
        for index, column in enumerate(self.columns):
            cells = [row.cells[index] for section in self.sections for row in section.rows]
            _, at, prompts = column.key.partition("@")
            if at and column.group == "scores":
                counts.setdefault(prompts, set()).update(cell.n for cell in cells if cell.value is not None)
        sizes = [
            f"{name} {min(found)}" + (f"–{max(found)}" if len(found) > 1 else "")
            for name, found in counts.items()
            if found
        ]
        seeds = max((cell.seeds for part in self.sections for row in part.rows for cell in row.cells), default=0)
        said = f"Prompts: {', '.join(sizes)}" if sizes else "No scores"
        return f"{said}; seeds: {seeds}."

    def columns_of(self, group: str) -> list[int]:
        """Places of a grid's columns. What others than the judge say stands beside what the judge says, once more."""
        own = [index for index, column in enumerate(self.columns) if column.group == group]
        if group != "judges" or not own:
            return own
        judged = {judge.metric for judge in self.judges}
        return [index for index, column in enumerate(self.columns) if column.key.split("@")[0] in judged] + own

    def _grid_of(self, section: Section, group: str, everywhere: set[str]) -> str:
        """A grid of one way of decoding; the paper's columns only where the paper has anything to say."""
        shown = self.columns_of(group)
        if not shown:
            return ""
        paper = group == "scores" and any(cell.paper is not None for row in section.rows for cell in row.cells)
        usual = [max((row.cells[index].n for row in section.rows), default=0) for index in range(len(self.columns))]
        header = ["", *[text for index in shown for text in self._heads(self.columns[index], paper)]]
        lines = []
        for row in section.rows:
            texts = [escape(row.name)]
            for index in shown:
                column, cell = self.columns[index], row.cells[index]
                texts.append(_cell(cell, column, usual[index]))
                texts.extend([_paper(cell.paper)] * (column.with_paper and paper))
            said = (mark.removesuffix(" text") for mark in row.marks if mark not in everywhere)
            lines.append([*texts, "; ".join(said)] if group == "scores" else texts)
        return grid([*header, MARKS] if group == "scores" else header, lines)

    def _heads(self, column: TableColumn, paper: bool) -> list[str]:
        return [escape(column.title) + (" (weak)" if column.weak else ""), *["paper"] * (column.with_paper and paper)]

    def marks_of_all_rows(self) -> set[str]:
        """One seed in every row is said once, under the table."""
        rows = [row for section in self.sections for row in section.rows if row.kind in MODELS]
        filled = [row for row in rows if any(cell.value is not None for cell in row.cells)]
        return {ONE_SEED} if filled and all(ONE_SEED in row.marks for row in filled) else set()

    def _legend(self) -> list[str]:
        rows = [row for section in self.sections for row in section.rows]
        present = {mark for row in rows for mark in row.marks}
        present |= {mark for row in rows for cell in row.cells for mark in cell.marks}
        lines = [f"{mark}: {text}." for mark, text in EXPLAINED.items() if mark in present]
        if ONE_SEED in self.marks_of_all_rows():
            lines = [line.replace(f"{ONE_SEED}:", f"{ONE_SEED} in every row:") for line in lines]
        lines += [f"{column.title}: {column.note}" for column in self.columns if column.note]
        if any(cell.value is None for row in rows for cell in row.cells):
            lines.append(f"{NO_DATA}: no data; of distinct-n: fewer than {DISTINCT_TOKENS:,} words.")
        return lines


def number(value: float | None, digits: int, missing: str = NO_DATA, *, grouped: bool = False) -> str:
    """The one place where a number becomes text; what rounds to zero has no sign."""
    if value is None:
        return missing
    if digits and abs(value) >= 1e9:  # the perplexity of a model that went astray
        return f"{value:.{digits}e}"
    text = f"{value:,.{digits}f}" if grouped else f"{value:.{digits}f}"
    return text.removeprefix("-") if not text.strip("-0.") else text


def escape(text: str) -> str:
    """Text that stays text inside a Markdown table: no new cells, lines, markup or HTML."""
    flat = " ".join(text.split())
    return re.sub(r"([\\|`*<>])", r"\\\1", flat)


def _cell(cell: Cell, column: TableColumn, usual: int) -> str:
    """A value, its interval, and its number of prompts where that is not what the column has elsewhere."""
    value = number(cell.value, column.digits) + "†" * (MISFIT in cell.marks)
    if cell.value is None or not column.with_interval:
        return value
    fewer = f" n={cell.n}" if cell.n != usual else ""
    if cell.low is None or cell.high is None:
        return f"{value} [{NO_DATA}]{fewer}"
    return f"{value} [{number(cell.low, column.digits)}, {number(cell.high, column.digits)}]{fewer}"


def _differences(section: Section) -> str:
    """The section's rows against the baseline."""
    if not section.differences:
        return ""
    ranked = [
        "" if entry.rank is None else f"{entry.rank}{' (tie)' * entry.ties_with_best}" for entry in section.differences
    ]
    if not section.baseline:
        lines = [[escape(entry.name), rank or "–"] for entry, rank in zip(section.differences, ranked, strict=True)]
        return grid(["", f"rank by {escape(section.ranked_by)}"], lines)
    lines = []
    for entry, rank in zip(section.differences, ranked, strict=True):
        limits = f" [{number(entry.low, 1)}, {number(entry.high, 1)}]" if entry.low is not None else ""
        value = "–" if entry.value is None else f"{number(entry.value, 1)}{limits}"
        lines.append([escape(entry.name), value, p_text(entry.p), p_text(entry.p_holm), rank or "–"])
    header = ["", f"{section.ranked_by} − {section.baseline}", "p", "p (Holm)", "rank"]
    return grid([escape(head) for head in header], lines)


def p_text(p: float | None) -> str:
    """A p-value as text."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else number(p, 3)


def _paper(paper: Published | None) -> str:
    if paper is None:
        return NO_PAPER
    letter = LETTERS[paper.certainty]
    return letter if paper.value is None else f"{paper.value} ({letter})"


def grid(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A pipe table: the first column to the left, numbers to the right, marks to the left.

    Written out because tabulate measures text otherwise where wcwidth is installed, and pads headers by two.
    """
    right = [index > 0 and title != MARKS for index, title in enumerate(header)]
    widths = [max(3, *(len(line[index]) for line in (header, *lines))) for index in range(len(header))]
    rule = [
        f"{'-' * (width - 1)}:" if numbers else f":{'-' * (width - 1)}"
        for width, numbers in zip(widths, right, strict=True)
    ]
    padded = (
        [
            text.rjust(width) if numbers else text.ljust(width)
            for text, width, numbers in zip(line, widths, right, strict=True)
        ]
        for line in (header, rule, *lines)
    )
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def _ledger_grid(entries: Iterable[LedgerRow]) -> str:
    rows: dict[str, list[str]] = {}
    names: dict[str, None] = {}
    for entry, text in ledger_texts(entries):
        rows.setdefault(entry.quantity, []).append(text)
        names[entry.name] = None
    lines = [[escape(quantity), *texts] for quantity, texts in rows.items()]
    return grid(["", *map(escape, names)], lines)


def ledger_texts(entries: Iterable[LedgerRow]) -> Iterator[tuple[LedgerRow, str]]:
    """Each entry and how it is shown: what a method did not spend is a dash, n/a that of one with no ledger at all."""
    entries = list(entries)
    counted = {entry.name for entry in entries if entry.low is not None}
    for entry in entries:
        missing = NOTHING if entry.name in counted else NO_DATA
        low, high = (number(value, 0, missing, grouped=True) for value in (entry.low, entry.high))
        yield entry, low if low == high else f"{low}–{high}"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(_wrapped(f"- {line}", "  ") for line in lines)


def _wrapped(line: str, indent: str = "") -> str:
    """One paragraph, in lines that fit a terminal."""
    return textwrap.fill(escape(line), 118, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _plain(value: object) -> Any:  # noqa: ANN401
    """JSON's own types, tuples as lists, floats rounded."""
    if isinstance(value, Published):
        return _plain(value._asdict())
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return round(value, 6) + 0.0 if isinstance(value, float) else value
