"""Which row is better than which: paired differences to a baseline, adjusted for their number, and ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks import measures
from benchmarks.table_inputs import RunScores, TableMeta
from benchmarks.table_model import (
    COLLAPSED,
    MODELS,
    ONE_SEED,
    SHARED_JUDGE,
    UNLIKE_HUMAN,
    WEAK_JUDGE,
    Difference,
    Row,
    TableColumn,
)
from evaluators.metrics import METRICS
from evaluators.paired import Difference as PairedDifference
from evaluators.paired import Pair, holm, weighted_paired_difference

UNRANKED = frozenset({COLLAPSED, ONE_SEED, SHARED_JUDGE, UNLIKE_HUMAN, WEAK_JUDGE})
"""A number with one of these marks is not ranked."""
LEVEL = 0.05
"""Of a test: below it two rows are told apart."""


class Comparison(NamedTuple):
    """What a section says of its rows against each other; names as in `benchmarks.table_model.Section`."""

    differences: tuple[Difference, ...] = ()
    ranked_by: str = ""
    baseline: str = ""


class Scores(NamedTuple):
    """A row's scores in the column that ranks."""

    metric: str
    parts: tuple[measures.Replies, ...]
    """One a set of prompts, with the same seeds in each."""
    weights: tuple[float, ...]
    """Of the sets; their sum is 1."""
    proportion: bool
    """Is every value in [0, 1]?"""


def compare_rows(
    rows: Sequence[Row],
    by_name: Mapping[str, Sequence[RunScores]],
    decoding: str,
    key: str,
    columns: Sequence[TableColumn],
    meta: TableMeta,
) -> Comparison:
    """Compare backbone and methods in the column ``key``, each with the baseline and with the best.

    Args:
        rows: of one decoding.
        by_name: the runs of each row.
        decoding: its name.
        key: the ranking column's.
        columns: of the table.
        meta: names the baseline.
    """
    index = next(place for place, column in enumerate(columns) if column.key == key)
    column = columns[index]
    trained = [row for row in rows if row.kind in MODELS]
    scores = {
        row.name: theirs for row in trained if (theirs := _scores(by_name[row.name], decoding, key, meta)) is not None
    }
    ranks, ties = _ranks(trained, scores, index, higher=column.higher_is_better is not False)
    against: dict[str, PairedDifference] = {}
    if meta.baseline in scores:
        against = {
            name: found
            for name, theirs in scores.items()
            if name != meta.baseline and (found := difference(theirs, scores[meta.baseline])) is not None
        }
    adjusted = holm({name: found.p for name, found in against.items() if found.p is not None})
    differences = [
        Difference(
            name=row.name,
            **(
                _shown(against[row.name], adjusted.get(row.name), proportion=scores[row.name].proportion)
                if row.name in against
                else {}
            ),
            rank=ranks.get(row.name),
            ties_with_best=row.name in ties,
        )
        for row in trained
    ]
    if len(scores) < 2:
        return Comparison()
    return Comparison(tuple(differences), column.title, meta.baseline if meta.baseline in scores else "")


def difference(first: Scores, second: Scores) -> PairedDifference | None:
    """First minus second over the seeds and prompts that both have; None where they share none."""
    seeds = [seed for seed in first.parts[0].seeds if seed in second.parts[0].seeds]
    pairs = []
    for ours, theirs in zip(first.parts, second.parts, strict=True):
        uids = sorted(set(ours.uids) & set(theirs.uids))
        if not seeds or not uids:
            return None
        pairs.append(_pair(ours, theirs, seeds, uids, first.metric))
    return weighted_paired_difference(pairs, first.weights, proportion=first.proportion)


def _pair(
    ours: measures.Replies, theirs: measures.Replies, seeds: Sequence[int], uids: Sequence[str], metric: str
) -> Pair:
    """What two rows scored on some prompts with some seeds."""
    here, there = (
        np.ix_([part.seeds.index(seed) for seed in seeds], _places(part.uids, uids)) for part in (ours, theirs)
    )
    groups = ours.groups
    return Pair(
        values=ours.matrix(metric)[here],
        baseline=theirs.matrix(metric)[there],
        groups=[groups[place] for place in here[1].ravel()],
        replies=ours.texts[here],
        baseline_replies=theirs.texts[there],
    )


def _places(uids: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Where the wanted ones stand among the uids."""
    found = {uid: place for place, uid in enumerate(uids)}
    return [found[uid] for uid in wanted]


def _scores(runs: Sequence[RunScores], decoding: str, key: str, meta: TableMeta) -> Scores | None:
    """The scores behind a cell of the ranking column; None without any."""
    parts = measures.weighted_parts(runs, decoding, key, meta)
    if parts is None:
        return None
    metric, _ = key.split("@", 1)
    return Scores(
        metric=metric,
        parts=tuple(part.replies for part in parts),
        weights=tuple(part.weight for part in parts),
        proportion=METRICS[metric.removesuffix(measures.AND_FLUENT)].proportion,
    )


def _ranks(
    rows: Sequence[Row], scores: Mapping[str, Scores], index: int, *, higher: bool
) -> tuple[dict[str, int], set[str]]:
    """Ranks of the rows that may be ranked, and which of them cannot be told apart from the best."""
    values = {
        row.name: value
        for row in rows
        if row.name in scores
        and (value := row.cells[index].value) is not None
        and not UNRANKED & {*row.marks, *row.cells[index].marks}
    }
    order = sorted(values, key=lambda name: (-values[name] if higher else values[name], name))
    if not order:
        return {}, set()
    best = order[0]
    against = {name: difference(scores[best], scores[name]) for name in order[1:]}
    adjusted = holm({name: found.p for name, found in against.items() if found is not None and found.p is not None})
    ties = {name for name in order[1:] if adjusted.get(name, 1.0) >= LEVEL}
    return {name: place for place, name in enumerate(order, start=1)}, ties


def _shown(found: PairedDifference, adjusted: float | None, *, proportion: bool) -> dict[str, float | None]:
    """A difference in points of percent, or of F1 × 100; of a share it is never beyond ±100."""
    value, low, high = scaled(found, 100.0, furthest=100.0 if proportion else math.inf)
    return {"value": value, "low": low, "high": high, "p": found.p, "p_holm": adjusted}


def scaled(found: PairedDifference, scale: float, *, furthest: float) -> tuple[float, float | None, float | None]:
    """A difference and its limits in another unit, in which none can be beyond ± ``furthest``."""
    low = None if found.low is None else max(-furthest, scale * found.low)
    high = None if found.high is None else min(furthest, scale * found.high)
    return scale * found.mean, low, high
