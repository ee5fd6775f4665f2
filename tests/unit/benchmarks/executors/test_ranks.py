"""A stage that torchrun's processes do together: who they are, what they say, and how they fail.

The stages are made up. Workers and ranks are told where to find them by a ``sitecustomize`` of this test's folder,
which also stands in for transformers: it takes seconds to import, and nothing here uses it.
"""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

import benchmarks
from benchmarks.executors.pool import THREAD_VARIABLES
from benchmarks.executors.ranks import _message
from benchmarks.plan import Stage
from benchmarks.progress import Message, Reporter
from benchmarks.runner import SCRATCH, Outcome, execute

STAGE = '''
"""A stage that several processes do, one of which fails if it is told to."""

import json
import os
import signal

import torch
import torch.distributed as dist


def run(settings, context):
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    if settings.get("do") == "fail" and rank == 1:
        raise ValueError("rank one\\nfails: no good")
    if settings.get("do") == "die" and rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    print("a word of its own")
    total = torch.tensor([rank + 1])
    dist.all_reduce(total)  # waits for the other
    if rank == 0:
        context.progress(1, 2, "half")
        names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
        found = {name: os.environ.get(name) for name in names}
        found |= {"total": total.item(), "threads": torch.get_num_threads(), "settings": dict(settings)}
        found |= {"deterministic": torch.are_deterministic_algorithms_enabled()}
        (context.out / "out.json").write_text(json.dumps(found))
'''

SITECUSTOMIZE = """
import sys
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from types import ModuleType


class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "benchmarks.stages.made_up":
            return spec_from_file_location(name, {stage!r})


sys.meta_path.insert(0, Finder())
transformers = sys.modules["transformers"] = ModuleType("transformers")
transformers.__spec__ = ModuleSpec("transformers", None)
logging = transformers.utils = transformers.logging = ModuleType("utils")
logging.logging = logging
logging.disable_progress_bar = logging.set_verbosity_error = lambda: None
"""


class Tee:
    """Keeps the messages that go by."""

    def __init__(self) -> None:
        self.kept: list[Message] = []

    def of(self, messages: Any) -> Tee:
        self._messages = messages
        return self

    def get(self, *, timeout: float) -> Message:
        self.kept.append(message := self._messages.get(timeout=timeout))
        return message


class Told(Reporter):
    """Keeps what it is told of progress."""

    def __init__(self) -> None:
        super().__init__(3, io.StringIO())
        self.tee = Tee()

    def listen(self, messages: Any) -> None:
        super().listen(self.tee.of(messages))


def stage(label: str, *, processes: int = 2, **settings: object) -> Stage:
    return Stage(
        kind="made_up",
        label=label,
        settings=settings,
        parents={},
        modules=(),
        surroundings={"device": "cpu", "processes": processes},
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Stage], Outcome, Told]:
    """Three stages, of which the second and the third fail; their folder, and what became of them."""
    folder = tmp_path_factory.mktemp("ranks")
    module = folder / "made_up_stage.py"
    module.write_text(STAGE)
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE.format(stage=str(module)))
    stages = {
        "well": stage("well", words=["ü", 1.5, None]),
        "fails": stage("fails", do="fail"),
        "dies": stage("dies", do="die"),
    }
    told = Told()
    with pytest.MonkeyPatch.context() as patch:
        paths = [str(folder), str(Path(benchmarks.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in paths if path))
        patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        for name in (*THREAD_VARIABLES, "OMP_WAIT_POLICY", "TOKENIZERS_PARALLELISM", "CUBLAS_WORKSPACE_CONFIG"):
            patch.setenv(name, os.environ.get(name, ""))
        for item in stages.values():  # what the key of a stage needs of its module
            item.__dict__["identity"] = {"label": item.label, **item.surroundings}
        outcome = execute(
            list(stages.values()),
            folder / "results",
            data=None,
            device="cpu",
            threads=2,
            jobs=1,
            force=False,
            reporter=told,
            gpus=["GPU-a", "1", "2", "3"],
        )
    return folder / "results", stages, outcome, told


def test_ranks_work_together_and_the_first_writes(done: tuple[Path, dict[str, Stage], Outcome, Told]) -> None:
    """Each has the worker's threads and sees its GPUs; the directory holds what the stage wrote, and nothing else."""
    results, stages, outcome, _ = done
    assert outcome.done == ["well"]
    folder = results / stages["well"].folder
    assert {path.name for path in folder.iterdir()} == {"out.json", "spec.json", "environment.json", "DONE"}
    assert json.loads((folder / "out.json").read_text()) == {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "2",
        "CUDA_VISIBLE_DEVICES": "GPU-a,1",
        "total": 3,
        "threads": 2,
        "settings": {"words": ["ü", 1.5, None]},
        "deterministic": True,
    }
    assert json.loads((folder / "spec.json").read_text())["processes"] == 2


def test_progress_reaches_the_command(done: tuple[Path, dict[str, Stage], Outcome, Told]) -> None:
    _, stages, _, told = done
    assert told.tee.kept == [(stages["well"].folder, 1, 2, "half")]


def test_what_a_rank_raises_is_the_failure(done: tuple[Path, dict[str, Stage], Outcome, Told]) -> None:
    """And not that the others lost it, which they say later."""
    _, _, outcome, _ = done
    failure = {failure.label: failure for failure in outcome.failed}["fails"]
    assert failure.message == "ValueError: rank one"
    assert failure.log is not None
    trace = failure.log.read_text()
    assert trace.rstrip().endswith("ValueError: rank one\nfails: no good")
    assert "process 2 of 2 failed first" in trace
    assert 'in run\n    raise ValueError("rank one' in trace


def test_a_rank_that_is_killed_is_told_of(done: tuple[Path, dict[str, Stage], Outcome, Told]) -> None:
    results, _, outcome, _ = done
    failure = {failure.label: failure for failure in outcome.failed}["dies"]
    assert failure.message.startswith(
        "benchmarks.executors.ranks.RankError: one of its 2 processes was killed (out of memory?)"
    )
    assert "training.micro_batch_size" in failure.message
    assert list((results / SCRATCH).iterdir()) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('["folder", 1, 2, "half"]\n', ("folder", 1, 2, "half")),
        ("a word\n", None),
        ("12\n", None),
        ('"four"\n', None),
        ('["folder", 1, 2]\n', None),
        ('["folder", "1", 2, "half"]\n', None),
    ],
)
def test_a_message_is_told_from_what_is_printed(line: str, message: object) -> None:
    assert _message(line) == message


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_none_is_left(done: tuple[Path, dict[str, Stage], Outcome, Told]) -> None:
    results = str(done[0])
    commands = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            commands.append((path / "cmdline").read_text(errors="replace"))
        except OSError:
            continue
    assert not [command for command in commands if "benchmarks.executors.ranks" in command and results in command]
