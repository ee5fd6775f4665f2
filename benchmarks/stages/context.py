"""What a stage is given beside its settings, and the formats in which stages leave their results."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmarks.tasks import registry as tasks
from benchmarks.tasks.base import Task, TaskData
from cringe.data import Example
from cringe.seeding import stable_hash


@dataclass(frozen=True, kw_only=True)
class Context:
    """Where a stage reads and writes."""

    out: Path
    """An empty directory, the stage's own."""
    parents: Mapping[str, Path]
    """Directories of finished stages, by the role they have for this one."""
    data: Path | None
    """The folder of the data sets; None where they are generated, then the parent ``data`` holds them."""
    resume: Path
    """A file that outlives a killed attempt."""
    device: str
    progress: Callable[[int, int, str], None]
    """Told (done, total, note)."""

    def load(self, settings: Mapping[str, Any]) -> tuple[Task, TaskData]:
        """The stage's task and what it reads from its files."""
        folder = self.parents["data"] if self.data is None else self.data
        return tasks.load(settings["task"]), _load(settings["task"], folder)


@lru_cache(maxsize=1)
def _load(task: str, folder: Path) -> TaskData:
    """A worker runs several stages on the same data."""
    return tasks.load(task).load(folder)


def choose_prompts(examples: Sequence[Example], count: int | None) -> list[Example]:
    """``count`` of the examples, the same ones for every seed, method and order of rows; all when None or too few."""
    drawn = sorted(examples, key=lambda example: stable_hash("prompts", example.uid))[:count]
    return sorted(drawn, key=lambda example: example.uid)


def write_json(path: Path, value: object) -> None:
    """Write JSON with sorted keys."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:  # noqa: ANN401 - JSON is of any type
    """Read JSON."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read one JSON object a line; only a newline ends a line."""
    with path.open("rb") as file:
        return [json.loads(line) for line in file]
