"""Is a new run worse than a reference? The rule of the gate.

Differences and their intervals are those of `evaluators.contrast`, with the variance of seeds and of dialogues. What
the gate asks is less than that: could the old code have made these numbers, on these prompts? So where both sides start
from the same warmed-up model, its p-values are those of `evaluators.contrast.seeds_contrast`, of a loss, one-sided.
Where the backbone differs (another processor, other packages, a change of the warm-up), seeds do not cover what
differs, and the two-sided p-values of the differences, which are mostly larger, stand in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from evaluators.limits import ALPHA
from evaluators.paired import holm

if TYPE_CHECKING:
    from evaluators.contrast import Contrast

LEAST_MARGIN = 2.0
"""Points of per cent, or of a score × 100: what is less is not worth stopping for, however sure."""
LEAST_SEEDS = 3
"""Of a reference: two seeds that happen to agree look as if seeds did not matter."""


class Check(NamedTuple):
    """A cell that both sides have, and what the gate makes of it."""

    table: str
    decoding: str
    row: str
    column: str
    """Title of the column."""
    key: str
    """Of the column (`table_model.TableColumn`)."""
    old: float
    new: float
    digits: int
    found: Contrast
    """New minus old, in the unit of the column."""
    between: float | None
    """Deviation between the reference's seeds, in that unit."""
    better: int
    """1 where more is better, −1 where less is, 0 where neither is."""
    gated: bool
    """Decided by what the reference and the column are, never by the new scores."""
    mark: str = ""
    """Of a number that is bad only as far as a mark (`table_model.EXPLAINED`) follows from it: that mark."""
    newly: bool = False
    """Has the new row the mark that the old one has not?"""
    least: float = LEAST_MARGIN
    by_seeds: Contrast | None = None
    """The same difference on these very prompts, where seeds are all that may differ."""

    @property
    def p(self) -> float | None:
        """Of no loss."""
        if self.by_seeds is None or self.by_seeds.p is None or not self.better:
            return self.found.p
        return self.by_seeds.p / 2 if self.loss > 0 else 1 - self.by_seeds.p / 2

    @property
    def margin(self) -> float:
        """What a loss must exceed: twice the deviation between the reference's seeds, and `least`."""
        return max(2 * (self.between or 0.0), self.least)

    @property
    def loss(self) -> float:
        """How much worse the new side is, above 0 if it is."""
        if self.mark:
            return abs(self.found.mean) if self.newly else 0.0
        return -self.better * self.found.mean


class Verdict(NamedTuple):
    """What is to be said of a cell."""

    p_holm: float | None
    """Adjusted for all gated cells; None of one that is not gated."""
    word: str
    """``fails``, or ``worse``, ``better`` or ``differs`` where the sides are told apart; else empty."""


def judge(checks: Sequence[Check]) -> list[Verdict]:
    """A verdict for each cell.

    A gated cell fails where it is worse by more than its margin, and significantly so: p, adjusted by Holm for all
    gated cells of all tables, is below 0.05. The margin does not enter the test; it keeps small losses out.
    """
    losses = _adjusted(checks, [check.p for check in checks])
    differences = _adjusted(checks, [check.found.p for check in checks])
    return [_verdict(check, losses.get(place), differences.get(place, 1.0)) for place, check in enumerate(checks)]


def _adjusted(checks: Sequence[Check], values: Sequence[float | None]) -> dict[int, float]:
    """By place, the p-values of gated cells, adjusted for each other."""
    tested = {place: p for place, p in enumerate(values) if p is not None and checks[place].gated}
    return {int(place): p for place, p in holm({str(place): p for place, p in tested.items()}).items()}


def _verdict(check: Check, loss: float | None, difference: float) -> Verdict:
    if loss is not None and loss < ALPHA and check.loss > check.margin:
        return Verdict(loss, "fails")
    if loss is not None and loss < ALPHA and check.better and check.loss > 0:
        return Verdict(loss, "worse")
    gain = check.better * check.found.mean
    return Verdict(loss, "" if difference >= ALPHA or gain < 0 else "better" if gain > 0 else "differs")
