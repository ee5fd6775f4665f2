"""From stored per-example scores to a table. A pure function: touches no model, no file, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmarks.table_inputs import ANY_DECODING, JudgeReport, RunScores, TableMeta, is_weak
from benchmarks.table_model import (
    COLLAPSED,
    ONE_SEED,
    UNLIKE_HUMAN,
    WEAK_JUDGE,
    Cell,
    Kind,
    Row,
    Section,
    Table,
    TableColumn,
)
from benchmarks.table_notes import base_notes, gaps, human_line, judge_line, ledger_rows
from evaluators.diversity import distinct_share
from evaluators.stats import Interval, mean_interval, ratio_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame

__all__ = ["ANY_DECODING", "JudgeReport", "RunScores", "Table", "TableMeta", "build_table"]

COLLAPSED_BELOW = 0.5
"""Share of distinct replies."""
HUMAN_RANGE = (0.025, 0.975)
"""Quantiles of the nll a token of human replies."""
KINDS: tuple[Kind, ...] = ("floor", "backbone", "method", "ceiling")
"""The order of the rows."""

NLL = TableColumn(key="nll", title="nll/token", digits=2, higher_is_better=None)
DISTINCT = TableColumn(key="distinct", title="distinct %", digits=1, higher_is_better=True, with_interval=False)
LENGTH = TableColumn(key="length", title="tokens", digits=1, higher_is_better=None)


class _Replies(NamedTuple):
    """One row's replies to one set of prompts: a frame a seed, with equal uids in equal order."""

    seeds: tuple[int, ...]
    frames: tuple[DataFrame, ...]

    @property
    def groups(self) -> list[str]:
        return [str(group) for group in self.frames[0]["group"]]

    def matrix(self, name: str) -> NDArray[np.float64]:
        """(S, N) values of a column."""
        return np.stack([frame[name].to_numpy(dtype=np.float64) for frame in self.frames])


class _Place(NamedTuple):
    """Where a row stands."""

    decoding: str
    quality: str
    """The prompts whose replies' likelihood, distinctness and length are shown."""
    human: tuple[float, float] | None
    columns: Sequence[TableColumn]
    meta: TableMeta


def build_table(runs: Sequence[RunScores], judges: Mapping[str, JudgeReport], meta: TableMeta) -> Table:
    """The table of a task.

    Args:
        runs: in any order.
        judges: by metric; a metric that has one is a judge's verdict.
        meta: what the table is of.

    Returns:
        A section for each decoding, its rows from floor to ceiling. The likelihood, distinctness and length of
        replies are those to the prompts of the first judged column (of the first column where none is judged).

    Raises:
        ValueError: a run twice, a prompt twice, seeds that answer different prompts, or NaN among applicable scores.
    """
    by_name = _by_name(runs, meta)
    order = _row_order(meta, runs)
    columns = _columns(judges, meta)
    quality = next((column for column in meta.columns if column.metric in judges), meta.columns[0]).prompts
    notes = base_notes(meta, quality)
    sections = []
    for decoding, description in meta.decodings.items():
        human = _human_range(by_name, decoding, quality)
        notes.append(human_line(human))
        place = _Place(decoding, quality, human, columns, meta)
        rows = tuple(_row(name, kind, by_name[name], place) for name, kind in order)
        sections.append(Section(decoding=decoding, description=description, rows=rows))
    return Table(
        title=meta.title,
        synthetic=meta.synthetic,
        preset=meta.preset,
        columns=columns,
        sections=tuple(sections),
        judges=tuple(judge_line(metric, judges[metric]) for metric in sorted(judges)),
        notes=(*dict.fromkeys(notes), *gaps(by_name, sections, columns, meta)),
        ledger=ledger_rows(by_name, [name for name, kind in order if kind in ("backbone", "method")]),
    )


def _by_name(runs: Iterable[RunScores], meta: TableMeta) -> dict[str, list[RunScores]]:
    found: dict[str, list[RunScores]] = {name: [] for name in meta.expected}
    for run in sorted(runs, key=lambda run: (run.name, run.seed)):
        others = found.setdefault(run.name, [])
        if any(other.seed == run.seed for other in others):
            raise ValueError(f"two runs of {run.name} with seed {run.seed}")
        kind = meta.expected.get(run.name, others[0].kind if others else run.kind)
        if run.kind != kind:
            raise ValueError(f"{run.name} is a {kind}, but its run with seed {run.seed} calls it a {run.kind}")
        others.append(run)
    return found


def _row_order(meta: TableMeta, runs: Iterable[RunScores]) -> list[tuple[str, Kind]]:
    """Floor to ceiling; within a kind as expected, then others by name."""
    kinds = dict(meta.expected) | {run.name: run.kind for run in sorted(runs, key=lambda run: run.name)}
    return sorted(kinds.items(), key=lambda item: KINDS.index(item[1]))


