"""The backbone that all methods start from: a tokenizer, and likelihood training on the bad as well as the good.

Web pre-training sees both, and a model that never saw anything bad has nothing to unlearn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter

from benchmarks.stages.context import Context, write_json, write_lines
from benchmarks.tasks.base import Task, TaskData
from cringe.backbones import build_backbone, pretrained_backbone, train_tokenizer
from cringe.data import Example, Feedback, StratifiedSampler
from cringe.methods.transformer import Transformer
from cringe.specs import BackboneSpec, PretrainedBackbone, ScratchBackbone, TrainingSettings
from cringe.trainer import Trainer


def run(settings: Mapping[str, Any], context: Context) -> None:
    """Train and keep the shared backbone."""
    task, data = context.load(settings)
    spec: ScratchBackbone | PretrainedBackbone = TypeAdapter(BackboneSpec).validate_python(settings["backbone"])
    training = TrainingSettings.model_validate(settings["training"])
    sources = _unlabelled(task, data)
    if isinstance(spec, PretrainedBackbone):
        backbone = pretrained_backbone(spec)
    else:
        texts = (text for name in sorted(sources) for example in sources[name] for text in _texts(example))
        backbone = build_backbone(spec, train_tokenizer(texts, spec), seed=settings["seed"])
    trainer = Trainer(
        backbone,
        Transformer(),
        StratifiedSampler(sources, task.warmup_mixture(), batch_size=training.batch_size, seed=settings["seed"]),
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


def _unlabelled(task: Task, data: TaskData) -> dict[str, list[Example]]:
    """The training sources with their labels struck out, so that everything is learnt from."""
    return {
        stratum.source: [replace(example, feedback=Feedback.UNLABELLED) for example in data.sources[stratum.source]]
        for stratum in task.warmup_mixture()
    }


def _texts(example: Example) -> tuple[str, ...]:
    """Each turn of a dialogue about once: the response, and the partner's turn before it."""
    return (*example.context[-1:], example.response)
