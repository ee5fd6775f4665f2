"""Do methods stand in a given order? Kendall's tau of their means, with an interval over dialogues and seeds.

Shapes: M methods, S seeds, N examples, G dialogues, B draws. Seeds and dialogues are crossed, as in `stats`.

The interval is of tau between the means that the methods have over all dialogues like these and all seeds (with one
seed: the means of these very models), and the other side: given values, taken as they are, or what others scored on the
same replies. It does not cover how far the given values may be off, nor other methods than these M, other judges or
settings. p is of another kind: the chance of a tau as far from 0 were the M methods put in a random order. It takes the
means as they are.

How it is made. A draw of dialogues (with all their examples) and of seeds, both at once and the same for all methods,
gives each method another mean: the pigeonhole bootstrap (Owen 2007, "The pigeonhole bootstrap", Ann. Appl. Stat. 1).
Three things are changed, for each by itself would make the interval too short:

- Seeds are few. Drawn with replacement, S seeds show (S − 1)/S of their variance, and 3 of them in 1 draw of 9 none at
  all. So seed s weighs 1/S + t·(z[s] − mean z)/√(S(S − 1)) instead, z normal, t² = (S − 1)/χ²(S − 1), one z and t a
  draw: to that seeds add, each difference of two methods then has exactly its own t interval over seeds.
- A reply that a model gives in several dialogues is one draw of the model. What that adds to the variance of a method's
  mean (`spread.crossed_parts`) is added to its draws, as a t variable; for methods that give the same replies as each
  other it is too much.
- Tau is drawn towards 0 by noise, the measured one once and each draw's twice; where the true tau is 1 or −1 no draw is
  beyond it. So of the distances from tau to the 2.5 % and 97.5 % quantiles of the draws the larger one, times 1.5,
  counts both ways, cut off at −1 and 1. The form and the 1.5 are ours.

Coverage in per cent, lowest to highest over 5 and 10 methods and 1, 2, 3 and 5 seeds, 150 tables each, 100 dialogues, a
deviation of 0.2 between seeds and of 1 between dialogues, both of each method's own; in brackets the mean width with 10
methods and 3 seeds. Rows: how far the true means lie apart, in standard errors of one. Columns: tau of the truth.

             around 0            around 0.7          1
    0.5      97 – 99 (1.33)      71 – 97 (1.43)      49 – 89 (1.42)
    1        99 – 100 (1.23)     91 – 99 (1.35)      67 – 97 (1.39)
    2        99 – 100 (1.10)     98 – 100 (1.18)     87 – 99 (1.17)
    3        99 – 100 (0.95)     99 – 100 (1.02)     93 – 100 (1.04)
    10       99 – 100 (0.49)     100 (0.53)          98 – 100 (0.50)

So it is cautious, but where the means lie less than 2 standard errors apart (`Agreement.apart` says so of 41 to 95 % of
tables at 2, 89 to 100 % at 1): there the order is hardly measured, and an interval without 1 does not show that the
given order is wrong. The percentile interval of the plain pigeonhole bootstrap covers a true tau of 1 in 4 to 6 % of
tables with 10 methods, 2 to 5 seeds and 3 standard errors, and in none at 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import permutations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from evaluators.limits import ALPHA
from evaluators.spread import Scores, crossed_parts
from evaluators.stats import codes

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]
    Sides = Callable[[Array], tuple[Array, Array]]

DRAWS = 2000
"""B."""
WIDER = 1.5
"""By what the larger distance is multiplied; found by simulation."""
LEAST_METHODS = 3
"""Two methods have an order, but no rank agreement to speak of."""
MOST_PERMUTED = 8
"""M up to which p is counted over all M! orders."""
EQUAL = 1e-12
"""Two means that differ by less are a tie: the same scores, summed in another order."""
HARDLY_APART = 2.0
"""Means that differ by less hardly have an order that could be measured."""
QUARTILES = 1.349
"""Between the quartiles of a normal variable with a deviation of 1."""
MOST_DF = 1e6
"""Of a t variable, which then is normal."""
_BLOCK = 1 << 22
"""Drawn dialogues that are held at once."""


class SetScores(NamedTuple):
    """What M methods scored on one set of prompts: the same seeds and examples, in the same order, for each."""

    values: ArrayLike
    """(M, S, N)."""
    groups: ArrayLike
    """N names of dialogues, or numbers of them; examples with the same name are drawn together."""
    weight: float = 1.0
    """Of the set in a method's mean; the weights of all sets sum to 1."""
    replies: ArrayLike | None = None
    """(M, S, N) ids of the replies, as for `stats.mean_interval`; None takes all as different."""


