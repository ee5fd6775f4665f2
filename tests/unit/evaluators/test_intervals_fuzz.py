"""Intervals of any scores: around the estimate, in order, in bounds, and the same in whatever order data come.

Every warning of numpy is an error here: a division by 0 or an overflow that nobody looked at.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from evaluators.agreement import SetScores, agreement_with
from evaluators.limits import p_value, squared_half_width, t_quantile, wilson
from evaluators.paired import Pair, holm, paired_difference, ties, weighted_paired_difference
from evaluators.spread import crossed_parts
from evaluators.stats import (
    Interval,
    accuracy,
    auc,
    checked_scores,
    mean_interval,
    ratio_interval,
    weighted_mean_interval,
)

pytestmark = pytest.mark.filterwarnings("error")
FEWER = settings(max_examples=max(1, settings.default.max_examples // 4))
Array = NDArray[np.float64]
MOST = 1e12
"""Nats of a reply, at most (`benchmarks.stored.MOST_NATS`)."""


class Table(NamedTuple):
    """(S, N) scores of two methods, dialogues, and what was replied."""

    values: Array
    other: Array
    groups: list[str]
    replies: NDArray[np.int64] | None
    proportion: bool


@st.composite
def tables(draw: st.DrawFn, *, proportion: bool | None = None, most_seeds: int = 4) -> Table:
    """One seed or several, one example or several, in one dialogue or several; constants, rare failures, any size."""
    seeds, n = draw(st.integers(1, most_seeds)), draw(st.sampled_from([1, 2, 3, 7, 40]))
    share = draw(st.booleans()) if proportion is None else proportion
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kind = draw(st.sampled_from(["constant", "binary", "rare", "any", "seeds differ", "dialogues differ"]))
    groups = rng.integers(0, draw(st.sampled_from([1, 2, n])), n)

    def scores() -> Array:
        shape = (seeds, n)
        if kind == "constant":
            return np.full(shape, rng.choice([0.0, 1.0, 0.3]))
        if kind == "binary":
            return (rng.random(shape) < 0.6).astype(float)
        if kind == "rare":
            found = np.ones(shape)
            found[rng.integers(seeds), rng.integers(n)] = 0
            return found
        if kind == "seeds differ":
            return np.repeat(rng.random((seeds, 1)), n, axis=1)
        if kind == "dialogues differ":
            return np.repeat(rng.random(groups.max() + 1)[None, groups], seeds, axis=0)
        return rng.random(shape)

    values, other = scores(), scores()
    if not share:
        size = draw(st.sampled_from([1e-12, 1.0, 100.0, MOST]))
        values, other = (values - 0.5) * size, (other - 0.5) * size
    replies = rng.integers(0, draw(st.sampled_from([1, 2, 1000])), (seeds, n)) if draw(st.booleans()) else None
    return Table(values, other, [f"d{group}" for group in groups], replies, share)


def check(found: Interval, mean: float, *, proportion: bool, size: float = 1.0) -> None:
    """Limits are both there or both not, enclose the estimate, and are shares where it is one."""
    slack = 1e-9 * max(1.0, size)
    assert found.mean == pytest.approx(mean, rel=1e-9, abs=1e-9 * max(size, 1e-300))
    assert (found.low is None) == (found.high is None)
    if found.low is None or found.high is None:
        assert not proportion
        return
    assert math.isfinite(found.low)
    assert math.isfinite(found.high)
    assert found.low <= found.mean <= found.high or (not proportion and found.high - found.low <= slack)
    if proportion:
        assert 0 <= found.low < found.high <= 1  # certain is nobody


@given(table=tables())
def test_mean(table: Table) -> None:
    found = mean_interval(table.values, table.groups, proportion=table.proportion, replies=table.replies)
    check(found, table.values.mean(), proportion=table.proportion, size=np.abs(table.values).max())
    assert (found.seeds, found.n) == table.values.shape
    if len(set(table.groups)) == 1 and not table.proportion:
        assert found.low is None  # of other dialogues nothing is known: n/a, and no width of 0


@given(table=tables(), data=st.data())
def test_order_does_not_matter(table: Table, data: st.DataObject) -> None:
    """Neither that of examples nor of seeds, nor what dialogues are called."""
    seeds, n = table.values.shape
    rows = np.array(data.draw(st.permutations(range(seeds))))
    columns = np.random.default_rng(data.draw(st.integers(0, 99))).permutation(n)
    replies = None if table.replies is None else table.replies[rows][:, columns]
    one = mean_interval(table.values, table.groups, proportion=table.proportion, replies=table.replies)
    other = mean_interval(
        table.values[rows][:, columns],
        [f"{hash(table.groups[column])}" for column in columns],
        proportion=table.proportion,
        replies=replies,
    )
    size = float(np.abs(table.values).max())
    for first, second in zip(one, other, strict=True):
        assert first == second or first == pytest.approx(second, rel=1e-6, abs=1e-7 * size)


def test_rounding_is_no_variance() -> None:
    """Dialogues that score alike: the last digits of their sums, which the order decides, said how sure one can be.

    The lower limit was 0.00064 or 0.00048, by what the dialogues were called.
    """
    values = np.repeat(np.array([[1 / 60], [5 / 60]]), 7, axis=1)
    names = [
        ["3", "3", "5", "6", "0", "1", "5"],
        ["b", "b", "a", "c", "d", "e", "a"],
        ["a", "a", "b", "c", "d", "e", "b"],
    ]
    found = [mean_interval(values, groups, proportion=True) for groups in names]
    assert found[0] == pytest.approx(found[1], rel=1e-9)
    assert found[0] == pytest.approx(found[2], rel=1e-9)


@given(tables_=st.lists(tables(proportion=True, most_seeds=1), min_size=1, max_size=3), data=st.data())
def test_weighted_mean(tables_: list[Table], data: st.DataObject) -> None:
    shares = data.draw(st.lists(st.integers(0, 9), min_size=len(tables_), max_size=len(tables_)).filter(any))
    weights = [share / sum(shares) for share in shares]
    parts = [(table.values, table.groups, table.replies) for table in tables_]
    found = weighted_mean_interval(parts, weights, proportion=True)
    mean = sum(weight * table.values.mean() for weight, table in zip(weights, tables_, strict=True))
    check(found, mean, proportion=True)
    if len(tables_) == 1:
        assert found == mean_interval(parts[0][0], parts[0][1], proportion=True, replies=parts[0][2])


@given(table=tables(proportion=False))
def test_ratio(table: Table) -> None:
    tokens = 1 + np.floor(np.abs(table.other) / (np.abs(table.other).max() or 1) * 30)
    found = ratio_interval(table.values, tokens, table.groups, replies=table.replies)
    ratio = (table.values.sum(axis=1) / tokens.sum(axis=1)).mean()
    check(found, ratio, proportion=False, size=np.abs(table.values).max())
    with pytest.raises(ValueError, match="sum to 0"):
        ratio_interval(table.values, np.zeros_like(tokens), table.groups)


@given(table=tables())
def test_difference(table: Table) -> None:
    """In the middle of its limits' order, with a p that says what they say; the other way round all signs change."""
    said = {"replies": table.replies, "baseline_replies": table.replies}
    one = paired_difference(table.values, table.other, table.groups, proportion=table.proportion, **said)
    other = paired_difference(table.other, table.values, table.groups, proportion=table.proportion, **said)
    size = float(max(np.abs(table.values).max(), np.abs(table.other).max()))
    assert one.mean == pytest.approx((table.values - table.other).mean(), rel=1e-9, abs=1e-9 * size)
    assert one.mean == pytest.approx(-other.mean, rel=1e-9, abs=1e-9 * size)
    assert (one.low is None) == (one.high is None) == (one.p is None)
    assert (one.p is None) <= (not table.proportion)
    if one.low is None or one.high is None or one.p is None or other.low is None or other.high is None:
        return
    assert all(map(math.isfinite, one))
    assert one.low <= one.mean <= one.high
    assert 0 < one.p <= 1
    assert one.p == pytest.approx(other.p, rel=1e-4)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), rel=1e-6, abs=1e-9 * size)
    if abs(one.p - 0.05) > 1e-6:
        assert (one.p < 0.05) == (one.low > 0 or one.high < 0)


