"""Disks to do harm to: small ones that can be filled, and folders that cannot be written to."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[bool]:
    """Mount a disk of a size in memory; False where that is not allowed, and the folder is a plain one."""
    folder.mkdir()
    mounted = mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let nobody write to a folder; skips the test where that cannot be had: root is above the bits of a mode."""
    if mount("--bind", str(folder), str(folder)):
        try:
            subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
            yield
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
    elif os.geteuid():
        folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
        try:
            for path in folders:
                path.chmod(0o555)
            yield
        finally:
            for path in folders:
                path.chmod(0o755)
    else:
        pytest.skip("root may write everywhere, and may mount nothing here")


def mount(*arguments: str) -> bool:
    """Mount something; False where that is not allowed or there is no such command."""
    try:
        return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0
    except OSError:
        return False
