"""Fusion-in-decoder: documents are encoded apart and read together (Izacard & Grave 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from cringe.attention_masks import takes_square_masks
from cringe.batch import Sources, pad
from cringe.data import Example
from cringe.seq2seq import Seq2SeqBackbone


class FusionBackbone(Seq2SeqBackbone):
    """An encoder-decoder that reads an example's context once with each of its documents.

    The encoder reads a document and the context after it, apart from the other documents: its cost grows with their
    number and not with its square. The decoder, unchanged, attends to the states of all of them, one after the other.
    No position tells documents from each other, so their order changes nothing. Without a document the context is read
    alone.
    """

    def encode_sources(self, examples: Sequence[Example]) -> list[list[list[int]]]:
        """The context after each document; the context alone where there is none."""
        documents = self.encode_documents(examples)
        contexts = self.encode_contexts(examples)
        return [
            [[*document, *ids] for document in found] or [ids] for found, ids in zip(documents, contexts, strict=True)
        ]

    def join(self, sequences: Sequence[Sequence[list[int]]]) -> Sources:
        """All sequences of all examples, and which places belong to which example."""
        ids, mask = pad([ids for rows in sequences for ids in rows], self.pad)
        starts = iter(range(0, ids.numel(), ids.shape[1]))
        places = [
            [start + column for row in rows for start in [next(starts)] for column in range(len(row))]
            for rows in sequences
        ]
        return Sources(ids, mask, pad(places, -1)[0])

    def read(self, sources: Sources) -> dict[str, Any]:
        """The encoder's states, (B, F, d), those of an example side by side without the padding in between."""
        fused = sources.fused
        if fused is None:  # a sequence an example
            return super().read(sources)
        encoder = self.model.get_encoder()
        mask = sources.mask[:, None, None, :] if takes_square_masks(self.model) else sources.mask.long()
        states: Tensor = encoder(input_ids=sources.ids, attention_mask=mask).last_hidden_state
        joined = states.flatten(0, 1).index_select(0, fused.clamp(min=0).flatten()).unflatten(0, fused.shape)
        return {
            "encoder_outputs": BaseModelOutput(last_hidden_state=joined),
            "attention_mask": (fused >= 0).long(),
        }

    @property
    def longest_sequence(self) -> int:
        """A document and a context."""
        return self.spec.max_document + self.spec.max_source
