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
    chosen = contrast_candidate(logits, targets, k=k, generator=generator, noise=noise)
    # One gather for both: its gradient is one buffer of the size of the logits.
    positive, negative = logits.gather(-1, torch.cat([chosen, targets.unsqueeze(-1)], dim=-1)).float().unbind(-1)
    return F.softplus(negative - (positive.detach() if detach_positive else positive))


def contrast_candidate(
    logits: Tensor,
    targets: Tensor,
    *,
    k: int,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
) -> Tensor:
    """Draw the token that `cringe_loss` contrasts each negative token with; see there for arguments and errors.

    Returns:
        (..., 1) token ids of s⁺.
    """
    _check_shapes(logits, targets)
    vocabulary = logits.shape[-1]
    if not 1 <= k < vocabulary:
        raise ValueError(f"k must lie between 1 and {vocabulary - 1} for a vocabulary of {vocabulary}, not {k}")
    if k > 1 and (generator is None) == (noise is None):
        raise ValueError("k > 1 draws a token: give exactly one of `generator` and `noise`")
    with torch.no_grad():
        # The k + 1 highest always hold k that are not x⁻: strike x⁻ out, or the lowest where x⁻ is not among them.
        top, ids = largest(logits, k + 1)
        struck = ids == targets.unsqueeze(-1)
        struck[..., -1] |= ~struck.any(dim=-1)
        if k == 1:
            choice = struck[..., :1].long()
        else:
            if noise is None:
                noise = torch.rand(targets.shape, generator=generator, device=logits.device, dtype=torch.float64)
            choice = _inverse_cdf(top.double().masked_fill(struck, float("-inf")), noise)
        return ids.gather(-1, choice)


_BLOCK = 64
"""Logits of a block, of which `largest` looks at the maximum first."""


def largest(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """What ``logits.topk(k)`` returns, for a k that is small beside V, in a fraction of its time on CPU.

    The k largest logits lie in the k blocks with the largest maxima, so only those blocks are sorted; maxima take one
    pass of vector instructions. Among equal logits others may be chosen than `torch.topk` does, which promises none.

    Args:
        logits: (..., V).
        k: how many.

    Returns:
        (..., k) logits in falling order, and (..., k) their token ids.
    """
    vocabulary = logits.shape[-1]
    blocks = vocabulary // _BLOCK
    if blocks < 8 * k:  # too much would be left to sort
        values, ids = logits.topk(k, dim=-1)
        return values, ids
    whole = blocks * _BLOCK
    best = logits[..., :whole].unflatten(-1, (blocks, _BLOCK)).amax(dim=-1).topk(k, dim=-1, sorted=False).indices
    order = torch.arange(vocabulary, device=logits.device)
    rest = order[whole:].expand(*logits.shape[:-1], vocabulary - whole)  # of no block
    columns = torch.cat([(best.unsqueeze(-1) * _BLOCK + order[:_BLOCK]).flatten(-2), rest], dim=-1)
    values, places = logits.gather(-1, columns).topk(k, dim=-1)
    return values, columns.gather(-1, places)


def director_class_loss(class_logits: Tensor, targets: Tensor, positive: Tensor) -> Tensor:
    """DIRECTOR's class loss: binary cross-entropy on the class logit of the target token (Arora et al. 2022, eq. 2).

    Every token of a positive response has label 1, every token of a negative one label 0.

    Args:
        class_logits: (..., V), one log-odds a token of the vocabulary.
        targets: (...), token ids.
        positive: boolean, broadcastable to ``targets``.

    Returns:
        (...) float32, in nats: ``-log σ(c_x)`` where positive, ``-log(1 - σ(c_x))`` elsewhere.
    """
    _check_shapes(class_logits, targets)
    chosen = class_logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1).float()
    return F.softplus(torch.where(positive, -chosen, chosen))


def sigmoid_loss(
    logits: Tensor, targets: Tensor, positive: Tensor, *, alpha_rest: float, alpha_negative: float
) -> Tensor:
    """The sigmoid-only loss of the CRINGE paper, a variant of SCONES (Stahlberg & Kumar 2022).

    At a positive token x: ``-log σ(s_x) + α± · Σ_{v ≠ x} -log(1 - σ(s_v))``. At a negative token x⁻:
    ``α₋ · -log(1 - σ(s_{x⁻}))``; what else could have been written there is not known to be wrong, so the other tokens
    have no loss (our reading: the paper says "all other tokens" and not of which responses). Original SCONES is α± = 1
    on positives alone.

    Args:
        logits: (..., V).
        targets: (...), token ids.
        positive: boolean, broadcastable to ``targets``.
        alpha_rest: α±, weight of the tokens other than the target.
        alpha_negative: α₋, weight of negative tokens.

    Returns:
        (...) float32, in nats.
    """
    _check_shapes(logits, targets)
    wide = logits.float()
    target = wide.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    others = F.softplus(wide).sum(dim=-1) - F.softplus(target)
    return torch.where(positive, F.softplus(-target) + alpha_rest * others, alpha_negative * F.softplus(target))


def contrastive_token_loss(logits: Tensor, targets: Tensor, negatives: Tensor) -> Tensor:
    """Contrast the target with tokens that should not come again, ``log(1 + Σ_{x⁻ ∈ S} e^{s_{x⁻} - s_x})``.

    Source: Jiang et al. 2022, "A Simple Contrastive Learning Objective for Alleviating Neural Text Degeneration", where
    S holds the preceding M tokens. S is a set: a token counts once, and never when it is the target.

    Args:
        logits: (..., V).
        targets: (...), token ids.
        negatives: (..., M), token ids of S; −1 for none.

    Returns:
        (...) float32, in nats; 0 where S is empty.
    """
    _check_shapes(logits, targets)
    members = _set_members(targets, negatives)
    chosen = logits.gather(-1, negatives.clamp(min=0)).float()
    margins = chosen - logits.gather(-1, targets.unsqueeze(-1)).float()
    return torch.logsumexp(F.pad(margins.masked_fill(~members, float("-inf")), (1, 0)), dim=-1)


def unlikelihood_set_loss(logits: Tensor, targets: Tensor, negatives: Tensor) -> Tensor:
    """Unlikelihood of a set of tokens at each place, ``Σ_{c ∈ C} -log(1 - p(c))`` (Welleck et al. 2020, eq. 3).

    Against repetition C holds the tokens before the target. It is a set, and the target is never in it. ``1 - p`` is
    kept above 1e-6, so that the loss is finite where the model is certain.

    Args:
        logits: (..., V).
        targets: (...), token ids.
        negatives: (..., M), token ids of C; −1 for none.

    Returns:
        (...) float32, in nats; 0 where C is empty.
    """
    _check_shapes(logits, targets)
    members = _set_members(targets, negatives)
    wide = logits.float()
    log_p = wide.gather(-1, negatives.clamp(min=0)) - torch.logsumexp(wide, dim=-1, keepdim=True)
    spared = (-torch.expm1(log_p)).clamp(min=1e-6)
    return (-torch.log(spared)).masked_fill(~members, 0.0).sum(dim=-1)


def _set_members(targets: Tensor, negatives: Tensor) -> Tensor:
    """(..., M): is the entry one of the set: not −1, not the target, not there before?"""
    if negatives.shape[:-1] != targets.shape:
        raise ValueError(f"negatives {tuple(negatives.shape)} do not fit targets {tuple(targets.shape)}")
    listed = (negatives >= 0) & (negatives != targets.unsqueeze(-1))
    same = (negatives[..., :, None] == negatives[..., None, :]).tril(diagonal=-1)
    return listed & ~same.any(dim=-1)


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
