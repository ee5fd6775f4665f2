"""What the paper reports, from `benchmarks/paper/*.yaml`: values that stand beside ours, each with how sure it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.errors import DataError, did_you_mean

FOLDER = Path(__file__).parent / "paper"

LETTERS: Mapping[str, str] = {"table": "T", "second_hand": "S", "figure": "F", "code": "C", "unknown": "?"}
"""How sure a value is, and the letter that says so in a table."""


class Published(NamedTuple):
    """A value of the paper, in the paper's unit (percent, F1 × 100)."""

    value: float | None
    """None when it is in nothing that could be read."""
    certainty: str
    """A key of `LETTERS`."""
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperColumn:
    """A column of the paper."""

    metric: str
    title: str
    split: str
    prompts: str | None = None
    """The prompts that the metric is measured on, where several columns have the same metric."""
    instead_of: str | None = None
    """The column in whose place this one is shown where that one is unknown."""
    examples: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperTable:
    """A table of the paper."""

    paper: str
    backbone: str
    """What the paper's methods start from."""
    decoding: str
    """How the paper decodes, according to the authors' code."""
    certainty: Mapping[str, str]
    """What each degree of certainty that occurs here means."""
    columns: Mapping[str, PaperColumn]
    rows: Mapping[str, Mapping[str, Published]]
    """By method, then by column."""

    def lookup(self, row: str, metric: str, prompts: str) -> Published | None:
        """The paper's value for a method's metric on some prompts; None when the paper has no such row or column."""
        if row not in self.rows:
            return None
        fitting = {
            key: column
            for key, column in self.columns.items()
            if column.metric == metric and column.prompts in (None, prompts)
        }
        values = self.rows[row]
        for key, column in fitting.items():
            if column.instead_of is None:
                stand_ins = (values[other] for other, entry in fitting.items() if entry.instead_of == key)
                candidates = (values[key], *stand_ins)
                return next((found for found in candidates if found.value is not None), values[key])
        return None


def load_paper(name: str, folder: Path = FOLDER) -> PaperTable:
    """Read what the paper reports for a task.

    Args:
        name: file name without ending, `Task.paper_table`.
        folder: where the files are.

    Raises:
        DataError: no such file, or one that is not in the documented schema.
    """
    from benchmarks.yaml_text import read_yaml

    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = did_you_mean(name, (file.stem for file in folder.glob("*.yaml")))
        raise DataError("no values of the paper under this name", path=path.name, hint=known)
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"not readable as YAML: {error}", path=path.name) from error
    try:
        return _parsed(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        hint = "the schema is described at the top of each file in benchmarks/paper"
        raise DataError(f"not in the schema: {error}", path=path.name, hint=hint) from error


def _parsed(content: Mapping[str, Any]) -> PaperTable:
    if content["version"] != 1:
        raise ValueError(f"version {content['version']!r}, known: 1")
    columns = {key: PaperColumn(**column) for key, column in content["columns"].items()}
    rows = {name: _row(name, row["values"], columns) for name, row in content["rows"].items()}
    return PaperTable(
        paper=content["paper"],
        backbone=content["backbone"],
        decoding=content["decoding"]["text"],
        certainty=content["certainty"],
        columns=columns,
        rows=rows,
    )


def _row(name: str, values: Mapping[str, Any], columns: Mapping[str, PaperColumn]) -> dict[str, Published]:
    if set(values) != set(columns):
        raise ValueError(f"{name} has the columns {sorted(values)}, expected {sorted(columns)}")
    row = {key: Published(**value) for key, value in values.items()}
    for key, entry in row.items():
        if entry.certainty not in LETTERS or (entry.value is None) != (entry.certainty == "unknown"):
            raise ValueError(f"{name}, {key}: value {entry.value} with certainty {entry.certainty!r}")
    return row
