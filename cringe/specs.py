"""What can be set, validated without waiting for torch. Every spec is frozen and goes whole into a stage's key."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Spec(BaseModel):
    """Base of all specs: frozen, closed, documented by the strings below its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


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


BackboneSpec = Annotated[ScratchBackbone | PretrainedBackbone, Field(discriminator="kind")]


class TrainingSettings(Spec):
    """How a model is trained; equal for all methods of a table."""

    updates: int = Field(ge=0)
    """Optimiser steps."""
    batch_size: int = Field(ge=1)
    """Examples of one optimiser step, over all micro-batches and processes."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Examples of one forward pass; lower it when memory runs out. The mathematics stay the same; with dropout, for
    which torch takes no draws of ours, the masks do not."""
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


class ClassifierSpec(Spec):
    """A guide or a judge: a small transformer from scratch that tells negative responses from others.

    With ``reads: own_turns`` it looks at pairs of an earlier turn of the responder and the response, and a response is
    as negative as its worst pair says (Nie et al. 2021, the structured utterance-based approach for DECODE).
    """

    reads: Literal["own_turns", "response"] = "own_turns"
    """What it sees: each of the responder's own earlier turns with the response, or the response alone."""
    vocabulary: int = Field(default=4000, ge=100)
    """Words; rarer ones share one token, but whether the other side says them too is still marked."""
    width: int = Field(default=64, ge=8)
    layers: int = Field(default=1, ge=1)
    heads: int = Field(default=4, ge=1)
    feedforward: int = Field(default=128, ge=8)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    max_words: int = Field(default=32, ge=4)
    """Words of each text; later ones are dropped."""
    epochs: int = Field(default=3, ge=1)
    batch_size: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    word_dropout: float = Field(default=0.15, ge=0, lt=1)
    """Share of words that are hidden in training, so that no single one decides."""
    mismatched: float = Field(default=0.3, ge=0)
    """Pairs added per negative pair: its response with a turn of another dialogue, which it cannot contradict. Without
    them a judge of contradictions mostly learns that people who contradict themselves write "don't" and "never"."""
    turns_per_dialogue: int = Field(default=4, ge=1)
    """Pairs that a response without a fault gives, at most."""

    @model_validator(mode="after")
    def _consistent(self) -> ClassifierSpec:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


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
