"""Stored files that no run writes: each is refused with file, line and value, and costs one row, not the table."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks.assemble import MANIFEST, read_manifest
from benchmarks.errors import DataError
from benchmarks.rebuild import rebuild, training_logs
from benchmarks.report import main
from benchmarks.stored import incomplete, judge_problem, manifest_problem, read_scores, read_stored
from benchmarks.tasks.base import Column
from benchmarks.writing import DONE
from evaluators.metrics import METRICS
from tests.unit.benchmarks.test_report import JUDGE, fake_runs

NAMES = ("transformer", "cringe")
LINES = (
    "row,decoding,prompts,uid,group,reply_id,f1,tokens,nll,gold_nll,gold_tokens,safe",
    ",beam,a,NA,null,007,0.5,3,2.5,4.0,2,1.0",
    ",beam,a,u2,g2,1e5,0.25,4,3.5,4.0,2,",
)


def scores(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return fake_runs(tmp_path / "runs", names=NAMES, seeds=(0,), overrides=("cringe.iterations=1",))


def folder_of(table: Path, name: str) -> Path:
    rows = json.loads((table / MANIFEST).read_text())["rows"]
    return table.parent.parent / next(row["scores"] for row in rows if row["name"] == name and row["round"] is None)


def rehash(folder: Path) -> None:
    """As if a run had written what is there now."""
    files = [path for path in folder.iterdir() if path.name != "DONE"]
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    (folder / "DONE").write_text(json.dumps(digests))


# Scores


def test_scores_that_look_like_numbers_or_nothing_stay_text(tmp_path: Path) -> None:
    frame = read_scores(scores(tmp_path / "scores.csv", "\n".join(LINES) + "\n"))
    assert frame["uid"].tolist() == ["NA", "u2"]
    assert frame["reply_id"].tolist() == ["007", "1e5"]
    assert frame["group"].tolist() == ["null", "g2"]


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (6, "nan", "scores.csv:3: f1 is no number (found 'nan')"),
        (6, "inf", "scores.csv:3: f1 is infinite"),
        (6, "1.5", "scores.csv:3: f1 is not between 0 and 1 (found 1.5)"),
        (11, "-1", "scores.csv:3: safe is not between 0 and 1"),
        (7, "0", "scores.csv:3: tokens is no count from 1 (found 0)"),
        (7, "2.5", "scores.csv:3: tokens is no count from 1 (found 2.5)"),
        (7, "", "scores.csv:3: tokens is missing"),
        (8, "", "scores.csv:3: nll is missing"),
        (8, "-inf", "scores.csv:3: nll is infinite"),
        (9, "1e300", "scores.csv:3: gold_nll is beyond"),
        (10, "0", "scores.csv:3: gold_tokens is no count from 1"),
        (3, "", "scores.csv:3: uid is empty"),
        (3, "NA", "scores.csv:3: the prompt is scored twice (found 'NA')"),
        (1, "", "scores.csv:3: decoding is empty"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_line(tmp_path: Path, place: int, value: str, message: str) -> None:
    fields = LINES[2].split(",")
    fields[place] = value
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read_scores(scores(tmp_path / "scores.csv", "\n".join([*LINES[:2], ",".join(fields)]) + "\n"))
    assert "--force" in str(caught.value)


def test_a_score_that_is_no_share_may_be_beyond_1(tmp_path: Path) -> None:
    assert not METRICS["perplexity"].proportion
    lines = [line + end for line, end in zip(LINES, (",perplexity", ",17.5", ",-2"), strict=True)]
    assert read_scores(scores(tmp_path / "scores.csv", "\n".join(lines) + "\n"))["perplexity"].tolist() == [17.5, -2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        (LINES[0] + "\n", "holds no scores"),
        ("row,decoding,prompts,uid,group,reply_id,nll\n,b,p,u,g,r,1\n", "has no column tokens"),
        ("row,decoding,prompts,uid,group,reply_id,tokens,nll,gold_nll\n,b,p,u,g,r,1,1,1\n", "without the other"),
    ],
)
def test_files_without_scores_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_scores(scores(tmp_path / "scores.csv", text))


def test_a_score_that_some_replies_lack_is_named_where_a_table_shows_it(tmp_path: Path) -> None:
    frame = read_scores(scores(tmp_path / "scores.csv", "\n".join(LINES) + "\n"))
    shown = Column(metric="safe", prompts="a", title="Safe")
    assert incomplete(frame, [shown]) == "safe is missing for 1 of 2 replies (beam, a)"
    assert incomplete(frame, [Column(metric="f1", prompts="a", title="F1")]) == ""
    assert incomplete(frame, [Column(metric="safe", prompts="b", title="Safe")]) == ""
    assert incomplete(frame.assign(safe=float("nan")), [shown]) == ""


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("ledger.json", "[]", "no object"),
        ("ledger.json", '{"training": 7}', "training is no object"),
        ("ledger.json", '{"generation beam": {"seconds": "x"}}', "seconds is no number"),
        ("ledger.json", '{"training": {"seconds": NaN}}', "NaN"),
        ("corpus.json", "{}", "is no list"),
        ("corpus.json", '[{"row": ""}]', "without row, decoding or prompts"),
        ("corpus.json", '[{"row": "", "decoding": "b", "prompts": "p", "distinct_1": 1e999}]', "too large"),
        ("corpus.json", '[{"row": "", "decoding": "b", "prompts": "p", "distinct_1": 2}]', "not between 0 and 1"),
        ("corpus.json", "[" * 100_000, "cannot be read"),
    ],
)
def test_ledgers_and_numbers_of_all_replies_are_looked_at(table: Path, name: str, content: str, message: str) -> None:
    folder = folder_of(table, "cringe")
    assert read_stored(folder).ledger
    (folder / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read_stored(folder)


# One row less, not the whole table


def nan_in_a_row(folder: Path) -> None:
    frame = pd.read_csv(folder / "scores.csv", keep_default_na=False, na_values=[""])
    frame.loc[frame.index[frame["coherent"].notna()][:1], "coherent"] = float("nan")
    frame.to_csv(folder / "scores.csv", index=False)


@pytest.mark.parametrize("spoil", [nan_in_a_row, lambda folder: (folder / "corpus.json").write_text("7")])
def test_a_bad_directory_costs_its_row_alone(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], object]
) -> None:
    folder = folder_of(table, "cringe")
    spoil(folder)
    rehash(folder)
    assert main([str(table), "--out", str(tmp_path / "out"), "--no-text"]) == 0
    said = capsys.readouterr().err
    assert folder.name in said
    assert "cannot be used" in said
    (built,) = rebuild(table)
    rows = {row.name: row for row in built.table.sections[0].rows}
    assert all(cell.value is None for cell in rows["cringe"].cells)
    assert any(cell.value is not None for cell in rows["transformer"].cells)


@pytest.mark.parametrize(
    "content", ["[]\n", "null\n", '{"loss": 1}\n', '{"step": 1, "loss": "x"}\n', '{"step": 1', "[" * 100_000]
)
def test_a_training_log_that_holds_something_else_is_not_drawn(table: Path, tmp_path: Path, content: str) -> None:
    folder = folder_of(table, "cringe")
    (folder / "training_log.jsonl").write_text(content)
    rehash(folder)
    (built,) = rebuild(table)
    assert set(training_logs(built)) == {"transformer"}
    assert main([str(table), "--out", str(tmp_path / "out"), "--no-text"]) == 0


@pytest.mark.parametrize("name", ["predictions.jsonl", "training_log.jsonl"])
def test_texts_and_curves_that_were_changed_are_named(table: Path, name: str) -> None:
    folder = folder_of(table, "cringe")
    (folder / name).write_text((folder / name).read_text() + "\n")
    said: list[str] = []
    rebuild(table, said.append)
    assert len(said) == 1
    assert folder.name in said[0]
    assert name in said[0]


# Judges


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sensitivity": 2}, "sensitivity"),
        ({"negatives": 0}, "negatives"),
        ({"negatives": 400}, "negative replies alone"),
        ({"auc": {"value": float("nan"), "low": 0.1, "high": 0.2}}, "auc.value"),
        ({"other_view": "</script>"}, "other_view"),
        ({"reliability": [{"n": 1}]}, "reliability.0"),
        ({"weak": "no"}, "weak"),
    ],
)
def test_reports_on_judges_are_looked_at(changed: dict[str, Any], message: str) -> None:
    assert judge_problem(JUDGE) == ""
    assert message in judge_problem(JUDGE | changed)
    assert judge_problem(None)


@pytest.mark.parametrize("how", ["missing", "changed", "wrong"])
def test_a_judge_that_cannot_be_believed_corrects_and_ranks_nothing(table: Path, how: str) -> None:
    folder = table.parent.parent / json.loads((table / MANIFEST).read_text())["judge"]
    report = folder / "report.json"
    rehash(folder)
    (before,) = rebuild(table)
    assert before.inputs.judges
    if how == "missing":
        report.unlink()
    else:
        report.write_text(json.dumps(JUDGE | {"sensitivity": 0.99 if how == "changed" else 7}))
    if how == "wrong":
        rehash(folder)
    said: list[str] = []
    (after,) = rebuild(table, said.append)
    assert not after.inputs.judges
    assert len(said) == 1
    assert "The judge's report" in said[0]
    assert any("The judge's report" in note for note in after.table.notes)
    assert not any("_corrected" in column.key for column in after.table.columns)


def test_counts_that_were_changed_are_not_weighed_by(tmp_path: Path) -> None:
    table = fake_runs(tmp_path / "runs", task="fits", names=NAMES, seeds=(0,), overrides=("cringe.iterations=1",))
    folder = tmp_path / "runs" / json.loads((table / MANIFEST).read_text())["references"]
    rehash(folder)
    said: list[str] = []
    rebuild(table, said.append)
    assert not said
    (folder / "counts.json").write_text('{"fits valid examples": 7}')
    (built,) = rebuild(table, said.append)
    assert len(said) == 1
    assert "weigh all sets alike" in said[0]
    assert said[0].split(": ", 1)[1] in built.table.notes


# Manifests


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda made: made.pop("rows"), "rows: Field required"),
        (lambda made: made.update(rows=[]), "rows"),
        (lambda made: made.update(columns=[]), "columns"),
        (lambda made: made.update(seeds=[]), "seeds"),
        (lambda made: made.update(preset=None), "preset"),
        (lambda made: made.update(generated_data="no"), "generated_data"),
        (lambda made: made.update(trials=[{"chosen": False}]), "trials.0"),
        (lambda made: made["columns"][0].update(metric="nosuch"), "no metric 'nosuch'"),
        (lambda made: made["rows"][3].update(kind="other"), "rows.3.kind"),
        (lambda made: made["rows"][3].update(seed=9), "seed 9"),
        (lambda made: made["rows"][3].update(round=1), "rounds and no end"),
        (lambda made: made["rows"][3].update(name="=1+1"), "rows.3.name"),
        (lambda made: made["rows"][3].update(name="\u202eevil"), "rows.3.name"),
    ],
)
def test_manifests_are_whole(
    table: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[dict[str, Any]], object], message: str
) -> None:
    path = table / MANIFEST
    made = read_manifest(path)
    assert manifest_problem(made) == ""
    spoil(made)
    path.write_text(json.dumps(made))
    path.with_name(DONE).unlink()  # as if it had been so from the start
    with pytest.raises(DataError, match=re.escape(message)):
        read_manifest(path)
    assert main([str(table), "--out", str(table.parent / "out")]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert "next step" in said
