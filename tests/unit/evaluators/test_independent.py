"""Differences between sides that do not share their seeds, against formulas that are known and by simulation."""

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import brentq
from scipy.special import expit

from evaluators.contrast import Prompts, Sample, contrast, seeds_contrast
from evaluators.independent import two_sample_parts
from evaluators.limits import p_value
from evaluators.paired import paired_difference
from evaluators.spread import Scores

N = 60
NODES, NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(60)


def prompts(values, uids=None, groups=None, replies=None):
    values = np.atleast_2d(np.asarray(values, dtype=float))
    places = range(values.shape[1]) if uids is None else uids
    names = [f"{place:03}" for place in places]
    return Prompts(values, names, [f"d{name}" for name in names] if groups is None else groups, replies)


def sample(values, seeds=None, **other):
    one = prompts(values, **other)
    return Sample(tuple(seeds or range(len(one.values))), (one,))


def draws(seeds, n=N, *, number=0, share=0.5):
    return (np.random.default_rng([number, seeds]).random((seeds, n)) < share).astype(float)


# Known formulas


def test_one_new_seed_has_a_prediction_interval():
    """Dialogues say nothing, as all scores of a seed are equal: five seeds, t with 4 degrees of freedom, 1 + 1/5."""
    old, new = np.array([1.0, 3.0, 2.0, 5.0, 4.0]), 9.0
    found = contrast(sample(np.full((1, N), new), [7]), sample(np.tile(old[:, None], N)), proportion=False)
    error = math.sqrt(1 + 1 / 5) * old.std(ddof=1)
    t = (new - old.mean()) / error
    half = stats.t.ppf(0.975, 4) * error
    assert found[:4] == pytest.approx((6.0, 6.0 - half, 6.0 + half, 2 * stats.t.sf(t, 4)))
    assert (found.prompts, found.paired, found.one_seed) == (N, False, False)


def test_numbers_of_all_replies_have_the_t_test():
    old, new = (0.21, 0.25, 0.24, 0.20, 0.22), (0.27, 0.26, 0.30)
    found = contrast(Sample((5, 6, 7), numbers=new), Sample(tuple(range(5)), numbers=old), proportion=True)
    expected = stats.ttest_ind(new, old)
    limits = expected.confidence_interval()
    assert found[:4] == pytest.approx((np.mean(new) - np.mean(old), limits.low, limits.high, expected.pvalue))
    assert found.prompts is None
    # The same seeds in another order.
    paired = contrast(Sample((2, 0, 1), numbers=new), Sample((0, 1, 2), numbers=old[:3]), proportion=True)
    assert paired.p == pytest.approx(stats.ttest_rel(new, (old[2], old[0], old[1])).pvalue)
    assert paired.paired


def test_other_prompts_have_welchs_test():
    ours, theirs = np.random.default_rng(1).normal(1, 2, 40), np.random.default_rng(2).normal(0, 1, 70)
    found = contrast(sample(ours, [1]), sample(theirs, [0], uids=range(500, 570)), proportion=False)
    expected = stats.ttest_ind(ours, theirs, equal_var=False)
    limits = expected.confidence_interval()
    assert found[:4] == pytest.approx((ours.mean() - theirs.mean(), limits.low, limits.high, expected.pvalue))
    assert (found.same_prompts, found.paired, found.one_seed) == (False, False, True)


def test_one_seed_each_has_the_paired_test():
    ours, theirs = np.random.default_rng(1).normal(1, 2, N), np.random.default_rng(2).normal(0, 1, N)
    found = contrast(sample(ours, [1]), sample(theirs, [0]), proportion=False)
    expected = stats.ttest_rel(ours, theirs)
    limits = expected.confidence_interval()
    assert found[:4] == pytest.approx((np.mean(ours - theirs), limits.low, limits.high, expected.pvalue))
    assert found.one_seed


def test_equal_seeds_are_paired():
    ours, theirs = draws(3, number=1), draws(3, number=2)
    found = contrast(sample(ours[[2, 0, 1]], [2, 0, 1]), sample(theirs, [0, 1, 2]), proportion=True)
    expected = paired_difference(ours, theirs, [f"d{place}" for place in range(N)], proportion=True)
    assert found[:4] == pytest.approx(expected[:4])
    assert found.paired


def test_the_order_of_prompts_does_not_matter_and_only_common_ones_count():
    ours, theirs = draws(1, number=1), draws(5, number=2)
    expected = contrast(sample(ours[:, :40], [9]), sample(theirs[:, :40]), proportion=True)
    order = np.random.default_rng(0).permutation(N)
    old = np.concatenate([theirs[:, :40], draws(5, 20, number=3)], axis=1)
    found = contrast(
        sample(ours[:, order], [9], uids=order), sample(old, uids=[*range(40), *range(900, 920)]), proportion=True
    )
    assert found == pytest.approx(expected)
    assert found.prompts == 40


def test_several_sets_are_weighted():
    old = [prompts(draws(5, number=place, share=0.5), uids=range(place * 100, place * 100 + N)) for place in (1, 2)]
    new = [
        prompts(np.full((1, N), level), uids=range(place * 100, place * 100 + N))
        for place, level in ((1, 1.0), (2, 0.0))
    ]
    found = contrast(Sample((9,), tuple(new)), Sample(tuple(range(5)), tuple(old), (0.9, 0.1)), proportion=True)
    means = [one.values.mean() for one in old]
    assert found.mean == pytest.approx(0.9 * (1 - means[0]) + 0.1 * (0 - means[1]))
    assert found.prompts == 2 * N
    assert Sample(tuple(range(5)), tuple(old), (0.9, 0.1)).between_seeds == pytest.approx(
        np.std(0.9 * old[0].values.mean(axis=1) + 0.1 * old[1].values.mean(axis=1), ddof=1)
    )


