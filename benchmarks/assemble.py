"""What a table is made from: a manifest that names the directories of its rows, and the scores found there.

Reads stored files alone; neither a model nor torch is needed to make a table again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.budget import assert_comparable
from benchmarks.errors import DataError, did_you_mean
from benchmarks.plan import Plan, Stage
from benchmarks.provenance import SWEEP, without_paths
from benchmarks.published import PaperTable, load_paper
from benchmarks.stored import Stored, is_name, judge_problem, manifest_problem, read_json, read_ledger, read_stored
from benchmarks.table_inputs import JudgeReport, RunScores, TableMeta
from benchmarks.tasks import registry as tasks
from benchmarks.tasks.base import Column, Task

MANIFEST = "manifest.json"
SCHEMA, VERSION = "cringe.manifest", 1


class Inputs(NamedTuple):
    """All that `benchmarks.tables.build_table` takes."""

    runs: list[RunScores]
    judges: dict[str, JudgeReport]
    meta: TableMeta


def manifest(plan: Plan) -> dict[str, Any]:
    """What a table is made from: settings, data, and the directory of every row and seed."""
    config = plan.config
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "task": config.task,
        "preset": config.preset,
        "changes": list(config.changes),
        "seeds": list(config.seeds),
        "decodings": {name: spec.sentence() for name, spec in config.decoding.items()},
        "footnotes": [f"{name}: {note}." for name in config.methods if (note := config.settings[name].footnote())],
        "choices": list(plan.choices),
        "settings": config.model_dump(mode="json"),
        "generated_data": plan.synthetic,
        "data": plan.fingerprint,
        "sources": [source.name for source in plan.sources],
        "columns": [asdict(column) for column in plan.columns],
        "trials": [dict(trial) for trial in plan.trials],
        "judge": None if plan.judge is None else plan.judge.folder,
        "guide": None if (guide := _guide(plan)) is None else guide.folder,
        "references": plan.references.folder,
        "rows": [
            {"name": row.name, "kind": row.kind, "seed": row.seed, "round": row.round, "scores": row.scores.folder}
            for row in plan.rows
        ],
    }


def _guide(plan: Plan) -> Stage | None:
    """The guide whose verdicts stand beside the judge's; None where there is no judge, or they are the same."""
    found = next((row.scores.parents["guide"] for row in plan.rows if "guide" in row.scores.parents), None)
    return None if found is plan.judge else found


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest.

    Raises:
        DataError: it cannot be read, is not one of this version, or lacks something.
    """
    hint = "make it again with the command that made it, or delete the table's folder"
    content = read_json(path, hint=hint)
    found = (content.get("schema"), content.get("version")) if isinstance(content, dict) else None
    if found != (SCHEMA, VERSION):
        raise DataError(f"is no manifest of version {VERSION}", path=path, found=found, hint=hint)
    if problem := manifest_problem(content):
        raise DataError(f"is no whole manifest: {problem}", path=path, hint=hint)
    known: dict[str, Any] = content
    return known


def inputs(made_from: Mapping[str, Any], results: Path, stored: Mapping[str, Stored] | None = None) -> Inputs:
    """What the table of a manifest is made from.

    Args:
        made_from: a manifest.
        results: the folder that holds the directories it names.
        stored: what is known already of directories of scores, by name; the others are read.

    Raises:
        UserError: methods did not train under the same budget, or scores are damaged.
    """
    if made_from["task"] not in tasks.entries():
        raise DataError(f"no task '{made_from['task']}'; {did_you_mean(made_from['task'], tasks.entries())}")
    task = tasks.load(made_from["task"])
    columns = tuple(Column(**{**column, "over": tuple(column["over"])}) for column in made_from["columns"])
    runs = _runs(made_from, results, stored or {})
    notes = assert_comparable(
        {(run.name, run.seed): run.ledger for run in runs if run.kind == "method" and run.round is None}
    )
    judged: dict[str, JudgeReport] = {}
    if made_from["judge"] is not None and (report := results / made_from["judge"] / "report.json").exists():
        judged = {column.metric: read_json(report) for column in columns if column.metric in task.judged}
    counts_file = results / made_from["references"] / "counts.json"
    counts: dict[str, int] = read_json(counts_file) if counts_file.exists() else {}
    changes = _said(made_from["changes"])
    paper = None if task.paper_table is None else load_paper(task.paper_table)
    meta = TableMeta(
        task=task.name,
        title=f"{task.name}: {task.title}",
        columns=columns,
        expected={row["name"]: row["kind"] for row in made_from["rows"] if row["round"] is None},
        seeds=tuple(made_from["seeds"]),
        decodings=made_from["decodings"],
        paper=paper,
        synthetic=made_from["generated_data"],
        preset=f"{made_from['preset']} with {changes}" if changes else made_from["preset"],
        judged=task.judged,
        shared_judge=made_from["settings"]["shared_judge"],
        counts=counts,
        notes=(
            *_data_notes(task, made_from, counts),
            *([] if paper is None else [_backbone_note(made_from["settings"]["backbone"], paper)]),
            *notes,
            *made_from["footnotes"],
            *made_from["choices"],
        ),
        guide=_guide_report(made_from, results),
        trials=_trials(made_from, results),
    )
    return Inputs(runs, judged, meta)


def _said(changes: Sequence[str]) -> str:
    """What was changed of the preset; of sweeps what they chose, for notes have the values that they tried."""
    swept = [change.removeprefix(SWEEP).partition("=")[0] for change in changes if change.startswith(SWEEP)]
    others = [without_paths(change) for change in changes if not change.startswith(SWEEP)]
    return ", ".join([*others, *[f"{' and '.join(swept)} as chosen on validation"] * bool(swept)])


def _guide_report(made_from: Mapping[str, Any], results: Path) -> JudgeReport | None:
    """How the guide does; None where nobody knows, as in a reference, or its report cannot be used."""
    folder = made_from.get("guide")
    if folder is None or not is_name(folder) or not (path := results / folder / "report.json").exists():
        return None
    try:
        report: JudgeReport = read_json(path)
    except DataError:
        return None
    return None if judge_problem(report) else report


def _trials(made_from: Mapping[str, Any], results: Path) -> dict[str, list[Mapping[str, Any]]]:
    """By method, the ledger of each trial of a sweep; an empty one of a trial that is not there any more."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for trial in made_from["trials"]:
        ledger: Mapping[str, Any] = {}
        if is_name(trial["scores"]):
            with suppress(DataError):
                ledger = read_ledger(results / trial["scores"] / "ledger.json")
        found.setdefault(trial["method"], []).append(ledger)
    return found


