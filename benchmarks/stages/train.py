"""One method, one seed: training from the shared backbone inside the budget, or one round of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from benchmarks.stages.context import Context, example_from_json, read_json, read_lines, write_json, write_lines
from benchmarks.tasks.base import OWN, with_own
from cringe.backbones import load_backbone
from cringe.counts import Counts
from cringe.data import StratifiedSampler
from cringe.methods import registry as methods
from cringe.specs import TrainingSettings
from cringe.token_cache import TokenCache
from cringe.trainer import Span, Trainer

STATE = "state.safetensors"
"""The optimiser's state, where the next round goes on under the same schedule."""


def run(settings: Mapping[str, Any], context: Context) -> None:
    """Train and keep the model."""
    task, data = context.load(settings)
    strata = context.mixture(task, settings)
    training = TrainingSettings.model_validate(settings["training"])
    method = methods.load(settings["method"]).model_validate(settings["hyperparameters"])
    span = Span(*settings["span"]) if "span" in settings else Span(0, training.updates)
    rounds = [context.parents[role] for role in sorted(context.parents) if role.startswith("additions-")]
    own = [example_from_json(record) for folder in rounds for record in read_lines(folder / "additions.jsonl")]
    backbone = load_backbone(context.parents["model"])
    method.wrap(backbone, seed=settings["seed"])
    seen = chain(own, *(data.sources[name] for name in settings["sources"]))
    backbone.tokens = TokenCache.open(context.tokens, backbone, seen)
    sampler = StratifiedSampler(
        {**data.sources, OWN: own},
        with_own(strata) if own else strata,
        batch_size=training.batch_size,
        seed=settings["seed"],
        window=training.length_window,
        lengths=backbone.lengths,
    )
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
    if span.first:  # should there be a state of this round, it takes the place of the last round's
        _go_on(trainer, context.parents["model"])
    counts = trainer.train()
    if not trainer.is_main_process:  # of several that train together one writes
        return
    backbone.save(context.out)
    if span.last < training.updates:
        trainer.keep(context.out / STATE, span.last)
    ledger = {"training": counts.to_dict(), "parameters": backbone.parameters}
    if rounds:
        ledger |= _rounds(rounds)
    write_json(context.out / "ledger.json", ledger)
    write_lines(context.out / "training_log.jsonl", trainer.records)


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
    guide = read_json(folders[0] / "ledger.json").get("guide")
    return {
        "rounds": [read_json(folder / "round.json") for folder in folders],
        "generation of training data": total.to_dict(),
        **({"auxiliary guide": guide} if guide else {}),
    }
