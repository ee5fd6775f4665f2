"""What classifiers have in common that are transformers: how they are trained, and how they read many pairs."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from cringe.batch import send
from cringe.classifier import Classifier, Fitting, Pair
from cringe.seeding import stream
from cringe.specs import PretrainedClassifier, ScratchClassifier

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Columns = dict[str, list[int]]
"""A pair as a model's inputs, ``input_ids`` among them, each a list of L integers."""


class TransformerClassifier(Classifier):
    """An encoder with a head for two classes, the second of which is negative.

    Args:
        model: of transformers' ``…ForSequenceClassification``.
        spec: how it is trained.
        pad: the padding token.
    """

    spec: ScratchClassifier | PretrainedClassifier
    half_on_gpu: ClassVar[bool] = False
    """Is its forward pass in bfloat16 on a GPU?"""

    def __init__(self, model: PreTrainedModel, spec: ScratchClassifier | PretrainedClassifier, *, pad: int) -> None:
        super().__init__(spec)
        self._model = model.eval()
        self._pad = pad

    @abstractmethod
    def encode(self, pairs: Sequence[Pair]) -> list[Columns]:
        """The inputs that pairs become."""

    def hide(self, inputs: dict[str, Tensor], fitting: Fitting, step: int) -> dict[str, Tensor]:
        """What is left of the inputs of a step of training."""
        return inputs

    def to(self, device: str) -> Self:
        """Move the model to a device; returns itself."""
        self._model.to(device)
        return self

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(weight.numel() for weight in self._model.parameters())

    def log_odds(self, pairs: Sequence[Pair], *, batch_size: int) -> NDArray[np.float64]:
        """See `Classifier.log_odds`. Pairs of like length are read together."""
        encoded = self.encode(pairs)
        found = np.empty(len(encoded))
        order = sorted(range(len(encoded)), key=lambda index: (len(encoded[index]["input_ids"]), index))
        self._model.eval()
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                logits = self._logits(self._inputs([encoded[row] for row in rows]))
                found[rows] = (logits[:, 1] - logits[:, 0]).double().cpu().numpy()
        return found

    def learn(self, pairs: Sequence[Pair], fitting: Fitting) -> None:
        """AdamW on the cross-entropy, the learning rate rising over a tenth of the steps and falling to 0."""
        spec, device = self.spec, self._model.device
        encoded = self.encode(pairs)
        labels = torch.tensor([pair.negative for pair in pairs]).long()
        weights = send(0.5 * len(pairs) / torch.bincount(labels, minlength=2).float(), device)
        total = spec.epochs * math.ceil(len(pairs) / spec.batch_size)
        optimizer = torch.optim.AdamW(self._model.parameters(), lr=spec.learning_rate, weight_decay=0.01, fused=True)
        self._model.train()
        for step, rows in enumerate(_batches([len(item["input_ids"]) for item in encoded], spec, fitting.seed)):
            for group in optimizer.param_groups:
                rise = 0.1 * total
                group["lr"] = spec.learning_rate * min((step + 1) / rise, (total - step) / (total - rise))
            logits = self._logits(self.hide(self._inputs([encoded[row] for row in rows]), fitting, step))
            loss = F.cross_entropy(logits, send(labels[torch.from_numpy(rows)], device), weight=weights)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            if (step + 1) % 50 == 0 or step + 1 == total:
                fitting.progress(step + 1, total, f"loss {loss.item():.3f}")
        self._model.eval()
        self._count(fitting, total, [len(item["input_ids"]) for item in encoded])

    def _count(self, fitting: Fitting, updates: int, lengths: Sequence[int]) -> None:
        """Add what the training cost; embeddings are looked up and cost no multiplication."""
        epochs, counts = self.spec.epochs, fitting.counts
        looked_up = (part.weight.numel() for part in self._model.modules() if isinstance(part, nn.Embedding))
        counts.updates += updates
        counts.examples += epochs * len(lengths)
        counts.source_tokens += epochs * sum(lengths)
        counts.forward_passes += epochs * len(lengths)
        counts.backward_passes += epochs * len(lengths)
        counts.flops += 6.0 * (self.parameters - sum(looked_up)) * epochs * sum(lengths)

    def _logits(self, inputs: dict[str, Tensor]) -> Tensor:
        """(B, 2)."""
        kind = self._model.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=self.half_on_gpu and kind == "cuda"):
            logits: Tensor = self._model(**{name: send(x, self._model.device) for name, x in inputs.items()}).logits
        return logits.float()

    def _inputs(self, encoded: Sequence[Columns]) -> dict[str, Tensor]:
        """(B, L) tensors, padded on the right."""
        length = max(len(item["input_ids"]) for item in encoded)
        return {
            name: torch.tensor(
                [
                    item[name] + [self._pad if name == "input_ids" else 0] * (length - len(item[name]))
                    for item in encoded
                ]
            )
            for name in encoded[0]
        }


def _batches(
    lengths: Sequence[int], spec: ScratchClassifier | PretrainedClassifier, seed: int
) -> Iterator[NDArray[np.int64]]:
    """Rows of each step: batches of like length, in an order drawn for every epoch."""
    for epoch in range(spec.epochs):
        draws = stream(seed, "classifier order", epoch)
        order = np.argsort(np.asarray(lengths) + 8 * draws.random(len(lengths)), kind="stable")
        starts = draws.permutation(math.ceil(len(order) / spec.batch_size)) * spec.batch_size
        yield from (order[start : start + spec.batch_size] for start in starts)
