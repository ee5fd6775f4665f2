"""What a beam search knows of its beams and of the replies that have ended: tensors alone, no model."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from cringe.losses import largest

if TYPE_CHECKING:
    from transformers import GenerationConfig

_NEVER = -1e9
"""What transformers takes for the score of a beam that cannot be."""


class _Replies(NamedTuple):
    """The best replies to each prompt so far, best first."""

    ids: Tensor
    """(B, K, most) ids, the prompt before them and filling after them."""
    scores: Tensor
    """(B, K) Σ log p / length^α; `_NEVER` where there is none yet."""
    lengths: Tensor
    """(B, K) tokens, the end token among them; 0 where there is none yet."""


class BeamState:
    """K beams and up to K replies for each of B prompts, by the rules of transformers' beam search.

    Args:
        prompts: (B, P) ids.
        config: as ``generate`` prepared it: most tokens, end tokens, padding.
        beams: K.
        penalty: α.
    """

    def __init__(self, prompts: Tensor, config: GenerationConfig, *, beams: int, penalty: float) -> None:
        self._start = self._length = prompts.shape[1]
        self._most = int(config.max_length)
        self._beams, self._penalty = beams, penalty
        self._ends: Tensor = config._eos_token_tensor if config._eos_token_tensor is not None else prompts.new_empty(0)
        self._candidates = max(2, 1 + len(self._ends)) * beams
        shape, device = (len(prompts), beams), prompts.device
        self._ids = torch.full((*shape, self._most), _filling(config), device=device)
        self._ids[:, :, : self._start] = prompts[:, None]
        self.scores = torch.full(shape, _NEVER, device=device)
        """(B, K) Σ log p of each beam. At the start all beams are the first one."""
        self.scores[:, 0] = 0.0
        self.tokens = self.parents = torch.zeros(shape, dtype=torch.long, device=device)
        """(B, K) each: the newest token of a beam, and the beam that it went on from."""
        none = torch.zeros(shape, dtype=torch.long, device=device)
        self._replies = _Replies(self._ids, torch.full(shape, _NEVER, device=device), none)
        self._open = torch.ones(len(prompts), dtype=torch.bool, device=device)
        self._names = torch.arange(len(prompts), device=device)
        self._all = _Replies(*(part.clone() for part in self._replies))

    @property
    def steps(self) -> int:
        """Most tokens that are still to come."""
        return self._most - self._length

    @property
    def rows(self) -> Tensor:
        """(B·K, L) ids of all beams, their prompts among them."""
        return self._ids[:, :, : self._length].flatten(0, 1)

    def extend(self, log_p: Tensor, tokens: Tensor | None = None) -> Tensor:
        """Go one token on.

        Args:
            log_p: (B·K, n) log-probabilities of the beams' next tokens.
            tokens: (B·K, n) which tokens these are; the whole vocabulary in its order when not given.

        Returns:
            Which of the B prompts are not done, rising; none if the replies have become too long.
        """
        if tokens is not None:
            # Each beam offers as many as are kept of it; what a shorter list rules out stands in for what it lacks.
            lacking = (0, max(0, self._candidates // self._beams - tokens.shape[1]))
            log_p, tokens = F.pad(log_p, lacking, value=-torch.inf), F.pad(tokens, lacking)
        totals = (log_p.unflatten(0, self.scores.shape) + self.scores[..., None]).flatten(1)
        scores, places = largest(totals, self._candidates)
        parents, found = places // log_p.shape[1], places % log_p.shape[1]
        if tokens is not None:
            found = tokens.reshape(totals.shape).gather(1, places)
        ids = _pick(self._ids, parents)
        ids[:, :, self._length] = found
        self._length += 1
        last = self._length == self._most
        ends = torch.ones_like(found, dtype=torch.bool) if last else torch.isin(found, self._ends)
        chosen = (scores + ends * _NEVER).topk(self._beams).indices
        self._ids = _pick(ids, chosen)
        self.scores = (scores + ends * _NEVER).gather(1, chosen)
        self.tokens, self.parents = found.gather(1, chosen), parents.gather(1, chosen)
        ends[:, self._beams :] = False  # what is no better than K others is there to go on, and never to end
        self._finish(ids, scores, ends)
        return self._open.new_empty(0).nonzero() if last else self._open.nonzero().squeeze(1)

    def keep(self, prompts: Tensor) -> None:
        """Go on with these (b,) prompts alone; the replies to the others are kept."""
        self._store()
        self._ids, self.scores, self.tokens, self.parents, self._open, self._names = (
            part[prompts] for part in (self._ids, self.scores, self.tokens, self.parents, self._open, self._names)
        )
        self._replies = _Replies(*(part[prompts] for part in self._replies))

    def replies(self, count: int) -> tuple[Tensor, Tensor]:
        """The best replies to each prompt, best first.

        Returns:
            (B · count, P + L) ids, as long as the longest of them, and (B · count,) scores.
        """
        self._store()
        ids, scores, lengths = (part[:, :count].flatten(0, 1) for part in self._all)
        return ids[:, : self._start + int(lengths.max())], scores

    def _finish(self, ids: Tensor, scores: Tensor, ends: Tensor) -> None:
        """Put those of the candidates that end among the replies, and see which prompts are done."""
        made = self._length - self._start
        old = self._replies
        finals = scores / made**self._penalty + ~self._open[:, None] * _NEVER + ~ends * _NEVER
        merged = torch.cat([old.scores, finals], dim=1)
        chosen = merged.topk(self._beams).indices
        lengths = torch.cat([old.lengths, ends * made], dim=1).gather(1, chosen)
        self._replies = _Replies(_pick(torch.cat([old.ids, ids], dim=1), chosen), merged.gather(1, chosen), lengths)
        worst = self._replies.scores.min(dim=1).values
        self._open = self._open & (self.scores[:, 0] / made**self._penalty > worst)

    def _store(self) -> None:
        for whole, part in zip(self._all, self._replies, strict=True):
            whole[self._names] = part


def _pick(ids: Tensor, rows: Tensor) -> Tensor:
    """(B, n, L) of ids (B, m, L) the rows (B, n) of each prompt."""
    return ids.gather(1, rows[..., None].expand(-1, -1, ids.shape[2]))


def _filling(config: GenerationConfig) -> int:
    """What transformers puts after the end of a sequence: padding, but the end token where padding is token 0."""
    padding, ends = config._pad_token_tensor, config._eos_token_tensor
    return int(padding or ends[0]) if ends is not None else -1
