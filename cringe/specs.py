"""What can be set, validated without waiting for torch. Every spec is frozen and goes whole into a stage's key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    model_validator,
)
from pydantic_core import PydanticCustomError

Reads = Literal["own_turns", "response", "last_turn"]
"""What a classifier sees: pairs of each earlier turn of the responder and the response, the response alone, or the
newest turn, whoever said it, and the response."""


class Spec(BaseModel):
    """Base of all specs: frozen, closed, documented by the strings below its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_is_a_number(cls, values: Any) -> Any:  # noqa: ANN401 - before it is validated
        """Refuse ``true`` for 1: whoever wrote it meant something else."""
        for name, field in cls.model_fields.items() if isinstance(values, Mapping) else ():
            value = values.get(name)
            inside = value if isinstance(value, list | tuple) else [value]
            if "bool" not in str(field.annotation) and any(isinstance(one, bool) for one in inside):
                raise PydanticCustomError("truth", "true and false are no values of {field}", {"field": name})
        return values


class ScratchBackbone(Spec):
    """A model with random weights, of a well-known shape."""

    kind: Literal["scratch"] = "scratch"
    family: Literal["seq2seq", "causal"] = "seq2seq"
    """``seq2seq``: BlenderBot's encoder-decoder (Roller et al. 2021; the CRINGE paper uses its 400M). ``causal``:
    Llama's decoder (Touvron et al. 2023), the context before the response in one sequence."""
    vocabulary: int = Field(ge=300)
    """Tokens of the byte-level BPE, its 256 bytes and 5 special tokens among them."""
    lowercase: bool = True
    """Fold case before tokenising; ConvAI2 has none, and a small vocabulary is not spent on it."""
    width: int = Field(ge=8)
    """Model dimension, a multiple of ``heads``."""
    encoder_layers: int = Field(ge=0)
    """Of no use to a causal model, which has none."""
    decoder_layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    feedforward: int = Field(ge=8)
    """Dimension of the feed-forward layers."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    max_source: int = Field(ge=8)
    """Tokens of context; older ones are dropped."""
    max_target: int = Field(ge=4)
    """Tokens of response in training; later ones are dropped, the end token with them."""
    documents: int = Field(default=0, ge=0)
    """How many of an example's documents are read. With 1 or more an encoder-decoder is a fusion-in-decoder (Izacard &
    Grave 2021): each is encoded with the context, apart from the others. A causal model reads them first."""
    max_document: int = Field(default=64, ge=8)
    """Tokens of each document, the mark before it among them; later ones are dropped."""

    @model_validator(mode="after")
    def _consistent(self) -> ScratchBackbone:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.family == "seq2seq" and self.encoder_layers < 1:
            raise ValueError("an encoder-decoder needs encoder_layers of 1 or more")
        return self


class PretrainedBackbone(Spec):
    """A pretrained model from a local folder or a hub id, weights in safetensors or GGUF, no remote code."""

    kind: Literal["pretrained"]
    family: Literal["seq2seq", "causal"] = "seq2seq"
    name: str = Field(min_length=1)
    """A local folder or a hub id, such as ``facebook/blenderbot-400M-distill``, the paper's."""
    gguf_file: str | None = None
    """The file in the folder that holds the weights, where they are in GGUF."""
    revision: str | None = None
    """Commit on the hub; pin it, for a key can only hold what it is told."""
    turn_separator: str = "\n"
    """What stands between two turns of a context. ParlAI's BlenderBot uses two spaces."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """In training; the model's own when not given."""
    max_source: int = Field(ge=8)
    """Tokens of context; older ones are dropped. 128 in BlenderBot."""
    max_target: int = Field(ge=4)
    """Tokens of response in training; later ones are dropped, the end token with them."""
    documents: int = Field(default=0, ge=0)
    """How many of an example's documents are read. With 1 or more an encoder-decoder is a fusion-in-decoder (Izacard &
    Grave 2021): each is encoded with the context, apart from the others. A causal model reads them first."""
    max_document: int = Field(default=64, ge=8)
    """Tokens of each document, the mark before it among them; later ones are dropped. An encoder needs places
    for it beside ``max_source``."""


BackboneSpec = Annotated[ScratchBackbone | PretrainedBackbone, Field(discriminator="kind")]


