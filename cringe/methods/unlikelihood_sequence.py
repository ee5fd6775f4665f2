"""Sequence-level unlikelihood: what the model repeats when it generates is made less likely (Welleck et al. 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cringe.methods.base import Method, TokenLoss, likelihood_and

if TYPE_CHECKING:
    from torch import Tensor

    from cringe.backbones import Backbone
    from cringe.batch import Batch
    from cringe.counts import Counts


class UnlikelihoodSequence(Method):
    """On some steps cross-entropy, on the others unlikelihood of what the model repeats when it generates."""

    alpha: float = Field(default=1.0, ge=0)
    """Weight of the unlikelihood; 1 in Welleck et al. 2020, §4.3."""
    rate: float = Field(default=0.5, ge=0, le=1)
    """Share of steps that train on generations; one half in Welleck et al. 2020, §6."""
    ngram: int = Field(default=4, ge=1)
    """Length of the n-grams that may not come again; 4 in Welleck et al. 2020, §6."""

    def prepare_batch(self, backbone: Backbone, batch: Batch, counts: Counts) -> Batch:
        """On a share of steps, the same for every part of a step, the model's greedy replies to the same contexts."""
        from cringe.iterate import greedy_replies
        from cringe.seeding import uniforms

        coin = uniforms(batch.seed, "sequence level", step=batch.step, examples=[0], positions=[0])
        return greedy_replies(backbone, batch, self.ngram, counts) if coin.item() < self.rate else batch

    def loss(self, logits: Tensor, batch: Batch) -> TokenLoss:
        """Cross-entropy on data; α times unlikelihood of repeated tokens on generations."""
        from cringe.losses import unlikelihood_loss

        if not batch.generated:
            return likelihood_and(logits, batch)
        return likelihood_and(logits, batch, unlikelihood_loss, weight=self.alpha, name="unlikelihood")


METHOD = UnlikelihoodSequence
