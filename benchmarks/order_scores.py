"""The scores behind the analysis of orders: of rows and rounds, on the same prompts, with the same seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmarks import measures
from benchmarks.comparisons import LEVEL
from benchmarks.rebuild import Built
from benchmarks.table_inputs import RunScores
from benchmarks.table_model import MODELS
from benchmarks.tables import doubts_of, prepare
from evaluators.agreement import SetScores
from evaluators.diversity import distinct_share
from evaluators.metrics import METRICS
from evaluators.paired import Difference, Pair, weighted_paired_difference
from evaluators.stats import codes

if TYPE_CHECKING:
    from numpy.typing import NDArray

Runs = tuple[str, int | None]
"""A row, or a method after one of its rounds: name, and round."""


class Answers(NamedTuple):
    """What one row scored on one set of prompts; names are numbers here, which are quicker to compare."""

    seeds: tuple[int, ...]
    uids: tuple[str, ...]
    groups: NDArray[np.intp]
    """(N,) the dialogue of each prompt, in the order of their names."""
    values: NDArray[np.float64]
    """(S, N)."""
    replies: NDArray[np.intp]
    """(S, N) which reply it was."""
    weight: float
    """Of the set in the column's average."""


class Scored:
    """The scores of a table's rows, by way of decoding and column; each is looked up once."""

    def __init__(self, built: Built) -> None:
        self._meta = built.inputs.meta
        self.quality, self.prompts, self.human, runs = prepare(
            built.inputs.runs, built.inputs.judges, built.inputs.meta
        )
        self.runs: dict[Runs, list[RunScores]] = {}
        """Of backbone and methods, by row and round, seeds in rising order."""
        for run in sorted(runs, key=lambda run: run.seed):
            if run.kind in MODELS:
                self.runs.setdefault((run.name, run.round), []).append(run)
        self._found: dict[tuple[Runs, str, str], tuple[Answers, ...]] = {}
        self._replies: dict[tuple[Runs, str, str], NDArray[np.intp]] = {}
        self._distinct: dict[tuple[Runs, str], dict[int, float]] = {}

    def answers(self, of: Runs, decoding: str, key: str) -> tuple[Answers, ...]:
        """What a row scored in the column ``key``, one entry a set of prompts; none without scores.

        ``nll@…`` and ``tokens@…`` are the reply's summed nll and its number of tokens.
        """
        place = (of, decoding, key)
        if place not in self._found:
            parts = measures.weighted_parts(self.runs.get(of, ()), decoding, key, self._meta) or []
            self._found[place] = tuple(self._answers(of, decoding, key, part) for part in parts)
        return self._found[place]

    def _answers(self, of: Runs, decoding: str, key: str, part: measures.Part) -> Answers:
        held = part.replies
        # The same replies for each of their scores; which were drawn differs with the metric only for gold ones.
        place = (of, decoding, f"{part.prompts} {len(held.seeds)} {held.generated}")
        if place not in self._replies:
            self._replies[place] = codes(held.texts)
        return Answers(
            seeds=held.seeds,
            uids=tuple(held.uids),
            groups=codes(np.asarray(held.groups)),
            values=held.matrix(key.split("@", 1)[0]),
            replies=self._replies[place],
            weight=part.weight,
        )

    def doubts(self, of: Runs, decoding: str) -> tuple[str, ...]:
        """What marks a row, or a round of it, as `benchmarks.tables` marks rows: collapsed, unlike human text."""
        distinct = self.distinct(of, decoding)
        nll, tokens = (self.answers(of, decoding, f"{name}@{self.prompts}") for name in ("nll", "tokens"))
        rate = None
        if nll and tokens:
            rate = float(np.mean(nll[0].values.sum(axis=1) / tokens[0].values.sum(axis=1)))
        share = 100 * float(np.mean(list(distinct.values()))) if distinct else None
        return doubts_of(share, rate, self.human)

    def distinct(self, of: Runs, decoding: str) -> dict[int, float]:
        """Share of different replies to the prompts that rank, by seed."""
        if (of, decoding) not in self._distinct:
            found = measures.collect(self.runs.get(of, ()), decoding, self.prompts)
            by_seed = zip(found.seeds, found.columns, strict=True) if found is not None else ()
            self._distinct[of, decoding] = {seed: distinct_share(part["reply_id"].tolist()) for seed, part in by_seed}
        return self._distinct[of, decoding]