class TrainingSettings(Spec):
    """How a model is trained; equal for all methods of a table."""

    updates: int = Field(ge=0)
    """Optimiser steps."""
    batch_size: int = Field(ge=1)
    """Examples of one optimiser step, over all micro-batches and processes."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Examples of one forward pass, at most; all of the step, or of a process's share of it, when not given. Lower it
    when memory runs out. The mathematics stay the same; with dropout, for which torch takes no draws of ours, the masks
    do not."""
    length_groups: int = Field(default=1, ge=1)
    """Groups of examples of like length that a forward pass is cut into, each padded to its own longest, so that less
    padding is computed. Which examples a step holds and the mathematics stay the same; with dropout, the masks do not.
    It pays where a layer is slow beside a call of it: from about a million parameters on CPU."""
    length_window: int = Field(default=1, ge=1)
    """Batches that are filled at once by length: their examples are those of the drawn order, but the long ones come
    together and the short ones too, the share of each kind staying what it is; 1 keeps the drawn order. Less padding,
    and batches of less variety."""
    learning_rate: float = Field(gt=0)
    warmup_updates: int = Field(default=0, ge=0)
    """Steps over which the learning rate rises linearly."""
    schedule: Literal["linear", "constant"] = "linear"
    """After the rise: fall linearly, to reach 0 one step after the last, or stay."""
    clip_norm: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient."""
    weight_decay: float = Field(default=0.0, ge=0)
    reduction: Literal["joint", "separate"] = "joint"
    """``joint``: one denominator, all target tokens of the step, as in the released code of the CRINGE loss.
    ``separate``: tokens of negatives are averaged apart from the others; for comparison."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"


class DecodingSpec(Spec):
    """How replies are decoded; equal for all methods of a table."""

    strategy: Literal["beam", "nucleus", "greedy"]
    beams: int = Field(default=1, ge=1)
    """Width of the beam; 10 in the released evaluation."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus: the smallest set of tokens whose probabilities add up to this (Holtzman et al. 2020)."""
    min_new_tokens: int = Field(default=1, ge=0)
    """Tokens before the end token may come; 20 in the released evaluation."""
    max_new_tokens: int = Field(ge=1)
    no_repeat_ngram: int = Field(default=0, ge=0)
    """No n-gram of this length occurs twice in a reply; 0 for no such rule, 3 in the released evaluation."""
    no_context_ngram: int = Field(default=0, ge=0)
    """No n-gram of this length is copied from the context; 0 for no such rule, 3 in the released evaluation."""
    length_penalty: float = 0.65
    """α in the score of a finished beam, Σ log p / length^α: transformers' formula, the end token counted in the
    length. ParlAI's default is the same number in another formula, Σ log p / ((2 + length) / 6)^α, its start token
    counted too."""
    batch_size: int = Field(default=32, ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> DecodingSpec:
        if self.min_new_tokens > self.max_new_tokens:
            raise ValueError(f"min_new_tokens {self.min_new_tokens} is above max_new_tokens {self.max_new_tokens}")
        if (self.strategy == "beam") != (self.beams > 1):
            raise ValueError(f"strategy {self.strategy} does not go with beams {self.beams}")
        if self.strategy != "nucleus" and self.top_p != 1.0:
            raise ValueError(f"top_p {self.top_p} is for strategy nucleus, not {self.strategy}")
        return self

    @property
    def sampled(self) -> bool:
        """Does a reply depend on the seed?"""
        return self.strategy == "nucleus"

    def sentence(self) -> str:
        """The specification in words, for the table."""
        how = {
            "beam": f"beam {self.beams}, score Σ log p / length^{self.length_penalty:g}",
            "nucleus": f"nucleus {self.top_p:g}, one sample",
            "greedy": "greedy",
        }[self.strategy]
        blocks = [f"no repeated {self.no_repeat_ngram}-gram"] if self.no_repeat_ngram else []
        blocks += [f"no {self.no_context_ngram}-gram of the context"] if self.no_context_ngram else []
        return "; ".join([how, f"{self.min_new_tokens} to {self.max_new_tokens} new tokens", *blocks])


class ClassifierSettings(Spec):
    """What guides and judges of every kind have in common: what they see, and which pairs they are trained on.

    With ``reads: own_turns`` a classifier looks at pairs of an earlier turn of the responder and the response, and a
    response is as negative as its worst pair says (Nie et al. 2021, the structured utterance-based approach for
    DECODE).
    """

    reads: Reads | None = None
    """What it sees; what the task declares, when not given."""
    mismatched: float = Field(default=0.3, ge=0)
    """Pairs added per negative pair: its response with a turn of another dialogue, which it cannot contradict. Without
    them a judge of contradictions mostly learns that people who contradict themselves write "don't" and "never". For
    ``own_turns`` alone: a reply that does not fit the last turn is a bad one."""
    turns_per_dialogue: int = Field(default=4, ge=1)
    """Pairs that a response without a fault gives, at most."""

    def sentence(self) -> str:
        """What it is and sees, for the table."""
        return self._what() + (f" on {self.reads.replace('_', ' ')}" if self.reads else "")

    def _what(self) -> str:
        return "classifier"


class ScratchClassifier(ClassifierSettings):
    """A small transformer trained from scratch."""

    kind: Literal["scratch"] = "scratch"
    vocabulary: int = Field(default=8000, ge=100)
    """Words; rarer ones share one token, but whether the other side says them too is still marked."""
    width: int = Field(default=64, ge=8)
    layers: int = Field(default=1, ge=1)
    heads: int = Field(default=4, ge=1)
    feedforward: int = Field(default=128, ge=8)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    max_words: int = Field(default=128, ge=4)
    """Words of each text; later ones are dropped."""
    epochs: int = Field(default=3, ge=1)
    batch_size: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    word_dropout: float = Field(default=0.15, ge=0, lt=1)
    """Share of words that are hidden in training, so that no single one decides."""

    @model_validator(mode="after")
    def _consistent(self) -> ScratchClassifier:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self

    def _what(self) -> str:
        return f"{self.layers}-layer transformer from scratch"


class LinearClassifier(ClassifierSettings):
    """Logistic regression on hashed n-grams of words and characters: trained in seconds, a cheap second opinion."""

    kind: Literal["linear"]
    columns: int = Field(default=2**18, ge=2**8, le=2**24)
    """Columns that the n-grams of each group (words, characters, words of both sides) are hashed to."""
    max_words: int = Field(default=256, ge=4)
    """Words of each text; later ones are dropped."""
    C: float = Field(default=1.0, gt=0)
    """Inverse strength of the penalty on squared weights, scikit-learn's."""

    def _what(self) -> str:
        return "linear n-gram model"


class PretrainedClassifier(ClassifierSettings):
    """A pretrained encoder, fine-tuned: from a local folder or a hub id, weights in safetensors, no remote code."""

    kind: Literal["pretrained"]
    name: str = Field(min_length=1)
    """A local folder or a hub id, such as ``sentence-transformers/all-MiniLM-L6-v2``."""
    revision: str | None = None
    """Commit on the hub; pin it, for a key can only hold what it is told."""
    max_tokens: int = Field(default=128, ge=8)
    """Tokens of a pair; the longer of both texts is cut."""
    epochs: int = Field(default=2, ge=1)
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=5e-5, gt=0)

    def _what(self) -> str:
        return f"fine-tuned {'/'.join(PurePath(self.name).parts[-2:])}"