# Ends


def test_all_scores_equal():
    ones, zeros = np.ones((5, N)), np.zeros((1, N))
    worse = contrast(sample(zeros, [9]), sample(ones), proportion=True)
    assert worse.mean == -1
    assert worse.p < 1e-9
    same = contrast(sample(ones[:1], [9]), sample(ones), proportion=True)
    assert (same.mean, same.p) == pytest.approx((0, 1))
    assert same.low < 0 < same.high


def test_one_prompt_says_nothing_of_the_spread():
    found = contrast(sample([[0.2]], [9]), sample(np.full((5, 1), 0.5)), proportion=False)
    assert (found.mean, found.low, found.p) == (pytest.approx(-0.3), None, None)
    apart = contrast(sample([[0.2]], [9]), sample(np.full((5, 1), 0.5), uids=[7]), proportion=True)
    assert (apart.low, apart.p) == (None, None)


def test_numbers_without_spread():
    alone = contrast(Sample((1,), numbers=(0.5,)), Sample((0,), numbers=(0.2,)), proportion=True)
    assert (alone.low, alone.p, alone.one_seed) == (None, None, True)
    sure = contrast(Sample((5,), numbers=(0.5,)), Sample(tuple(range(5)), numbers=(1.0,) * 5), proportion=True)
    assert sure.low is None
    assert sure.p < 1e-9
    assert contrast(Sample((5,), numbers=(1.0,)), Sample((0, 1), numbers=(1.0,) * 2), proportion=True).p == 1


def test_equal_replies_count_once_unless_both_sides_give_them():
    values = np.tile([1.0, 0.0], N // 2)[None]
    worse = values * 0.0
    kinds = np.where(values > 0, "good", "bad")
    apart = contrast(sample(worse, [1]), sample(values, [0]), proportion=True)
    new = np.full((1, N), "worst")
    few = contrast(sample(worse, [1], replies=new), sample(values, [0], replies=kinds), proportion=True)
    assert apart.p < 0.001 < few.p
    # What both sides say, and score alike, moves neither.
    noise = np.random.default_rng(0).random((1, N))
    alike = [
        contrast(sample(noise, [1], replies=said), sample(values, [0], replies=said), proportion=True)
        for said in (None, kinds)
    ]
    assert alike[0].p == pytest.approx(alike[1].p)


# Simulation


def level_for(share, deviation):
    def excess(level):
        return expit(level + deviation * NODES) @ NODE_WEIGHTS / NODE_WEIGHTS.sum() - (1 - share)

    return brentq(excess, -30, 10)


def layout(n):
    """Dialogues of 1, 2, 3, 4, 1, … prompts."""
    return np.repeat(np.arange(n), np.arange(n) % 4 + 1)[:n]


def side(rng, level, dialogues, codes, seeds, ratio):
    """Verdicts on a table a leading entry: log odds of failing are a level, a dialogue's and a seed's deviate."""
    by_seed = level + rng.normal(0, ratio, (len(dialogues), seeds, 1))
    chances = expit(by_seed + dialogues)[:, :, codes]
    return Scores((rng.random(chances.shape) >= chances).astype(float), codes)


def equally_good(share, seeds, n, ratio, tables, *, own_dialogues=0.0):
    rng, codes = np.random.default_rng([*seeds, n, int(10 * ratio)]), layout(n)
    level = level_for(share, math.hypot(1, ratio, own_dialogues))
    dialogues = rng.normal(size=(tables, 1, int(codes.max()) + 1))
    old, new = (
        side(rng, level, dialogues + rng.normal(0, own_dialogues, dialogues.shape), codes, count, ratio)
        for count in seeds
    )
    return two_sample_parts([new], [old])


@pytest.mark.parametrize(
    ("share", "seeds", "ratio"), list(product((0.6, 0.99), ((5, 1), (5, 3), (3, 1)), (0.0, 0.5, 1.0)))
)
def test_false_positives_of_one_comparison(share, seeds, ratio):
    """2,000 pairs: the standard error of 5 % is 0.5."""
    parts = equally_good(share, seeds, 250, ratio, 2000)
    p = np.where(parts.variance > 1e-18, p_value(parts), 1.0)
    found = float(np.mean(p < 0.05))
    print(f"FP {share} {seeds} {ratio} {100 * found:.1f}")
    assert found <= 0.065
    assert found >= (0.03 if share == 0.6 else 0.0)


@pytest.mark.parametrize("seeds", [(1, 1), (5, 1), (5, 5)])
def test_false_positives_where_sides_differ_on_single_dialogues(seeds):
    """Equally good over all dialogues, not on each of them."""
    parts = equally_good(0.6, seeds, 250, 0.5 if seeds != (1, 1) else 0.0, 2000, own_dialogues=1.0)
    assert 0.035 <= np.mean(p_value(parts) < 0.05) <= 0.065


def test_on_these_very_prompts_the_seeds_alone_decide() -> None:
    """`seeds_contrast` is the t test of the seeds' means, however much the dialogues differ."""
    rng = np.random.default_rng(3)
    hard = rng.normal(0, 5, N)
    old, new = (hard + rng.normal(0, 1, (count, 1)) for count in (5, 2))
    found = seeds_contrast(sample(new, [7, 8]), sample(old))
    expected = stats.ttest_ind(new.mean(axis=1), old.mean(axis=1))
    assert (found.mean, found.p) == (pytest.approx(new.mean() - old.mean()), pytest.approx(expected.pvalue))
    assert found.p is not None
    uneven = sample(old + rng.normal(0, 5, N), range(5))
    wide = contrast(sample(new, [7, 8]), uneven, proportion=False)
    assert seeds_contrast(sample(new, [7, 8]), uneven).p <= wide.p
