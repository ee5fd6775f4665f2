"""Agreement of orders: tau and p against scipy and by hand, what the draws must not depend on, and coverage."""

import math
from itertools import permutations

import numpy as np
import pytest
from scipy import stats as reference

from evaluators import agreement
from evaluators.agreement import SetScores, agreement_between, agreement_with, kendall_tau, no_relation

G = 60


def scores(rng, means, seeds=3, groups=G, size=1, *, seed_deviation=0.0):
    """(M, S, G·size) values around the means, and names of dialogues of that many turns."""
    count = len(means)
    of_seeds = seed_deviation * rng.normal(size=(count, seeds, 1))
    of_dialogues = np.repeat(rng.normal(size=(count, 1, groups)), size, axis=2)
    values = np.reshape(means, (-1, 1, 1)) + of_seeds + of_dialogues + rng.normal(size=(count, seeds, groups * size))
    return values, [f"d{place // size:03}" for place in range(groups * size)]


@pytest.mark.parametrize("levels", [3, 100])
@pytest.mark.parametrize("count", [3, 5, 9, 12])
def test_tau_is_scipys(count, levels):
    rng = np.random.default_rng([count, levels])
    for _ in range(20):
        first, second = rng.integers(levels, size=(2, count)).astype(float)
        want = float(reference.kendalltau(first, second).statistic)
        assert float(kendall_tau(first, second)) == pytest.approx(want, nan_ok=True)


def test_tau_works_on_many_tables_at_once():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(4, 7)), rng.normal(size=7)
    assert kendall_tau(first, second) == pytest.approx([float(kendall_tau(row, second)) for row in first])


@pytest.mark.parametrize("count", [3, 4, 6, 8])
def test_p_without_ties_is_scipys_exact_one(count):
    rng = np.random.default_rng(count)
    for _ in range(10):
        first, second = rng.normal(size=(2, count))
        assert no_relation(first, second) == pytest.approx(reference.kendalltau(first, second, method="exact").pvalue)


def test_p_with_ties_counts_all_orders():
    first, second = np.array([1.0, 2, 2, 3, 5]), np.array([1.0, 1, 4, 3, 3])
    found = [abs(float(kendall_tau(first, second[list(order)]))) for order in permutations(range(5))]
    want = np.mean([one >= abs(float(kendall_tau(first, second))) - 1e-9 for one in found])
    assert no_relation(first, second) == pytest.approx(want)


@pytest.mark.parametrize("levels", [4, 1000])
def test_p_of_many_methods_is_scipys(levels):
    first, second = np.random.default_rng(levels).integers(levels, size=(2, 10)).astype(float)
    want = reference.kendalltau(first, second).pvalue
    noise = 1e-15 * np.arange(10)  # sums in another order: still ties
    assert no_relation(first + noise, second) == pytest.approx(want)


def test_known_orders():
    values, names = scores(np.random.default_rng(1), 10.0 * np.arange(4))
    same = agreement_with([SetScores(values, names)], [1, 2, 3, 4])
    assert (same.tau, same.low, same.high) == (1, 1, 1)
    assert same.p == pytest.approx(2 / math.factorial(4))
    assert (same.methods, same.n, same.seeds) == (4, G, 3)
    assert agreement_with([SetScores(values, names)], [4, 3, 2, 1]).tau == -1
    swapped = agreement_with([SetScores(values, names)], [1, 2, 4, 3])
    assert (swapped.tau, swapped.low, swapped.high) == pytest.approx((2 / 3, 2 / 3, 2 / 3))


@pytest.mark.parametrize(
    ("means", "given"), [([0, 1], [0, 1]), ([0, 1, 2], [5, 5, 5]), ([3, 3, 3], [0, 1, 2])], ids=["two", "given", "ours"]
)
def test_what_is_not_defined_is_none(means, given):
    values = np.broadcast_to(np.reshape(np.asarray(means, dtype=float), (-1, 1, 1)), (len(means), 2, 9))
    assert agreement_with([SetScores(values, [str(place) for place in range(9)])], given) is None


def test_of_one_dialogue_or_one_reply_no_interval():
    values, _ = scores(np.random.default_rng(2), [0, 1, 2], groups=8)
    alone = agreement_with([SetScores(values, ["d"] * 8)], [1, 2, 3])
    assert (alone.low, alone.high, alone.apart) == (None, None, None)
    names = [f"d{place}" for place in range(8)]
    replies = np.arange(values.size).reshape(values.shape)
    assert agreement_with([SetScores(values, names, replies=replies)], [1, 2, 3]).low is not None
    replies[0] = 0
    assert agreement_with([SetScores(values, names, replies=replies)], [1, 2, 3]).low is None


def test_methods_dialogues_and_examples_may_come_in_any_order():
    rng = np.random.default_rng(3)
    values, names = scores(rng, [0, 0.1, 0.3, 0.35, 0.2], size=2)
    replies = rng.integers(40, size=values.shape)
    given = np.array([1.0, 2, 3, 4, 5])
    want = agreement_with([SetScores(values, names, replies=replies)], given)
    methods, examples = rng.permutation(5), rng.permutation(len(names))
    there = np.ix_(methods, range(3), examples)
    moved = SetScores(values[there], [names[place] for place in examples], replies=replies[there])
    assert agreement_with([moved], given[methods]) == pytest.approx(want)
    assert want.low < want.tau < want.high


