"""Re-ranker: plain training; of several finished replies the sequence guide picks the best."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from cringe.methods.base import Guides, Method
from cringe.methods.transformer import Transformer

if TYPE_CHECKING:
    from cringe.generation import Steering


class Reranker(Method):
    """Beams, or best-of-n samples, re-scored on context + candidate; of equals the first wins."""

    needs: ClassVar[frozenset[str]] = frozenset({"sequence"})

    candidates: int = Field(default=10, ge=1)
    """Replies to choose from: at most all beams, 10 in the released evaluation, or so many samples. Greedy search has
    one."""

    def footnote(self) -> str:
        """Under sampling it has more tries than the others."""
        return (
            f"the guide alone picks among at most {self.candidates} finished replies to a prompt: those of the beam, "
            "or as many samples where the others have one"
        )

    def trained_as(self) -> Method:
        """Training is the baseline's."""
        return Transformer()

    def steering(self, guides: Guides, *, seed: int) -> Steering:
        """Select by the sequence guide."""
        from cringe.guidance import Reranking

        if guides.sequence is None:
            raise ValueError("reranker needs a sequence guide, and was given none")
        return Reranking(guides.sequence, candidates=self.candidates)


METHOD = Reranker
