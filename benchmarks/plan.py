"""From a configuration to an ordered graph of stages, each named by the hash of all that can change its output."""

from __future__ import annotations

import ast
import hashlib
import json
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.config import RunConfig
from benchmarks.table_inputs import ANY_DECODING
from benchmarks.table_model import Kind
from benchmarks.tasks import registry as tasks
from cringe.methods.base import Method
from cringe.methods.cringe import Cringe

OUR_PACKAGES = ("benchmarks", "cringe", "evaluators")
KEYED_PACKAGES = (
    "accelerate",
    "numpy",
    "pandas",
    "safetensors",
    "scikit-learn",
    "scipy",
    "tokenizers",
    "torch",
    "transformers",
)
"""Packages whose version goes into every key."""


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
    """What else the output depends on: device kind, threads, hashes of the data."""

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


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The stages of one table."""

    config: RunConfig
    synthetic: bool
    rows: tuple[Row, ...]
    judge: Stage
    fingerprint: Mapping[str, str] | None
    """SHA-256 of every data file by its relative path; None for generated data."""
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


def canonical(value: object) -> bytes:
    """JSON with sorted keys and no blanks."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def make_plan(config: RunConfig, *, fingerprint: Mapping[str, str] | None, device: str) -> Plan:
    """Lay out the stages of a table.

    Args:
        config: what to compare.
        fingerprint: SHA-256 of every data file by its relative path; None for generated data.
        device: kind of device, ``cpu`` or ``cuda``.
    """
    return _Planner(config, fingerprint, device).plan()


_GUIDES = {"sequence": "guide", "prefix": "prefix_guide"}
"""The role that each of `cringe.methods.base.Guides` has for a stage."""


@dataclass(frozen=True, kw_only=True)
class _Shared:
    """What all methods of a table share."""

    warmup: Stage
    judge: Stage
    guides: Mapping[str, Stage]


def _origin(method: Method) -> tuple[str, str]:
    """The name of a method in the registry, and its module."""
    module = type(method).__module__
    return module.rpartition(".")[2], module


