"""Finds the tables of a results folder and makes them again from stored scores; touches no model."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.assemble import MANIFEST, Inputs, inputs, read_manifest
from benchmarks.errors import DataError, UsageError, UserError
from benchmarks.runner import damage
from benchmarks.stored import Stored, incomplete, is_name, judge_problem, read_json, read_stored, read_training_log
from benchmarks.table_model import MODELS, Cell, Kind, Table
from benchmarks.tables import build_table
from benchmarks.tasks.base import Column

TABLES = "tables"
"""Folder, beside the stages' directories, of the tables."""
READ = frozenset({"DONE", "scores.csv", "ledger.json", "corpus.json"})
"""Files of a directory of scores that a table is made from."""
SHOWN = frozenset({"predictions.jsonl", "training_log.jsonl"})
"""Files of it that are shown beside a table."""
MISSING = "is missing"
"""What keeps a directory from being used that is not there."""


class Built(NamedTuple):
    """A table that was made again."""

    name: str
    """That of the table's folder; safe as a file name, and no other table's."""
    manifest: Mapping[str, Any]
    """What the table is made from; only rows whose scores can be read."""
    inputs: Inputs
    table: Table
    results: Path
    """The folder that holds the directories that the manifest names."""


def rebuild(runs: Path, warn: Callable[[str], None] = lambda sentence: None) -> list[Built]:
    """Make all tables of a results folder again, in the order of their folders' names.

    Args:
        runs: a results folder, its folder of tables, or the folder of one table.
        warn: is told, in a sentence a table, of what is missing or damaged.

    Raises:
        UsageError: ``runs`` holds no table.
    """
    built: list[Built] = []
    for path in manifests(runs):
        name = safe_name(path.parent.name, {other.name for other in built})
        try:
            _check_table(path.parent, name, warn)
            manifest = read_manifest(path)
            built.append(_built(name, manifest, path.parent.parent.parent, warn))
        except UserError as error:
            warn(f"{name}: left out: {error}")
        except KeyError as error:
            warn(f"{name}: left out: what it is made from has no {error}; the command that made it makes it again")
        except (TypeError, AttributeError, ValueError, OSError) as error:
            warn(f"{name}: left out: what it is made from cannot be read ({error})")
    return built


def _check_table(folder: Path, name: str, warn: Callable[[str], None]) -> None:
    """Look at the files of a table's folder, where their hashes were kept.

    Raises:
        UserError: the manifest is not what was written.
    """
    changed = damage(folder) if (folder / "DONE").exists() else []
    again = "the command that made it writes it again"
    if MANIFEST in changed:
        raise UserError(f"{MANIFEST} is not what was written; {again}")
    if changed:
        warn(f"{name}: {', '.join(changed)} there is missing or not what was written; {again}")


def manifests(runs: Path) -> list[Path]:
    """The manifests of a results folder, of its folder of tables, or of one table.

    Raises:
        UsageError: there is none.
    """
    runs = Path(os.path.realpath(runs))  # which takes a link to itself for a name
    if (runs / MANIFEST).is_file():
        return [runs / MANIFEST]
    found = sorted((runs / TABLES).glob(f"*/{MANIFEST}")) or sorted(runs.glob(f"*/{MANIFEST}"))
    if not found:
        there = "holds no table" if runs.is_dir() else "is no folder"
        raise UsageError(
            f"{runs} {there}\n  next step: name the folder that benchmarks.run wrote to, such as results/runs, "
            "or the folder of one of its tables"
        )
    return found