def test_equal_seeds_give_equal_draws_and_others_others():
    values, names = scores(np.random.default_rng(4), [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    first, again, other = (agreement_with([SetScores(values, names)], range(10), seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first.tau == other.tau


def test_turns_of_a_dialogue_go_together():
    """The same turn ten times is one turn: the interval is that of the dialogues alone."""
    values, names = scores(np.random.default_rng(5), [0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6], seeds=1, groups=30)
    once = agreement_with([SetScores(values, names)], range(9))
    repeated = SetScores(np.repeat(values, 10, axis=2), np.repeat(names, 10))
    together = agreement_with([repeated], range(9))
    assert together[:4] == pytest.approx(once[:4])
    apart = agreement_with([repeated._replace(groups=[str(place) for place in range(300)])], range(9))
    assert apart.high - apart.low < together.high - together.low


def test_a_reply_to_many_dialogues_is_one_draw():
    rng = np.random.default_rng(6)
    replies = rng.integers(8, size=(6, 1, 200)) + 8 * np.arange(6).reshape(6, 1, 1)
    values = (rng.random(48) < 0.5).astype(float)[replies]
    names = [f"d{place:03}" for place in range(200)]
    known = agreement_with([SetScores(values, names, replies=replies)], range(6))
    blind = agreement_with([SetScores(values, names)], range(6))
    assert blind.apart > 2 > known.apart
    assert blind.high - blind.low < known.high - known.low


def test_sets_are_weighted():
    rng = np.random.default_rng(7)
    (up, names), (down, _) = scores(rng, [0.0, 9, 18]), scores(rng, [90.0, 50, 0])
    sets = [SetScores(up, names, 0.9), SetScores(down, names, 0.1)]
    assert agreement_with(sets, [1, 2, 3]).tau == 1
    turned = [one._replace(weight=1 - one.weight) for one in sets]
    assert agreement_with(turned, [1, 2, 3]).tau == -1
    assert agreement_with(sets, [1, 2, 3]).n == 2 * G


def test_two_measured_sides_are_drawn_together():
    """What is the same on both sides agrees in every draw, however little the methods differ."""
    values, names = scores(np.random.default_rng(8), np.zeros(5))
    found = agreement_between([SetScores(values, names)], [SetScores(values, names)])
    assert (found.tau, found.low, found.high) == (1, 1, 1)
    assert found.apart < agreement.HARDLY_APART
    assert agreement_between([SetScores(values, names)], [SetScores(-values, names)]).high == -1


@pytest.mark.parametrize(
    ("one", "given"),
    [
        (SetScores(np.zeros((3, 2, 4)), ["d"] * 3), [1, 2, 3]),
        (SetScores(np.zeros((3, 2)), ["d"] * 2), [1, 2, 3]),
        (SetScores(np.full((3, 1, 2), np.nan), ["d"] * 2), [1, 2, 3]),
        (SetScores(np.zeros((3, 1, 2)), ["d"] * 2, 0.5), [1, 2, 3]),
        (SetScores(np.zeros((3, 1, 2)), ["d"] * 2), [1, 2]),
        (SetScores(np.zeros((3, 1, 2)), ["d"] * 2), [1, 2, math.nan]),
        (SetScores(np.zeros((3, 1, 2)), ["d"] * 2, 1.0, np.zeros((3, 2))), [1, 2, 3]),
    ],
)
def test_what_does_not_fit_is_refused(one, given):
    with pytest.raises(ValueError, match=r"expected|weights|replies|NaN"):
        agreement_with([one], given)


def test_sides_that_do_not_fit_are_refused():
    values, names = scores(np.random.default_rng(9), np.zeros(3))
    with pytest.raises(ValueError, match="other methods"):
        agreement_between([SetScores(values, names)], [SetScores(values[:2], names)])
    with pytest.raises(ValueError, match="sets of prompts"):
        agreement_between([SetScores(values, names)], [])


def test_each_seeds_weight_gives_differences_their_t_interval():
    """With no dialogues to speak of, the draws of a difference have the quantiles of its t interval over seeds."""
    by_seed = np.array([0.0, 1.0, 2.5])
    weights = agreement._seed_weights(np.random.default_rng(10), 3)
    assert weights.sum(axis=1) == pytest.approx(np.ones(agreement.DRAWS))
    drawn = np.quantile(weights @ by_seed, (0.1, 0.9))
    want = reference.t.interval(0.8, 2, by_seed.mean(), by_seed.std(ddof=1) / math.sqrt(3))
    assert drawn == pytest.approx(want, abs=0.2)


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("related", [0.0, 1.0])
def test_coverage(seeds, related, monkeypatch):
    """Methods whose true means lie 3 standard errors apart; the given order is unrelated, or the true one.

    120 tables: of an interval that covers 95 % at least 88 % do, but for 1 time in 1,000.
    """
    monkeypatch.setattr(agreement, "DRAWS", 500)
    rng = np.random.default_rng([seeds, int(related)])
    error = math.sqrt((0.04 + 1 / 60) / seeds + 1 / 60) if seeds > 1 else math.sqrt(2 / 60)
    held = []
    for _ in range(120):
        true = 3 * error * rng.normal(size=8)
        given = true if related else rng.normal(size=8)
        values, names = scores(rng, true, seeds, seed_deviation=0.2 * (seeds > 1))
        found = agreement_with([SetScores(values, names)], given)
        held.append(found.low - 1e-9 <= float(kendall_tau(true, given)) <= found.high + 1e-9)
    assert np.mean(held) >= 0.88
