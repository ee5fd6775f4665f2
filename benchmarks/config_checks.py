"""What the settings of a run must be to each other, each being valid by itself: its models, and what methods need."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.errors import did_you_mean
from benchmarks.tasks import registry as tasks
from cringe.specs import PretrainedBackbone, PretrainedClassifier, ScratchBackbone

if TYPE_CHECKING:
    from benchmarks.config import RunConfig


def model_problems(config: RunConfig) -> list[str]:
    """A backbone must have a position for every token that is decoded; who measures must be another than who learns."""
    problems = _reference_problems(config)
    if isinstance(config.backbone, ScratchBackbone):
        places = max(config.backbone.max_source, config.backbone.max_target)
        problems += [
            f"decoding.{name}.max_new_tokens: {spec.max_new_tokens} is above the backbone's {places} positions "
            "(the larger of max_source and max_target)"
            for name, spec in config.decoding.items()
            if spec.max_new_tokens > places
        ]
    guide, judge = config.guide, config.judge
    if (
        isinstance(guide, PretrainedClassifier)
        and isinstance(judge, PretrainedClassifier)
        and _same_place(guide.name, judge.name)
        and not config.shared_judge
    ):
        problems.append(
            f"judge.name: '{judge.name}' is the guide's, too, and a judge that starts from what methods learn to "
            "please errs as it does; name another, take judge.kind=linear, or ask for it with --judge shared"
        )
    return problems


def _reference_problems(config: RunConfig) -> list[str]:
    """The reference model must be there, be trained, and be no model that a method starts from."""
    backbone, reference = config.backbone, config.reference
    problem = ""
    if isinstance(backbone, PretrainedBackbone) and reference is None:
        problem = (
            "reference: not set; a pretrained backbone needs another model to measure fluency with: a pretrained one "
            "(reference.kind=pretrained reference.name=…), or the settings of one from scratch"
        )
    elif isinstance(reference, PretrainedBackbone):
        if isinstance(backbone, PretrainedBackbone) and same_model(backbone, reference):
            problem = (
                f"reference.name: '{reference.gguf_file or reference.name}' is the backbone's, too, and a model finds "
                "fluent what methods that start from it write; name another, or take one from scratch"
            )
    elif config.training_of_reference.updates == 0:
        name = "warmup" if config.reference_training is None else "reference_training"
        problem = (
            f"{name}.updates: 0 leaves the reference model, which is from scratch, untrained, and it measures no "
            "fluency; set reference_training.updates, or name a pretrained one with reference.kind and reference.name"
        )
    return [problem] if problem else []


def same_model(one: PretrainedBackbone, other: PretrainedBackbone) -> bool:
    """Is it one hub id or folder, whatever the revision? Two GGUF files of a folder are two models."""
    if one.gguf_file is not None and other.gguf_file is not None:
        files = [Path(spec.name) / str(spec.gguf_file) for spec in (one, other)]
        if all(file.is_file() for file in files):
            return files[0].resolve() == files[1].resolve()
        return _same_place(one.name, other.name) and one.gguf_file == other.gguf_file
    return _same_place(one.name, other.name)


def _same_place(name: str, other: str) -> bool:
    """Is it one hub id, or one folder?"""
    return name == other or (Path(name).is_dir() and Path(name).resolve() == Path(other).resolve())


def method_problems(config: RunConfig) -> list[str]:
    """What a method needs, and what its hyper-parameters say of other settings, must be so."""
    problems = []
    task = tasks.load(config.task)
    for name in config.methods:
        method = config.settings.get(name)
        if method is not None and method.needs and not any(source.labelled for source in task.sources):
            problems.append(f"{name}: needs a guide, and task '{task.name}' has no labelled responses to train one on")
        decoding = getattr(method, "decoding", None)
        if isinstance(decoding, str) and decoding not in config.decoding:
            problems.append(f"{name}.decoding: no decoding '{decoding}'; {did_you_mean(decoding, config.decoding)}")
        rounds = getattr(method, "iterations", 1)
        if rounds > max(1, config.training.updates):
            problems.append(f"{name}.iterations: {rounds} rounds do not fit into {config.training.updates} updates")
        k = getattr(method, "k", None)
        if isinstance(k, int) and isinstance(config.backbone, ScratchBackbone) and k >= config.backbone.vocabulary:
            problems.append(f"{name}.k: {k} is not below the backbone's vocabulary of {config.backbone.vocabulary}")
    return problems
