"""Examples, the stratified order of training, and halves."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, combinations, pairwise

import pytest

from cringe.data import Example, Feedback, StratifiedSampler, Stratum, batch_shares, halves, normalised

POSITIVE, NEGATIVE, UNLABELLED = Feedback.POSITIVE, Feedback.NEGATIVE, Feedback.UNLABELLED
STRATA = (
    Stratum(source="chat", feedback=UNLABELLED, weight=2),
    Stratum(source="decode", feedback=POSITIVE, weight=1),
    Stratum(source="decode", feedback=NEGATIVE, weight=1),
)


@pytest.fixture(scope="module")
def sources(make_example: Callable[..., Example]) -> dict[str, list[Example]]:
    """11 chats, 7 positives and 5 negatives: no pool is a multiple of its share."""
    return {
        "chat": [make_example(f"c{index:02}") for index in range(11)],
        "decode": [make_example(f"p{index}", "yes", POSITIVE) for index in range(7)]
        + [make_example(f"n{index}", "no", NEGATIVE) for index in range(5)],
    }


def uids(batch: Iterable[Example]) -> list[str]:
    return [example.uid for example in batch]


def test_example_rejects_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="x: 2 context turns but 1 speaker marks"):
        Example(uid="x", context=("a", "b"), response="c", group="g", own=(True,))
    for index in (-1, 1):
        with pytest.raises(ValueError, match="outside of 1 context turns"):
            Example(uid="x", context=("a",), response="c", group="g", own=(True,), evidence=(index,))


def test_examples_have_no_documents_unless_given(make_example: Callable[..., Example]) -> None:
    example = make_example("a")
    assert example.documents == ()
    assert replace(example, documents=("best", "next")).documents == ("best", "next")


def test_shares() -> None:
    assert batch_shares(STRATA, 8) == [4, 2, 2]
    assert batch_shares(STRATA[:1], 4) == [4]


@pytest.mark.parametrize("size", [-4, 0, 1, 3, 6, 9])
def test_shares_are_never_rounded(size: int) -> None:
    with pytest.raises(ValueError, match=rf"a batch of {size} cannot be cut 2 : 1 : 1; take a multiple of 4"):
        batch_shares(STRATA, size)


def test_every_batch_has_the_same_shares(sources: dict[str, list[Example]]) -> None:
    sampler = StratifiedSampler(sources, STRATA, batch_size=8, seed=0)
    for batch in sampler.batches(0, 30):
        assert Counter(example.feedback for example in batch) == {UNLABELLED: 4, POSITIVE: 2, NEGATIVE: 2}


def test_any_cut_of_a_batch_is_mixed(sources: dict[str, list[Example]]) -> None:
    """Each quarter of 16 holds the shares of the whole."""
    batch = StratifiedSampler(sources, STRATA, batch_size=16, seed=0).batch(0)
    for start in range(0, 16, 4):
        part = Counter(example.feedback for example in batch[start : start + 4])
        assert part == {UNLABELLED: 2, POSITIVE: 1, NEGATIVE: 1}


def test_batch_is_a_function_of_the_step(sources: dict[str, list[Example]]) -> None:
    """Asked in any order, twice, or by a sampler that has not seen the others."""
    sampler = StratifiedSampler(sources, STRATA, batch_size=8, seed=3)
    batches = [uids(batch) for batch in sampler.batches(0, 25)]
    steps = list(range(25)) * 2
    random.Random(0).shuffle(steps)
    assert all(uids(sampler.batch(step)) == batches[step] for step in steps)
    assert uids(StratifiedSampler(sources, STRATA, batch_size=8, seed=3).batch(24)) == batches[24]
    assert [uids(batch) for batch in sampler.batches(7, 9)] == batches[7:9]


def test_epochs_cover_each_pool_once(sources: dict[str, list[Example]]) -> None:
    """Whatever the pool's size, also where one batch takes more of it than it holds; each epoch in a new order."""
    for size in (4, 8, 12, 28):
        sampler = StratifiedSampler(sources, STRATA, batch_size=size, seed=1)
        seen = [example for batch in sampler.batches(0, 60) for example in batch]
        for feedback, pool in ((UNLABELLED, 11), (POSITIVE, 7), (NEGATIVE, 5)):
            walk = [example.uid for example in seen if example.feedback == feedback]
            epochs = [tuple(walk[start : start + pool]) for start in range(0, len(walk) - pool + 1, pool)]
            assert len(epochs) >= 5
            assert all(len(set(epoch)) == pool for epoch in epochs)
            assert len(set(epochs)) > len(epochs) / 2


