"""What a table is made of: stored scores, reports on judges, and what the table is of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from benchmarks.published import PaperTable
from benchmarks.table_model import Kind
from benchmarks.tasks.base import Column
from evaluators.classifier import WEAK_AUC

if TYPE_CHECKING:
    from pandas import DataFrame

ANY_DECODING = "*"
"""In ``decoding`` of a score: a reply that was not decoded, such as the gold one; it stands in every section."""


class AucReport(TypedDict):
    """Area under the ROC curve with its 95 % interval (`evaluators.stats.Auc`)."""

    value: float
    low: float
    high: float
    n: int


class JudgeReport(TypedDict):
    """How a judge does on held-out human replies that trained nothing."""

    name: str
    accuracy: float
    auc: AucReport
    last_turn_auc: float | None
    """AUC of the same kind of judge when it sees the last turn only; None where there is no other turn to see."""
    threshold: float
    n: int
    weak: bool


def is_weak(judge: JudgeReport) -> bool:
    """Is the judge marked as weak, or its AUC below `WEAK_AUC` (or NaN)?"""
    return judge["weak"] or not judge["auc"]["value"] >= WEAK_AUC


@dataclass(frozen=True, kw_only=True)
class RunScores:
    """The scores of one run: one method (or what it is compared to) with one seed."""

    name: str
    kind: Kind
    seed: int
    scores: DataFrame
    """A row a reply. ``decoding``, ``prompts``, ``uid``, ``group``, ``reply_id`` (hash of the normalised text): str;
    ``tokens`` (of the response, EOS included): int; ``nll`` (nats of the reply under the warm-up backbone, summed):
    float; and a float in [0, 1] for each metric, NaN where it does not apply to the prompts."""
    ledger: Mapping[str, Any]
    """Numbers, nested by what they count; see `benchmarks.table_notes.LEDGER_PARTS`."""


@dataclass(frozen=True, kw_only=True)
class TableMeta:
    """What the scores are of, and what should be among them."""

    title: str
    columns: tuple[Column, ...]
    """Of the task. The table adds the unit to their titles: "%" to a judge's verdicts, "×100" to other metrics."""
    expected: Mapping[str, Kind]
    """Rows by name, in the table's order. One without scores shows as n/a and is named in a note."""
    seeds: tuple[int, ...]
    decodings: Mapping[str, str]
    """By name, a sentence that says all of the spec, the formula of the length penalty included."""
    paper: PaperTable | None
    paper_decoding: str = "beam"
    """The decoding beside which the paper's values may stand."""
    synthetic: bool
    preset: str
    judged: frozenset[str] = frozenset()
    """Metrics that are a judge's verdict."""
    notes: tuple[str, ...] = ()
    """Sentences on how rows differ in what they were trained on."""
