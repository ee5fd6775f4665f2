"""Coverage of intervals and false positives of tests, by simulation with fixed seeds.

Scores are binary: does the reply to a prompt of some dialogue, by the model of some seed, fail? How often, two ways:

- "logit": the log odds are a level + a dialogue's normal deviate + a seed's; the dialogues' deviation is 1;
- "beta": the chance is a product of two beta variables, one a dialogue, one a seed. The dialogues' coefficient of
  variation is 1 where 1 % fail and 0.4 where 40 % do.

The seeds' deviation is 0, half of or equal to the dialogues'. Dialogues have 1 to 4 prompts. What an interval should
hold: with several seeds the share over all dialogues and seeds; with one, the share over all dialogues of that model.

With 4,000 tables the standard error of a coverage near 95 % is 0.34 points.
"""

import math
from functools import cache
from itertools import product

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit

from evaluators.limits import NO_VARIANCE, p_value, share_limits, squared_half_width, wilson
from evaluators.paired import holm, ties
from evaluators.prevalence import corrected_share
from evaluators.spread import Scores, crossed_parts
from evaluators.stats import Interval, mean_interval

TABLES, CHUNK = 4000, 500
SEEDS, RATIOS = (1, 2, 3, 5, 10), (0.0, 0.5, 1.0)
NODES, NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(100)


def layout(n):
    """Dialogues of 1, 2, 3, 4, 1, … prompts."""
    sizes = np.arange(n) % 4 + 1
    return np.repeat(np.arange(n), sizes)[:n]


def failing(level, deviation):
    """Mean chance of failing over normal log odds."""
    odds = np.asarray(level)[..., None] + deviation * NODES
    return expit(odds) @ NODE_WEIGHTS / NODE_WEIGHTS.sum()


@cache
def level_for(share, deviation):
    return brentq(lambda level: failing(level, deviation) - (1 - share), -30, 10)


def logit_chances(rng, share, seeds, dialogues, ratio, tables):
    level = level_for(share, math.hypot(1, ratio))
    by_seed = level + rng.normal(0, ratio, (tables, seeds))
    chances = expit(by_seed[:, :, None] + rng.normal(size=(tables, 1, dialogues)))
    return chances, (failing(by_seed[:, 0], 1.0) if seeds == 1 else np.full(tables, 1 - share))


def beta_chances(rng, share, seeds, dialogues, ratio, tables):
    mean, variation = math.sqrt(1 - share), 1.0 if share > 0.9 else 0.4

    def draws(relative, size):
        if not relative:
            return np.full(size, mean)
        total = (1 - mean) / (mean * (variation * relative) ** 2) - 1
        return rng.beta(mean * total, (1 - mean) * total, size)

    by_seed, by_dialogue = draws(ratio, (tables, seeds)), draws(1.0, (tables, dialogues))
    truth = by_seed[:, 0] * mean if seeds == 1 else np.full(tables, 1 - share)
    return by_seed[:, :, None] * by_dialogue[:, None], truth


MODELS = {"logit": logit_chances, "beta": beta_chances}


def scores(rng, chances, codes):
    """(R, S, N) verdicts: 1 where the reply is fine."""
    shape = (*chances.shape[:2], codes.size)
    return rng.random(shape, dtype=np.float32) >= chances.astype(np.float32)[:, :, codes]


