"""PACER: FUDGE on a random share of the steps, then re-ranking (Shuster et al. 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from cringe.methods.base import Guides, Method
from cringe.methods.transformer import Transformer

if TYPE_CHECKING:
    from cringe.generation import Steering


class Pacer(Method):
    """A coin for each example and step says whether the prefix guide is asked; the sequence guide picks at the end."""

    needs: ClassVar[frozenset[str]] = frozenset({"sequence", "prefix"})

    rate: float = Field(default=0.05, ge=0, le=1)
    """Share of the steps that are guided; the released code's default. The CRINGE paper's value is unknown."""
    weight: float = Field(default=1.0, ge=0)
    """λ. The released code has none, which is 1."""
    top: int = Field(default=10, ge=0)
    """Tokens of each row that are considered, 0 for all; the released code's default."""
    candidates: int = Field(default=10, ge=1)
    """Finished replies to choose from, as in ``reranker``; 1 for no re-ranking."""

    def footnote(self) -> str:
        """It cuts to the top tokens where it is guided, and may have more tries than the others."""
        cut = f"at {self.rate:.0%} of the steps only the top {self.top} tokens can be written"
        picks = f"the guide picks among at most {self.candidates} finished replies, as for reranker"
        return "; ".join([*[cut] * bool(self.top and self.rate), *[picks] * (self.candidates > 1)])

    def trained_as(self) -> Method:
        """Training is the baseline's."""
        return Transformer()

    def steering(self, guides: Guides, *, seed: int) -> Steering:
        """Steer some steps by the prefix guide, select by the sequence guide."""
        from cringe import guidance

        if guides.prefix is None:
            raise ValueError("pacer needs a prefix guide, and was given none")
        if guides.sequence is None and self.candidates > 1:
            raise ValueError("pacer needs a sequence guide to re-rank with, and was given none; or set candidates: 1")
        reranking = None
        if guides.sequence is not None and self.candidates > 1:
            reranking = guidance.Reranking(guides.sequence, candidates=self.candidates)
        return guidance.Pacer(
            guides.prefix, weight=self.weight, top=self.top, rate=self.rate, seed=seed, reranking=reranking
        )


METHOD = Pacer
