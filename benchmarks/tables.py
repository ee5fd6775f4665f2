"""From stored per-example scores to a table. A pure function: touches no model, no file, no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from benchmarks import measures
from benchmarks.comparisons import compare_rows
from benchmarks.table_inputs import ANY_DECODING, JudgeReport, RunScores, TableMeta, is_weak
from benchmarks.table_model import (
    COLLAPSED,
    MODELS,
    ONE_SEED,
    SHARED_JUDGE,
    UNLIKE_HUMAN,
    WEAK_JUDGE,
    Cell,
    Kind,
    Row,
    Section,
    Table,
    TableColumn,
)
from benchmarks.table_notes import VIEWS, base_notes, gaps, human_line, in_words, judge_line, ledger_rows
from benchmarks.tasks.base import Column
from evaluators.classifier import WEAK_AUC
from evaluators.metrics import METRICS

__all__ = ["ANY_DECODING", "JudgeReport", "RunScores", "Table", "TableMeta", "build_table"]

LIKELIHOOD = (
    "of the replies to {prompts}, as are distinct, tokens and what follows them; under a reference model that no "
    "method starts from, learns from or is steered by."
)
"""What is said of the column of likelihoods."""
COLLAPSED_BELOW = 0.5
"""Share of distinct replies."""
KINDS: tuple[Kind, ...] = ("floor", "backbone", "method", "ceiling")
"""The order of the rows."""

CellOf = Callable[[Sequence[RunScores], str], Cell]
"""A row's runs and a decoding, to a number."""


class Measure(NamedTuple):
    """A column, and how its cells come about."""

    column: TableColumn
    cell: CellOf


def build_table(runs: Sequence[RunScores], judges: Mapping[str, JudgeReport], meta: TableMeta) -> Table:
    """The table of a task.

    Args:
        runs: in any order.
        judges: by metric; a metric that has one is a judge's verdict.
        meta: what the table is of.

    Returns:
        A section for each decoding, its rows from floor to ceiling. The likelihood, distinctness and length of
        replies are those to the prompts of the first judged column (where none is judged: of the first average, or else
        of the first column), which is also the one that ranks.

    Raises:
        ValueError: no column, a run twice, a prompt twice, seeds that answer different prompts, or NaN among applicable
            scores.
    """
    quality, prompts, human, runs = prepare(runs, judges, meta)
    by_name = _by_name(runs, meta)
    order = _row_order(meta, runs)
    plan = [*_score_measures(judges, meta), *_quality_measures(prompts, meta)]
    columns = tuple(measure.column for measure in plan)
    ranking = _ranking_column(quality, judges, human)
    sections = []
    for decoding, description in meta.decodings.items():
        rows = tuple(_row(name, kind, by_name[name], decoding, plan, human, meta) for name, kind in order)
        differences = compare_rows(rows, by_name, decoding, ranking, columns, meta)
        sections.append(
            Section(decoding=decoding, description=description, rows=rows, ranking=ranking, **differences._asdict())
        )
    degrees = {cell.paper.certainty for section in sections for row in section.rows for cell in row.cells if cell.paper}
    notes = [*base_notes(meta, degrees), human_line(human, prompts)]
    return Table(
        title=meta.title,
        synthetic=meta.synthetic,
        preset=meta.preset,
        columns=columns,
        sections=tuple(sections),
        judges=tuple(judge_line(metric, judges[metric]) for metric in sorted(judges)),
        notes=(*dict.fromkeys(notes), *gaps(by_name, sections, columns, meta)),
        ledger=ledger_rows(by_name, [name for name, kind in order if kind in MODELS], meta.trials),
    )


class Prepared(NamedTuple):
    """The runs of a table, ready to be measured."""

    quality: Column
    """The column that ranks, before fluency is asked for."""
    prompts: str
    """Whose replies' likelihood and distinctness are shown."""
    human: measures.HumanRange | None
    runs: Sequence[RunScores]
    """With the verdicts on fluent replies, where there are verdicts and human replies."""


def prepare(runs: Sequence[RunScores], judges: Mapping[str, JudgeReport], meta: TableMeta) -> Prepared:
    """Find what ranks and what human replies are like, and add the scores that follow from both.

    Raises:
        ValueError: there is no column, or a judged one is an average.
    """
    if not meta.columns:
        raise ValueError(f"{meta.title}: a table needs a column")
    judged = [column for column in meta.columns if column.metric in judges]
    quality = [*judged, *(column for column in meta.columns if column.over), *meta.columns][0]
    prompts = (quality.over or (quality.prompts,))[0]
    human = measures.human_range([run for run in runs if run.kind == "ceiling"], prompts)
    if any(column.over for column in judged):
        raise ValueError("a judged column cannot be an average over several sets of prompts")
    if human is not None:
        for metric in judges:
            runs = [measures.with_fluency(run, metric, human) for run in runs]
    return Prepared(quality, prompts, human, runs)


