"""Intervals at 95 % for the numbers of a table, and the quality of a judge.

Shapes: S seeds, N examples, G groups (dialogues). Seeds and dialogues are crossed: every seed answers the same prompts.
What an interval is of: with several seeds, the mean over all seeds that could have been drawn and all dialogues like
these; with one seed, the mean of this one model over all dialogues like these. `spread` estimates the variance,
`limits` turns it into limits.

Coverage in per cent, lowest to highest of what `tests/unit/evaluators/test_coverage.py` simulates: 4,000 tables each,
the prompts in dialogues of 1 to 4, effects on the logit scale with a deviation of 1 between dialogues or rates that are
products of beta variables, and a deviation between seeds of 0, half of and as much as between dialogues.

    share      0.6                          0.99
    prompts    100           500            100           500
    1 seed     95.0 – 95.4   94.3 – 95.3    94.8 – 95.4   95.7 – 96.8
    2 seeds    95.5 – 98.4   93.5 – 98.3    99.6 – 99.8   99.0 – 99.2
    3          94.6 – 97.3   93.8 – 98.1    98.2 – 99.2   95.8 – 97.5
    5          94.8 – 96.9   94.4 – 96.4    97.7 – 98.9   93.4 – 96.4
    10         94.9 – 96.5   95.0 – 96.0    97.5 – 98.1   93.3 – 96.0

Above 97 % are 2 and 3 seeds that hardly differ, which nobody can know from so few; and 100 prompts of which one fails,
where limits can only step from one count to the next. Not held: 5 and more seeds near 99 % whose failures differ by
more, by a deviation of 1.5 or 2 logits (that is, odds 4.5 or 7.4 times as high), are covered 89 to 93 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from evaluators.limits import Z, share_limits, squared_half_width, wilson
from evaluators.spread import Scores, crossed_parts

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Auc",
    "Interval",
    "accuracy",
    "auc",
    "checked_scores",
    "checked_weights",
    "mean_interval",
    "ratio_interval",
    "weighted_mean_interval",
    "wilson",
]


class Interval(NamedTuple):
    """A mean and its 95 % interval."""

    mean: float
    low: float | None
    """None where the data say nothing of the spread, as for the mean of one example."""
    high: float | None
    n: int
    """Prompts, not prompts times seeds."""
    seeds: int
    """With 1 the interval holds for this one model: it covers other dialogues, not other seeds."""


class Auc(NamedTuple):
    """Area under the ROC curve and its 95 % interval."""

    value: float
    low: float
    high: float
    n: int


def mean_interval(
    values: ArrayLike, groups: Sequence[str], *, proportion: bool, replies: ArrayLike | None = None
) -> Interval:
    """The mean over seeds of per-example means, with a 95 % interval.

    Args:
        values: (S, N) scores, one row a seed, columns in the same order of examples in every row.
        groups: N names; examples with the same name (a dialogue's turns) are not taken as independent.
        proportion: scores are bounded by 0 and 1. The interval then is `limits.share_limits`, which stays inside [0, 1]
            and has a width even where all scores are equal. Otherwise it is mean ± q · sqrt(variance), by
            `limits.squared_half_width`.
        replies: (S, N) ids, such as hashes, of what was replied: equal replies are one draw of the model. None takes
            all as different.

    Raises:
        ValueError: no data (which is n/a, not 0), NaN or infinite values, shapes that do not fit, or a proportion
            outside [0, 1].
    """
    return weighted_mean_interval([(values, groups, replies)], [1.0], proportion=proportion)


def weighted_mean_interval(
    parts: Sequence[tuple[ArrayLike, Sequence[str]] | tuple[ArrayLike, Sequence[str], ArrayLike | None]],
    weights: Sequence[float],
    *,
    proportion: bool,
) -> Interval:
    """The weighted mean of the means of several sets of prompts, with a 95 % interval.

    Args:
        parts: values, groups and, if known, replies of each set, as for `mean_interval`. The seeds are the same, in the
            same order, in every set; the dialogues are not.
        weights: one a set, not negative, with a sum of 1. They are taken as known.
        proportion: as for `mean_interval`.

    Raises:
        ValueError: as `mean_interval`, weights that do not fit, or sets with different numbers of seeds.
    """
    sets = [
        checked_scores(part[0], part[1], proportion=proportion, replies=part[2:] if len(part) == 3 else ())
        for part in parts
    ]
    seeds = checked_weights(sets, weights)
    n, found = sum(one.codes.size for one in sets), crossed_parts(sets, weights)
    mean = math.fsum(weight * float(one.values.mean()) for one, weight in zip(sets, weights, strict=True))
    if proportion:
        mean = min(max(mean, 0.0), 1.0)
        low, high = wilson(mean, 1) if found is None else share_limits(found)
        # Sums in another order: the mean may be a rounding error outside.
        return Interval(mean, min(float(low), mean), max(float(high), mean), n, seeds)
    if found is None:
        return Interval(mean, None, None, n, seeds)
    half = math.sqrt(float(squared_half_width(found, cautious=True)))
    return Interval(mean, mean - half, mean + half, n, seeds)


def ratio_interval(
    numerators: ArrayLike, denominators: ArrayLike, groups: Sequence[str], *, replies: ArrayLike | None = None
) -> Interval:
    """A ratio of sums, such as nats a token, averaged over seeds, with a 95 % interval.

    Per seed r = Σ numerators / Σ denominators. It is linearised (Cochran 1977, "Sampling Techniques", §2.11): the
    values r + (numerator − r · denominator) / mean denominator have r as their mean and, to first order, its
    variance; `mean_interval` does the rest.

    Args:
        numerators: (S, N), such as the summed nats of each reply.
        denominators: (S, N), such as the tokens of each reply; each row's sum must be above 0.
        groups: N names, as for `mean_interval`.
        replies: as for `mean_interval`.

    Raises:
        ValueError: as `mean_interval`, or a denominator that sums to 0.
    """
    top = checked_scores(numerators, groups, proportion=False).values
    bottom = checked_scores(denominators, groups, proportion=False).values
    if top.shape != bottom.shape:
        raise ValueError(f"numerators have shape {top.shape}, denominators {bottom.shape}")
    if (bottom.sum(axis=1) <= 0).any():
        raise ValueError("a ratio is undefined where its denominators sum to 0")
    ratio = top.sum(axis=1, keepdims=True) / bottom.sum(axis=1, keepdims=True)
    linear = ratio + (top - ratio * bottom) / bottom.mean(axis=1, keepdims=True)
    return mean_interval(linear, groups, proportion=False, replies=replies)


def checked_scores(
    values: ArrayLike, groups: Sequence[str], *, proportion: bool, replies: Sequence[ArrayLike | None] = ()
) -> Scores:
    """(S, N) scores with their dialogues and replies as numbers; refuses what `mean_interval` does."""
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[1] != len(groups):
        raise ValueError(f"expected (seeds, examples) values for {len(groups)} groups, found shape {scores.shape}")
    if not scores.size:
        raise ValueError("no data: a mean without values is n/a, not 0")
    if not np.isfinite(scores).all():
        bad = int((~np.isfinite(scores)).sum())
        raise ValueError(f"{bad} of {scores.size} values are NaN or infinite; they are not dropped silently")
    if proportion and (scores.min() < 0 or scores.max() > 1):
        raise ValueError(f"a proportion's values lie in [0, 1], found {scores.min():g} to {scores.max():g}")
    ids = [np.asarray(one) for one in replies if one is not None]
    if wrong := [one.shape for one in ids if one.shape != scores.shape]:
        raise ValueError(f"replies have shape {wrong[0]}, their scores {scores.shape}")
    return Scores(scores, codes(np.asarray(groups, dtype=str)), tuple(map(codes, ids)))


def checked_weights(sets: Sequence[Scores], weights: Sequence[float]) -> int:
    """The number of seeds that all sets of prompts have; refuses what `weighted_mean_interval` does."""
    if len(sets) != len(weights) or not sets:
        raise ValueError(f"{len(sets)} sets of prompts, {len(weights)} weights")
    if min(weights) < 0 or not math.isclose(math.fsum(weights), 1, rel_tol=0, abs_tol=1e-9):
        raise ValueError(f"weights must not be negative and sum to 1, found {list(weights)}")
    counts = sorted({one.values.shape[0] for one in sets})
    if len(counts) > 1:
        raise ValueError(f"every set needs the same seeds, found {counts} of them")
    return int(counts[0])


def codes(names: NDArray[np.generic]) -> NDArray[np.intp]:
    """Names as numbers from 0, in the order of the names; the shape stays."""
    return np.unique(names, return_inverse=True)[1].reshape(names.shape)


def auc(labels: ArrayLike, scores: ArrayLike) -> Auc:
    """Area under the ROC curve: the chance that a positive scores above a negative, a tie counting half.

    The interval inverts Hanley & McNeil's (1982) variance at the limits themselves, as Wilson's does for a share:
    those θ with |θ̂ − θ| ≤ z·sqrt(V(θ)), where for n₁ positives, n₀ negatives and h = (n₁ + n₀)/2 − 1

        V(θ) = θ(1−θ) · (1 + h·((1−θ)/(2−θ) + θ/(1+θ))) / (n₁·n₀)

    (Newcombe 2006, "Confidence intervals for an effect size measure based on the Mann–Whitney statistic, part 2",
    method 5). Unlike DeLong's it has a width at 0 and 1 and stays inside them. It takes examples as independent.

    Args:
        labels: N zeros and ones.
        scores: N numbers, higher for 1.

    Raises:
        ValueError: only one class, NaN, labels other than 0 and 1, or lengths that differ.
    """
    from sklearn.metrics import roc_auc_score

    truth, ranks = _labels(labels), np.asarray(scores, dtype=np.float64)
    if truth.shape != ranks.shape or not np.isfinite(ranks).all():
        raise ValueError(f"AUC needs {truth.size} finite scores, one a label")
    positives = int(truth.sum())
    negatives = truth.size - positives
    if not positives or not negatives:
        raise ValueError(f"AUC needs both classes, found {positives} positives and {negatives} negatives")
    value = float(roc_auc_score(truth, ranks))
    return Auc(value, *_auc_limits(value, positives, negatives), truth.size)


def accuracy(labels: ArrayLike, scores: ArrayLike, *, threshold: float) -> float:
    """Share of N labels (0 or 1) that ``score >= threshold`` gets right.

    Raises:
        ValueError: no data, NaN, labels other than 0 and 1, or lengths that differ.
    """
    from sklearn.metrics import accuracy_score

    truth, numbers = _labels(labels), np.asarray(scores, dtype=np.float64)
    if truth.shape != numbers.shape or not np.isfinite(numbers).all():
        raise ValueError(f"accuracy needs {truth.size} finite scores, one a label")
    return float(accuracy_score(truth, numbers >= threshold))


def _auc_limits(value: float, positives: int, negatives: int) -> tuple[float, float]:
    from scipy.optimize import brentq

    h = (positives + negatives) / 2 - 1

    def excess(theta: float) -> float:
        inner = 1 + h * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return (value - theta) ** 2 - Z * Z * theta * (1 - theta) * inner / (positives * negatives)

    # A hair's breadth off the value: at 0 and 1 the value itself is a second, trivial root.
    low = 0.0 if value <= 0 else float(brentq(excess, 0.0, value * (1 - 1e-9)))
    high = 1.0 if value >= 1 else float(brentq(excess, value + (1 - value) * 1e-9, 1.0))
    return low, high


def _labels(labels: ArrayLike) -> NDArray[np.int64]:
    truth = np.asarray(labels, dtype=np.float64)
    if truth.ndim != 1 or not truth.size or not np.isin(truth, (0.0, 1.0)).all():
        raise ValueError("labels must be a non-empty list of zeros and ones")
    return truth.astype(np.int64)
