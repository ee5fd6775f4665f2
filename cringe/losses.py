"""Losses on tokens, as pure functions of tensors.

Shapes: ``...`` stands for any leading dimensions, V for the vocabulary. ``logits`` are ``(..., V)``, unnormalised;
``targets`` are ``(...)``, token ids in ``[0, V)``. Each function returns ``(...)`` in float32, one value a token,
neither masked nor reduced: what padding is and what to divide by is the caller's to say, once for all losses.
Half-precision logits are widened before any exponential, so values and gradients stay finite.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def token_nll(logits: Tensor, targets: Tensor) -> Tensor:
    """Negative log-likelihood of each target token, ``-log softmax(s)[x_t]``: the cross-entropy, in nats.

    Args:
        logits: (..., V).
        targets: (...), token ids.

    Returns:
        (...) float32.
    """
    _check_shapes(logits, targets)
    flat = F.cross_entropy(logits.reshape(-1, logits.shape[-1]).float(), targets.reshape(-1), reduction="none")
    return flat.reshape(targets.shape)


def unlikelihood_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Unlikelihood of each token that should not have been written, ``-log(1 - p(x⁻))`` (Welleck et al. 2020, eq. 3).

    Computed as ``softplus(s_{x⁻} - logsumexp(s without x⁻))``, the same number, which stays finite and keeps its
    gradient when the model is certain of the token, and does not cancel when the token is unlikely.

    Args:
        logits: (..., V), V ≥ 2.
        targets: (...), the negative tokens x⁻.

    Returns:
        (...) float32, in nats.
    """
    _check_shapes(logits, targets)
    wide = logits.float()
    target = targets.unsqueeze(-1)
    others = torch.logsumexp(wide.scatter(-1, target, float("-inf")), dim=-1)
    return F.softplus(wide.gather(-1, target).squeeze(-1) - others)


def cringe_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    k: int = 5,
    detach_positive: bool = False,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
) -> Tensor:
    """Contrast each negative token with a token that the model itself ranks high (Adolphs et al. 2023, eqs. 2 and 3).

    The k highest logits other than x⁻ are the candidates; one of them, s⁺, is drawn from the softmax over the k; the
    loss is ``-log(e^{s⁺} / (e^{s⁺} + e^{s⁻})) = softplus(s⁻ - s⁺)``. Gradient flows through both logits.

    Args:
        logits: (..., V), V > k.
        targets: (...), the negative tokens x⁻.
        k: number of candidates. The paper's tables use 5; its released code defaults to 1, where nothing is drawn.
        detach_positive: stop the gradient through s⁺ (a flag of the released code, off by default there too).
        generator: draws the candidates, on the device of ``logits``.
        noise: (...), uniform draws in [0, 1) in place of ``generator``: token i takes the candidate in whose share of
            the cumulative distribution, candidates in falling order of their logit, ``noise[i]`` lies.

    Returns:
        (...) float32, in nats.

    Raises:
        ValueError: k is not in [1, V - 1], shapes do not match, or k > 1 without exactly one source of randomness.
    """
    _check_shapes(logits, targets)
    vocabulary = logits.shape[-1]
    if not 1 <= k < vocabulary:
        raise ValueError(f"k must lie between 1 and {vocabulary - 1} for a vocabulary of {vocabulary}, not {k}")
    if k > 1 and (generator is None) == (noise is None):
        raise ValueError("k > 1 draws a token: give exactly one of `generator` and `noise`")
    # The k + 1 highest always hold k that are not x⁻: strike x⁻ out, or the lowest where x⁻ is not among them.
    top, ids = logits.topk(k + 1, dim=-1)
    struck = ids == targets.unsqueeze(-1)
    struck[..., -1] |= ~struck.any(dim=-1)
    if k == 1:
        choice = struck[..., :1].long()
    else:
        if noise is None:
            noise = torch.rand(targets.shape, generator=generator, device=logits.device, dtype=torch.float64)
        choice = _inverse_cdf(top.detach().double().masked_fill(struck, float("-inf")), noise)
    positive = top.gather(-1, choice).squeeze(-1).float()
    if detach_positive:
        positive = positive.detach()
    negative = logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1).float()
    return F.softplus(negative - positive)


def _inverse_cdf(logits: Tensor, noise: Tensor) -> Tensor:
    """(..., 1) index drawn from ``softmax(logits)``, by the uniform draws ``noise``; never one of probability 0."""
    if noise.shape != logits.shape[:-1]:
        raise ValueError(f"noise has shape {tuple(noise.shape)}, targets have {tuple(logits.shape[:-1])}")
    cumulative = logits.softmax(dim=-1).cumsum(dim=-1)
    cumulative = cumulative / cumulative[..., -1:]  # ends at exactly 1, above any draw
    draws = noise.to(cumulative.dtype).clamp(max=1 - 2**-53)  # a draw rounded up to 1 would fall off the end
    return (cumulative <= draws.unsqueeze(-1)).sum(dim=-1, keepdim=True)


def _check_shapes(logits: Tensor, targets: Tensor) -> None:
    if logits.shape[:-1] != targets.shape:
        raise ValueError(f"logits {tuple(logits.shape)} do not fit targets {tuple(targets.shape)}")
