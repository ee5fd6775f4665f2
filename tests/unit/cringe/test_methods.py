"""The methods: found by their files, their fields checked, their losses lined up with the batch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from cringe.backbones import Seq2SeqBackbone
from cringe.batch import Batch
from cringe.data import Example
from cringe.losses import cringe_loss, token_nll, unlikelihood_loss
from cringe.methods import base
from cringe.methods.base import Method, likelihood_and
from cringe.methods.cringe_single import CringeSingle
from cringe.methods.registry import entries, load
from cringe.methods.transformer import Transformer
from cringe.methods.unlikelihood import Unlikelihood


@pytest.fixture
def batch(make_backbone: Callable[..., Seq2SeqBackbone], mixed: list[Example]) -> Batch:
    return make_backbone().collate(mixed, seed=4, step=2)


@pytest.fixture
def logits(batch: Batch) -> Tensor:
    return 2 * torch.randn(len(batch.tokens), 310, generator=torch.Generator().manual_seed(0))


def test_registry() -> None:
    """Every file is a method but the machinery, and names itself in a sentence."""
    found = entries()
    assert {"transformer", "unlikelihood", "cringe_single"} <= set(found)
    assert not {"base", "registry", "__init__"} & set(found)
    for name, entry in found.items():
        method = load(name)
        assert issubclass(method, Method)
        assert method.__module__ == entry.module == f"cringe.methods.{name}"
        assert entry.sentence.endswith(".")
        assert method().model_dump() == method.model_validate({}).model_dump()
    assert load("cringe_single") is CringeSingle
    with pytest.raises(KeyError, match="cringe_singel"):
        load("cringe_singel")


def test_every_field_says_where_its_value_is_from() -> None:
    for name in entries():
        for field, info in load(name).model_fields.items():
            assert info.description, f"{name}.{field}"


def test_listing_waits_for_nothing() -> None:
    """Names and specifications come without torch."""
    code = (
        "import sys\nfrom cringe.methods.registry import entries, load\n"
        "[load(name)() for name in entries()]\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("method", "values"),
    [
        (CringeSingle, {"alpha": -0.1}),
        (CringeSingle, {"k": 0}),
        (CringeSingle, {"gamma": 1}),
        (Unlikelihood, {"alpha": -1}),
        (Transformer, {"alpha": 1}),
        (CringeSingle, {"alpha": "much"}),
    ],
)
def test_fields_are_checked(method: type[Method], values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        method.model_validate(values)


def test_fields_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        CringeSingle().alpha = 2.0  # type: ignore[misc]


def test_defaults_are_the_paper_s() -> None:
    assert CringeSingle().model_dump() == {"alpha": 1.0, "k": 5, "detach_positive": False}
    assert Unlikelihood().model_dump() == {"alpha": 0.5}
    assert Transformer().model_dump() == {}


def test_likelihood_alone(batch: Batch, logits: Tensor) -> None:
    """Cross-entropy on liked tokens; a 0 for each token of a negative, which keeps its place."""
    loss = Transformer().loss(logits, batch)
    assert torch.equal(loss.values[: batch.liked], token_nll(logits, batch.targets)[: batch.liked])
    assert torch.equal(loss.values[batch.liked :], torch.zeros(len(batch.tokens) - batch.liked))
    assert set(loss.components) == {"nll"}


def test_each_side_has_its_own_loss(batch: Batch, logits: Tensor) -> None:
    """CE never sees a negative and the penalty never a positive; α weighs the penalty, components are before α."""
    liked, targets = batch.liked, batch.targets
    noise = batch.uniforms("cringe", slice(liked, None))
    penalties = {
        Unlikelihood(alpha=3.0): ("unlikelihood", unlikelihood_loss(logits, targets)[liked:]),
        CringeSingle(alpha=3.0, k=1): ("cringe", cringe_loss(logits, targets, k=1)[liked:]),
        CringeSingle(alpha=3.0): ("cringe", cringe_loss(logits[liked:], targets[liked:], k=5, noise=noise)),
    }
    for method, (name, expected) in penalties.items():
        loss = method.loss(logits, batch)
        assert loss.values.shape == targets.shape
        torch.testing.assert_close(loss.values[:liked], token_nll(logits, targets)[:liked])
        torch.testing.assert_close(loss.values[liked:], 3 * expected)
        torch.testing.assert_close(loss.components[name], expected)
        assert torch.equal(loss.components["nll"], loss.values[:liked])
        assert expected.min() > 0


def test_detached_positive_reaches_the_loss(batch: Batch, logits: Tensor) -> None:
    """Without the flag, logits other than the target's are pushed up; with it, none."""
    for flag in (False, True):
        leaf = logits.clone().requires_grad_()
        CringeSingle(detach_positive=flag).loss(leaf, batch).values[batch.liked :].sum().backward()
        assert leaf.grad is not None
        assert bool((leaf.grad < 0).any()) != flag
        assert bool((leaf.grad > 0).any())


def test_draws_are_fresh_each_step(
    make_backbone: Callable[..., Seq2SeqBackbone], mixed: list[Example], logits: Tensor
) -> None:
    """One draw a token, another at each step and seed, the same at the same."""

    def values(seed: int, step: int) -> Tensor:
        return CringeSingle().loss(logits, make_backbone().collate(mixed, seed=seed, step=step)).values

    assert torch.equal(values(0, 0), values(0, 0))
    assert not torch.equal(values(0, 0), values(0, 1))
    assert not torch.equal(values(0, 0), values(1, 0))


def test_any_penalty_can_be_given(batch: Batch, logits: Tensor) -> None:
    """`likelihood_and` is what a new method needs: a function of the negatives' logits and targets."""
    loss = likelihood_and(logits, batch, lambda s, x: s.sum(dim=-1) + x, weight=2.0, name="mine")
    expected = logits[batch.liked :].sum(dim=-1) + batch.targets[batch.liked :]
    torch.testing.assert_close(loss.values[batch.liked :], 2 * expected)
    assert set(loss.components) == {"nll", "mine"}
    assert isinstance(loss, base.TokenLoss)