class _Planner:
    """Builds stages that have the same task, data and surroundings."""

    def __init__(self, config: RunConfig, fingerprint: Mapping[str, str] | None, device: str) -> None:
        self._config = config
        self._task_module = tasks.entries()[config.task].module
        self._machine = {"device": device} | ({"threads": config.threads} if device == "cpu" else {})
        self._data = {"data": dict(fingerprint)} if fingerprint is not None else {}
        self._synthetic: Stage | None = None
        if fingerprint is None:
            self._synthetic = self._stage("synthesize", "data", {"seed": 0}, machine={})

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
        generated = {"data": self._synthetic} if kind != "synthesize" and self._synthetic else {}
        return Stage(
            kind=kind,
            label=f"{self._config.task}-{label}",
            settings={"task": self._config.task, **settings},
            parents={**generated, **(parents or {})},
            modules=(self._task_module, *modules),
            surroundings={**(self._machine if machine is None else machine), **self._data},
        )

    def plan(self) -> Plan:
        config = self._config
        warmup = self._stage(
            "warmup",
            "warmup",
            {"backbone": config.backbone.model_dump(), "training": config.warmup.model_dump(), "seed": 0},
        )
        judge = self._stage("judge", "judge", {"judge": config.judge.model_dump(), "seed": 1})
        self._shared = _Shared(
            warmup=warmup,
            judge=judge,
            guides={
                "sequence": self._stage("guide", "guide", {"guide": config.guide.model_dump(), "seed": 2}),
                "prefix": self._stage(
                    "prefix_guide",
                    "prefix-guide",
                    {"guide": config.prefix_guide.model_dump(), "seed": 3},
                    {"model": warmup},
                ),
            },
        )
        references = self._stage("references", "references", {"prompts": config.prompts, "seed": 0}, machine={})
        scored = self._score("references", {f"replies-{ANY_DECODING}": references})
        rows = [Row(name=name, kind="floor", seed=0, scores=scored) for name in ("constant", "random")]
        rows += [
            Row(name="backbone", kind="backbone", seed=seed, scores=self._run("backbone", seed, warmup))
            for seed in config.seeds
        ]
        rows += [
            Row(name=name, kind="method", seed=seed, scores=self._method(name, seed))
            for name in config.methods
            for seed in config.seeds
        ]
        rows.append(Row(name="gold", kind="ceiling", seed=0, scores=scored))
        return Plan(
            config=config,
            synthetic=self._synthetic is not None,
            rows=tuple(rows),
            judge=judge,
            fingerprint=self._data.get("data"),
            stages=tuple(in_order(row.scores for row in rows)),
        )

    def _method(self, name: str, seed: int) -> Stage:
        """Training, replies and scores of a method."""
        method = self._config.settings[name]
        trained = method.trained_as()
        model = self._rounds(trained, seed) if isinstance(trained, Cringe) else self._train(trained, seed)
        return self._run(name, seed, model, method)

    def _rounds(self, method: Cringe, seed: int) -> Stage:
        """Round for round: train, generate, label, add."""
        config = self._config
        updates = config.training.updates
        decoding = method.decoding or next(iter(config.decoding))
        name, _ = _origin(method)
        model, made = self._shared.warmup, {}
        for index in range(method.iterations):
            if method.rounds == "split":
                bounds = [part * updates // method.iterations for part in (index, index + 1)]
                span = [*bounds, 0]
            else:
                span = [index * updates, (index + 1) * updates, index * updates]
            if index:
                made[f"additions-{index}"] = self._stage(
                    "iterate",
                    f"{name}-s{seed}-round{index}-data",
                    {
                        "decoding": config.decoding[decoding].model_dump(),
                        "generations": method.generations,
                        "round": index,
                        "seed": seed,
                    },
                    {"model": model, "guide": self._shared.guides["sequence"]},
                )
            model = self._train(
                method.single(), seed, model=model, span=span, made=made, label=f"{name}-s{seed}-round{index + 1}"
            )
        return model

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
            settings: dict[str, Any] = {"decoding": spec.model_dump(), "prompts": self._config.prompts}
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
        return self._score(f"{name}-s{seed}", parents)

    def _score(self, label: str, parents: Mapping[str, Stage]) -> Stage:
        columns = [column.metric for column in tasks.load(self._config.task).columns]
        shared = {"model": self._shared.warmup, "judge": self._shared.judge}
        return self._stage("score", f"{label}-scores", {"metrics": columns}, {**shared, **parents})


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


@cache
def package_versions() -> dict[str, str]:
    """Versions that a result depends on."""
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for package in KEYED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    return found


@cache
def source_digest(*modules: str) -> str:
    """SHA-256 over the code of our modules that these import, directly or not; comments and docstrings aside."""
    waiting, seen = list(modules), {}
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen[module], imported = _parse(module)
            waiting += imported
    return hashlib.sha256(canonical(seen)).hexdigest()


@cache
def _parse(module: str) -> tuple[str, tuple[str, ...]]:
    """The digest of a module's code and the modules of ours that it imports, inside functions too."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no source for {module}")
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [part for part in node.body if not _is_text(part)]
    ours = tuple(sorted(name for name in imported if name.split(".")[0] in OUR_PACKAGES and _is_module(name)))
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), ours


def _is_text(node: ast.stmt) -> bool:
    """A string that stands alone: a docstring, of a module, class, function or attribute."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_module(name: str) -> bool:
    """Is this a module, and not a name inside one? Nothing is imported but packages, ours being light."""
    parent = name.rpartition(".")[0]
    if parent and not (_is_module(parent) and (spec := find_spec(parent)) and spec.submodule_search_locations):
        return False
    return find_spec(name) is not None
