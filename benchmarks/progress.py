"""How far the work is: bars with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Protocol, TextIO

from benchmarks.time_limit import first_few

Message = tuple[str, int, int, str]
"""Folder of a stage, done, total, note. A total of 0: work on it begins on the machine that the note names."""

PLAIN_EVERY_SECONDS = 15.0
"""Seconds between two plain lines of one stage."""


class Messages(Protocol):
    """What workers say."""

    def get(self, *, timeout: float) -> Message:
        """The next one; raises `queue.Empty` after so many seconds without."""
        ...


class Reporter:
    """Shows the stages of a plan as they go.

    A stage is known by its folder, for trials of a sweep have labels in common; the second of a label is shown as #2.

    Args:
        total: number of stages to do.
        stream: where to write, standard error as a rule, so that the table alone goes to standard output.
    """

    def __init__(self, total: int, stream: TextIO) -> None:
        self._total = total
        self._done = 0
        self._stream = stream
        self._names: dict[str, str] = {}
        self._labels = Counter[str]()
        self._attempts = Counter[str]()
        self._started: dict[str, float] = {}
        self._said: dict[str, float] = {}
        self._bars = _Bars(total, stream) if stream.isatty() and total else None
        self._waiting = False
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def listen(self, messages: Messages) -> None:
        """Show what workers say, until `close`."""
        self._thread = threading.Thread(target=self._relay, args=(messages,), daemon=True)
        self._thread.start()

    def started(self, folder: str, label: str) -> None:
        """A stage has begun."""
        self._labels[label] += 1
        name = label if self._labels[label] == 1 else f"{label} #{self._labels[label]}"
        self._names[folder] = name
        self._started[folder] = self._said[folder] = time.monotonic()
        if self._bars is not None:
            self._bars.add(folder, name)
        else:
            self._line(f"{name}: started")

    def finished(self, folder: str, *, failed: bool) -> None:
        """A stage has ended."""
        self._done += 1
        seconds = time.monotonic() - self._started[folder]
        if self._bars is not None:
            self._bars.remove(folder)
        if self._bars is None or failed:
            ended = "FAILED" if failed else "done"
            self._line(f"[{self._done}/{self._total}] {self._names[folder]}: {ended} in {seconds:.1f} s")

    def found(self, label: str) -> None:
        """A stage that was to be done was done by another command in the meantime."""
        self._done += 1
        if self._bars is not None:
            self._bars.advance()
        self._line(f"[{self._done}/{self._total}] {label}: done by another command")

    def waiting(self, labels: Sequence[str]) -> None:
        """There is nothing to do until another command on the same folder is done with these stages, if any."""
        if labels and not self._waiting:
            self._line(f"waiting for another command that is at {first_few(labels)}")
        self._waiting = bool(labels)

    def close(self) -> None:
        """Stop listening and take the bars away."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(timeout=2)
        if self._bars is not None:
            self._bars.close()

    def _relay(self, messages: Messages) -> None:
        from queue import Empty

        while not self._closing.is_set():
            try:
                folder, done, total, note = messages.get(timeout=0.2)
            except (Empty, OSError, EOFError):
                continue
            if not total:
                self._begun(folder, note)
            elif self._bars is not None:
                self._bars.update(folder, done, total, note)
            elif time.monotonic() - self._said.get(folder, 0.0) > PLAIN_EVERY_SECONDS:
                self._said[folder] = now = time.monotonic()
                left = (now - self._started.get(folder, now)) * (total - done) / max(1, done)
                name = self._names.get(folder, folder)
                self._line(f"{name}: {done}/{total} {note} ({left:.0f} s left)".replace("  ", " "))

    def _begun(self, folder: str, where: str) -> None:
        """Work on a stage begins; told where it is not for the first time."""
        self._attempts[folder] += 1
        if self._attempts[folder] > 1:
            self._line(f"{self._names.get(folder, folder)}: its worker was lost; begun again on {where}")

    def _line(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


class _Bars:
    """One bar for all stages, and one for each that runs."""

    def __init__(self, total: int, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(file=stream),
            transient=True,
        )
        self._all = self._progress.add_task("all stages", total=total, note="")
        self._tasks: dict[str, int] = {}
        self._progress.start()

    def add(self, folder: str, name: str) -> None:
        self._tasks[folder] = self._progress.add_task(name, total=None, note="")

    def update(self, folder: str, done: int, total: int, note: str) -> None:
        if folder in self._tasks:
            self._progress.update(self._tasks[folder], completed=done, total=total, note=note)  # type: ignore[arg-type]

    def remove(self, folder: str) -> None:
        self._progress.remove_task(self._tasks.pop(folder))  # type: ignore[arg-type]
        self.advance()

    def advance(self) -> None:
        self._progress.advance(self._all)

    def close(self) -> None:
        self._progress.stop()
