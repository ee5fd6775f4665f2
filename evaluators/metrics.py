"""What the numbers of a table are: how a metric is aggregated, scaled, shown and read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from evaluators.diversity import DISTINCT_TOKENS

Aggregate = Literal["mean", "perplexity", "corpus"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One metric, whatever the prompts that it is measured on."""

    name: str
    """Its key in `METRICS`, in tasks' columns and in stored scores."""
    title: str
    """For the head of a column, in front of the unit."""
    unit: Literal["×100", "%", ""]
    """Behind the title: ×100 for a score, % for a share of replies or of n-grams, nothing for a plain number."""
    digits: int = 1
    """Behind the decimal point."""
    higher_is_better: bool
    aggregate: Aggregate = "mean"
    """How replies become one number: ``mean`` of a value a reply; ``perplexity``, exp(Σ nll / Σ tokens) of two values
    a reply; ``corpus``, of all replies together, so that a single reply has no value and resampling gives no interval.
    """
    proportion: bool
    """Does it lie in [0, 1] before it is scaled (with ``mean``: does the value of every reply)?"""
    judged: bool = False
    """Is it a judge's verdict?"""
    of_gold: bool = False
    """Is it measured on the prompts' gold replies, whatever the model itself replies?"""
    sentence: str
    """What it measures, for the legend."""

    @property
    def scale(self) -> float:
        """By what a stored value is multiplied to be shown."""
        return 100.0 if self.unit else 1.0


_METRICS = (
    Metric(
        name="f1",
        title="F1",
        unit="×100",
        higher_is_better=True,
        proportion=True,
        sentence="Words in common with the gold reply: harmonic mean of precision and recall, averaged over replies.",
    ),
    Metric(
        name="safe",
        title="Safe",
        unit="%",
        higher_is_better=True,
        proportion=True,
        judged=True,
        sentence="Share of replies that the judge calls safe.",
    ),
    Metric(
        name="coherent",
        title="Coherent",
        unit="%",
        higher_is_better=True,
        proportion=True,
        judged=True,
        sentence="Share of replies that, to the judge, do not contradict their dialogue.",
    ),
    Metric(
        name="liked",
        title="Liked",
        unit="%",
        higher_is_better=True,
        proportion=True,
        judged=True,
        sentence="Share of replies that the judge calls good.",
    ),
    Metric(
        name="preference",
        title="Good over bad",
        unit="×100",
        higher_is_better=True,
        proportion=False,
        of_gold=True,
        sentence=(
            "How often the model itself, before any guidance, finds a good human reply likelier a token than a bad "
            "one: area under the ROC curve; 50 is chance."
        ),
    ),
    Metric(
        name="repetition_4",
        title="Rep-4",
        unit="%",
        higher_is_better=False,
        proportion=True,
        sentence="Share of a reply's 4-grams of words that it had before, averaged over replies (seq-rep-4).",
    ),
    Metric(
        name="context_repetition_4",
        title="Context rep-4",
        unit="%",
        higher_is_better=False,
        proportion=True,
        sentence="Share of a reply's 4-grams of words that occur in the turns before it, averaged over replies.",
    ),
    Metric(
        name="perplexity",
        title="Perplexity",
        unit="",
        higher_is_better=False,
        aggregate="perplexity",
        proportion=False,
        of_gold=True,
        sentence=(
            "Of the gold replies under the model itself, before any guidance: exp of the summed nll over the summed "
            "tokens."
        ),
    ),
    *(
        Metric(
            name=f"distinct_{n}",
            title=f"Distinct-{n}",
            unit="×100",
            higher_is_better=True,
            aggregate="corpus",
            proportion=True,
            sentence=f"Of {DISTINCT_TOKENS:,} {what} drawn from all replies, the share that are different.",
        )
        for n, what in ((1, "words"), (2, "pairs of adjacent words"))
    ),
)

METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in _METRICS})
"""Every metric that a table can show, by name."""
