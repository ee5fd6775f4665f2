"""Draws: functions of what they are named after, uniform, independent, equal in every process."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import stats

from cringe.seeding import stable_hash, stream, torch_seed, uniforms

EXAMPLES = [stable_hash(f"dialogue-{index}") for index in range(400)]


def test_hash_is_pinned() -> None:
    """A stored run can be repeated only while these stay."""
    assert stable_hash() == 13020603013274838756
    assert stable_hash("a", 1) == stable_hash("a", 1)
    assert stable_hash(0, "order", "decode/negative", 3) == 3486670995923543302


def test_hash_tells_parts_apart() -> None:
    tuples: list[tuple[str | int, ...]] = [(), ("",), ("", ""), ("1",), (1,), ("ab", "c"), ("a", "bc"), ("abc",), (-1,)]
    tuples += [("\ud800",), ("\u00e9",), ("e\u0301",), (2**70,)]
    hashes = [stable_hash(*parts) for parts in tuples]
    assert len(set(hashes)) == len(tuples)
    assert all(0 <= value < 2**64 for value in hashes)


def test_draws_are_pinned() -> None:
    """The same numbers on every machine, written out once."""
    draws = uniforms(7, "cringe", step=11, examples=[0, 2**64 - 1], positions=[0, 5])
    assert draws.tolist() == [
        [0.4842458300393744, 0.8911536362789856],
        [0.8313820907676912, 0.7804238946787457],
    ]


def test_draws_are_equal_in_another_process() -> None:
    code = (
        "from cringe.seeding import *\n"
        "print(uniforms(3, 'p', step=2, examples=[stable_hash('x')], positions=range(3)).tolist())\n"
        "print(stream(3, 'order', 'x').permutation(9).tolist())"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    here = uniforms(3, "p", step=2, examples=[stable_hash("x")], positions=range(3))
    assert found[0] == str(here.tolist())
    assert found[1] == str(stream(3, "order", "x").permutation(9).tolist())


def test_draw_depends_on_its_names_alone() -> None:
    """Other rows and columns, their number and their order leave an entry as it is."""
    whole = uniforms(1, "cringe", step=4, examples=EXAMPLES[:20], positions=range(30))
    part = uniforms(1, "cringe", step=4, examples=EXAMPLES[10:5:-1], positions=[7, 2, 29])
    assert np.array_equal(part, whole[10:5:-1][:, [7, 2, 29]])


def test_every_name_matters() -> None:
    base = {"seed": 1, "purpose": "cringe", "step": 4}
    draws = [
        uniforms(**(base | change), examples=EXAMPLES, positions=range(20))  # type: ignore[arg-type]
        for change in ({}, {"seed": 2}, {"purpose": "sample"}, {"step": 5}, {"seed": 4, "step": 1})
    ]
    for index, first in enumerate(draws):
        for second in draws[:index]:
            assert not (first == second).any()
            assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 5 / np.sqrt(first.size)


def test_draws_are_uniform_and_independent() -> None:
    """Kolmogorov and Smirnov on all, on rows and on columns; neighbours of every kind are not correlated."""
    draws = uniforms(0, "cringe", step=0, examples=EXAMPLES, positions=range(100))
    assert draws.shape == (400, 100)
    assert draws.dtype == np.float64
    assert 0 <= draws.min() < draws.max() < 1
    assert len(np.unique(draws)) == draws.size
    assert stats.kstest(draws.ravel(), "uniform").pvalue > 1e-3
    assert min(stats.kstest(row, "uniform").pvalue for row in draws) > 1e-3 / 400
    assert min(stats.kstest(column, "uniform").pvalue for column in draws.T) > 1e-3 / 100
    bound = 5 / np.sqrt(draws.size)
    assert abs(np.corrcoef(draws[:, 1:].ravel(), draws[:, :-1].ravel())[0, 1]) < bound
    assert abs(np.corrcoef(draws[1:].ravel(), draws[:-1].ravel())[0, 1]) < bound
    correlations = np.corrcoef(draws.T)[np.triu_indices(100, 1)]
    assert abs(correlations).max() < 5.5 / np.sqrt(400)


def test_neighbouring_examples_and_steps_are_independent() -> None:
    """Hashes that differ by one, and steps that follow each other, are as far apart as any."""
    draws = np.stack([uniforms(0, "p", step=step, examples=range(300), positions=[0])[:, 0] for step in range(60)])
    assert stats.kstest(draws.ravel(), "uniform").pvalue > 1e-3
    bound = 5 / np.sqrt(draws.size)
    assert abs(np.corrcoef(draws[1:].ravel(), draws[:-1].ravel())[0, 1]) < bound
    assert abs(np.corrcoef(draws[:, 1:].ravel(), draws[:, :-1].ravel())[0, 1]) < bound
    assert abs(np.corrcoef(draws[1:, :-1].ravel(), draws[:-1, 1:].ravel())[0, 1]) < bound


def test_nothing_gives_nothing() -> None:
    assert uniforms(0, "p", step=0, examples=[], positions=range(3)).shape == (0, 3)
    assert uniforms(0, "p", step=0, examples=[1], positions=[]).shape == (1, 0)


def test_streams() -> None:
    """One for each purpose and its parts; making one more does not move another."""
    first = stream(0, "order", "a", 1).random(5)
    stream(0, "order", "b", 1).random(100)
    assert np.array_equal(stream(0, "order", "a", 1).random(5), first)
    for other in (stream(1, "order", "a", 1), stream(0, "other", "a", 1), stream(0, "order", "a", 2)):
        assert not np.array_equal(other.random(5), first)


def test_torch_seed_gives_the_state_back() -> None:
    before = torch.random.get_rng_state()
    with torch_seed(0, "init"):
        first = torch.rand(4)
    with torch_seed(0, "init"):
        again = torch.rand(4)
    with torch_seed(0, "init", 1):
        other = torch.rand(4)
    with pytest.raises(RuntimeError, match="shape"), torch_seed(0, "init"):
        torch.rand(3).reshape(2)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
