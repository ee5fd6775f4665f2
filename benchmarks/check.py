"""Can a plan be carried out? Looks at configuration, data, models, disk and device; trains nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.carry_out import gpu_names, too_few
from benchmarks.config import RunConfig
from benchmarks.datafolder import DataSource
from benchmarks.model_files import Found, look
from benchmarks.plan import Plan
from benchmarks.runner import REPAIR, damaged
from benchmarks.tasks import registry as tasks
from benchmarks.tasks.base import LM_DATA
from cringe.specs import PretrainedBackbone, PretrainedClassifier, ScratchBackbone

BYTES_PER_WEIGHT = 4
TRAINED_COPIES = 4
"""Numbers that a weight has in training: itself, its gradient, and Adam's two moments."""
LARGEST_PRETRAINED = 500_000_000
"""Weights to reckon with on disk for a pretrained model of unknown size: BlenderBot 400M's, and room."""
_ROLES = ("backbone", "reference", "guide", "judge", "second_judge")
"""Settings that may name a pretrained model."""


def report(
    plan: Plan, source: DataSource, out: Path, device: str, *, elsewhere: bool = False, again: bool = False
) -> tuple[list[str], int]:
    """Lines for people, and the exit code.

    It is 0, 1 where finished results are damaged, 2 where disk or memory will not do, or 3 where a model is missing.

    Args:
        plan: what would be done.
        source: of the data.
        out: folder of the results.
        device: kind of device.
        elsewhere: on the machines of a cluster? Then this one's GPUs do not matter.
        again: is what is damaged done again?

    Raises:
        DataError: the data cannot be read.
    """
    config = plan.config
    seeds = ", ".join(map(str, config.seeds))
    lines = [f"configuration: ok; preset {config.preset}, methods {', '.join(config.methods)}, seeds {seeds}"]
    stages, stages_code = _stages(plan, out, again)
    lines += stages
    lines += _data(plan, source)
    found = dict(_pretrained(config))
    if found:
        lines.append(f"models: {'ok' if all(model.usable for model in found.values()) else 'missing'}")
        lines += [f"  {role}: {_told(config, role, model)}" for role, model in found.items()]
    disk, disk_code = _disk(plan, found, out)
    memory, memory_code = _memory(config, found, device)
    together, together_code = ([], 0) if elsewhere else _processes(plan, device)
    models_code = max((0 if model.usable else 3 for model in found.values()), default=0)
    code = max(stages_code, disk_code, memory_code, together_code, models_code)
    device_line = f"device: {device}, {os.cpu_count()} cores, {config.threads} thread(s) a stage"
    return [*lines, disk, memory, device_line, *together], code


def _stages(plan: Plan, out: Path, again: bool) -> tuple[list[str], int]:
    """How many there are, how many are done, and which of these are damaged."""
    there = [folder for stage in plan.stages if (folder := out / stage.folder).exists()]
    broken = damaged(there)
    line = f"stages: {len(plan.stages)}, done {len(there) - len(broken)}"
    if not broken:
        return [line], 0
    names = [f"  {name}: {', '.join(files)}" for name, files in broken.items()]
    step = [] if again else [f"  {REPAIR}"]
    return [f"{line}, damaged {len(broken)}", *names, *step], 0 if again else 1


def _processes(plan: Plan, device: str) -> tuple[list[str], int]:
    """Are there GPUs for the processes of a training? Nothing is said where it has one."""
    most = max(stage.processes for stage in plan.stages)
    if most == 1:
        return [], 0
    gpus = gpu_names() if device == "cuda" else []
    if device == "cuda" and (problem := too_few(gpus, most)):
        return [problem], 2
    each = f", each with one of {len(gpus)} GPUs" if gpus else ""
    return [f"processes: ok; {most} train a language model together{each}"], 0


def _data(plan: Plan, source: DataSource) -> list[str]:
    """Records of every file, beside those of the official release."""
    if source.folder is None:
        return ["data: generated when the run begins"]
    task = tasks.load(plan.config.task)
    counts = task.load(source.folder, [part.name for part in plan.sources if part != LM_DATA]).counts
    official = {file.name: file.official_rows for file in task.files}
    lines = [f"data: ok; {source.folder} ({source.origin})"]
    for name, count in counts.items():
        whole = official.get(name)
        share = f" of {whole} in the official release" if whole else ""
        lines.append(f"  {name}: {count}{share}")
    return lines


