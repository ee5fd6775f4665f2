"""The plan of a table whose one row nobody here trained: replies that were given, or those of a model that was."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from benchmarks.assemble import manifest
from benchmarks.config import RunConfig
from benchmarks.errors import DataError, UsageError, UserError, did_you_mean
from benchmarks.keys import folder_digest
from benchmarks.plan import Plan, Planner, Row, Stage, in_order
from benchmarks.runner import damage
from benchmarks.stages.given import OWN_GOLD, OWN_PROMPTS, UNKNOWN, Given
from benchmarks.tasks import registry as tasks
from benchmarks.tasks.base import Column, Source, Task
from benchmarks.tasks.reading import sha256
from cringe.data import Example
from cringe.methods import registry as methods
from cringe.methods.base import Method
from evaluators.metrics import METRICS


@dataclass(frozen=True, kw_only=True)
class GivenReplies:
    """A row of replies that lie in a file."""

    name: str
    path: Path
    sha256: str
    decodings: Mapping[str, str]
    """Sections of the table, each with the decoding in the file whose replies stand there."""
    descriptions: Mapping[str, str]
    """Of each section."""
    own: bool
    """Does the file bring its prompts along?"""
    with_gold: bool
    """Has any of these a gold reply?"""
    notes: tuple[str, ...]
    """Sentences for the table: how many prompts have a reply."""


@dataclass(frozen=True, kw_only=True)
class GivenModel:
    """A row of what a model replies, under every decoding of the preset."""

    name: str
    seed: int
    settings: Mapping[str, Any]
    """Of the stage `benchmarks.stages.given_model`."""
    method: Method | None
    """That trained it, and whose head it may have; None where nobody knows."""
    notes: tuple[str, ...]


class GivenPlanner(Planner):
    """Lays out the one row and all that judges it, with the same stages as a table of `benchmarks.run`."""

    def __init__(
        self,
        config: RunConfig,
        sources: tuple[Source, ...],
        fingerprint: Mapping[str, str] | None,
        device: str,
        given: GivenReplies | GivenModel,
    ) -> None:
        super().__init__(config, sources, fingerprint, device, tasks.load(config.task).columns)
        self._given = given

    def plan(self, *, generated: bool) -> Plan:
        """Floor, row and ceiling; no floor for prompts of one's own, which it does not reply to."""
        plan = super().plan(generated=generated)
        if isinstance(self._given, GivenReplies) and self._given.own:
            rows = tuple(row for row in plan.rows if row.kind != "floor")
            columns = own_columns(self._task, with_gold=self._given.with_gold)
            plan = replace(plan, rows=rows, columns=columns, stages=tuple(in_order(row.scores for row in rows)))
        return plan

    def _models(self) -> list[Row]:
        given = self._given
        if isinstance(given, GivenModel):
            model = self._stage("given_model", f"{given.name}-model", given.settings)
            scores = self._run(given.name, given.seed, model, given.method)
            return [Row(name=given.name, kind="method", seed=given.seed, scores=scores)]
        file = {"file": str(given.path.resolve()), "sha256": given.sha256}
        parents = {
            f"replies-{section}": self._stage(
                "given", f"{given.name}-{section}", {**file, **self._prompts, "decoding": decoding}, machine={}
            )
            for section, decoding in given.decodings.items()
        }
        scores = self._score(given.name, parents)
        if given.own:
            judged = {column.metric: [OWN_PROMPTS] for column in self._columns if column.metric in self._task.judged}
            scores = replace(scores, kind="given_score", settings={**scores.settings, "judged": judged})
        return [Row(name=given.name, kind="method", seed=0, scores=scores)]

    def _score(
        self, label: str, parents: Mapping[str, Stage], tested: Mapping[str, Any] = MappingProxyType({})
    ) -> Stage:
        """As of any row, but for the backbone that nothing here starts from, so that none need be trained."""
        stage = super()._score(label, parents, tested)
        others = {role: parent for role, parent in stage.parents.items() if role != "model"}
        return replace(stage, parents={**others, **({"model": parents["tested"]} if "tested" in parents else {})})


def own_columns(task: Task, *, with_gold: bool) -> tuple[Column, ...]:
    """The task's metrics on prompts of one's own: F1 on those that have a gold reply, the others on all.

    What is measured on gold replies is of the model that replies, which nobody has here.
    """
    prompts = {"f1": OWN_GOLD if with_gold else ""}
    return tuple(
        Column(metric=metric, prompts=found, title=METRICS[metric].title)
        for metric in dict.fromkeys(column.metric for column in task.columns)
        if not METRICS[metric].of_gold and (found := prompts.get(metric, OWN_PROMPTS))
    )


def given_manifest(plan: Plan, given: GivenReplies | GivenModel) -> dict[str, Any]:
    """What the table is made from (`benchmarks.assemble.manifest`), with what is to be said of the row."""
    made_from = manifest(plan) | {"footnotes": list(given.notes)}
    if isinstance(given, GivenReplies):
        made_from["decodings"] = dict(given.descriptions)
    return made_from