def _by_name(runs: Iterable[RunScores], meta: TableMeta) -> dict[str, list[RunScores]]:
    found: dict[str, list[RunScores]] = {name: [] for name in meta.expected}
    for run in sorted(runs, key=lambda run: (run.name, run.seed)):
        others = found.setdefault(run.name, [])
        if any(other.seed == run.seed for other in others):
            raise ValueError(f"two runs of {run.name} with seed {run.seed}")
        kind = meta.expected.get(run.name, others[0].kind if others else run.kind)
        if run.kind != kind:
            raise ValueError(f"{run.name} is a {kind}, but its run with seed {run.seed} calls it a {run.kind}")
        others.append(run)
    return found


def _row_order(meta: TableMeta, runs: Iterable[RunScores]) -> list[tuple[str, Kind]]:
    """Floor to ceiling; within a kind as expected, then others by name."""
    kinds = dict(meta.expected) | {run.name: run.kind for run in sorted(runs, key=lambda run: run.name)}
    return sorted(kinds.items(), key=lambda item: KINDS.index(item[1]))


def _ranking_column(quality: Column, judges: Mapping[str, JudgeReport], human: measures.HumanRange | None) -> str:
    """Key of the column that ranks: of a judged metric only what is fluent, too, counts."""
    fluent = measures.AND_FLUENT if quality.metric in judges and human is not None else ""
    return f"{quality.metric}{fluent}@{quality.prompts}"


def _score_measures(judges: Mapping[str, JudgeReport], meta: TableMeta) -> list[Measure]:
    """The task's columns; a judged one is followed by what puts it into perspective."""
    found: list[Measure] = []
    for column in meta.columns:
        metric, judge = METRICS[column.metric], judges.get(column.metric)
        shown = TableColumn(
            key=f"{column.metric}@{column.prompts}",
            title=" ".join(part for part in (column.title, metric.unit) if part),
            digits=metric.digits,
            higher_is_better=metric.higher_is_better,
            judged=judge is not None,
            weak=judge is not None and is_weak(judge),
            with_paper=meta.paper is not None and not metric.of_gold,
            with_interval=metric.aggregate != "corpus",
            note="" if metric.name in ("f1", "safe", "coherent", "liked") else metric.sentence,
        )
        found.append(Measure(shown, _cell_of(column, meta)))
        if judge is not None:
            found += _beside_judged(column, shown, judge, meta)
    return found


def _beside_judged(column: Column, shown: TableColumn, judge: JudgeReport, meta: TableMeta) -> list[Measure]:
    """How much of it is fluent, what the guide says of the same replies, and the share without the judge's errors."""

    def cell(metric: str) -> CellOf:
        return lambda runs, decoding: measures.mean_cell(
            measures.collect(runs, decoding, column.prompts, metric), metric
        )

    def corrected(runs: Sequence[RunScores], decoding: str) -> Cell:
        return measures.corrected_cell(cell(column.metric)(runs, decoding), judge)

    def beside(metric: str, title: str, note: str, of: CellOf | None = None, *, weak: bool = shown.weak) -> Measure:
        key = f"{metric}@{column.prompts}"
        kept = replace(shown, key=key, title=title, with_paper=False, group="judges", note=note, weak=weak)
        return Measure(kept, of or cell(metric))

    name = column.metric
    fluent = beside(
        name + measures.AND_FLUENT,
        f"{METRICS[name].title} and fluent %",
        "the judge's verdict, and the nll a token under the reference model is one that 95 % of human replies have.",
    )
    found = [fluent._replace(column=replace(fluent.column, group="scores"))]
    if not meta.shared_judge:  # else it is the judge, and says the same once more
        found.append(
            beside(
                f"{name}_by_guide",
                "by guide %",
                "by the classifier that labels, steers and re-ranks, which some methods have learnt to please.",
                weak=False,  # it is another classifier than the judge
            )
        )
    found.append(
        beside(
            name + measures.CORRECTED,
            "corrected %",
            "after Rogan & Gladen 1978; assumes the judge's error rates of human text. n/a where sensitivity and "
            "specificity add to less than 1.3.",
            corrected,
        )
    )
    if "other_view" in judge:
        view = VIEWS[judge["other_view"]]
        note = f"by a judge of the same kind that sees {view}."
        weak = not judge["other_view_auc"] >= WEAK_AUC
        found.append(beside(f"{name}_other_view", "other view %", note, weak=weak))
    if "second_name" in judge:
        weak = not judge["second_auc"] >= WEAK_AUC
        found.append(
            beside(f"{name}_by_second", "second judge %", f"by a {in_words(judge['second_name'])}.", weak=weak)
        )
    return found


