"""What a method is: the hooks that it may override, each with a default that makes it plain likelihood training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from cringe.specs import Spec

if TYPE_CHECKING:
    from torch import Tensor

    from cringe.backbones import Backbone
    from cringe.batch import Batch
    from cringe.classifier import Classifier
    from cringe.counts import Counts
    from cringe.generation import Steering
    from cringe.prefix_guide import PrefixGuide

    Penalty = Callable[[Tensor, Tensor], Tensor]


class TokenLoss(NamedTuple):
    """A loss before any reduction; only the trainer sums and divides."""

    values: Tensor
    """(N,) float32, one for each target token of the batch, in the batch's order."""
    components: Mapping[str, Tensor]
    """The parts that ``values`` is made of, before their weights, each of any length, under the same names for every
    batch of a step; the log shows their sums."""


class Guides(NamedTuple):
    """What steers or labels, trained on the task's guide half; None where the method does not need it."""

    sequence: Classifier | None = None
    """Reads decoded text; any encoder."""
    prefix: PrefixGuide | None = None
    """Causal, shares the backbone's tokenizer, keeps a cache."""


class Method(Spec):
    """A way of learning from feedback. Its fields are its hyper-parameters, each with the source of its value.

    The base class trains by maximum likelihood on everything that is not negative, and decodes as the table says.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    """Fields of `Guides` that decoding needs."""

    def trained_as(self) -> Method:
        """The method whose training this one's is: what differs in decoding alone shares a trained model."""
        return self

    def wrap(self, backbone: Backbone, *, seed: int) -> None:
        """Add heads to a model, before training and after loading."""

    def begin(self, backbone: Backbone, batches: Sequence[Batch]) -> None:
        """Look at the first step's examples before anything is trained, such as to start a new head where the old was.

        What is learnt from them may not depend on how they were cut into batches, nor on their order.
        """

    def prepare_batch(self, backbone: Backbone, batch: Batch, counts: Counts) -> Batch:
        """What to train on in the place of a batch, such as the model's own generations; their cost is counted."""
        return batch

    def loss(self, logits: Tensor, batch: Batch) -> TokenLoss:
        """The loss of each target token.

        Args:
            logits: (N, V), of the whole batch; what a head returns in training, where the method has one.
            batch: its targets, lined up by feedback.
        """
        return likelihood_and(logits, batch)

    def steering(self, guides: Guides, *, seed: int) -> Steering | None:
        """What the method adds to decoding."""
        return None

    def footnote(self) -> str:
        """What a reader of the table must know of the method's decoding; empty where it is the table's."""
        return ""

    @property
    def steers(self) -> bool:
        """Does decoding depend on the method itself, beyond the weights that it trained?"""
        cls = type(self)
        return cls.steering is not Method.steering or cls.wrap is not Method.wrap


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

    from cringe.packed_losses import liked_nll

    targets = batch.targets
    nll = liked_nll(logits, targets, batch.liked)
    if penalty is None:
        return TokenLoss(cat([nll, nll.new_zeros(len(targets) - batch.liked)]), {"nll": nll})
    penalties = penalty(logits[batch.liked :], targets[batch.liked :])
    return TokenLoss(cat([nll, weight * penalties]), {"nll": nll, name: penalties})


def on_preceding(
    logits: Tensor,
    batch: Batch,
    penalty: Callable[[Tensor, Tensor, Tensor], Tensor],
    *,
    weight: float,
    name: str,
    most: int | None = None,
) -> TokenLoss:
    """Cross-entropy on liked tokens, and a penalty there for the tokens of the response that came before.

    Args:
        logits: (N, V).
        batch: its targets.
        penalty: takes logits (N₊, V), targets (N₊,) and the tokens before each (N₊, T), −1 for none; returns (N₊,).
        weight: of the penalty, α in the papers.
        name: of the penalty, in the log.
        most: how far to look back; to the beginning when not given.
    """
    from torch import cat

    plain = likelihood_and(logits, batch)
    liked = slice(0, batch.liked)
    penalties = penalty(logits[liked], batch.targets[liked], batch.preceding(liked, most))
    rest = penalties.new_zeros(len(batch.tokens) - batch.liked)
    return TokenLoss(plain.values + weight * cat([penalties, rest]), {**plain.components, name: penalties})
