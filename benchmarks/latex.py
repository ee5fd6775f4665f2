"""A table for a paper: LaTeX with booktabs, methods down, scores across, the paper's value beside each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from benchmarks.published import LETTERS, Published
from benchmarks.table_model import EXPLAINED, Cell, Row, Section, Table, TableColumn
from benchmarks.table_text import NO_DATA, number

SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "[": "{[}",  # at the beginning of a line it would belong to the \\ before it, and so would a star
    "]": "{]}",
    "*": "{*}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "×": r"$\times$",
    "÷": r"$\div$",
    "Σ": r"$\Sigma$",
    "−": "$-$",
    "α": r"$\alpha$",
    "γ": r"$\gamma$",
    "λ": r"$\lambda$",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
}
SIGNS = {mark: chr(ord("a") + place) for place, mark in enumerate(EXPLAINED)}
"""Raised behind a row's name, for each of its marks."""


def escaped(text: str) -> str:
    """Text that LaTeX sets as it is: no commands, no new cells; what its fonts lack is written as its code point."""
    return re.sub(r"-{2,}|.", lambda found: _character(found[0]), " ".join(text.split()))


def to_latex(table: Table, name: str) -> str:
    """The table: a float for each way of decoding, then what is to be said of all of them.

    Args:
        table: its columns of scores are shown, and what the guide says, not the further qualities of the replies.
        name: for the labels; safe as a file name.
    """
    shown = [index for index, column in enumerate(table.columns) if _is_shown(column)]
    parts = [r"% Needs \usepackage{booktabs}, and \usepackage[T1]{fontenc} for names with accents."]
    parts += [_float(table, section, shown, f"tab:{name}-{place}") for place, section in enumerate(table.sections, 1)]
    columns = [table.columns[index] for index in shown]
    said = [*(judge.text for judge in table.judges)]
    said += [*(f"{column.title}: {column.note}" for column in columns if column.note), *table.notes]
    parts.append("\n".join([r"{\footnotesize", *(rf"\noindent {escaped(line)}\par" for line in said), "}"]))
    return "\n\n".join(parts) + "\n"


def _is_shown(column: TableColumn) -> bool:
    """The guide's column beside the judge's shows at a glance who has learnt to please the guide."""
    metric, at, _ = column.key.partition("@")
    return bool(at) and (column.group == "scores" or metric.endswith("_by_guide"))


def document(files: Sequence[str]) -> str:
    """A document of nothing but tables.

    Args:
        files: their paths, with forward slashes and without special characters.
    """
    lines = [
        r"\documentclass{article}",
        r"\usepackage[T1]{fontenc}",
        r"\usepackage[a4paper,landscape,margin=15mm]{geometry}",
        r"\usepackage{booktabs}",
        r"\begin{document}",
        *(rf"\input{{{file}}}\clearpage" for file in files),
        r"\end{document}",
    ]
    return "\n".join(lines) + "\n"


def _character(text: str) -> str:
    """One character, or a row of hyphens, which must not become a dash."""
    if len(text) > 1:
        return "{}".join(text)
    if text in SPECIAL:
        return SPECIAL[text]
    if " " <= text <= "~" or "À" <= text <= "ÿ":
        return text
    return f"{{[}}U+{ord(text):04X}{{]}}"


def _float(table: Table, section: Section, shown: Sequence[int], label: str) -> str:
    """One way of decoding."""
    paper = any(row.cells[index].paper is not None for row in section.rows for index in shown)
    columns = [table.columns[index] for index in shown]
    with_paper = [column.with_paper and paper for column in columns]
    generated = " (generated data: these numbers say nothing about human dialogue)" if table.synthetic else ""
    caption = f"{table.title}{generated}. Preset: {table.preset}. Decoding: {section.decoding}: {section.description}."
    lines = [
        r"\begin{table}[htbp]",
        r"\centering",
        rf"\caption{{{escaped(caption)}}}",
        rf"\label{{{label}}}",
        r"\par\smallskip",
        r"\small",
        rf"\begin{{tabular}}{{l{'r' * (len(columns) + sum(with_paper))}}}",
        r"\toprule",
        *_heads(columns, with_paper),
    ]
    best = {entry.name for entry in section.differences if entry.rank == 1 or entry.ties_with_best}
    for _, rows in groupby(section.rows, key=lambda row: row.kind):
        lines.append(r"\midrule")
        for row in rows:
            texts = [_name(row)]
            for index, column, beside in zip(shown, columns, with_paper, strict=True):
                bold = row.name in best and column.key == section.ranking
                texts.append(_value(row.cells[index], column, bold=bold))
                texts += [_paper(row.cells[index].paper)] * beside
            lines.append(" & ".join(texts) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", r"\par\smallskip"]
    lines += [rf"\parbox{{0.95\linewidth}}{{\footnotesize {_legend(section, shown, bold=bool(best), paper=paper)}}}"]
    return "\n".join([*lines, r"\end{table}"])


def _heads(columns: Sequence[TableColumn], with_paper: Sequence[bool]) -> list[str]:
    """Titles; where the paper's values stand beside ours, a second line says which is which."""
    titles, under, rules, place = [""], [""], [], 2
    for column, beside in zip(columns, with_paper, strict=True):
        title = escaped(column.title) + (" (weak)" if column.weak else "")
        titles.append(rf"\multicolumn{{{1 + beside}}}{{c}}{{{title}}}")
        under += ["ours", "paper"] if beside else [""]
        rules += [rf"\cmidrule(lr){{{place}-{place + 1}}}"] if beside else []
        place += 1 + beside
    lines = [" & ".join(titles) + r" \\"]
    return [*lines, "".join(rules), " & ".join(under) + r" \\"] if rules else lines


def _name(row: Row) -> str:
    signs = ",".join(sign for mark, sign in SIGNS.items() if mark in row.marks)
    return escaped(row.name) + (rf"\textsuperscript{{{signs}}}" if signs else "")


def _value(cell: Cell, column: TableColumn, *, bold: bool) -> str:
    """A value and, small, its interval."""
    value = escaped(number(cell.value, column.digits))
    text = rf"\textbf{{{value}}}" if bold else value
    if cell.value is None or not column.with_interval:
        return text
    low, high = (number(limit, column.digits) for limit in (cell.low, cell.high))
    return text + rf" {{\scriptsize {escaped(f'[{low}, {high}]' if cell.low is not None else f'[{NO_DATA}]')}}}"


def _paper(paper: Published | None) -> str:
    if paper is None:
        return "--"
    letter = LETTERS[paper.certainty]
    return letter if paper.value is None else f"{paper.value} ({letter})"


def _legend(section: Section, shown: Sequence[int], *, bold: bool, paper: bool) -> str:
    """What brackets, signs, letters and bold figures mean."""
    present = {mark for row in section.rows for mark in (*row.marks, *(m for i in shown for m in row.cells[i].marks))}
    parts = [escaped("In brackets: 95 % intervals.")]
    if bold:
        parts.append(
            escaped(f"Bold: the best row by {section.ranked_by}, and those that cannot be told apart from it.")
        )
    if paper:
        parts.append("Behind the paper's values: how sure they are; ? not known from anything that could be read.")
    for mark, text in EXPLAINED.items():
        if mark in present:
            sign = rf"\textsuperscript{{{SIGNS[mark]}}} " if any(mark in row.marks for row in section.rows) else ""
            parts.append(sign + escaped(f"{mark}: {text}."))
    if any(row.cells[index].value is None for row in section.rows for index in shown):
        parts.append(escaped(f"{NO_DATA}: no data."))
    return " ".join(parts)
