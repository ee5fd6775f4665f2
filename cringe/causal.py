"""Decoder-only models."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cringe.attention_masks import causal_mask, takes_square_masks
from cringe.backbone_base import Backbone
from cringe.batch import Batch, Sources, positions, stack_rows
from cringe.data import Example
from cringe.seeding import torch_seed
from cringe.specs import ScratchBackbone
from cringe.tokenizer import BOS, EOS, PAD

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class CausalBackbone(Backbone):
    """A decoder-only model: documents, context and response are one sequence, the loss is on the response alone."""

    left_pads_source = True

    @classmethod
    def build(cls, spec: ScratchBackbone, tokenizer: PreTrainedTokenizerFast, *, seed: int) -> CausalBackbone:
        """A new model with random weights that depend on ``seed`` alone."""
        from transformers import LlamaConfig, LlamaForCausalLM

        pad_id, bos, eos = tokenizer.convert_tokens_to_ids([PAD, BOS, EOS])
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=spec.width,
            num_hidden_layers=spec.decoder_layers,
            num_attention_heads=spec.heads,
            num_key_value_heads=spec.heads,
            intermediate_size=spec.feedforward,
            attention_dropout=spec.dropout,
            max_position_embeddings=2 * (spec.documents * spec.max_document + spec.max_source + spec.max_target),
            tie_word_embeddings=True,
            pad_token_id=pad_id,
            bos_token_id=bos,
            eos_token_id=eos,
        )
        with torch_seed(seed, "init"):
            model = LlamaForCausalLM(config)
        return cls(model, tokenizer, spec)

    @property
    def dropout(self) -> float:
        """Probability of dropout in training."""
        names = ("attention_dropout", "resid_pdrop", "hidden_dropout")
        return max(float(getattr(self.model.config, name, 0.0) or 0.0) for name in names)

    def logits(self, batch: Batch) -> Tensor:
        """(N, V) logits of the batch's target tokens under teacher forcing."""
        hidden = stack_rows([self._teach(*part) for part in batch.parts()], batch.responses.shape[1])
        # Padding is half of a batch, and the vocabulary most of a small model: project what is needed only.
        logits: Tensor = self.model.get_output_embeddings()(hidden.flatten(0, 1).index_select(0, batch.tokens))
        return logits

    def _teach(self, sources: Sources, responses: Tensor) -> Tensor:
        """(B, T, d) states under teacher forcing, each that of the place before its target."""
        # Contexts are padded on the left, so token j of a response stands at S + j and is predicted at S + j - 1.
        ids = torch.cat([sources.ids, responses[:, :-1]], dim=1)
        mask = torch.cat([sources.mask, torch.ones_like(responses[:, :-1], dtype=torch.bool)], dim=1)
        states: Tensor = self.model.base_model(
            input_ids=ids,
            attention_mask=causal_mask(ids, mask) if takes_square_masks(self.model) else mask.long(),
            position_ids=positions(mask),
            use_cache=False,
        ).last_hidden_state
        return states[:, sources.ids.shape[1] - 1 :]

    def inputs(self, sources: Sources) -> dict[str, Any]:
        """The contexts as prompts, padded on the left."""
        return {"input_ids": sources.ids, "attention_mask": sources.mask.long()}

    def encode_sources(self, examples: Sequence[Example]) -> list[list[list[int]]]:
        """One sequence: the documents, best first, and then the context, which loses nothing to them."""
        documents = self.encode_documents(examples)
        contexts = self.encode_contexts(examples)
        return [[[*chain.from_iterable(found), *ids]] for found, ids in zip(documents, contexts, strict=True)]

    @property
    def longest_sequence(self) -> int:
        """Documents, context and response."""
        spec = self.spec
        return spec.documents * spec.max_document + spec.max_source + spec.max_target

    def prompt_length(self, source: Tensor) -> int:
        """All that is read before, its padding too."""
        return source.shape[1]

    def forward_flops(self, source_tokens: int, target_tokens: int) -> float:
        """See `Backbone.forward_flops`; the vocabulary is projected onto for target tokens only."""
        embeddings = self.model.get_input_embeddings().weight.numel()
        layers = sum(weight.numel() for weight in self.model.base_model.parameters()) - embeddings
        return 2.0 * (layers * (source_tokens + target_tokens) + embeddings * target_tokens)

    def _finish_context(self, ids: list[int]) -> list[int]:
        """The mark of the one who speaks next ends the context; one that is empty begins with BOS, or else EOS."""
        start = self._marks[True]
        first = self.tokenizer.bos_token_id if self.tokenizer.bos_token_id is not None else self.eos
        return [*(ids[-(self.spec.max_source - len(start)) :] or [first]), *start]
