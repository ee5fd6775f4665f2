"""DIRECTOR: a second head classifies next tokens and is joined with the first in decoding (Arora et al. 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from cringe.methods.base import Method, TokenLoss

if TYPE_CHECKING:
    from torch import Tensor

    from cringe.backbones import Backbone
    from cringe.batch import Batch


class Director(Method):
    """Cross-entropy on the language model's head, γ times the class loss on the classifier's."""

    shared: ClassVar[bool] = False
    """Is the classifier two scalars on the language model's logits?"""

    gamma: float = Field(default=0.5, ge=0)
    """Weight of the class loss in training; the default of DIRECTOR's released code. The CRINGE paper's is unknown."""
    decoding_gamma: float = Field(default=0.5, ge=0)
    """Weight of the classifier in decoding; the released code takes the training's where none is given. The CRINGE
    paper's is unknown."""
    lm_on_positives: bool = True
    """Do positive responses train the language model's head too? False: the class head alone (a row of the paper's
    FITS table, and the default of DIRECTOR's released code)."""

    def trained_as(self) -> Method:
        """The weight in decoding changes no training."""
        return self.model_copy(update={"decoding_gamma": type(self).model_fields["decoding_gamma"].default})

    def wrap(self, backbone: Backbone, *, seed: int) -> None:
        """Put the two heads in the place of the output projection."""
        from cringe.heads import DirectorHead

        projection = backbone.model.get_output_embeddings()
        backbone.attach(DirectorHead(projection, gamma=self.decoding_gamma, shared=self.shared, seed=seed))

    def loss(self, logits: Tensor, batch: Batch) -> TokenLoss:
        """``-log p(x)`` on liked tokens plus γ times the class loss on labelled ones; logits are (N, 2V)."""
        from torch import arange, cat

        from cringe.losses import director_class_loss
        from cringe.packed_losses import liked_nll

        targets, labelled = batch.targets, slice(batch.unlabelled, None)
        lm_logits, class_logits = logits.chunk(2, dim=-1)
        read = batch.liked if self.lm_on_positives else batch.unlabelled
        nll = liked_nll(lm_logits, targets, read)
        positive = arange(batch.unlabelled, len(targets), device=logits.device) < batch.liked
        classes = director_class_loss(class_logits[labelled], targets[labelled], positive)
        values = cat([nll, nll.new_zeros(len(targets) - read)])
        weighted = cat([classes.new_zeros(batch.unlabelled), self.gamma * classes])
        return TokenLoss(values + weighted, {"nll": nll, "class": classes})


METHOD = Director