def _cell_of(column: Column, meta: TableMeta) -> CellOf:
    """How a column of the task comes about."""
    name, metric = column.metric, METRICS[column.metric]
    if metric.aggregate == "corpus":
        return lambda runs, decoding: measures.corpus_cell(runs, decoding, column.prompts, name)
    if metric.aggregate == "perplexity":
        return lambda runs, decoding: measures.perplexity_cell(
            measures.collect(runs, decoding, column.prompts, "gold_nll")
        )
    if column.over:
        weights = measures.weights_of(meta.counts, meta.task, column.over)
        return lambda runs, decoding: measures.average_cell(
            [measures.collect(runs, decoding, prompts, name) for prompts in column.over], weights, name
        )
    return lambda runs, decoding: measures.mean_cell(measures.collect(runs, decoding, column.prompts, name), name)


def _quality_measures(prompts: str, meta: TableMeta) -> list[Measure]:
    """What the replies to ``prompts`` are like, as far as the task's own columns do not say it."""

    def column(
        key: str, title: str, *, digits: int = 1, better: bool | None = None, **other: bool | str
    ) -> TableColumn:
        return TableColumn(key=key, title=title, digits=digits, higher_is_better=better, **other)  # type: ignore[arg-type]

    def replies(runs: Sequence[RunScores], decoding: str) -> measures.Replies | None:
        return measures.collect(runs, decoding, prompts)

    found = [
        Measure(
            column("nll", "nll/token", digits=2, note=LIKELIHOOD.format(prompts=prompts)),
            lambda runs, decoding: measures.rate_cell(replies(runs, decoding), "nll", "tokens"),
        ),
        Measure(
            column("distinct", "distinct %", better=True, with_interval=False),
            lambda runs, decoding: measures.distinct_cell(replies(runs, decoding)),
        ),
        Measure(
            column("length", "tokens", group="quality"),
            lambda runs, decoding: measures.length_cell(replies(runs, decoding)),
        ),
    ]
    own = {(entry.metric, entry.prompts) for entry in meta.columns}
    gold = next((entry.prompts for entry in meta.columns if entry.metric == "f1" and not entry.over), prompts)
    for name in ("repetition_4", "context_repetition_4", "distinct_1", "distinct_2", "perplexity"):
        metric = METRICS[name]
        entry = Column(metric=name, prompts=gold if name == "perplexity" else prompts, title=metric.title)
        if (entry.metric, entry.prompts) not in own:
            title = " ".join(part for part in (metric.title, metric.unit) if part)
            shown = TableColumn(
                key=f"{name}@{entry.prompts}",
                title=title,
                digits=metric.digits,
                higher_is_better=metric.higher_is_better,
                with_interval=metric.aggregate != "corpus",
                group="quality",
                note=metric.sentence + (f" They are those to {gold}." if name == "perplexity" else ""),
            )
            found.append(Measure(shown, _cell_of(entry, meta)))
    return found


def doubts_of(distinct: float | None, nll: float | None, human: measures.HumanRange | None) -> tuple[str, ...]:
    """What the replies of a row are marked with.

    Args:
        distinct: share of different replies, in percent.
        nll: nats a token.
        human: the range of human replies.
    """
    collapsed = distinct is not None and distinct < 100 * COLLAPSED_BELOW
    unlike = nll is not None and human is not None and not human.low <= nll <= human.high
    return (COLLAPSED,) * collapsed + (UNLIKE_HUMAN,) * unlike


def _row(
    name: str,
    kind: Kind,
    runs: Sequence[RunScores],
    decoding: str,
    plan: Sequence[Measure],
    human: measures.HumanRange | None,
    meta: TableMeta,
) -> Row:
    cells = [measure.cell(runs, decoding) for measure in plan]
    keyed = {measure.column.key: cell for measure, cell in zip(plan, cells, strict=True)}
    nll, distinct = keyed["nll"].value, keyed["distinct"].value
    doubts = doubts_of(distinct, nll, human)
    marked = []
    for measure, cell in zip(plan, cells, strict=True):
        column = measure.column
        paper = None
        if meta.paper is not None and decoding == meta.paper_decoding and column.with_paper:
            paper = meta.paper.lookup(name, *column.key.split("@", 1))
        marks = cell.marks
        if cell.value is not None and column.judged:
            marks += (WEAK_JUDGE,) * column.weak + (SHARED_JUDGE,) * meta.shared_judge + doubts
        if cell.seeds == 1 and kind in MODELS:
            marks += (ONE_SEED,)
        marked.append(replace(cell, paper=paper, marks=marks))
    single = any(ONE_SEED in cell.marks for cell in marked)
    shared = any(SHARED_JUDGE in cell.marks for cell in marked)
    return Row(
        name=name, kind=kind, cells=tuple(marked), marks=doubts + (SHARED_JUDGE,) * shared + (ONE_SEED,) * single
    )
