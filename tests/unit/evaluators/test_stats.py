"""Intervals against formulas worked by hand, and their coverage by simulation."""

import math

import numpy as np
import pytest
from scipy import stats as reference

from evaluators.stats import Z, accuracy, auc, crossed_spread, mean_interval, ratio_interval, t_quantile, wilson


def names(n, size=1):
    return [f"d{index // size}" for index in range(n)]


def test_quantiles_are_scipys():
    assert pytest.approx(reference.norm.ppf(0.975), abs=1e-12) == Z
    assert t_quantile(2.5) == pytest.approx(reference.t.ppf(0.975, 2.5), abs=1e-9)


def test_one_seed_without_clusters_is_the_t_interval():
    values = [1.0, 2.0, 4.0, 7.0]
    low, high = reference.t.interval(0.95, 3, np.mean(values), reference.sem(values))
    got = mean_interval([values], names(4), proportion=False)
    assert got == pytest.approx((3.5, low, high, 4, 1))


def test_clusters_count_as_one_observation_each():
    # Two identical turns a dialogue: the interval of the dialogues, not the narrower one of the turns.
    dialogues = [1.0, 2.0, 4.0, 7.0]
    doubled = [value for value in dialogues for _ in range(2)]
    apart = mean_interval([dialogues], names(4), proportion=False)
    assert mean_interval([doubled], names(8, 2), proportion=False)[:3] == pytest.approx(apart[:3])


def test_crossed_seeds_by_hand():
    # Rows 0 0 2 and 2 2 4: additive, so the interaction is 0. Example means 1 1 3, seed means 2/3 and 8/3.
    # D = 3/2 · (4/9 + 4/9 + 16/9) / 9 = 4/9 and B = (1 + 1) / 1 / 2 = 1, variance 13/9.
    # Degrees of freedom (13/9)² / ((4/9)²/2 + 1²/1) = 1.899; Cochran and Cox: (t₂² · 4/9 + t₁² · 1) / (13/9).
    got = mean_interval([[0, 0, 2], [2, 2, 4]], names(3), proportion=False)
    satterthwaite = reference.t.ppf(0.975, (13 / 9) ** 2 / ((4 / 9) ** 2 / 2 + 1))
    cochran = math.sqrt((reference.t.ppf(0.975, 2) ** 2 * 4 / 9 + reference.t.ppf(0.975, 1) ** 2) / (13 / 9))
    assert got.mean == pytest.approx(5 / 3)
    assert got.high - got.mean == pytest.approx(max(satterthwaite, cochran) * math.sqrt(13) / 3)
    assert (got.n, got.seeds) == (3, 2)


def test_interaction_is_counted_once():
    # Rows 0 4 and 2 2 and 1 6: example means 1 4, seed means 2 2 3.5, mean 2.5.
    # D = 2 · (1.5² + 1.5²) / 4 = 2.25; B = (0.25 + 0.25 + 1) / 2 / 3 = 0.25. Rests ∓0.5, ±1.5, ∓1:
    # I = 2 · 3/2 · 2 · (0.25 + 2.25 + 1) / 36 = 21/36, more than B: the seeds' own variance is estimated as 0.
    codes = np.array([0, 1])
    assert crossed_spread(np.array([[0.0, 4], [2, 2], [1, 6]]), codes).variance == pytest.approx(2.25)
    # Seed 3 six points up: seed means 2 2 9.5, B = 37.5 / 2 / 3 = 6.25, the rests as before.
    assert crossed_spread(np.array([[0.0, 4], [2, 2], [7, 12]]), codes).variance == pytest.approx(8.5 - 21 / 36)


def test_equal_seeds_add_nothing():
    values = [1.0, 2.0, 4.0, 7.0]
    one = mean_interval([values], names(4), proportion=False)
    three = mean_interval([values] * 3, names(4), proportion=False)
    assert three.low == pytest.approx(one.low, rel=1e-6)


def test_wilson_by_hand():
    # Newcombe 1998, table I: 81 of 263 and 0 of 20.
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0.0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_proportion_of_one_seed_is_wilson_with_an_effective_size():
    values = np.repeat([1.0, 0.0], [6, 4])
    # Variance 10/9 · 0.24 / 10, so 9 effective examples.
    got = mean_interval([values], names(10), proportion=True)
    assert (got.low, got.high) == pytest.approx(wilson(0.6, 9, reference.t.ppf(0.975, 9)))


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("seeds", [1, 3])
def test_equal_scores_still_have_a_width(value, seeds):
    got = mean_interval(np.full((seeds, 20), value), names(20, 2), proportion=True)
    assert (got.low, got.high) == pytest.approx(wilson(value, 10))
    assert 0 <= got.low < got.high <= 1
    assert got.low <= got.mean <= got.high


