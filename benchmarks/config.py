"""From a command line and a preset to one validated configuration, or to all of its errors at once."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from itertools import product
from math import prod
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SerializeAsAny, ValidationError, field_validator

from benchmarks.config_checks import method_problems, model_problems
from benchmarks.errors import UsageError, clip, did_you_mean
from benchmarks.presets import FOLDER, preset_entries
from benchmarks.provenance import LM_ENTRY, SHARED_JUDGE, SWEEP
from benchmarks.tasks import registry as tasks
from benchmarks.tasks.base import LM_DATA, Source, mixture, with_own
from benchmarks.yaml_text import read_yaml
from cringe.data import Stratum, batch_shares
from cringe.discovery import Entry
from cringe.methods import registry as methods
from cringe.methods.base import Method
from cringe.specs import (
    AnyClassifier,
    BackboneSpec,
    DecodingSpec,
    LinearClassifier,
    PrefixGuideSpec,
    PretrainedBackbone,
    PretrainedClassifier,
    ScratchBackbone,
    ScratchClassifier,
    Spec,
    TrainingSettings,
)

USUAL_KIND = "scratch"
"""Of models whose settings do not say."""
MOST_TRIALS = 1000
"""Of a sweep of one method: each trains a model."""
_NOT_SET_BY_NAME = frozenset({"task", "preset", "settings", "changes", "lm_data", "shared_judge"})
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
    processes: int = Field(default=1, ge=1)
    """Processes that train a language model together, each with ``threads`` threads or a GPU of its own. A part of the
    keys of such stages where it is above 1: sums are added in another order then, and dropout has other masks."""
    prompts: int | None = Field(default=None, ge=1)
    """Prompts to evaluate a metric on, drawn with a fixed seed; all when not given."""
    sweeps: Mapping[str, Mapping[str, tuple[Any, ...]]] = {}
    """By method and hyper-parameter, values to choose from on validation (`benchmarks.sweeps`)."""
    sources: tuple[str, ...] | None = None
    """Training sources of the task, in any order; the usual ones whose files are there when not given."""
    lm_data: str | None = Field(default=None, pattern=r"^(parlai|hf):.+$")
    """Unlabelled dialogue in the place of the task's own: a ParlAI teacher or a data set of the `datasets` library."""
    backbone: BackboneSpec
    warmup: TrainingSettings
    """Likelihood training that all methods start from, on everything: liked, disliked and unlabelled alike."""
    reference: BackboneSpec | None = None
    """The model whose likelihood says how fluent a reply is, such as a pretrained one; never the backbone's. When not
    given: one of the backbone's shape. From scratch it is trained on the judge's half of the data."""
    reference_training: TrainingSettings | None = None
    """Likelihood training of a reference from scratch; what is not set of it is the warm-up's. Of no use to a
    pretrained one, which is taken as it is."""
    training: TrainingSettings
    """The budget of every method."""
    settings: Mapping[str, SerializeAsAny[Method]]
    """Hyper-parameters of each method."""
    decoding: Mapping[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")], DecodingSpec] = Field(min_length=1)
    """By name, which becomes a part of names of files."""
    judge: AnyClassifier
    second_judge: AnyClassifier | None = None
    """A judge of another kind, trained on the same half as the judge: a second opinion beside its verdicts."""
    shared_judge: bool = False
    """Does the guide, which labels, steers and re-ranks, give the verdicts of the table, as in the paper? Then they are
    marked, and not ranked."""
    guide: AnyClassifier = ScratchClassifier()
    """The sequence guide, which labels and re-ranks: trained on another half of the data than the judge."""
    prefix_guide: PrefixGuideSpec = PrefixGuideSpec()
    """The prefix guide, which steers token by token."""

    @field_validator("seeds")
    @classmethod
    def _once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        """A seed that is named twice is one seed."""
        return tuple(dict.fromkeys(seeds))

    @property
    def training_of_reference(self) -> TrainingSettings:
        """What the reference model goes through; one that is pretrained is taken as it is."""
        if isinstance(self.reference, PretrainedBackbone):
            return self.warmup.model_copy(update={"updates": 0})
        return self.reference_training or self.warmup


def resolve(
    *,
    task: str,
    method_names: Sequence[str],
    preset: str = "tiny",
    seeds: Sequence[int] | None = None,
    lm_data: str | None = None,
    shared_judge: bool = False,
    sweeps: Sequence[str] = (),
    overrides: Sequence[str] = (),
) -> RunConfig:
    """The configuration that a command line asks for.

    Args:
        task: a task's name or alias.
        method_names: names or aliases; ``all`` stands for the methods that the task declares.
        preset: a preset's name, or the path of a YAML file, which may begin ``extends: NAME``.
        seeds: instead of the preset's.
        lm_data: unlabelled dialogue in the place of the task's own, such as ``parlai:blended_skill_talk``.
        shared_judge: let the guide give the verdicts, as in the paper.
        sweeps: ``method.setting=value,value``, values to choose from on validation; over those of the preset.
        overrides: ``key=value`` with dots for nesting, the value in YAML; ``cringe.alpha=2`` is short for
            ``methods.cringe.alpha=2``.

    Raises:
        UsageError: listing everything that is wrong.
    """
    problems: list[str] = []
    known_presets = preset_entries()
    task_name = find(task, tasks.entries(), "task", problems)
    preset_values = _read_preset(preset, problems)
    values = _for_task(dict(preset_values or {}), task_name, problems)
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
    wanted = tuple(dict.fromkeys(name for name in names if name))
    values = {
        **values,
        "task": task_name,
        "methods": wanted,
        "sweeps": _sweeps(values.get("sweeps"), sweeps, wanted, known, problems),
        "preset": preset if preset in known_presets else _file_name(Path(preset).stem, known_presets),
        "changes": (
            *overrides,
            *[f"{LM_ENTRY}{lm_data}"] * bool(lm_data),
            *[SHARED_JUDGE] * shared_judge,
            *[f"{SWEEP}{sweep}" for sweep in sweeps],
        ),
        "lm_data": lm_data,
        "shared_judge": shared_judge,
        "settings": _method_settings(settings, known, problems),
    } | ({"seeds": tuple(dict.fromkeys(seeds))} if seeds is not None else {})
    config = None
    if preset_values is not None:  # else there is one thing to say, and it has been said
        if isinstance(values.get("decoding"), dict):  # null drops a decoding that the preset has
            values["decoding"] = {name: spec for name, spec in values["decoding"].items() if spec is not None}
        if task_name:
            _fill_reads(task_name, values)
        own, shared = values.get("reference_training"), values.get("warmup")
        if isinstance(own, dict) and isinstance(shared, dict):
            values["reference_training"] = _merge(shared, own)
        config = _validate(values, problems)
        if task_name:
            _check_sources(task_name, values, problems, config is None)
    if config is not None:
        problems += model_problems(config)
        _check_sweeps(config, problems)
        if task_name:
            problems += method_problems(config)
            problems += _usual_share_problems(config)
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
        problems.append(f"no preset '{clip(preset)}'; {did_you_mean(preset, preset_entries())}, or a YAML file")
        return None
    try:
        whole = Path(os.path.realpath(path))
        if whole in seen:
            problems.append(f"preset {preset} extends itself: {' → '.join(place.name for place in (*seen, path))}")
            return None
        values = read_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        problems.append(f"preset {path}: cannot be read ({clip(' '.join(str(error).split()), 160)})")
        return None
    if not isinstance(values, dict):
        problems.append(f"preset {path}: holds a {type(values).__name__}, not settings by name")
        return None
    base = values.pop("extends", None)
    if base is None:
        return values
    if not named and _is_file(path.parent / str(base)):
        base = path.parent / str(base)
    below = _read_preset(str(base), problems, (*seen, whole))
    return None if below is None else _merge(below, values)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # no file can have such a name
        return False


def _merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """``top`` over ``base``, mappings merged key by key; one of another ``kind`` replaces the one below it."""
    if "kind" in top and top["kind"] != base.get("kind", USUAL_KIND):
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
            value = read_yaml(text)
        except ValueError as error:
            problems.append(f"--set {clip(override)}: the value is not YAML ({error})")
            continue
        place = values
        for part in parts[:-1]:
            below = place.get(part)
            place[part] = dict(below) if isinstance(below, dict) else {}
            place = place[part]
        if parts[-1] == "kind" and place.get("kind", USUAL_KIND) != value:
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


def _sweeps(
    preset: object, words: Sequence[str], wanted: Sequence[str], known: Mapping[str, Entry], problems: list[str]
) -> dict[str, dict[str, list[Any]]]:
    """The values to choose from: those of the preset for methods of the table, and over them those asked for."""
    grid: dict[str, dict[str, list[Any]]] = {}
    if isinstance(preset, dict):
        grid = {name: dict(values) for name, values in preset.items() if name in wanted and isinstance(values, dict)}
        problems += [f"sweeps: no method '{name}'; {did_you_mean(str(name), known)}" for name in preset.keys() - known]
    elif preset is not None:
        problems.append(f"sweeps: holds {clip(repr(preset))}, not values by method")
    return grid | parse_sweeps(words, known, problems)


def parse_sweeps(
    words: Sequence[str], known: Mapping[str, Entry], problems: list[str]
) -> dict[str, dict[str, list[Any]]]:
    """The grid that words such as ``cringe.alpha=0.5,1,2,5`` ask for; what is wrong with them goes to ``problems``."""
    grid: dict[str, dict[str, list[Any]]] = {}
    for word in words:
        key, equals, text = word.partition("=")
        name, dot, field = key.strip().partition(".")
        if not (equals and dot and field and text.strip()):
            problems.append(f"--sweep {word}: not of the form method.setting=value,value, such as cringe.alpha=0.5,1,2")
            continue
        method = find(name, known, "method", problems)
        try:
            values = read_yaml(f"[{text}]")
        except ValueError as error:
            problems.append(f"--sweep {clip(word)}: the values are not YAML ({error})")
            continue
        if method:
            grid.setdefault(method, {})[field] = list(values)
    return grid


def sweep_points(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """All combinations of the values of a method's grid, the last hyper-parameter varying fastest."""
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def with_settings(config: RunConfig, method: str, values: Mapping[str, Any]) -> RunConfig:
    """The configuration with some of a method's hyper-parameters set to these values.

    Raises:
        ValidationError: the method does not take them.
    """
    changed = methods.load(method).model_validate({**config.settings[method].model_dump(), **values})
    return config.model_copy(update={"settings": {**config.settings, method: changed}})


def _check_sweeps(config: RunConfig, problems: list[str]) -> None:
    """Every trial must be valid settings of a method of the table, and they must be a choice that can be tried."""
    for method, grid in config.sweeps.items():
        if method not in config.methods:
            problems.append(f"--sweep {method}: is not among the methods of the table")
            continue
        if (count := prod(map(len, grid.values()))) > MOST_TRIALS:
            problems.append(f"--sweep {method}: asks for {count:,} trials, and {MOST_TRIALS:,} is the most")
            continue
        if method not in config.settings:
            continue  # what it starts from is wrong already
        wrong: list[str] = []
        for values in sweep_points(grid):
            try:
                with_settings(config, method, values)
            except ValidationError as error:
                wrong += _sentences(error, methods.load(method), prefix=f"--sweep {method}.")
        unlike = [f"--sweep {method}.{field}: {said}" for field, values in grid.items() if (said := _no_choice(values))]
        problems += wrong or unlike


def _no_choice(values: Sequence[Any]) -> str:
    """What keeps the values of a sweep from being a choice, for a sentence; empty if nothing does."""
    if twice := [value for place, value in enumerate(values) if value in values[:place]]:
        return f"{clip(repr(twice[0]))} is there twice"
    if len(values) < 2:
        return f"a choice needs two values or more (found {clip(', '.join(map(repr, values)))}); --set sets one"
    return ""


def _for_task(values: dict[str, Any], task: str, problems: list[str]) -> dict[str, Any]:
    """A preset's settings for a task: those for all, and over them what its section ``tasks`` says of this one."""
    sections = values.pop("tasks", None) or {}
    if not isinstance(sections, dict):
        problems.append(f"tasks: holds {clip(repr(sections))}, not settings by task")
        return values
    known = tasks.entries()
    named: dict[str, Any] = {}
    for word, section in sections.items():
        if (name := find(str(word), known, "task", problems)) in named and name:
            problems.append(f"tasks.{word}: task '{name}' has a section already")
        named[name] = section
    section = named.get(task) or {}
    if not isinstance(section, dict):
        problems.append(f"tasks.{task}: holds {clip(repr(section))}, not settings by name")
        return values
    return _merge(values, section)


def _fill_reads(task: str, values: dict[str, Any]) -> None:
    """Guide and judge read what the task says, where nothing else was asked for."""
    for role in ("judge", "guide", "second_judge"):
        spec = values.get(role, None if role == "second_judge" else {})
        if isinstance(spec, dict):
            values[role] = {"reads": tasks.load(task).reads, **spec}


def _usual_share_problems(config: RunConfig) -> list[str]:
    """`share_problems` of the sources that were asked for, else of the usual ones; the data may hold others."""
    task = tasks.load(config.task)
    names = task.usual_sources(None) if config.sources is None else config.sources
    chosen = [source for source in task.sources if source.name in names]
    return share_problems(config, with_lm_data(chosen, config.lm_data)) if chosen else []


def _check_sources(task: str, values: Mapping[str, Any], problems: list[str], unvalidated: bool) -> None:
    """Sources must be the task's; where other settings are wrong, batches are looked at here all the same."""
    declared = {source.name: source for source in tasks.load(task).sources}
    asked = values.get("sources")
    names = tasks.load(task).usual_sources(None) if asked is None else asked
    if not isinstance(names, list | tuple):
        return
    if any(not isinstance(name, str) for name in names):
        return  # which the validation has said
    unknown = [name for name in names if name not in declared]
    problems += [f"sources: task '{task}' has no source '{name}'; {did_you_mean(name, declared)}" for name in unknown]
    chosen = [declared[name] for name in names if name in declared]
    if asked is not None and not chosen and not unknown:
        problems.append(f"sources: names none; {did_you_mean('', declared)}")
    if chosen and not unknown and unvalidated:
        for name in ("training", "warmup"):
            settings = values.get(name)
            size = settings.get("batch_size") if isinstance(settings, dict) else None
            if isinstance(size, int) and size > 0:
                problems += _batch_problems(name, size, mixture(with_lm_data(chosen, values.get("lm_data"))))


def with_lm_data(sources: Sequence[Source], lm_data: object) -> tuple[Source, ...]:
    """The sources of a run; ``--lm-data`` takes the place of the unlabelled ones."""
    return (LM_DATA, *(source for source in sources if source.labelled)) if lm_data else tuple(sources)


def share_problems(config: RunConfig, sources: Sequence[Source]) -> list[str]:
    """What keeps the batches of a run that trains on ``sources`` from holding whole shares of every stratum."""
    strata = mixture(sources)
    problems = _batch_problems("training", config.training.batch_size, strata)
    trained = [config.settings[name].trained_as() for name in config.methods if name in config.settings]
    if any(getattr(method, "iterations", 1) > 1 for method in trained):
        problems += _batch_problems("training", config.training.batch_size, with_own(strata))
    problems += _batch_problems("warmup", config.warmup.batch_size, strata)
    spent = config.training_of_reference
    if tasks.load(config.task).judged:
        seen = [source for source in sources if not source.labelled]
        strata = mixture([*seen, Source(name="judge", labelled=True)])
    setting = "reference_training" if spent is config.reference_training else "warmup"
    problems += _batch_problems(setting, spent.batch_size, strata)
    return list(dict.fromkeys(problems))


def _batch_problems(setting: str, batch_size: int, strata: Sequence[Stratum]) -> list[str]:
    """What keeps a batch from holding whole shares of every stratum; nothing, or one sentence."""
    try:
        batch_shares(strata, batch_size)
    except ValueError as error:
        return [f"{setting}.batch_size: {error}"]
    return []


def _sentences(error: ValidationError, model: type[Spec], prefix: str = "") -> list[str]:
    """One sentence for each thing that pydantic found wrong."""
    sentences = []
    for item in error.errors(include_url=False):
        path = [str(part) for part in item["loc"]]
        key = (prefix + ".".join(part for part in path if part not in _CLASSIFIERS)).rstrip(".")
        if item["type"] == "extra_forbidden":
            sentences.append(f"{key}: no such setting; {did_you_mean(path[-1], _fields(model, path[:-1]))}")
        elif item["type"] == "missing":
            sentences.append(f"{key}: not set, and it has no default")
        elif item["type"].startswith("union_tag"):
            sentences.append(
                f"{key}: kind should be 'scratch' or 'pretrained', with the settings of such a model "
                f"(found {clip(repr(item['input']))})"
            )
        else:
            message = item["msg"].removeprefix("Value error, ")
            sentences.append(f"{key or 'settings'}: {message} (found {clip(repr(item['input']))})")
    return sentences


_CLASSIFIERS: dict[str, type[Spec]] = {
    "scratch": ScratchClassifier,
    "linear": LinearClassifier,
    "pretrained": PretrainedClassifier,
}


def _fields(model: type[Spec], path: Sequence[str]) -> list[str]:
    """Names of the settings at a place in a spec."""
    kind = next((part for part in path if part in _CLASSIFIERS), "scratch")
    classifier, backbone = _CLASSIFIERS[kind], PretrainedBackbone if kind == "pretrained" else ScratchBackbone
    kinds: dict[str, type[Spec]] = {
        **dict.fromkeys(("warmup", "training", "reference_training"), TrainingSettings),
        "decoding": DecodingSpec,
        **dict.fromkeys(("judge", "second_judge", "guide"), classifier),
        "prefix_guide": PrefixGuideSpec,
        **dict.fromkeys(("backbone", "reference"), backbone),
    }
    fields = (kinds.get(path[0], model) if path else model).model_fields
    return [name for name in fields if model is not RunConfig or path or name not in _NOT_SET_BY_NAME]
