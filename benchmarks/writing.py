"""Files that are there whole or not at all, whenever the process that writes them is stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from benchmarks.locks import lock
from benchmarks.runner import damage

DONE = "DONE"
"""File with the SHA-256 of every other file of a folder."""


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file under another name, and give it its own once it is on the disk; its folder is made.

    A file that holds the same bytes already is left alone. Two processes that write one file do so in turn.

    Raises:
        OSError: it cannot be written; the error names the file, and what was there before is as it was.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        if path.is_file() and path.read_bytes() == data:
            return
        unfinished = path.with_name(f".{path.name}.unfinished")
        with os.fdopen(lock(unfinished), "wb") as file:
            try:
                file.truncate(0)  # what a killed process left
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                unfinished.replace(path)
            except BaseException:
                unfinished.unlink(missing_ok=True)
                raise
    except OSError as error:
        error.filename = str(path)
        raise


def write_folder(folder: Path, files: Mapping[str, str]) -> list[str]:
    """Write the files of a folder and, last, `DONE` with their hashes.

    Files that an earlier `DONE` names and that are not written any more are deleted; others are not touched.

    Returns:
        Names of files that were there before and were not what had been written: changed, cut off or deleted since.
    """
    before = _hashes(folder / DONE)
    damaged = damage(folder) if folder.exists() else []
    for name in before.keys() - files.keys():
        if Path(name).name == name:
            (folder / name).unlink(missing_ok=True)
    for name, text in files.items():
        write_whole(folder / name, text)
    digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in sorted(files.items())}
    write_whole(folder / DONE, json.dumps(digests, indent=1) + "\n")
    return [name for name in damaged if name in files or name == DONE]


def _hashes(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
