"""Encoder-decoders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DynamicCache, EncoderDecoderCache

from cringe.attention_masks import causal_mask, takes_square_masks
from cringe.backbone_base import Backbone
from cringe.batch import Batch, Sources, stack_rows
from cringe.seeding import torch_seed
from cringe.specs import ScratchBackbone
from cringe.tokenizer import BOS, EOS, PAD

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class Seq2SeqBackbone(Backbone):
    """An encoder-decoder: the context is read by the encoder, the response is the decoder's target."""

    left_pads_source = False

    @classmethod
    def build(cls, spec: ScratchBackbone, tokenizer: PreTrainedTokenizerFast, *, seed: int) -> Seq2SeqBackbone:
        """A new model with random weights that depend on ``seed`` alone."""
        from transformers import BlenderbotConfig, BlenderbotForConditionalGeneration

        pad_id, bos, eos = tokenizer.convert_tokens_to_ids([PAD, BOS, EOS])
        config = BlenderbotConfig(
            vocab_size=len(tokenizer),
            d_model=spec.width,
            encoder_layers=spec.encoder_layers,
            decoder_layers=spec.decoder_layers,
            encoder_attention_heads=spec.heads,
            decoder_attention_heads=spec.heads,
            encoder_ffn_dim=spec.feedforward,
            decoder_ffn_dim=spec.feedforward,
            dropout=spec.dropout,
            attention_dropout=0.0,
            activation_dropout=0.0,
            max_position_embeddings=max(spec.max_source + spec.max_document * bool(spec.documents), spec.max_target),
            pad_token_id=pad_id,
            bos_token_id=bos,
            eos_token_id=eos,
            decoder_start_token_id=bos,
            forced_eos_token_id=None,
        )
        with torch_seed(seed, "init"):
            model = BlenderbotForConditionalGeneration(config)
        return cls(model, tokenizer, spec)

    @property
    def dropout(self) -> float:
        """Probability of dropout in training."""
        return float(getattr(self.model.config, "dropout", getattr(self.model.config, "dropout_rate", 0.0)))

    def logits(self, batch: Batch) -> Tensor:
        """(N, V) logits of the batch's target tokens under teacher forcing."""
        if not hasattr(self.model, "final_logits_bias"):  # not of BART's family, and so with an output of its own kind
            output: Tensor = self.model(**self._teach(batch.sources, batch.responses)).logits
            return output.flatten(0, 1).index_select(0, batch.tokens)
        states = [self.model.model(**self._teach(*part)).last_hidden_state for part in batch.parts()]
        # Padding is half of a batch, and the vocabulary most of a small model: project what is needed only.
        hidden = stack_rows(states, batch.responses.shape[1]).flatten(0, 1).index_select(0, batch.tokens)
        if self.head is not None:  # which adds the constant itself
            logits: Tensor = self.head(hidden)
            return logits
        # Added by the product as it goes: a sum would copy the logits, and widen them where they are in half precision.
        return F.linear(hidden, self.model.lm_head.weight, self.model.final_logits_bias.squeeze(0))

    def _teach(self, sources: Sources, responses: Tensor) -> dict[str, Any]:
        """What the model's ``forward`` is told under teacher forcing."""
        start = torch.full_like(responses[:, :1], self.model.config.decoder_start_token_id)
        inputs = self.read(sources) | {
            "decoder_input_ids": torch.cat([start, responses[:, :-1]], dim=1),
            "use_cache": False,
        }
        if takes_square_masks(self.model):
            inputs["attention_mask"] = inputs["attention_mask"].bool()[:, None, None, :]
            inputs["decoder_attention_mask"] = causal_mask(responses)
        return inputs

    def read(self, sources: Sources) -> dict[str, Any]:
        """What the model's ``forward`` is told of the contexts: here their ids, for it to encode."""
        return {"input_ids": sources.ids, "attention_mask": sources.mask.long()}

    def inputs(self, sources: Sources) -> dict[str, Any]:
        """The contexts for the encoder, and a cache that beams can share."""
        return {**self.read(sources), "past_key_values": BeamCache()}

    def prompt_length(self, source: Tensor) -> int:
        """The decoder's start token."""
        return 1

    @property
    def longest_sequence(self) -> int:
        """A context."""
        return self.spec.max_source

    def forward_flops(self, source_tokens: int, target_tokens: int) -> float:
        """See `Backbone.forward_flops`; encoder and decoder see tokens of their own."""
        encoder, decoder = _computing(self.model.get_encoder()), _computing(self.model.get_decoder())
        output = self.model.get_input_embeddings().weight.numel()  # one projection onto the vocabulary
        return 2.0 * (encoder * source_tokens + (decoder + output) * target_tokens)

    def _finish_context(self, ids: list[int]) -> list[int]:
        return ids[-self.spec.max_source :] or [self.eos]


class BeamCache(EncoderDecoderCache):
    """A cache that re-orders the decoder's own states alone when beams change places.

    All beams of a prompt have the same cross-attention states, and beams never leave their prompt: moving those states
    about copies the larger part of the cache at every step and changes nothing.
    """

    def __init__(self) -> None:
        super().__init__(DynamicCache(), DynamicCache())

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Put the self-attention states of beam ``beam_idx[i]`` at i."""
        self.self_attention_cache.reorder_cache(beam_idx)


def _computing(model: nn.Module) -> int:
    """Number of weights but for those that are looked up: of tokens and of positions."""
    parts = (part for part in model.modules() if not isinstance(part, nn.Embedding))
    return sum(weight.numel() for part in parts for weight in part.parameters(recurse=False))