def _kind(values: object) -> str:
    """The tag of a classifier's settings; they are a small transformer's where they do not say."""
    if isinstance(values, Mapping):
        return str(values.get("kind", "scratch"))
    return str(getattr(values, "kind", ""))


AnyClassifier = Annotated[
    Annotated[ScratchClassifier, Tag("scratch")]
    | Annotated[LinearClassifier, Tag("linear")]
    | Annotated[PretrainedClassifier, Tag("pretrained")],
    Discriminator(
        _kind,
        custom_error_type="classifier_kind",
        custom_error_message="kind should be 'scratch', 'linear' or 'pretrained'",
    ),
]
"""A guide or a judge: a model that tells negative responses from others."""


def classifier_spec(values: object) -> AnyClassifier:
    """The specification that settings stand for, by their ``kind``.

    Raises:
        ValidationError: they are not of that kind.
    """
    spec: AnyClassifier = TypeAdapter(AnyClassifier).validate_python(values)
    return spec


class PrefixGuideSpec(Spec):
    """A prefix guide: a small causal transformer from scratch that reads a context and the beginning of a response.

    It says whether the whole response will be a positive one (Yang & Klein 2021, FUDGE). It shares the backbone's
    tokenizer and has no projection onto the vocabulary, so a token costs it its layers alone: at the defaults 41 k
    weights, and 450 k for a step of a beam with the top 10 tokens. That is a tenth of a backbone with 4.5 M weights
    behind its embeddings, and less of a larger one; beside a tiny one it is not small.
    """

    width: int = Field(default=64, ge=8)
    """Model dimension, an even number of times ``heads``."""
    layers: int = Field(default=1, ge=1)
    heads: int = Field(default=4, ge=1)
    feedforward: int = Field(default=128, ge=8)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Of embeddings, in training."""
    max_context: int = Field(default=48, ge=1)
    """Tokens of context that it reads, the newest ones."""
    epochs: int = Field(default=2, ge=1)
    batch_size: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)

    @model_validator(mode="after")
    def _consistent(self) -> PrefixGuideSpec:
        if self.width % (2 * self.heads):  # rotary positions turn pairs of a head's dimensions
            raise ValueError(f"width {self.width} is not a multiple of twice heads {self.heads}")
        return self
