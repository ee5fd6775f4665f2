"""What a model learns from: examples, their feedback, and the order in which they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from math import gcd

import numpy as np

from cringe.seeding import stable_hash, stream


class Feedback(StrEnum):
    """What is known of a response: people liked it, disliked it, or said nothing."""

    POSITIVE = "positive"
    NEGATIVE = "negative"
    UNLABELLED = "unlabelled"


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """A response in its dialogue, and what is known about it.

    The same record serves two views: a model learns to generate ``response`` from ``context``; a classifier
    learns to tell the ``feedback`` from both.
    """

    uid: str
    """Unique within a task, stable across machines and independent of the order of rows."""
    context: tuple[str, ...]
    """The turns before the response, oldest first; empty for a text that stands alone."""
    response: str
    feedback: Feedback = Feedback.UNLABELLED
    group: str
    """What clusters examples for intervals: the id of the dialogue."""
    own: tuple[bool, ...]
    """For each turn of ``context``: was it said by the speaker of ``response``?"""
    evidence: tuple[int, ...] = ()
    """Indices into ``context`` of the turns on which a negative label rests, where a data set names them."""
    negative_spans: tuple[tuple[int, int], ...] = ()
    """Feedback on parts of the response: ranges of characters.

    Of a negative response with spans the tokens inside are negative, and nothing is known of the others: they have no
    loss. Of any other response the tokens inside are negative too, and the others keep its ``feedback``.
    """
    documents: tuple[str, ...] = ()
    """Texts beside the dialogue that the reply may draw on, best first."""

    def __post_init__(self) -> None:
        if len(self.own) != len(self.context):
            raise ValueError(f"{self.uid}: {len(self.context)} context turns but {len(self.own)} speaker marks")
        if any(not 0 <= index < len(self.context) for index in self.evidence):
            raise ValueError(f"{self.uid}: evidence {self.evidence} outside of {len(self.context)} context turns")
        if any(not 0 <= start < stop <= len(self.response) for start, stop in self.negative_spans):
            raise ValueError(f"{self.uid}: spans {self.negative_spans} outside of {len(self.response)} characters")


@dataclass(frozen=True, kw_only=True, slots=True)
class Stratum:
    """A part of the training data that has a fixed share of every batch, so that weights of losses mean the same."""

    source: str
    feedback: Feedback
    weight: int
    """Share of the batch, relative to the weights of the other strata."""

    @property
    def name(self) -> str:
        """For messages and for the draws of its order."""
        return f"{self.source}/{self.feedback}"


def batch_shares(strata: Sequence[Stratum], batch_size: int) -> list[int]:
    """Examples that each stratum has in a batch of ``batch_size``.

    Raises:
        ValueError: when the weights do not divide the batch into whole, non-empty parts; a share that is rounded
            would silently change what α means.
    """
    divisor = gcd(*(stratum.weight for stratum in strata))
    total = sum(stratum.weight for stratum in strata) // divisor
    if batch_size <= 0 or batch_size % total:
        mixture = " : ".join(str(stratum.weight) for stratum in strata)
        raise ValueError(f"a batch of {batch_size} cannot be cut {mixture}; take a multiple of {total}")
    return [batch_size * stratum.weight // divisor // total for stratum in strata]


class StratifiedSampler:
    """Batches in an order that depends on the seed alone, each with the same share of every stratum.

    Each stratum is walked through in a permutation of its own, drawn anew for every epoch of that stratum. The batch
    of a step is a function of ``(seed, step)``: a run that resumes sees the batches that it would have seen.

    With a window of several batches these hold the same examples, but each stratum deals its own by length: one batch
    gets the shortest of every stratum, another the longest, in an order that is drawn. A window is no longer than half
    an epoch of the smallest pool, so that copies of an example, which are of one length, do not keep meeting.

    Args:
        sources: examples by the name of their source, in any order.
        strata: parts of every batch.
        batch_size: a multiple of the strata's shares.
        seed: of the order.
        window: batches that are dealt at once.
        lengths: what examples are dealt by, such as `Backbone.lengths`; needed with a window of 2 or more.
    """

    def __init__(
        self,
        sources: Mapping[str, Sequence[Example]],
        strata: Sequence[Stratum],
        *,
        batch_size: int,
        seed: int,
        window: int = 1,
        lengths: Callable[[Sequence[Example]], Sequence[int]] | None = None,
    ) -> None:
        if window > 1 and lengths is None:
            raise ValueError(f"a window of {window} batches is dealt by length: give `lengths`")
        self._seed = seed
        self._shares = batch_shares(strata, batch_size)
        self._pools: list[tuple[Stratum, list[Example]]] = []
        for stratum in strata:
            pool = sorted(
                (example for example in sources[stratum.source] if example.feedback == stratum.feedback),
                key=lambda example: example.uid,
            )
            if not pool:
                raise ValueError(f"the training data holds no example of {stratum.name}")
            self._pools.append((stratum, pool))
        fitting = (len(pool) // (2 * share) for (_, pool), share in zip(self._pools, self._shares, strict=True))
        self._window = max(1, min(window, *fitting))
        self._lengths = lengths
        self._order = lru_cache(maxsize=2 * len(strata))(self._permutation)
        self._dealt = lru_cache(maxsize=1)(self._deal)

    def _permutation(self, stratum: str, size: int, epoch: int) -> np.ndarray:
        return stream(self._seed, "order", stratum, epoch).permutation(size)

    def _walk(self, stratum: Stratum, pool: Sequence[Example], places: range) -> list[Example]:
        """What stands at some places of a stratum's epochs, one after the other."""
        found = (divmod(place, len(pool)) for place in places)
        return [pool[int(self._order(stratum.name, len(pool), epoch)[offset])] for epoch, offset in found]

    def _deal(self, window: int) -> list[list[list[Example]]]:
        """For each batch of a window what it gets from each stratum."""
        count = self._window
        order = stream(self._seed, "window", window).permutation(count) if count > 1 else range(1)
        parts: list[list[list[Example]]] = [[] for _ in range(count)]
        for (stratum, pool), share in zip(self._pools, self._shares, strict=True):
            examples = self._walk(stratum, pool, range(window * count * share, (window + 1) * count * share))
            if count > 1 and self._lengths is not None:
                lengths = self._lengths(examples)
                examples = [examples[index] for index in np.argsort(lengths, kind="stable")]
            for rank, place in enumerate(order):
                parts[place].append(examples[rank * share : (rank + 1) * share])
        return parts

    def batch(self, step: int) -> list[Example]:
        """The examples of optimiser step ``step`` (from 0), strata interleaved so that any cut of it is mixed."""
        window, place = divmod(step, self._window)
        chosen = [
            ((index + 0.5) / len(part), position, example)
            for position, part in enumerate(self._dealt(window)[place])
            for index, example in enumerate(part)
        ]
        return [example for *_, example in sorted(chosen, key=lambda item: item[:2])]

    def batches(self, start: int, stop: int) -> Iterator[list[Example]]:
        """The batches of steps ``start`` to ``stop - 1``."""
        return (self.batch(step) for step in range(start, stop))


def halves(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """Cut into two disjoint halves such that examples with the same response fall into the same one.

    Which half a response belongs to depends on its text alone (case and outer blanks aside), so neither row order
    nor the other examples matter.
    """
    first: list[Example] = []
    second: list[Example] = []
    for example in examples:
        (second if stable_hash("half", normalised(example.response)) % 2 else first).append(example)
    return first, second


def normalised(text: str) -> str:
    """The form under which two responses count as the same text."""
    return " ".join(text.casefold().split())
