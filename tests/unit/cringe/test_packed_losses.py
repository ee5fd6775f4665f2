"""The losses of a step in one piece are those of `cringe.losses` on parts of it: values and gradients."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from cringe.losses import cringe_loss, largest, token_nll
from cringe.packed_losses import liked_nll, liked_nll_and_contrast

ROWS = 40
# Gradients in half precision are rounded once more than those of the plain form.
CLOSE = {torch.float32: 1e-6, torch.float64: 1e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}


class Case(NamedTuple):
    logits: Tensor
    targets: Tensor
    weights: Tensor
    noise: Tensor


def case(vocabulary: int, liked: int, dtype: torch.dtype = torch.float32, spread: float = 3.0) -> Case:
    draw = torch.Generator().manual_seed(vocabulary + liked)
    return Case(
        (spread * torch.randn(ROWS, vocabulary, generator=draw)).to(dtype),
        torch.randint(vocabulary, (ROWS,), generator=draw),
        torch.rand(ROWS, generator=draw) - 0.2,
        torch.rand(ROWS - liked, generator=draw, dtype=torch.float64),
    )


def plain(logits: Tensor, given: Case, liked: int, *, k: int, detach: bool) -> Tensor:
    noise = given.noise if k > 1 else None
    contrast = cringe_loss(logits[liked:], given.targets[liked:], k=k, noise=noise, detach_positive=detach)
    return torch.cat([token_nll(logits[:liked], given.targets[:liked]), contrast])


def packed(logits: Tensor, given: Case, liked: int, *, k: int, detach: bool) -> Tensor:
    noise = given.noise if k > 1 else None
    return torch.cat(liked_nll_and_contrast(logits, given.targets, liked, k=k, noise=noise, detach_positive=detach))


@pytest.mark.parametrize("dtype", CLOSE, ids=str)
@pytest.mark.parametrize("liked", [0, 1, 17, ROWS])
@pytest.mark.parametrize(("vocabulary", "k"), [(7, 1), (7, 5), (300, 1), (641, 5), (20_000, 5)])
def test_equals_the_plain_losses(vocabulary: int, k: int, liked: int, dtype: torch.dtype) -> None:
    """Each token weighted on its own; 20,000 logits a row are computed in several pieces."""
    given = case(vocabulary, liked, dtype)
    for detach in (False, True):
        values, gradients = [], []
        for loss in (plain, packed):
            leaf = given.logits.clone().requires_grad_()
            found = loss(leaf, given, liked, k=k, detach=detach)
            (found * given.weights).sum().backward()
            assert leaf.grad is not None
            assert leaf.grad.dtype == dtype
            values.append(found.detach())
            gradients.append(leaf.grad)
        assert values[1].dtype == torch.float32
        torch.testing.assert_close(values[1], values[0], rtol=1e-5, atol=2e-6)
        torch.testing.assert_close(gradients[1], gradients[0], rtol=10 * CLOSE[dtype], atol=CLOSE[dtype])


@pytest.mark.parametrize("liked", [0, 17, ROWS])
def test_likelihood_alone(liked: int) -> None:
    """What is not liked has no loss and no gradient."""
    given = case(300, liked)
    leaf = given.logits.clone().requires_grad_()
    values = liked_nll(leaf, given.targets, liked)
    (values * given.weights[:liked]).sum().backward()
    other = given.logits.clone().requires_grad_()
    expected = token_nll(other[:liked], given.targets[:liked])
    (expected * given.weights[:liked]).sum().backward()
    assert leaf.grad is not None
    torch.testing.assert_close(values, expected, rtol=1e-5, atol=2e-6)
    torch.testing.assert_close(leaf.grad, other.grad, rtol=1e-5, atol=1e-6)
    assert not leaf.grad[liked:].any()


@pytest.mark.parametrize("dtype", CLOSE, ids=str)
@pytest.mark.parametrize("high", [0.0, 80.0, 1e4])
def test_finite_at_extremes(high: float, dtype: torch.dtype) -> None:
    """A model that is certain of a token, of the right one or of another, and one that knows nothing."""
    logits = torch.full((4, 70), -high, dtype=dtype)
    logits[:, 3] = high
    leaf = logits.clone().requires_grad_()
    targets = torch.tensor([3, 5, 3, 5])
    values = torch.cat(liked_nll_and_contrast(leaf, targets, 2, k=1))
    values.sum().backward()
    assert leaf.grad is not None
    assert values.isfinite().all()
    assert leaf.grad.isfinite().all()
    other = logits.clone().requires_grad_()
    expected = torch.cat([token_nll(other[:2], targets[:2]), cringe_loss(other[2:], targets[2:], k=1)])
    torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-4)


def test_without_gradients() -> None:
    """In evaluation nothing is kept, and the values are the same."""
    given = case(641, 17)
    leaf = given.logits.clone().requires_grad_()
    with torch.no_grad():
        values = packed(leaf, given, 17, k=5, detach=False)
    assert not values.requires_grad
    torch.testing.assert_close(values, packed(leaf, given, 17, k=5, detach=False), rtol=1e-5, atol=2e-6)


def test_gradient_flows_back_once() -> None:
    """A second time it would be another gradient's; autograd says so."""
    given = case(300, 17)
    loss = liked_nll(given.logits.clone().requires_grad_(), given.targets, 17).sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_logits_stay_as_they_are() -> None:
    given = case(641, 17)
    leaf = given.logits.clone().requires_grad_()
    packed(leaf, given, 17, k=5, detach=False).sum().backward()
    assert torch.equal(leaf.detach(), given.logits)


@pytest.mark.parametrize("k", [0, 7])
def test_number_of_candidates(k: int) -> None:
    given = case(7, 17)
    with pytest.raises(ValueError, match="k must lie between 1 and 6"):
        packed(given.logits.clone().requires_grad_(), given, 17, k=k, detach=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("vocabulary", [6, 64, 383, 384, 385, 1_000, 4_096, 50_003])
@pytest.mark.parametrize("k", [1, 2, 6])
def test_largest_is_topk(vocabulary: int, k: int, dtype: torch.dtype) -> None:
    """The same values in the same order, whatever is left over of the blocks; ids lead to them, each once."""
    draw = torch.Generator().manual_seed(vocabulary)
    logits = torch.randn(3, 5, vocabulary, generator=draw).to(dtype)
    logits[0, 0] = logits[0, 0].sort().values  # the best are in the last block, or behind it
    logits[0, 1] = 1.0
    logits[0, 2, 1:] = -torch.inf
    values, ids = largest(logits, k)
    assert torch.equal(values, logits.topk(k, dim=-1).values)
    assert torch.equal(logits.gather(-1, ids), values)
    assert all(len(set(row)) == k for row in ids.flatten(0, 1).tolist())
