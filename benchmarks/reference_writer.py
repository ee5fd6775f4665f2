"""Records a reference: scores of today, for git, that later ones are compared with.

A reference is a results folder with nothing in it but what tables are made from: the same files as `results/README.md`
describes, fewer of them. Of the scores it holds the columns that the table's own columns need, rounded to six digits;
prompts, dialogues and replies are hashes. So it holds no text, and whatever reads results reads a reference.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.assemble import MANIFEST, read_manifest
from benchmarks.errors import UsageError, UserError
from benchmarks.rebuild import TABLES, Built, safe_name
from benchmarks.reference import HASHED, RECORDED, by_key, load, made_with
from benchmarks.table_model import MODELS
from evaluators.metrics import METRICS

if TYPE_CHECKING:
    from pandas import DataFrame

    from benchmarks.table_inputs import RunScores

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
        raise UserError("a reference must be whole:\n  " + "\n  ".join(said) + "\n  next step: finish the run")
    _refuse_runs(out)
    written = []
    for key, built in sorted(by_key(tables, str(runs), warn).items()):
        for name in _incomplete(built):
            raise UserError(f"a reference must be whole: {key}: {name}\n  next step: finish the run")
        written.append(_write_table(built, safe_name(str(key)), out))
    return written


def _incomplete(built: Built) -> Iterator[str]:
    seeds = {(run.name, run.seed) for run in built.inputs.runs}
    for name, kind in built.inputs.meta.expected.items():
        wanted = built.inputs.meta.seeds if kind in MODELS else (0,)
        missing = [seed for seed in wanted if (name, seed) not in seeds]
        if missing:
            yield f"{name} has no run with seed {', '.join(map(str, missing))}"


def _write_table(built: Built, name: str, out: Path) -> Path:
    """Lay down what one table is made from; the table's folder."""
    _remove(name, out)
    columns = _columns(built)
    rows = []
    for run in built.inputs.runs:
        reference = run.kind in ("floor", "ceiling")
        folder = out / f"{name}-{'references' if reference else f'{safe_name(run.name)}-s{run.seed}'}"
        rows.append({"name": run.name, "kind": run.kind, "seed": run.seed, "round": None, "scores": folder.name})
        if not folder.exists():
            alike = [other for other in built.inputs.runs if reference and other.kind in ("floor", "ceiling")] or [run]
            _write_run(folder, alike, columns)
    manifest = {**built.manifest, "rows": rows, "trials": [], "judge": None, "guide": None}
    manifest["references"] = f"{name}-data"
    if built.inputs.judges:
        manifest["judge"] = f"{name}-judge"
        _write_json(out / manifest["judge"] / "report.json", dict(next(iter(built.inputs.judges.values()))))
        _write_done(out / manifest["judge"])
    _write_json(out / manifest["references"] / "counts.json", dict(built.inputs.meta.counts))
    _write_done(out / manifest["references"])
    _write_json(out / TABLES / name / MANIFEST, {**manifest, RECORDED: made_with(built)})
    return out / TABLES / name


def _refuse_runs(out: Path) -> None:
    """A reference beside the runs that it is made from would be a second table of the same kind."""
    for path in sorted((out / TABLES).glob(f"*/{MANIFEST}")):
        if RECORDED not in read_manifest(path):
            raise UsageError(f"{out} holds runs, not a reference\n  next step: name another folder with --record")


def _remove(name: str, out: Path) -> None:
    """Delete what was recorded of a table before: the folders that its manifest names."""
    path = out / TABLES / name / MANIFEST
    if not path.exists():
        return
    before = read_manifest(path)
    for folder in {before["judge"], before["references"], *(row["scores"] for row in before["rows"])}:
        if folder is not None and Path(folder).name == folder and folder.startswith(f"{name}-"):
            shutil.rmtree(out / folder, ignore_errors=True)


def _columns(built: Built) -> list[str]:
    """Columns of the scores that the table's own columns, the likelihood and the marks are made from."""
    metrics = dict.fromkeys(column.metric for column in built.inputs.meta.columns)
    kept = ["row", "decoding", "prompts", *HASHED, "tokens", "nll"]
    kept += [name for name in metrics if METRICS[name].aggregate == "mean"]
    if any(METRICS[name].aggregate == "perplexity" for name in metrics):
        kept += ["gold_tokens", "gold_nll"]
    return kept


def _write_run(folder: Path, runs: Sequence[RunScores], columns: Sequence[str]) -> None:
    import pandas as pd

    scores: DataFrame = pd.concat([run.scores for run in runs])
    kept = scores[[name for name in columns if name in scores]].sort_values(
        ["row", "decoding", "prompts", "uid"], na_position="first"
    )
    folder.mkdir(parents=True)
    kept.to_csv(folder / "scores.csv", index=False, lineterminator="\n", float_format="%.6g")
    corpus = {json.dumps(entry, sort_keys=True): dict(entry) for run in runs for entry in run.corpus}
    _write_json(folder / "corpus.json", list(corpus.values()))
    _write_json(folder / "ledger.json", _steady(runs[0].ledger))
    _write_done(folder)


def _write_done(folder: Path) -> None:
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
    _write_json(folder / "DONE", digests)


def _steady(ledger: Mapping[str, Any]) -> dict[str, Any]:
    """A ledger without what differs between equal runs."""
    return {
        name: _steady(value) if isinstance(value, Mapping) else value
        for name, value in ledger.items()
        if name not in _VOLATILE
    }


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
