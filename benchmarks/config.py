"""From a command line and a preset to one validated configuration, or to all of its errors at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError, field_validator

from benchmarks.errors import UsageError, clip, did_you_mean
from benchmarks.presets import FOLDER, preset_entries
from benchmarks.tasks import registry as tasks
from cringe.data import batch_shares
from cringe.discovery import Entry
from cringe.methods import registry as methods
from cringe.methods.base import Method
from cringe.specs import (
    BackboneSpec,
    ClassifierSpec,
    DecodingSpec,
    PrefixGuideSpec,
    ScratchBackbone,
    Spec,
    TrainingSettings,
)

_NOT_SET_BY_NAME = frozenset({"task", "preset", "settings", "changes"})
"""Fields of a configuration that have options of their own."""


class RunConfig(Spec):
    """Everything that a run depends on, but for its data."""

    task: str
    methods: tuple[str, ...]
    """Rows of the table, in its order."""
    preset: str
    """Where the settings come from, for the title."""
    changes: tuple[str, ...] = ()
    """What ``--set`` changed, for the title."""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1)
    threads: int = Field(ge=1)
    """Threads of a stage on CPU. A part of every key, so that results do not depend on how stages are run."""
    prompts: int | None = Field(default=None, ge=1)
    """Prompts to evaluate a metric on, drawn with a fixed seed; all when not given."""
    backbone: BackboneSpec
    warmup: TrainingSettings
    """Likelihood training that all methods start from, on everything: liked, disliked and unlabelled alike."""
    training: TrainingSettings
    """The budget of every method."""
    settings: Mapping[str, Method]
    """Hyper-parameters of each method."""
    decoding: Mapping[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")], DecodingSpec] = Field(min_length=1)
    """By name, which becomes a part of names of files."""
    judge: ClassifierSpec
    guide: ClassifierSpec = ClassifierSpec()
    """The sequence guide, which labels and re-ranks: trained on another half of the data than the judge."""
    prefix_guide: PrefixGuideSpec = PrefixGuideSpec()
    """The prefix guide, which steers token by token."""

    @field_validator("seeds")
    @classmethod
    def _once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        """A seed that is named twice is one seed."""
        return tuple(dict.fromkeys(seeds))


def resolve(
    *,
    task: str,
    method_names: Sequence[str],
    preset: str = "tiny",
    seeds: Sequence[int] | None = None,
    overrides: Sequence[str] = (),
) -> RunConfig:
    """The configuration that a command line asks for.

    Args:
        task: a task's name or alias.
        method_names: names or aliases; ``all`` stands for the methods that the task declares.
        preset: a preset's name, or the path of a YAML file, which may begin ``extends: NAME``.
        seeds: instead of the preset's.
        overrides: ``key=value`` with dots for nesting, the value in YAML; ``cringe.alpha=2`` is short for
            ``methods.cringe.alpha=2``.

    Raises:
        UsageError: listing everything that is wrong.
    """
    problems: list[str] = []
    known_presets = preset_entries()
    task_name = find(task, tasks.entries(), "task", problems)
    preset_values = _read_preset(preset, problems)
    values = dict(preset_values or {})
    known = methods.entries()
    names: list[str] = []
    for name in method_names:
        if name == "all":
            names += tasks.load(task_name).methods if task_name else ()
        else:
            names.append(find(name, known, "method", problems))
    settings = _override(values, overrides, known, problems)
    problems += [
        f"{key}: is not set in a preset or with --set; it has an option of its own, see --help"
        for key in sorted(_NOT_SET_BY_NAME & values.keys())
    ]
    values = {
        **values,
        "task": task_name,
        "methods": tuple(dict.fromkeys(name for name in names if name)),
        "preset": preset if preset in known_presets else _file_name(Path(preset).stem, known_presets),
        "changes": tuple(overrides),
        "settings": _method_settings(settings, known, problems),
    } | ({"seeds": tuple(dict.fromkeys(seeds))} if seeds is not None else {})
    config = None
    if preset_values is not None:  # else there is one thing to say, and it has been said
        if isinstance(values.get("decoding"), dict):  # null drops a decoding that the preset has
            values["decoding"] = {name: spec for name, spec in values["decoding"].items() if spec is not None}
        config = _validate(values, problems)
        if task_name:
            _check_batches(task_name, values, problems)
    if config is not None:
        _check_lengths(config, problems)
        _check_methods(config, problems)
    if problems or config is None:
        raise UsageError("\n".join(problems))
    return config


def _file_name(stem: str, known: Mapping[str, str]) -> str:
    """A preset file's name as a part of names of files, and never that of a preset of ours."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", stem)
    return f"{name}-file" if name in known else name


