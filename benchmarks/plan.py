"""From a configuration to an ordered graph of stages, each named by the hash of all that can change its output."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from benchmarks import lm_data
from benchmarks.config import RunConfig
from benchmarks.keys import canonical, folder_digest, package_versions, source_digest
from benchmarks.table_inputs import ANY_DECODING
from benchmarks.table_model import Kind
from benchmarks.tasks import registry as tasks
from benchmarks.tasks.base import Column, Source, prompt_sets
from cringe.methods.base import Method
from cringe.methods.cringe import Cringe


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A piece of work that fills one directory: the module `benchmarks.stages.KIND` on these settings and parents."""

    kind: str
    label: str
    """What it is, for people; the directory's name begins with it."""
    settings: Mapping[str, Any]
    """JSON values; the whole input of the stage, but for its parents' directories and the data."""
    parents: Mapping[str, Stage]
    modules: tuple[str, ...]
    """Modules, found by name at run time, whose source the output depends on, beside the stage's own."""
    surroundings: Mapping[str, Any]
    """What else the output depends on: device kind, threads, processes where there are several, hashes of the data."""

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that goes into the key, as JSON."""
        return {
            "kind": self.kind,
            "settings": dict(self.settings),
            "parents": {name: parent.key for name, parent in self.parents.items()},
            "source": source_digest(f"benchmarks.stages.{self.kind}", *self.modules),
            "versions": package_versions(),
            **self.surroundings,
        }

    @cached_property
    def key(self) -> str:
        """SHA-256 of the identity as canonical JSON."""
        return hashlib.sha256(canonical(self.identity)).hexdigest()

    @property
    def processes(self) -> int:
        """How many processes do it together, each with a GPU of its own where the device is one."""
        return int(self.surroundings.get("processes", 1))

    @property
    def folder(self) -> str:
        """Name of the stage's directory."""
        return f"{self.label}-{self.key[:12]}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the table and seed: the stage that holds its scores."""

    name: str
    kind: Kind
    seed: int
    scores: Stage
    round: int | None = None
    """Of a method that trains in rounds: after which of them it is scored; None after the last. Not in the table."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The stages of one table."""

    config: RunConfig
    synthetic: bool
    sources: tuple[Source, ...]
    """What models are trained on."""
    columns: tuple[Column, ...]
    """What is measured."""
    rows: tuple[Row, ...]
    judge: Stage | None
    """None where no column is a judge's verdict."""
    references: Stage
    fingerprint: Mapping[str, str] | None
    """SHA-256 of every data file by its relative path; None for generated data."""
    trials: tuple[Mapping[str, Any], ...] = ()
    """What sweeps tried to choose the settings, for the manifest (`benchmarks.sweeps`)."""
    choices: tuple[str, ...] = ()
    """A sentence on each choice, for the table's notes."""
    stages: tuple[Stage, ...] = field(default=())
    """All stages, parents first, each once."""

    @property
    def name(self) -> str:
        """File name of the table, without ending."""
        return "-".join([self.config.task, self.config.preset, *(["synthetic"] if self.synthetic else [])])

    @property
    def key(self) -> str:
        """Hash of the keys of all rows."""
        return hashlib.sha256(canonical([row.scores.key for row in self.rows])).hexdigest()


def make_plan(
    config: RunConfig,
    *,
    sources: Sequence[Source],
    fingerprint: Mapping[str, str] | None,
    device: str,
    generated: bool = False,
    columns: Sequence[Column] | None = None,
) -> Plan:
    """Lay out the stages of a table.

    Args:
        config: what to compare.
        sources: what to train on.
        fingerprint: SHA-256 of every data file by its relative path; None for generated data.
        device: kind of device, ``cpu`` or ``cuda``.
        generated: the files whose hashes are given hold generated data.
        columns: what is measured; the task's own where not given.
    """
    measured = tasks.load(config.task).columns if columns is None else tuple(columns)
    planner = Planner(config, tuple(sources), fingerprint, device, measured)
    return planner.plan(generated=generated or fingerprint is None)


