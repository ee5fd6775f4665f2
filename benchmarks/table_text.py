"""A table's three files: Markdown for people, CSV for spreadsheets, JSON for programs.

Every number passes through `number` on its way out, so that equal scores give equal bytes.
"""

from __future__ import annotations

import csv
import io
import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.published import LETTERS, Published
from benchmarks.table_model import EXPLAINED, MISFIT, ONE_SEED, Cell, LedgerRow, Section, Table, TableColumn
from evaluators.diversity import DISTINCT_TOKENS

SCHEMA, VERSION = "cringe.table", 2
CSV_HEADER = (
    *("table", "decoding", "row", "kind", "column", "value", "low", "high", "n", "seeds"),
    *("paper", "certainty", "marks", "generated_data", "baseline", "p", "p_holm", "rank", "ties_with_best"),
)
NO_DATA, NO_PAPER, NOTHING, MARKS = "n/a", "–", "–", "marks"
SPENT = "What was spent (a range where seeds differ; – where nothing of the kind was counted)"
"""Title of the ledgers."""


def files(table: Table) -> dict[str, str]:
    """The table's files, by the ends of their names."""
    return {".md": to_markdown(table), ".csv": to_csv(table), ".json": to_json(table)}


def to_markdown(table: Table) -> str:
    """GitHub's Markdown, aligned so that it reads in a terminal too."""
    parts = [f"## {escape(table.title)}{' (generated data)' if table.synthetic else ''}"]
    parts.append(_wrapped(f"Preset: {table.preset}. {_sizes(table)} In brackets: 95 % intervals."))
    if table.synthetic:
        parts.append("**The data are generated: these numbers say nothing about human dialogue.**")
    everywhere = table.marks_of_all_rows()
    for section in table.sections:
        parts.append(f"### Decoding: {escape(section.decoding)}")
        parts.append(_wrapped(section.description))
        parts.append(_grid_of(table, section, "scores", everywhere))
        parts.append(_grid_of(table, section, "judges", everywhere))
        parts.append(_grid_of(table, section, "quality", everywhere))
        parts.append(_differences(section))
    parts.extend(_wrapped(judge.text) for judge in table.judges)
    parts.append(_bullets(_legend(table) + list(table.notes)))
    if table.ledger:
        parts.append(f"### {SPENT}")
        parts.append(_ledger_grid(table.ledger))
    return "\n\n".join(part for part in parts if part) + "\n"


def to_csv(table: Table) -> str:
    """One line a cell or ledger entry; empty fields where there is no data."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_HEADER)
    flag = str(table.synthetic).lower()
    for section in table.sections:
        for row in section.rows:
            for column, cell in zip(table.columns, row.cells, strict=True):
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
    for entry in table.ledger:
        low, high = number(entry.low, 0, ""), number(entry.high, 0, "")
        value = low if low == high else ""
        spent = ["ledger", "", entry.name, "", entry.quantity, value, low, high, *[""] * 5, flag, *[""] * 5]
        writer.writerow(spent)
    return out.getvalue()


def to_json(table: Table) -> str:
    """Everything, with sorted keys; numbers rounded to six places."""
    content = {"schema": SCHEMA, "version": VERSION, "marks": EXPLAINED} | _plain(asdict(table))
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _sizes(table: Table) -> str:
    """Prompts of each set and seeds, as the rows have them."""
    counts: dict[str, set[int]] = {}
    for index, column in enumerate(table.columns):
        cells = [row.cells[index] for section in table.sections for row in section.rows]
        _, at, prompts = column.key.partition("@")
        if at and column.group == "scores":
            counts.setdefault(prompts, set()).update(cell.n for cell in cells if cell.value is not None)
    sizes = [
        f"{name} {min(found)}" + (f"–{max(found)}" if len(found) > 1 else "") for name, found in counts.items() if found
    ]
    seeds = max((cell.seeds for part in table.sections for row in part.rows for cell in row.cells), default=0)
    said = f"Prompts: {', '.join(sizes)}" if sizes else "No scores"
    return f"{said}; seeds: {seeds}."


def _grid_of(table: Table, section: Section, group: str, everywhere: set[str]) -> str:
    """A grid of one way of decoding; the paper's columns only where the paper has anything to say."""
    shown = table.columns_of(group)
    if not shown:
        return ""
    paper = group == "scores" and any(cell.paper is not None for row in section.rows for cell in row.cells)
    usual = [max((row.cells[index].n for row in section.rows), default=0) for index in range(len(table.columns))]
    header = ["", *[text for index in shown for text in _heads(table.columns[index], paper)]]
    lines = []
    for row in section.rows:
        texts = [escape(row.name)]
        for index in shown:
            column, cell = table.columns[index], row.cells[index]
            texts.append(_cell(cell, column, usual[index]))
            texts.extend([_paper(cell.paper)] * (column.with_paper and paper))
        said = (mark.removesuffix(" text") for mark in row.marks if mark not in everywhere)
        lines.append([*texts, "; ".join(said)] if group == "scores" else texts)
    return grid([*header, MARKS] if group == "scores" else header, lines)


def _heads(column: TableColumn, paper: bool) -> list[str]:
    return [escape(column.title) + (" (weak)" if column.weak else ""), *["paper"] * (column.with_paper and paper)]


def _legend(table: Table) -> list[str]:
    rows = [row for section in table.sections for row in section.rows]
    present = {mark for row in rows for mark in row.marks}
    present |= {mark for row in rows for cell in row.cells for mark in cell.marks}
    lines = [f"{mark}: {text}." for mark, text in EXPLAINED.items() if mark in present]
    if ONE_SEED in table.marks_of_all_rows():
        lines = [line.replace(f"{ONE_SEED}:", f"{ONE_SEED} in every row:") for line in lines]
    lines += [f"{column.title}: {column.note}" for column in table.columns if column.note]
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
