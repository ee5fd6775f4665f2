"""What is published: every file of its report comes back from what is stored, and nothing in it is text or a path."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.rebuild import TABLES
from benchmarks.textless import DIGITS, HASHED
from tests.unit.benchmarks.test_report import contents

ROOT = Path(__file__).parents[2]
PUBLISHED = sorted(path.parent for path in (ROOT / "results" / "published").glob(f"*/{TABLES}"))


def test_something_is_published() -> None:
    assert "cpu" in [folder.name for folder in PUBLISHED]


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)
def test_the_report_comes_back_byte_for_byte(folder: Path, tmp_path: Path) -> None:
    assert report.main([str(folder), "--out", str(tmp_path)]) == 0
    made, stored = contents(tmp_path), contents(folder / "report")
    assert sorted(made) == sorted(stored)
    assert [name for name in made if made[name] != stored[name]] == []


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)
def test_names_of_prompts_and_replies_are_hashes(folder: Path) -> None:
    files = sorted(folder.glob("*/scores.csv"))
    assert files
    for path in files:
        with path.open(newline="") as rows:
            for row in csv.DictReader(rows):
                assert all(re.fullmatch(rf"[0-9a-f]{{{DIGITS}}}", row[name]) for name in HASHED), path


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)
def test_there_is_no_reply_and_no_path_of_a_machine_in_it(folder: Path) -> None:
    kinds = {path.name for path in folder.rglob("*") if path.is_file() and "report" not in path.parts}
    assert kinds <= {
        "DONE",
        "corpus.json",
        "counts.json",
        "environments.json",
        "ledger.json",
        "manifest.json",
        "report.json",
        "scores.csv",
        "specs.json",
        "training_log.jsonl",
    }
    for path in folder.rglob("*"):
        if path.is_file():
            assert not re.search(rb"[\"' =](/root|/home|/tmp|/work|/Users)/", path.read_bytes()), path


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)
def test_each_table_says_how_it_was_made(folder: Path) -> None:
    for path in folder.glob(f"{TABLES}/*/manifest.json"):
        recorded = json.loads(path.read_text())["recorded"]
        assert recorded["command"].startswith("python -m benchmarks.run --task ")
        assert recorded["environments"]


def test_the_front_page_shows_what_is_published() -> None:
    """Each line of a table of results on the front page is one of a published table, and its pictures are there."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    part = readme[readme.index("## What was found") :]
    part = part[: part.index("\n## ")]
    published = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "results/published").rglob("*-cpu.md"))
    lines = [line for line in part.splitlines() if line.startswith("|")]
    assert len(lines) > 12
    assert [line for line in lines if line not in published] == []
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", part)
    assert pictures
    assert all((ROOT / picture).is_file() for picture in pictures)
