"""What a stage ran on: machine, packages, and the commit of the code."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

CHANGED = "-changed"
"""Behind a commit whose files were edited since."""


def environment(device: str) -> dict[str, Any]:
    """Machine and packages of this process; not a part of a key, but for what `benchmarks.plan.Stage.identity` names.

    Args:
        device: "cpu" or "cuda".
    """
    import torch

    described = (item.metadata for item in distributions())  # parsed anew whenever it is asked for
    packages = {about["Name"]: about["Version"] for about in described if about["Name"]}
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor() or "unknown",
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "commit": commit(Path(__file__)),
        "packages": dict(sorted(packages.items())),
    }


def commit(file: Path) -> str | None:
    """The commit of the checkout that a file is part of, `CHANGED` behind it where tracked files differ from it.

    Args:
        file: any file of the code.

    Returns:
        None where git does not track the file, as in an installed package, or there is no git.
    """
    if _git(file, "ls-files", "--error-unmatch", "--", file.name) is None:
        return None
    name, edits = _git(file, "rev-parse", "HEAD"), _git(file, "status", "--porcelain", "--untracked-files=no")
    return None if not name or edits is None else name + CHANGED * bool(edits)


def _git(file: Path, *command: str) -> str | None:
    """What git says; None where it refuses or is not there."""
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(file.resolve().parent), *command],
            capture_output=True,
            check=True,
            text=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout.strip()


def processor() -> str:
    """Name of the processor; empty where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
