"""What is said around a table: judges, the paper, gaps, and what each method spent."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.measures import AND_FLUENT, CORRECTED, LEAST_HUMAN, HumanRange
from benchmarks.published import LETTERS
from benchmarks.table_inputs import JudgeReport, RunScores, TableMeta, is_weak
from benchmarks.table_model import MODELS, JudgeLine, LedgerRow, Row, Section, TableColumn
from benchmarks.table_text import NO_PAPER

LEDGER_PARTS = (
    "updates",
    "examples",
    "target_tokens",
    "forward_passes",
    "backward_passes",
    "generated_tokens",
    "auxiliary",
)
"""Entries of a ledger that are equal in equal runs; seconds and memory are not, and stay out of the table."""
VIEWS = {
    "response": "the reply alone",
    "last_turn": "the last turn and the reply",
    "own_turns": "the speaker's earlier turns and the reply",
}
"""`cringe.specs.Reads` in words."""
FEW_PROMPTS = 30
"""Below it a column is said to rest on too few."""
_VOLATILE = ("seconds", "memory")
_MAY_LACK = (AND_FLUENT, CORRECTED, "distinct_1", "distinct_2")
"""Ends of metrics that may be n/a with all scores there, for a reason that another note or the legend gives."""


def in_words(name: str) -> str:
    """The name of a classifier, with what it reads said as elsewhere under the table."""
    for reads, words in VIEWS.items():
        name = re.sub(rf" on {reads.replace('_', ' ')}$", f" on {words}", name)
    return name


def of_prompts(count: int) -> str:
    """A number of prompts."""
    return f"{count} prompt{'s' * (count != 1)}"


def judge_line(metric: str, judge: JudgeReport) -> JudgeLine:
    """One sentence: how far the judge of a metric can be believed."""
    others = ""
    if "other_view_auc" in judge:
        others += f" One that sees {VIEWS[judge['other_view']]} has AUC {judge['other_view_auc']:.2f}."
    if "second_auc" in judge:
        others += f" A second opinion ({in_words(judge['second_name'])}) has AUC {judge['second_auc']:.2f}."
    weak = " It is weak: what it says is not ranked." if is_weak(judge) else ""
    return JudgeLine(metric=metric, text=f"Judge of {metric}: {_belief(judge)}.{others}{weak}", report=dict(judge))


def _belief(report: JudgeReport) -> str:
    """What a classifier is, and how it does on human replies that trained nothing."""
    area = report["auc"]
    return (
        f"{in_words(report['name'])}; on {report['n']} held-out human replies accuracy "
        f"{100 * report['accuracy']:.1f} % at threshold {report['threshold']:.2f}, Brier score {report['brier']:.3f}, "
        f"AUC {area['value']:.2f} [{area['low']:.2f}, {area['high']:.2f}]"
    )


def base_notes(meta: TableMeta, degrees: Collection[str]) -> list[str]:
    """What is to be known of the guide and the rows, and where the paper's values come from.

    Args:
        meta: what the table is of.
        degrees: how sure the paper's values are that stand in the table; none where none stands there.
    """
    notes = [] if meta.guide is None else [f"Guide, which labels, steers and re-ranks: {_belief(meta.guide)}."]
    if any(column.metric in meta.judged for column in meta.columns):
        notes.append(
            "gold is a ceiling for F1 alone: where a judge's prompts have gold replies, some of those are what it is "
            "to find."
        )
    notes += meta.notes
    if meta.paper is not None and degrees:
        said = {"unknown": "not known from anything that could be read"}
        said |= {key: text for key, text in meta.paper.certainty.items() if key != "unknown"}
        letters = {key: letter if key == "unknown" else f"({letter})" for key, letter in LETTERS.items()}
        known = "; ".join(f"{letters[key]} {said[key]}" for key in LETTERS if key in degrees)
        notes.append(f"paper: {meta.paper.paper}; decoded with {meta.paper.decoding}.")
        notes.append(f"How sure the paper's value is: {known}; {NO_PAPER} not reported for this row or this decoding.")
    return notes


def human_line(human: HumanRange | None, quality: str) -> str:
    """Which nll a token counts as human, for replies to the prompts ``quality``."""
    if human is None:
        return (
            f"Fewer than {LEAST_HUMAN} gold replies among the scores: likeness to human text is not checked, and no "
            "reply counts as fluent."
        )
    text = f"The central 95 % of human replies to {', '.join(human.prompts)} have {human.low:.2f} to {human.high:.2f}"
    fewer = "" if quality in human.prompts else f"; to {quality} there are none, or fewer than {LEAST_HUMAN}"
    return f"{text} nll/token{fewer}."


def gaps(
    by_name: Mapping[str, Sequence[RunScores]],
    sections: Sequence[Section],
    columns: Sequence[TableColumn],
    meta: TableMeta,
) -> list[str]:
    """Names every row, seed and cell that should be in the table and is not."""
    notes = []
    for name, runs in by_name.items():
        absent = [seed for seed in meta.seeds if seed not in {run.seed for run in runs}]
        unusable = [seed for seed in absent if (name, seed) in meta.unusable]
        if not runs:
            damaged = any(row == name for row, _ in meta.unusable)
            notes.append(f"{name}: {'its scores are damaged and not used' if damaged else 'no run'}.")
        elif runs[0].kind in MODELS:
            if missing := [str(seed) for seed in absent if seed not in unusable]:
                notes.append(f"{name}: no run with seed {', '.join(missing)}.")
            if unusable:
                seeds = ", ".join(map(str, unusable))
                notes.append(f"{name}: the scores with seed {seeds} are damaged and not used.")
    notes += _few_prompts(sections, columns)
    for section in sections:
        for row in section.rows:
            runs = by_name[row.name]
            if runs:
                notes.extend(_row_gaps(f"{row.name}, {section.decoding}", row, columns, len(runs)))
    return notes


def _few_prompts(sections: Sequence[Section], columns: Sequence[TableColumn]) -> Iterator[str]:
    """Columns that rest on so few prompts that no number of them says much."""
    for index, column in enumerate(columns):
        counts = [
            row.cells[index].n for section in sections for row in section.rows if row.cells[index].value is not None
        ]
        if column.group == "scores" and "@" in column.key and counts and max(counts) < FEW_PROMPTS:
            yield f"{column.title}: on {of_prompts(max(counts))} only; that is too few to compare methods."


def _row_gaps(where: str, row: Row, columns: Sequence[TableColumn], seeds: int) -> Iterator[str]:
    """What a method lacks; a floor or a ceiling has no model, and so not every number."""
    pairs = list(zip(columns, row.cells, strict=True))
    empty = [
        column.title
        for column, cell in pairs
        if cell.value is None and row.kind in MODELS and not column.key.split("@")[0].endswith(_MAY_LACK)
    ]
    if empty:
        yield f"{where}: no scores for {', '.join(empty)}."
    for column, cell in pairs:
        if cell.value is not None and cell.seeds < seeds:
            yield f"{where}: {column.title} rests on {cell.seeds} of {seeds} seeds."


def ledger_rows(
    by_name: Mapping[str, Sequence[RunScores]], names: Sequence[str], trials: Mapping[str, Sequence[Mapping[str, Any]]]
) -> tuple[LedgerRow, ...]:
    """What each of ``names`` spent: a row for each quantity that any of them has; no limits for those that lack it.

    A quantity of which nobody spent anything, such as updates while decoding, has no row. What sweeps tried comes last.

    Args:
        by_name: the runs of the rows.
        names: of the rows.
        trials: the ledgers of what sweeps tried, by row (`benchmarks.table_inputs.TableMeta`).
    """
    spent = {name: [dict(_numbers(run.ledger)) for run in by_name[name]] for name in names}
    paths = {path for ledgers in spent.values() for ledger in ledgers for path, value in ledger.items() if value}
    rows = []
    for path in sorted(paths, key=_ledger_order):
        for name, ledgers in spent.items():
            values = [ledger[path] for ledger in ledgers if path in ledger]
            low, high = (min(values), max(values)) if values else (None, None)
            rows.append(LedgerRow(quantity=", ".join(path).replace("_", " "), name=name, low=low, high=high))
    for quantity, part in SWEPT.items():
        tried = {name: part(trials[name]) for name in names if name in trials}
        if any(value is not None for value in tried.values()):
            rows += [
                LedgerRow(quantity=quantity, name=name, low=tried.get(name), high=tried.get(name)) for name in names
            ]
    return tuple(rows)


def _updates(ledgers: Sequence[Mapping[str, Any]]) -> float | None:
    """Of all trials; None where it is not known of one."""
    found = [ledger.get("training", {}).get("updates") for ledger in ledgers]
    return None if None in found else float(sum(found))


SWEPT: Mapping[str, Callable[[Sequence[Mapping[str, Any]]], float | None]] = {
    "sweep, trials": lambda ledgers: float(len(ledgers)),
    "sweep, updates": _updates,
}
"""What a sweep spent, from the ledgers of its trials. The chosen one counts, too: it is trained before it is chosen."""


def _numbers(ledger: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], float]]:
    """The numbers of a ledger that belong in a table, each with the keys that lead to it."""
    for key, value in ledger.items():
        here = (*path, str(key))
        if isinstance(value, Mapping):
            yield from _numbers(value, here)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            volatile = any(word in part for part in here for word in _VOLATILE)
            if not volatile and any(part in LEDGER_PARTS for part in here):
                yield here, float(value)


def _ledger_order(path: tuple[str, ...]) -> tuple[int, tuple[str, ...], int, tuple[str, ...]]:
    """What training spent comes first, then each other part of the ledger, all in the order of `LEDGER_PARTS`."""
    last = max(index for index, part in enumerate(path) if part in LEDGER_PARTS)
    part = path[:last]
    return part not in ((), ("training",)), part, LEDGER_PARTS.index(path[last]), path