class Agreement(NamedTuple):
    """Kendall's tau-b, its 95 % interval, and p of no relation."""

    tau: float
    low: float | None
    """None where a set of prompts has a single dialogue, or a method a single reply: nothing is known of others."""
    high: float | None
    p: float
    """Two-sided, of the M methods in a random order; exact up to `MOST_PERMUTED` methods and where nothing is tied."""
    methods: int
    n: int
    """Examples, not examples times seeds."""
    seeds: int
    """With 1 the interval is of these models: other dialogues, not other seeds."""
    apart: float | None
    """How far the methods' true means seem to lie apart: their deviation, in standard errors of one of them. Below
    `HARDLY_APART` the interval is too short. None with the interval."""


def agreement_with(sets: Sequence[SetScores], reference: ArrayLike, *, seed: int = 0) -> Agreement | None:
    """How well the order of M methods agrees with that of given values.

    Args:
        sets: scores on one set of prompts or several; a method's mean is the weighted one of its means on each.
        reference: M values, one a method in the order of ``sets``.
        seed: of the draws. Equal seeds give equal draws, whatever the order of methods or of examples.

    Returns:
        None where tau is not defined: fewer than `LEAST_METHODS` methods, or all equal on either side.

    Raises:
        ValueError: no scores, NaN or infinite values, shapes or weights that do not fit.
    """
    checked = [_checked(one) for one in sets]
    given = np.asarray(reference, dtype=np.float64)
    if given.shape != checked[0].values.shape[:1] or not np.isfinite(given).all():
        raise ValueError(f"expected {checked[0].values.shape[0]} finite reference values, found {given.tolist()}")
    return _agreement(checked, lambda means: (means, given), seed)


