"""The CRINGE loss as its paper publishes it: on all tokens of a batch, in copies of the size of the logits.

The slow, obvious version that ours is timed against and must equal. Source: Adolphs et al. 2023, §3 and its appendix.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def published_loss(
    logits: Tensor, targets: Tensor, padding: Tensor, negative: Tensor, *, k: int, alpha: float
) -> Tensor:
    """Cross-entropy on liked tokens plus α times the contrast on negative ones, over the number of all tokens.

    Both are computed for every place of the batch, and what does not count is masked afterwards. The positive token is
    drawn from torch's own state.

    Args:
        logits: (B, T, V).
        targets: (B, T), token ids.
        padding: (B, T) bool, True where there is no token.
        negative: (B,) bool, True for a negative response.
        k: candidates for the positive token.
        alpha: weight of the contrast.

    Returns:
        A scalar, in nats a token.
    """
    vocabulary = logits.shape[-1]
    nll = F.cross_entropy(logits.reshape(-1, vocabulary), targets.reshape(-1), reduction="none").view_as(targets)
    others = logits.clone()
    others = others.scatter(-1, targets.unsqueeze(-1), float("-inf"))
    candidates, _ = others.topk(k, dim=-1)
    drawn = torch.distributions.Categorical(logits=candidates).sample()
    positive = candidates.gather(-1, drawn.unsqueeze(-1))
    own = logits.gather(-1, targets.unsqueeze(-1))
    pairs = torch.cat([positive, own], dim=-1).reshape(-1, 2)
    first = torch.zeros(len(pairs), dtype=torch.long, device=logits.device)
    contrast = F.cross_entropy(pairs, first, reduction="none").view_as(targets)
    of_liked = ~padding & ~negative.unsqueeze(-1)
    of_negative = ~padding & negative.unsqueeze(-1)
    return ((nll * of_liked).sum() + alpha * (contrast * of_negative).sum()) / (~padding).sum()
