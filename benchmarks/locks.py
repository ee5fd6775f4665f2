"""Files that only one process may work on at a time. A lock ends with the process that holds it, however that ends.

Where a file system has no locks, as some that machines share, nobody waits for anybody.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def lock(path: Path) -> int:
    """Lock a file, which is made where it is missing, and wait for whoever holds it.

    Returns:
        A descriptor, which holds the lock until it is closed. Its holder may delete or rename the file.

    Raises:
        OSError: the file cannot be written to.
    """
    while True:
        descriptor = _open(path)
        if _locked(descriptor, 0) and _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)  # whoever held it has deleted the file since


def try_lock(path: Path) -> int | None:
    """As `lock`, but None where another process holds it."""
    while True:
        descriptor = _open(path)
        if not _locked(descriptor, fcntl.LOCK_NB):
            os.close(descriptor)
            return None
        if _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)


def unlock(path: Path, descriptor: int) -> None:
    """Give a lock back and delete its file."""
    try:
        path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Wait for others that hold a lock, and hold it for as long as the block lasts; the file is deleted behind it."""
    descriptor = lock(path)
    try:
        yield
    finally:
        unlock(path, descriptor)


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        path.unlink()  # whoever laid it there would choose what file is written to
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)


def _locked(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | how)
    except BlockingIOError:
        return False
    except OSError:
        return True  # there are no locks here
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
