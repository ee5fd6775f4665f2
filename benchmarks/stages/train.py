"""One method, one seed: training from the shared backbone inside the budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.stages.context import Context, write_json, write_lines
from cringe.backbones import load_backbone
from cringe.data import StratifiedSampler
from cringe.methods import registry as methods
from cringe.specs import TrainingSettings
from cringe.trainer import Trainer


def run(settings: Mapping[str, Any], context: Context) -> None:
    """Train and keep the model."""
    task, data = context.load(settings)
    training = TrainingSettings.model_validate(settings["training"])
    backbone = load_backbone(context.parents["model"])
    trainer = Trainer(
        backbone,
        methods.load(settings["method"]).model_validate(settings["hyperparameters"]),
        StratifiedSampler(data.sources, task.mixture, batch_size=training.batch_size, seed=settings["seed"]),
        training,
        seed=settings["seed"],
        device=context.device,
        progress=context.progress,
        resume=context.resume,
    )
    counts = trainer.train()
    backbone.save(context.out)
    write_json(context.out / "ledger.json", {"training": counts.to_dict(), "parameters": backbone.parameters})
    write_lines(context.out / "training_log.jsonl", trainer.records)
