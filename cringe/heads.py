"""Heads that stand in the place of a model's output projection, so that `generate` need not know of them.

A head is given hidden states (..., d). In training it returns what its loss needs; in evaluation, scores (..., V) that
a decoder takes for logits.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cringe.seeding import torch_seed


class OutputHead(nn.Module):
    """A head around the model's own projection, which stays tied to its embeddings where it was.

    Args:
        projection: the model's output projection, from d to V.
    """

    def __init__(self, projection: nn.Linear) -> None:
        super().__init__()
        self.projection = projection
        self.normalizes = True
        """Must scores be log-probabilities where they are a softmax's? A search that takes a softmax of its own does
        without (`unnormalized`)."""
        self.constant: Tensor | None
        self.register_buffer("constant", None, persistent=False)

    @property
    def weight(self) -> Tensor:
        """(V, d), the projection's: transformers looks for it where it ties embeddings."""
        weight: Tensor = self.projection.weight
        return weight

    def take_constant(self, constant: Tensor) -> None:
        """Take over what models of BART's family add to their logits, (1, V)."""
        self.constant = constant

    def lm_logits(self, hidden: Tensor) -> Tensor:
        """(..., V) logits of the language model."""
        logits: Tensor = self.projection(hidden)
        return logits if self.constant is None else logits + self.constant.reshape(-1)

    @abstractmethod
    def forward(self, hidden: Tensor) -> Tensor:
        """What the loss needs in training, scores in evaluation."""

    def own_weights(self) -> dict[str, Tensor]:
        """The head's parameters, without the projection's."""
        return {name: weight for name, weight in self.named_parameters() if not name.startswith("projection.")}

    def save(self, path: Path) -> None:
        """Write the head's own weights as safetensors."""
        from safetensors.torch import save_file

        save_file({name: weight.detach().cpu().contiguous() for name, weight in self.own_weights().items()}, path)

    def load(self, path: Path) -> None:
        """Read the head's own weights.

        Raises:
            KeyError: the file holds others.
        """
        from safetensors.torch import load_file

        stored = load_file(path)
        with torch.no_grad():
            for name, weight in self.own_weights().items():
                weight.copy_(stored[name])


@contextmanager
def unnormalized(head: nn.Module) -> Iterator[None]:
    """While this holds, scores of a head may be off by a constant in each row; any other projection is left alone."""
    if not isinstance(head, OutputHead):
        yield
        return
    head.normalizes = False
    try:
        yield
    finally:
        head.normalizes = True


class DirectorHead(OutputHead):
    """DIRECTOR (Arora et al. 2022): a classifier of next tokens beside the language model.

    Evaluation: ``log softmax(log p_LM + γ · log σ(class logits))`` over the whole vocabulary. Training: the language
    model's logits and the class logits, side by side, (..., 2V).

    Args:
        projection: the model's output projection.
        gamma: weight of the classifier in decoding.
        shared: class logits are ``a · LM logits + b``, two scalars that start at (1, 0); otherwise a projection of its
            own.
        seed: of the projection's initial weights, which are normal with deviation 0.02, as transformers' are.
    """

    def __init__(self, projection: nn.Linear, *, gamma: float, shared: bool, seed: int) -> None:
        super().__init__(projection)
        self.gamma = gamma
        self.scale = nn.Parameter(torch.ones(())) if shared else None
        self.shift = nn.Parameter(torch.zeros(())) if shared else None
        self.classifier: nn.Linear | None = None
        if not shared:
            vocabulary, width = projection.weight.shape
            with torch_seed(seed, "head"):
                self.classifier = nn.Linear(width, vocabulary)
                nn.init.normal_(self.classifier.weight, std=0.02)
                nn.init.zeros_(self.classifier.bias)

    def class_logits(self, hidden: Tensor, lm_logits: Tensor) -> Tensor:
        """(..., V): log-odds that a token keeps the response a positive one."""
        if self.classifier is not None:
            logits: Tensor = self.classifier(hidden)
            return logits
        return self.scale * lm_logits + self.shift

    def forward(self, hidden: Tensor) -> Tensor:
        """Side by side in training, combined in evaluation."""
        lm_logits = self.lm_logits(hidden)
        class_logits = self.class_logits(hidden, lm_logits)
        if self.training:
            return torch.cat([lm_logits, class_logits], dim=-1)
        # The language model's logits do for its log p: they differ by a constant, which the softmax takes away.
        steered = lm_logits.float().add(F.logsigmoid(class_logits.float()), alpha=self.gamma)
        return F.log_softmax(steered, dim=-1) if self.normalizes else steered


class SigmoidHead(OutputHead):
    """No softmax (SCONES, Stahlberg & Kumar 2022): a token's score is ``log σ(s)``.

    Training: the logits (..., V). A softmax does not care for a constant on all logits, a sigmoid does: a model that
    was trained with the one has any constant. So one is learnt here, and started where ``σ(s)`` is about ``p``
    (`SigmoidOnly.begin`); without it the first updates do little but move all logits down.
    """

    def __init__(self, projection: nn.Linear) -> None:
        super().__init__(projection)
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits in training, their log-sigmoid in evaluation."""
        logits = self.lm_logits(hidden) + self.shift
        return logits if self.training else F.logsigmoid(logits.float())