def _columns(judges: Mapping[str, JudgeReport], meta: TableMeta) -> tuple[TableColumn, ...]:
    first = [
        TableColumn(
            key=f"{column.metric}@{column.prompts}",
            title=f"{column.title} {'%' if column.metric in judges else '×100'}",
            digits=1,
            higher_is_better=True,
            judged=column.metric in judges,
            weak=column.metric in judges and is_weak(judges[column.metric]),
            with_paper=meta.paper is not None,
        )
        for column in meta.columns
    ]
    return (*first, NLL, DISTINCT, LENGTH)


def _replies(runs: Iterable[RunScores], decoding: str, prompts: str, metric: str | None = None) -> _Replies | None:
    """What each seed replied, with a score for ``metric`` where one is asked for; None when nothing is there."""
    seeds: list[int] = []
    frames: list[DataFrame] = []
    for run in runs:
        scores = run.scores
        wanted = decoding if (scores["decoding"] == decoding).any() else ANY_DECODING
        frame = scores[(scores["decoding"] == wanted) & (scores["prompts"] == prompts)].sort_values("uid")
        if metric is not None and (metric not in frame or frame[metric].isna().all()):
            continue
        if frame.empty:
            continue
        where = f"{run.name}, seed {run.seed}, {decoding}, {prompts}"
        if frame["uid"].duplicated().any():
            raise ValueError(f"{where}: the prompt {frame['uid'][frame['uid'].duplicated()].iloc[0]!r} is scored twice")
        if frames and list(frame["uid"]) != list(frames[0]["uid"]):
            raise ValueError(f"{where}: other prompts than with seed {seeds[0]} ({len(frame)}, {len(frames[0])})")
        if metric is not None and frame[metric].isna().any():
            missing = int(frame[metric].isna().sum())
            raise ValueError(f"{where}: {metric} is NaN for {missing} of {len(frame)} replies")
        seeds.append(run.seed)
        frames.append(frame)
    return _Replies(tuple(seeds), tuple(frames)) if frames else None


def _row(name: str, kind: Kind, runs: Sequence[RunScores], place: _Place) -> Row:
    decoding, quality, human, columns, meta = place
    nll, distinct, length = _quality(_replies(runs, decoding, quality))
    collapsed = distinct.value is not None and distinct.value < 100 * COLLAPSED_BELOW
    unlike = nll.value is not None and human is not None and not human[0] <= nll.value <= human[1]
    doubts = (COLLAPSED,) * collapsed + (UNLIKE_HUMAN,) * unlike
    cells = []
    for column, shown in zip(meta.columns, columns, strict=False):
        cell = _metric_cell(_replies(runs, decoding, column.prompts, column.metric), column.metric)
        if meta.paper is not None and decoding == meta.paper_decoding:
            cell = replace(cell, paper=meta.paper.lookup(name, column.metric, column.prompts))
        if cell.value is not None:
            marks = (WEAK_JUDGE,) * shown.weak + doubts * (shown.judged and column.prompts == quality)
            cell = replace(cell, marks=marks)
        cells.append(cell)
    cells += [nll, distinct, length]
    if kind in ("backbone", "method"):
        cells = [replace(cell, marks=(*cell.marks, ONE_SEED)) if cell.seeds == 1 else cell for cell in cells]
    single = any(ONE_SEED in cell.marks for cell in cells)
    return Row(name=name, kind=kind, cells=tuple(cells), marks=doubts + (ONE_SEED,) * single)


def _metric_cell(replies: _Replies | None, metric: str) -> Cell:
    if replies is None:
        return Cell()
    return _cell(mean_interval(replies.matrix(metric), replies.groups, proportion=True), scale=100)


def _quality(replies: _Replies | None) -> tuple[Cell, Cell, Cell]:
    """Nats a token, distinct replies in percent, mean length in tokens."""
    if replies is None:
        return Cell(), Cell(), Cell()
    nll, tokens = replies.matrix("nll"), replies.matrix("tokens")
    n, seeds = tokens.shape[1], len(replies.seeds)
    distinct = float(np.mean([distinct_share(frame["reply_id"]) for frame in replies.frames]))
    return (
        _cell(ratio_interval(nll, tokens, replies.groups), scale=1),
        Cell(value=100 * distinct, n=n, seeds=seeds),
        _cell(mean_interval(tokens, replies.groups, proportion=False), scale=1),
    )


def _cell(interval: Interval, *, scale: float) -> Cell:
    low = None if interval.low is None else scale * interval.low
    high = None if interval.high is None else scale * interval.high
    return Cell(value=scale * interval.mean, low=low, high=high, n=interval.n, seeds=interval.seeds)


def _human_range(by_name: Mapping[str, Sequence[RunScores]], decoding: str, prompts: str) -> tuple[float, float] | None:
    """The nll a token between which 95 % of the human replies to these prompts lie."""
    gold = [run for runs in by_name.values() for run in runs if run.kind == "ceiling"]
    replies = _replies(gold, decoding, prompts)
    if replies is None:
        return None
    low, high = np.quantile(replies.matrix("nll") / replies.matrix("tokens"), HUMAN_RANGE)
    return float(low), float(high)
