"""A disk without space, or that nobody may write to: a sentence, nothing torn, and later the same bytes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.integration.faults.conftest import Faults
from tests.integration.faults.disks import read_only, small_disk
from tests.integration.faults.scene import Ended, Scene, assert_same, contents, remove, stages, whole

WRITING = "benchmarks.writing:write_whole"
FULL_IN = {
    "training state": ("transformer-s0-train", {"at": "cringe.checkpoint:TrainingState.save", "call": 7}),
    "tokenised data": ("transformer-s0-train", {"at": "cringe.token_cache:_write"}),
    "weights of a model": ("transformer-s0-train", {"at": "cringe.backbone_base:Backbone.save"}),
    "predictions": ("backbone-s0-scores", {"at": "file", "match": r"^open .*/predictions\.jsonl"}),
    "DONE": ("references", {"at": "file", "match": r"^open .*/DONE"}),
}


class Disk(NamedTuple):
    """A disk with a finished run on it."""

    folder: Path
    results: Path
    real: bool
    """Is it a disk of its own, that can be full? Else no file of a process can grow once it is to be full."""

    @property
    def room(self) -> str:
        return str(self.folder) if self.real else ""

    def fill(self, free: int) -> None:
        """Leave a number of bytes."""
        with self.filler.open("wb") as file:
            left = shutil.disk_usage(self.folder).free - free
            file.write(b"x" * max(0, left))

    @property
    def filler(self) -> Path:
        return self.folder / "filler"


@pytest.fixture
def disk(tmp_path: Path, undisturbed: Path) -> Iterator[Disk]:
    with small_disk(tmp_path / "disk", "24m") as real:
        shutil.copytree(undisturbed, tmp_path / "disk" / "results")
        yield Disk(tmp_path / "disk", tmp_path / "disk" / "results", real)


def test_a_disk_that_is_full_in_a_stage(scene: Scene, disk: Disk, undisturbed: Path, faults: Faults) -> None:
    """Each time the command goes on from where the last one found no space, until it finds none again."""
    for what, (stage, point) in FULL_IN.items():
        label = f"decode-{stage}"
        remove(disk.results, {label} & stages(disk.results).keys())
        if what == "tokenised data":
            shutil.rmtree(disk.results / ".tokens")
        faults.tried("full disk")
        rule = {**point, "stage": f"^{label}-[0-9a-f]+$", "do": "fill"}
        ended = scene.run_here(disk.results, rules=[rule], room=disk.room, settings=["always_save"])
        assert (ended.code, ended.fired) == (1, {0}), f"{what}\n{ended.err}"
        assert f"failed: {label}: no space left for results in {disk.results} (" in ended.err, f"{what}\n{ended.err}"
        assert "free some, and the same command goes on from here" in ended.err
        assert label not in whole(disk.results)
        assert not list((disk.results / ".resume").glob("*.tmp"))
        disk.filler.unlink(missing_ok=True)
    last = scene.run_here(disk.results)
    assert last.code == 0, last.err
    shutil.rmtree(disk.results / "failures", ignore_errors=True)
    assert_same(disk.results, undisturbed)
    faults.survived("full disk", len(FULL_IN))


@pytest.mark.parametrize("free", [0, 4096, 20000, 60000])
def test_a_disk_that_is_full_when_the_table_is_written(
    free: int, scene: Scene, disk: Disk, undisturbed: Path, faults: Faults
) -> None:
    if not disk.real:
        pytest.skip("a disk of a given size needs the right to mount one")
    shutil.rmtree(disk.results / "tables")
    disk.fill(free)
    faults.tried("full disk")
    full = scene.run_here(disk.results)
    refused(full, f"cannot write results to {disk.results}: No space left on device ({disk.results}/")
    assert "free some space, or name another folder with --out" in full.err
    expected = contents(undisturbed / "tables")
    there = contents(disk.results / "tables")
    assert {name: expected[name] for name in there} == there
    disk.filler.unlink()
    assert scene.run_here(disk.results).code == 0
    assert_same(disk.results, undisturbed)
    faults.survived("full disk")


def test_files_that_cannot_grow(scene: Scene, results: Path, undisturbed: Path, faults: Faults) -> None:
    """A limit on the size of files stands for a full disk where none can be mounted."""
    shutil.rmtree(results / "tables")
    faults.tried("full disk")
    refused(scene.run(results, rules=[{"at": WRITING, "call": 2, "do": "fill"}]), "File too large")
    assert scene.run_here(results).code == 0
    assert_same(results, undisturbed)
    faults.survived("full disk")


@pytest.mark.parametrize("what", ["report", "publish", "export"])
def test_other_commands_on_a_full_disk(what: str, scene: Scene, disk: Disk, tmp_path: Path, faults: Faults) -> None:
    if not disk.real:
        pytest.skip("a disk of a given size needs the right to mount one")
    source = stages(disk.results)["decode-transformer-s0-train"] if what == "export" else disk.results
    arguments = (f"benchmarks.{what}", str(source), *["--out"] * (what != "export"))
    there, elsewhere = disk.folder / "out", tmp_path / "elsewhere"
    disk.fill(30000)
    faults.tried("full disk")
    refused(scene.here(*arguments, str(there)), f"{there}: No space left on device")
    disk.filler.unlink()
    for out in (there, elsewhere):
        assert scene.here(*arguments, str(out)).code == 0
    assert contents(there) == contents(elsewhere)
    faults.survived("full disk")


def refused(ended: Ended, sentence: str) -> None:
    assert ended.code == 1, ended.err
    assert "error: " in ended.err
    assert sentence in ended.err, ended.err
    assert "next step: " in ended.err


def test_a_folder_that_cannot_be_written_to(
    scene: Scene, results: Path, undisturbed: Path, tmp_path: Path, faults: Faults
) -> None:
    """What is finished can be read: the table, a report elsewhere. What has to write says so before it begins."""
    weights = stages(results)["decode-transformer-s0-train"]
    commands: dict[str, tuple[str, ...]] = {
        "a stage": scene.run_arguments(results),
        "report": ("benchmarks.report", str(results)),
        "publish": ("benchmarks.publish", str(undisturbed), "--out", str(results / "published")),
        "export": ("benchmarks.export", str(weights), str(results / "model")),
    }
    said = (undisturbed.parent / "said").read_text(encoding="utf-8")
    with read_only(results):
        again = scene.run_here(results)
        assert (again.code, again.out) == (0, said), again.err
        elsewhere = scene.here("benchmarks.report", str(results), "--out", str(tmp_path / "report"))
        assert elsewhere.code == 0, elsewhere.err
    remove(results, ["decode-transformer-s0-scores"])
    before = contents(results)
    with read_only(results):
        for name, arguments in commands.items():
            faults.tried("read-only folder")
            ended = scene.here(*arguments)
            assert not ended.started
            refused(ended, str(results))
            assert "Read-only file system" in ended.err or "Permission denied" in ended.err, (name, ended.err)
            faults.refused("read-only folder")
    assert contents(results) == before
