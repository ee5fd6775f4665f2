"""Hyper-parameters chosen on validation: every value of a grid is tried with one seed, and one declared rule decides.

The rule: the trial with the highest mean, over the decodings, of the column that ranks (`Task.selection`; where it is a
judge's, only replies that are fluent, too, count), measured on validation prompts. A trial that has collapsed under a
decoding counts 0 there. A decoding under which the backbone has collapsed, from which all trials start, is left out:
it says of a trial no more than how it leaves a few templates, and gibberish leaves them, too; unless it has collapsed
under all. Of equal trials the first in the grid wins. Test prompts are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.assemble import inputs, manifest
from benchmarks.config import RunConfig, sweep_points, with_settings
from benchmarks.errors import UserError
from benchmarks.plan import Plan, Stage, in_order
from benchmarks.table_model import COLLAPSED
from benchmarks.tables import build_table
from benchmarks.tasks import registry as tasks

RULE = (
    "the highest mean of '{column}' on {prompts} with seed {seed} over the decodings under which the backbone has not "
    "collapsed, a collapsed trial counting 0, of equals the first"
)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One method with one choice of values."""

    method: str
    values: Mapping[str, Any]
    plan: Plan
    """Its scores on the validation prompts."""


class Outcome(NamedTuple):
    """What came of a trial."""

    trial: Trial
    value: float
    """Of the rule's column, as it is shown."""


def trials(config: RunConfig, make: Callable[[RunConfig], Plan]) -> list[Trial]:
    """The trials of a configuration.

    Args:
        config: with its sweeps.
        make: plans a configuration, measuring the task's `selection`.
    """
    found = []
    for method, grid in config.sweeps.items():
        for values in sweep_points(grid):
            alone = with_settings(config, method, values).model_copy(
                update={"methods": (method,), "seeds": config.seeds[:1], "sweeps": {}}
            )
            found.append(Trial(method=method, values=values, plan=make(alone)))
    return found


def stages(found: Iterable[Trial]) -> list[Stage]:
    """What the trials need, each stage once."""
    return list(in_order(row.scores for trial in found for row in trial.plan.rows if row.round is None))


class Choice(NamedTuple):
    """What sweeps chose."""

    config: RunConfig
    """With the values of the best trials."""
    records: list[dict[str, Any]]
    """Of every trial, for the manifest."""
    sentences: list[str]
    """On each choice, for the table's notes."""


def choose(config: RunConfig, found: Sequence[Trial], results: Path) -> Choice:
    """The best trial of each method by the rule of this module.

    Raises:
        UserError: no trial of a method has a number to choose by.
    """
    records: list[dict[str, Any]] = []
    sentences = []
    for method, grid in config.sweeps.items():
        outcomes = [
            Outcome(trial, value)
            for trial in found
            if trial.method == method and (value := _value(trial, results)) is not None
        ]
        if not outcomes:
            raise UserError(f"no trial of {method} has a result to choose by; see the failures above")
        best = max(outcomes, key=lambda outcome: outcome.value)
        config = with_settings(config, method, best.trial.values)
        records += [_record(outcome, best is outcome) for outcome in outcomes]
        sentences.append(_sentence(method, grid, best, len(outcomes)))
    return Choice(config, records, sentences)


def _value(trial: Trial, results: Path) -> float | None:
    """What the rule looks at; None where the trial has no scores."""
    runs, judges, meta = inputs(manifest(trial.plan), results)
    if not any(run.name == trial.method for run in runs):
        return None
    table = build_table([run for run in runs if run.round is None], judges, meta)
    values, lost = [], []
    for section in table.sections:
        index = next(place for place, column in enumerate(table.columns) if column.key == section.ranking)
        row = next(row for row in section.rows if row.name == trial.method)
        value = row.cells[index].value
        if value is None:
            return None
        values.append(0.0 if COLLAPSED in row.marks else value)
        lost.append(any(COLLAPSED in other.marks for other in section.rows if other.kind == "backbone"))
    kept = [value for value, left_out in zip(values, lost, strict=True) if not left_out] or values
    return sum(kept) / len(kept)


def _record(outcome: Outcome, chosen: bool) -> dict[str, Any]:
    """A trial for the manifest: what was tried, what came of it, and where its scores lie."""
    row = next(row for row in outcome.trial.plan.rows if row.name == outcome.trial.method and row.round is None)
    return {
        "method": outcome.trial.method,
        "settings": dict(outcome.trial.values),
        "value": round(outcome.value, 6),
        "chosen": chosen,
        "seed": row.seed,
        "scores": row.scores.folder,
    }


def _sentence(method: str, grid: Mapping[str, Sequence[Any]], best: Outcome, count: int) -> str:
    config = best.trial.plan.config
    selection = tasks.load(config.task).selection
    tried = "; ".join(f"{name} of {', '.join(map(str, values))}" for name, values in grid.items())
    chosen = ", ".join(f"{name} = {value}" for name, value in best.trial.values.items())
    judged = selection.metric in tasks.load(config.task).judged
    rule = RULE.format(column=selection.title + " and fluent" * judged, prompts=selection.prompts, seed=config.seeds[0])
    return (
        f"{method}: {chosen}, chosen from {tried} in {count} trials of {config.training.updates} updates each: {rule}."
    )