def test_order_of_the_input_does_not_matter(sources: dict[str, list[Example]]) -> None:
    """Rows come in any order and sources in any mapping; the batches are the same."""
    shuffled = {name: random.Random(5).sample(rows, len(rows)) for name, rows in reversed(sources.items())}
    assert list(shuffled) != list(sources)
    first, second = (StratifiedSampler(rows, STRATA, batch_size=8, seed=0) for rows in (sources, shuffled))
    assert all(first.batch(step) == second.batch(step) for step in range(20))


def by_uid(examples: Sequence[Example]) -> list[int]:
    """A length of each example that has nothing to do with the order of its pool."""
    return [int(example.uid[1:]) * 7 % 11 for example in examples]


@pytest.fixture(scope="module")
def many(make_example: Callable[..., Example]) -> dict[str, list[Example]]:
    """101 chats, 67 positives and 50 negatives."""
    pools = (("c", UNLABELLED, 101), ("p", POSITIVE, 67), ("n", NEGATIVE, 50))
    rows = {key: [make_example(f"{key}{index:03}", "x", kind) for index in range(size)] for key, kind, size in pools}
    return {"chat": rows["c"], "decode": [*rows["p"], *rows["n"]]}


@pytest.mark.parametrize("window", [2, 5, 8])
def test_a_window_holds_the_examples_of_the_plain_order(window: int, many: dict[str, list[Example]]) -> None:
    """So each example comes once in an epoch, to within a window; and every batch has its shares of all strata."""
    plain = StratifiedSampler(many, STRATA, batch_size=8, seed=2)
    dealt = StratifiedSampler(many, STRATA, batch_size=8, seed=2, window=window, lengths=by_uid)
    for start in range(0, 120, window):
        batches, others = ([*sampler.batches(start, start + window)] for sampler in (dealt, plain))
        assert sorted(uids(chain(*batches))) == sorted(uids(chain(*others)))
        for batch in batches:
            assert Counter(example.feedback for example in batch) == {UNLABELLED: 4, POSITIVE: 2, NEGATIVE: 2}
    assert any(uids(dealt.batch(step)) != uids(plain.batch(step)) for step in range(window))


def test_in_a_window_long_goes_with_long(many: dict[str, list[Example]]) -> None:
    """Of each stratum one batch has the shortest examples, the same batch of all strata; which one is drawn."""
    dealt = StratifiedSampler(many, STRATA, batch_size=8, seed=2, window=6, lengths=by_uid)
    ranks = set()
    for start in range(0, 60, 6):
        batches = [*dealt.batches(start, start + 6)]
        orders = []
        for feedback in Feedback:
            parts = [sorted(by_uid([row for row in batch if row.feedback == feedback])) for batch in batches]
            order = sorted(range(6), key=lambda place: parts[place])
            assert all(parts[a][-1] <= parts[b][0] for a, b in pairwise(order))
            orders.append([sum(part) for part in parts])
        for first, second in combinations(range(6), 2):
            signs = {(row[first] > row[second]) - (row[first] < row[second]) for row in orders}
            assert not signs >= {-1, 1}
        ranks.add(tuple(sorted(range(6), key=lambda place: sum(by_uid(batches[place])))))
    assert len(ranks) > 5


def test_a_windows_batch_is_a_function_of_seed_and_step(many: dict[str, list[Example]]) -> None:
    """Asked in any order, or by a sampler that goes on in the middle of a window."""
    make = partial(StratifiedSampler, many, STRATA, batch_size=8, window=8, lengths=by_uid)
    first = [uids(batch) for batch in make(seed=3).batches(0, 40)]
    steps = random.Random(0).sample(range(40), 40)
    again = make(seed=3)
    assert all(uids(again.batch(step)) == first[step] for step in steps)
    assert uids(make(seed=3).batch(21)) == first[21]
    assert sum(uids(batch) == one for batch, one in zip(make(seed=4).batches(0, 40), first, strict=True)) == 0


