"""How many stages run side by side, and on which GPUs."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import runner
from benchmarks.carry_out import Place, do_missing, gpu_names
from benchmarks.config import resolve
from benchmarks.datafolder import DataSource
from benchmarks.runner import Outcome


@pytest.mark.parametrize(
    ("visible", "count", "names"),
    [
        (None, 0, []),
        (None, 2, ["0", "1"]),
        ("", 2, ["0", "1"]),
        ("2, 3", 2, ["2", "3"]),
        ("GPU-5f,7,9", 3, ["GPU-5f", "7", "9"]),
        ("0,99,1", 1, ["0"]),  # CUDA stops at the first name that it does not know
    ],
)
def test_names_of_gpus(visible: str | None, count: int, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that the command itself was given, under the names that it was given them by."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_names() == names


@pytest.mark.parametrize(
    ("device", "threads", "asked", "jobs", "gpus"),
    [
        ("cpu", 1, None, 6, []),
        ("cpu", 2, None, 3, []),
        ("cpu", 9, None, 1, []),
        ("cpu", 1, 2, 2, []),
        ("cuda", 1, None, 3, ["0", "1", "2"]),
        ("cuda", 1, 5, 5, ["0", "1", "2"]),
    ],
)
def test_jobs(
    device: str,
    threads: int,
    asked: int | None,
    jobs: int,
    gpus: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As many as fit the cores, or as there are GPUs, unless somebody says how many."""
    told: dict[str, Any] = {}

    def execute(*_: object, **words: object) -> Outcome:
        told.update(words)
        return Outcome()

    monkeypatch.setattr(runner, "execute", execute)
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    config = resolve(task="convai2", method_names=["transformer"], overrides=[f"threads={threads}"])
    place = Place(
        DataSource(folder=None, origin="synthetic"), tmp_path, device, Namespace(jobs=asked, force=False, repair=False)
    )
    assert do_missing([], config, place) == 0
    assert (told["jobs"], told["gpus"], told["threads"]) == (jobs, gpus, threads)
