"""Reads the stored files that a table is made from, and refuses what no run writes.

The hashes in `DONE` find a file that was changed later; these checks find one that was wrong from the start, such as a
NaN. Either way the sentence names file, line, value and next step.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmarks.errors import DataError
from benchmarks.table_model import MODELS, Kind
from cringe.specs import Reads
from evaluators.metrics import METRICS

if TYPE_CHECKING:
    from pandas import DataFrame

    from benchmarks.tasks.base import Column

TEXTS = ("row", "decoding", "prompts", "uid", "group", "reply_id")
"""Columns of the scores that are text, whatever they look like."""
_COUNTS = ("tokens", "gold_tokens")
_NATS = ("nll", "gold_nll")
_KEY = ["row", "decoding", "prompts", "uid"]
_SPENT = ("updates", "examples", "flops", "seconds", "peak_memory_bytes")
"""Entries of a part of a ledger that are numbers."""
MOST_NATS = 1e12
"""A likelihood beyond it is a number gone astray, and its fourth power would be infinite."""
_LONGEST_NAME = 256
"""Characters; no disk takes as many."""
AGAIN = "run the command that made it again with --force"


_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")]
_Share = Annotated[float, Field(ge=0, le=1)]
_Count = Annotated[int, Field(ge=1)]


class _Shape(BaseModel):
    """What is read of a file; more may be there."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Row(_Shape):
    name: _Name
    kind: Kind
    seed: int
    round: _Count | None
    scores: str


class _Trial(_Shape):
    method: _Name
    settings: dict[str, Any]
    value: float | None
    chosen: bool
    seed: int
    scores: str


class _Metric(_Shape):
    metric: str
    prompts: str
    title: str
    over: list[str]


class _Manifest(_Shape):
    task: str
    preset: str
    changes: list[str]
    seeds: Annotated[list[int], Field(min_length=1)]
    decodings: Annotated[dict[str, str], Field(min_length=1)]
    footnotes: list[str]
    choices: list[str]
    settings: dict[str, Any]
    generated_data: bool
    data: dict[str, str] | None
    sources: list[str]
    columns: Annotated[list[_Metric], Field(min_length=1)]
    trials: list[_Trial]
    judge: str | None
    guide: str | None = None
    references: str
    rows: Annotated[list[_Row], Field(min_length=1)]


class _Area(_Shape):
    value: _Share
    low: _Share
    high: _Share


class _Bin(_Shape):
    predicted: _Share
    observed: _Share
    low: _Share
    high: _Share


class _JudgeFile(_Shape):
    name: str
    reads: Reads
    accuracy: _Share
    sensitivity: _Share
    specificity: _Share
    brier: _Share
    auc: _Area
    threshold: float
    n: _Count
    negatives: _Count
    weak: bool
    other_view: Reads = "response"
    other_view_auc: _Share = 0.5
    second_name: str = ""
    second_auc: _Share = 0.5
    reliability: list[_Bin] = []


class Stored(NamedTuple):
    """What a directory of scores holds of numbers."""

    scores: DataFrame
    """As in `benchmarks.table_inputs.RunScores`."""
    ledger: Mapping[str, Any]
    corpus: list[Mapping[str, Any]]


def is_name(text: str) -> bool:
    """Is it the name of a directory, and no path, which could lead out of the folder that it is looked for in?"""
    return text not in ("", "..") and Path(text).name == text and len(text) < _LONGEST_NAME


def read_stored(folder: Path) -> Stored:
    """Read a directory of scores.

    Raises:
        DataError: a file of it cannot be read, or holds what cannot be.
    """
    scores = read_scores(folder / "scores.csv")
    ledger, corpus = read_ledger(folder / "ledger.json"), read_json(folder / "corpus.json")
    if problem := _corpus_problem(corpus):
        raise DataError(problem, path=folder / "corpus.json", hint=AGAIN)
    return Stored(scores, ledger, corpus)


