"""Backbones: a model, its tokenizer, and how examples become batches. Here they are built, loaded and found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import TypeAdapter

from cringe.backbone_base import HEAD, Backbone
from cringe.batch import pad, positions
from cringe.causal import CausalBackbone
from cringe.fusion import FusionBackbone
from cringe.seq2seq import BeamCache, Seq2SeqBackbone
from cringe.specs import BackboneSpec, PretrainedBackbone, ScratchBackbone
from cringe.tokenizer import BOS, EOS, OTHER, OWN, PAD, train_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = [
    "BOS",
    "EOS",
    "HEAD",
    "OTHER",
    "OWN",
    "PAD",
    "Backbone",
    "BeamCache",
    "CausalBackbone",
    "FusionBackbone",
    "Seq2SeqBackbone",
    "build_backbone",
    "load_backbone",
    "pad",
    "positions",
    "pretrained_backbone",
    "train_tokenizer",
]


def _family(spec: ScratchBackbone | PretrainedBackbone) -> type[Seq2SeqBackbone] | type[CausalBackbone]:
    """The class of a specification's models."""
    if spec.family == "causal":
        return CausalBackbone
    return FusionBackbone if spec.documents else Seq2SeqBackbone


def build_backbone(spec: ScratchBackbone, tokenizer: PreTrainedTokenizerFast, *, seed: int) -> Backbone:
    """A new model with random weights that depend on ``seed`` alone."""
    return _family(spec).build(spec, tokenizer, seed=seed)


def pretrained_backbone(spec: PretrainedBackbone) -> Backbone:
    """A model in single precision from a folder or the hub; safetensors or GGUF only, no code from there is run.

    Raises:
        ValueError: its tokenizer has no end token.
    """
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig, GgufConfig

    auto = AutoModelForSeq2SeqLM if spec.family == "seq2seq" else AutoModelForCausalLM
    dropout = {} if spec.dropout is None else {"dropout": spec.dropout}
    source = {"revision": spec.revision or "main", "trust_remote_code": False}
    weights: dict[str, Any] = {"use_safetensors": True}
    if spec.gguf_file is not None:
        source["gguf_file"] = spec.gguf_file
        # Unpacked, it is a plain model, which can be trained and saved; packed, it would fetch the hub's code to run.
        weights = {"quantization_config": GgufConfig(dequantize=True)}
    # A checkpoint may be stored in half precision, in which the small steps of a training are lost.
    model = auto.from_pretrained(spec.name, **source, **weights, **dropout, dtype=torch.float32)
    # The decoding is the table's to say: nothing of what a checkpoint brings may add to it.
    model.generation_config = GenerationConfig.from_model_config(model.config)
    return _family(spec)(model, AutoTokenizer.from_pretrained(spec.name, **source), spec)


def load_backbone(folder: Path) -> Backbone:
    """Read what `Backbone.save` wrote."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    spec = TypeAdapter(BackboneSpec).validate_json((folder / "backbone.json").read_text(encoding="utf-8"))
    auto = AutoModelForSeq2SeqLM if spec.family == "seq2seq" else AutoModelForCausalLM
    source = {"local_files_only": True, "trust_remote_code": False}
    model = auto.from_pretrained(folder, **source, use_safetensors=True)
    return _family(spec)(model, AutoTokenizer.from_pretrained(folder, **source), spec)