@given(table=tables())
def test_no_difference_from_oneself(table: Table) -> None:
    found = paired_difference(table.values, table.values, table.groups, proportion=table.proportion)
    assert found.mean == 0
    assert found.p in (None, 1.0)
    pair = Pair(table.values, table.values, table.groups)
    assert weighted_paired_difference([pair], [1.0], proportion=table.proportion) == found


@given(table=tables())
def test_ties(table: Table) -> None:
    """The best is among them, in the order given; a copy of the best always is, too."""
    scores = {"a": table.values, "b": table.other, "c": table.values}
    found = ties(scores, table.groups, proportion=table.proportion)
    best = max(scores, key=lambda name: scores[name].mean())
    assert best in found
    assert list(found) == [name for name in scores if name in found]
    assert ("a" in found) == ("c" in found)


@given(p=st.lists(st.floats(0, 1), max_size=6))
def test_holm(p: list[float]) -> None:
    names = {f"m{index}": value for index, value in enumerate(p)}
    found = holm(names)
    assert list(found) == list(names)
    assert all(names[name] <= value <= min(1, len(p) * names[name]) for name, value in found.items())
    order = sorted(names, key=lambda name: names[name])
    assert all(found[one] <= found[two] for one, two in pairwise(order))


@given(share=st.floats(0, 1), n=st.floats(1, 1e9), quantiles=st.tuples(st.floats(0, 8), st.floats(0, 8)))
@example(share=5e-324, n=1.0, quantiles=(1.0, 2.0))
def test_wilson(share: float, n: float, quantiles: tuple[float, float]) -> None:
    """More confidence is wider, more observations narrower."""
    (low, high), (wide_low, wide_high) = (wilson(share, n, q) for q in sorted(quantiles))
    assert 0 <= low <= share <= high <= 1
    assert wide_low <= low + 1e-15
    assert high <= wide_high + 1e-15
    more_low, more_high = wilson(share, 2 * n, min(quantiles))
    assert low - 1e-12 <= more_low
    assert more_high <= high + 1e-12


