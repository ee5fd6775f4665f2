"""Which code a result was made with."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks.environment import CHANGED, commit


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one file and one commit."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "code.py").write_text("first = 1\n")
    git(folder, "init", "--quiet")
    git(folder, "add", "code.py")
    git(folder, "-c", "user.name=n", "-c", "user.email=n@example.org", "commit", "--quiet", "--message", "first")
    return folder


def git(folder: Path, *command: str) -> str:
    return subprocess.run(["git", "-C", str(folder), *command], check=True, capture_output=True, text=True).stdout


def test_the_commit_of_a_clean_checkout_is_its_hash(checkout: Path) -> None:
    assert commit(checkout / "code.py") == git(checkout, "rev-parse", "HEAD").strip()


def test_a_new_file_beside_the_code_is_no_edit(checkout: Path) -> None:
    (checkout / "notes.txt").write_text("mine")
    assert CHANGED not in str(commit(checkout / "code.py"))


def test_an_edit_is_said(checkout: Path) -> None:
    (checkout / "code.py").write_text("first = 2\n")
    assert str(commit(checkout / "code.py")).endswith(CHANGED)


def test_a_file_that_git_does_not_track_has_no_commit(checkout: Path, tmp_path: Path) -> None:
    (checkout / "other.py").write_text("installed = True\n")
    assert commit(checkout / "other.py") is None
    outside = tmp_path / "outside.py"
    outside.write_text("")
    assert commit(outside) is None


def test_without_git_there_is_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert commit(checkout / "code.py") is None