def find(word: str, known: Mapping[str, Entry], what: str, problems: list[str]) -> str:
    """The name that ``word`` is or is an alias of; otherwise an empty string and one problem more."""
    aliases = {alias: name for name, entry in known.items() for alias in entry.aliases}
    name = aliases.get(word, word)
    if name not in known:
        problems.append(f"no {what} '{word}'; {did_you_mean(word, [*known, *aliases])}")
        return ""
    return name


def _read_preset(preset: str, problems: list[str], seen: tuple[Path, ...] = ()) -> dict[str, Any] | None:
    """The values of a preset, on top of those that it extends; None, and one problem more, if it cannot be read."""
    named = preset in preset_entries()
    path = FOLDER / f"{preset}.yaml" if named else Path(preset)
    if not named and path.suffix not in {".yaml", ".yml"}:
        problems.append(f"no preset '{preset}'; {did_you_mean(preset, preset_entries())}, or a YAML file")
        return None
    if path.resolve() in seen:
        problems.append(f"preset {preset} extends itself: {' → '.join(place.name for place in (*seen, path))}")
        return None
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        problems.append(f"preset {path}: cannot be read ({clip(' '.join(str(error).split()), 160)})")
        return None
    if not isinstance(values, dict):
        problems.append(f"preset {path}: holds a {type(values).__name__}, not settings by name")
        return None
    base = values.pop("extends", None)
    if base is None:
        return values
    if not named and (path.parent / str(base)).is_file():
        base = path.parent / str(base)
    below = _read_preset(str(base), problems, (*seen, path.resolve()))
    return None if below is None else _merge(below, values)


def _merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """``top`` over ``base``, mappings merged key by key; one of another ``kind`` replaces the one below it."""
    if "kind" in top and top["kind"] != base.get("kind", top["kind"]):
        return dict(top)
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _override(
    values: dict[str, Any], overrides: Sequence[str], known: Mapping[str, Entry], problems: list[str]
) -> dict[str, Any]:
    """Apply ``key=value`` to ``values`` in place; return the hyper-parameters by method, taken out of it."""
    aliases = {alias: name for name, entry in known.items() for alias in entry.aliases}
    for override in sorted(overrides, key=lambda override: ".kind=" not in override):
        key, equals, text = override.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            problems.append(f"--set {override}: not of the form key=value, such as training.updates=100")
            continue
        if aliases.get(parts[0], parts[0]) in known:
            parts = ["methods", *parts]
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            problems.append(f"--set {override}: the value is not YAML")
            continue
        place = values
        for part in parts[:-1]:
            below = place.get(part)
            place[part] = dict(below) if isinstance(below, dict) else {}
            place = place[part]
        if parts[-1] == "kind" and place.get("kind", value) != value:
            place.clear()  # the settings of another kind are of no use to this one
        place[parts[-1]] = value
    settings = values.pop("methods", None) or {}
    if not isinstance(settings, dict):
        problems.append(f"methods: holds {clip(repr(settings))}, not hyper-parameters by method")
        return {}
    return settings


