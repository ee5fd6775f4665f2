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
    """States of the guide for rows of beams that move, so that a step costs one token a candidate.

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
        self._unread = True
        rows = len(contexts) * beams
        self._states = guide.room(rows, self._prompts.shape[1] + capacity + _CHUNK)
        # -1 is no token: what a row has not read equals nothing.
        self._tokens = torch.full((rows, capacity), -1, device=guide.device)
        self._asked = torch.full((rows, 1), -1, device=guide.device)
        self._flops = guide.forward_flops(1)

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
        if self._unread:
            self._read_prompts()
            self._unread = False
        parents, known = self._parents(rows, prefixes)
        first, length = self._prompts.shape[1], prefixes.shape[1]
        answered = self._answered(parents, prefixes, known)
        used = first + known + (0 if answered is None else self._asked.shape[1])
        if len(rows) == len(self._states[0, 0]):  # prompts stay where they are, and so do their states
            states = self._states
            if not torch.equal(parents, rows):
                read = states[..., first:used, :]
                read.copy_(read.index_select(2, parents))
        else:
            states = self._states.index_select(2, parents)
        if answered is not None:
            places = answered[:, None, None, None].expand(*states.shape[:4], 1, states.shape[5])
            states[..., first + known, :] = states[..., first + known : used, :].gather(4, places).squeeze(4)
            known = length
        answers = []
        for chunk in candidates.split(_CHUNK, dim=1):
            answers.append(self._ask(states, rows, prefixes[:, known:], chunk, known))
            known = length
        used = first + length + chunk.shape[1]
        if states is not self._states:
            self._states[..., first:used, :].index_copy_(2, rows, states[..., first:used, :])
        self._tokens[rows] = F.pad(prefixes, (0, self._tokens.shape[1] - length), value=-1)
        if chunk.shape[1] != self._asked.shape[1]:
            self._asked = chunk.new_full((len(self._tokens), chunk.shape[1]), -1)
        self._asked[rows] = chunk
        return F.logsigmoid(torch.cat(answers, dim=1)).to(home)

    def keep(self, prompts: Tensor) -> None:
        """Go on with the rows of these (b,) prompts alone, which are numbered anew."""
        prompts = prompts.to(self._guide.device)
        rows = (prompts[:, None] * self._beams + torch.arange(self._beams, device=prompts.device)).flatten()
        self._prompts, self._mask = self._prompts[prompts], self._mask[prompts]
        self._states = self._states.index_select(2, rows)
        self._tokens, self._asked = self._tokens[rows], self._asked[rows]

    def _read_prompts(self) -> None:
        """Read all prompts at once: one by one, when their rows are first asked about, they would cost more time."""
        ids, mask = self._prompts, self._mask
        length = ids.shape[1]
        own = torch.eye(length, dtype=torch.bool, device=ids.device)
        seen = (torch.ones_like(own).tril() & mask[:, None]) | own  # padding sees itself: nothing would be a NaN
        states = self._guide.room(len(ids), length)
        self._guide.extend(ids, positions(mask), seen[:, None], Slots(states, 0))
        self._states[..., :length, :] = states.repeat_interleave(self._beams, dim=2)
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

    def _answered(self, parents: Tensor, prefixes: Tensor, known: int) -> Tensor | None:
        """(R,) which of its parent's last candidates each row goes on with; None if any goes on with another token.

        The states of the candidates still lie behind those of the parent's prefix.
        """
        if known != prefixes.shape[1] - 1:
            return None
        asked = self._asked[parents] == prefixes[:, known:]
        asked &= (self._tokens[parents, known] < 0)[:, None]  # those of a longer prefix lie elsewhere
        return asked.int().argmax(dim=1) if asked.any(dim=1).all() else None

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
        # Added to the attention, for which a mask of bools would be turned into this in every layer.
        bias = torch.zeros_like(mask, dtype=states.dtype).masked_fill_(~mask, -torch.inf)[:, None]
        odds = self._guide.extend(torch.cat([fresh, candidates], dim=1), places, bias, slots)
        return odds[:, catch_up:]

    def _count(self, tokens: int) -> None:
        self._counts.forward_passes += tokens
        self._counts.flops += self._flops * tokens
