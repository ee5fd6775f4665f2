r"""Intervals at 95 % for the numbers of a table, and the quality of a judge.

Shapes: S seeds, N examples, G groups (dialogues). Seeds and dialogues are crossed: every seed answers the same
prompts, so that v[s, i], the score of seed s on example i, is taken as

    v[s, i] = mu + dialogue effect + seed effect + rest,

a two-way random-effects layout with one observation a cell, its examples clustered by dialogue.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

LEVEL = 0.95
Z = NormalDist().inv_cdf(0.5 + LEVEL / 2)


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


class Spread(NamedTuple):
    """How far a mean over seeds and examples may be off: by ``quantile`` times the root of ``variance``."""

    variance: float
    quantile: float
    """Two-sided 95 %, for a variance that is itself estimated."""


def mean_interval(values: ArrayLike, groups: Sequence[str], *, proportion: bool) -> Interval:
    """The mean over seeds of per-example means, with a 95 % interval.

    Args:
        values: (S, N) scores, one row a seed, columns in the same order of examples in every row.
        groups: N names; examples with the same name (a dialogue's turns) are not taken as independent.
        proportion: scores are bounded by 0 and 1. The interval then is `wilson` with the effective sample size
            mean · (1 − mean) / variance, which stays inside [0, 1] and has a width even where all scores are equal.
            Otherwise it is mean ± q · sqrt(variance); `crossed_spread` says what variance and q are.

    Raises:
        ValueError: no data (which is n/a, not 0), NaN or infinite values, shapes that do not fit, or a proportion
            outside [0, 1].
    """
    scores = _checked(values, groups, proportion)
    seeds, n = scores.shape
    mean = float(scores.mean())
    codes = np.unique(np.asarray(groups, dtype=str), return_inverse=True)[1]
    spread = crossed_spread(scores, codes)
    if proportion:
        mean = min(max(mean, 0.0), 1.0)
        low, high = _bounded(mean, spread, int(codes.max()) + 1)
        return Interval(mean, low, high, n, seeds)
    if spread is None:
        return Interval(mean, None, None, n, seeds)
    half = spread.quantile * math.sqrt(spread.variance)
    return Interval(mean, mean - half, mean + half, n, seeds)


def ratio_interval(numerators: ArrayLike, denominators: ArrayLike, groups: Sequence[str]) -> Interval:
    """A ratio of sums, such as nats a token, averaged over seeds, with a 95 % interval.

    Per seed r = Σ numerators / Σ denominators. It is linearised (Cochran 1977, "Sampling Techniques", §2.11): the
    values r + (numerator − r · denominator) / mean denominator have r as their mean and, to first order, its
    variance; `mean_interval` does the rest.

    Args:
        numerators: (S, N), such as the summed nats of each reply.
        denominators: (S, N), such as the tokens of each reply; each row's sum must be above 0.
        groups: N names, as for `mean_interval`.

    Raises:
        ValueError: as `mean_interval`, or a denominator that sums to 0.
    """
    top = _checked(numerators, groups, False)
    bottom = _checked(denominators, groups, False)
    if top.shape != bottom.shape:
        raise ValueError(f"numerators have shape {top.shape}, denominators {bottom.shape}")
    if (bottom.sum(axis=1) <= 0).any():
        raise ValueError("a ratio is undefined where its denominators sum to 0")
    ratio = top.sum(axis=1, keepdims=True) / bottom.sum(axis=1, keepdims=True)
    linear = ratio + (top - ratio * bottom) / bottom.mean(axis=1, keepdims=True)
    return mean_interval(linear, groups, proportion=False)


def crossed_spread(scores: NDArray[np.float64], codes: NDArray[np.intp]) -> Spread | None:
    """Spread of the mean of (S, N) crossed scores whose examples fall into groups ``codes`` (0 … G − 1).

    With y[i] the mean of example i over seeds, m[s] the mean of seed s and r[s, i] = v[s, i] − y[i] − m[s] + mean:

        D = G/(G−1) · Σ_g (Σ_{i∈g} (y[i] − mean))² / N²               between dialogues (Liang & Zeger 1986)
        B = Σ_s (m[s] − mean)² / (S−1) / S                            between seeds
        I = G/(G−1) · S/(S−1) · Σ_{s,g} (Σ_{i∈g} r[s, i])² / (S·N)²   their interaction

    D and B each hold the interaction once, so the variance is D + B − I (Searle, Casella & McCulloch 1992,
    "Variance Components", ch. 4; Cameron, Gelbach & Miller 2011 for clusters), but never less than D or B, as a
    negative component is estimated as 0. With one seed it is D, and the quantile is t's with G − 1 degrees of freedom.

    Returns:
        None with a single group, from which no spread between dialogues can be seen.
    """
    seeds, n = scores.shape
    count = int(codes.max()) + 1
    if count < 2:
        return None
    mean = scores.mean()
    members = np.zeros((n, count))
    members[np.arange(n), codes] = 1.0
    per_example, per_seed = scores.mean(axis=0), scores.mean(axis=1)
    few_groups = count / (count - 1)
    dialogues = few_groups * float((((per_example - mean) @ members) ** 2).sum()) / n**2
    if seeds == 1:
        return Spread(dialogues, t_quantile(count - 1))
    between = float(((per_seed - mean) ** 2).sum()) / (seeds - 1) / seeds
    rest = (scores - per_example - per_seed[:, None] + mean) @ members
    interaction = few_groups * seeds / (seeds - 1) * float((rest**2).sum()) / (seeds * n) ** 2
    variance = max(dialogues + between - interaction, dialogues, between)
    return Spread(variance, _crossed_quantile(variance, (dialogues, between, interaction), count, seeds))


def _crossed_quantile(variance: float, parts: tuple[float, float, float], groups: int, seeds: int) -> float:
    """The larger of two answers to: which t, when one part of a variance rests on G dialogues, one on S seeds?

    Welch–Satterthwaite (1946) takes t with variance² / (D²/(G−1) + B²/(S−1) + I²/((G−1)(S−1))) degrees of freedom.
    When a few seeds happen to agree it takes too many, and covers 92 % at 3 seeds. Cochran & Cox (1950) weight the
    squared quantiles by the parts: (t²_{G−1}·D + t²_{S−1}·(variance − D)) / variance. It errs when few replies fail.
    Simulated, the larger covers at least 93 % with 3 seeds at shares of 0.6 and 0.99; with 2 seeds as little as 90 %.
    """
    dialogues, between, interaction = parts
    noise = dialogues**2 / (groups - 1) + between**2 / (seeds - 1) + interaction**2 / ((groups - 1) * (seeds - 1))
    if not noise or not variance:
        return t_quantile(groups - 1)
    satterthwaite = t_quantile(max(variance**2 / noise, min(seeds, groups) - 1))
    squares = t_quantile(groups - 1) ** 2 * dialogues + t_quantile(seeds - 1) ** 2 * (variance - dialogues)
    return max(satterthwaite, math.sqrt(squares / variance))


def wilson(p: float, n: float, quantile: float = Z) -> tuple[float, float]:
    """Wilson's (1927) score limits of a proportion, clipped to [0, 1].

    With q the quantile: (p + q²/2n ± q·sqrt(p(1−p)/n + q²/4n²)) / (1 + q²/n).

    Args:
        p: the observed share.
        n: sample size, not necessarily whole.
        quantile: of the normal distribution, or of t where n itself is estimated.
    """
    square = quantile * quantile / n
    centre = (p + square / 2) / (1 + square)
    half = quantile * math.sqrt(p * (1 - p) / n + square / (4 * n)) / (1 + square)
    return max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half))


def t_quantile(df: float) -> float:
    """Two-sided 95 % quantile of Student's t; ``df`` need not be whole."""
    from scipy.special import stdtrit

    return float(stdtrit(df, 0.5 + LEVEL / 2))


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


def _bounded(mean: float, spread: Spread | None, groups: int) -> tuple[float, float]:
    """`wilson` with an effective sample size, for a clustered mean in [0, 1].

    The effective size mean(1−mean)/variance (Kish 1965; for Wilson limits: Dean & Pagano 2015) is n over the design
    effect. Where no variance is seen, as when all scores are equal, each dialogue counts as one observation.
    """
    if spread is None or spread.variance <= 1e-18 or mean in (0.0, 1.0):
        return wilson(mean, groups)
    return wilson(mean, mean * (1 - mean) / spread.variance, spread.quantile)


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


def _checked(values: ArrayLike, groups: Sequence[str], proportion: bool) -> NDArray[np.float64]:
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
    return scores


def _labels(labels: ArrayLike) -> NDArray[np.int64]:
    truth = np.asarray(labels, dtype=np.float64)
    if truth.ndim != 1 or not truth.size or not np.isin(truth, (0.0, 1.0)).all():
        raise ValueError("labels must be a non-empty list of zeros and ones")
    return truth.astype(np.int64)
