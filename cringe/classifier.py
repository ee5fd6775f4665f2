"""Classifiers that tell negative responses from others: guides, which steer or label, and judges, which score."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cringe.counts import Counts
from cringe.data import Example, Feedback
from cringe.seeding import stream, torch_seed
from cringe.specs import ClassifierSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_PAD, _UNKNOWN, _CLASS, _SEPARATOR = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
_SPECIAL = (_PAD, _UNKNOWN, _CLASS, _SEPARATOR)
_STEM = 5
"""Letters at which two words count as the same one: "dog" and "dogs" do, most unrelated words do not."""
_NEGATIONS = (
    (re.compile(r"\bcan'?t\b|\bcannot\b"), "can n't"),
    (re.compile(r"\bwon'?t\b"), "will n't"),
    (re.compile(r"\b(do|does|did|is|are|was|were|have|has|had|would|could|should|ai)(?:n't|nt| not)\b"), r"\1 n't"),
    (re.compile(r"\Bn't\b"), " n't"),
)
"""Ways to write a negation, and the one that they become."""
_WORD = re.compile(r"n't|'[a-z]+|[a-z]+|\d+|[^\sa-z\d]")


class _Pair(NamedTuple):
    """A turn and a response, and whether the response is at fault for it."""

    turn: str
    response: str
    negative: bool


class _Encoded(NamedTuple):
    ids: list[int]
    types: list[int]
    """Side (0 turn, 1 response) × 2 + is the word said on the other side too."""


class Classifier:
    """A BERT-shaped classifier of (turn, response) pairs (Devlin et al. 2019), trained from scratch.

    Which words both sides share is marked in the token types, for a small model does not learn to compare words from
    a few thousand pairs.
    """

    def __init__(self, model: PreTrainedModel, vocabulary: Mapping[str, int], spec: ClassifierSpec) -> None:
        self._model = model
        self._vocabulary = dict(vocabulary)
        self._spec = spec

    @classmethod
    def train(
        cls,
        examples: Sequence[Example],
        spec: ClassifierSpec,
        *,
        seed: int,
        device: str = "cpu",
        progress: Callable[[int, int, str], None] = lambda done, total, note: None,
        counts: Counts | None = None,
    ) -> Classifier:
        """Train on labelled examples; classes weigh the same however many each has. The cost is added to ``counts``.

        Raises:
            ValueError: the examples do not hold both classes.
        """
        pairs = _training_pairs(examples, spec, seed)
        share = sum(pair.negative for pair in pairs) / max(1, len(pairs))
        if not 0 < share < 1:
            raise ValueError(f"a classifier needs both classes; of {len(pairs)} pairs {share:.0%} are negative")
        vocabulary = _vocabulary((text for pair in pairs for text in (pair.turn, pair.response)), spec.vocabulary)
        with torch_seed(seed, "classifier"):  # dropout draws from torch's own state
            classifier = cls(_build(spec, len(vocabulary)).to(device), vocabulary, spec)
            classifier._fit(pairs, torch.tensor([0.5 / (1 - share), 0.5 / share], device=device), seed, progress)
        if counts is not None:
            counts.updates += spec.epochs * math.ceil(len(pairs) / spec.batch_size)
            counts.examples += spec.epochs * len(pairs)
            counts.forward_passes += spec.epochs * len(pairs)
            counts.backward_passes += spec.epochs * len(pairs)
        return classifier

    @classmethod
    def load(cls, folder: Path) -> Classifier:
        """Read what `save` wrote."""
        from transformers import BertForSequenceClassification

        spec = ClassifierSpec.model_validate_json((folder / "classifier.json").read_text(encoding="utf-8"))
        model = BertForSequenceClassification.from_pretrained(folder, use_safetensors=True, local_files_only=True)
        vocabulary = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
        return cls(model.eval(), vocabulary, spec)

    def save(self, folder: Path) -> None:
        """Write weights (safetensors), configuration and vocabulary."""
        self._model.save_pretrained(folder)
        (folder / "vocabulary.json").write_text(json.dumps(self._vocabulary) + "\n", encoding="utf-8")
        (folder / "classifier.json").write_text(json.dumps(self._spec.model_dump(), indent=2) + "\n", encoding="utf-8")

    def to(self, device: str) -> Classifier:
        """Move the model to a device; returns itself."""
        self._model.to(device)
        return self

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(weight.numel() for weight in self._model.parameters())

    def probabilities(self, examples: Sequence[Example], *, batch_size: int = 128) -> list[float]:
        """Probability that each response is negative, in [0, 1]: that of its worst pair.

        It is the model's own under equal classes, not calibrated.
        """
        encoded: list[_Encoded] = []
        owners: list[int] = []
        for index, example in enumerate(examples):
            turns = _own_turns(example, self._spec)
            encoded += [self._encode(turn, example.response) for turn in turns]
            owners += [index] * len(turns)
        logits = np.empty(len(encoded))
        order = sorted(range(len(encoded)), key=lambda index: (len(encoded[index].ids), index))
        self._model.eval()
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                logits[rows] = self._difference([encoded[row] for row in rows]).double().cpu().numpy()
        worst = np.full(len(examples), -math.inf)
        np.maximum.at(worst, owners, logits)
        return [float(value) for value in 1 / (1 + np.exp(-worst))]

    def _fit(
        self, pairs: Sequence[_Pair], weights: Tensor, seed: int, progress: Callable[[int, int, str], None]
    ) -> None:
        spec = self._spec
        encoded = [self._encode(pair.turn, pair.response) for pair in pairs]
        labels = torch.tensor([pair.negative for pair in pairs]).long()
        total = spec.epochs * math.ceil(len(pairs) / spec.batch_size)
        optimizer = torch.optim.AdamW(self._model.parameters(), lr=spec.learning_rate, weight_decay=0.01, fused=True)
        self._model.train()
        for step, rows in enumerate(_batches([len(item.ids) for item in encoded], spec, seed)):
            for group in optimizer.param_groups:
                rise = 0.1 * total
                group["lr"] = spec.learning_rate * min((step + 1) / rise, (total - step) / (total - rise))
            inputs = self._inputs([encoded[row] for row in rows])
            hidden = stream(seed, "word dropout", step).random(tuple(inputs["input_ids"].shape)) < spec.word_dropout
            words = inputs["input_ids"] >= len(_SPECIAL)
            mask = torch.from_numpy(hidden).to(words.device) & words
            inputs["input_ids"] = inputs["input_ids"].masked_fill(mask, self._vocabulary[_UNKNOWN])
            loss = F.cross_entropy(self._model(**inputs).logits, labels[rows].to(weights.device), weight=weights)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            if (step + 1) % 50 == 0 or step + 1 == total:
                progress(step + 1, total, f"loss {loss.item():.3f}")
        self._model.eval()

    def _difference(self, encoded: Sequence[_Encoded]) -> Tensor:
        """(B,) log-odds of being negative."""
        logits: Tensor = self._model(**self._inputs(encoded)).logits
        return logits[:, 1] - logits[:, 0]

    def _inputs(self, encoded: Sequence[_Encoded]) -> dict[str, Tensor]:
        length = max(len(item.ids) for item in encoded)
        pad = self._vocabulary[_PAD]
        rows = {
            "input_ids": [item.ids + [pad] * (length - len(item.ids)) for item in encoded],
            "token_type_ids": [item.types + [0] * (length - len(item.ids)) for item in encoded],
            "attention_mask": [[1] * len(item.ids) + [0] * (length - len(item.ids)) for item in encoded],
        }
        return {name: torch.tensor(values, device=self._model.device) for name, values in rows.items()}

    def _encode(self, turn: str, response: str) -> _Encoded:
        """``[CLS] turn [SEP] response [SEP]``."""
        sides = [words(text)[: self._spec.max_words] for text in (turn, response)]
        stems = [[word[:_STEM] for word in side] for side in sides]
        unknown, separator = self._vocabulary[_UNKNOWN], self._vocabulary[_SEPARATOR]
        ids, types = [self._vocabulary[_CLASS]], [0]
        for index, side in enumerate(sides):
            others = set(stems[1 - index])
            ids += [*(self._vocabulary.get(word, unknown) for word in side), separator]
            types += [*(2 * index + (stem in others) for stem in stems[index]), 2 * index]
        return _Encoded(ids, types)


def words(text: str) -> list[str]:
    """Words, numbers and marks in lower case; "can't", "cannot" and "cant" all become "can", "n't"."""
    text = text.lower().replace("’", "'")
    for written, meant in _NEGATIONS:
        text = written.sub(meant, text)
    return _WORD.findall(text)


def _own_turns(example: Example, spec: ClassifierSpec) -> list[str]:
    """What a response is held against; one empty text where there is nothing."""
    if spec.reads == "response":
        return [""]
    return [turn for turn, own in zip(example.context, example.own, strict=True) if own] or [""]


def _training_pairs(examples: Sequence[Example], spec: ClassifierSpec, seed: int) -> list[_Pair]:
    pairs: list[_Pair] = []
    for example in examples:
        if example.feedback != Feedback.UNLABELLED:
            pairs += _pairs_of(example, spec, seed)
    turns = [pair.turn for pair in pairs]
    draws = stream(seed, "mismatched")
    at_fault = [pair for pair in pairs if pair.negative]
    count = int(spec.mismatched * len(at_fault)) if spec.reads == "own_turns" else 0
    for index in draws.permutation(len(at_fault))[:count]:
        pairs.append(_Pair(turns[int(draws.integers(len(turns)))], at_fault[int(index)].response, negative=False))
    return pairs


def _pairs_of(example: Example, spec: ClassifierSpec, seed: int) -> Iterator[_Pair]:
    """The pairs that one labelled example teaches."""
    turns = _own_turns(example, spec)
    if example.feedback == Feedback.POSITIVE:
        order = stream(seed, "turns", example.uid).permutation(len(turns))[: spec.turns_per_dialogue]
        yield from (_Pair(turns[int(index)], example.response, negative=False) for index in sorted(order))
    elif len(turns) == 1:
        yield _Pair(turns[0], example.response, negative=True)
    else:
        # With several turns only the evidence says which one the response is at fault for.
        for index, (turn, own) in enumerate(zip(example.context, example.own, strict=True)):
            if own and example.evidence:
                yield _Pair(turn, example.response, negative=index in example.evidence)


def _batches(lengths: Sequence[int], spec: ClassifierSpec, seed: int) -> Iterator[NDArray[np.int64]]:
    """Rows of each step: batches of like length, in an order drawn for every epoch."""
    for epoch in range(spec.epochs):
        draws = stream(seed, "classifier order", epoch)
        order = np.argsort(np.asarray(lengths) + 8 * draws.random(len(lengths)), kind="stable")
        starts = draws.permutation(math.ceil(len(order) / spec.batch_size)) * spec.batch_size
        yield from (order[start : start + spec.batch_size] for start in starts)


def _vocabulary(texts: Iterable[str], size: int) -> dict[str, int]:
    """Ids of the most frequent words that occur in two texts or more, after the special tokens."""
    counts = Counter(word for text in set(texts) for word in set(words(text)))
    ranked = sorted((word for word, count in counts.items() if count > 1), key=lambda word: (-counts[word], word))
    return {word: index for index, word in enumerate([*_SPECIAL, *ranked][:size])}


def _build(spec: ClassifierSpec, vocabulary: int) -> PreTrainedModel:
    from transformers import BertConfig, BertForSequenceClassification

    return BertForSequenceClassification(
        BertConfig(
            vocab_size=vocabulary,
            hidden_size=spec.width,
            num_hidden_layers=spec.layers,
            num_attention_heads=spec.heads,
            intermediate_size=spec.feedforward,
            hidden_act="relu",
            hidden_dropout_prob=spec.dropout,
            attention_probs_dropout_prob=0.0,
            max_position_embeddings=2 * spec.max_words + 3,
            type_vocab_size=4,
            pad_token_id=_SPECIAL.index(_PAD),
            num_labels=2,
        )
    )
