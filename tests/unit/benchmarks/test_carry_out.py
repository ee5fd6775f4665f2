"""How many stages run side by side, and on which GPUs."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import runner
from benchmarks.carry_out import Place, do_missing, gpu_names, too_few
from benchmarks.config import resolve
from benchmarks.datafolder import DataSource
from benchmarks.errors import UsageError
from benchmarks.plan import Stage
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


def stage(processes: int) -> Stage:
    together = {"processes": processes} if processes > 1 else {}
    return Stage(kind="references", label=f"of-{processes}", settings={}, parents={}, modules=(), surroundings=together)


@pytest.mark.parametrize(
    ("device", "threads", "processes", "asked", "jobs", "gpus"),
    [
        ("cpu", 1, 1, None, 6, []),
        ("cpu", 2, 1, None, 3, []),
        ("cpu", 9, 1, None, 1, []),
        ("cpu", 1, 1, 2, 2, []),
        ("cpu", 1, 3, None, 2, []),
        ("cpu", 2, 2, None, 1, []),
        ("cpu", 4, 4, None, 1, []),
        ("cuda", 1, 1, None, 3, ["0", "1", "2"]),
        ("cuda", 1, 1, 5, 5, ["0", "1", "2"]),
        ("cuda", 1, 2, None, 1, ["0", "1", "2"]),
        ("cuda", 1, 3, None, 1, ["0", "1", "2"]),
    ],
)
def test_jobs(
    device: str,
    threads: int,
    processes: int,
    asked: int | None,
    jobs: int,
    gpus: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As many as fit the cores, or as there are GPUs for, unless somebody says how many."""
    told: dict[str, Any] = {}

    def execute(*_: object, **words: object) -> Outcome:
        told.update(words)
        return Outcome()

    monkeypatch.setattr(runner, "execute", execute)
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    config = resolve(task="convai2", method_names=["transformer"], overrides=[f"threads={threads}"])
    options = Namespace(jobs=asked, force=False, repair=False)
    place = Place(DataSource(folder=None, origin="synthetic"), tmp_path, device, options)
    assert do_missing([stage(1), stage(processes)], config, place) == 0
    assert (told["jobs"], told["gpus"], told["threads"]) == (jobs, gpus, threads)


def test_too_few_gpus_for_a_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before anything is begun, and not where such a stage is done already, or the device is the CPU."""
    assert too_few(["0", "1"], 2) == too_few([], 0) == ""
    assert too_few(["0"], 2).startswith("processes: each of the 2 takes a GPU of its own, and there is 1; ")
    monkeypatch.setattr(runner, "execute", lambda *_, **__: Outcome())
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    config = resolve(task="convai2", method_names=["transformer"])
    source = DataSource(folder=None, origin="synthetic")
    on_cuda, on_cpu = (
        Place(source, tmp_path, device, Namespace(jobs=None, force=False, repair=False)) for device in ("cuda", "cpu")
    )
    with pytest.raises(UsageError, match="each of the 4 takes a GPU of its own, and there are 3; "):
        do_missing([stage(1), stage(4)], config, on_cuda)
    assert do_missing([stage(4)], config, on_cpu) == 0
    (tmp_path / stage(4).folder).mkdir()
    assert do_missing([stage(1), stage(4)], config, on_cuda) == 0
