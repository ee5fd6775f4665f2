"""For how long a command begins something new: what it has begun by then is finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from math import inf

NAMED = 3
"""Of what was not begun, how many are named; the others are counted."""


class TimeLimit:
    """A number of minutes from now on. It is no part of any key: what is done later is what would have been done.

    Args:
        minutes: None for no limit.
        clock: seconds that never go back, whatever is done to the machine's time of day.
    """

    def __init__(self, minutes: float | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._minutes = inf if minutes is None else minutes
        self._clock = clock
        self._begun = clock()

    def __str__(self) -> str:
        """Such as ``the time limit of 20 minutes``."""
        return f"the time limit of {self._minutes:g} minute{'' if self._minutes == 1 else 's'}"

    @property
    def given(self) -> bool:
        """Is there one?"""
        return self._minutes < inf

    def over(self) -> bool:
        """Is nothing to be begun any more?"""
        return self._clock() - self._begun >= 60 * self._minutes


NO_LIMIT = TimeLimit()


def first_few(labels: Sequence[str]) -> str:
    """The first `NAMED` labels, and how many more there are."""
    more = len(labels) - NAMED
    return ", ".join(labels[:NAMED]) + (f" and {more} more" if more > 0 else "")