def _pretrained(config: RunConfig) -> Iterator[tuple[str, Found]]:
    """The role of every pretrained model, and what there is of it."""
    for role in _ROLES:
        spec = getattr(config, role)
        if isinstance(spec, PretrainedBackbone):
            yield role, look(spec.name, gguf_file=spec.gguf_file, revision=spec.revision)
        elif isinstance(spec, PretrainedClassifier):
            yield role, look(spec.name, revision=spec.revision)


def _told(config: RunConfig, role: str, model: Found) -> str:
    spec = getattr(config, role)
    file = getattr(spec, "gguf_file", None)
    size = "" if model.parameters is None else f", {model.parameters:,} parameters"
    return f"{spec.name}{f'/{file}' if file else ''}: {model.said}{size}"


def _disk(plan: Plan, found: Mapping[str, Found], out: Path) -> tuple[str, int]:
    """Free space against what the models of the plan will take."""
    place = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        return f"disk: {place} cannot be written to; name another folder with --out", 2
    roles = {"warmup": ["backbone"], "train": ["backbone"], "reference": ["reference"]}
    # Classifiers from scratch are small.
    roles["guide"] = ["guide"] if "guide" in found else []
    roles["judge"] = [role for role in ("judge", "second_judge") if role in found]
    written = [role for stage in plan.stages for role in roles.get(stage.kind, ())]
    sizes = [_parameters(plan.config, role, found) for role in written]
    need = BYTES_PER_WEIGHT * sum(LARGEST_PRETRAINED if size is None else size for size in sizes)
    free = shutil.disk_usage(place).free
    fits = "ok" if need < free else "too little"
    guess = f", {unknown} of them of unknown size" if (unknown := sizes.count(None)) else ""
    models = f"{need / 1e6:,.0f} MB for {len(sizes)} models{guess}"
    return f"disk: {fits}; about {models}, {free / 1e6:,.0f} MB free in {place}", 0 if need < free else 2


def _memory(config: RunConfig, found: Mapping[str, Found], device: str) -> tuple[str, int]:
    """What the largest model holds in training, against what the device has; what a batch takes is not known."""
    roles = ["backbone", *["reference"] * isinstance(config.reference, ScratchBackbone)]
    sizes = [_parameters(config, role, found) for role in roles]
    if None in sizes:
        return "memory: not known before the backbone has been fetched", 0
    largest = max(size for size in sizes if size is not None)
    copies = config.processes if device == "cpu" else 1  # GPUs hold one each
    need = largest * BYTES_PER_WEIGHT * TRAINED_COPIES * copies
    has = _memory_of(device)
    fits = "not known to be enough" if has is None else "ok" if need < has else "too little"
    room = "" if has is None else f", {'the GPU' if device == 'cuda' else 'the machine'} has {has / 1e6:,.0f} MB"
    what = f"{largest / 1e6:,.1f} M parameters, their gradients and Adam's moments, and more for a batch"
    what += f", in each of {copies} processes" * (copies > 1)
    return f"memory: {fits}; training holds about {need / 1e6:,.0f} MB for {what}{room}", 2 * (fits == "too little")


def _memory_of(device: str) -> int | None:
    """Bytes that the smallest device of the kind has; None where the system does not say."""
    if device == "cuda":
        import torch

        devices = range(torch.cuda.device_count())
        return min((torch.cuda.get_device_properties(index).total_memory for index in devices), default=None)
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _parameters(config: RunConfig, role: str, found: Mapping[str, Found]) -> int | None:
    """Number of weights of a model; None where it is pretrained and of unknown size."""
    if role == "reference" and config.reference is None:
        role = "backbone"
    if role in found:
        return found[role].parameters
    spec = getattr(config, role)
    return estimated_parameters(spec) if isinstance(spec, ScratchBackbone) else None


def estimated_parameters(spec: ScratchBackbone) -> int:
    """About how many weights a model from scratch has: embeddings, attention (4 d² each) and feed-forward layers."""
    attention, feedforward = 4 * spec.width**2, spec.width * spec.feedforward
    if spec.family == "causal":  # Llama's feed-forward layers have a gate, and its positions no weights
        return spec.decoder_layers * (attention + 3 * feedforward) + spec.vocabulary * spec.width
    layers = spec.encoder_layers * (attention + 2 * feedforward)
    layers += spec.decoder_layers * (2 * attention + 2 * feedforward)
    positions = 2 * max(spec.max_source, spec.max_target)
    return layers + (spec.vocabulary + positions) * spec.width
