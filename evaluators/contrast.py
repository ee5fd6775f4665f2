"""The difference of two sides in one cell of a table, whichever seeds and prompts they have.

Where both sides ran the same seeds, their scores are paired by seed and prompt (`evaluators.paired`). Otherwise they
are two independent samples of models (`evaluators.independent`). Prompts that only one side has are left out; where
there is no prompt in common, they are two samples of prompts, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from evaluators.independent import two_sample_parts
from evaluators.limits import NO_VARIANCE, SMALLEST_P, p_value, squared_half_width, t_quantile
from evaluators.paired import Pair, weighted_paired_difference
from evaluators.spread import Scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from evaluators.spread import Array, Codes


class Prompts(NamedTuple):
    """What the S seeds of one side scored on one set of prompts."""

    values: Array
    """(S, N)."""
    uids: Sequence[str]
    """N prompts."""
    groups: Sequence[str]
    """N names of their dialogues."""
    replies: NDArray[np.str_] | None = None
    """(S, N) ids, such as hashes, of what was replied; None takes all as different."""
    name: str = ""
    """Of the set."""


class Sample(NamedTuple):
    """One side's scores for one cell of a table."""

    seeds: tuple[int, ...]
    sets: tuple[Prompts, ...] = ()
    """One a set of prompts; empty for a number of all replies together."""
    weights: tuple[float, ...] = (1.0,)
    """Of the sets; their sum is 1."""
    numbers: tuple[float, ...] = ()
    """One a seed; without sets only."""

    @property
    def seed_means(self) -> list[float]:
        """The cell's value for each seed."""
        if not self.sets:
            return list(self.numbers)
        pairs = zip(self.weights, self.sets, strict=True)
        return [float(value) for value in np.sum([weight * one.values.mean(axis=-1) for weight, one in pairs], axis=0)]

    @property
    def between_seeds(self) -> float | None:
        """The deviation between seeds; None with one."""
        return float(np.std(self.seed_means, ddof=1)) if len(self.seeds) > 1 else None


class Contrast(NamedTuple):
    """New minus old."""

    mean: float
    low: float | None
    """Of the 95 % interval; None where the scores say nothing of the spread."""
    high: float | None
    p: float | None
    """Two-sided, of no difference."""
    prompts: int | None
    """In the comparison; None for a number of all replies together."""
    same_prompts: bool
    """Are they the same on both sides?"""
    paired: bool
    """By seed, too?"""
    one_seed: bool
    """Nothing is known of other seeds: the claim is about these models only."""


def contrast(new: Sample, old: Sample, *, proportion: bool) -> Contrast:
    """The difference of two sides in one cell.

    Args:
        new: with as many sets of prompts as ``old``, in the same order.
        old: what it is compared with.
        proportion: are all scores in [0, 1]?
    """
    paired = set(new.seeds) == set(old.seeds)
    if not old.sets:
        return _of_numbers(new, old, paired)
    common = [sorted(set(ours.uids) & set(theirs.uids)) for ours, theirs in zip(new.sets, old.sets, strict=True)]
    one_seed = len(new.seeds) == len(old.seeds) == 1
    if not all(common):
        return _of_samples(
            new.sets, old.sets, old.weights, proportion=proportion, same_prompts=False, one_seed=one_seed
        )
    places = [old.seeds.index(seed) for seed in new.seeds] if paired else range(len(old.seeds))
    ours = [_at(one, uids, range(len(new.seeds))) for one, uids in zip(new.sets, common, strict=True)]
    theirs = [_at(one, uids, places) for one, uids in zip(old.sets, common, strict=True)]
    if not paired:
        return _of_samples(ours, theirs, old.weights, proportion=proportion, same_prompts=True, one_seed=one_seed)
    pairs = [
        Pair(one.values, other.values, one.groups, one.replies, other.replies)
        for one, other in zip(ours, theirs, strict=True)
    ]
    found = weighted_paired_difference(pairs, old.weights, proportion=proportion)
    return Contrast(found.mean, found.low, found.high, found.p, found.n, True, True, one_seed)


def seeds_contrast(new: Sample, old: Sample) -> Contrast:
    """The difference of two sides on these very prompts: could other seeds of the same code have made it?

    Where nothing has changed, sides that answer the same prompts differ by their seeds alone, and the seeds' means are
    two samples of one distribution. So their two-sample t test has S₁ + S₂ − 2 degrees of freedom and no part of
    dialogues; its interval is no claim about other prompts. `contrast` holds for those, and a loss that is not the same
    in every dialogue is harder to tell there.
    """
    return _of_numbers(_means(new), _means(old), paired=set(new.seeds) == set(old.seeds))