def safe_name(text: str, taken: Collection[str] = ()) -> str:
    """A name that is safe in a path, an address and a document, and not yet taken."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip(".") or "unnamed"
    free, number = safe, 2
    while free in taken:
        free, number = f"{safe}-{number}", number + 1
    return free


def _built(name: str, manifest: Mapping[str, Any], results: Path, warn: Callable[[str], None]) -> Built:
    columns = _columns(manifest)
    stored: dict[str, Stored] = {}
    bad: dict[str, str] = {}
    for folder in dict.fromkeys(row["scores"] for row in manifest["rows"]):
        changed = _changed(results, folder)
        problem = _load(results, folder, changed, columns, stored)
        if problem:
            bad[folder] = problem
        elif edited := [file for file in changed if file in SHOWN and (results / folder / file).exists()]:
            warn(
                f"{name}: {folder}: {', '.join(edited)} is not what the run wrote, so what is shown of it may be wrong"
            )
    if not stored:
        raise UserError(
            f"none of its {len(bad)} directories of scores can be read (the first, {next(iter(bad), '')}, "
            f"{next(iter(bad.values()), '')}); the command that made it makes them again"
        )
    if bad:
        said = "; ".join(f"{folder} {problem}" for folder, problem in bad.items())
        warn(f"{name}: made without {len(bad)} of its {len(bad) + len(stored)} directories of scores: {said}")
    # A row whose scores are not used stays in the table, without numbers: it is looked for where nothing can be.
    rows = [{**row, "scores": "DONE/none"} if row["scores"] in bad else row for row in manifest["rows"]]
    usable, notes = _sound_parts(manifest, results)
    for note in notes:
        warn(f"{name}: {note}")
    found = inputs({**usable, "rows": rows}, results, stored)
    unusable = frozenset(
        (row["name"], row["seed"])
        for row in manifest["rows"]
        if row["round"] is None and bad.get(row["scores"], MISSING) != MISSING
    )
    found = found._replace(meta=replace(found.meta, notes=(*found.meta.notes, *notes), unusable=unusable))
    table = build_table([run for run in found.runs if run.round is None], found.judges, found.meta)
    kept = [row for row in manifest["rows"] if row["scores"] not in bad]
    return Built(name, {**usable, "rows": kept}, found, table, results)


def _changed(results: Path, folder: str) -> list[str]:
    """Files of a directory that are not what `DONE` says."""
    there = is_name(folder) and (results / folder).is_dir()
    return sorted(damage(results / folder)) if there else []


def _columns(manifest: Mapping[str, Any]) -> list[Column]:
    return [Column(**{**column, "over": tuple(column["over"])}) for column in manifest["columns"]]


def _load(
    results: Path, folder: str, changed: Sequence[str], columns: Sequence[Column], stored: dict[str, Stored]
) -> str:
    """Read a directory of scores into ``stored``; or what keeps it from being used."""
    if not is_name(folder) or not (results / folder).is_dir():
        return MISSING
    if files := [file for file in changed if file in READ]:
        return f"is damaged ({', '.join(files)})"
    try:
        found = read_stored(results / folder)
    except DataError as error:
        return f"cannot be used ({str(error).splitlines()[0]})"
    if problem := incomplete(found.scores, columns):
        return f"cannot be used ({problem})"
    stored[folder] = found
    return ""


def _sound_parts(manifest: Mapping[str, Any], results: Path) -> tuple[dict[str, Any], list[str]]:
    """The manifest without a judge's report or counts that cannot be used, and sentences on what follows."""
    usable, notes = dict(manifest), []
    if manifest["judge"] is not None:
        problem = _file_problem(results, manifest["judge"], "report.json", judge_problem)
        if problem:
            usable["judge"] = None
            notes.append(
                f"The judge's report {problem}: how far the judge can be believed is not known, and nothing is ranked "
                "by it."
            )
    if manifest.get("guide") is not None:
        problem = _file_problem(results, manifest["guide"], "report.json", judge_problem)
        if problem:
            usable["guide"] = None
        if problem not in ("", MISSING):  # which it may be, as in a reference
            notes.append(f"The guide's report {problem}: how well the guide tells replies apart is not known.")
    problem = _file_problem(results, manifest["references"], "counts.json", _counts_problem)
    if problem:
        usable["references"] = "DONE/none"
        if any(column["over"] for column in manifest["columns"]):
            notes.append(f"The counts of the data {problem}: averages over sets of prompts weigh all sets alike.")
        elif _changed(results, manifest["references"]):
            notes.append(f"The counts of the data {problem}: whether they are the official release is not told.")
    return usable, notes


def _file_problem(results: Path, folder: str, name: str, problem_of: Callable[[Any], str]) -> str:
    """What keeps one file from being used."""
    path = results / folder / name
    if not is_name(folder) or not path.is_file():
        return "is missing" if name == "report.json" else "are missing"
    if (results / folder / "DONE").exists() and {name, "DONE"}.intersection(damage(results / folder)):
        return f"cannot be used ({path}: is not what was written)"
    try:
        problem = problem_of(read_json(path))
    except DataError as error:
        return f"cannot be used ({str(error).splitlines()[0]})"
    return f"cannot be used ({path}: {problem})" if problem else ""


def _counts_problem(counts: object) -> str:
    whole = isinstance(counts, dict) and all(isinstance(count, int) and count >= 0 for count in counts.values())
    return "" if whole else "holds something other than counts"


class Configuration(NamedTuple):
    """One setting of a method: its numbers under one decoding."""

    name: str
    """Of the method."""
    cells: Mapping[str, Cell]
    """By key of the column."""
    marks: tuple[str, ...]
    """Of its row."""

    def value(self, key: str) -> float | None:
        """The number in a column; None without one."""
        return self.cells[key].value if key in self.cells else None