def _data_notes(task: Task, made_from: Mapping[str, Any], counts: Mapping[str, int]) -> list[str]:
    """What was trained on, and how the data differ from the official release, whose numbers stand beside ours."""
    names: Sequence[str] = made_from["sources"]
    lm_data = made_from["settings"]["lm_data"]
    notes = [f"Trained on {', '.join(names)}{f'; {names[0]} is {lm_data}' if lm_data else ''}."]
    if made_from["generated_data"] or not counts:
        return notes
    parts = [
        f"{file.name} {counts.get(file.name, 0):,} of {file.official_rows:,} {file.unit}"
        for file in task.files_of(names)
        if file.needed and file.official_rows and counts.get(file.name, 0) != file.official_rows
    ]
    if parts:
        notes.append(
            f"The data are not the official release, so the paper's numbers are not like ours: {', '.join(parts)}."
        )
    return notes


def _backbone_note(spec: Mapping[str, Any], paper: PaperTable) -> str:
    """What the methods start from, and what those of the paper did."""
    if spec["kind"] == "pretrained":
        name = spec.get("gguf_file") or spec["name"]
        ours = Path(name).name if Path(name).is_absolute() else name
    else:
        causal = spec["family"] == "causal"
        kind = "a decoder-only model" if causal else "an encoder-decoder"
        layers = f"{spec['decoder_layers']}" if causal else f"{spec['encoder_layers']} + {spec['decoder_layers']}"
        size = f"layers {layers}, width {spec['width']}, vocabulary {spec['vocabulary']:,}"
        ours = f"{kind} trained from scratch ({size})"
    return (
        f"Backbone: {ours}. The paper's is {paper.backbone}: its values stand beside ours for their order, not for "
        "their height."
    )


def _runs(made_from: Mapping[str, Any], results: Path, stored: Mapping[str, Stored]) -> list[RunScores]:
    known = dict(stored)
    runs = []
    for row in made_from["rows"]:
        folder = results / row["scores"]
        if not (folder / "DONE").exists():
            continue
        if folder.name not in known:
            known[folder.name] = read_stored(folder)
        frame, ledger, corpus = known[folder.name]
        if row["kind"] in ("floor", "ceiling"):
            frame = frame[frame["row"] == row["name"]]
        names = {name: row[name] for name in ("name", "kind", "seed", "round")}
        runs.append(RunScores(**names, scores=frame, ledger=ledger, corpus=corpus))
    return runs
