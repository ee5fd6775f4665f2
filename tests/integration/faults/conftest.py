"""One undisturbed run for all tests of faults, in whatever process, and a count of what was tried."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.locks import alone
from tests.integration.faults.scene import Scene, whole


class Faults:
    """Counts the faults of a test, for the table at the end of the tests."""

    def __init__(self, node: pytest.Item) -> None:
        self._node = node

    def tried(self, kind: str, count: int = 1) -> None:
        """Faults happened."""
        self._note(kind, "tried", count)

    def survived(self, kind: str, count: int = 1) -> None:
        """The end state is that of the undisturbed run, to the byte."""
        self._note(kind, "survived", count)

    def refused(self, kind: str, count: int = 1) -> None:
        """The command said what is wrong, and changed nothing."""
        self._note(kind, "refused", count)

    def _note(self, kind: str, what: str, count: int) -> None:
        self._node.user_properties.append(("fault", [kind, what, count]))


@pytest.fixture
def faults(request: pytest.FixtureRequest) -> Faults:
    return Faults(request.node)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of a test run share."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "faults"


@pytest.fixture(scope="session")
def undisturbed(shared: Path) -> Path:
    """The results of a run that nothing happened to."""
    with alone(shared.with_suffix(".lock")):
        if not (shared / "made").exists():
            scene = Scene.make(shared)
            ended = scene.run(shared / "undisturbed")
            assert ended.code == 0, ended.err
            (shared / "said").write_text(ended.out, encoding="utf-8")
            (shared / "made").touch()
    assert len(whole(shared / "undisturbed")) > 15
    return shared / "undisturbed"


@pytest.fixture(scope="session")
def scene(undisturbed: Path) -> Scene:
    """Where commands are run; data and preset are the same for all."""
    return Scene(folder=undisturbed.parent)


@pytest.fixture
def results(undisturbed: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the finished run, to do harm to."""
    copy = tmp_path / "results"
    shutil.copytree(undisturbed, copy)
    yield copy
    shutil.rmtree(copy)