def chosen(table: Table, decoding: str) -> list[Configuration]:
    """The backbone and the methods of a table, in its order."""
    keys = [column.key for column in table.columns]
    return [
        Configuration(row.name, dict(zip(keys, row.cells, strict=True)), row.marks)
        for section in table.sections
        if section.decoding == decoding
        for row in section.rows
        if row.kind in MODELS
    ]


def others(built: Built, tables: Iterable[Built], decoding: str) -> list[Configuration]:
    """The same methods in tables that differ in settings alone: of one task, preset, data.

    A row that shares a directory of scores with one that was seen before is the same configuration.
    """
    seen = [folders for folders in _folders(built).values() if folders]
    names = {entry.name for entry in chosen(built.table, decoding)}
    found = []
    for other in tables:
        if other.name == built.name or _compared(other) != _compared(built):
            continue
        folders = _folders(other)
        for entry in chosen(other.table, decoding):
            if entry.name in names and folders[entry.name] and not any(one & folders[entry.name] for one in seen):
                seen.append(folders[entry.name])
                found.append(entry)
    return found


def trials(built: Built) -> dict[str, list[Configuration]]:
    """What a sweep tried and did not choose, by decoding: its numbers on the prompts of the table, if on any."""
    tried = [trial for trial in built.manifest.get("trials", ()) if not trial["chosen"]]
    stored: dict[str, Stored] = {}
    columns = built.inputs.meta.columns
    tried = [
        trial
        for trial in tried
        if not _load(built.results, trial["scores"], _changed(built.results, trial["scores"]), columns, stored)
    ]
    rows: list[dict[str, Any]] = [
        {"name": f"{trial['method']} {index}", "kind": "method", "round": None, **trial}
        for index, trial in enumerate(tried)
    ]
    if not rows:
        return {}
    found = inputs({**built.manifest, "rows": rows}, built.results, stored)
    table = build_table(found.runs, found.judges, found.meta)
    names = {row["name"]: trial["method"] for row, trial in zip(rows, tried, strict=True)}
    return {
        decoding: [entry._replace(name=names[entry.name]) for entry in chosen(table, decoding)]
        for decoding in found.meta.decodings
    }


def rounds(built: Built) -> dict[str, dict[str, dict[int, Configuration]]]:
    """Of each method that trains in rounds: its numbers after each of them, the last included; by decoding."""
    earlier = [run for run in built.inputs.runs if run.round is not None]
    if not earlier:
        return {}
    gold = [run for run in built.inputs.runs if run.kind == "ceiling"]
    unfinished = [replace(run, name=f"{run.name} {run.round}", round=None) for run in earlier]
    expected: dict[str, Kind] = {run.name: run.kind for run in (*unfinished, *gold)}
    meta = replace(built.inputs.meta, expected=expected)
    table = build_table([*unfinished, *gold], built.inputs.judges, meta)
    found: dict[str, dict[str, dict[int, Configuration]]] = {}
    for decoding in meta.decodings:
        made = {entry.name: entry for entry in chosen(table, decoding)}
        last = {entry.name: entry for entry in chosen(built.table, decoding)}
        of_decoding = found.setdefault(decoding, {})
        for run, renamed in zip(earlier, unfinished, strict=True):
            of_decoding.setdefault(run.name, {})[run.round or 0] = made[renamed.name]
        for name, numbers in of_decoding.items():
            numbers[max(numbers) + 1] = last[name]
    return found


def training_logs(built: Built) -> dict[str, dict[int, list[dict[str, float]]]]:
    """The records of the training of each method, by seed; without those that cannot be read."""
    found: dict[str, dict[int, list[dict[str, float]]]] = {}
    for row in built.manifest["rows"]:
        path = built.results / row["scores"] / "training_log.jsonl"
        if row["round"] is None and row["kind"] == "method" and (records := read_training_log(path)):
            found.setdefault(row["name"], {})[row["seed"]] = records
    return found


def _compared(built: Built) -> tuple[object, ...]:
    """What configurations have in common."""
    return tuple(built.manifest[name] for name in ("task", "preset", "data", "generated_data", "sources"))


def _folders(built: Built) -> dict[str, set[str]]:
    """Names of the directories that hold the scores of each row."""
    found: dict[str, set[str]] = {name: set() for name in built.inputs.meta.expected}
    for row in built.manifest["rows"]:
        if row["round"] is None:
            found[row["name"]].add(row["scores"])
    return found
