"""Half-written files are told from those in use, on one machine and on several that share their storage."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cringe import processes
from cringe.processes import SILENT_SECONDS, host, in_use, left_behind, mark


@pytest.fixture
def living() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    yield process.pid
    process.kill()
    process.wait()


def test_a_mark_names_machine_number_and_start(living: int) -> None:
    machine, number, start = mark(living).split("-")
    assert (machine, int(number)) == (host(), living)
    assert int(start) > 0
    assert "." not in mark(living), "it can be the last suffix of a name"
    assert mark() == mark(os.getpid())


def test_the_dead_have_no_mark() -> None:
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    while (state := Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]) != "Z":
        assert state
        time.sleep(0.01)
    assert mark(process.pid) == "", "nobody has asked for its exit code yet"
    process.wait()
    assert mark(process.pid) == ""


def test_on_one_machine_the_living_are_known(living: int, tmp_path: Path) -> None:
    assert not left_behind(tmp_path, mark(living))
    assert left_behind(tmp_path, f"{host()}-{living}-1"), "another process had the number before"
    assert all(left_behind(tmp_path, name) for name in ("", "old", str(living), f"{living}-1", f"{host()}-x-1"))


@pytest.mark.parametrize("number", [1, None, 4_000_000], ids=["first", "this", "dead"])
def test_work_of_another_machine_is_in_use_while_it_is_touched(number: int | None, tmp_path: Path) -> None:
    """Whatever process has that number here."""
    folder, elsewhere = tmp_path / "half", f"0badcafe-{number or os.getpid()}-77"
    folder.mkdir()
    (folder / "file").touch()
    long_ago = time.time() - SILENT_SECONDS - 5
    assert not left_behind(folder, elsewhere)
    os.utime(folder, (long_ago, long_ago))
    assert not left_behind(folder, elsewhere), "a file in it was just written"
    os.utime(folder / "file", (long_ago, long_ago))
    assert left_behind(folder, elsewhere)
    assert left_behind(folder / "file", elsewhere), "files count as folders do"
    assert not left_behind(folder / "gone", elsewhere), "who is gone needs no sweeping"


def test_a_folder_in_use_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "BEAT_SECONDS", 0.01)
    os.utime(tmp_path, (0, 0))
    with in_use(tmp_path):
        limit = time.monotonic() + 20
        while tmp_path.stat().st_mtime == 0 and time.monotonic() < limit:
            time.sleep(0.01)
    assert tmp_path.stat().st_mtime > 0
    os.utime(tmp_path, (0, 0))
    time.sleep(0.05)
    assert tmp_path.stat().st_mtime == 0, "no longer than the block"


def test_a_folder_that_goes_while_in_use_is_no_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last thing that a stage does to its folder is to rename it."""
    monkeypatch.setattr(processes, "BEAT_SECONDS", 0.01)
    folder = tmp_path / "half"
    folder.mkdir()
    with in_use(folder):
        folder.rename(tmp_path / "whole")
        time.sleep(0.05)
