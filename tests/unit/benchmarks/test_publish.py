"""Results for git: whole, without text, and enough to make every file of the report again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks import compare, report
from benchmarks.provenance import command, gather, without_paths
from benchmarks.publish import main
from tests.unit.benchmarks.test_report import JUDGE, contents, fake_runs

MACHINE = {
    "python": "3.11.7",
    "platform": "Linux-6.1.0-18-amd64-x86_64-with-glibc2.36",
    "processor": "a processor",
    "device": "cpu",
    "threads": 1,
    "commit": "0" * 40,
    "packages": {"torch": "2.13.0"},
}


def made(results: Path, **other: object) -> Path:
    """A finished run whose directories say what they were made with."""
    table = fake_runs(results, **other)
    guide = json.loads((table / "manifest.json").read_text())["guide"]
    if guide is not None:
        (results / guide).mkdir()
        (results / guide / "report.json").write_text(json.dumps(JUDGE))
    for folder in results.iterdir():
        if folder.name != "tables":
            key = folder.name.rpartition("-")[2].ljust(64, "0")
            spec = {"label": folder.name[:-13], "key": key, "kind": "score", "parents": {}, "settings": {}}
            spec |= {"device": "cpu", "versions": {"torch": "2.13.0"}}
            (folder / "spec.json").write_text(json.dumps(spec))
            (folder / "environment.json").write_text(json.dumps(MACHINE))
    return results


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("runs"), seeds=(0, 1, 2), names=("transformer", "cringe"))


@pytest.fixture(scope="module")
def published(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("published")
    assert main([str(runs), "--out", str(out)]) == 0
    return out


def test_the_tables_and_plots_are_those_of_the_runs(runs: Path, published: Path, tmp_path: Path) -> None:
    assert report.main([str(runs), "--out", str(tmp_path)]) == 0
    (theirs,) = (path for path in tmp_path.iterdir() if path.is_dir())
    ours = published / "report" / "decode-tiny-synthetic"
    assert {path.name for path in theirs.iterdir()} == {path.name for path in ours.iterdir()} - {"provenance.md"}
    for path in theirs.iterdir():
        if path.suffix == ".md":  # others have more digits than are kept, or the name of the table's folder in them
            assert (ours / path.name).read_bytes() == path.read_bytes(), path.name


def test_the_report_comes_back_byte_for_byte(published: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(published, copy)
    shutil.rmtree(copy / "report")
    assert report.main([str(copy)]) == 0
    assert contents(copy) == contents(published)
    assert len(contents(published / "report")) > 8


def test_published_again_it_is_the_same(runs: Path, published: Path, tmp_path: Path) -> None:
    copy = tmp_path / "again"
    shutil.copytree(published, copy)
    assert main([str(runs), "--out", str(copy)]) == 0
    assert contents(copy) == contents(published)


def test_nothing_that_was_written_and_no_name_of_a_prompt_is_in_it(published: Path) -> None:
    everything = b"\n".join(contents(published).values())
    for text in (b"i like cats", b"hi .", b"hello .", b"chat-0001", b"decode-0001", b"decode-1"):
        assert text not in everything, text


def test_rounds_and_what_was_spent_are_kept(runs: Path, published: Path) -> None:
    (table,) = (published / "tables").iterdir()
    manifest = json.loads((table / "manifest.json").read_text())
    (before,) = (runs / "tables").iterdir()
    theirs = json.loads((before / "manifest.json").read_text())
    keys = ("name", "seed", "round")
    assert [[row[key] for key in keys] for row in manifest["rows"]] == [
        [row[key] for key in keys] for row in theirs["rows"]
    ]
    assert any(row["round"] is not None for row in manifest["rows"])
    for ours, row in zip(manifest["rows"], theirs["rows"], strict=True):
        folder = published / ours["scores"]
        assert json.loads((folder / "ledger.json").read_text()) == json.loads(
            (runs / row["scores"] / "ledger.json").read_text()
        ) or row["kind"] in ("floor", "ceiling")


def test_it_says_how_it_was_made(published: Path) -> None:
    said = (published / "report" / "decode-tiny-synthetic" / "provenance.md").read_text()
    assert "python -m benchmarks.run --task decode --methods transformer cringe --preset tiny --seeds 0 1 2" in said
    assert "--data synthetic" in said
    assert "0" * 40 in said
    assert "6.1.0" not in said
    assert "Linux-x86_64" in said
    (machine,) = json.loads((published / "tables" / "decode-tiny-synthetic" / "environments.json").read_text())
    assert machine["packages"] == {"torch": "2.13.0"}
    assert json.loads((published / "tables" / "decode-tiny-synthetic" / "specs.json").read_text())


def test_another_table_joins_those_that_are_there(published: Path, tmp_path: Path) -> None:
    copy = tmp_path / "both"
    shutil.copytree(published, copy)
    more = made(tmp_path / "runs", task="fits", names=("transformer",), seeds=(0,))
    assert main([str(more), "--out", str(copy)]) == 0
    assert {path.name for path in (copy / "tables").iterdir()} == {"decode-tiny-synthetic", "fits-tiny-synthetic"}
    assert (copy / "report" / "fits-tiny-synthetic" / "fits-tiny-synthetic.md").exists()


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("*cringe-s1-scores-*", "cringe-s1-scores"),
        ("*-references-[0-9a-f]*[0-9a-f]", "the counts of the data are missing"),
        ("*-judge-*", "judge's report is missing"),
    ],
)
def test_what_is_not_whole_is_not_published(
    pattern: str, told: str, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "runs"
    shutil.copytree(runs, copy)
    (gone,) = copy.glob(pattern)
    shutil.rmtree(gone)
    assert main([str(copy), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "must be whole" in said
    assert told in said
    assert "--repair" in said
    assert not (tmp_path / "out").exists()


def test_a_failure_leaves_what_was_published_before(runs: Path, published: Path, tmp_path: Path) -> None:
    copy, spoilt = tmp_path / "out", tmp_path / "runs"
    shutil.copytree(published, copy)
    shutil.copytree(runs, spoilt)
    next(iter(spoilt.glob("*judge*/spec.json"))).write_text("{")
    assert main([str(spoilt), "--out", str(copy)]) == 3
    assert contents(copy) == contents(published)


def test_runs_are_not_published_into_themselves(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(runs), "--out", str(runs)]) == 2
    assert "holds runs" in capsys.readouterr().err


def test_what_is_published_can_be_compared_with(
    runs: Path, published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare.main([str(published), str(runs)]) == 0
    assert "decode-tiny-synthetic" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "without"),
    [
        ("backbone.name=/some/where/model", "backbone.name=model"),
        ("/some/where/model/", "model"),
        ("sources=[convai2,wikitoxic]", "sources=[convai2,wikitoxic]"),
        ("facebook/blenderbot-400M-distill", "facebook/blenderbot-400M-distill"),
        ("score Σ log p / length^0.65; 20 to 32 new tokens", "score Σ log p / length^0.65; 20 to 32 new tokens"),
        ("{name: /some/where/a.gguf, kind: pretrained}", "{name: a.gguf, kind: pretrained}"),
    ],
)
def test_absolute_paths_lose_their_folders(text: str, without: str) -> None:
    assert without_paths({"a": [text]}) == {"a": [without]}


def test_the_command_has_every_option() -> None:
    made_from = {
        "task": "decode",
        "preset": "cpu",
        "seeds": [0, 2],
        "changes": ["a=[1, 2]", "a sweep of cringe.alpha=1,2", "lm_data=hf:name", "a shared judge"],
        "settings": {"methods": ["transformer", "cringe"], "shared_judge": True},
        "generated_data": False,
    }
    assert command(made_from, "cuda") == (
        "python -m benchmarks.run --task decode --methods transformer cringe --preset cpu --seeds 0 2 "
        "--set 'a=[1, 2]' --sweep cringe.alpha=1,2 --lm-data hf:name --judge shared --device cuda --data DIR"
    )


def test_stages_that_a_table_rests_on_are_told_of_once(tmp_path: Path) -> None:
    keys = {name: letter * 64 for name, letter in (("warmup", "a"), ("train", "b"), ("scores", "c"))}
    parents = {"warmup": [], "train": ["warmup"], "scores": ["train", "warmup"]}
    for name, key in keys.items():
        folder = tmp_path / f"decode-{name}-{key[:12]}"
        folder.mkdir()
        spec = {"label": name, "key": key, "parents": {one: keys[one] for one in parents[name]}}
        (folder / "spec.json").write_text(json.dumps(spec))
        (folder / "environment.json").write_text(json.dumps(MACHINE))
    found = gather([tmp_path / f"decode-scores-{'c' * 12}"])
    assert [name.split()[0] for name in found.specs] == ["scores", "train", "warmup"]
    assert [one["stages"] for one in found.environments] == [3]
