"""Losses on random shapes, types and numbers: equal to their equations, written out here in Python's own floats."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from cringe.batch import Batch
from cringe.losses import (
    contrastive_token_loss,
    cringe_loss,
    director_class_loss,
    largest,
    sigmoid_loss,
    token_nll,
    unlikelihood_loss,
    unlikelihood_set_loss,
)
from cringe.methods import registry
from cringe.packed_losses import liked_nll_and_contrast

FEWER = settings(max_examples=max(1, settings.default.max_examples // 2))
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
STEP = {torch.float32: 2.0**-23, torch.float64: 2.0**-23, torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}
"""What a number of 1 is told from the next by; losses are in float32 whatever the logits are in."""
INF = math.inf
SHAPES = ((), (0,), (1,), (5,), (2, 0), (2, 4), (1, 3, 2))

Reference = Callable[["Row"], tuple[float, dict[int, float]]]


class Row(NamedTuple):
    """One token."""

    s: list[float]
    x: int
    positive: bool
    members: list[int]
    """Of a set of negative tokens, with copies, the target and places that hold none."""
    noise: float


class Case(NamedTuple):
    """Tokens of any shape, as tensors and one by one."""

    logits: Tensor
    targets: Tensor
    positive: Tensor
    members: Tensor
    noise: Tensor

    def rows(self) -> list[Row]:
        width, size = self.logits.shape[-1], self.members.shape[-1]
        return [
            Row(*row)
            for row in zip(
                self.logits.float().double().reshape(-1, width).tolist(),
                self.targets.reshape(-1).tolist(),
                self.positive.reshape(-1).tolist(),
                self.members.reshape(len(self.targets.reshape(-1)), size).tolist(),
                self.noise.reshape(-1).tolist(),
                strict=True,
            )
        ]


@st.composite
def cases(draw: st.DrawFn, *, masked: bool = True) -> Case:
    """Tokens whose logits are ordinary, equal, extreme or, but for the target, struck out."""
    shape, dtype = draw(st.sampled_from(SHAPES)), draw(st.sampled_from(DTYPES))
    # From 16 blocks of 64 on the search for the highest looks at blocks.
    width = draw(st.integers(2, 9) | st.sampled_from([63, 1024, 1091]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale = draw(st.sampled_from([0.0, 0.5, 1.0, 3.0, 30.0, 1e4]))
    values = rng.standard_normal((*shape, width)) * scale
    kind = draw(st.sampled_from(["plain", "ties", "spike", "struck out"]))
    if kind == "ties":
        values = np.round(values)
    elif kind == "spike":
        values[..., draw(st.integers(0, width - 1))] = draw(st.sampled_from([-6e4, -1e4, 88.8, 1e4, 6e4]))
    targets = rng.integers(0, width, shape)
    if kind == "struck out" and masked:
        # All but the target and one other.
        low = draw(st.sampled_from([-INF, -1e30 if dtype != torch.float16 else -6.5e4]))
        kept = (targets + rng.integers(1, width, shape)) % width
        places = np.arange(width)
        values[(places != targets[..., None]) & (places != kept[..., None])] = low
    size = draw(st.sampled_from([0, 1, 4]))
    return Case(
        torch.from_numpy(np.asarray(values)).to(dtype),
        torch.from_numpy(np.asarray(targets, dtype=np.int64)),
        torch.from_numpy(np.asarray(rng.random(shape) < 0.5)),
        torch.from_numpy(np.asarray(rng.integers(-1, width, (*shape, size)), dtype=np.int64)),
        torch.from_numpy(np.asarray(rng.random(shape))),
    )


def lse(values: list[float]) -> float:
    top = max(values, default=-INF)
    return top if math.isinf(top) else top + math.log(math.fsum(math.exp(value - top) for value in values))


def share(s: list[float], token: int) -> float:
    return math.exp(s[token] - lse(s))


def sigma(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value > -700 else 0.0


def log_sigma(value: float) -> float:
    return -math.log1p(math.exp(-value)) if value > -30 else value


def nll(row: Row) -> tuple[float, dict[int, float]]:
    """−log p(x); p − onehot."""
    total = lse(row.s)
    slope = {token: math.exp(value - total) for token, value in enumerate(row.s)}
    slope[row.x] -= 1
    return total - row.s[row.x], slope


def unlikelihood(row: Row) -> tuple[float, dict[int, float]]:
    """−log(1 − p(x⁻)); p(x⁻) at x⁻, −p(x⁻) · p(v) / (1 − p(x⁻)) elsewhere."""
    p = share(row.s, row.x)
    rest = lse([value for token, value in enumerate(row.s) if token != row.x])
    value = -math.log1p(-p) if p < 0.5 else lse(row.s) - rest
    if p == 1.0 and value == 0.0:  # 1 − p is below a float: e^{others} / e^{x}
        value = row.s[row.x] - rest
    slope = {token: -p * math.exp(other - rest) for token, other in enumerate(row.s) if token != row.x}
    return value, slope | {row.x: p}


def contrast_with(row: Row, other: int) -> tuple[float, dict[int, float]]:
    """−log(e^{s⁺} / (e^{s⁺} + e^{s⁻}))."""
    margin = row.s[other] - row.s[row.x]
    return -log_sigma(margin), {row.x: sigma(-margin), other: -sigma(-margin)}


def allowed_contrasts(row: Row, k: int) -> list[tuple[float, dict[int, float]]]:
    """What the draw may lead to; several where logits are equal, or the draw lies on a border."""
    ranked = sorted((token for token in range(len(row.s)) if token != row.x), key=lambda token: -row.s[token])
    top = [row.s[token] for token in ranked[:k]]
    total, ends = lse(top), [0.0]
    for value in top:
        ends.append(ends[-1] + math.exp(value - total))
    chosen = [place for place in range(k) if ends[place] - 1e-9 <= row.noise <= ends[place + 1] + 1e-9]
    levels = {top[place] for place in chosen if top[place] > -INF}
    return [contrast_with(row, token) for token in ranked if row.s[token] in levels]


def director(row: Row) -> tuple[float, dict[int, float]]:
    """−log σ(c) of a positive, −log(1 − σ(c)) of a negative."""
    c = row.s[row.x] if row.positive else -row.s[row.x]
    return -log_sigma(c), {row.x: -sigma(-c) if row.positive else sigma(-c)}


REST, NEGATIVE = 0.25, 1.5


def sigmoid(row: Row) -> tuple[float, dict[int, float]]:
    """−log σ(s_x) − α± Σ log(1 − σ(s_v)) of a positive, −α₋ log(1 − σ(s_x)) of a negative."""
    if not row.positive:
        return -NEGATIVE * log_sigma(-row.s[row.x]), {row.x: NEGATIVE * sigma(row.s[row.x])}
    rest = {token: value for token, value in enumerate(row.s) if token != row.x}
    value = -log_sigma(row.s[row.x]) - REST * math.fsum(log_sigma(-one) for one in rest.values())
    return value, {token: REST * sigma(one) for token, one in rest.items()} | {row.x: -sigma(-row.s[row.x])}


def members(row: Row) -> set[int]:
    return {token for token in row.members if token not in (-1, row.x)}


def contrastive(row: Row) -> tuple[float, dict[int, float]]:
    """log(1 + Σ e^{s_v − s_x})."""
    margins = {token: row.s[token] - row.s[row.x] for token in members(row)}
    total = lse([0.0, *margins.values()])
    slope = {token: math.exp(margin - total) for token, margin in margins.items()}
    return total, slope | {row.x: -math.fsum(slope.values())}


def set_unlikelihood(row: Row) -> tuple[float, dict[int, float]]:
    """Σ −log max(1 − p(v), 1e-6); its slope is looked at elsewhere."""
    return -math.fsum(math.log(max(-math.expm1(row.s[v] - lse(row.s)), 1e-6)) for v in members(row)), {}


def scale_of(row: Row) -> float:
    """The largest logit that counts: float32 holds sums of logits to its step at their size."""
    return max((abs(value) for value in row.s if abs(value) < 1e29), default=0.0)


def check(case: Case, loss: Callable[[Tensor, Tensor], Tensor], reference: Reference, *, slopes: bool = True) -> None:
    """Type and shape as documented; value and gradient finite, and those of the equation."""
    leaf = case.logits.clone().requires_grad_()
    values = loss(leaf, case.targets)
    assert values.dtype == torch.float32
    assert values.shape == case.targets.shape
    (gradient,) = torch.autograd.grad(values.sum(), leaf)
    assert gradient.dtype == case.logits.dtype
    gradients = gradient.double().reshape(-1, case.logits.shape[-1]).tolist()
    for row, value, slope in zip(case.rows(), values.reshape(-1).tolist(), gradients, strict=True):
        assert_row(row, value, slope, [reference(row)], case.logits.dtype, slopes=slopes)


def assert_row(
    row: Row,
    value: float,
    slope: list[float],
    expected: list[tuple[float, dict[int, float]]],
    dtype: torch.dtype,
    *,
    slopes: bool = True,
) -> None:
    assert math.isfinite(value)
    assert all(map(math.isfinite, slope))
    slack = 8 * 2.0**-23 * scale_of(row)
    fine = 4 * STEP[dtype] + slack
    for wanted, rates in expected:
        same = math.isclose(value, wanted, rel_tol=4e-6, abs_tol=1e-6 + len(row.s) * slack)
        full = [rates.get(token, 0.0) for token in range(len(row.s))]
        if same and (not slopes or all(abs(a - b) <= fine * max(1, abs(b)) for a, b in zip(slope, full, strict=True))):
            return
    pytest.fail(f"{row.s[:12]} at {row.x}: {value} and {slope[:12]}, expected one of {expected[:3]}")


@given(case=cases())
def test_likelihood(case: Case) -> None:
    check(case, token_nll, nll)


@given(case=cases())
def test_unlikelihood(case: Case) -> None:
    check(case, unlikelihood_loss, unlikelihood)


@given(case=cases(masked=False))
def test_director(case: Case) -> None:
    check(case, lambda logits, targets: director_class_loss(logits, targets, case.positive), director)


@given(case=cases())
def test_sigmoid(case: Case) -> None:
    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        return sigmoid_loss(logits, targets, case.positive, alpha_rest=REST, alpha_negative=NEGATIVE)

    check(case, loss, sigmoid)


@given(case=cases(masked=False))
def test_contrastive_token(case: Case) -> None:
    check(case, lambda logits, targets: contrastive_token_loss(logits, targets, case.members), contrastive)


@given(case=cases(masked=False))
def test_unlikelihood_of_a_set(case: Case) -> None:
    """Near a probability of 1 the loss is the logarithm of what float32 leaves of 1 − p: compared below it alone."""
    leaf = case.logits.clone().requires_grad_()
    values = unlikelihood_set_loss(leaf, case.targets, case.members)
    assert values.dtype == torch.float32
    assert values.shape == case.targets.shape
    (gradient,) = torch.autograd.grad(values.sum(), leaf)
    assert gradient.isfinite().all()
    for row, value in zip(case.rows(), values.reshape(-1).tolist(), strict=True):
        assert 0 <= value <= 14 * len(members(row))
        wanted, _ = set_unlikelihood(row)
        if all(share(row.s, token) < 0.99 for token in members(row)):
            assert value == pytest.approx(wanted, rel=1e-4, abs=1e-5 + 100 * 2.0**-23 * scale_of(row))


@given(case=cases(), k=st.integers(0, 8))
def test_contrast(case: Case, k: int) -> None:
    width = case.logits.shape[-1]
    k = 1 + k % (width - 1)
    leaf = case.logits.clone().requires_grad_()
    for wrong in (0, width, width + 3):
        with pytest.raises(ValueError, match=f"k must lie between 1 and {width - 1}"):
            cringe_loss(leaf, case.targets, k=wrong, noise=case.noise)
    values = cringe_loss(leaf, case.targets, k=k, noise=case.noise if k > 1 else None)
    assert values.dtype == torch.float32
    assert values.shape == case.targets.shape
    (gradient,) = torch.autograd.grad(values.sum(), leaf)
    slopes = gradient.double().reshape(-1, width).tolist()
    for row, value, slope in zip(case.rows(), values.reshape(-1).tolist(), slopes, strict=True):
        assert_row(row, value, slope, allowed_contrasts(row, k), case.logits.dtype)


@given(case=cases(), k=st.integers(1, 4), data=st.data())
def test_in_one_piece(case: Case, k: int, data: st.DataObject) -> None:
    """What trains is the packed losses: the same values and gradients as the functions, one by one."""
    width, tokens = case.logits.shape[-1], case.targets.numel()
    liked, k = data.draw(st.integers(0, tokens)), min(k, width - 1)
    targets, noise = case.targets.reshape(-1), case.noise.reshape(-1)[liked:] if k > 1 else None
    packed, plain = (case.logits.reshape(tokens, width).clone().requires_grad_() for _ in range(2))
    ours = torch.cat(liked_nll_and_contrast(packed, targets, liked, k=k, noise=noise))
    apart = (token_nll(plain[:liked], targets[:liked]), cringe_loss(plain[liked:], targets[liked:], k=k, noise=noise))
    theirs = torch.cat(apart)
    step = STEP[case.logits.dtype]
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    first, second = (torch.autograd.grad(one.sum(), at)[0] for one, at in ((ours, packed), (theirs, plain)))
    torch.testing.assert_close(first, second, rtol=4 * step, atol=4 * step)


@given(case=cases(), k=st.integers(1, 9))
def test_highest(case: Case, k: int) -> None:
    """The values of the highest are those of a sort, and the ids are different ones that have them."""
    k = min(k, case.logits.shape[-1])
    values, ids = largest(case.logits, k)
    torch.testing.assert_close(values, case.logits.sort(dim=-1, descending=True).values[..., :k], rtol=0, atol=0)
    torch.testing.assert_close(case.logits.gather(-1, ids), values, rtol=0, atol=0)
    assert all(len(set(row)) == k for row in ids.reshape(-1, k).tolist())


@given(case=cases(masked=False), place=st.integers(0, 2000), k=st.integers(1, 3))
def test_what_is_no_number_shows(case: Case, place: int, k: int) -> None:
    """A NaN among the logits is not lost on the way to the loss, where the trainer stops at it."""
    width = case.logits.shape[-1]
    logits, k = case.logits.clone(), min(k, width - 1)
    logits[..., place % width] = math.nan
    everyone = torch.ones_like(case.positive)
    for loss in (
        token_nll(logits, case.targets),
        unlikelihood_loss(logits, case.targets),
        cringe_loss(logits, case.targets, k=k, noise=case.noise if k > 1 else None),
        sigmoid_loss(logits, case.targets, everyone, alpha_rest=REST, alpha_negative=NEGATIVE),
    ):
        assert loss.isnan().all()


@given(shape=st.sampled_from(SHAPES), other=st.sampled_from(SHAPES))
def test_shapes_that_do_not_fit(shape: tuple[int, ...], other: tuple[int, ...]) -> None:
    if shape == other:
        return
    logits, targets = torch.zeros((*shape, 4)), torch.zeros(other, dtype=torch.long)
    none = torch.zeros((*other, 1), dtype=torch.long)
    for loss in (
        lambda: token_nll(logits, targets),
        lambda: unlikelihood_loss(logits, targets),
        lambda: cringe_loss(logits, targets, k=1),
        lambda: director_class_loss(logits, targets, targets > 0),
        lambda: sigmoid_loss(logits, targets, targets > 0, alpha_rest=1, alpha_negative=1),
        lambda: contrastive_token_loss(logits, targets, none),
        lambda: unlikelihood_set_loss(logits, targets, none),
    ):
        with pytest.raises(ValueError, match="do not fit targets"):
            loss()


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Responses of 0 to 4 tokens with any feedback; also a batch without a token."""
    lengths = draw(st.lists(st.integers(0, 4), min_size=1, max_size=4))
    longest = max(1, *lengths)
    responses = torch.zeros(len(lengths), longest, dtype=torch.long)
    kinds: tuple[list[int], list[int], list[int]] = ([], [], [])
    for row, length in enumerate(lengths):
        kind = kinds[draw(st.integers(0, 2))]
        for column in range(length):
            responses[row, column] = draw(st.integers(1, 6))
            kind.append(row * longest + column)
    return Batch(
        source=torch.zeros(len(lengths), 1, dtype=torch.long),
        source_mask=torch.ones(len(lengths), 1, dtype=torch.bool),
        responses=responses,
        tokens=torch.tensor([place for kind in kinds for place in kind], dtype=torch.long),
        unlabelled=len(kinds[0]),
        liked=len(kinds[0]) + len(kinds[1]),
        examples=tuple(range(len(lengths))),
        lengths=tuple(lengths),
        source_tokens=len(lengths),
        seed=draw(st.integers(0, 9)),
        step=draw(st.integers(0, 9)),
        generated=draw(st.booleans()),
    )


