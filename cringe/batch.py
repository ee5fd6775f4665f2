"""What a model is given in one forward pass."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cringe.seeding import uniforms


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """B examples as tensors: S source tokens, T target tokens, padded on the right.

    Of the B·T places for target tokens, N hold one. Logits and losses are computed at those N alone, and they are
    lined up by feedback: tokens of unlabelled responses first, then of positive, then of negative ones. So the parts
    are slices, and nothing is copied to take them apart.
    """

    source: Tensor
    """(B, S) token ids of the contexts."""
    source_mask: Tensor
    """(B, S) bool, False at padding."""
    responses: Tensor
    """(B, T) token ids of the responses, with their end token; padding holds the padding token."""
    tokens: Tensor
    """(N,) places of the target tokens in the flattened responses: unlabelled, positive, negative."""
    unlabelled: int
    """How many of the N tokens are unlabelled; they come first."""
    liked: int
    """How many of the N tokens are unlabelled or positive; the rest are negative."""
    examples: tuple[int, ...]
    """B hashes that name the examples, for draws."""
    lengths: tuple[int, ...]
    """B numbers of target tokens."""
    seed: int
    step: int
    """The optimiser step that the batch is a part of."""

    @property
    def targets(self) -> Tensor:
        """(N,) ids of the target tokens."""
        return self.responses.reshape(-1).index_select(0, self.tokens)

    def uniforms(self, purpose: str, rows: slice) -> Tensor:
        """Uniform draws in [0, 1) for some of the N tokens.

        A token's draw depends on the seed, the purpose, the step, its example and its position: not on padding, nor
        on how the step's examples were cut into batches.

        Args:
            purpose: what is drawn.
            rows: which of the N tokens.

        Returns:
            float64, one draw a token, on the device of the batch.
        """
        positions = range(self.responses.shape[1])
        draws = uniforms(self.seed, purpose, step=self.step, examples=self.examples, positions=positions)
        return torch.from_numpy(draws).to(self.tokens.device).reshape(-1).index_select(0, self.tokens[rows])

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        tensors = ("source", "source_mask", "responses", "tokens")
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in tensors})
