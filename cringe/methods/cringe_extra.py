"""CRINGE, iterated as in the paper: each round has a budget of its own, on top of the others'."""

from __future__ import annotations

from typing import Literal

from cringe.methods.cringe import Cringe


class CringeExtra(Cringe):
    """`Cringe` with ``rounds: extra``, a method by name so that both ways can be rows of one table."""

    rounds: Literal["split", "extra"] = "extra"
    """A fresh schedule for each round, as in the paper's Algorithm 2; the ledger shows the further updates."""


METHOD = CringeExtra
