"""CRINGE, iterated: train, generate, label the generations with the guide, add them, train on (Adolphs et al. 2023)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cringe.methods.base import Method
from cringe.methods.cringe_single import CringeSingle


class Cringe(CringeSingle):
    """Algorithm 2: rounds of the single method, each on the data and what the last round's model made of it."""

    iterations: int = Field(default=2, ge=1)
    """N of Algorithm 2: 1 is the single method, 2 the paper's full one [second-hand]."""
    rounds: Literal["split", "extra"] = "split"
    """``split``: all rounds inside the one budget, under one schedule. ``extra``: each round has a budget of its own,
    as in the paper; the ledger shows it."""
    generations: int = Field(default=500, ge=1)
    """Training prompts to generate for after each round, drawn with the seed. The paper's code takes all; ours, for
    generation would outweigh training."""
    decoding: str | None = None
    """Which of the table's decodings generates; its first when not given. The paper decodes as in evaluation."""

    def trained_as(self) -> Method:
        """The single method, where there is one iteration only."""
        return self.single() if self.iterations == 1 else self

    def single(self) -> CringeSingle:
        """What one round trains."""
        return CringeSingle(**{name: getattr(self, name) for name in CringeSingle.model_fields})


METHOD = Cringe
