"""Whose half-written files are these? Names of processes that no other has, on any machine that shares the storage."""

from __future__ import annotations

import hashlib
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

BEAT_SECONDS = 60.0
"""How often a folder in use is touched, so that other machines can tell."""
SILENT_SECONDS = 3600.0
"""After how long without a touch what another machine was writing counts as left behind. Ours; much above a beat."""


@cache
def host() -> str:
    """A word for this machine since it was started, and for the space that its process numbers are unique in.

    Containers of one machine count their processes apart; machines of equal name are told apart by when they started.
    """
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
    with suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:8]


def mark(number: int | None = None) -> str:
    """``HOST-NUMBER-START`` of a living process of this machine, of this one when no number is given.

    Without a start where the system does not tell when a process began. Empty for one that is dead, be it that nobody
    has asked for its exit code yet. Holds no dot.
    """
    number = os.getpid() if number is None else number
    try:
        state = Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return f"{host()}-{number}-" if number == os.getpid() or not Path("/proc/self").exists() else ""
    return "" if state[0] in "ZX" else f"{host()}-{number}-{state[19]}"


def left_behind(path: Path, named: str) -> bool:
    """Is nobody at work any more on what a process of this mark was writing?

    Of this machine's processes that is known. Of another's it is taken so when nothing there was touched for
    `SILENT_SECONDS`, by the clock of the storage, for those of machines differ.

    Args:
        path: file or folder that was being written.
        named: the mark in its name; what is none is nobody's.
    """
    parts = named.split("-")
    if len(parts) != 3 or not parts[1].isdecimal():
        return True
    if parts[0] == host():
        return named != mark(int(parts[1]))
    try:
        with tempfile.TemporaryFile(dir=path.parent) as file:
            now = os.fstat(file.fileno()).st_mtime
        return now - max(part.stat().st_mtime for part in (path, *path.rglob("*"))) > SILENT_SECONDS
    except OSError:
        return False  # it changes while one looks


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Touch a folder again and again for as long as the block goes on."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT_SECONDS):
            with suppress(OSError):
                os.utime(folder)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
