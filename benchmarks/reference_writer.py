"""Records a reference: scores of today, for git, that later ones are compared with.

A reference is a results folder with nothing in it but what tables are made from: the same files as `results/SCHEMA.md`
describes, fewer of them. Of the scores it holds the columns that the table's own columns need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.assemble import MANIFEST
from benchmarks.errors import UserError
from benchmarks.rebuild import TABLES, Built, safe_name
from benchmarks.reference import by_key, load, made_with
from benchmarks.textless import (
    HASHED,
    RECORDED,
    gaps,
    recording,
    refuse_runs,
    run_folder,
    write_done,
    write_json,
    write_run,
)
from evaluators.metrics import METRICS

_VOLATILE = ("seconds", "peak_memory_bytes")
"""Entries of a ledger that differ between equal runs."""


def record(runs: Path, out: Path, warn: Callable[[str], None]) -> list[Path]:
    """Record the tables of a results folder as a reference; what was recorded of the same tables before is replaced.

    Returns:
        The tables' folders.

    Raises:
        UsageError: there is no table, or two of one kind; or ``out`` holds runs.
        UserError: a row or seed of a table is missing: a reference is whole.
    """
    said: list[str] = []
    tables = load(runs, said.append)
    if said:
        step = "next step: finish the run, with --repair where it is damaged"
        raise UserError("a reference must be whole:\n  " + "\n  ".join([*said, step]))
    refuse_runs(out, "--record")
    written = []
    for key, built in sorted(by_key(tables, str(runs), warn).items()):
        for gap in gaps(built):
            raise UserError(f"a reference must be whole: {key}: {gap}\n  next step: finish the run")
        written.append(_write_table(built, safe_name(str(key)), out))
    return written


def _write_table(built: Built, name: str, out: Path) -> Path:
    """Lay down what one table is made from; the table's folder."""
    with recording(name, out) as scratch:
        _lay_down(built, name, scratch)
    return out / TABLES / name


def _lay_down(built: Built, name: str, out: Path) -> None:
    columns = _columns(built)
    rows = []
    for run in built.inputs.runs:
        folder = out / run_folder(name, run)
        rows.append({"name": run.name, "kind": run.kind, "seed": run.seed, "round": None, "scores": folder.name})
        if not folder.exists():
            write_run(folder, run, built.inputs.runs, columns, _steady(run.ledger))
            write_done(folder)
    manifest = {**built.manifest, "rows": rows, "trials": [], "judge": None, "guide": None}
    manifest["references"] = f"{name}-data"
    if built.inputs.judges:
        manifest["judge"] = f"{name}-judge"
        write_json(out / manifest["judge"] / "report.json", dict(next(iter(built.inputs.judges.values()))))
        write_done(out / manifest["judge"])
    write_json(out / manifest["references"] / "counts.json", dict(built.inputs.meta.counts))
    write_done(out / manifest["references"])
    write_json(out / TABLES / name / MANIFEST, {**manifest, RECORDED: made_with(built)})


def _columns(built: Built) -> list[str]:
    """Columns of the scores that the table's own columns, the likelihood and the marks are made from."""
    metrics = dict.fromkeys(column.metric for column in built.inputs.meta.columns)
    kept = ["row", "decoding", "prompts", *HASHED, "tokens", "nll"]
    kept += [name for name in metrics if METRICS[name].aggregate == "mean"]
    if any(METRICS[name].aggregate == "perplexity" for name in metrics):
        kept += ["gold_tokens", "gold_nll"]
    return kept


def _steady(ledger: Mapping[str, Any]) -> dict[str, Any]:
    """A ledger without what differs between equal runs."""
    return {
        name: _steady(value) if isinstance(value, Mapping) else value
        for name, value in ledger.items()
        if name not in _VOLATILE
    }
