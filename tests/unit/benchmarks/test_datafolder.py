"""Where data come from: the order of the places, and errors that name everything that is missing."""

from __future__ import annotations

import hashlib
import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from benchmarks.datafolder import DataSource, check, fingerprint, resolve
from benchmarks.errors import DataError
from benchmarks.tasks.decode import TASK

NEEDED = [file.path for file in TASK.files if file.needed]


@pytest.fixture(autouse=True)
def no_parlai(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether ParlAI is installed here must not matter."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


def touch(folder: Path, *paths: str) -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)
    return folder


def installed_parlai(monkeypatch: pytest.MonkeyPatch, package: Path) -> None:
    spec = ModuleSpec("parlai", None, is_package=True)
    spec.submodule_search_locations = [str(package)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec if name == "parlai" else None)


def test_named_folders_come_first(tmp_path: Path) -> None:
    option, variable = touch(tmp_path / "option", "x"), touch(tmp_path / "variable", "x")
    parlai = touch(tmp_path / "parlai", NEEDED[0])
    environ = {"CRINGE_DATA": str(variable), "PARLAI_DATAPATH": str(parlai)}
    assert resolve(str(option), environ, task=TASK) == DataSource(folder=option, origin="--data")
    assert resolve(None, environ, task=TASK) == DataSource(folder=variable, origin="$CRINGE_DATA")
    environ["CRINGE_DATA"] = ""
    assert resolve(None, environ, task=TASK) == DataSource(folder=parlai, origin="ParlAI data folder")


def test_synthetic_on_demand_and_as_the_last_resort(tmp_path: Path) -> None:
    environ = {"CRINGE_DATA": str(tmp_path)}
    assert resolve("synthetic", environ) == DataSource(folder=None, origin="--data")
    assert resolve(None, {"CRINGE_DATA": "synthetic"}) == DataSource(folder=None, origin="$CRINGE_DATA")
    assert resolve(None, {}) == DataSource(folder=None, origin="synthetic")
    assert resolve(None, {}).synthetic
    assert not resolve(None, environ).synthetic


def test_a_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    touch(tmp_path / "mine", "x")
    assert resolve("~/mine", {}).folder == tmp_path / "mine"


@pytest.mark.parametrize("value", ["", "nowhere", "~nobody/data", "a\0b", "x" * 5_000])
def test_a_named_folder_must_exist(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"the data folder that --data names does not exist \(found '") as caught:
        resolve(value, {})
    assert caught.value.exit_code == 3
    if value:
        with pytest.raises(DataError, match=r"the data folder that \$CRINGE_DATA names does not exist"):
            resolve(None, {"CRINGE_DATA": value})


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a file, not a folder"):
        resolve(str(touch(tmp_path, "x") / "x"), {})


def test_a_parlai_folder_counts_if_it_holds_a_file_of_the_task(tmp_path: Path) -> None:
    environ = {"PARLAI_DATAPATH": str(tmp_path)}
    assert resolve(None, {"PARLAI_DATAPATH": str(tmp_path / "nowhere")}).synthetic
    assert resolve(None, environ, task=TASK).synthetic
    assert resolve(None, environ).folder == tmp_path
    touch(tmp_path, NEEDED[-1])
    assert resolve(None, environ, task=TASK).folder == tmp_path


def test_the_data_folder_of_an_installed_parlai(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site/parlai"
    installed_parlai(monkeypatch, package)
    assert resolve(None, {}, task=TASK).synthetic
    touch(package / "data", NEEDED[0])
    assert resolve(None, {}, task=TASK).folder == package / "data"
    touch(tmp_path / "site/data", NEEDED[0])
    assert resolve(None, {}, task=TASK).folder == tmp_path / "site/data"
    named = touch(tmp_path / "named", NEEDED[0])
    assert resolve(None, {"PARLAI_DATAPATH": str(named)}, task=TASK).folder == named


def test_check_names_every_missing_file(tmp_path: Path) -> None:
    touch(tmp_path, NEEDED[0])
    (tmp_path / NEEDED[1]).mkdir(parents=True)
    with pytest.raises(DataError) as caught:
        check(TASK, tmp_path)
    text = str(caught.value)
    assert f"{len(NEEDED) - 1} of the {len(NEEDED)} files that task 'decode' needs are missing" in text
    assert [path for path in NEEDED if path in text] == NEEDED[1:]
    assert f"{NEEDED[1]} (a directory where a file belongs)" in text
    assert "rct.jsonl" not in text
    assert "next step: " in text


def test_check_is_silent_where_all_is_there(tmp_path: Path) -> None:
    check(TASK, touch(tmp_path, *NEEDED))


def test_fingerprint_of_the_files_that_exist(tmp_path: Path) -> None:
    paths = [NEEDED[0], "decode/decode_v0.1/rct.jsonl"]
    touch(tmp_path, *paths, "decode/other.txt")
    assert fingerprint(TASK, tmp_path) == {path: hashlib.sha256(path.encode()).hexdigest() for path in paths}
