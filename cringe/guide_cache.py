"""The prefix guide's states while a search goes on, for rows that move about without a word."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cringe.backbones import positions
from cringe.counts import Counts
from cringe.prefix_guide import PrefixGuide

_CHUNK = 64
"""Candidates of a row that go through the guide at once; more would cost memory and save nothing."""


class Slots:
    """What an attention layer takes for a cache: room for states in which new ones are written at a given column.

    Args:
        states: (layers, 2, R, heads, C, d) keys and values.
        start: the column of the first new state; those before it are what the new tokens may look back at.
    """

    def __init__(self, states: Tensor, start: int) -> None:
        self._states = states
        self._start = start

    def update(self, key: Tensor, value: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Write (R, heads, Q, d) keys and values; return (R, heads, start + Q, d) of each, without a copy."""
        stop = self._start + key.shape[2]
        keys, values = self._states[layer].unbind(0)
        keys[:, :, self._start : stop] = key
        values[:, :, self._start : stop] = value
        return keys[:, :, :stop], values[:, :, :stop]


class GuideCache:
    """States of the guide for rows of beams that move, so that a step costs one token a candidate and one a row.

    Nobody says how beams moved. Of each row the tokens are kept that it was last asked about; its parent is the row of
    the same prompt that shares the longest beginning with it now, and whatever that one has not read is caught up on.
    So nothing needs to hold of the search: rows may swap, end, start anew, or stay away for some steps.

    All candidates of a row go through the guide side by side in one sequence, at one position: each sees the row's
    prefix and itself, so the states of a prefix are not copied for each of them. Their own states are overwritten.

    Args:
        guide: the model.
        contexts: of each prompt, encoded by the backbone.
        beams: rows of each prompt; row r belongs to prompt ``r // beams``.
        capacity: most tokens that a prefix will have.
        counts: a ledger to add the cost to.
    """

    def __init__(
        self,
        guide: PrefixGuide,
        contexts: Sequence[Sequence[int]],
        *,
        beams: int,
        capacity: int,
        counts: Counts | None = None,
    ) -> None:
        self._guide = guide
        self._beams = beams
        self._counts = counts if counts is not None else Counts()
        self._prompts, self._mask = guide.prompts(contexts)
        self._ready = torch.zeros(len(contexts), dtype=torch.bool, device=guide.device)
        rows = len(contexts) * beams
        self._states = guide.room(rows, self._prompts.shape[1] + capacity + _CHUNK)
        # -1 is no token: what a row has not read equals nothing.
        self._tokens = torch.full((rows, capacity), -1, device=guide.device)

    def log_probabilities(self, rows: Tensor, prefixes: Tensor, candidates: Tensor) -> Tensor:
        """Ask about one more token of some rows; the others cost nothing.

        Args:
            rows: (R,) their numbers, rising.
            prefixes: (R, L) response tokens of each so far.
            candidates: (R, n) tokens that may follow.

        Returns:
            (R, n) log P(positive | context, prefix, candidate), float32.
        """
        home = rows.device
        rows, prefixes, candidates = (tensor.to(self._guide.device) for tensor in (rows, prefixes, candidates))
        self._read_prompts(rows // self._beams)
        parents, known = self._parents(rows, prefixes)
        first, length = self._prompts.shape[1], prefixes.shape[1]
        if len(rows) == len(self._states[0, 0]):  # prompts stay where they are, and so do their states
            states = self._states
            read = states[..., first : first + known, :]
            if not torch.equal(parents, rows):
                read.copy_(read.index_select(2, parents))
        else:
            states = self._states.index_select(2, parents)
        answers = []
        for chunk in candidates.split(_CHUNK, dim=1):
            answers.append(self._ask(states, rows, prefixes[:, known:], chunk, known))
            known = length
        if states is not self._states:
            fresh = states[..., first : first + length, :]
            self._states[..., first : first + length, :].index_copy_(2, rows, fresh)
        self._tokens[rows] = F.pad(prefixes, (0, self._tokens.shape[1] - length), value=-1)
        return F.logsigmoid(torch.cat(answers, dim=1)).to(home)

    def _read_prompts(self, examples: Tensor) -> None:
        """Read the prompts among these (R,) that were not read yet."""
        examples = examples.unique()
        examples = examples[~self._ready[examples]]
        if not len(examples):
            return
        ids, mask = self._prompts[examples], self._mask[examples]
        length = ids.shape[1]
        own = torch.eye(length, dtype=torch.bool, device=ids.device)
        seen = (torch.ones_like(own).tril() & mask[:, None]) | own  # padding sees itself: nothing would be a NaN
        states = self._guide.room(len(examples), length)
        self._guide.extend(ids, positions(mask), seen[:, None], Slots(states, 0))
        self._ready[examples] = True
        rows = (examples[:, None] * self._beams + torch.arange(self._beams, device=ids.device)).flatten()
        self._states[..., :length, :].index_copy_(2, rows, states.repeat_interleave(self._beams, dim=2))
        self._count(int(mask.sum()))

    def _parents(self, rows: Tensor, prefixes: Tensor) -> tuple[Tensor, int]:
        """(R,) the rows to take states from, and how many tokens of each prefix all of those have read."""
        beams = torch.arange(self._beams, device=rows.device)
        members = rows[:, None] // self._beams * self._beams + beams
        same = self._tokens[members, : prefixes.shape[1]] == prefixes[:, None]
        shared = same.long().cumprod(dim=-1).sum(dim=-1)
        # Of equals the row itself, for then nothing moves.
        chosen = (2 * shared + (members == rows[:, None])).argmax(dim=1, keepdim=True)
        return members.gather(1, chosen).squeeze(1), int(shared.gather(1, chosen).min())

    def _ask(self, states: Tensor, rows: Tensor, fresh: Tensor, candidates: Tensor, known: int) -> Tensor:
        """Read (R, m) fresh tokens of each row after its known ones, and then (R, n) candidates side by side.

        Returns:
            (R, n) log-odds after each candidate.
        """
        examples = rows // self._beams
        count, (catch_up, size) = len(rows), (fresh.shape[1], candidates.shape[1])
        length = catch_up + size
        own = torch.eye(length, dtype=torch.bool, device=rows.device)
        order = torch.arange(length, device=rows.device)
        before = (order[None, :] < order[:, None]) & (order < catch_up)  # candidates are before nothing
        prompt = self._mask[examples][:, None].expand(-1, length, -1)
        read = prompt.new_ones(()).expand(count, length, known)
        mask = torch.cat([prompt, read, (before | own).expand(count, -1, -1)], dim=2)
        places = self._mask[examples].sum(dim=1, keepdim=True) + known + order.clamp(max=catch_up)
        slots = Slots(states, self._prompts.shape[1] + known)
        self._count(count * length)
        odds = self._guide.extend(torch.cat([fresh, candidates], dim=1), places, mask[:, None], slots)
        return odds[:, catch_up:]

    def _count(self, tokens: int) -> None:
        self._counts.forward_passes += tokens
        self._counts.flops += self._guide.forward_flops(tokens)