_MAKE_DATA = frozenset({"synthesize", "lm_data"})
"""Stages that write data; all others read them."""
_GUIDES = {"sequence": "guide", "prefix": "prefix_guide"}
"""The role that each of `cringe.methods.base.Guides` has for a stage."""


@dataclass(frozen=True, kw_only=True)
class _Shared:
    """What all methods of a table share."""

    warmup: Stage
    reference: Stage
    judge: Stage | None
    guides: Mapping[str, Stage]


def _origin(method: Method) -> tuple[str, str]:
    """The name of a method in the registry, and its module."""
    module = type(method).__module__
    return module.rpartition(".")[2], module


class Planner:
    """Builds stages that have the same task, data and surroundings; a table of other models overrides `_models`."""

    def __init__(
        self,
        config: RunConfig,
        sources: tuple[Source, ...],
        fingerprint: Mapping[str, str] | None,
        device: str,
        columns: tuple[Column, ...],
    ) -> None:
        self._config = config
        self._columns = columns
        self._prompts = {"prompts": config.prompts, "prompt_sets": list(prompt_sets(columns))}
        self._task = tasks.load(config.task)
        self._sources = sources
        self._task_module = tasks.entries()[config.task].module
        self._machine = {"device": device} | ({"threads": config.threads} if device == "cpu" else {})
        self._data = {"data": dict(fingerprint)} if fingerprint is not None else {}
        self._made: dict[str, Stage] = {}
        self._known: dict[str, Stage] = {}
        if fingerprint is None:
            self._made["data"] = self._stage("synthesize", "data", {"seed": 0}, machine={})
        if config.lm_data is not None:
            settings = {"lm_data": config.lm_data, "fingerprint": lm_data.fingerprint(config.lm_data)}
            self._made["lm_data"] = self._stage("lm_data", "lm-data", settings, machine={})

    def _stage(
        self,
        kind: str,
        label: str,
        settings: Mapping[str, Any],
        parents: Mapping[str, Stage] | None = None,
        *,
        modules: tuple[str, ...] = (),
        machine: Mapping[str, Any] | None = None,
    ) -> Stage:
        settings = {**settings, **_pretrained_contents(settings)}
        read = {} if kind in _MAKE_DATA else {"sources": [source.name for source in self._sources]}
        stage = Stage(
            kind=kind,
            label=f"{self._config.task}-{label}",
            settings={"task": self._config.task, **read, **settings},
            parents={**({} if kind in _MAKE_DATA else self._made), **(parents or {})},
            modules=(self._task_module, *modules),
            surroundings={
                **(self._machine if machine is None else machine),
                **self._together(settings),
                **({} if kind in _MAKE_DATA else self._data),
            },
        )
        # Two rows may need the same work under different labels; it is done once, under the first.
        return self._known.setdefault(stage.key, stage)

    def _together(self, settings: Mapping[str, Any]) -> dict[str, int]:
        """The number of processes of a stage that trains a language model, where there are several."""
        trains = settings.get("training", {}).get("updates", 0) > 0
        return {"processes": self._config.processes} if trains and self._config.processes > 1 else {}

    def plan(self, *, generated: bool) -> Plan:
        """Every row of the table, and the stages that they need."""
        config = self._config
        warmup = self._stage(
            "warmup",
            "warmup",
            {"backbone": config.backbone.model_dump(), "training": config.warmup.model_dump(), "seed": 0},
        )
        guide = self._stage("guide", "guide", {"guide": config.guide.model_dump(), "seed": 2})
        prefix_guide = self._stage(
            "prefix_guide", "prefix-guide", {"guide": config.prefix_guide.model_dump(), "seed": 3}, {"model": warmup}
        )
        judge = self._judge(guide)
        self._shared = _Shared(
            warmup=warmup,
            reference=self._reference(),
            judge=judge,
            guides={"sequence": guide, "prefix": prefix_guide},
        )
        # Human replies to all prompts of the task: where some prompts have none, others say what human text is like.
        sets = list(prompt_sets([*self._columns, *self._task.columns]))
        references = self._stage(
            "references", "references", {**self._prompts, "prompt_sets": sets, "seed": 0}, machine={}
        )
        scored = self._score("references", {f"replies-{ANY_DECODING}": references})
        rows = [Row(name=name, kind="floor", seed=0, scores=scored) for name in ("constant", "random")]
        rows += self._models()
        rows.append(Row(name="gold", kind="ceiling", seed=0, scores=scored))
        return Plan(
            config=config,
            synthetic=generated,
            sources=self._sources,
            columns=self._columns,
            rows=tuple(rows),
            judge=judge,
            references=references,
            fingerprint=self._data.get("data"),
            stages=tuple(in_order(row.scores for row in rows)),
        )

    def _models(self) -> list[Row]:
        """The rows between floor and ceiling."""
        rows = [
            Row(name="backbone", kind="backbone", seed=seed, scores=self._run("backbone", seed, self._shared.warmup))
            for seed in self._config.seeds
        ]
        for name in self._config.methods:
            for seed in self._config.seeds:
                rows += self._method(name, seed)
        return rows

    def _judge(self, guide: Stage) -> Stage | None:
        """Who gives the verdicts, where any column is one.

        It has another seed and another half of the data than the guide; it is the guide only if that was asked for.
        """
        if not any(column.metric in self._task.judged for column in self._columns):
            return None
        if self._config.shared_judge:
            return guide
        second = self._config.second_judge
        settings = {
            "judge": self._config.judge.model_dump(),
            "second": None if second is None else second.model_dump(),
            "seed": 1,
        }
        return self._stage("judge", "judge", settings)

    def _reference(self) -> Stage:
        """The model that says how fluent a reply is."""
        config = self._config
        return self._stage(
            "reference",
            "reference",
            {
                "backbone": (config.reference or config.backbone).model_dump(),
                "training": config.training_of_reference.model_dump(),
                "seed": 4,
            },
        )

    def _method(self, name: str, seed: int) -> list[Row]:
        """Training, replies and scores of a method, and of its earlier rounds where it has some."""
        method = self._config.settings[name]
        trained = method.trained_as()
        if not isinstance(trained, Cringe):
            scores = self._run(name, seed, self._train(trained, seed), method)
            return [Row(name=name, kind="method", seed=seed, scores=scores)]
        *earlier, model = self._rounds(trained, seed)
        rows = [Row(name=name, kind="method", seed=seed, scores=self._run(name, seed, model, method))]
        for index, unfinished in enumerate(earlier, start=1):
            scores = self._run(f"{name}-round{index}", seed, unfinished, method)
            rows.append(Row(name=name, kind="method", seed=seed, scores=scores, round=index))
        return rows

    def _rounds(self, method: Cringe, seed: int) -> list[Stage]:
        """The model after each round: train, generate, label, add, and on from there."""
        config = self._config
        updates = config.training.updates
        decoding = method.decoding or next(iter(config.decoding))
        repeated = self._task.repeated_ngram
        name, _ = _origin(method)
        models: list[Stage] = []
        made: dict[str, Stage] = {}
        for index in range(method.iterations):
            if method.rounds == "split":
                bounds = [part * updates // method.iterations for part in (index, index + 1)]
                span = [*bounds, 0]
            else:
                span = [index * updates, (index + 1) * updates, index * updates]
            model = models[-1] if models else self._shared.warmup
            if index:
                settings = {
                    "decoding": config.decoding[decoding].model_dump(),
                    "generations": method.generations,
                    "round": index,
                    "seed": seed,
                    **({} if repeated is None else {"repeated_ngram": repeated}),
                }
                guide = {"guide": self._shared.guides["sequence"]} if repeated is None else {}
                made[f"additions-{index}"] = self._stage(
                    "iterate", f"{name}-s{seed}-round{index}-data", settings, {"model": model, **guide}
                )
            label = f"{name}-s{seed}-round{index + 1}"
            models.append(self._train(method.single(), seed, model=model, span=span, made=made, label=label))
        return models

    def _train(
        self,
        method: Method,
        seed: int,
        *,
        model: Stage | None = None,
        span: Sequence[int] = (),
        made: Mapping[str, Stage] | None = None,
        label: str = "",
    ) -> Stage:
        """Training of a method, or a round of it; a round that is the whole schedule is the plain training."""
        config = self._config
        name, module = _origin(method)
        whole = not span or list(span) == [0, config.training.updates, 0]
        settings = {
            "method": name,
            "hyperparameters": method.model_dump(),
            "training": config.training.model_dump(),
            "seed": seed,
            **({} if whole else {"span": list(span)}),
        }
        parents = {"model": model or self._shared.warmup, **(made or {})}
        return self._stage("train", f"{name}-s{seed}-train" if whole else label, settings, parents, modules=(module,))

    def _run(self, name: str, seed: int, model: Stage, method: Method | None = None) -> Stage:
        """Replies of one model under every decoding, and their scores."""
        training = {} if method is None else {"training": model}
        parents = dict(training)
        for decoding, spec in self._config.decoding.items():
            settings: dict[str, Any] = {"decoding": spec.model_dump(), **self._prompts}
            modules: tuple[str, ...] = ()
            with_guides = {"model": model}
            if method is not None and method.steers:
                origin, module = _origin(method)
                settings |= {"method": origin, "hyperparameters": method.model_dump(), "seed": seed}
                modules = (module,)
                with_guides |= {_GUIDES[need]: self._shared.guides[need] for need in sorted(method.needs)}
            elif spec.sampled:
                settings["seed"] = seed
            suffix = f"-s{seed}" if "seed" in settings or training else ""
            parents[f"replies-{decoding}"] = self._stage(
                "generate", f"{name}{suffix}-{decoding}", settings, with_guides, modules=modules
            )
        tested: dict[str, Any] = {}
        if method is not None and type(method).wrap is not Method.wrap:
            origin, module = _origin(method)
            tested = {"method": origin, "hyperparameters": method.model_dump(), "seed": seed}
        return self._score(f"{name}-s{seed}", {"tested": model, **parents}, tested)

    def _score(
        self, label: str, parents: Mapping[str, Stage], tested: Mapping[str, Any] = MappingProxyType({})
    ) -> Stage:
        """Scores of replies; ``tested`` says what head the model has, if it has one."""
        shared = {"model": self._shared.warmup, "reference": self._shared.reference}
        if self._shared.judge is not None:
            shared |= {"judge": self._shared.judge, "guide": self._shared.guides["sequence"]}
        judged = {
            column.metric: list(column.over or (column.prompts,))
            for column in self._columns
            if column.metric in self._task.judged
        }
        modules = (f"cringe.methods.{tested['method']}",) if tested else ()
        return self._stage(
            "score", f"{label}-scores", {"judged": judged, **tested}, {**shared, **parents}, modules=modules
        )


def _pretrained_contents(settings: Mapping[str, Any]) -> dict[str, Any]:
    """For each specification that names a local folder of a pretrained model: a hash of what is in it.

    Of a model on the hub a key holds the name and the revision alone.
    """
    found = {}
    for role, spec in settings.items():
        if isinstance(spec, Mapping) and spec.get("kind") == "pretrained" and Path(spec["name"]).is_dir():
            found[f"{role} contents"] = folder_digest(Path(spec["name"]))
    return found


def in_order(stages: Iterable[Stage]) -> Iterator[Stage]:
    """The stages and their ancestors, parents before children, each key once."""
    seen: set[str] = set()

    def walk(stage: Stage) -> Iterator[Stage]:
        if stage.key not in seen:
            seen.add(stage.key)
            for parent in stage.parents.values():
                yield from walk(parent)
            yield stage

    for stage in stages:
        yield from walk(stage)