def _method_settings(settings: Mapping[str, Any], known: Mapping[str, Entry], problems: list[str]) -> dict[str, Method]:
    """Every method with its hyper-parameters; those not set have the defaults of the method's file."""
    given: dict[str, Any] = {}
    for word, values in settings.items():
        name = find(str(word), known, "method", problems)
        if name:
            given[name] = {**given.get(name, {}), **values} if isinstance(values, dict) else values
    built: dict[str, Method] = {}
    for name in known:
        cls = methods.load(name)
        try:
            built[name] = cls.model_validate(given.get(name, {}))
        except ValidationError as error:
            problems += _sentences(error, cls, prefix=f"{name}.")
    return built


def _validate(values: Mapping[str, Any], problems: list[str]) -> RunConfig | None:
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        problems += _sentences(error, RunConfig)
        return None


def _check_batches(task: str, values: Mapping[str, Any], problems: list[str]) -> None:
    """A batch must hold whole shares of every stratum; looked at even where other settings are wrong."""
    for name, strata in (("training", tasks.load(task).mixture), ("warmup", tasks.load(task).warmup_mixture())):
        settings = values.get(name)
        size = settings.get("batch_size") if isinstance(settings, dict) else None
        if isinstance(size, int) and size > 0:
            try:
                batch_shares(strata, size)
            except ValueError as error:
                problems.append(f"{name}.batch_size: {error}")


def _check_lengths(config: RunConfig, problems: list[str]) -> None:
    """A backbone from scratch must have a position for every token that is decoded."""
    if isinstance(config.backbone, ScratchBackbone):
        places = max(config.backbone.max_source, config.backbone.max_target)
        problems += [
            f"decoding.{name}.max_new_tokens: {spec.max_new_tokens} is above the backbone's {places} positions "
            "(the larger of max_source and max_target)"
            for name, spec in config.decoding.items()
            if spec.max_new_tokens > places
        ]


def _check_methods(config: RunConfig, problems: list[str]) -> None:
    """What a method's hyper-parameters say of other settings must be so."""
    for name in config.methods:
        method = config.settings.get(name)
        decoding = getattr(method, "decoding", None)
        if isinstance(decoding, str) and decoding not in config.decoding:
            problems.append(f"{name}.decoding: no decoding '{decoding}'; {did_you_mean(decoding, config.decoding)}")
        rounds = getattr(method, "iterations", 1)
        if rounds > max(1, config.training.updates):
            problems.append(f"{name}.iterations: {rounds} rounds do not fit into {config.training.updates} updates")
        k = getattr(method, "k", None)
        if isinstance(k, int) and isinstance(config.backbone, ScratchBackbone) and k >= config.backbone.vocabulary:
            problems.append(f"{name}.k: {k} is not below the backbone's vocabulary of {config.backbone.vocabulary}")


def _sentences(error: ValidationError, model: type[Spec], prefix: str = "") -> list[str]:
    """One sentence for each thing that pydantic found wrong."""
    sentences = []
    for item in error.errors(include_url=False):
        path = [str(part) for part in item["loc"]]
        key = (prefix + ".".join(part for part in path if part not in {"scratch", "pretrained"})).rstrip(".")
        if item["type"] == "extra_forbidden":
            sentences.append(f"{key}: no such setting; {did_you_mean(path[-1], _fields(model, path[:-1]))}")
        elif item["type"] == "missing":
            sentences.append(f"{key}: not set, and it has no default")
        else:
            message = item["msg"].removeprefix("Value error, ")
            sentences.append(f"{key or 'settings'}: {message} (found {clip(repr(item['input']))})")
    return sentences


def _fields(model: type[Spec], path: Sequence[str]) -> list[str]:
    """Names of the settings at a place in a spec."""
    from cringe.specs import PretrainedBackbone

    kinds: dict[str, type[Spec]] = {
        "warmup": TrainingSettings,
        "training": TrainingSettings,
        "decoding": DecodingSpec,
        "judge": ClassifierSpec,
        "guide": ClassifierSpec,
        "prefix_guide": PrefixGuideSpec,
        "backbone": PretrainedBackbone if "pretrained" in path else ScratchBackbone,
    }
    fields = (kinds.get(path[0], model) if path else model).model_fields
    return [name for name in fields if model is not RunConfig or path or name not in _NOT_SET_BY_NAME]
