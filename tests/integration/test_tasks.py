"""Every task through the whole command at a very small size, on generated data, and what is said of missing data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.tasks import registry, synthetic
from tests.integration import micro

MICRO = micro.preset(
    updates=6,
    prompts=6,
    decoding=["nucleus"],
    methods={"cringe": {"generations": 40, "decoding": "nucleus"}},
    tasks={"fits": {"backbone": {"documents": 2, "max_document": 8}}},
)
TASKS = ("convai2", "decode", "fits", "wikitoxic")
METHODS = ("transformer", "cringe")


def write_small(folder: Path) -> None:
    """All four tasks' files, small."""
    synthetic.write_convai2(folder, seed=0, train_dialogues=40, valid_dialogues=10)
    synthetic.write_decode(folder, seed=0, train=300, dev=60, test=60)
    synthetic.write_wikitoxic(folder, seed=0, comments=600)
    synthetic.write_fits(folder, seed=0, train=60, valid=20, test=20, unseen=20)


def command(place: Path) -> micro.Said:
    """Run all tasks."""
    words = ("--task", "all", "--methods", *METHODS, "--preset", "micro.yaml", "--data", "data", "--out", "runs")
    return micro.here("benchmarks.run", *words, "--device", "cpu", "--jobs", "1", folder=place)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "micro.yaml").write_text(MICRO, encoding="utf-8")
    write_small(folder / "data")
    return folder


@pytest.fixture(scope="module")
def done(place: Path) -> micro.Said:
    return command(place)


@pytest.fixture(scope="module")
def tables(place: Path, done: micro.Said) -> dict[str, dict[str, Any]]:
    """The JSON of each task's table."""
    assert done.code == 0, done.err
    found = {}
    for folder in (place / "runs" / "tables").iterdir():
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        (table,) = folder.glob(f"{manifest['task']}-*.json")
        found[manifest["task"]] = json.loads(table.read_text(encoding="utf-8"))
    return found


def test_all_stands_for_the_four_tasks(tables: dict[str, dict[str, Any]]) -> None:
    assert sorted(tables) == sorted(TASKS)
    assert set(TASKS) == set(registry.entries()) - {"jsonl"}


@pytest.mark.parametrize("task", TASKS)
def test_every_method_has_every_number_of_its_task(tables: dict[str, dict[str, Any]], task: str) -> None:
    columns = [column["key"] for column in tables[task]["columns"]]
    wanted = {f"{column.metric}@{column.prompts}" for column in registry.load(task).columns}
    assert wanted <= set(columns)
    for section in tables[task]["sections"]:
        rows = {row["name"]: row for row in section["rows"]}
        assert {"backbone", *METHODS} <= set(rows)
        for name in ("backbone", *METHODS):
            for key, cell in zip(columns, rows[name]["cells"], strict=True):
                # Six replies hold fewer than the 1,000 words that distinct-n is taken of.
                if key in wanted and not key.startswith("distinct_"):
                    assert cell["value"] is not None, (name, key)
                    assert cell["n"] > 0


def test_what_repeats_is_labelled_without_a_guide(place: Path, tables: dict[str, dict[str, Any]]) -> None:
    labelled = [path for path in (place / "runs").glob("convai2-cringe-*-data-*") if path.is_dir()]
    assert len(labelled) == 1
    spec = json.loads((labelled[0] / "spec.json").read_text(encoding="utf-8"))
    assert set(spec["parents"]) == {"model"}
    assert spec["settings"]["repeated_ngram"] == registry.load("convai2").repeated_ngram
    assert not list((place / "runs").glob("convai2-judge-*"))


def test_the_average_is_weighted_by_the_examples_of_each_split(place: Path, tables: dict[str, dict[str, Any]]) -> None:
    keys = [column["key"] for column in tables["fits"]["columns"]]
    splits = ("valid", "test", "test_unseen")
    counts = registry.load("fits").load(place / "data", ["fits"]).counts
    sizes = [counts[f"fits {split} examples"] for split in splits]
    for row in tables["fits"]["sections"][0]["rows"]:
        cells = dict(zip(keys, row["cells"], strict=True))
        values = [cells[f"f1@{split}"]["value"] for split in splits]
        if None not in values:
            average = sum(size * value for size, value in zip(sizes, values, strict=True)) / sum(sizes)
            assert cells["f1@average"]["value"] == pytest.approx(average, abs=1e-4)


def test_missing_data_are_named_when_the_rest_is_done(place: Path, done: micro.Said) -> None:
    """Of three tasks that have their data nothing is left to do; the fourth is named, and the exit code is 3."""
    assert done.code == 0
    (place / "data" / "fits").rename(place / "elsewhere")
    try:
        again = command(place)
    finally:
        (place / "elsewhere").rename(place / "data" / "fits")
    assert again.code == 3
    for title in ("## convai2:", "## decode:", "## wikitoxic:"):
        assert title in again.out
    assert "## fits:" not in again.out
    assert "fits/human_model_chats/train.txt" in again.err
    assert "next step" in again.err
    assert "Traceback" not in again.err
