"""Results for git, tables and page included, without text: ``python -m benchmarks.publish``; touches no model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.assemble import MANIFEST
from benchmarks.carry_out import refusal
from benchmarks.ending import exit_code
from benchmarks.errors import UserError, printable
from benchmarks.rebuild import TABLES, Built, rebuild, safe_name
from benchmarks.reference import by_key, made_with
from benchmarks.textless import (
    HASHED,
    RECORDED,
    gaps,
    hashed,
    recording,
    refuse_runs,
    run_folder,
    write_done,
    write_json,
    write_run,
)

EXAMPLES = """\
examples:
  python -m benchmarks.publish results/runs --out results/published/cpu
      all tables of a results folder
  python -m benchmarks.publish results/runs/tables/decode-cpu-0123456789ab --out results/published/cpu
      one table; others that were published there before stay

exit codes: 0 done, 1 a table is not whole or could not be written, 2 wrong usage, 3 a file is damaged
"""
REPORT = "report"
"""Folder, beside the tables, of what is made from them."""
_NAMES = ("row", "decoding", "prompts", *HASHED)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.publish",
        description="Lay down finished tables for others to check: per-example scores under hashed names, what was "
        "spent, settings, environment, command and commit, and the report made from them. No text of data or models.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", metavar="RUNS", type=Path, help="a results folder, or the folder of one of its tables")
    parser.add_argument(
        "--out", required=True, metavar="DIR", type=Path, help="where to; its report goes to DIR/report"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(arguments)
    return exit_code(partial(_publish, options.runs, options.out))


def _publish(runs: Path, out: Path) -> int:
    from benchmarks.report import report

    try:
        for folder in publish(runs, out, _warn):
            print(folder)
        report(rebuild(out), out / REPORT, text=False)
    except OSError as error:
        raise UserError(refusal("publish to", out, error, "--out")) from error
    print(out / REPORT)
    return 0


def _warn(sentence: str) -> None:
    print(printable(f"note: {sentence}"), file=sys.stderr)


def publish(runs: Path, out: Path, warn: Callable[[str], None]) -> list[Path]:
    """Lay down the tables of a results folder; what was published of the same tables before is replaced.

    Args:
        runs: a results folder, or the folder of one of its tables.
        out: where to.
        warn: is told of tables that are left aside.

    Returns:
        The tables' folders.

    Raises:
        UsageError: there is no table, or two of one kind; or ``out`` holds runs.
        UserError: a row or seed of a table is missing, or a file damaged: what is published is whole.
    """
    said: list[str] = []
    tables = by_key(rebuild(runs, said.append), str(runs), warn)
    for key, built in tables.items():
        said += [f"{key}: {gap}" for gap in gaps(built)]
        if not (built.results / built.manifest["references"] / "counts.json").is_file():
            said.append(f"{key}: the counts of the data are missing")
    if said:
        step = "next step: finish the run, with --repair where it is damaged"
        raise UserError("what is published must be whole:\n  " + "\n  ".join([*said, step]))
    refuse_runs(out, "--out")
    return [_write_table(built, safe_name(str(key)), out) for key, built in sorted(tables.items())]


def _write_table(built: Built, name: str, out: Path) -> Path:
    """Lay down one table; its folder."""
    from benchmarks.provenance import command, gather, without_paths

    origin = built.results
    folders = {row["scores"] for row in (*built.manifest["rows"], *built.manifest["trials"])}
    named = {built.manifest[part] for part in ("judge", "guide", "references")} - {None}
    made = gather(origin / folder for folder in folders | named)
    runs = hashed(built)
    columns = [*_NAMES, *dict.fromkeys(str(column) for run in runs for column in run.scores if column not in _NAMES)]
    recorded = {**made_with(built), "environments": [_without_packages(one) for one in made.environments]}
    recorded["command"] = without_paths(command(built.manifest, str(recorded.get("device", ""))))
    with recording(name, out) as scratch:
        rows = []
        for run, row in zip(runs, built.manifest["rows"], strict=True):
            folder = scratch / run_folder(name, run)
            rows.append({**row, "scores": folder.name})
            if not folder.exists():
                write_run(folder, run, runs, columns, run.ledger)
                _copy(origin / row["scores"] / "training_log.jsonl", folder)
                write_done(folder)
        made_from = without_paths(dict(built.manifest)) | {"rows": rows, "trials": list(_trials(built, name, scratch))}
        made_from |= dict(_parts(built, name, scratch)) | {RECORDED: recorded}
        folder = scratch / TABLES / name
        write_json(folder / MANIFEST, made_from)
        write_json(folder / "specs.json", made.specs)
        write_json(folder / "environments.json", made.environments)
    return out / TABLES / name


def _parts(built: Built, name: str, out: Path) -> Iterator[tuple[str, str | None]]:
    """Lay down what a table says of judge, guide and data; yields the entries of its manifest."""
    for part, file in (("judge", "report.json"), ("guide", "report.json"), ("references", "counts.json")):
        origin = built.manifest[part]
        if origin is None:
            yield part, None
            continue
        folder = out / f"{name}-{'data' if part == 'references' else part}"
        folder.mkdir(parents=True)
        _copy(built.results / origin / file, folder)
        write_done(folder)
        yield part, folder.name


def _trials(built: Built, name: str, out: Path) -> Iterator[dict[str, Any]]:
    """Lay down what each trial of a sweep spent; its scores are of validation prompts, and its number is kept."""
    for index, trial in enumerate(built.manifest["trials"], start=1):
        folder = out / f"{name}-trial-{index}"
        folder.mkdir(parents=True)
        _copy(built.results / trial["scores"] / "ledger.json", folder)
        write_done(folder)
        yield {**trial, "scores": folder.name}


def _copy(file: Path, folder: Path) -> None:
    """Copy a file of numbers, if it is there."""
    if file.is_file():
        (folder / file.name).write_bytes(file.read_bytes())


def _without_packages(environment: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in environment.items() if name != "packages"}


if __name__ == "__main__":
    sys.exit(main())