@FEWER
@given(
    name=st.sampled_from(sorted(registry.entries())),
    batch=batches(),
    spread=st.sampled_from([0.0, 1.0, 1e4]),
    seed=st.integers(0, 99),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_every_method(name: str, batch: Batch, spread: float, seed: int, dtype: torch.dtype) -> None:
    """One finite loss a token, also where a kind of feedback, or all tokens, are missing; gradients are finite.

    Tokens that a method has no loss for get 0, and no gradient.
    """
    method = registry.load(name)()
    width = 14 if name.startswith("director") else 7  # two heads side by side
    draw = torch.Generator().manual_seed(seed)
    logits = (spread * torch.randn(len(batch.tokens), width, generator=draw)).to(dtype).requires_grad_()
    found = method.loss(logits, batch)
    assert found.values.shape == batch.tokens.shape
    assert found.values.dtype == torch.float32
    assert found.values.isfinite().all()
    assert (found.values > -0.01 * max(1, spread)).all()
    (gradient,) = torch.autograd.grad(found.values.sum(), logits)
    assert gradient.isfinite().all()
    silent = found.values == 0
    if spread == 1.0 and not batch.generated:
        assert not gradient[silent].any()


@example(far=1e4)
@given(far=st.floats(-6e4, 6e4))
def test_only_differences_of_logits_count(far: float) -> None:
    """A softmax does not change when all logits move together: neither do the losses made of it, up to rounding."""
    near = torch.tensor([[0.0, 1.0, -2.0, 0.5]])
    moved = (near.double() + far).float()
    target = torch.tensor([1])
    slack = 8 * 2.0**-23 * max(1.0, abs(far))
    for loss in (token_nll, unlikelihood_loss, lambda logits, x: cringe_loss(logits, x, k=1)):
        torch.testing.assert_close(loss(moved, target), loss(near, target), rtol=0, atol=slack)
