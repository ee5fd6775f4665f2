"""Replies from a model, in batches, under one decoding specification for every method."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from transformers import (
    DynamicCache,
    EncoderDecoderCache,
    LogitsProcessor,
    LogitsProcessorList,
    TopPLogitsWarper,
)

from cringe.backbones import Seq2SeqBackbone
from cringe.counts import Counts
from cringe.data import Example
from cringe.seeding import stable_hash, uniforms
from cringe.specs import DecodingSpec

if TYPE_CHECKING:
    from cringe.trainer import Progress


class Reply(NamedTuple):
    """A generated response."""

    uid: str
    text: str
    tokens: int
    """Generated tokens, the end token among them."""


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


class SeededSampler(LogitsProcessor):
    """Turns greedy search into sampling: of each row it leaves the one token that the row's own draw falls on.

    The draw of row b at position t is a function of the seed, the example and t (`cringe.seeding.uniforms`); the token
    is found by inverting the cumulative distribution in the order of the vocabulary.

    Args:
        seed: of the draws.
        examples: B hashes that name the rows.
    """

    def __init__(self, *, seed: int, examples: Sequence[int]) -> None:
        self._seed = seed
        self._examples = examples
        self._start: int | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (B, V) as logits; all but one of each row become -inf."""
        if self._start is None:
            self._start = input_ids.shape[1]
        position = input_ids.shape[1] - self._start
        draws = uniforms(self._seed, "sample", step=0, examples=self._examples, positions=[position])
        cumulative = scores.double().softmax(dim=-1).cumsum(dim=-1)
        cumulative = cumulative / cumulative[:, -1:]
        chosen = (cumulative <= torch.from_numpy(draws).to(scores.device)).sum(dim=-1, keepdim=True)
        return torch.full_like(scores, -math.inf).scatter(-1, chosen, scores.gather(-1, chosen))


def generate(
    backbone: Seq2SeqBackbone,
    examples: Sequence[Example],
    spec: DecodingSpec,
    *,
    seed: int,
    counts: Counts | None = None,
    progress: Progress = lambda done, total, note: None,
    processors: Callable[[Sequence[Example]], Sequence[LogitsProcessor]] = lambda examples: (),
) -> list[Reply]:
    """Reply to each example's context.

    Contexts of like length share a batch; the replies come back in the order of ``examples``.

    Args:
        backbone: the model, in evaluation mode.
        examples: whose contexts to reply to.
        spec: how to decode.
        seed: of the sampling; without effect on beams.
        counts: a ledger to add the cost to.
        progress: told how far it is.
        processors: further logits processors for a batch of examples, such as a guide's.

    Raises:
        ValueError: the model has fewer positions than a reply may have tokens.
    """
    places = getattr(backbone.model.config, "max_position_embeddings", spec.max_new_tokens)
    if spec.max_new_tokens > places:
        raise ValueError(f"max_new_tokens {spec.max_new_tokens} is above the model's {places} positions")
    counts = counts if counts is not None else Counts()
    lengths = backbone.context_lengths(examples)
    order = sorted(range(len(examples)), key=lambda index: (lengths[index], examples[index].uid))
    replies: dict[int, Reply] = {}
    with counts.timed(), torch.inference_mode():
        for start in range(0, len(order), spec.batch_size):
            rows = order[start : start + spec.batch_size]
            batch = [examples[index] for index in rows]
            found = _generate_batch(backbone, batch, spec, seed, processors(batch))
            replies.update(zip(rows, found, strict=True))
            _count(counts, backbone, [lengths[index] for index in rows], found, spec)
            progress(len(replies), len(examples), "")
    return [replies[index] for index in range(len(examples))]


def _generate_batch(
    backbone: Seq2SeqBackbone,
    examples: Sequence[Example],
    spec: DecodingSpec,
    seed: int,
    processors: Sequence[LogitsProcessor],
) -> list[Reply]:
    steps = list(processors)
    if spec.strategy == "nucleus":
        hashes = [stable_hash(example.uid) for example in examples]
        steps += [TopPLogitsWarper(top_p=spec.top_p), SeededSampler(seed=seed, examples=hashes)]
    sequences = backbone.model.generate(
        **backbone.prompts(examples),
        logits_processor=LogitsProcessorList(steps),
        **_keywords(spec),
    )
    texts = backbone.decode(sequences)
    return [Reply(example.uid, text, tokens) for example, (text, tokens) in zip(examples, texts, strict=True)]


def _keywords(spec: DecodingSpec) -> dict[str, Any]:
    """The specification in the words of transformers' ``generate``."""
    beam = {"num_beams": spec.beams, "length_penalty": spec.length_penalty} if spec.beams > 1 else {}
    return beam | {
        "do_sample": False,
        "min_new_tokens": spec.min_new_tokens,
        "max_new_tokens": spec.max_new_tokens,
        "no_repeat_ngram_size": spec.no_repeat_ngram or None,
        "encoder_no_repeat_ngram_size": spec.no_context_ngram or None,
        # Off by default in transformers; without it a beam's score after a processor is no log-probability.
        "renormalize_logits": True,
        "use_cache": True,
        "past_key_values": BeamCache(),
    }


def _count(
    counts: Counts, backbone: Seq2SeqBackbone, lengths: Sequence[int], replies: Sequence[Reply], spec: DecodingSpec
) -> None:
    """A step feeds one token of every beam forwards, until the longest reply of the batch ends."""
    steps = max(reply.tokens for reply in replies)
    tokens = len(replies) * spec.beams * steps
    counts.examples += len(replies)
    counts.source_tokens += sum(lengths)
    counts.generated_tokens += sum(reply.tokens for reply in replies)
    counts.forward_passes += tokens
    counts.flops += backbone.forward_flops(sum(lengths), tokens)
