"""CRINGE, one iteration: contrast each negative token with one that the model ranks high (Adolphs et al. 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cringe.methods.base import Method, TokenLoss

if TYPE_CHECKING:
    from torch import Tensor

    from cringe.batch import Batch


class CringeSingle(Method):
    """Cross-entropy, and α times the CRINGE loss on the tokens of negative responses (Adolphs et al. 2023, eq. 4)."""

    alpha: float = Field(default=1.0, ge=0)
    """Weight of the contrast. The paper's grid is 0.5, 1, 2, 5 [second-hand], the default of its code 1; what it chose
    is unknown."""
    k: int = Field(default=5, ge=1)
    """Candidates for the positive token. 5 in the paper's tables [second-hand]; the code's default is 1."""
    detach_positive: bool = False
    """Stop the gradient through the positive token's logit. Off in the released code."""

    def loss(self, logits: Tensor, batch: Batch) -> TokenLoss:
        """Cross-entropy plus α times the contrast."""
        from torch import cat

        from cringe.packed_losses import liked_nll_and_contrast

        noise = batch.uniforms("cringe", slice(batch.liked, None)) if self.k > 1 else None
        nll, contrast = liked_nll_and_contrast(
            logits, batch.targets, batch.liked, k=self.k, detach_positive=self.detach_positive, noise=noise
        )
        return TokenLoss(cat([nll, self.alpha * contrast]), {"nll": nll, "cringe": contrast})


METHOD = CringeSingle
