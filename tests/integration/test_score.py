"""Replies and models that are brought along get the numbers that a run gives them; an export replies without us."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from benchmarks import export, score
from benchmarks.runner import damage
from benchmarks.tasks import synthetic
from tests.integration import micro

MICRO = micro.preset(updates=10, decoding=["greedy", "nucleus"], judge=dict(micro.SMALL))
CHILD = """\
import json, sys
code = open("README.md", encoding="utf-8").read().split("```python\\n")[1].split("```")[0]
exec(code)
dialogues = json.loads(sys.stdin.read())
print(json.dumps([reply([tuple(turn) for turn in dialogue]) for dialogue in dialogues]))
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules} & {"benchmarks", "cringe", "evaluators"})))
"""


class Place(NamedTuple):
    """A run of one method that has ended, and what it was given."""

    results: Path
    data: Path
    preset: Path

    @property
    def usual(self) -> list[str]:
        return [
            *("--task", "decode", "--data", str(self.data), "--preset", str(self.preset)),
            *("--out", str(self.results), "--device", "cpu", "--jobs", "1"),
        ]

    def folder(self, label: str) -> Path:
        """The one directory whose name begins so."""
        (found,) = (
            path for path in self.results.glob(f"decode-{label}-*") if "-" not in path.name[len(f"decode-{label}-") :]
        )
        return found

    def table(self, row: str) -> dict[str, Any]:
        (path,) = (self.results / "tables").glob(f"decode-micro-{row}-*/manifest.json")
        return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    home = tmp_path_factory.mktemp("home")
    place = Place(home / "runs", home / "data", home / "micro.yaml")
    place.preset.write_text(MICRO, encoding="utf-8")
    synthetic.write_convai2(place.data, seed=0, train_dialogues=40, valid_dialogues=6)
    synthetic.write_decode(place.data, seed=0, train=160, dev=30, test=30)
    done = micro.here("benchmarks.run", "--methods", "director", *place.usual, folder=home)
    assert done.code == 0, done.err
    return place


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


OF_GOLD = ("gold_nll", "gold_tokens", "preference")


def scores(path: Path) -> list[dict[str, str]]:
    """Of each reply, in an order that does not depend on the run; without what needs the model itself."""
    with (path / "scores.csv").open(encoding="utf-8", newline="") as file:
        rows = [{name: value for name, value in row.items() if name not in OF_GOLD} for row in csv.DictReader(file)]
    return sorted(rows, key=lambda row: (row["decoding"], row["prompts"], row["uid"]))


def test_predictions_are_scored_as_the_run_scored_them(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = place.folder("director-s0-scores")
    before = {path.name for path in place.results.iterdir()}
    predictions = lines(made / "predictions.jsonl")
    kept = [line for line in predictions if line["uid"] != predictions[0]["uid"]]
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
    assert score.main([str(path), *place.usual]) == 0
    said = capsys.readouterr()
    left_out = predictions[0]["prompts"]
    for decoding in ("greedy", "nucleus"):
        note = f"mine, {decoding}: 7 of 8 prompts of {left_out} have a reply, and are scored."
        assert note in said.err
        assert note in " ".join(said.out.split())
        assert f"### Decoding: {decoding}" in said.out
    assert "n=7" in said.out
    assert [row["name"] for row in place.table("mine")["rows"]] == ["constant", "random", "mine", "gold"]
    new = sorted(name.rpartition("-")[0] for name in {path.name for path in place.results.iterdir()} - before)
    assert new == ["decode-mine-greedy", "decode-mine-nucleus", "decode-mine-scores", "decode-references-scores"]
    expected = [row for row in scores(made) if row["uid"] != predictions[0]["uid"]]
    assert scores(place.folder("mine-scores")) == expected


def test_a_model_of_a_run_replies_and_scores_as_in_the_run(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Taken along and brought back: with its head, under both decodings, to the byte."""
    run = place.folder("director-s0-train")
    assert export.main([str(run), str(tmp_path / "director")]) == 0
    assert "head.safetensors" in capsys.readouterr().out
    before = {path.name for path in place.results.iterdir()}
    assert score.main([str(tmp_path / "director"), *place.usual, "--name", "back"]) == 0
    new = {path.name.rpartition("-")[0]: path for path in place.results.iterdir() if path.name not in before}
    assert {"decode-back-model", "decode-back-s0-greedy", "decode-back-s0-nucleus", "decode-back-s0-scores"} <= set(new)
    assert not {"decode-warmup", "decode-judge", "decode-guide", "decode-reference"} & set(new)
    made = place.folder("director-s0-scores")
    for name in ("scores.csv", "predictions.jsonl", "corpus.json"):
        assert (new["decode-back-s0-scores"] / name).read_bytes() == (made / name).read_bytes()
    assert all(damage(folder) == [] for name, folder in new.items() if name != "tables")


def test_replies_to_prompts_of_ones_own(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "own.jsonl"
    records = [
        {"context": ["hi", "hello , do you like dogs ?"], "reply": "i like dogs", "gold": "i like dogs"},
        {"context": ["do you like cats ?"], "reply": "no"},
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    assert score.main([str(path), *place.usual]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "own_gold 1, own 2" in said
    found = {(row["prompts"], row["uid"]): row for row in scores(place.folder("own-scores"))}
    assert len(found) == 3
    assert {float(row["f1"]) for (prompts, _), row in found.items() if prompts == "own_gold"} == {1.0}
    assert all(row["coherent"] in ("0.0", "1.0") for (prompts, _), row in found.items() if prompts == "own")


def test_an_export_replies_without_us(place: Place, tmp_path: Path) -> None:
    """Of the backbone, which is a plain model, found by what was scored with it."""
    out = tmp_path / "backbone"
    assert export.main([str(place.folder("warmup")), str(out), "--decoding", "greedy"]) == 0
    predictions = [
        line for line in lines(place.folder("backbone-s0-scores") / "predictions.jsonl") if line["decoding"] == "greedy"
    ]
    assert len(predictions) == 16
    dialogues = []
    for line in predictions:
        # The last turn is the other side's, and both take turns.
        turns = line["context"]
        dialogues.append(
            [("own" if (len(turns) - place) % 2 == 0 else "other", turn) for place, turn in enumerate(turns)]
        )
    done = subprocess.run(
        [sys.executable, "-I", "-c", CHILD],
        input=json.dumps(dialogues),
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        cwd=out,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    replies, ours = map(json.loads, done.stdout.splitlines())
    assert ours == [], "nothing of ours is imported"
    assert replies == [line["reply"] for line in predictions]