class Shared(NamedTuple):
    """What several rows scored on the prompts and with the seeds that all of them have, on one set of prompts."""

    values: NDArray[np.float64]
    """(M, S, N)."""
    replies: NDArray[np.intp]
    """(M, S, N)."""
    groups: NDArray[np.intp]
    """(N,)."""
    weight: float


def shared(rows: Sequence[tuple[Answers, ...]]) -> list[Shared]:
    """The scores of several rows where all of them have some, one entry a set of prompts; none if they share nothing.

    Args:
        rows: M rows, or columns of a row, with the same sets of prompts.
    """
    if not rows or not all(rows) or len({len(row) for row in rows}) > 1:
        return []
    found = []
    for parts in zip(*rows, strict=True):
        first = parts[0]
        seeds = [seed for seed in first.seeds if all(seed in part.seeds for part in parts)]
        uids: Sequence[str] = first.uids
        if any(part.uids != first.uids for part in parts):
            uids = sorted(set(first.uids).intersection(*(part.uids for part in parts)))
        if not seeds or not uids:
            return []
        places = [_places(part, seeds, uids) for part in parts]
        groups = first.groups[places[0][1].ravel()]
        values = np.stack([part.values[place] for part, place in zip(parts, places, strict=True)])
        replies = np.stack([part.replies[place] for part, place in zip(parts, places, strict=True)])
        found.append(Shared(values, replies, groups, first.weight))
    return found


def _places(part: Answers, seeds: Sequence[int], uids: Sequence[str]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the wanted seeds and prompts."""
    if part.uids == uids:
        columns = list(range(len(uids)))
    else:
        found: Mapping[str, int] = {uid: place for place, uid in enumerate(part.uids)}
        columns = [found[uid] for uid in uids]
    rows, places = np.ix_([part.seeds.index(seed) for seed in seeds], columns)
    return rows, places


def set_scores(found: Sequence[Shared]) -> list[SetScores]:
    """As `evaluators.agreement` takes them."""
    return [SetScores(one.values, one.groups, one.weight, one.replies) for one in found]


def bounded(metric: str) -> bool:
    """Does every value lie in [0, 1]? What is no metric of its own is a share of what a judge or guide likes."""
    return metric not in METRICS or METRICS[metric].proportion


def mean(found: Sequence[Shared], place: int) -> float:
    """Of the row at a place among those that share scores."""
    return float(sum(one.weight * one.values[place].mean() for one in found))


def difference(found: Sequence[Shared], *, proportion: bool) -> Difference:
    """The first of two rows minus the second."""
    pairs = [
        Pair(one.values[0], one.values[1], [str(group) for group in one.groups], one.replies[0], one.replies[1])
        for one in found
    ]
    return weighted_paired_difference(pairs, [one.weight for one in found], proportion=proportion)


def rates(found: Sequence[Shared]) -> list[Shared]:
    """Of (numerators, denominators) of two rows, two rows of values whose means are the ratios of sums.

    Linearised as in `evaluators.stats.ratio_interval`.
    """
    rows = []
    for one in found:
        top, bottom = one.values[0::2], one.values[1::2]
        ratio = top.sum(axis=2, keepdims=True) / bottom.sum(axis=2, keepdims=True)
        linear = ratio + (top - ratio * bottom) / bottom.mean(axis=2, keepdims=True)
        rows.append(one._replace(values=linear, replies=one.replies[0::2]))
    return rows


def verdict(value: float, p: float | None, above: str, below: str) -> str:
    """A difference in a word: undecided where it cannot be told from 0."""
    if p is None or p >= LEVEL or value == 0:
        return "undecided"
    return above if value > 0 else below