def read_ledger(path: Path) -> Mapping[str, Any]:
    """Read what a run spent.

    Raises:
        DataError: it cannot be read, or holds what cannot be.
    """
    ledger: Any = read_json(path)
    if problem := _ledger_problem(ledger):
        raise DataError(problem, path=path, hint=AGAIN)
    found: Mapping[str, Any] = ledger
    return found


def read_json(path: Path, *, hint: str = AGAIN) -> Any:  # noqa: ANN401 - JSON is of any type
    """Read JSON whose numbers are finite, and whose texts can be written.

    Raises:
        DataError: it cannot be read, holds NaN or an infinite number, or half of a character that takes two escapes.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text, parse_constant=_refuse, parse_float=_finite)
        refuse_halves(text, content)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"cannot be read as JSON ({error})", path=path, hint=hint) from error
    return content


def refuse_halves(text: str, content: object) -> None:
    r"""Refuse JSON with half of a character that takes two escapes, such as ``\ud83d``: no file can be written of it.

    Args:
        text: of the JSON.
        content: what it says.

    Raises:
        UnicodeEncodeError: there is one.
    """
    if "\\u" in text:
        json.dumps(content, ensure_ascii=False).encode()


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits} is too large")
    return number


def read_scores(path: Path) -> DataFrame:
    """Read the scores of one directory, a row a reply.

    Raises:
        DataError: it cannot be read; a column, name, token count or likelihood is missing; a number is none, infinite
            or outside its range; or a prompt is scored twice.
    """
    import pandas as pd

    try:
        frame = pd.read_csv(path, dtype=dict.fromkeys(TEXTS, str), keep_default_na=False, na_values=[""])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"cannot be read ({error})", path=path, hint=AGAIN) from error
    missing = [name for name in (*TEXTS, "tokens", "nll") if name not in frame]
    if missing:
        raise DataError(f"has no column {', '.join(missing)}", path=path, hint=AGAIN)
    if frame.empty:
        raise DataError("holds no scores", path=path, hint=AGAIN)
    if ("gold_nll" in frame) != ("gold_tokens" in frame):
        raise DataError("has one of the columns gold_nll and gold_tokens without the other", path=path, hint=AGAIN)
    for name in frame:
        _check_column(frame, str(name), path)
    twice = frame.duplicated(_KEY).to_numpy()
    if twice.any():
        _refuse_row(path, frame, twice, "uid", "the prompt is scored twice")
    return frame


def _check_column(frame: DataFrame, name: str, path: Path) -> None:
    """Refuse the first value of a column that cannot be."""
    import numpy as np

    column = frame[name]
    if name in TEXTS:
        if name != "row":
            _refuse_row(path, frame, column.isna().to_numpy(), name, f"{name} is empty")
        return
    if column.dtype.kind not in "fiu":
        import pandas as pd

        numbers = pd.to_numeric(column, errors="coerce")
        _refuse_row(path, frame, (numbers.isna() & column.notna()).to_numpy(), name, f"{name} is no number")
        raise DataError(f"{name} holds something other than numbers", path=path, hint=AGAIN)
    values = column.to_numpy(dtype=np.float64)
    _refuse_row(path, frame, np.isinf(values), name, f"{name} is infinite")
    if name in ("tokens", "nll"):
        _refuse_row(path, frame, np.isnan(values), name, f"{name} is missing")
    if name in _COUNTS:
        _refuse_row(path, frame, (values < 1) | (values % 1 > 0), name, f"{name} is no count from 1")
    elif name in _NATS:
        _refuse_row(path, frame, np.abs(values) > MOST_NATS, name, f"{name} is beyond what a reply can have")
    elif name not in METRICS or METRICS[name].proportion:
        _refuse_row(path, frame, (values < 0) | (values > 1), name, f"{name} is not between 0 and 1")


def _refuse_row(path: Path, frame: DataFrame, bad: Any, name: str, problem: str) -> None:  # noqa: ANN401 - an array
    """Raise for the first bad row, if there is one; line 1 holds the names."""
    if bad.any():
        place = int(bad.argmax())
        value = frame[name].iloc[place]
        found = None if value != value else getattr(value, "item", lambda: value)()
        raise DataError(problem, path=path, line=place + 2, found=found, hint=AGAIN)


def incomplete(frame: DataFrame, columns: Iterable[Column]) -> str:
    """Which score a table shows that some replies to a set of prompts have and others lack; empty if none does."""
    for column in columns:
        metric = METRICS[column.metric]
        names = {"mean": (metric.name,), "perplexity": ("gold_nll", "gold_tokens"), "corpus": ()}[metric.aggregate]
        prompts = column.over or (column.prompts,)
        for name in (name for name in names if name in frame):
            part = frame[frame["prompts"].isin(prompts)]
            if not part[name].isna().any():
                continue
            for key, missing in part[name].isna().groupby([part[where] for where in ("decoding", "prompts")]):
                by_row = missing.groupby(part["row"].reindex(missing.index).fillna(""))
                for lacking in (one for _, one in by_row if 0 < one.sum() < len(one)):
                    where = ", ".join(map(str, key))
                    return f"{name} is missing for {int(lacking.sum())} of {len(lacking)} replies ({where})"
    return ""


def _ledger_problem(ledger: object) -> str:
    if not isinstance(ledger, dict):
        return "is no object of what was spent"
    for name, part in ledger.items():
        if name != "training" and not name.startswith(("generation ", "steering ", "auxiliary ")):
            continue
        if not isinstance(part, dict):
            return f"{name} is no object of what was spent"
        tokens = part.get("target_tokens", {})
        if not isinstance(tokens, dict):
            return f"{name}: target_tokens are not by feedback"
        spent = {entry: part[entry] for entry in _SPENT if entry in part} | tokens
        wrong = [entry for entry, value in spent.items() if not _is_number(value) or value < 0]
        if wrong:
            return f"{name}: {', '.join(wrong)} is no number from 0"
    return ""


def _corpus_problem(corpus: object) -> str:
    if not isinstance(corpus, list):
        return "is no list"
    for entry in corpus:
        if not isinstance(entry, dict) or not all(isinstance(entry.get(name), str) for name in TEXTS[:3]):
            return "has an entry without row, decoding or prompts"
        for name in entry.keys() - set(TEXTS):
            value = entry[name]
            if value is not None and not (_is_number(value) and 0 <= value <= 1):
                return f"{name} of {entry['prompts']} is not between 0 and 1"
    return ""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def judge_problem(report: object) -> str:
    """What is wrong with the report on a judge, for a sentence; empty if nothing is."""
    problem = _mismatch(_JudgeFile, report)
    if not problem and isinstance(report, dict) and report["negatives"] >= report["n"]:
        return "it was tested on negative replies alone"
    return problem


def read_training_log(path: Path) -> list[dict[str, float]]:
    """The records of a training; none where the file cannot be read or holds anything else."""
    try:
        text = path.read_text(encoding="utf-8")
        records = [json.loads(line) for line in text.splitlines()]
        refuse_halves(text, records)
    except (OSError, ValueError, RecursionError):
        return []
    whole = all(
        isinstance(record, dict) and "step" in record and all(map(_is_number, record.values())) for record in records
    )
    return records if whole else []


def manifest_problem(content: Mapping[str, Any]) -> str:
    """What is wrong with a manifest, for a sentence; empty if nothing is."""
    return _mismatch(_Manifest, content) or next(_contradictions(content), "")


def _contradictions(content: Mapping[str, Any]) -> Iterator[str]:
    """Entries of a manifest that do not go together."""
    yield from (f"there is no metric {one['metric']!r}" for one in content["columns"] if one["metric"] not in METRICS)
    rows = content["rows"]
    final = {row["name"] for row in rows if row["round"] is None}
    for row in rows:
        if row["kind"] in MODELS and row["seed"] not in content["seeds"]:
            yield f"{row['name']} has seed {row['seed']}, which is not among the seeds"
        if row["name"] not in final:
            yield f"{row['name']} has rounds and no end"


def _mismatch(shape: type[_Shape], content: object) -> str:
    """The first thing that is not of the shape asked for."""
    try:
        shape.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        return f"{where}: {first['msg']}" if where else first["msg"]
    return ""
