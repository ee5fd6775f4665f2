"""The blocks forbid what transformers' processors forbid, for all rows at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import (
    EncoderNoRepeatNGramLogitsProcessor,
    MinNewTokensLengthLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
)

from cringe.blocks import ContextBlock, EndBlock, RepeatBlock


def draw(*shape: int, seed: int, vocabulary: int) -> Tensor:
    return torch.randint(0, vocabulary, shape, generator=torch.Generator().manual_seed(seed))


def scores(rows: int, vocabulary: int) -> Tensor:
    found = torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(9))
    found[0, 0] = -torch.inf  # forbidden already
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("vocabulary", [2, 3, 6, 40])
def test_repeats(size: int, vocabulary: int) -> None:
    """Of every length from nothing to many repetitions."""
    before = scores(20, vocabulary)
    for length in (*range(7), 30):
        ids = draw(20, length, seed=length, vocabulary=vocabulary)
        given = before.clone()
        found = RepeatBlock(size)(ids, given)
        assert torch.equal(given, before)  # what came in stays as it was
        assert torch.equal(found, NoRepeatNGramLogitsProcessor(size)(ids, before.clone()))


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("vocabulary", [2, 3, 6, 40])
@pytest.mark.parametrize("beams", [1, 5])
def test_contexts(size: int, vocabulary: int, beams: int) -> None:
    before = scores(4 * beams, vocabulary)
    for length in (*range(1, 6), 20):
        contexts = draw(4, 1 + length % 3 * 6, seed=length, vocabulary=vocabulary)
        ids = draw(4 * beams, length, seed=99 - length, vocabulary=vocabulary)
        block = ContextBlock(size, contexts)
        expected = EncoderNoRepeatNGramLogitsProcessor(size, contexts)(ids, before.clone())
        assert torch.equal(block(ids, before), expected)
        kept = torch.tensor([1, 3])
        block.keep(kept)
        rows = (kept[:, None] * beams + torch.arange(beams)).flatten()
        assert torch.equal(block(ids[rows], before[rows]), expected[rows])


def test_the_prompt_is_no_part_of_the_reply() -> None:
    ids, contexts = draw(6, 12, seed=0, vocabulary=4), draw(3, 9, seed=1, vocabulary=4)
    before = scores(6, 4)
    assert torch.equal(RepeatBlock(2, prompt=5)(ids, before), RepeatBlock(2)(ids[:, 5:], before))
    assert not torch.equal(RepeatBlock(2, prompt=5)(ids, before), RepeatBlock(2)(ids, before))
    blocked = ContextBlock(2, contexts, prompt=11)(ids[:, :11], before)
    assert torch.equal(blocked, before)  # nothing was said: no 2-gram has begun
    assert torch.equal(ContextBlock(2, contexts, prompt=5)(ids, before), ContextBlock(2, contexts)(ids[:, 5:], before))


def test_by_hand() -> None:
    """After 4 5 6 4 5 comes no 6 again; the context 5 7 5 8 forbids 7 and 8 after 5."""
    ids, flat = torch.tensor([[4, 5, 6, 4, 5]]), torch.zeros(1, 10)
    assert RepeatBlock(3)(ids, flat).isinf().nonzero().tolist() == [[0, 6]]
    assert ContextBlock(2, torch.tensor([[5, 7, 5, 8]]))(ids, flat).isinf().nonzero().tolist() == [[0, 7], [0, 8]]


def test_the_end() -> None:
    before, ends = scores(4, 12), torch.tensor([2, 7])
    theirs = MinNewTokensLengthLogitsProcessor(3, 2, ends)
    for length in range(3, 8):
        ids = draw(4, length, seed=0, vocabulary=12)
        assert torch.equal(EndBlock(5, ends)(ids, before), theirs(ids, before.clone()))
