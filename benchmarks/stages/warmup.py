"""The backbone that all methods start from: a tokenizer, and likelihood training on the bad as well as the good.

Web pre-training sees both, and a model that never saw anything bad has nothing to unlearn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from pydantic import TypeAdapter

from benchmarks.stages.context import Context, write_json, write_lines
from benchmarks.tasks.base import Task
from cringe.backbones import build_backbone, pretrained_backbone, train_tokenizer
from cringe.data import Example, Feedback, StratifiedSampler, Stratum
from cringe.methods.transformer import Transformer
from cringe.specs import BackboneSpec, PretrainedBackbone, ScratchBackbone, TrainingSettings
from cringe.token_cache import TokenCache
from cringe.trainer import Trainer


def run(settings: Mapping[str, Any], context: Context) -> None:
    """Train and keep the shared backbone."""
    task, data = context.load(settings)
    train_language_model(
        {
            stratum: [example for example in data.sources[stratum.source] if example.feedback == stratum.feedback]
            for stratum in context.mixture(task, settings)
        },
        task,
        settings,
        context,
    )


def train_language_model(
    examples: Mapping[Stratum, Sequence[Example]], task: Task, settings: Mapping[str, Any], context: Context
) -> None:
    """Likelihood training on every stratum, each with its share of a batch, as `Task.warmup_view` shows it.

    Args:
        examples: those of each stratum, with their feedback.
        task: says how they are seen.
        settings: ``backbone``, ``training`` and ``seed``.
        context: where the model goes.
    """
    spec: ScratchBackbone | PretrainedBackbone = TypeAdapter(BackboneSpec).validate_python(settings["backbone"])
    training = TrainingSettings.model_validate(settings["training"])
    sources = {stratum.name: [task.warmup_view(example) for example in part] for stratum, part in examples.items()}
    strata = [replace(stratum, source=stratum.name, feedback=Feedback.UNLABELLED) for stratum in examples]
    if isinstance(spec, PretrainedBackbone):
        backbone = pretrained_backbone(spec)
    else:
        texts = (text for name in sorted(sources) for example in sources[name] for text in _texts(example))
        backbone = build_backbone(spec, train_tokenizer(texts, spec), seed=settings["seed"])
    backbone.tokens = TokenCache.open(context.tokens, backbone, chain.from_iterable(sources.values()))
    trainer = Trainer(
        backbone,
        Transformer(),
        StratifiedSampler(
            sources,
            strata,
            batch_size=training.batch_size,
            seed=settings["seed"],
            window=training.length_window,
            lengths=backbone.lengths,
        ),
        training,
        seed=settings["seed"],
        device=context.device,
        progress=context.progress,
        resume=context.resume,
    )
    counts = trainer.train()
    if not trainer.is_main_process:  # of several that train together one writes
        return
    backbone.save(context.out)
    write_json(context.out / "ledger.json", {"training": counts.to_dict(), "parameters": backbone.parameters})
    write_lines(context.out / "training_log.jsonl", trainer.records)


def _texts(example: Example) -> tuple[str, ...]:
    """Each turn of a dialogue about once: the response, the partner's turn before it, and what they draw on."""
    return (*example.context[-1:], *example.documents, example.response)
