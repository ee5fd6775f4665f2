"""Plug-ins are found by their files, and nothing is run to read their sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from cringe.discovery import Entry, discover

PACKAGE = "made_up_plugins"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package whose modules must not be imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / PACKAGE
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "zebra.py").write_text('"""Stripes, é.\n\nMore of them.\n"""\nraise SystemExit("imported")\n', "utf-8")
    (folder / "ant.py").write_text('"""Small."""\n\nALIASES = ("emmet", "pismire")\nOTHER = undefined\n')
    (folder / "mute.py").write_text("x = 1\n")
    (folder / "_hidden.py").write_text('"""Not a plug-in."""\n')
    (folder / "base.py").write_text('"""Machinery."""\n')
    (folder / "notes.txt").write_text("no module")
    return folder


@pytest.mark.usefixtures("folder")
def test_discover() -> None:
    found = discover(PACKAGE, exclude=frozenset({"base"}))
    assert list(found) == ["ant", "mute", "zebra"]
    assert found == {
        "ant": Entry("ant", f"{PACKAGE}.ant", "Small.", ("emmet", "pismire")),
        "mute": Entry("mute", f"{PACKAGE}.mute", "", ()),
        "zebra": Entry("zebra", f"{PACKAGE}.zebra", "Stripes, é.", ()),
    }
    assert "base" in discover(PACKAGE)


def test_a_new_file_is_enough(folder: Path) -> None:
    assert "new" not in discover(PACKAGE)
    (folder / "new.py").write_text('"""New."""\n')
    assert discover(PACKAGE)["new"].sentence == "New."


def test_no_such_package() -> None:
    """A module that is no package holds no plug-ins either."""
    for name in ("no_such_package_here", "cringe.no_such_part", "cringe.losses"):
        with pytest.raises(ModuleNotFoundError):
            discover(name)
