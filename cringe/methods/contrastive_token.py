"""Contrastive token learning against repetition: the target beats what was said just before (Jiang et al. 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cringe.methods.base import Method, TokenLoss, on_preceding

if TYPE_CHECKING:
    from torch import Tensor

    from cringe.batch import Batch


class ContrastiveToken(Method):
    """Cross-entropy, and α · log(1 + Σ e^{s_c - s_x}) over the M tokens c before the target, on liked tokens."""

    alpha: float = Field(default=1.0, ge=0)
    """Weight of the contrast; the two terms are added as they are in Jiang et al. 2022."""
    preceding: int = Field(default=60, ge=1)
    """M, how many tokens back negatives are taken from. Ours; at tiny and cpu longer than a reply, so
    all of its earlier tokens."""

    def loss(self, logits: Tensor, batch: Batch) -> TokenLoss:
        """Cross-entropy plus α times the contrast with earlier tokens."""
        from cringe.losses import contrastive_token_loss

        return on_preceding(
            logits, batch, contrastive_token_loss, weight=self.alpha, name="contrast", most=self.preceding
        )


METHOD = ContrastiveToken
