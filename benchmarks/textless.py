"""Results without text, for git: the files that tables are made from, with hashes in place of names and replies.

Prompts, dialogues and replies are hashes, scores are rounded to six digits. So nothing here holds a word of data or
models, and whatever reads results reads these.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.assemble import MANIFEST, read_manifest
from benchmarks.errors import UsageError
from benchmarks.locks import alone
from benchmarks.rebuild import TABLES, Built, safe_name
from benchmarks.table_inputs import RECORDED_DIGITS
from benchmarks.table_model import MODELS

if TYPE_CHECKING:
    from pandas import DataFrame

    from benchmarks.table_inputs import RunScores

RECORDED = "recorded"
"""Entry of a manifest: versions of the packages and kind of device of the runs; only results without text have it."""
HASHED = ("uid", "group", "reply_id")
"""Columns that are hashes here."""
DIGITS = 12
"""Hexadecimal ones, of a hash."""
UNFINISHED = ".unfinished"
"""Folder, beside the tables' directories, of a table that is being laid down."""
REPLACED = f"{MANIFEST}.replaced"
"""Manifest of a table that is being replaced: what it names is deleted."""
REFERENCES = ("floor", "ceiling")
"""Kinds of rows that no model replied for; they share one directory."""


def short_hash(text: object) -> str:
    """The beginning of the SHA-256 of a name."""
    return hashlib.sha256(str(text).encode()).hexdigest()[:DIGITS]


def hashed(built: Built) -> list[RunScores]:
    """The runs of a table with prompts, dialogues and replies as hashes; those of a recorded one are that already."""
    if RECORDED in built.manifest:
        return built.inputs.runs
    return [
        replace(run, scores=run.scores.assign(**{name: run.scores[name].map(short_hash) for name in HASHED}))
        for run in built.inputs.runs
    ]


def gaps(built: Built) -> Iterator[str]:
    """Sentences on rows of a table that lack a seed."""
    seeds = {(run.name, run.seed) for run in built.inputs.runs if run.round is None}
    for name, kind in built.inputs.meta.expected.items():
        wanted = built.inputs.meta.seeds if kind in MODELS else (0,)
        missing = [seed for seed in wanted if (name, seed) not in seeds]
        if missing:
            yield f"{name} has no run with seed {', '.join(map(str, missing))}"


def refuse_runs(out: Path, option: str) -> None:
    """Refuse to write beside the runs that are recorded: that would be a second table of the same kind.

    Raises:
        UsageError: ``out`` holds runs.
    """
    for path in sorted((out / TABLES).glob(f"*/{MANIFEST}")):
        if RECORDED not in read_manifest(path):
            raise UsageError(f"{out} holds runs, with text in them\n  next step: name another folder with {option}")


@contextmanager
def recording(name: str, out: Path) -> Iterator[Path]:
    """A folder to lay a table down in, which then takes the place of what was recorded of the table before.

    Stopped while the block lasts, all is as it was. Stopped behind it, the table may have no manifest, so that nobody
    takes it for whole; the next recording completes it. Two commands that record into one folder do so in turn.

    Args:
        name: of the table.
        out: the folder that tables are recorded in.
    """
    with alone(out / f"{UNFINISHED}.lock"):
        scratch = out / UNFINISHED
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            scratch.mkdir()
            yield scratch
            _remove(name, out)
            for path in sorted(scratch.iterdir()):
                if path.name != TABLES:
                    shutil.rmtree(out / path.name, ignore_errors=True)
                    path.rename(out / path.name)
            (out / TABLES).mkdir(exist_ok=True)
            (scratch / TABLES / name).rename(out / TABLES / name)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _remove(name: str, out: Path) -> None:
    """Delete what was recorded of a table before: the folders that its manifest names, and last the manifest."""
    table = out / TABLES / name
    if (table / MANIFEST).exists():
        read_manifest(table / MANIFEST)
        (table / MANIFEST).replace(table / REPLACED)
    if (table / REPLACED).exists():
        before = read_manifest(table / REPLACED)
        folders = {before["judge"], before["guide"], before["references"]}
        folders |= {entry["scores"] for entry in (*before["rows"], *before["trials"])}
        for folder in folders:
            if folder is not None and Path(folder).name == folder and folder.startswith(f"{name}-"):
                shutil.rmtree(out / folder, ignore_errors=True)
    shutil.rmtree(table, ignore_errors=True)


def run_folder(name: str, run: RunScores) -> str:
    """The directory of a row of the table ``name``."""
    if run.kind in REFERENCES:
        return f"{name}-references"
    turn = "" if run.round is None else f"-round{run.round}"
    return f"{name}-{safe_name(run.name)}-s{run.seed}{turn}"


def write_run(
    folder: Path, run: RunScores, runs: Sequence[RunScores], columns: Sequence[str], ledger: Mapping[str, Any]
) -> None:
    """Lay down what a run is read from, but for its `DONE`: scores, numbers of all replies, and what was spent.

    Args:
        folder: of the run; it is made.
        run: whose.
        runs: all of the table; what no model replied for shares a directory.
        columns: of the scores that are kept, where they are there.
        ledger: as it is written.
    """
    import pandas as pd

    alike = [other for other in runs if run.kind in REFERENCES and other.kind in REFERENCES] or [run]
    scores: DataFrame = pd.concat([other.scores for other in alike])
    kept = scores[[name for name in columns if name in scores]]
    kept = kept.sort_values(["row", "decoding", "prompts", "uid"], na_position="first")
    folder.mkdir(parents=True)
    kept.to_csv(folder / "scores.csv", index=False, lineterminator="\n", float_format=f"%.{RECORDED_DIGITS}g")
    corpus = {json.dumps(entry, sort_keys=True): dict(entry) for other in alike for entry in other.corpus}
    write_json(folder / "corpus.json", list(corpus.values()))
    write_json(folder / "ledger.json", ledger)


def write_done(folder: Path) -> None:
    """Write the hashes of all files of a directory."""
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
    write_json(folder / "DONE", digests)


def write_json(path: Path, content: object) -> None:
    """Write JSON with its keys in order; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