def agreement_between(first: Sequence[SetScores], second: Sequence[SetScores], *, seed: int = 0) -> Agreement | None:
    """How well two scores of the same replies agree on the order of M methods; a draw is the same for both.

    Args:
        first: as for `agreement_with`.
        second: the same methods, seeds, examples and weights, scored otherwise.
        seed: of the draws.

    Raises:
        ValueError: as `agreement_with`, or two sides that do not fit together.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} sets of prompts")
    both = []
    for one, other in zip(first, second, strict=True):
        ours, theirs = _checked(one), _checked(other)
        if ours.values.shape != theirs.values.shape or not np.array_equal(ours.codes, theirs.codes):
            raise ValueError("the two sides have other methods, seeds or dialogues")
        said = None
        if ours.replies is not None and theirs.replies is not None:
            said = np.concatenate([ours.replies, theirs.replies])
        both.append(ours._replace(values=np.concatenate([ours.values, theirs.values]), replies=said))
    half = both[0].values.shape[0] // 2 if both else 0
    return _agreement(both, lambda means: (means[..., :half], means[..., half:]), seed)


class _Checked(NamedTuple):
    values: Array
    """(M, S, N)."""
    codes: NDArray[np.intp]
    """(N,) the dialogue of each example, from 0, in the order of their names."""
    weight: float
    replies: NDArray[np.generic] | None
    """(M, S, N)."""


def _checked(one: SetScores) -> _Checked:
    values, names = np.asarray(one.values, dtype=np.float64), np.asarray(one.groups)
    if values.ndim != 3 or not values.size or names.shape != values.shape[2:]:
        raise ValueError(f"expected (methods, seeds, examples) values for {names.size} groups, found {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{int((~np.isfinite(values)).sum())} of {values.size} values are NaN or infinite")
    replies = None if one.replies is None else np.asarray(one.replies)
    if replies is not None and replies.shape != values.shape:
        raise ValueError(f"replies have shape {replies.shape}, their scores {values.shape}")
    return _Checked(values, codes(names), one.weight, replies)


def _agreement(sets: Sequence[_Checked], sides: Sides, seed: int) -> Agreement | None:
    if not sets or len({one.values.shape[:2] for one in sets}) > 1:
        raise ValueError("every set of prompts needs the same methods and seeds")
    if not math.isclose(math.fsum(one.weight for one in sets), 1, rel_tol=0, abs_tol=1e-9):
        raise ValueError(f"weights must sum to 1, found {[one.weight for one in sets]}")
    means = np.sum([one.weight * one.values.mean(axis=(1, 2)) for one in sets], axis=0)
    first, second = sides(means)
    measured = kendall_tau(first, second)
    if len(first) < LEAST_METHODS or np.isnan(measured):
        return None
    low = high = apart = None
    draws = _drawn_means(sets, seed) if all(one.codes.max() > 0 for one in sets) else None
    if draws is not None:
        # A draw in which all are equal shows no order, as tau 0 does.
        drawn = np.nan_to_num(kendall_tau(*sides(draws)), nan=0.0)
        halves = len(means) // len(first)
        apart = min(map(_apart, np.split(means, halves), np.split(draws, halves, axis=1)))
        ends = np.quantile(drawn, (ALPHA / 2, 1 - ALPHA / 2))
        reach = WIDER * float(max(measured - ends[0], ends[1] - measured))
        low, high = max(-1.0, float(measured) - reach), min(1.0, float(measured) + reach)
    n, seeds = sum(one.codes.size for one in sets), sets[0].values.shape[1]
    return Agreement(float(measured), low, high, no_relation(first, second), len(first), n, seeds, apart)


def _apart(means: Array, draws: Array) -> float:
    """Deviation of the (M,) true means in standard errors, from the measured means and (B, M) draws of them.

    What all methods of a draw have in common is no error of their order. Quartiles, for t weights may have no variance.
    """
    own = draws - draws.mean(axis=1, keepdims=True)
    quarters = np.quantile(own, (0.25, 0.75), axis=0)
    error = float((((quarters[1] - quarters[0]) / QUARTILES) ** 2).mean())
    spread = float(means.var(ddof=1))
    return math.sqrt(max(spread - error, 0) / error) if error > 0 else math.inf


def kendall_tau(first: Array, second: Array) -> Array:
    """Kendall's (1945) tau-b over the last axis, M long: (agreeing − opposed pairs) / √(pairs untied in either).

    The other axes are tables that are worked on at once, and broadcast. NaN where all of a side are equal.
    """
    ours, theirs = _signs(first), _signs(second)
    untied = np.sqrt((ours**2).sum(axis=-1) * (theirs**2).sum(axis=-1))
    together = (ours * theirs).sum(axis=-1)
    return np.asarray(np.where(untied > 0, together / np.where(untied > 0, untied, 1), np.nan))


def no_relation(first: Array, second: Array) -> float:
    """Two-sided p of a tau-b as far from 0 as that of M pairs of values, were either side in a random order.

    Up to `MOST_PERMUTED` pairs all orders are counted; beyond, scipy's is exact without ties, else a normal
    approximation.
    """
    if len(first) > MOST_PERMUTED:
        from scipy.stats import kendalltau

        ties = any((_signs(side) == 0).any() for side in (first, second))
        ranks = [np.searchsorted(_steps(side), side) for side in (first, second)]
        return float(kendalltau(*ranks, method="asymptotic" if ties else "auto").pvalue)
    count = len(first)
    rows, columns = np.triu_indices(count, 1)
    square = np.zeros((count, count), dtype=np.float32)
    square[rows, columns] = _signs(second)
    square -= square.T
    ours = _signs(first).astype(np.float32)
    sums = square.ravel()[_pairs_of_orders(count)] @ ours
    return float((np.abs(sums) >= abs(float(ours @ square[rows, columns])) - 0.5).mean())


@cache
def _pairs_of_orders(count: int) -> NDArray[np.intp]:
    """(M!, M(M − 1)/2) places, in a flat M × M square, of the pairs of methods in each order."""
    orders = np.array(list(permutations(range(count))), dtype=np.intp)
    rows, columns = np.triu_indices(count, 1)
    return orders[:, rows] * count + orders[:, columns]


def _signs(values: Array) -> Array:
    """(…, M(M − 1)/2) which of each pair is higher: 1 the first, −1 the second, 0 a tie."""
    rows, columns = np.triu_indices(values.shape[-1], 1)
    apart = values[..., rows] - values[..., columns]
    return np.where(np.abs(apart) < EQUAL, 0.0, np.sign(apart))


def _steps(values: Array) -> Array:
    """The different values in rising order, each a little below itself: what ties is counted as one."""
    ordered = np.sort(values)
    return ordered[np.diff(ordered, prepend=-np.inf) >= EQUAL] - EQUAL / 2


def _drawn_means(sets: Sequence[_Checked], seed: int) -> Array | None:
    """(B, M) means of the methods in each draw; None where a method has only one reply."""
    rng = np.random.default_rng(seed)
    seeds = sets[0].values.shape[1]
    weights = _seed_weights(rng, seeds)
    total = np.zeros((DRAWS, sets[0].values.shape[0]))
    for one in sets:
        methods, _, examples = one.values.shape
        groups = int(one.codes.max()) + 1
        order = np.argsort(one.codes, kind="stable")
        starts = np.flatnonzero(np.diff(one.codes[order], prepend=-1))
        sums = np.add.reduceat(one.values.reshape(-1, examples)[:, order], starts, axis=1)
        sizes = np.diff(starts, append=examples)
        side = np.concatenate([sums, sizes[None, :]]).T.astype(np.float64)
        parts = np.concatenate([counts @ side for counts in _dialogue_counts(rng, groups)])
        by_seed = (parts[:, :-1] / parts[:, -1:]).reshape(DRAWS, methods, seeds)
        total += one.weight * np.einsum("bms,bs->bm", by_seed, weights)
    added = _same_replies(sets)
    if added is None:
        return None
    variance, df = added
    # Its place among the means, not among the methods, says which numbers a method gets: their order does not matter.
    place = np.argsort(np.argsort(total.mean(axis=0)))
    ordered = df[np.argsort(place)]
    t = rng.standard_normal(total.shape) / np.sqrt(rng.chisquare(ordered, total.shape) / ordered)
    return np.asarray(total + np.sqrt(variance) * t[:, place])


def _same_replies(sets: Sequence[_Checked]) -> tuple[Array, Array] | None:
    """(M,) variances that equal replies add to the methods' means, and their degrees of freedom."""
    methods = sets[0].values.shape[0]
    variances, df = np.zeros(methods), np.ones(methods)
    for method in range(methods):
        own = [
            Scores(one.values[method], one.codes, () if one.replies is None else (codes(one.replies[method]),))
            for one in sets
        ]
        if any(one.replies for one in own):
            parts = crossed_parts(own, [one.weight for one in sets])
            if parts is None:
                return None
            variances[method], df[method] = parts.replies, min(parts.df_replies, MOST_DF)
    return variances, df


def _seed_weights(rng: np.random.Generator, seeds: int) -> Array:
    """(B, S) weights with a sum of 1; see the top of this file."""
    if seeds == 1:
        return np.ones((DRAWS, 1))
    normal = rng.standard_normal((DRAWS, seeds))
    scale = np.sqrt((seeds - 1) / rng.chisquare(seeds - 1, (DRAWS, 1)))
    return 1 / seeds + scale * (normal - normal.mean(axis=1, keepdims=True)) / math.sqrt(seeds * (seeds - 1))


def _dialogue_counts(rng: np.random.Generator, groups: int) -> Iterator[Array]:
    """(B, G) how often each dialogue is drawn, in blocks of draws."""
    size = max(1, _BLOCK // groups)
    for start in range(0, DRAWS, size):
        rows = min(size, DRAWS - start)
        drawn = rng.integers(groups, size=(rows, groups)) + groups * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * groups).reshape(rows, groups).astype(np.float64)