def test_one_example():
    assert mean_interval([[2.5]], ["d"], proportion=False) == (2.5, None, None, 1, 1)
    got = mean_interval([[1.0]], ["d"], proportion=True)
    assert (got.low, got.high) == pytest.approx((1 / (1 + Z**2), 1.0))


@pytest.mark.parametrize(
    ("values", "groups", "message"),
    [
        ([[1.0, math.nan]], ["a", "b"], "1 of 2 values are NaN"),
        ([[1.0, math.inf]], ["a", "b"], "infinite"),
        (np.empty((1, 0)), [], "no data"),
        (np.empty((0, 2)), ["a", "b"], "no data"),
        ([1.0, 0.0], ["a", "b"], r"shape \(2,\)"),
        ([[1.0, 0.0]], ["a"], "1 groups"),
        ([[1.0, 1.5]], ["a", "b"], r"\[0, 1\]"),
    ],
)
def test_bad_values_are_refused(values, groups, message):
    with pytest.raises(ValueError, match=message):
        mean_interval(values, groups, proportion=True)


def test_ratio_by_hand():
    # 6 nats over 4 tokens: r = 1.5. Residuals 2 − 1.5, 4 − 4.5 over 2 tokens on average: ± 0.25.
    # Variance 2 · 0.125 / 4.
    got = ratio_interval([[2.0, 4.0]], [[1, 3]], ["a", "b"])
    assert got.mean == pytest.approx(1.5)
    assert got.high - got.mean == pytest.approx(reference.t.ppf(0.975, 1) * 0.25)


def test_ratio_weighs_tokens_not_replies_and_needs_some():
    assert ratio_interval([[1.0, 90.0]], [[1, 9]], ["a", "b"]).mean == pytest.approx(9.1)
    with pytest.raises(ValueError, match="sum to 0"):
        ratio_interval([[1.0, 2.0]], [[0, 0]], ["a", "b"])


def simulated(p, seeds, rng, *, n=250, size=2, tables=2000):
    """Share of intervals that hold the truth: probit scores with dialogue and, for several seeds, seed effects."""
    seed_deviation = 0.25 if seeds > 1 else 0.0
    level = reference.norm.ppf(p) * math.sqrt(1 + 1 + seed_deviation**2)
    hits = 0
    for _ in range(tables):
        dialogue = np.repeat(rng.normal(size=n // size), size)
        own = rng.normal(0, seed_deviation, seeds)
        scores = rng.normal(size=(seeds, n)) < level + dialogue + own[:, None]
        got = mean_interval(scores, names(n, size), proportion=True)
        hits += got.low <= p <= got.high
    return hits / tables


@pytest.mark.parametrize("p", [0.6, 0.99])
@pytest.mark.parametrize("seeds", [1, 3])
def test_coverage(p, seeds):
    assert simulated(p, seeds, np.random.default_rng(7)) >= 0.93


def test_auc_by_hand():
    # Positives 3 and 2, negatives 2 and 1: of four pairs three are won and one is tied.
    got = auc([1, 1, 0, 0], [3, 2, 2, 1])
    assert got.value == pytest.approx(3.5 / 4)
    assert got.n == 4
    # Newcombe's limits solve (θ̂ − θ)² = z² V(θ), here with h = 1.
    for limit in (got.low, got.high):
        inner = 1 + (1 - limit) / (2 - limit) + limit / (1 + limit)
        assert (got.value - limit) ** 2 == pytest.approx(Z**2 * limit * (1 - limit) * inner / 4, abs=1e-9)
    assert 0 < got.low < got.value < got.high < 1


@pytest.mark.parametrize(("scores", "value"), [([0, 0, 1, 1], 1.0), ([1, 1, 0, 0], 0.0), ([1, 1, 1, 1], 0.5)])
def test_auc_at_its_ends(scores, value):
    got = auc([0, 0, 1, 1], scores)
    assert got.value == value
    assert 0 <= got.low < got.high <= 1
    assert got.low <= value <= got.high


def test_auc_coverage():
    rng, truth, hits = np.random.default_rng(3), reference.norm.cdf(1 / math.sqrt(2)), 0
    labels = np.repeat([0, 1], 40)
    for _ in range(600):
        got = auc(labels, rng.normal(size=80) + labels)
        hits += got.low <= truth <= got.high
    assert hits / 600 >= 0.93


@pytest.mark.parametrize(
    ("labels", "scores"), [([1, 1], [0.1, 0.2]), ([0, 2], [1, 2]), ([0, 1], [1, math.nan]), ([0, 1], [1]), ([], [])]
)
def test_auc_refuses(labels, scores):
    with pytest.raises(ValueError, match=r"AUC|labels"):
        auc(labels, scores)


def test_accuracy():
    assert accuracy([1, 0, 1, 0], [0.9, 0.5, 0.2, 0.1], threshold=0.5) == 0.5
    with pytest.raises(ValueError, match="finite"):
        accuracy([1], [math.nan], threshold=0.5)
