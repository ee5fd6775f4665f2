"""What a reply must not do, for many rows at once: say an n-gram twice or after the context, end too early."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import LogitsProcessor


class Shortlist(NamedTuple):
    """All that may come next, where it is little."""

    tokens: Tensor
    """(R, n) of each row, no token twice."""
    log_p: Tensor
    """(R, n) log-probabilities; their sum is 1 in each row."""


class RowProcessor(LogitsProcessor):
    """A processor of each row by itself, to which logits and log-probabilities are one.

    Called with (R, L) ids and (R, V) scores of what comes after them, it gives new scores. A constant that is added to
    all scores of a row may change no more than such a constant, and rows may leave on the way.
    """

    def keep(self, prompts: Tensor) -> None:
        """Go on with these (b,) prompts alone, of those that rows stand for side by side: the others are done."""

    def shortlist(self, input_ids: Tensor, scores: Tensor) -> Shortlist | None:
        """What a call leaves, where it leaves few tokens in every row: it saves work over the whole vocabulary."""
        return None


class RepeatBlock(RowProcessor):
    """Forbids each token that would end an n-gram which the row holds already.

    What transformers' ``NoRepeatNGramLogitsProcessor`` forbids, found by comparing tensors: no loop over rows.

    Args:
        size: n.
        prompt: tokens at the beginning of each row that are no part of the reply.
    """

    def __init__(self, size: int, *, prompt: int = 0) -> None:
        self._size = size
        self._prompt = prompt

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (R, V) of the tokens after ``input_ids`` (R, L), with -inf where a token is forbidden."""
        ids = input_ids[:, self._prompt :]
        count = ids.shape[1] - self._size + 1  # n-grams that are whole
        if count < 1:
            return scores
        ends = ids[:, self._size - 1 :]
        same = torch.ones_like(ends, dtype=torch.bool)
        for offset in range(self._size - 1):
            same &= ids[:, offset : offset + count] == ids[:, count + offset, None]
        return _forbid(scores, ends, same)


class ContextBlock(RowProcessor):
    """Forbids each token that would end an n-gram of the row's context.

    What transformers' ``EncoderNoRepeatNGramLogitsProcessor`` forbids; padding counts as tokens, as it does there.

    Args:
        size: n.
        contexts: (B, S) ids; rows are as many for each context, side by side.
        prompt: tokens at the beginning of each row that are no part of the reply.
    """

    def __init__(self, size: int, contexts: Tensor, *, prompt: int = 0) -> None:
        self._size = size
        self._contexts = contexts
        self._prompt = prompt

    def keep(self, prompts: Tensor) -> None:
        """Go on with these (b,) contexts alone: the rows of the others are gone."""
        self._contexts = self._contexts[prompts]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (R, V) of the tokens after ``input_ids`` (R, L), with -inf where a token is forbidden."""
        contexts = self._contexts.to(input_ids.device)
        ids = input_ids[:, self._prompt :].unflatten(0, (len(contexts), -1))
        count, start = contexts.shape[1] - self._size + 1, ids.shape[2] - self._size + 1
        if count < 1 or start < 0:
            return scores
        ends = contexts[:, None, self._size - 1 :].expand(-1, ids.shape[1], -1)
        same = torch.ones_like(ends, dtype=torch.bool)
        for offset in range(self._size - 1):
            same &= contexts[:, None, offset : offset + count] == ids[:, :, start + offset, None]
        return _forbid(scores, ends.flatten(0, 1), same.flatten(0, 1))


class EndBlock(RowProcessor):
    """Forbids the end of a sequence that is not long enough; transformers' own does the same at ten times the cost.

    Args:
        least: tokens that a sequence has before it may end, its prompt among them.
        ends: (E,) ids of the end tokens.
    """

    def __init__(self, least: int, ends: Tensor) -> None:
        self._least = least
        self._ends = ends

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (R, V) of the tokens after ``input_ids`` (R, L)."""
        return scores.index_fill(1, self._ends, -math.inf) if input_ids.shape[1] < self._least else scores


def _forbid(scores: Tensor, tokens: Tensor, where: Tensor) -> Tensor:
    """A copy of scores (R, V) with -inf at those of the tokens (R, n) that are marked; a token may stand twice."""
    penalty = torch.zeros_like(where, dtype=scores.dtype).masked_fill(where, -math.inf)
    return scores.scatter_add(1, tokens, penalty)
