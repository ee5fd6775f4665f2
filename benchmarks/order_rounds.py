"""What a further round of training changes: the last round against the one before, and against none."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.comparisons import scaled
from benchmarks.measures import AND_FLUENT
from benchmarks.order_scores import Runs, Scored, Shared, bounded, difference, mean, rates, shared, verdict
from benchmarks.rebuild import Built
from benchmarks.table_model import SHARED_JUDGE, WEAK_JUDGE, TableColumn
from evaluators.limits import t_quantile
from evaluators.paired import holm

ONE_BUDGET = ("cringe", "cringe_single")
"""In rounds and without, of the same number of updates."""


class Step(NamedTuple):
    """What changed from a method's round before the last one to its last, or from training without rounds."""

    decoding: str
    first: str
    second: str
    """What is taken off the first."""
    key: str
    """Of the column."""
    title: str
    """Of what changed, with its unit."""
    digits: int
    before: float
    """Of the second."""
    after: float
    value: float
    """First minus second, in the unit of the title; so are the limits."""
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    """Adjusted for all that is told of these two under this decoding."""
    n: int
    seeds: int
    marks: tuple[str, ...]
    """Of either: what keeps it from being ranked."""

    @property
    def verdict(self) -> str:
        """Is it more, or less, than before?"""
        return verdict(self.value, self.p_holm, "more", "less")


def steps(built: Built, scored: Scored) -> Iterator[Step]:
    """What the last round changed in F1, in what the judge likes, in likelihood and in distinctness.

    Args:
        built: the table.
        scored: its scores.
    """
    columns = [column for column in built.table.columns if _tells(column.key, built)]
    shared_judge = built.inputs.meta.shared_judge
    weak = {
        column.key: (WEAK_JUDGE,) * column.weak + (SHARED_JUDGE,) * shared_judge for column in columns if column.judged
    }
    for section in built.table.sections:
        for first, second, names in _compared(scored):
            found = [
                *(_in_column(scored, section.decoding, first, second, column) for column in columns),
                _in_likelihood(scored, section.decoding, first, second),
                _in_distinctness(scored, section.decoding, first, second),
            ]
            there = [step for step in found if step is not None]
            adjusted = holm({step.key: step.p for step in there if step.p is not None})
            for step in there:
                marks = step.marks + weak.get(step.key, ())
                yield step._replace(first=names[0], second=names[1], p_holm=adjusted.get(step.key), marks=marks)


def _tells(key: str, built: Built) -> bool:
    """F1, a judge's verdict, or that on fluent replies."""
    metric = key.split("@")[0]
    return metric == "f1" or metric.removesuffix(AND_FLUENT) in built.inputs.judges


def _compared(scored: Scored) -> Iterator[tuple[Runs, Runs, tuple[str, str]]]:
    """Two rows or rounds, and what they are called."""
    names = dict.fromkeys(name for name, after in scored.runs if after is not None)
    for name in names:
        earlier = max(after for other, after in scored.runs if other == name and after is not None)
        if (name, None) in scored.runs:
            said = (f"{name} round {earlier + 1}", f"{name} round {earlier}")
            yield (name, None), (name, earlier), said
    first, second = ((name, None) for name in ONE_BUDGET)
    if first in scored.runs and second in scored.runs:
        yield first, second, (ONE_BUDGET[0], f"{ONE_BUDGET[1]}, one budget")


def _in_column(scored: Scored, decoding: str, first: Runs, second: Runs, column: TableColumn) -> Step | None:
    """The difference of two means, in points."""
    found = shared([scored.answers(of, decoding, column.key) for of in (first, second)])
    if not found:
        return None
    return _step(scored, decoding, (first, second), column.key, column.title, found, scale=100.0)


def _in_likelihood(scored: Scored, decoding: str, first: Runs, second: Runs) -> Step | None:
    """The difference in nats a token under the reference model."""
    keys = [f"{name}@{scored.prompts}" for name in ("nll", "tokens")]
    found = shared([scored.answers(of, decoding, key) for of in (first, second) for key in keys])
    if not found:
        return None
    return _step(scored, decoding, (first, second), keys[0], "nll/token", rates(found), scale=1.0)


def _step(
    scored: Scored,
    decoding: str,
    rows: tuple[Runs, Runs],
    key: str,
    title: str,
    found: Sequence[Shared],
    *,
    scale: float,
) -> Step:
    metric = key.split("@")[0]
    apart = difference(found, proportion=scale > 1 and bounded(metric))
    value, low, high = scaled(apart, scale, furthest=scale if scale > 1 else math.inf)
    return Step(
        decoding=decoding,
        first="",
        second="",
        key=key,
        title=title,
        digits=1 if scale > 1 else 2,
        before=scale * mean(found, 1),
        after=scale * mean(found, 0),
        value=value,
        low=low,
        high=high,
        p=apart.p,
        p_holm=None,
        n=apart.n,
        seeds=apart.seeds,
        marks=_marks(scored, decoding, rows),
    )


def _marks(scored: Scored, decoding: str, rows: tuple[Runs, Runs]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(mark for of in rows for mark in scored.doubts(of, decoding)))


def _in_distinctness(scored: Scored, decoding: str, first: Runs, second: Runs) -> Step | None:
    """The difference in distinct replies: one share a seed and no more, so that its interval is t over seeds."""
    shares = [scored.distinct(of, decoding) for of in (first, second)]
    seeds = [seed for seed in shares[0] if seed in shares[1]]
    if not seeds:
        return None
    after, before = (100 * np.array([share[seed] for seed in seeds]) for share in shares)
    apart = after - before
    low = high = p = None
    error = float(np.std(apart, ddof=1)) / math.sqrt(len(seeds)) if len(seeds) > 1 else 0.0
    value = float(apart.mean())
    if error > 0:
        from scipy.special import stdtr

        half = float(t_quantile(len(seeds) - 1)) * error
        low, high = max(-100.0, value - half), min(100.0, value + half)
        p = float(2 * stdtr(len(seeds) - 1, -abs(value) / error))
    replies = scored.answers(first, decoding, f"nll@{scored.prompts}")
    return Step(
        decoding=decoding,
        first="",
        second="",
        key="distinct",
        title="distinct %",
        digits=1,
        before=float(before.mean()),
        after=float(after.mean()),
        value=value,
        low=low,
        high=high,
        p=p,
        p_holm=None,
        n=len(replies[0].uids) if replies else 0,
        seeds=len(seeds),
        marks=_marks(scored, decoding, (first, second)),
    )