def given_replies(
    given: Given, path: Path, *, name: str, config: RunConfig, asked: Mapping[str, Sequence[Example]], only: str | None
) -> GivenReplies:
    """The row of a file of replies.

    Args:
        given: what the file holds.
        path: the file.
        name: of the row.
        config: knows the decodings of the preset.
        asked: the prompts that the table is measured on, by set.
        only: the decoding whose replies are judged, all when not given; where the file names none, how they came about.

    Raises:
        UsageError: the file, or else the preset, has no decoding ``only``.
    """
    sections = {decoding: decoding for decoding in given.replies}
    if only is not None:
        claimed = set(sections) == {UNKNOWN} and only in config.decoding
        if not claimed and only not in sections:
            known = [*config.decoding] if set(sections) == {UNKNOWN} else sections
            raise UsageError(f"--decoding {only}: {path} has no replies of this decoding; {did_you_mean(only, known)}")
        sections = {only: UNKNOWN if claimed else only}
    digest = sha256(path)
    notes = [f"{name}: the replies in {path.name} (SHA-256 {digest[:12]}…); what is said of training is of the judges."]
    places = {OWN_PROMPTS: tuple(given.own)} if given.own else asked
    for section, decoding in sections.items():
        for prompts, examples in places.items():
            if (count := given.count(decoding, prompts)) < len(examples):
                notes.append(
                    f"{name}, {section}: {count} of {len(examples)} prompts of {prompts} have a reply, and are scored."
                )
    if given.not_asked:
        notes.append(f"{name}: not scored are replies to prompts that the table does not ask ({given.not_asked}).")
    return GivenReplies(
        name=name,
        path=path,
        sha256=digest,
        decodings=sections,
        descriptions={section: _described(section, decoding, config) for section, decoding in sections.items()},
        own=bool(given.own),
        with_gold=any(example.response for example in given.own.values()),
        notes=tuple(notes),
    )


def _described(section: str, decoding: str, config: RunConfig) -> str:
    """How the replies of a section came about, as far as anybody says."""
    if section == UNKNOWN:
        return "replies as given; how they were decoded is not known"
    if decoding == UNKNOWN:
        return f"replies as given, said to be decoded so: {config.decoding[section].sentence()}"
    return f"replies as given; their file calls the decoding {section}"


def trained_model(folder: Path, *, name: str | None, config: RunConfig) -> GivenModel:
    """The row of a model that a run trained, by the directory of its training or an export of it.

    Raises:
        UserError: the directory is damaged, or the method that trained the model is not known any more.
    """
    if (folder / "DONE").exists() and (broken := damage(folder)):
        raise UserError(
            f"{folder} is damaged ({', '.join(broken)} missing or not what it was)\n"
            "  next step: the run's command with --repair trains it again"
        )
    spec = _spec(folder)
    stored = spec.get("settings", {})
    method = None
    if "method" in stored:
        method = _method(stored, config, folder)
    elif (folder / "head.safetensors").exists():
        raise UsageError(
            f"{folder} holds a model with a head, and does not say of which method (there is no spec.json)\n"
            "  next step: name the directory of the training, or an export of it"
        )
    seed = stored.get("seed", 0) if method is not None else 0
    trained = f"{stored['method']} with seed {seed}" if method is not None else "nobody knows which method"
    if spec.get("kind") == "warmup":
        trained = "the warm-up that all methods start from"
    row = name or stored.get("method", "backbone" if spec.get("kind") == "warmup" else folder.name)
    made = f"{row}: the model in {folder.name}, trained by {trained}"
    return GivenModel(
        name=row,
        seed=seed,
        settings={"folder": str(folder.resolve()), "contents": folder_digest(folder.resolve())},
        method=method,
        notes=(f"{made}; nothing was trained for this table but what judges.",),
    )


def _spec(folder: Path) -> Mapping[str, Any]:
    """What the training was, as its directory or an export of it says; nothing where nobody does."""
    if (folder / "spec.json").is_file():
        found: Mapping[str, Any] = _json(folder / "spec.json")
        return found
    exported: Mapping[str, Any] = _json(folder / "export.json") if (folder / "export.json").is_file() else {}
    return exported.get("run", {})


def _method(stored: Mapping[str, Any], config: RunConfig, folder: Path) -> Method:
    """The method that trained a model; where it decodes by a setting of its own, as the configuration says."""
    try:
        trained = methods.load(stored["method"]).model_validate(stored["hyperparameters"])
    except (KeyError, ValidationError) as error:
        raise UserError(
            f"{folder}: the method '{stored['method']}' is not known with these settings; was it trained by other code?"
        ) from error
    configured = config.settings[stored["method"]]
    return configured if configured.trained_as() == trained else trained


def _json(path: Path) -> Any:  # noqa: ANN401 - JSON is of any type
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot be read as JSON ({error})", path=path, hint="name a directory of a run") from error
