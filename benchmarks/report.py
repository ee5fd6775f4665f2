"""From the scores of finished runs to the table; reads files, touches no model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.budget import assert_comparable
from benchmarks.plan import Plan
from benchmarks.published import load_paper
from benchmarks.tables import JudgeReport, RunScores, Table, TableMeta, build_table
from benchmarks.tasks import registry as tasks

TABLES = "tables"
"""Folder, beside the stages' directories, of the tables."""


def make_table(plan: Plan, results: Path) -> Table:
    """The table of a plan, from the stages that are finished.

    Raises:
        UserError: methods did not train under the same budget.
    """
    config = plan.config
    task = tasks.load(config.task)
    runs = _runs(plan, results)
    notes = assert_comparable({(run.name, run.seed): run.ledger for run in runs if run.kind == "method"})
    report = results / plan.judge.folder / "report.json"
    judged: dict[str, JudgeReport] = {}
    if report.exists():
        judged = {column.metric: _json(report) for column in task.columns if column.metric in task.judged}
    meta = TableMeta(
        title=f"{config.task}: {task.title}",
        columns=task.columns,
        expected={row.name: row.kind for row in plan.rows},
        seeds=config.seeds,
        decodings={name: spec.sentence() for name, spec in config.decoding.items()},
        paper=load_paper(task.paper_table),
        synthetic=plan.synthetic,
        preset=" with ".join([config.preset, *[", ".join(config.changes)] * bool(config.changes)]),
        judged=task.judged,
        notes=(*_data_notes(plan, results), *notes, *_footnotes(plan)),
    )
    return build_table(runs, judged, meta)


def write_table(plan: Plan, table: Table, results: Path) -> Path:
    """Write the table as Markdown, CSV and JSON, and what it was made from; return the folder.

    A file that holds the same bytes already is left alone.
    """
    folder = results / TABLES / f"{plan.name}-{plan.key[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        f"{plan.name}.md": table.to_markdown(),
        f"{plan.name}.csv": table.to_csv(),
        f"{plan.name}.json": table.to_json(),
        "manifest.json": json.dumps(_manifest(plan), indent=2, sort_keys=True) + "\n",
    }
    for name, text in files.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8", newline="\n")
    return folder


def _data_notes(plan: Plan, results: Path) -> list[str]:
    """How the data of the table differ from the official release, whose numbers stand beside ours."""
    task = tasks.load(plan.config.task)
    path = results / plan.judge.folder / "counts.json"
    if plan.synthetic or not path.exists():
        return []
    counts = _json(path)
    parts = [
        f"{file.name} {counts[file.name]:,} of {file.official_rows:,} {file.unit}"
        for file in task.files
        if file.needed and file.official_rows and counts.get(file.name, 0) != file.official_rows
    ]
    if not parts:
        return []
    return [f"The data are not the official release, so the paper's numbers are not like ours: {', '.join(parts)}."]


def _footnotes(plan: Plan) -> list[str]:
    """What methods do otherwise than the others while decoding."""
    settings = plan.config.settings
    return [f"{name}: {note}." for name in plan.config.methods if (note := settings[name].footnote())]


def _runs(plan: Plan, results: Path) -> list[RunScores]:
    import pandas as pd

    frames: dict[str, pd.DataFrame] = {}
    runs = []
    for row in plan.rows:
        folder = results / row.scores.folder
        if not (folder / "DONE").exists():
            continue
        if folder.name not in frames:
            texts = dict.fromkeys(("row", "decoding", "prompts", "uid", "group", "reply_id"), str)
            frames[folder.name] = pd.read_csv(folder / "scores.csv", dtype=texts, keep_default_na=False, na_values=[""])
        frame = frames[folder.name]
        if row.kind in ("floor", "ceiling"):
            frame = frame[frame["row"] == row.name]
        runs.append(
            RunScores(name=row.name, kind=row.kind, seed=row.seed, scores=frame, ledger=_json(folder / "ledger.json"))
        )
    return runs


def _manifest(plan: Plan) -> Mapping[str, Any]:
    """What the table was made from: the settings, the data, and the directory of every row and seed."""
    return {
        "settings": plan.config.model_dump(mode="json"),
        "generated_data": plan.synthetic,
        "data": plan.fingerprint,
        "judge": plan.judge.folder,
        "rows": [
            {"name": row.name, "kind": row.kind, "seed": row.seed, "scores": row.scores.folder} for row in plan.rows
        ],
    }


def _json(path: Path) -> Any:  # noqa: ANN401 - JSON is of any type
    return json.loads(path.read_text(encoding="utf-8"))
