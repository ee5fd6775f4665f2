"""From the parts of a variance to limits and p-values; each function works on arrays of tables at once."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from evaluators.spread import Array, Parts

ALPHA = 0.05
Z = NormalDist().inv_cdf(1 - ALPHA / 2)

NO_VARIANCE = 1e-18
"""A variance up to here is rounding, of scores that are all equal."""
SMALLEST_P = 1e-16


def t_quantile(df: ArrayLike, alpha: ArrayLike = ALPHA) -> Array:
    """Two-sided 1 − ``alpha`` quantile of Student's t; ``df`` need not be whole."""
    from scipy.special import stdtrit

    return -np.asarray(stdtrit(df, np.asarray(alpha) / 2), dtype=np.float64)


def squared_half_width(parts: Parts, alpha: ArrayLike = ALPHA, *, cautious: bool) -> Array:
    """Square of the half width of a 1 − ``alpha`` interval, from parts V that rest on few or many observations.

    Cautious, it is Σ t²·V, each part with the t of its own degrees of freedom (Banerjee 1960, Sankhyā 22; Cochran &
    Cox 1950 before him as an approximation): with normal effects it covers at least 1 − alpha whatever the true parts
    are. Worked out by numerical integration, with many dialogues: 95 to 98.7 % at 2 seeds, 95 to 97.7 % at 3, 95 to
    96.6 % at 5, 95 to 95.7 % at 10.

    Otherwise, from 3 seeds on, it is the geometric mean of that and of t²·ΣV, t having (ΣV)² / Σ(V²/df) degrees of
    freedom (Satterthwaite 1946). The latter errs the other way: when few seeds happen to agree it takes too many. The
    two together err 3.4 to 5.9 % of the time at 3 seeds, 4.2 to 5.1 % at 5 and 4.6 to 5.1 % at 10. At 2 seeds they
    would reach 7.8 %, so there the cautious one stays.
    """
    df_seeds = max(parts.df_seeds, 1)
    banerjee = (
        t_quantile(parts.df_dialogues, alpha) ** 2 * parts.dialogues
        + t_quantile(df_seeds, alpha) ** 2 * parts.seeds
        + t_quantile(min(parts.df_replies, 1e6), alpha) ** 2 * parts.replies
    )
    if cautious or parts.df_seeds == 1:
        return np.asarray(banerjee)
    variance = parts.variance
    noise = parts.noise + parts.seeds**2 / df_seeds + parts.replies**2 / parts.df_replies
    least = parts.df_dialogues
    if parts.df_seeds:
        least = np.minimum(least, df_seeds)
    if parts.replies.any():
        least = np.minimum(least, parts.df_replies)
    df = np.maximum(variance**2 / np.maximum(noise, 1e-300), least)
    return np.sqrt(banerjee * t_quantile(df, alpha) ** 2 * variance)


def share_limits(parts: Parts) -> tuple[Array, Array]:
    """95 % limits of a mean m of scores in [0, 1], by inverting a score test as Wilson (1927) did for a binomial share.

    They enclose the θ with (m − θ)² ≤ q²·V(θ), where V(m) = V is the variance of the mean, q² the cautious factor of
    `squared_half_width` and, for w = θ(1−θ) / m(1−m) and γ = 1 − 1/(S−1),

        V(θ) = (V − own_seeds)·w + own_seeds·w·max(w, 1)^γ.

    The variance of a share is in proportion to θ(1−θ), so that without seeds this is Wilson's with the effective sample
    size m(1−m)/V (Kish 1965; Dean & Pagano 2015). What seeds differ by goes with its square, as when one of them
    doubles the odds of failing, and the seed that would fail most is usually not among those that were drawn: with γ =
    0, ten unequal seeds near 99 % cover 91 %. Fewer seeds need less of it, as their t is wide by itself. γ is ours.

    Where the variance is seen in few dialogues it is hardly known, and is drawn toward what is taken where all scores
    are equal: it is raised by (m(1−m)/observations − V)₊ / (1 + carriers)³. Without that, one failure in a thousand
    replies to a hundred prompts is surer than none, and few dialogues that fail often are covered 89 %. The form is
    ours. Where no variance is seen at all, the limits are `wilson` of that many observations.
    """
    mean, variance = parts.mean, parts.variance
    room = mean * (1 - mean)
    flat = (room <= 1e-12) | (variance <= NO_VARIANCE)
    room = np.where(flat, 1.0, room)
    factor = squared_half_width(parts, cautious=True) / np.where(flat, 1.0, variance)
    unseen = np.maximum(room / parts.observations - variance, 0) / (1 + parts.carriers) ** 3
    linear = (factor * (variance - parts.own_seeds) + t_quantile(parts.df_dialogues) ** 2 * unseen) / room
    steep = factor * parts.own_seeds / room
    power = 1 - 1 / max(parts.df_seeds, 1)
    low, high = (_furthest(mean, end, linear, steep, room, power) for end in (0.0, 1.0))
    flat_low, flat_high = wilson(mean, parts.observations)
    return np.where(flat, flat_low, low), np.where(flat, flat_high, high)


def wilson(share: ArrayLike, n: ArrayLike, quantile: float = Z) -> tuple[Array, Array]:
    """Wilson's (1927) score limits of a share p observed n times, clipped to [0, 1].

    With q the quantile: (p + q²/2n ± q·sqrt(p(1−p)/n + q²/4n²)) / (1 + q²/n).
    """
    p, square = np.asarray(share, dtype=np.float64), quantile * quantile / np.asarray(n, dtype=np.float64)
    centre = (p + square / 2) / (1 + square)
    half = np.sqrt(p * (1 - p) * square + square * square / 4) / (1 + square)
    return np.clip(np.minimum(p, centre - half), 0, 1), np.clip(np.maximum(p, centre + half), 0, 1)


def p_value(parts: Parts) -> Array:
    """Two-sided p of a mean of 0: the alpha at which mean ± half width, not cautious, touches 0; at least 1e-16."""
    if not parts.mean.shape:
        return np.asarray(_p_of_one(parts))
    low, high = np.full(parts.mean.shape, np.log(SMALLEST_P)), np.zeros(parts.mean.shape)
    for _ in range(50):
        middle = (low + high) / 2
        excludes = parts.mean**2 > squared_half_width(parts, np.exp(middle), cautious=False)
        low, high = np.where(excludes, low, middle), np.where(excludes, middle, high)
    return np.exp(high)


def _p_of_one(parts: Parts) -> float:
    """`p_value` of a single table, by Brent's method in a third of the steps."""
    from scipy.optimize import brentq

    def above(log_alpha: float) -> float:
        return float(squared_half_width(parts, np.exp(log_alpha), cautious=False)) - square

    square, least = float(parts.mean) ** 2, float(np.log(SMALLEST_P))
    if above(0.0) >= 0:
        return 1.0
    return SMALLEST_P if above(least) <= 0 else float(np.exp(brentq(above, least, 0.0, xtol=1e-14, rtol=1e-14)))


def _furthest(mean: Array, end: float, linear: Array, steep: Array, room: Array, power: float) -> Array:
    """By bisection, the θ between ``mean`` and ``end`` up to which (m − θ)² ≤ V(θ); there is one crossing."""
    inside, outside = mean.copy(), np.full_like(mean, end)
    for _ in range(50):
        middle = (inside + outside) / 2
        spread = middle * (1 - middle)
        held = (mean - middle) ** 2 <= linear * spread + steep * spread * np.maximum(1, spread / room) ** power
        inside, outside = np.where(held, middle, inside), np.where(held, outside, middle)
    return inside
