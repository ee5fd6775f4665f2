"""Replies from a model, in batches, under one decoding specification for every method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, TopPLogitsWarper

from cringe.backbones import Backbone, CausalBackbone, FusionBackbone
from cringe.batch import pad
from cringe.beam import BeamSearch, supports
from cringe.blocks import ContextBlock, RepeatBlock
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


class _Generated(NamedTuple):
    """Of one batch."""

    candidates: list[list[Reply]]
    """Of each prompt, best first."""
    fed: int
    """Tokens that went through the decoder."""


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


class Steering:
    """What a method adds to decoding; as it is, nothing."""

    def __init__(self) -> None:
        self.counts = Counts()
        """What guides spent on it, for a line of the ledger beside the generator's."""

    def candidates(self, spec: DecodingSpec) -> int:
        """How many finished replies to a prompt `select` chooses from."""
        return 1

    def processors(self, backbone: Backbone, examples: Sequence[Example], spec: DecodingSpec) -> list[LogitsProcessor]:
        """Logits processors for one batch, after those of the specification and before its sampling.

        They see rows of beams: row r belongs to prompt ``r // spec.beams``.
        """
        return []

    def select(self, examples: Sequence[Example], candidates: Sequence[Sequence[Reply]]) -> list[Reply]:
        """One of the candidates for each prompt; they come best first."""
        return [replies[0] for replies in candidates]


def generate(
    backbone: Backbone,
    examples: Sequence[Example],
    spec: DecodingSpec,
    *,
    seed: int,
    steering: Steering | None = None,
    counts: Counts | None = None,
    progress: Progress = lambda done, total, note: None,
) -> list[Reply]:
    """Reply to each example's context.

    Contexts of like length share a batch; the replies come back in the order of ``examples``.

    Args:
        backbone: the model, in evaluation mode.
        examples: whose contexts to reply to.
        spec: how to decode.
        seed: of the sampling; without effect on beams.
        steering: what a method adds.
        counts: a ledger to add the cost to.
        progress: told how far it is.

    Raises:
        ValueError: the model has fewer positions than a reply may have tokens.
    """
    places = getattr(backbone.model.config, "max_position_embeddings", spec.max_new_tokens)
    if spec.max_new_tokens > places:
        raise ValueError(f"max_new_tokens {spec.max_new_tokens} is above the model's {places} positions")
    counts = counts if counts is not None else Counts()
    steering = steering if steering is not None else Steering()
    lengths = backbone.context_lengths(examples)
    order = sorted(range(len(examples)), key=lambda index: (lengths[index], examples[index].uid))
    replies: dict[int, Reply] = {}
    with counts.timed(), torch.inference_mode():
        for start in range(0, len(order), spec.batch_size):
            rows = order[start : start + spec.batch_size]
            batch = [examples[index] for index in rows]
            generated = _generate_batch(backbone, batch, spec, seed, steering)
            _count(counts, backbone, [lengths[index] for index in rows], generated)
            replies.update(zip(rows, steering.select(batch, generated.candidates), strict=True))
            progress(len(replies), len(examples), "")
    return [replies[index] for index in range(len(examples))]


def _generate_batch(
    backbone: Backbone, examples: Sequence[Example], spec: DecodingSpec, seed: int, steering: Steering
) -> _Generated:
    count = steering.candidates(spec)
    samples = count if spec.sampled else 1
    rows = [example for example in examples for _ in range(samples)]
    inputs = backbone.generation_inputs(rows)
    prompt = backbone.prompt_length(inputs["attention_mask"])
    steps = _blocks(backbone, rows, spec, prompt) + steering.processors(backbone, rows, spec)
    if spec.sampled:
        numbers = [index % samples for index in range(len(rows))]
        hashes = [stable_hash(row.uid, *[n] * bool(n)) for row, n in zip(rows, numbers, strict=True)]
        steps += [TopPLogitsWarper(top_p=spec.top_p), SeededSampler(seed=seed, examples=hashes)]
    search = None
    if spec.beams > 1 and supports(backbone.model):
        search = BeamSearch(beams=spec.beams, length_penalty=spec.length_penalty, returned=count)
    sequences = backbone.model.generate(
        **inputs, logits_processor=LogitsProcessorList(steps), **_keywords(spec), **_strategy(spec, search, count)
    )
    texts = backbone.decode(sequences[:, prompt:])
    candidates = [
        [Reply(example.uid, *texts[index * count + rank]) for rank in range(count)]
        for index, example in enumerate(examples)
    ]
    longest = max(reply.tokens for replies in candidates for reply in replies)
    return _Generated(candidates, search.fed if search else len(rows) * spec.beams * longest)


def _blocks(backbone: Backbone, examples: Sequence[Example], spec: DecodingSpec, prompt: int) -> list[LogitsProcessor]:
    """The n-gram blocks, after ``prompt`` tokens. A reply may quote documents; they are no context."""
    if not isinstance(backbone, CausalBackbone | FusionBackbone):
        prompt = 0  # the start token counts, as it does in transformers' own blocks
    found: list[LogitsProcessor] = []
    if spec.no_repeat_ngram:
        found.append(RepeatBlock(spec.no_repeat_ngram, prompt=prompt))
    if spec.no_context_ngram:
        contexts, _ = pad(backbone.encode_contexts(examples), backbone.pad, left=backbone.left_pads_source)
        found.append(ContextBlock(spec.no_context_ngram, contexts.to(backbone.device), prompt=prompt))
    return found


def _keywords(spec: DecodingSpec) -> dict[str, Any]:
    """What greedy search, sampling and beams have in common, in the words of transformers' ``generate``."""
    return {
        "do_sample": False,
        "no_repeat_ngram_size": 0,  # the blocks are ours
        "encoder_no_repeat_ngram_size": 0,
        "min_new_tokens": spec.min_new_tokens,
        "max_new_tokens": spec.max_new_tokens,
        # Off by default in transformers; without it a beam's score after a processor is no log-probability.
        "renormalize_logits": True,
        "use_cache": True,
    }


def _strategy(spec: DecodingSpec, search: BeamSearch | None, returned: int) -> dict[str, Any]:
    """What is particular to a strategy: beams are made by the search where there is one, or else by transformers."""
    if spec.beams == 1 or search is not None:
        return {"num_beams": 1, "custom_generate": search}
    return {"num_beams": spec.beams, "length_penalty": spec.length_penalty, "num_return_sequences": returned}


def _count(counts: Counts, backbone: Backbone, lengths: Sequence[int], generated: _Generated) -> None:
    """Add the cost of a batch, whose contexts have these lengths."""
    counts.examples += len(generated.candidates)
    counts.source_tokens += sum(lengths)
    counts.generated_tokens += sum(reply.tokens for replies in generated.candidates for reply in replies)
    counts.forward_passes += generated.fed
    counts.flops += backbone.forward_flops(sum(lengths), generated.fed)