def test_a_window_is_no_longer_than_half_an_epoch(sources: dict[str, list[Example]]) -> None:
    """A pool of 5 with 2 in each batch: windows of one batch, the plain order. With 1 in each: of two batches."""
    plain = StratifiedSampler(sources, STRATA, batch_size=8, seed=0)
    dealt = StratifiedSampler(sources, STRATA, batch_size=8, seed=0, window=8, lengths=by_uid)
    assert all(plain.batch(step) == dealt.batch(step) for step in range(20))
    plain, dealt = (
        StratifiedSampler(sources, STRATA, batch_size=4, seed=0, window=window, lengths=by_uid) for window in (1, 8)
    )
    pairs = [[[*sampler.batches(step, step + 2)] for sampler in (plain, dealt)] for step in range(0, 20, 2)]
    assert all(sorted(uids(chain(*first))) == sorted(uids(chain(*second))) for first, second in pairs)
    assert any(first != second for first, second in pairs)


def test_a_window_needs_lengths(sources: dict[str, list[Example]]) -> None:
    with pytest.raises(ValueError, match="a window of 2 batches is dealt by length: give `lengths`"):
        StratifiedSampler(sources, STRATA, batch_size=8, seed=0, window=2)


def test_seeds_give_other_orders(sources: dict[str, list[Example]]) -> None:
    first, second = (StratifiedSampler(sources, STRATA, batch_size=8, seed=seed) for seed in (0, 1))
    assert sum(uids(first.batch(step)) == uids(second.batch(step)) for step in range(10)) == 0


def test_strata_are_ordered_apart(make_example: Callable[..., Example]) -> None:
    """Two pools of one size are not walked in step, and a stratum's order does not hang on its neighbours."""
    rows = [make_example(f"{kind}{index}", "x", kind) for kind in (POSITIVE, NEGATIVE) for index in range(9)]
    strata = [Stratum(source="s", feedback=kind, weight=1) for kind in (POSITIVE, NEGATIVE)]
    batches = list(StratifiedSampler({"s": rows}, strata, batch_size=2, seed=0).batches(0, 9))
    assert any(first.uid[-1] != second.uid[-1] for first, second in batches)
    alone = StratifiedSampler({"s": rows}, strata[1:], batch_size=1, seed=0)
    assert [uids(batch)[0] for batch in alone.batches(0, 9)] == [batch[1].uid for batch in batches]


def test_a_missing_stratum_is_named(sources: dict[str, list[Example]]) -> None:
    strata = [Stratum(source="chat", feedback=NEGATIVE, weight=1)]
    with pytest.raises(ValueError, match="no example of chat/negative"):
        StratifiedSampler(sources, strata, batch_size=2, seed=0)
    with pytest.raises(ValueError, match="cannot be cut"):
        StratifiedSampler(sources, STRATA, batch_size=3, seed=0)


def test_halves_keep_equal_responses_together(make_example: Callable[..., Example]) -> None:
    """Disjoint, complete, about equal; a response's half does not hang on its rows, its case or its blanks."""
    texts = [f"i have {index} dogs" for index in range(400)]
    rows = [make_example(f"{index}-{copy}", text) for index, text in enumerate(texts) for copy in range(2)]
    rows += [make_example("loud", " I have  7 DOGS\n")]
    first, second = halves(rows)
    assert sorted(uids(first) + uids(second)) == sorted(uids(rows))
    keys = [{normalised(example.response) for example in half} for half in (first, second)]
    assert not keys[0] & keys[1]
    assert 150 < len(keys[0]) < 250
    again = halves(list(reversed(rows))[:300])
    assert set(uids(again[0])) <= set(uids(first))
    assert set(uids(again[1])) <= set(uids(second))


def test_normalised() -> None:
    assert normalised("  Straße\t IST\n da ") == "strasse ist da"
    assert normalised(" \n") == ""
