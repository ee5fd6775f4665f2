"""One method, one seed: training from the shared backbone inside the budget, or one round of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.stages.context import Context, read_json, read_lines, write_json, write_lines
from cringe.backbones import load_backbone
from cringe.counts import Counts
from cringe.data import Example, Feedback, StratifiedSampler, Stratum
from cringe.methods import registry as methods
from cringe.specs import TrainingSettings
from cringe.trainer import Span, Trainer

OWN = "own"
"""Name of the source that holds a model's own generations."""
STATE = "state.safetensors"
"""The optimiser's state, where the next round goes on under the same schedule."""


def run(settings: Mapping[str, Any], context: Context) -> None:
    """Train and keep the model."""
    task, data = context.load(settings)
    training = TrainingSettings.model_validate(settings["training"])
    method = methods.load(settings["method"]).model_validate(settings["hyperparameters"])
    span = Span(*settings["span"]) if "span" in settings else Span(0, training.updates)
    rounds = [context.parents[role] for role in sorted(context.parents) if role.startswith("additions-")]
    own = [_example(record) for folder in rounds for record in read_lines(folder / "additions.jsonl")]
    sampler = StratifiedSampler(
        {**data.sources, OWN: own},
        with_own(task.mixture) if own else task.mixture,
        batch_size=training.batch_size,
        seed=settings["seed"],
    )
    backbone = load_backbone(context.parents["model"])
    method.wrap(backbone, seed=settings["seed"])
    trainer = Trainer(
        backbone,
        method,
        sampler,
        training,
        seed=settings["seed"],
        span=span,
        device=context.device,
        progress=context.progress,
        resume=context.resume,
    )
    if span.first and not context.resume.exists():
        _go_on(trainer, context.parents["model"])
    counts = trainer.train()
    backbone.save(context.out)
    if span.last < training.updates:
        trainer.keep(context.out / STATE, span.last)
    ledger = {"training": counts.to_dict(), "parameters": backbone.parameters}
    if rounds:
        ledger |= _rounds(rounds)
    write_json(context.out / "ledger.json", ledger)
    write_lines(context.out / "training_log.jsonl", trainer.records)


def with_own(mixture: Sequence[Stratum]) -> tuple[Stratum, ...]:
    """The mixture with half of each labelled stratum given to the model's own generations of that feedback.

    So the share of negatives in a batch, and with it what α means, stays what it was.
    """
    mixed: list[Stratum] = []
    for stratum in mixture:
        if stratum.feedback == Feedback.UNLABELLED:
            mixed.append(Stratum(source=stratum.source, feedback=stratum.feedback, weight=2 * stratum.weight))
        else:
            mixed.append(stratum)
    for feedback in (Feedback.POSITIVE, Feedback.NEGATIVE):
        weight = sum(stratum.weight for stratum in mixture if stratum.feedback == feedback)
        mixed.append(Stratum(source=OWN, feedback=feedback, weight=weight))
    return tuple(mixed)


def _example(record: Mapping[str, Any]) -> Example:
    return Example(
        uid=record["uid"],
        context=tuple(record["context"]),
        own=tuple(record["own"]),
        group=record["group"],
        response=record["response"],
        feedback=Feedback(record["feedback"]),
    )


def _go_on(trainer: Trainer, folder: Path) -> None:
    """Take over the last round's optimiser where it was kept; else its counts and log alone."""
    if (folder / STATE).exists():
        trainer.restore(folder / STATE)
    else:
        trainer.counts = Counts.from_dict(read_json(folder / "ledger.json")["training"])
        trainer.records = read_lines(folder / "training_log.jsonl")


def _rounds(folders: Sequence[Path]) -> dict[str, Any]:
    """What the rounds added and what generating it cost."""
    total = Counts()
    for folder in folders:
        total.add(Counts.from_dict(read_json(folder / "ledger.json")["generation"]))
    return {
        "rounds": [read_json(folder / "round.json") for folder in folders],
        "generation of training data": total.to_dict(),
        "auxiliary guide": read_json(folders[0] / "ledger.json")["guide"],
    }
