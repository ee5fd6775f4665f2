"""What stopped a stage, in a sentence for whoever gave the command: no space, no permission, or no memory left."""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the system says where a file cannot grow."""
# Python says "[Errno 28]", libraries written in Rust "(os error 28)".
_FULL = re.compile("|".join(rf"\[Errno {number}\]|\(os error {number}\)" for number in sorted(FULL)))
_MEMORY = re.compile(
    r"OutOfMemoryError|out of memory(?!\?)|can't allocate memory|not enough memory|MemoryError|bad_alloc"
    r"|CUBLAS_STATUS_ALLOC_FAILED|\[Errno 12\]",
    re.IGNORECASE,
)
_TRAINING = {"train": "training", "warmup": "warmup", "reference": "reference_training"}
"""Kinds of stages that go through the one training loop, and the name of their setting."""
_FITTED = {"guide": "guide", "prefix_guide": "guide", "judge": "judge"}
"""Kinds of stages that fit a classifier, and the entry of their settings."""


def is_full(trace: str) -> bool:
    """Was there no space left on the disk?"""
    return bool(_FULL.search(_errors(trace)))


def explained(trace: str, kind: str, settings: Mapping[str, Any], results: Path, processes: int = 1) -> str:
    """What stopped a stage, and what to change; empty where it is neither space nor memory.

    Args:
        trace: the traceback.
        kind: of the stage.
        settings: of the stage.
        results: the folder that it wrote to.
        processes: that shared a training.
    """
    said = _errors(trace)
    if found := _FULL.search(said):
        line = next(line for line in said.split("\n") if found.group() in line)
        return f"no space left for results in {results} ({line}); free some, and the same command goes on from here"
    if _MEMORY.search(said):
        return f"out of memory {_batch(kind, settings, processes)}, or work at less side by side with --jobs 1"
    return ""


def _errors(trace: str) -> str:
    """The lines of a traceback that hold errors, and not code."""
    return "\n".join(line for line in trace.split("\n") if line and not line.startswith(" "))


def _batch(kind: str, settings: Mapping[str, Any], processes: int) -> str:
    """The batch that did not fit, and the setting that makes it smaller."""
    if kind in _TRAINING:
        training = settings["training"]
        size = training["micro_batch_size"] or -(-training["batch_size"] // processes)
        what = f"with {size} examples at once in training"
        if size < training["batch_size"]:
            what += f" (of {training['batch_size']} a step)"
        same = "; the mathematics stay the same, and what was trained with another is trained again"
        return _lower(what, f"{_TRAINING[kind]}.micro_batch_size", size, same)
    if kind in ("generate", "iterate"):
        decoding = settings["decoding"]
        what = f"while replying to {decoding['batch_size']} prompts at once, with {decoding['beams']} beam(s) each"
        return _lower(what, "decoding.NAME.batch_size", decoding["batch_size"])
    if kind in _FITTED:
        size = settings[_FITTED[kind]].get("batch_size")
        if size is not None:
            return _lower(f"with batches of {size} pairs", f"{kind}.batch_size", size)
    what = "while scoring, whose batches no setting makes smaller" if kind == "score" else f"in this stage ({kind})"
    return f"{what}; take a machine or device with more"


def _lower(what: str, setting: str, size: int, then: str = "") -> str:
    if size == 1:
        return f"{what}, the least there is; take a machine or device with more"
    return f"{what}; lower it, such as --set {setting}={size // 2}{then}"
