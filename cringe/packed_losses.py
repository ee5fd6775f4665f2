"""The losses of a training step in one piece: no copy of the logits, and one buffer for all of their gradient.

The functions of `cringe.losses`, applied to parts of a step's logits and summed, give the same values and gradients.
But autograd keeps for each what its backward pass needs, pads each part's gradient to the size of the whole and adds
them up: several passes over the largest tensor of a small model. Here the probabilities, which the gradient is made
of, are written where the gradient will be, and the backward pass scales them in place.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cringe.losses import contrast_candidate, cringe_loss, token_nll

_CACHED = 1 << 18
"""Logits that are looked at again while they are still in a core's cache."""
_AT_ONCE = 1 << 24
"""On a GPU, logits that are in float32 at the same time."""


def liked_nll(logits: Tensor, targets: Tensor, liked: int) -> Tensor:
    """`token_nll` of the first tokens; the others have no loss.

    Args:
        logits: (N, V).
        targets: (N,), token ids.
        liked: how many of the N tokens come first.

    Returns:
        (liked,) float32, in nats. Gradient flows back once: a second backward pass through it is an error.
    """
    if not _has_gradient(logits):
        return token_nll(logits[:liked], targets[:liked])
    nll: Tensor = _InPlace.apply(logits, targets, liked, None, False)[0]
    return nll


def liked_nll_and_contrast(
    logits: Tensor,
    targets: Tensor,
    liked: int,
    *,
    k: int = 5,
    detach_positive: bool = False,
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`token_nll` of the first tokens and `cringe_loss` of the others.

    Args:
        logits: (N, V), V > k.
        targets: (N,), token ids.
        liked: how many of the N tokens come first; the others are negative.
        k: as `cringe_loss` has it.
        detach_positive: as `cringe_loss` has it.
        generator: as `cringe_loss` has it.
        noise: (N - liked,), as `cringe_loss` has it.

    Returns:
        (liked,) and (N - liked,) float32, in nats. Gradient flows back once: a second backward pass through them is an
        error.

    Raises:
        ValueError: as `cringe_loss`.
    """
    rest, negatives = logits[liked:], targets[liked:]
    if not _has_gradient(logits):
        contrast = cringe_loss(rest, negatives, k=k, detach_positive=detach_positive, generator=generator, noise=noise)
        return token_nll(logits[:liked], targets[:liked]), contrast
    chosen = contrast_candidate(rest, negatives, k=k, generator=generator, noise=noise)
    nll, contrast = _InPlace.apply(logits, targets, liked, chosen, detach_positive)
    return nll, contrast


def _has_gradient(logits: Tensor) -> bool:
    return torch.is_grad_enabled() and bool(logits.requires_grad)


class _InPlace(torch.autograd.Function):
    """Cross-entropy of the first rows, and the contrast of the others with a chosen token where one is given.

    What is saved for the backward pass becomes the gradient there. A second backward pass finds it changed, and
    autograd says so.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - autograd's own
        logits: Tensor,
        targets: Tensor,
        liked: int,
        chosen: Tensor | None,
        detach_positive: bool,
    ) -> tuple[Tensor, Tensor]:
        """Losses of both parts; of the second none, where nothing is chosen."""
        gradient = torch.empty_like(logits, memory_format=torch.contiguous_format)
        gradient[liked:].zero_()
        nll = _nll_and_probabilities(logits[:liked], targets[:liked], gradient[:liked])
        if chosen is None:
            margins = nll.new_empty(0)
        else:
            pairs = torch.cat([targets[liked:].unsqueeze(-1), chosen], dim=-1)
            own, other = logits[liked:].gather(-1, pairs).float().unbind(-1)
            margins = own - other
        ctx.save_for_backward(gradient, targets, nll, margins, chosen)
        ctx.detach_positive = detach_positive
        return nll, F.softplus(margins)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, of_nll: Tensor, of_contrast: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """(N, V): ``p - onehot`` in the first rows, two entries in each of the others, times what flows in."""
        gradient, targets, nll, margins, chosen = ctx.saved_tensors
        liked, target = len(nll), targets.unsqueeze(-1)
        # p - 1 from the loss, for its digits where p is near 1; in double, for these are few.
        at_target = (of_nll.double() * torch.expm1(-nll.double())).unsqueeze(-1).to(gradient.dtype)
        gradient[:liked].mul_(of_nll.unsqueeze(-1)).scatter_(-1, target[:liked], at_target)
        if chosen is not None:
            slope = (of_contrast.double() * margins.double().sigmoid()).unsqueeze(-1).to(gradient.dtype)
            gradient[liked:].scatter_(-1, target[liked:], slope)
            if not ctx.detach_positive:
                gradient[liked:].scatter_(-1, chosen, -slope)
        return gradient, None, None, None, None


def _nll_and_probabilities(logits: Tensor, targets: Tensor, out: Tensor) -> Tensor:
    """(n,) ``-log p(x)`` in float32; ``out`` is filled with p, (n, V).

    One exponential a logit. With m the largest logit, ``-log p(x) = m - s_x - log p(m)``, and p(m) is never 0.
    """
    parts = []
    rows = max(1, (_CACHED if logits.device.type == "cpu" else _AT_ONCE) // logits.shape[-1])
    for start in range(0, max(1, len(logits)), rows):
        part = slice(start, start + rows)
        scores = logits[part].float()
        if scores.dtype == out.dtype:
            p = torch.softmax(scores, dim=-1, out=out[part])
        else:
            p = scores.softmax(dim=-1)
            out[part] = p
        own = scores.gather(-1, targets[part].unsqueeze(-1)).squeeze(-1)
        parts.append((scores.amax(dim=-1) - own) - p.amax(dim=-1).log())
    return torch.cat(parts)
