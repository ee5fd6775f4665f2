"""Which stages a command is at, so that a second one on the same folder takes others, or waits, and repeats none.

A claim is a locked file. It ends with the command, so what a killed one was at is free at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from benchmarks.locks import try_lock, unlock

FOLDER = ".claims"
"""Folder, beside the finished directories, of the locked files."""
POLL_SECONDS = 0.5
"""How often a command looks whether another is done with what it waits for."""


class Claims:
    """The stages that this command is at.

    Args:
        results: the folder that stages are finished in.
    """

    def __init__(self, results: Path) -> None:
        self._folder = results / FOLDER
        self._held: dict[str, int] = {}

    def __enter__(self) -> Self:
        """Delete what killed commands left behind."""
        for path in self._folder.glob("*"):
            if self.take(path.name):
                self.release(path.name)
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._held):
            self.release(name)

    def take(self, name: str) -> bool:
        """Claim a stage by the name of its folder; False where another command is at it.

        Raises:
            OSError: the folder cannot be written to.
        """
        descriptor = try_lock(self._folder / name)
        if descriptor is not None:
            self._held[name] = descriptor
        return descriptor is not None

    def release(self, name: str) -> None:
        """Let others have a stage, done or not."""
        unlock(self._folder / name, self._held.pop(name))
