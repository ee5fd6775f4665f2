"""What is shown of the stages as they go."""

from __future__ import annotations

import io

import pytest

from benchmarks.progress import Reporter


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_two_stages_of_one_label_go_side_by_side(stream: type[io.StringIO]) -> None:
    """As the trials of a sweep do."""
    said = stream()
    reporter = Reporter(2, said)
    try:
        reporter.started("train-aa", "train")
        reporter.started("train-bb", "train")
        reporter.finished("train-bb", failed=False)
        reporter.finished("train-aa", failed=True)
    finally:
        reporter.close()
    assert "[2/2] train: FAILED" in said.getvalue()


def test_lines_tell_them_apart() -> None:
    said = io.StringIO()
    reporter = Reporter(2, said)
    reporter.started("train-aa", "train")
    reporter.started("train-bb", "train")
    reporter.finished("train-bb", failed=False)
    lines = said.getvalue().splitlines()
    assert lines[:2] == ["train: started", "train #2: started"]
    assert lines[2].startswith("[1/2] train #2: done in ")
