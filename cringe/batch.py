"""What a model is given in one forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cringe.seeding import uniforms


class Sources(NamedTuple):
    """What a model reads before it replies: R sequences of up to S tokens, one for each of B examples or several."""

    ids: Tensor
    """(R, S) token ids."""
    mask: Tensor
    """(R, S) bool, False at padding."""
    fused: Tensor | None = None
    """(B, F) places of an example's tokens in the flattened (R, S) ones, -1 for none; None where R is B and each
    example has one sequence."""


class Rows(NamedTuple):
    """Examples of a batch that are of like length and stand side by side: a group that is padded to its own longest."""

    first: int
    last: int
    """One past the last row."""
    left: int
    """Columns of the source that are padding in all of these rows: before the tokens, and after them."""
    right: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """B examples as tensors: S source tokens, T target tokens, padded on the right.

    Of the B·T places for target tokens, N hold one that is scored: all tokens of the responses but those of which
    nothing is known, outside of the spans of a negative response. Logits and losses are computed at those N alone, and
    they are lined up by feedback: unlabelled tokens first, then positive, then negative ones. So the parts are slices,
    and nothing is copied to take them apart.
    """

    source: Tensor
    """(B, S) token ids of the contexts; (R, S) of the contexts with their documents where those are fused."""
    source_mask: Tensor
    """Of the shape of ``source``, bool, False at padding."""
    fused: Tensor | None = None
    """Which places of ``source`` an example's decoder looks at (`Sources.fused`)."""
    responses: Tensor
    """(B, T) token ids of the responses, with their end token; padding holds the padding token."""
    tokens: Tensor
    """(N,) places of the scored target tokens in the flattened responses: unlabelled, positive, negative."""
    unlabelled: int
    """How many of the N tokens are unlabelled; they come first."""
    liked: int
    """How many of the N tokens are unlabelled or positive; the rest are negative."""
    examples: tuple[int, ...]
    """B hashes that name the examples, for draws."""
    lengths: tuple[int, ...]
    """B numbers of target tokens, scored or not; their sum, N or more, is what a loss is divided by."""
    source_tokens: int
    """Places of ``source`` that hold a token and not padding."""
    groups: tuple[Rows, ...] = ()
    """All rows in groups of like length, which a model may compute one after the other; none for one group."""
    seed: int
    step: int
    """The optimiser step that the batch is a part of."""
    generated: bool = False
    """Are the responses the model's own (see `Method.prepare_batch`)?"""

    @property
    def sources(self) -> Sources:
        """What the model reads."""
        return Sources(self.source, self.source_mask, self.fused)

    @property
    def targets(self) -> Tensor:
        """(N,) ids of the scored target tokens."""
        return self.responses.reshape(-1).index_select(0, self.tokens)

    def parts(self) -> Iterator[tuple[Sources, Tensor]]:
        """The contexts and the responses (b, t) of each group, in order, without the padding that all of it has."""
        if not self.groups:
            yield self.sources, self.responses
        for first, last, left, right in self.groups:
            rows, columns = slice(first, last), slice(left, self.source.shape[1] - right)
            sources = Sources(self.source[rows, columns], self.source_mask[rows, columns])
            yield sources, self.responses[rows, : max(1, *self.lengths[rows])]

    def uniforms(self, purpose: str, rows: slice) -> Tensor:
        """Uniform draws in [0, 1) for some of the N tokens.

        A token's draw depends on the seed, the purpose, the step, its example and its position: not on padding, nor
        on how the step's examples were cut into batches.

        Args:
            purpose: what is drawn.
            rows: which of the N tokens.

        Returns:
            float64, one draw a token, on the device of the batch.
        """
        positions = range(self.responses.shape[1])
        draws = uniforms(self.seed, purpose, step=self.step, examples=self.examples, positions=positions)
        return send(torch.from_numpy(draws), self.tokens.device).reshape(-1).index_select(0, self.tokens[rows])

    def preceding(self, rows: slice, most: int | None = None) -> Tensor:
        """The tokens of the response before each of some tokens.

        Args:
            rows: n of the N tokens.
            most: how far to look back; to the beginning when not given.

        Returns:
            (n, T) token ids, −1 for places that are not before the token or too far back.
        """
        length = self.responses.shape[1]
        places = self.tokens[rows]
        position = (places % length).unsqueeze(-1)
        column = torch.arange(length, device=places.device)
        seen = column < position
        if most is not None:
            seen &= column >= position - most
        return self.responses.index_select(0, places // length).masked_fill(~seen, -1)

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        names = ("source", "source_mask", "fused", "responses", "tokens")
        tensors = {name: getattr(self, name) for name in names}
        return replace(self, **{name: send(x, device) for name, x in tensors.items() if x is not None})


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device, which nobody waits for: a GPU fetches it by itself from memory that cannot be paged out."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def positions(mask: Tensor) -> Tensor:
    """(B, L) positions of tokens in sequences that are padded on the left, from their mask (B, L)."""
    return (mask.long().cumsum(dim=1) - 1).clamp(min=0)


def pad(sequences: Sequence[Sequence[int]], padding: int, *, left: bool = False) -> tuple[Tensor, Tensor]:
    """(B, L) ids padded on one side, and their (B, L) mask."""
    lengths = np.asarray([len(ids) for ids in sequences])
    columns = np.arange(lengths.max())
    mask = columns >= columns.size - lengths[:, None] if left else columns < lengths[:, None]
    rows = np.full(mask.shape, padding, dtype=np.int64)
    rows[mask] = np.fromiter(chain.from_iterable(sequences), dtype=np.int64, count=int(lengths.sum()))
    return torch.from_numpy(rows), torch.from_numpy(mask)


def stack_rows(parts: Sequence[Tensor], length: int) -> Tensor:
    """(B, length, d) of the parts (b, t, d) of a batch, zeros where a part is shorter."""
    if len(parts) == 1:
        return parts[0]
    return torch.cat([F.pad(part, (0, 0, 0, length - part.shape[1])) for part in parts])


def group_by_length(lengths: Sequence[tuple[int, int]], groups: int) -> tuple[list[int], list[int]]:
    """How to cut rows into groups such that padding each group to its own longest leaves the fewest places.

    The rows are sorted by their first length; of all cuts of that order into as many parts, or fewer where there are
    not as many rows, one with the fewest places is found by dynamic programming.

    Args:
        lengths: of each of n rows, such as its source and its target tokens.
        groups: 1 or more.

    Returns:
        The order of the rows, and where in it each group ends. A function of ``lengths`` and ``groups`` alone.
    """
    count = len(lengths)
    order = sorted(range(count), key=lambda row: (*lengths[row], row))
    source, target = np.asarray([lengths[row] for row in order]).T
    first, last = np.ogrid[:count, :count]
    longest = np.maximum.accumulate(np.where(last >= first, target, 0), axis=1)
    places = np.where(last >= first, (last - first + 1) * (source + longest), np.inf)
    fewest, starts = places[0], list[NDArray[np.int64]]()
    for _ in range(min(groups, count) - 1):
        # The last group begins behind row ``first``, and what comes before it is cut as well as it can be.
        totals = fewest[:-1, None] + places[1:]
        starts.append(totals.argmin(axis=0) + 1)
        fewest = totals.min(axis=0)
    ends = [count]
    for begins in reversed(starts):
        ends.append(int(begins[ends[-1] - 1]))
    return order, ends[::-1]
