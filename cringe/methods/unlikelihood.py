"""Unlikelihood training: push down the probability of each token of a negative response (Welleck et al. 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cringe.methods.base import Method, TokenLoss, likelihood_and

if TYPE_CHECKING:
    from torch import Tensor

    from cringe.batch import Batch


class Unlikelihood(Method):
    """Cross-entropy, and α · -log(1 - p(x⁻)) on the tokens of negative responses (Welleck et al. 2020, eq. 4)."""

    alpha: float = Field(default=0.5, ge=0)
    """Weight of the unlikelihood term. The CRINGE paper's grid is 0.1, 0.5, 1, 5 [second-hand]; what it chose is
    unknown."""

    def loss(self, logits: Tensor, batch: Batch) -> TokenLoss:
        """Cross-entropy plus α times unlikelihood."""
        from cringe.losses import unlikelihood_loss

        return likelihood_and(logits, batch, unlikelihood_loss, weight=self.alpha, name="unlikelihood")


METHOD = Unlikelihood
