"""From the tables of two sides to checks: the cells that both have, with the scores behind them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmarks import measures
from benchmarks.gate import LEAST_MARGIN, Check
from benchmarks.reference import surroundings, unlike
from benchmarks.table_inputs import ANY_DECODING, RECORDED_DIGITS, RunScores
from benchmarks.table_model import COLLAPSED, MODELS, ONE_SEED, UNLIKE_HUMAN, Cell, Row, Section, TableColumn
from benchmarks.tables import prepare
from evaluators.contrast import Contrast, Prompts, Sample, contrast, seeds_contrast
from evaluators.diversity import distinct_share
from evaluators.metrics import METRICS

if TYPE_CHECKING:
    from benchmarks.rebuild import Built
    from evaluators.spread import Array

SAME = 1e-4
"""Scores that differ by less are those of one model, rounded."""
DOUBTS = {"nll": UNLIKE_HUMAN, "distinct": COLLAPSED}
"""Columns that are neither good nor bad by themselves, and the mark that follows from each."""


class Side(NamedTuple):
    """A table, ready to take scores from."""

    built: Built
    runs: dict[str, list[RunScores]]
    """By row; with the score that counts only what is fluent."""
    prompts: str
    """Those on whose replies likelihood and distinctness are measured."""


class Compared(NamedTuple):
    """A table of both sides."""

    name: str
    old: Side
    new: Side
    notes: list[str]
    """What to know of the sides."""
    unlike: list[str]
    """What should be the same on both sides, and is not."""
    problems: list[str]
    """What the reference has and the new side has not."""
    checks: list[Check]
    samples: list[tuple[Sample, Sample]]
    """New and old scores behind each check."""


def _side(built: Built) -> Side:
    _, prompts, _, runs = prepare(*built.inputs)
    meta = built.inputs.meta
    by_name: dict[str, list[RunScores]] = {name: [] for name in meta.expected}
    for run in sorted(runs, key=lambda run: run.seed):
        by_name.setdefault(run.name, []).append(run)
    return Side(built, by_name, prompts)


def compare_tables(name: str, old: Built, new: Built) -> Compared:
    """The cells that two tables have in common, and what the new one lacks.

    Args:
        name: what to call the two.
        old: the reference, say.
        new: what may have become worse.
    """
    before, after = _side(old), _side(new)
    checks: list[Check] = []
    samples: list[tuple[Sample, Sample]] = []
    problems = list(_absent_seeds(after))
    for section in old.table.sections:
        there = next((other for other in new.table.sections if other.decoding == section.decoding), None)
        for row in section.rows:
            other = None if there is None else next((found for found in there.rows if found.name == row.name), None)
            made, missing = _row_checks(name, section, row, other, before, after)
            checks += [check for check, _ in made]
            samples += [scores for _, scores in made]
            if missing:
                problems.append(f"{row.name}, {section.decoding}: NEW has no {', '.join(missing)}")
    checks = list(_once(checks))
    weak = {column.key for column in old.table.columns if column.weak}
    problems += [
        f"NEW's judge of {column.title} is weak"
        for column in new.table.columns
        if column.weak and column.group == "scores" and column.key not in weak
    ]
    notes = list(_notes(before, after))
    seeds = {frozenset(run.seed for runs in side.runs.values() for run in runs) for side in (before, after)}
    if len(seeds) > 1:
        backbones = {row.name for section in old.table.sections for row in section.rows if row.kind == "backbone"}
        if _same_start([pair for check, pair in zip(checks, samples, strict=True) if check.row in backbones]):
            checks = [
                check._replace(by_seeds=seeds_contrast(*pair)) for check, pair in zip(checks, samples, strict=True)
            ]
        else:
            notes.append(
                "The backbone is not the same on both sides, which no seed covers: p (Holm) is of differences on other "
                "prompts, too. Is this the processor, and are these the packages, that OLD was made with?"
            )
    return Compared(name, before, after, notes, unlike(old, new), problems, checks, samples)


def _once(checks: Iterable[Check]) -> Iterator[Check]:
    """What is measured on gold replies is the same however a model decodes: it is gated once."""
    seen = set()
    for check in checks:
        again = of_gold(check.key) and (check.row, check.key) in seen
        seen.add((check.row, check.key))
        yield check._replace(gated=check.gated and not again)


def of_gold(key: str) -> bool:
    """Is the column of this key measured on gold replies, whatever the model replies?"""
    metric = METRICS.get(key.split("@")[0])
    return metric is not None and metric.of_gold


def _absent_seeds(side: Side) -> Iterator[str]:
    """Runs that were asked for and are not there."""
    meta = side.built.inputs.meta
    for name, runs in side.runs.items():
        absent = [seed for seed in meta.seeds if seed not in {run.seed for run in runs}]
        if absent and meta.expected.get(name) in MODELS:
            yield f"{name}: NEW has no run with seed {', '.join(map(str, absent))}"


def _row_checks(
    table: str, section: Section, row: Row, other: Row | None, before: Side, after: Side
) -> tuple[list[tuple[Check, tuple[Sample, Sample]]], list[str]]:
    """The cells of a row with their scores, and the columns in which only the old row has a number."""
    made, missing = [], []
    places = {column.key: place for place, column in enumerate(after.built.table.columns)}
    for column, cell in zip(before.built.table.columns, row.cells, strict=True):
        if column.group != "scores" or cell.value is None:
            continue
        if other is None or column.key not in places or other.cells[places[column.key]].value is None:
            missing.append(column.title)
            continue
        if row.kind not in MODELS:
            continue
        new, old = (_sample(side, row.name, section.decoding, column.key) for side in (after, before))
        if new is not None and old is not None:
            check = _check(
                table, section.decoding, (row, cell), (other, other.cells[places[column.key]]), column, new, old
            )
            made.append((check, (new, old)))
    return made, missing


def _check(
    table: str,
    decoding: str,
    old: tuple[Row, Cell],
    new: tuple[Row, Cell],
    column: TableColumn,
    ours: Sample,
    theirs: Sample,
) -> Check:
    """One cell of both sides; each with its row."""
    found, between = _difference(column, ours, theirs)
    mark = DOUBTS.get(column.key, "")
    doubted = mark in old[0].marks if mark else bool({*old[1].marks} - {ONE_SEED})
    return Check(
        table=table,
        decoding=decoding,
        row=old[0].name,
        column=column.title,
        key=column.key,
        old=old[1].value or 0.0,
        new=new[1].value or 0.0,
        digits=column.digits,
        found=found,
        between=between,
        better=0 if mark or column.higher_is_better is None else 1 if column.higher_is_better else -1,
        # The backbone is one model whatever the seed, so nothing tells how much another would differ.
        gated=old[0].kind == "method" and not doubted,
        mark=mark,
        newly=mark in new[0].marks and mark not in old[0].marks,
        least=LEAST_MARGIN / 100 if column.key == "nll" else LEAST_MARGIN,
    )


def _same_start(backbones: Sequence[tuple[Sample, Sample]]) -> bool:
    """Did both sides' methods start from the same weights, as far as new and old scores of the backbone tell?

    Asked of those that no seed changes, such as a beam's; what is recorded has six digits.
    """
    found = []
    for new, old in backbones:
        if any(one.values.shape[1] != other.values.shape[1] for one, other in zip(new.sets, old.sets, strict=True)):
            return False
        for one, other in zip(new.sets, old.sets, strict=True):
            if np.ptp(other.values, axis=0).max() < SAME:
                found.append(float(np.abs(one.values - other.values[:1]).max()) < SAME)
    return bool(found) and all(found)


def _sample(side: Side, row: str, decoding: str, key: str) -> Sample | None:
    """The scores behind a cell; None without any."""
    runs, meta = side.runs.get(row, []), side.built.inputs.meta
    if key in DOUBTS:
        replies = measures.collect(runs, decoding, side.prompts)
        if replies is None:
            return None
        if key == "nll":
            return Sample(replies.seeds, (_prompts(replies, side.prompts, _rates(replies, "nll", "tokens")),))
        return Sample(
            replies.seeds, numbers=tuple(distinct_share(part["reply_id"].tolist()) for part in replies.columns)
        )
    metric, prompts = key.split("@", 1)
    known = METRICS[metric.removesuffix(measures.AND_FLUENT)]
    if known.aggregate == "corpus":
        return _corpus_sample(runs, decoding, prompts, metric)
    if known.aggregate == "perplexity":
        replies = measures.collect(runs, decoding, prompts, "gold_nll")
        return (
            None
            if replies is None
            else Sample(replies.seeds, (_prompts(replies, prompts, _rates(replies, "gold_nll", "gold_tokens")),))
        )
    parts = measures.weighted_parts(runs, decoding, key, meta)
    if parts is None:
        return None
    return Sample(
        parts[0].replies.seeds,
        tuple(_prompts(part.replies, part.prompts, _matrix(part.replies, metric)) for part in parts),
        tuple(part.weight for part in parts),
    )


def _prompts(replies: measures.Replies, name: str, values: Array) -> Prompts:
    return Prompts(values, replies.uids, replies.groups, replies.texts, name)


def _matrix(replies: measures.Replies, name: str) -> Array:
    """(S, N) values of a column with the digits that recorded scores keep, so that equal replies differ by nothing."""
    values = replies.matrix(name)
    with np.errstate(divide="ignore"):
        places = RECORDED_DIGITS - 1 - np.floor(np.log10(np.abs(values)))
    unit = 10.0 ** np.where(np.isfinite(places), places, 0)
    rounded: Array = np.round(values * unit) / unit
    return rounded


def _rates(replies: measures.Replies, top: str, bottom: str) -> Array:
    """(S, N) values whose mean is the ratio of the sums, made linear as in `evaluators.stats.ratio_interval`."""
    above, below = _matrix(replies, top), _matrix(replies, bottom)
    ratio = above.sum(axis=1, keepdims=True) / below.sum(axis=1, keepdims=True)
    linear: Array = ratio + (above - ratio * below) / below.mean(axis=1, keepdims=True)
    return linear


def _corpus_sample(runs: Iterable[RunScores], decoding: str, prompts: str, metric: str) -> Sample | None:
    found = {
        run.seed: float(entry[metric])
        for run in runs
        for entry in run.corpus
        if entry["row"] in ("", run.name)
        and entry["decoding"] in (decoding, ANY_DECODING)
        and entry["prompts"] == prompts
        and entry.get(metric) is not None
    }
    return Sample(tuple(found), numbers=tuple(found.values())) if found else None


def _difference(column: TableColumn, new: Sample, old: Sample) -> tuple[Contrast, float | None]:
    """New minus old, and the deviation between old seeds, in the unit of the column; of a perplexity, of 100 · log."""
    metric = METRICS.get(column.key.split("@", 1)[0].removesuffix(measures.AND_FLUENT))
    proportion = metric is not None and metric.aggregate == "mean" and metric.proportion
    scale = 1.0 if column.key == "nll" else 100.0
    found, between = contrast(new, old, proportion=proportion), old.between_seeds
    shown = [None if value is None else scale * value for value in (found.mean, found.low, found.high, between)]
    return found._replace(mean=scale * found.mean, low=shown[1], high=shown[2]), shown[3]


def _notes(before: Side, after: Side) -> Iterator[str]:
    old, new = before.built, after.built
    seeds = [
        sorted({run.seed for runs in side.runs.values() for run in runs if run.kind in MODELS})
        for side in (before, after)
    ]
    said = [", ".join(map(str, side)) or "none" for side in seeds]
    if seeds[0] == seeds[1]:
        yield f"Seeds {said[0]} on both sides: paired by seed and prompt."
    else:
        yield f"Seeds {said[0]} → {said[1]}: independent models on either side, whose variance the intervals hold."
        if both := sorted({*seeds[0]} & {*seeds[1]}):
            yield f"Both sides have seed {', '.join(map(str, both))}: the intervals are rather too wide."
    if max(map(len, seeds)) == 1:
        yield "One seed on either side: a claim about these models only; intervals cover dialogues, not seeds."
    if sentence := surroundings(old, new):
        yield sentence
    if extra := [name for name in after.runs if name not in before.runs]:
        yield f"Only NEW has {', '.join(extra)}."