@given(table=tables(), alphas=st.tuples(st.floats(1e-6, 0.999), st.floats(1e-6, 0.999)), cautious=st.booleans())
def test_more_confidence_is_wider(table: Table, alphas: tuple[float, float], cautious: bool) -> None:
    scores = checked_scores(table.values, table.groups, proportion=table.proportion, replies=(table.replies,))
    parts = crossed_parts([scores])
    if parts is None:
        return
    wide, narrow = (float(squared_half_width(parts, alpha, cautious=cautious)) for alpha in sorted(alphas))
    assert wide >= narrow >= 0
    assert t_quantile(5, min(alphas)) >= t_quantile(5, max(alphas)) >= 0
    assert 0 < float(p_value(parts)) <= 1


@given(table=tables(), bad=st.sampled_from([math.nan, math.inf, -math.inf]), data=st.data())
def test_what_is_no_number_is_refused(table: Table, bad: float, data: st.DataObject) -> None:
    values = table.values.copy()
    values[data.draw(st.integers(0, values.shape[0] - 1)), data.draw(st.integers(0, values.shape[1] - 1))] = bad
    ids = None if table.replies is None else table.replies[None]
    for call in (
        lambda: mean_interval(values, table.groups, proportion=table.proportion),
        lambda: ratio_interval(values, np.ones_like(values), table.groups),
        lambda: paired_difference(table.other, values, table.groups, proportion=table.proportion),
        lambda: ties({"a": values, "b": table.other}, table.groups, proportion=table.proportion),
        lambda: agreement_with([SetScores(values[None], table.groups, replies=ids)], [1.0]),
        lambda: auc([0, 1], [0.5, bad]),
        lambda: accuracy([0, 1], [0.5, bad], threshold=0.5),
    ):
        with pytest.raises(ValueError, match=r"NaN|infinite|finite"):
            call()


@given(shape=st.sampled_from([(0, 0), (1, 0), (0, 3), (3,), (2, 2, 2), (2, 3)]))
def test_no_data_is_no_number(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"no data|expected"):
        mean_interval(np.zeros(shape), ["d"] * (shape[-1] + (len(shape) == 2 and shape[0] == 2)), proportion=False)


@given(
    labels=st.lists(st.integers(0, 1), min_size=2, max_size=40).filter(lambda labels: 0 < sum(labels) < len(labels)),
    data=st.data(),
)
def test_auc(labels: list[int], data: st.DataObject) -> None:
    """A share of pairs, as counted one by one; turned round it is the rest."""
    numbers = st.floats(-1e6, 1e6) | st.sampled_from([0.0, 0.5, 1.0])
    scores = data.draw(st.lists(numbers, min_size=len(labels), max_size=len(labels)))
    found = auc(labels, scores)
    above = [
        (one > other) + (one == other) / 2
        for one, label in zip(scores, labels, strict=True)
        if label
        for other, no in zip(scores, labels, strict=True)
        if not no
    ]
    assert found.value == pytest.approx(sum(above) / len(above), abs=1e-12)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.low < found.high
    turned = auc([1 - label for label in labels], scores)
    assert (turned.low, turned.high) == pytest.approx((1 - found.high, 1 - found.low), abs=1e-6)


@FEWER
@given(
    methods=st.integers(1, 5),
    tables_=st.lists(tables(most_seeds=1), min_size=1, max_size=2),
    reference=st.lists(st.sampled_from([0.0, 1.0, 2.5, 3.0, 7.0]), min_size=5, max_size=5),
    seeds=st.integers(1, 3),
    rng=st.integers(0, 99),
)
def test_agreement(methods: int, tables_: list[Table], reference: list[float], seeds: int, rng: int) -> None:
    """Between −1 and 1, with its limits around it; the order of methods does not matter."""
    draw = np.random.default_rng(rng)
    sets = [
        SetScores(
            table.values[None] * draw.choice([0.0, 0.5, 1.0], (methods, 1, 1)) + np.zeros((methods, seeds, 1)),
            table.groups,
            1 / len(tables_),
            None
            if table.replies is None
            else np.broadcast_to(table.replies[None], (methods, seeds, len(table.groups))),
        )
        for table in tables_
    ]
    given_values = np.array(reference[:methods])
    found = agreement_with(sets, given_values)
    order = draw.permutation(methods)
    turned = [
        one._replace(values=one.values[order], replies=None if one.replies is None else one.replies[order])
        for one in sets
    ]
    again = agreement_with(turned, given_values[order])
    assert (found is None) == (again is None)
    if found is None or again is None:
        return
    assert -1 <= found.tau <= 1
    assert found.tau == pytest.approx(again.tau)
    assert 0 < found.p <= 1
    assert (found.low is None) == (found.high is None) == (found.apart is None)
    if found.low is not None and found.high is not None:
        assert -1 <= found.low <= found.tau <= found.high <= 1
        assert (found.low, found.high) == pytest.approx((again.low, again.high), abs=1e-9)
