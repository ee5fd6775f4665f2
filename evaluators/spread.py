r"""How far a mean over seeds and dialogues may be off: the parts of its variance.

Shapes: R tables that are worked on at once (any leading axes, or none), S seeds, N examples, G dialogues. Seeds and
dialogues are crossed: every seed answers the same prompts, so that v[s, i], the score of seed s on example i, is

    v[s, i] = mu + dialogue effect + seed effect + rest,

a two-way random-effects layout with one observation a cell, its examples clustered by dialogue.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Codes = NDArray[np.intp]


ROUNDING = 1e-14
"""Of the largest score: what dialogues deviate by up to here is rounding. It has a size and a shape, which depend on
the order of the sums, and would be taken for a variance that is seen in some dialogues."""


class Scores(NamedTuple):
    """What S seeds scored on the N examples of one set of prompts."""

    values: Array
    """(…, S, N)."""
    codes: Codes
    """(N,) the dialogue of each example, from 0."""
    replies: tuple[Codes, ...] = ()
    """(S, N) arrays of which reply it was, from 0: one, or for a difference of two methods one each."""


class Parts(NamedTuple):
    """A mean, and the independent parts of its variance; arrays over the R tables where nothing else is said."""

    mean: Array
    dialogues: Array
    """Between dialogues, without what each seed makes of a dialogue."""
    seeds: Array
    """Between seeds, with what each seed makes of a dialogue; 0 with one seed."""
    own_seeds: Array
    """Of `seeds`, what the dialogues of a seed share."""
    replies: Array
    """What equal replies in several dialogues add."""
    df_dialogues: Array
    df_seeds: int
    df_replies: float
    noise: Array
    """Variance of `dialogues` as an estimate, halved."""
    carriers: Array
    """Effective number of dialogues that the variance is seen in: of the order of G, or few where few replies fail."""
    observations: float
    """What the cell counts for where its scores are all equal: the dialogues, or the different replies if fewer."""

    @property
    def variance(self) -> Array:
        """Of the mean."""
        return self.dialogues + self.seeds + self.replies


class _SetParts(NamedTuple):
    """What one set of prompts contributes."""

    seed_means: Array
    """(…, S)."""
    dialogues: Array
    """D of `crossed_parts`."""
    interaction: Array
    """I."""
    squares: Array
    """Σ over dialogues of squared sums."""
    fourths: Array
    replies: float
    groups: int
    different: float
    """Effective number of different replies."""


def crossed_parts(sets: Sequence[Scores], weights: Sequence[float] = (1.0,)) -> Parts | None:
    """The parts of the variance of a mean, or of the weighted mean of the means of several sets of prompts.

    In each set, with y[i] the mean of example i over seeds, m[s] that of seed s and r[s, i] = v[s, i] − y[i] − m[s] +
    mean:

        D = G/(G−1) · Σ_g (Σ_{i∈g} (y[i] − mean))² / N²               between dialogues (Liang & Zeger 1986)
        I = G/(G−1) · S/(S−1) · Σ_{s,g} (Σ_{i∈g} r[s, i])² / (S·N)²   interaction of seeds and dialogues
        B = Σ_s (m[s] − mean)² / (S−1) / S                            between seeds

    D and B each hold the interaction once, so the variance is (D − I) + B, a negative D − I being taken as 0 (Searle,
    Casella & McCulloch 1992, "Variance Components", ch. 4; Cameron, Gelbach & Miller 2011 for clusters). With one seed
    it is D. For several sets, of other dialogues but the same seeds, D and I are Σ w²·D and Σ w²·I, and B is that of
    Σ w·m[s]. `_reply_part` adds to it.

    Args:
        sets: with the same S in all. Replies only where `values` has no leading axes.
        weights: one a set; their sum is 1.

    Returns:
        None where a set has a single dialogue, or all its replies are one: no spread can be seen.
    """
    parts = [_set_parts(one) for one in sets]
    if any(part.groups < 2 or part.different <= 1 for part in parts):
        return None
    weighted = list(zip(np.asarray(weights, dtype=np.float64), parts, strict=True))
    seed_means = np.sum([w * part.seed_means for w, part in weighted], axis=0)
    seeds, mean = seed_means.shape[-1], np.asarray(seed_means.mean(axis=-1))
    inner = np.sum([w**2 * part.dialogues for w, part in weighted], axis=0)
    interaction = np.sum([w**2 * part.interaction for w, part in weighted], axis=0)
    own = [(w**2 * part.dialogues) ** 2 / (part.groups - 1) for w, part in weighted]
    crossed = [(w**2 * part.interaction) ** 2 / (part.groups - 1) / max(seeds - 1, 1) for w, part in weighted]
    squares = np.sum([w**2 * part.squares for w, part in weighted], axis=0)
    fourths = np.sum([w**4 * part.fourths for w, part in weighted], axis=0)
    between = ((seed_means - mean[..., None]) ** 2).sum(axis=-1) / max(seeds - 1, 1) / seeds
    return Parts(
        mean=mean,
        dialogues=np.maximum(inner - interaction, 0),
        seeds=between,
        own_seeds=np.maximum(between - interaction, 0),
        replies=np.full_like(mean, sum(w**2 * part.replies for w, part in weighted)),
        df_dialogues=_ratio(inner**2, np.sum(own, axis=0), sum(part.groups - 1 for part in parts)),
        df_seeds=seeds - 1,
        df_replies=max(min(part.different for part in parts) - 1, 1.0),
        noise=np.sum(own, axis=0) + np.sum(crossed, axis=0),
        carriers=_ratio(squares**2, fourths, 0.0),
        observations=1 / sum(w**2 / min(part.groups, part.different) for w, part in weighted),
    )


def _set_parts(one: Scores) -> _SetParts:
    values, n = one.values, one.codes.size
    seeds = values.shape[-2]
    sums, sizes = _by_dialogue(values, one.codes)
    count = sizes.size
    few_groups = count / max(count - 1, 1)
    seed_means = sums.sum(axis=-1) / n
    mean = seed_means.mean(axis=-1, keepdims=True)
    own = (sums.mean(axis=-2) - sizes * mean) / n
    own = np.where(np.abs(own) <= ROUNDING * np.abs(values).max(axis=(-1, -2))[..., None], 0.0, own)
    squares = (own**2).sum(axis=-1)
    rest = sums - sums.mean(axis=-2, keepdims=True) - sizes * (seed_means - mean)[..., None]
    interaction = few_groups * (rest**2).sum(axis=(-1, -2)) / (seeds * n) ** 2 * seeds / max(seeds - 1, 1)
    extra, different = _reply_part(one)
    return _SetParts(
        seed_means=seed_means,
        dialogues=few_groups * squares,
        interaction=interaction,
        squares=squares,
        fourths=(own**4).sum(axis=-1),
        replies=extra,
        groups=count,
        different=different,
    )


def _by_dialogue(values: Array, codes: Codes) -> tuple[Array, Array]:
    """(…, S, G) sums of the scores of each dialogue, and its (G,) number of examples."""
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    sums = np.add.reduceat(values[..., order], starts, axis=-1, dtype=np.float64)
    return sums, np.diff(starts, append=codes.size).astype(np.float64)


def _reply_part(one: Scores) -> tuple[float, float]:
    """What equal replies add to the variance of a mean, and the effective number of different replies.

    A reply that a model gives in several dialogues is one draw of the model, and so to a part ρ is its score: all of it
    where a judge reads replies alone. ρ is 1 − the mean square within equal replies / the mean square of all scores,
    at least 0 (the intraclass correlation of a one-way layout; Searle, Casella & McCulloch 1992, ch. 3). Each pair of
    cells with the same reply, but neither the dialogue nor, with several seeds, the seed in common (which the other
    parts hold), then adds ρ · that mean square / (S·N)² (Kish 1965, "Survey Sampling"); the mean square itself
    falls short by the part that equal replies move the mean, and is divided by 1 − ρ·Σ share². Estimating ρ from the
    pairs' own products fails where a table shows few replies that differ in score: it covered 85 % where 95 % of 15 to
    40 templates are fine. For a difference of two methods the parts of either's replies are added, less that of the
    pairs of which both are equal.

    The effective number is 1 / Σ share² (Kish 1965): K for K equal shares. Of two methods that of the one with fewer.
    """
    if not one.replies:
        return 0.0, np.inf
    numbers = [1 / _pairs(ids) for ids in one.replies]
    each = [_shared(one.values, ids, one.codes) for ids in one.replies]
    if len(each) == 1:
        return each[0], numbers[0]
    return max(sum(each) - _shared(one.values, _joint(*one.replies), one.codes), *each), min(numbers)


def _shared(values: Array, ids: Codes, codes: Codes) -> float:
    """What one clustering by reply adds to the variance of the mean of (S, N) scores."""
    seed = np.broadcast_to(np.arange(values.shape[0])[:, None], values.shape)
    in_dialogue, in_seed = _joint(ids, codes[None, :]), _joint(ids, seed)
    pairs = _pairs(ids) - _pairs(in_dialogue)
    if values.shape[0] > 1:
        pairs += _pairs(_joint(in_dialogue, seed)) - _pairs(in_seed)
    if pairs <= 1e-12:
        return 0.0
    repeats = np.bincount(ids.ravel())
    centred = values - values.mean()
    own = centred - (np.bincount(ids.ravel(), centred.ravel()) / repeats)[ids]
    total, within = float((centred**2).mean()), float((own**2).sum()) / (repeats - 1).sum()
    share = max(1 - within / total, 0.0) if total > 0 else 0.0
    return share * total * pairs / max(1 - share * _pairs(ids), 1e-3)


def _shares(ids: Codes) -> Array:
    return np.bincount(ids.ravel()) / ids.size


def _pairs(ids: Codes) -> float:
    """Share of all pairs of cells, each with itself among them, that are equal."""
    return float((_shares(ids) ** 2).sum())


def _joint(first: Codes, *others: Codes) -> Codes:
    """Codes, from 0, of the pairs of two arrays of codes."""
    for other in others:
        pairs = first.astype(np.int64) * (int(other.max()) + 1) + other
        first = np.unique(pairs, return_inverse=True)[1].reshape(first.shape)
    return first


def _ratio(top: Array, bottom: Array, otherwise: float) -> Array:
    """``top / bottom``, or ``otherwise`` where both vanish."""
    vanishes = bottom <= 1e-300
    return np.asarray(np.where(vanishes, otherwise, top / np.where(vanishes, 1.0, bottom)))
