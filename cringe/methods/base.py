"""What a method is: the hooks that it may override, each with a default that makes it plain likelihood training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from cringe.specs import Spec

if TYPE_CHECKING:
    from torch import Tensor

    from cringe.batch import Batch

    Penalty = Callable[[Tensor, Tensor], Tensor]


class TokenLoss(NamedTuple):
    """A loss before any reduction; only the trainer sums and divides."""

    values: Tensor
    """(N,) float32, one for each target token of the batch, in the batch's order."""
    components: Mapping[str, Tensor]
    """The parts that ``values`` is made of, before their weights, each of any length; the log shows their sums."""


class Method(Spec):
    """A way of learning from feedback. Its fields are its hyper-parameters, each with the source of its value.

    The base class trains by maximum likelihood on everything that is not negative.
    """

    def loss(self, logits: Tensor, batch: Batch) -> TokenLoss:
        """The loss of each target token.

        Args:
            logits: (N, V), of the whole batch.
            batch: its targets, and how many of them are liked; the rest are negative.
        """
        return likelihood_and(logits, batch)


def likelihood_and(
    logits: Tensor, batch: Batch, penalty: Penalty | None = None, *, weight: float = 1.0, name: str = "penalty"
) -> TokenLoss:
    """Cross-entropy on liked tokens, and a penalty on the tokens of negative responses.

    Args:
        logits: (N, V).
        batch: its targets.
        penalty: takes the logits (N₋, V) and the targets (N₋,) of the negative tokens, returns (N₋,); none gives 0.
        weight: of the penalty, α in the papers.
        name: of the penalty, in the log.
    """
    from torch import cat

    from cringe.losses import token_nll

    targets = batch.targets
    nll = token_nll(logits[: batch.liked], targets[: batch.liked])
    if penalty is None:
        return TokenLoss(cat([nll, nll.new_zeros(len(targets) - batch.liked)]), {"nll": nll})
    penalties = penalty(logits[batch.liked :], targets[batch.liked :])
    return TokenLoss(cat([nll, weight * penalties]), {"nll": nll, name: penalties})
