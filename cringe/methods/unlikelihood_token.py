"""Token-level unlikelihood against repetition: what was said before is made less likely (Welleck et al. 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cringe.methods.base import Method, TokenLoss, on_preceding

if TYPE_CHECKING:
    from torch import Tensor

    from cringe.batch import Batch


class UnlikelihoodToken(Method):
    """Cross-entropy, and α · Σ -log(1 - p(c)) over the tokens c before the target, on liked tokens."""

    alpha: float = Field(default=1.0, ge=0)
    """Weight of the penalty; 1 in Welleck et al. 2020, §4.2."""

    def loss(self, logits: Tensor, batch: Batch) -> TokenLoss:
        """Cross-entropy plus α times the unlikelihood of earlier tokens."""
        from cringe.losses import unlikelihood_set_loss

        return on_preceding(logits, batch, unlikelihood_set_loss, weight=self.alpha, name="unlikelihood")


METHOD = UnlikelihoodToken