def coverage(model, share, seeds, n, ratio):
    """Share of intervals that hold the truth."""
    rng, codes, held = np.random.default_rng([seeds, n, int(10 * ratio)]), layout(n), []
    for _ in range(TABLES // CHUNK):
        chances, truth = MODELS[model](rng, share, seeds, int(codes.max()) + 1, ratio, CHUNK)
        low, high = share_limits(crossed_parts([Scores(scores(rng, chances, codes), codes)]))
        held.append((low <= 1 - truth + 1e-12) & (1 - truth <= high + 1e-12))
    return float(np.mean(held))


def most(share, seeds, n):
    """97 % but where few seeds, or few failing replies, force more.

    2 and 3 seeds: t has 1 and 2 degrees of freedom, and the interval holds whatever the seeds' part in the variance is.
    Of 100 prompts one fails at 99 %: limits can only step from one count of failures to the next.
    """
    if share > 0.9:
        return 0.985 if seeds in (1, 3) and n == 500 else 0.98 if n == 500 and seeds > 3 else 1.0
    return {2: 0.995, 3: 0.985}.get(seeds, 0.975)


CASES = [case for case in product(MODELS, (0.6, 0.99), SEEDS, (100, 500), RATIOS) if case[2] > 1 or case[4] != 0.5]


@pytest.mark.parametrize(("model", "share", "seeds", "n", "ratio"), CASES)
def test_coverage_of_a_share(model, share, seeds, n, ratio):
    found = coverage(model, share, seeds, n, ratio)
    print(f"COV {model} {share} {seeds} {n} {ratio} {100 * found:.1f}")
    assert 0.93 <= found <= most(share, seeds, n)


def reply_table(rng, seeds, share, *, templates, n):
    """Verdicts and replies of models that answer most prompts from a few templates, each fine or not for good."""
    weights = rng.dirichlet(np.full(templates, 2.0), seeds)
    used = np.stack([rng.choice(templates, n, p=row) for row in weights]) + templates * np.arange(seeds)[:, None]
    alone = rng.random((seeds, n)) < 0.3
    ids = np.where(alone, 10_000 + np.arange(seeds * n).reshape(seeds, n), used)
    verdicts = rng.random(20_000) < share
    return verdicts[ids].astype(float), ids


@pytest.mark.parametrize(
    ("seeds", "share", "templates"), [(1, 0.6, 15), (1, 0.8, 15), (1, 0.95, 15), (1, 0.95, 40), (3, 0.8, 15)]
)
def test_coverage_with_equal_replies(seeds, share, templates):
    # Taken for as many draws, 66 % at most are covered: that is below 80 % by five standard errors of few tables, too.
    # Several seeds show it by differing.
    rng, n, tables, few = np.random.default_rng(5), 200, 1000, 300 * (seeds == 1)
    held, groups = {"as one draw": 0, "as many": 0}, layout(n).astype(str)

    def covers(values, replies):
        found = mean_interval(values, groups, proportion=True, replies=replies)
        return found.low <= share <= found.high

    for table in range(tables):
        values, ids = reply_table(rng, seeds, share, templates=templates, n=n)
        held["as one draw"] += covers(values, ids)
        held["as many"] += table < few and covers(values, None)
    print(f"REP {seeds} {share} {templates} {held}")
    assert 0.93 <= held["as one draw"] / tables <= 0.985
    assert not few or held["as many"] / few < 0.8


@pytest.mark.parametrize(("seeds", "deviation"), [(1, 0.0), (3, 0.0), (3, 0.5), (3, 1.0), (10, 0.5)])
def test_coverage_of_a_mean(seeds, deviation):
    rng, codes, tables = np.random.default_rng(6), layout(100), 4000
    dialogues = rng.normal(size=(tables, 1, codes.max() + 1))[:, :, codes]
    values = dialogues + rng.normal(0, deviation, (tables, seeds, 1)) + rng.normal(size=(tables, seeds, codes.size))
    parts = crossed_parts([Scores(values, codes)])
    held = float((parts.mean**2 <= squared_half_width(parts, cautious=True)).mean())
    print(f"MEAN {seeds} {deviation} {100 * held:.1f}")
    assert 0.94 <= held <= (0.985 if seeds == 3 else 0.97)


@pytest.mark.parametrize("deviation", [0.0, 0.5])
def test_coverage_of_a_weighted_mean(deviation):
    rng, tables, seeds, weights = np.random.default_rng(8), 4000, 3, (0.2, 0.3, 0.5)
    own = rng.normal(0, deviation, (tables, seeds, 1))
    sets = []
    for n in (60, 100, 90):
        codes = layout(n)
        dialogues = rng.normal(size=(tables, 1, codes.max() + 1))[:, :, codes]
        # Means far apart: a set's own is known to be its own.
        sets.append(Scores(n + dialogues + own + rng.normal(size=(tables, seeds, n)), codes))
    parts = crossed_parts(sets, weights)
    truth = sum(weight * n for weight, n in zip(weights, (60, 100, 90), strict=True))
    held = float(((parts.mean - truth) ** 2 <= squared_half_width(parts, cautious=True)).mean())
    print(f"WEIGHTED {deviation} {100 * held:.1f}")
    assert 0.94 <= held <= 0.985


def methods(rng, share, seeds, codes, ratio, tables, count, shift=0.0):
    """(R, S, N) verdicts of ``count`` equal methods (the first ``shift`` better): dialogues half shared, seeds not."""
    dialogues, level = int(codes.max()) + 1, level_for(share, math.hypot(1, ratio))
    shared = rng.normal(0, math.sqrt(0.5), (tables, 1, dialogues))
    for number in range(count):
        own = rng.normal(0, math.sqrt(0.5), (tables, 1, dialogues)) + rng.normal(0, ratio, (tables, seeds, 1))
        yield scores(rng, expit(level - shift * (number == 0) + shared + own), codes).astype(np.float32)


PAIRED = [case for case in product((0.6, 0.99), SEEDS, (100, 500), RATIOS) if case[1] > 1 or case[3] == 0]


def least(share, seeds, n, ratio):
    """3.5 % but where few seeds, or few failing replies, force less; `most` says why."""
    if share > 0.9:
        return 0.035 if n == 500 and (seeds == 1 or (seeds > 3 and ratio < 1)) else 0.0
    return 0.02 if seeds == 2 else 0.03 if seeds == 3 and not ratio else 0.035


@pytest.mark.parametrize(("share", "seeds", "n", "ratio"), PAIRED)
def test_false_positives_of_a_difference(share, seeds, n, ratio):
    rng, codes, wrong = np.random.default_rng([seeds, n, int(10 * ratio), 2]), layout(n), []
    for _ in range(10):
        first, second = methods(rng, share, seeds, codes, ratio, 500, 2)
        parts = crossed_parts([Scores(first - second, codes)])
        found = parts.mean**2 > squared_half_width(parts, cautious=False)
        wrong.append(found & (parts.variance > NO_VARIANCE))
    rate = float(np.mean(wrong))
    print(f"FP {share} {seeds} {n} {ratio} {100 * rate:.1f}")
    assert least(share, seeds, n, ratio) <= rate <= 0.065


@pytest.mark.parametrize(("share", "seeds", "n"), [(0.6, 1, 100), (0.6, 3, 100), (0.9, 3, 500), (0.97, 1, 500)])
def test_coverage_of_a_difference(share, seeds, n):
    rng, codes, held, deltas = np.random.default_rng([seeds, n, 3]), layout(n), [], []
    ratio = 0.5 * (seeds > 1)
    level = level_for(share, math.hypot(1, ratio))
    truth = float(failing(level, math.hypot(1, ratio)) - failing(level - 0.8, math.hypot(1, ratio)))
    for _ in range(8):
        first, second = methods(rng, share, seeds, codes, ratio, 500, 2, shift=0.8)
        parts = crossed_parts([Scores(first - second, codes)])
        held.append((parts.mean - truth) ** 2 <= squared_half_width(parts, cautious=False))
        deltas.append(parts.mean)
    print(f"DIFF {share} {seeds} {n} {100 * np.mean(held):.1f}")
    assert np.mean(deltas) == pytest.approx(truth, abs=0.004)
    assert 0.93 <= np.mean(held) <= 0.97


@pytest.mark.parametrize(("seeds", "ratio"), [(1, 0.0), (3, 0.5), (10, 1.0)])
def test_family_wise_error_of_holm(seeds, ratio):
    """Five equal methods against a baseline that is as good: is any called different?"""
    rng, codes, tables, wrong, uncorrected = np.random.default_rng(9), layout(100), 2000, 0, 0
    for _ in range(4):
        baseline, *others = methods(rng, 0.6, seeds, codes, ratio, tables // 4, 6)
        found = np.array([p_value(crossed_parts([Scores(other - baseline, codes)])) for other in others])
        uncorrected += int((found.min(axis=0) < 0.05).sum())
        wrong += sum(min(holm(dict(enumerate(column))).values()) < 0.05 for column in found.T)
    print(f"HOLM {seeds} {ratio} {100 * wrong / tables:.1f} uncorrected {100 * uncorrected / tables:.1f}")
    # Two standard errors of 5 % in 2,000 tables.
    assert wrong / tables <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / tables)
    assert uncorrected / tables > 0.1


def test_the_best_is_among_its_ties():
    """Of five methods the first is the best by a little: it is left out of the ties in at most 5 % of tables."""
    rng, codes, tables, out = np.random.default_rng(10), layout(100), 400, 0
    names = codes.astype(str)
    drawn = np.stack(list(methods(rng, 0.6, 3, codes, 0.5, tables, 5, shift=0.1)))
    for table in range(tables):
        out += "0" not in ties({str(k): drawn[k, table] for k in range(5)}, names, proportion=True)
    print(f"TIES {100 * out / tables:.1f}")
    assert out / tables <= 0.05


@pytest.mark.parametrize(("share", "n"), list(product((0.6, 0.95), (100, 500))))
@pytest.mark.parametrize(("sensitivity", "specificity", "texts"), [(0.8, 0.9, 100), (0.9, 0.7, 400), (0.65, 0.7, 400)])
def test_coverage_of_a_corrected_share(share, n, sensitivity, specificity, texts):
    rng, tables, held, said = np.random.default_rng(11), 2000, 0, 0
    called = rng.binomial(n, share * sensitivity + (1 - share) * (1 - specificity), tables)
    found, passed = rng.binomial(texts, sensitivity, tables), rng.binomial(texts, specificity, tables)
    low, high = wilson(called / n, n)
    for table in range(tables):
        interval = Interval(called[table] / n, float(low[table]), float(high[table]), n, 1)
        got = corrected_share(
            interval,
            sensitivity=found[table] / texts,
            specificity=passed[table] / texts,
            positives=texts,
            negatives=texts,
        )
        if got is not None:
            said, held = said + 1, held + (got.low <= share <= got.high)
    print(f"RG {share} {n} {sensitivity} {specificity} {texts} {100 * held / said:.1f} of {said}")
    assert 0.93 <= held / said <= 0.985