def _means(side: Sample) -> Sample:
    return Sample(side.seeds, numbers=tuple(side.seed_means))


def _of_samples(
    ours: Sequence[Prompts],
    theirs: Sequence[Prompts],
    weights: Sequence[float],
    *,
    proportion: bool,
    same_prompts: bool,
    one_seed: bool,
) -> Contrast:
    """The difference of sides that are not paired by seed."""
    known = (sum(len(one.uids) for one in ours), same_prompts, False, one_seed)
    parts = two_sample_parts(*_scores(ours, theirs), weights, same_prompts=same_prompts)
    mean = math.fsum(
        weight * float(one.values.mean() - other.values.mean())
        for weight, one, other in zip(weights, ours, theirs, strict=True)
    )
    if parts is not None and float(parts.variance) > NO_VARIANCE:
        half, p = math.sqrt(float(squared_half_width(parts, cautious=False))), float(p_value(parts))
        return Contrast(mean, mean - half, mean + half, p, *known)
    if not same_prompts:
        return Contrast(mean, None, None, None, *known)
    # All seeds of a side score the same, and all dialogues differ by the same.
    averages = [
        Pair(one.values.mean(axis=0)[None], other.values.mean(axis=0)[None], one.groups)
        for one, other in zip(ours, theirs, strict=True)
    ]
    flat = weighted_paired_difference(averages, weights, proportion=proportion)
    return Contrast(mean, flat.low, flat.high, flat.p, *known)


def _of_numbers(new: Sample, old: Sample, paired: bool) -> Contrast:
    """The difference of numbers that are of all replies together: nothing but seeds tells how far they vary."""
    from scipy.special import stdtr

    ours, theirs = (np.asarray(side.numbers, dtype=np.float64) for side in (new, old))
    mean = float(ours.mean() - theirs.mean())
    if paired:
        steps = ours - theirs[[old.seeds.index(seed) for seed in new.seeds]]
        degrees = steps.size - 1
        variance = float(((steps - mean) ** 2).sum()) / max(degrees, 1) / steps.size
    else:
        degrees = ours.size + theirs.size - 2
        squares = float(((ours - ours.mean()) ** 2).sum() + ((theirs - theirs.mean()) ** 2).sum())
        variance = squares / max(degrees, 1) * (1 / ours.size + 1 / theirs.size)
    one_seed = ours.size == theirs.size == 1
    if degrees == 0 or variance <= NO_VARIANCE:
        # Seeds that all agree leave no doubt about one that does not, and no width to show either.
        p = None if degrees == 0 else 1.0 if abs(mean) <= math.sqrt(NO_VARIANCE) else SMALLEST_P
        return Contrast(mean, None, None, p, None, True, paired, one_seed)
    error = math.sqrt(variance)
    half, p = float(t_quantile(degrees)) * error, max(2 * float(stdtr(degrees, -abs(mean) / error)), SMALLEST_P)
    return Contrast(mean, mean - half, mean + half, p, None, True, paired, one_seed)


def _at(one: Prompts, uids: Sequence[str], seeds: Sequence[int]) -> Prompts:
    """The same scores for some prompts and seeds, in their order."""
    order = {uid: place for place, uid in enumerate(one.uids)}
    places = [order[uid] for uid in uids]
    cells = np.ix_(list(seeds), places)
    replies = None if one.replies is None else one.replies[cells]
    return Prompts(one.values[cells], uids, [one.groups[place] for place in places], replies, one.name)


def _scores(ours: Sequence[Prompts], theirs: Sequence[Prompts]) -> tuple[list[Scores], list[Scores]]:
    """Both sides' scores, with equal numbers for equal dialogues and for equal replies."""
    both: tuple[list[Scores], list[Scores]] = ([], [])
    for pair in zip(ours, theirs, strict=True):
        groups = np.unique(np.concatenate([one.groups for one in pair]), return_inverse=True)[1]
        dialogues = np.split(groups, [len(pair[0].groups)])
        replies: list[tuple[Codes, ...]] = [(), ()]
        if all(one.replies is not None for one in pair):
            texts = np.concatenate([np.ravel(one.replies) for one in pair])  # type: ignore[arg-type]
            ids = np.split(np.unique(texts, return_inverse=True)[1], [pair[0].values.size])
            replies = [(codes.reshape(one.values.shape),) for codes, one in zip(ids, pair, strict=True)]
        for side, one, codes, said in zip(both, pair, dialogues, replies, strict=True):
            side.append(Scores(one.values, codes, said))
    return both
