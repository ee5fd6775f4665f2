"""What a table is made of: stored scores, reports on judges, and what the table is of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from benchmarks.published import PaperTable
from benchmarks.table_model import Kind
from benchmarks.tasks.base import Column
from evaluators.classifier import WEAK_AUC

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame

    Columns = Mapping[str, NDArray[Any]]
    """Replies to a set of prompts, by name of the column: (N,) texts, or (N,) numbers."""

TEXTS = ("uid", "group", "reply_id")
"""Columns of texts that differ from reply to reply."""

ANY_DECODING = "*"
"""In ``decoding`` of a score: a reply that was not decoded, such as the gold one; it stands in every section."""


RECORDED_DIGITS = 6
"""Significant ones, of the scores in results without text."""


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
    sensitivity: float
    """Share of the negative replies that it finds."""
    specificity: float
    """Share of the other replies that it lets pass."""
    brier: float
    auc: AucReport
    reads: str
    """What it sees of an example (`cringe.specs.Reads`)."""
    other_view: NotRequired[str]
    """What a judge of the same kind sees that was trained beside it, to show how much the first one's view matters."""
    other_view_auc: NotRequired[float]
    second_name: NotRequired[str]
    """A judge of another kind, trained on the same half."""
    second_auc: NotRequired[float]
    threshold: float
    n: int
    negatives: int
    """Of the n."""
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
    ``tokens`` (of the response, EOS included): int; ``nll`` (nats of the reply under the reference model, summed):
    float; ``gold_nll`` and ``gold_tokens`` of the gold reply under the model itself; and a float for each metric, in
    [0, 1] where it is a proportion, NaN where it does not apply to the prompts."""
    round: int | None = None
    """Of a method that trains in rounds: after which of them its replies were made; None after the last."""
    ledger: Mapping[str, Any]
    """Numbers, nested by what they count; see `benchmarks.table_notes.LEDGER_PARTS`."""
    corpus: Sequence[Mapping[str, Any]] = ()
    """Numbers of all replies together: ``row``, ``decoding``, ``prompts``, and a share by the name of its metric."""

    @cached_property
    def sets(self) -> dict[tuple[str, str], Columns]:
        """The replies by decoding and set of prompts, in the order of their uids.

        A table asks for them many times, and a dictionary of arrays answers a hundred times as fast as a frame.
        """
        ordered = self.scores.sort_values("uid")
        found: dict[tuple[str, str], Columns] = {}
        for (decoding, prompts), part in ordered.groupby(["decoding", "prompts"]):
            texts = {name: part[name].to_numpy(dtype=str) for name in TEXTS}
            numbers = {str(name): part[name].to_numpy(dtype=float) for name in part if part[name].dtype.kind in "fiu"}
            found[str(decoding), str(prompts)] = texts | numbers
        return found

    def with_score(self, name: str, of: Callable[[Columns | DataFrame], Any]) -> RunScores:
        """The same run with one more score, a function of the other columns."""
        run = replace(self, scores=self.scores.assign(**{name: of(self.scores)}))
        # What `sets` would find, without sorting the replies again.
        vars(run)["sets"] = {where: {**part, name: of(part)} for where, part in self.sets.items()}
        return run


@dataclass(frozen=True, kw_only=True)
class TableMeta:
    """What the scores are of, and what should be among them."""

    task: str
    title: str
    columns: tuple[Column, ...]
    """Of the task. The table adds the unit to their titles."""
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
    shared_judge: bool = False
    """Is the judge the guide that methods are trained or steered with, as in the paper?"""
    baseline: str = "transformer"
    """The row that the others are compared with."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Records of the data (`TaskData.counts`); an average over sets of prompts is weighted by them."""
    notes: tuple[str, ...] = ()
    """Sentences on how rows differ in what they were trained on."""
    guide: JudgeReport | None = None
    """How the guide does on the judge's test; None where it is the judge, or nobody knows."""
    trials: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """By row, the ledger of each setting that a sweep tried; an empty one where it cannot be read."""
    unusable: frozenset[tuple[str, int]] = frozenset()
    """Rows and seeds whose scores are there, but damaged."""
