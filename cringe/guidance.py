"""Steering a plain model while it decodes: re-ranking, FUDGE and PACER."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import LogitsProcessor

from cringe.blocks import RowProcessor, Shortlist
from cringe.data import Example
from cringe.generation import Reply, Steering
from cringe.guide_cache import GuideCache
from cringe.losses import largest
from cringe.prefix_guide import PrefixGuide
from cringe.seeding import stable_hash, uniforms
from cringe.specs import DecodingSpec

if TYPE_CHECKING:
    from cringe.backbones import Backbone
    from cringe.classifier import Classifier

__all__ = ["Fudge", "FudgeProcessor", "Pacer", "PacerProcessor", "PrefixGuide", "Reranking"]


class FudgeProcessor(RowProcessor):
    """FUDGE (Yang & Klein 2021): of each row's top tokens, ``log p + λ · log P(positive | prefix + token)``.

    All other tokens become -inf, and so the rest is renormalised. Logits and log-probabilities are both welcome.

    Args:
        cache: the guide, with the rows' contexts.
        weight: λ.
        top: how many tokens of each row are considered; 0 for all.
        end: the token after which a row has ended, and is left alone.
    """

    def __init__(self, cache: GuideCache, *, weight: float, top: int, end: int) -> None:
        self._cache = cache
        self._weight = weight
        self._top = top
        self._end = end
        self._start: int | None = None

    def keep(self, prompts: Tensor) -> None:
        """Go on with these (b,) prompts alone."""
        self._cache.keep(prompts)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Steer scores (R, V) of the tokens after ``input_ids`` (R, L), which begin with what the first call saw."""
        responses, rows = self._rows(input_ids)
        if not len(rows):
            return scores
        everyone = len(rows) == len(scores)
        some = scores if everyone else scores[rows]
        tokens, log_p = self._steer(rows, responses if everyone else responses[rows], some)
        steered = torch.full_like(some, -math.inf).scatter_(1, tokens, log_p)
        return steered if everyone else scores.index_copy(0, rows, steered)

    def shortlist(self, input_ids: Tensor, scores: Tensor) -> Shortlist | None:
        """The top tokens, where all rows are steered."""
        responses, rows = self._rows(input_ids)
        if len(rows) < len(scores) or not self._top:
            return None
        return Shortlist(*self._steer(rows, responses, scores))

    def _rows(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """The responses in sequences (R, L), and which of them to steer."""
        if self._start is None:
            self._start = input_ids.shape[1]
        responses = input_ids[:, self._start :]
        return responses, self.guided(responses).nonzero().squeeze(1)

    def guided(self, responses: Tensor) -> Tensor:
        """(R,) bool: which rows to steer, from their tokens so far (R, L)."""
        return (responses != self._end).all(dim=1)

    def _steer(self, rows: Tensor, responses: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """(R, n) tokens and their log p, of the scores (R, V) of some rows."""
        vocabulary = scores.shape[1]
        if 0 < self._top < vocabulary:
            log_p, tokens = largest(scores.float(), self._top)
        else:
            log_p = scores.float()
            tokens = torch.arange(vocabulary, device=scores.device).expand_as(scores)
        # Tokens that were banned stay at -inf: what is added to them is finite. That log p may be off by a constant
        # makes no difference to what is normalised in the end.
        steered = log_p + self._weight * self._cache.log_probabilities(rows, responses, tokens)
        return tokens, steered.log_softmax(dim=-1).to(scores.dtype)


class PacerProcessor(FudgeProcessor):
    """PACER (Shuster et al. 2022): FUDGE on a random share of the steps; on the others scores stay as they are.

    The coin of a step is a function of the seed, the example and the number of tokens so far, the same for all beams
    of an example. Rows that are not guided cost no work of the guide.

    Args:
        cache: the guide, with the rows' contexts.
        weight: λ.
        top: how many tokens of each row are considered; 0 for all.
        end: the token after which a row has ended.
        rate: share of the steps.
        seed: of the coins.
        examples: hashes that name the prompts.
        beams: rows of each prompt.
    """

    def __init__(
        self,
        cache: GuideCache,
        *,
        weight: float,
        top: int,
        end: int,
        rate: float,
        seed: int,
        examples: Sequence[int],
        beams: int,
    ) -> None:
        super().__init__(cache, weight=weight, top=top, end=end)
        self._rate = rate
        self._seed = seed
        self._examples = examples
        self._beams = beams

    def keep(self, prompts: Tensor) -> None:
        """Go on with these (b,) prompts alone."""
        super().keep(prompts)
        self._examples = [self._examples[prompt] for prompt in prompts.tolist()]

    def guided(self, responses: Tensor) -> Tensor:
        """(R,) bool: rows that have not ended and whose prompt's coin says so."""
        step = responses.shape[1]
        draws = uniforms(self._seed, "pacer", step=0, examples=self._examples, positions=[step])[:, 0]
        coins = torch.from_numpy(draws < self._rate).to(responses.device).repeat_interleave(self._beams)
        return coins & super().guided(responses)


class Reranking(Steering):
    """The best of several finished replies, by a sequence guide that reads context and reply.

    Args:
        guide: says how likely a response is negative.
        candidates: most replies to choose from: the best beams, or independent samples.
    """

    def __init__(self, guide: Classifier, *, candidates: int) -> None:
        super().__init__()
        self._guide = guide
        self._candidates = candidates

    def candidates(self, spec: DecodingSpec) -> int:
        """As many as the decoding can tell apart: samples without end, one for each beam, greedy search's only one."""
        return self._candidates if spec.sampled else min(self._candidates, spec.beams)

    def select(self, examples: Sequence[Example], candidates: Sequence[Sequence[Reply]]) -> list[Reply]:
        """The least negative candidate of each prompt; of equals the one that came first."""
        replies = [
            replace(example, response=reply.text, evidence=(), negative_spans=())
            for example, found in zip(examples, candidates, strict=True)
            for reply in found
        ]
        self.counts.forward_passes += len(replies)
        negative = iter(self._guide.probabilities(replies))
        scored = [[(next(negative), reply) for reply in found] for found in candidates]
        return [min(found, key=lambda pair: pair[0])[1] for found in scored]


class Fudge(Steering):
    """FUDGE at every step. Each token that the guide reads counts as a forward pass of its.

    Args:
        guide: the prefix guide.
        weight: λ.
        top: how many tokens of each row are considered; 0 for all.
    """

    def __init__(self, guide: PrefixGuide, *, weight: float, top: int) -> None:
        super().__init__()
        self._guide = guide
        self._weight = weight
        self._top = top

    def processors(self, backbone: Backbone, examples: Sequence[Example], spec: DecodingSpec) -> list[LogitsProcessor]:
        """One, with a fresh cache."""
        cache = self._cache(backbone, examples, spec)
        return [FudgeProcessor(cache, weight=self._weight, top=self._top, end=backbone.eos)]

    def _cache(self, backbone: Backbone, examples: Sequence[Example], spec: DecodingSpec) -> GuideCache:
        return GuideCache(
            self._guide.to(backbone.device),
            backbone.encode_contexts(examples),
            beams=spec.beams,
            capacity=spec.max_new_tokens,
            counts=self.counts,
        )


class Pacer(Fudge):
    """FUDGE on a random share of the steps, and the finished replies re-ranked.

    Args:
        guide: the prefix guide.
        weight: λ.
        top: how many tokens of each row are considered; 0 for all.
        rate: share of the steps.
        seed: of the coins.
        reranking: of the finished replies; None for none.
    """

    def __init__(
        self, guide: PrefixGuide, *, weight: float, top: int, rate: float, seed: int, reranking: Reranking | None
    ) -> None:
        super().__init__(guide, weight=weight, top=top)
        self._rate = rate
        self._seed = seed
        self._last = reranking if reranking is not None else Steering()
        self._last.counts = self.counts

    def candidates(self, spec: DecodingSpec) -> int:
        """The re-ranking's."""
        return self._last.candidates(spec)

    def processors(self, backbone: Backbone, examples: Sequence[Example], spec: DecodingSpec) -> list[LogitsProcessor]:
        """One, with a fresh cache; samples of one prompt share their coins as beams do."""
        return [
            PacerProcessor(
                self._cache(backbone, examples, spec),
                weight=self._weight,
                top=self._top,
                end=backbone.eos,
                rate=self._rate,
                seed=self._seed,
                examples=[stable_hash(example.uid) for example in examples],
                beams=spec.beams,
            )
        ]

    def select(self, examples: Sequence[Example], candidates: Sequence[Sequence[Reply]]) -> list[Reply]:
        """The re-ranking's choice."""
        return self._last.select(examples, candidates)
