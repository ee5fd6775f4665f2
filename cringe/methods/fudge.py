"""FUDGE: plain training; a prefix guide has its say in every token (Yang & Klein 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from cringe.methods.base import Guides, Method
from cringe.methods.transformer import Transformer

if TYPE_CHECKING:
    from cringe.generation import Steering


class Fudge(Method):
    """At each step ``log p + λ · log P(positive | prefix + token)`` for the top tokens, renormalised."""

    needs: ClassVar[frozenset[str]] = frozenset({"prefix"})

    weight: float = Field(default=1.0, ge=0)
    """λ. The CRINGE paper's value is unknown; 1 is the default of Yang & Klein's code, the product as it stands."""
    top: int = Field(default=10, ge=0)
    """Tokens of each row that are considered, 0 for all. The CRINGE paper's value is unknown; 10 is the released PACER
    code's default, so that the two differ in the share of steps alone. Yang & Klein's code takes 200, at twenty times
    the guide's work."""

    def footnote(self) -> str:
        """The cut to the top tokens is a change of its own, with or without a guide."""
        return f"at every step only the top {self.top} tokens can be written, under sampling too" if self.top else ""

    def trained_as(self) -> Method:
        """Training is the baseline's."""
        return Transformer()

    def steering(self, guides: Guides, *, seed: int) -> Steering:
        """Steer every step by the prefix guide."""
        from cringe import guidance

        if guides.prefix is None:
            raise ValueError("fudge needs a prefix guide, and was given none")
        return guidance.Fudge(guides.prefix, weight=self.weight, top=self.top)


METHOD = Fudge
