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
    """B numbers of target tokens; they add up to N, but for a batch of generations whose other tokens have no loss."""
    seed: int
    step: int
    """The optimiser step that the batch is a part of."""
    generated: bool = False
    """Are the responses the model's own (see `Method.prepare_batch`)?"""

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

    def preceding(self, rows: slice, most: int | None = None) -> Tensor:
        """The tokens of the response before each of some tokens.

        Args:
            rows: n of the N tokens.
            most: how far to look back; to the beginning when not given.

        Returns:
            (n, T) token ids, −1 for places that are not before the token or too far back.
        """
        length = self.responses.shape[1]
        places = self.tokens[rows]
        position = (places % length).unsqueeze(-1)
        column = torch.arange(length, device=places.device)
        seen = column < position
        if most is not None:
            seen &= column >= position - most
        return self.responses.index_select(0, places // length).masked_fill(~seen, -1)

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        tensors = ("source", "source_mask", "responses", "tokens")
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in tensors})
