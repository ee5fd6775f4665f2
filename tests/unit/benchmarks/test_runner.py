"""Executing a plan: whole directories or none, failures kept apart, damage named, leftovers swept.

The stages are made up and cheap. Workers are started afresh, so they are told where to find the module by a
``sitecustomize`` of this test's folder, which also stands in for torch and transformers: both take seconds to import,
and no stage here uses them. Where a test is of what is done when, and not of who does it, stages are done `Here`, for
to start a worker takes half a second. Real stages are run by ``tests/integration``.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Any, Self

import pytest

import benchmarks
from benchmarks import claims, runner
from benchmarks.errors import UserError
from benchmarks.executors.pool import THREAD_VARIABLES, Workers
from benchmarks.plan import Stage
from benchmarks.progress import Reporter
from benchmarks.runner import RESUME, SCRATCH, TOKENS, Outcome, damage, execute, longest_first, share_out
from benchmarks.time_limit import TimeLimit
from cringe.processes import host, mark

STAGE = '''
"""A stage that does as it is told."""

import os
import signal
import time


def run(settings, context):
    for name, text in settings.get("files", {"out.txt": "text"}).items():
        path = context.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name, parent in context.parents.items():
        (context.out / f"from-{name}.txt").write_bytes((parent / "out.txt").read_bytes())
    context.progress(1, 2, "half")
    if "touch" in settings:
        open(settings["touch"], "w").close()
    if "wait" in settings:
        limit = time.monotonic() + 20
        while not os.path.exists(settings["wait"]) and time.monotonic() < limit:
            time.sleep(0.01)
    if "pid" in settings:
        (context.out / "pid.txt").write_text(str(os.getpid()))
        counts = {os.environ[f"{name}_NUM_THREADS"] for name in ("OMP", "MKL", "OPENBLAS")}
        (context.out / "threads.txt").write_text(" ".join(sorted(counts)))
        (context.out / "gpu.txt").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
        (context.out / "variables.txt").write_text(" ".join(os.environ))
    if settings.get("do") == "fail":
        raise ValueError("this stage\\nfails: no good")
    if settings.get("do") == "die":
        os.kill(os.getpid(), signal.SIGKILL)
'''

SITECUSTOMIZE = '''
import sys
from importlib.util import spec_from_file_location


class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "benchmarks.stages.made_up":
            return spec_from_file_location(name, {stage!r})


class Anything(int):
    """Is called, asked and written to JSON, and is always 1."""

    def __call__(self, *args, **kwargs):
        return self

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self


sys.meta_path.insert(0, Finder())
for name in ("torch", "transformers"):
    sys.modules[name] = Anything(1)
'''


@pytest.fixture(autouse=True)
def made_up_stages(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lets this process and its workers find ``benchmarks.stages.made_up``."""
    folder = tmp_path_factory.mktemp("site")
    module = folder / "made_up_stage.py"
    module.write_text(STAGE)
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE.format(stage=str(module)))

    class Finder:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
            return spec_from_file_location(name, module) if name == "benchmarks.stages.made_up" else None

    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    paths = [str(folder), str(Path(benchmarks.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in paths if path))
    # The runner sets these for its workers; they shall not outlive the test.
    for name in (*THREAD_VARIABLES, "OMP_WAIT_POLICY", "TOKENIZERS_PARALLELISM", "CUBLAS_WORKSPACE_CONFIG"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    yield
    sys.modules.pop("benchmarks.stages.made_up", None)


def stage(label: str, parents: Mapping[str, Stage] | None = None, **settings: object) -> Stage:
    return Stage(
        kind="made_up",
        label=label,
        settings=settings,
        parents=parents or {},
        modules=(),
        surroundings={"device": "cpu"},
    )


class Here:
    """One worker, that is this process."""

    def __init__(self) -> None:
        self.free = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, work: Callable[[Any], str | None], job: Any) -> Future[str | None]:
        assert self.free
        self.free = False
        future: Future[str | None] = Future()
        future.set_result(work(job))
        return future

    def release(self, future: Future[str | None]) -> None:
        self.free = True

    def lost(self, error: BaseException) -> str | None:
        return None


def run_here(stages: list[Stage], results: Path, *, force: bool = False) -> Outcome:
    return run(stages, results, force=force, workers=Here)


def run(
    stages: list[Stage],
    results: Path,
    *,
    workers: Callable[[], Workers] | None = None,
    jobs: int = 1,
    force: bool = False,
    threads: int = 1,
    gpus: Sequence[str] = (),
) -> Outcome:
    return execute(
        stages,
        results,
        data=None,
        device="cpu",
        threads=threads,
        jobs=jobs,
        force=force,
        reporter=Reporter(len(stages), io.StringIO()),
        gpus=gpus,
        workers=workers,
    )


HIDDEN = {SCRATCH, claims.FOLDER, "failures"}


def finished(results: Path) -> set[str]:
    """Labels of the directories that have their final name; each must be whole."""
    folders = [path for path in results.iterdir() if path.is_dir() and path.name not in HIDDEN]
    for folder in folders:
        assert damage(folder) == [], folder
        assert (folder / "spec.json").exists()
    return {folder.name.rsplit("-", 1)[0] for folder in folders}


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file's bytes and time of change."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# What is done


def test_a_finished_directory_holds_everything_and_the_hash_of_every_file(tmp_path: Path) -> None:
    first = stage("first", files={"out.txt": "words", "deep/er/more.bin": "ünï"})
    outcome = run([first], tmp_path / "results")
    assert outcome == Outcome(done=["first"])
    folder = tmp_path / "results" / first.folder
    hashes = json.loads((folder / "DONE").read_text())
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {"DONE"}
    assert set(hashes) == files == {"out.txt", "deep/er/more.bin", "spec.json", "environment.json"}
    for name, digest in hashes.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    spec = json.loads((folder / "spec.json").read_text())
    assert (spec["label"], spec["key"]) == ("first", first.key)
    assert {name: spec[name] for name in first.identity} == first.identity
    environment = json.loads((folder / "environment.json").read_text())
    assert {"python", "platform", "processor", "device", "threads", "commit", "packages"} == set(environment)
    assert not list((tmp_path / "results" / SCRATCH).iterdir())


def test_children_read_what_their_parents_wrote(tmp_path: Path) -> None:
    first = stage("first", files={"out.txt": "from the first"})
    second = stage("second", {"source": first})
    third = stage("third", {"a": first, "b": second}, files={})
    outcome = run([first, second, third], tmp_path, jobs=2)
    assert outcome.done == ["first", "second", "third"]
    assert (tmp_path / second.folder / "from-source.txt").read_text() == "from the first"
    assert (tmp_path / third.folder / "from-b.txt").read_text() == "text"


def test_the_second_time_nothing_is_done_and_no_worker_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = [first := stage("first"), stage("second", {"source": first})]
    run(stages, tmp_path)
    before = tree(tmp_path)
    monkeypatch.setattr(runner, "Pool", None)
    assert run(stages, tmp_path) == Outcome(skipped=["first", "second"])
    assert tree(tmp_path) == before


def test_only_what_is_missing_is_done(tmp_path: Path) -> None:
    stages = [first := stage("first"), second := stage("second", {"source": first})]
    run_here(stages, tmp_path)
    before = tree(tmp_path / first.folder)
    shutil.rmtree(tmp_path / second.folder)
    third = stage("third", {"source": second})
    assert run_here([*stages, third], tmp_path) == Outcome(skipped=["first"], done=["second", "third"])
    assert tree(tmp_path / first.folder) == before


def test_force_does_all_again(tmp_path: Path) -> None:
    stages = [first := stage("first", pid=True), stage("second", {"source": first})]
    run(stages, tmp_path)
    before = (tmp_path / first.folder / "pid.txt").read_text()
    assert run(stages, tmp_path, force=True) == Outcome(done=["first", "second"])
    assert (tmp_path / first.folder / "pid.txt").read_text() != before
    assert finished(tmp_path) == {"first", "second"}
    assert not list((tmp_path / SCRATCH).iterdir())


def test_stages_run_side_by_side_with_the_threads_of_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits for a file that the other makes: one after the other they would not finish in time.

    What the command itself was started with does not matter: a stage's threads are in its key, the shell's are not.
    """
    for name in THREAD_VARIABLES:
        monkeypatch.setenv(name, "7")
    left, right = str(tmp_path / "left"), str(tmp_path / "right")
    stages = [
        stage("one", touch=left, wait=right, pid=True),
        stage("two", touch=right, wait=left, pid=True),
    ]
    start = time.monotonic()
    run(stages, tmp_path / "results", jobs=2, threads=3)
    assert time.monotonic() - start < 15
    folders = [tmp_path / "results" / item.folder for item in stages]
    assert len({(folder / "pid.txt").read_text() for folder in folders}) == 2
    assert {(folder / "threads.txt").read_text() for folder in folders} == {"3"}


def test_a_stage_is_nobodys_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a command inside a job of MPI, torchrun or Kubernetes would wait for others, for ever."""
    variables = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"}
    variables |= {"PET_NNODES", "TORCHELASTIC_RUN_ID", "ACCELERATE_USE_FSDP", "LOCAL_WORLD_SIZE"}
    for name in variables:
        monkeypatch.setenv(name, "4")
    monkeypatch.setenv("RANKING", "4")
    one = stage("one", pid=True)
    assert run([one], tmp_path).done == ["one"]
    left = set((tmp_path / one.folder / "variables.txt").read_text().split())
    assert not left & variables
    assert "RANKING" in left


def test_every_worker_sees_one_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two stages that wait for each other run on two GPUs; the worker that takes a dead one's place takes its GPU."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    left, right = str(tmp_path / "left"), str(tmp_path / "right")
    pair = [stage("one", touch=left, wait=right, pid=True), stage("two", touch=right, wait=left, pid=True)]
    results = tmp_path / "results"
    run(pair, results, jobs=2, gpus=["GPU-a", "5"])
    assert {(results / item.folder / "gpu.txt").read_text() for item in pair} == {"GPU-a", "5"}
    for item in pair:
        Path(item.settings["touch"]).unlink()
    again = [stage(f"again-{item.label}", **item.settings) for item in pair]
    run([stage("dead", do="die"), stage("dead-too", do="die", n=2), *again], results, jobs=2, gpus=["GPU-a", "5"])
    assert {(results / item.folder / "gpu.txt").read_text() for item in again} == {"GPU-a", "5"}
    run([lone := stage("lone", pid=True)], results)
    assert (results / lone.folder / "gpu.txt").read_text() == "all"


def test_gpus_are_shared_out_in_turn() -> None:
    assert share_out(["0", "3"], 2) == ["0", "3"]
    assert share_out(["0", "3"], 5) == ["0", "3", "0", "3", "0"]
    assert share_out(["0", "3"], 1) == ["0"]
    assert share_out([], 2) == [None, None]
    assert share_out(["0", "3", "GPU-a", "5", "6"], 3, 2) == ["0,3", "GPU-a,5", "0,3"]
    assert share_out([], 2, 2) == [None, None]


def test_the_longest_chain_is_begun_first(tmp_path: Path) -> None:
    """By hand: a → b → c → d, and leaves that are planned before them; ties stay in the order of the plan."""
    first, *chain = stage("leaf-1", n=1), stage("a")
    for label in "bcd":
        chain.append(stage(label, {"source": chain[-1]}))
    short, last = stage("short", {"a": chain[0]}), stage("leaf-2", n=2)
    planned = [first, chain[0], short, *chain[1:], last]
    ordered = ["a", "b", "c", "leaf-1", "short", "d", "leaf-2"]
    assert [item.label for item in longest_first(planned)] == ordered
    assert longest_first([first, chain[3], last]) == [first, chain[3], last]
    assert run_here(planned, tmp_path).done == ordered


# What fails


def test_a_failure_stops_what_needs_it_and_nothing_else(tmp_path: Path) -> None:
    bad = stage("bad", do="fail")
    child = stage("child", {"source": bad})
    grandchild = stage("grandchild", {"source": child})
    good = stage("good")
    after = stage("after", {"source": good})
    mixed = stage("mixed", {"a": good, "b": bad})
    outcome = run([bad, child, grandchild, good, after, mixed], tmp_path)
    assert outcome.done == ["good", "after"]
    assert sorted(outcome.blocked) == ["child", "grandchild", "mixed"]
    (failure,) = outcome.failed
    assert failure.label == "bad"
    assert failure.message == "ValueError: this stage"
    assert failure.log == tmp_path / "failures" / f"{bad.folder}.log"
    trace = failure.log.read_text()
    assert trace.startswith("Traceback (most recent call last):")
    assert "made_up_stage.py" in trace
    assert "ValueError: this stage\nfails: no good" in trace
    assert finished(tmp_path) == {"good", "after"}
    assert not list((tmp_path / SCRATCH).iterdir())


def test_the_next_run_tries_again_what_failed(tmp_path: Path) -> None:
    stages = [bad := stage("bad", do="fail"), stage("child", {"source": bad}), stage("good")]
    run_here(stages, tmp_path)
    again = run_here(stages, tmp_path)
    assert again.skipped == ["good"]
    assert [failure.label for failure in again.failed] == ["bad"]
    assert again.blocked == ["child"]


def test_a_killed_worker_is_told_and_replaced(tmp_path: Path) -> None:
    dead = stage("dead", do="die")
    stages = [dead, stage("child", {"source": dead}), good := stage("good"), stage("after", {"source": good})]
    outcome = run(stages, tmp_path)
    assert outcome.done == ["good", "after"]
    assert outcome.blocked == ["child"]
    (failure,) = outcome.failed
    assert failure.label == "dead"
    assert failure.log is None
    assert "its process was killed" in failure.message
    assert "--jobs" in failure.message
    assert finished(tmp_path) == {"good", "after"}


def test_a_killed_worker_takes_no_other_stage_with_it(tmp_path: Path) -> None:
    dying, long = str(tmp_path / "dying"), str(tmp_path / "long")
    stages = [
        stage("dead", touch=dying, wait=long, do="die"),
        stage("long", touch=long, wait=dying, files={"out.txt": "x" * 100_000}),
    ]
    outcome = run(stages, tmp_path / "results", jobs=2)
    assert outcome.done == ["long"]
    assert [failure.label for failure in outcome.failed] == ["dead"]


def test_many_deaths_do_not_use_up_the_workers(tmp_path: Path) -> None:
    stages = [*(stage(f"dead-{index}", do="die") for index in range(3)), stage("good")]
    outcome = run(stages, tmp_path, jobs=1)
    assert outcome.done == ["good"]
    assert len(outcome.failed) == 3


def test_no_worker_outlives_the_run(tmp_path: Path) -> None:
    run(
        [first := stage("first", pid=True), second := stage("second", pid=True), stage("bad", do="fail")],
        tmp_path,
        jobs=2,
    )
    pids = [int((tmp_path / item.folder / "pid.txt").read_text()) for item in (first, second)]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_failures_are_reported_as_they_happen(tmp_path: Path) -> None:
    said = io.StringIO()
    execute(
        [stage("good"), stage("bad", do="fail")],
        tmp_path,
        data=None,
        device="cpu",
        threads=1,
        jobs=1,
        force=False,
        reporter=Reporter(2, said),
    )
    lines = said.getvalue().splitlines()
    assert lines[0] == "good: started"
    assert lines[1].startswith("[1/2] good: done in ")
    assert lines[3].startswith("[2/2] bad: FAILED in ")


# What there is no time for


def run_limited(
    stages: list[Stage],
    results: Path,
    minutes: float,
    *,
    jobs: int = 1,
    ends: Callable[[str], object] = lambda label: None,
    workers: Callable[[], Workers] | None = None,
) -> Outcome:
    """Every stage takes a minute, by a clock that nobody has to wait for; ``ends`` is told when one has ended."""
    ended: list[str] = []

    class Counting(Reporter):
        def finished(self, folder: str, *, failed: bool) -> None:
            super().finished(folder, failed=failed)
            ended.append(folder.rpartition("-")[0])
            ends(ended[-1])

    return execute(
        stages,
        results,
        data=None,
        device="cpu",
        threads=1,
        jobs=jobs,
        force=False,
        workers=workers,
        reporter=Counting(len(stages), io.StringIO()),
        limit=TimeLimit(minutes, clock=lambda: 60.0 * len(ended)),
    )


def a_chain() -> list[Stage]:
    stages = [stage("a", files={"out.txt": "first"})]
    for label in "bcd":
        stages.append(stage(label, {"source": stages[-1]}))
    return stages


@pytest.mark.parametrize(("minutes", "done"), [(0.5, 1), (1, 1), (1.5, 2), (3, 3), (4, 4), (9, 4)])
def test_when_the_time_is_over_no_stage_is_begun(minutes: float, done: int, tmp_path: Path) -> None:
    """The one that is in progress is finished; whoever ends with the last minute has done everything."""
    outcome = run_limited(a_chain(), tmp_path, minutes, workers=Here)
    assert outcome == Outcome(done=list("abcd")[:done], not_begun=list("abcd")[done:])
    assert outcome.exit_code == (done < 4)
    assert finished(tmp_path) == set(outcome.done)
    assert not list((tmp_path / SCRATCH).iterdir())


def test_no_time_at_all(tmp_path: Path) -> None:
    """What was done before is done, and not a part of what is missing."""
    stages = a_chain()
    run_here(stages[:2], tmp_path)
    limit = TimeLimit(1, clock=iter([0.0, 60.0, 60.0, 60.0]).__next__)
    outcome = execute(
        stages,
        tmp_path,
        data=None,
        device="cpu",
        threads=1,
        jobs=2,
        force=False,
        reporter=Reporter(2, io.StringIO()),
        limit=limit,
    )
    assert outcome == Outcome(skipped=["a", "b"], not_begun=["c", "d"])


def test_all_that_are_in_progress_are_finished(tmp_path: Path) -> None:
    """The long one goes on for as long as the limit is not over, and longer."""
    over = tmp_path / "over"
    stages = [stage("short"), stage("long", wait=str(over)), stage("late", n=1), stage("later", n=2)]
    outcome = run_limited(stages, tmp_path / "results", 1, jobs=2, ends=lambda label: over.touch())
    assert outcome == Outcome(done=["short", "long"], not_begun=["late", "later"])
    assert finished(tmp_path / "results") == {"short", "long"}


def test_stopped_and_gone_on_is_the_same_as_never_stopped(tmp_path: Path) -> None:
    stages = [*a_chain(), stage("alone", files={"out.txt": "other", "deep/more.bin": "ünï"})]
    run(stages, tmp_path / "whole", jobs=2)
    parts = [run_limited(stages, tmp_path / "parts", minutes, jobs=1) for minutes in (1, 2, 9)]
    assert [len(part.not_begun) for part in parts] == [4, 2, 0]
    assert [part.exit_code for part in parts] == [1, 1, 0]
    whole, gone_on = tree(tmp_path / "whole"), tree(tmp_path / "parts")
    assert {name: content for name, (content, _) in gone_on.items()} == {
        name: content for name, (content, _) in whole.items()
    }


def test_what_is_needed_first_is_whole_first_where_time_is_limited(tmp_path: Path) -> None:
    """Row by row: without a limit the longest chain comes first, and all rows would be unfinished when it is over."""
    first, second = stage("train-1", n=1), stage("train-2", n=2)
    planned = [first, stage("scores-1", {"a": first}), second, stage("scores-2", {"a": second})]
    assert [item.label for item in longest_first(planned)] == ["train-1", "train-2", "scores-1", "scores-2"]
    outcome = run_limited(planned, tmp_path, 2, workers=Here)
    assert outcome == Outcome(done=["train-1", "scores-1"], not_begun=["train-2", "scores-2"])


def test_what_failed_is_told_apart_from_what_was_not_begun(tmp_path: Path) -> None:
    bad = stage("bad", do="fail")
    stages = [bad, stage("child", {"source": bad}), stage("good"), stage("late", n=1)]
    outcome = run_limited(stages, tmp_path, 2, workers=Here)
    assert [failure.label for failure in outcome.failed] == ["bad"]
    assert (outcome.blocked, outcome.done, outcome.not_begun) == (["child"], ["good"], ["late"])
    assert run_limited(stages, tmp_path, 9, workers=Here).exit_code == 1


# What is damaged


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def link(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "flipped": (lambda folder: flip(folder / "deep" / "more.txt"), "deep/more.txt"),
    "longer": (lambda folder: (folder / "out.txt").write_text("text and more"), "out.txt"),
    "missing": (lambda folder: (folder / "out.txt").unlink(), "out.txt"),
    "empty": (lambda folder: (folder / "spec.json").write_text(""), "spec.json"),
    "no DONE": (lambda folder: (folder / "DONE").unlink(), "DONE"),
    "bad DONE": (lambda folder: (folder / "DONE").write_text("[1, 2"), "DONE"),
    "list DONE": (lambda folder: (folder / "DONE").write_text("[]"), "DONE"),
    "empty DONE": (lambda folder: (folder / "DONE").write_text("{}"), "DONE"),
    "nested DONE": (lambda folder: (folder / "DONE").write_text("[" * 200_000), "DONE"),
    "DONE of others": (lambda folder: (folder / "DONE").write_text('{"../x": "0"}'), "DONE"),
    "DONE of a device": (lambda folder: (folder / "DONE").write_text('{"/dev/zero": "0"}'), "DONE"),
    "DONE is a device": (lambda folder: link(folder / "DONE", "/dev/zero"), "DONE"),
    "a device": (lambda folder: link(folder / "out.txt", "/dev/zero"), "out.txt"),
    "a pipe": (lambda folder: ((folder / "out.txt").unlink(), os.mkfifo(folder / "out.txt")), "out.txt"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named_before_anything_is_done(name: str, tmp_path: Path) -> None:
    """The whole `DONE` counts, too: one that lists no file vouches for none."""
    stages = [first := stage("first", files={"out.txt": "text", "deep/more.txt": "more"}), stage("second")]
    run_here(stages, tmp_path)
    harm, told = DAMAGES[name]
    harm(tmp_path / first.folder)
    shutil.rmtree(tmp_path / stages[1].folder)
    with pytest.raises(UserError) as caught:
        run_here(stages, tmp_path)
    assert f"  {first.folder}: {told}\n" in str(caught.value)
    assert stages[1].folder not in str(caught.value)
    assert "the same command with --repair" in str(caught.value)
    assert caught.value.exit_code == 1
    assert not (tmp_path / stages[1].folder).exists()


def test_every_damaged_file_is_named_not_the_first_alone(tmp_path: Path) -> None:
    first = stage("first", files={"a.txt": "a", "b.txt": "b", "c.txt": "c"})
    run_here([first], tmp_path)
    (tmp_path / first.folder / "a.txt").unlink()
    flip(tmp_path / first.folder / "c.txt")
    assert damage(tmp_path / first.folder) == ["a.txt", "c.txt"]


def test_force_does_again_what_is_damaged(tmp_path: Path) -> None:
    stages = [first := stage("first"), stage("second", {"source": first})]
    run_here(stages, tmp_path)
    flip(tmp_path / first.folder / "out.txt")
    assert run_here(stages, tmp_path, force=True).done == ["first", "second"]
    assert finished(tmp_path) == {"first", "second"}
    assert run_here(stages, tmp_path) == Outcome(skipped=["first", "second"])


@pytest.mark.parametrize("there", [True, False])
def test_a_directory_that_was_moved_to_another_disk_is_left_alone(there: bool, tmp_path: Path) -> None:
    """A link in its place is read; what replaces it is a directory, and nothing is deleted behind the link."""
    results, elsewhere = tmp_path / "results", tmp_path / "elsewhere"
    run([first := stage("first")], results)
    (results / first.folder).rename(elsewhere)
    (results / first.folder).symlink_to(elsewhere)
    assert run([first], results).skipped == ["first"]
    flip(elsewhere / "out.txt") if there else shutil.rmtree(elsewhere)
    assert run([first], results, force=there).done == ["first"]
    assert not (results / first.folder).is_symlink()
    assert elsewhere.exists() == there
    assert not list((results / SCRATCH).iterdir())


def test_damage_of_what_the_plan_does_not_hold_is_no_matter(tmp_path: Path) -> None:
    run_here([first := stage("first")], tmp_path)
    (tmp_path / first.folder / "out.txt").unlink()
    assert run_here([stage("second")], tmp_path).done == ["second"]


# What is left over


def a_process_that_is_no_more() -> int:
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return process.pid


def test_leftovers_of_the_dead_are_swept_those_of_the_living_are_not(tmp_path: Path) -> None:
    scratch = tmp_path / SCRATCH
    living = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    try:
        names = {
            "dead": f"some-0123.{host()}-{a_process_that_is_no_more()}-7",
            "living": f"some-0123.{mark(living.pid)}",
            "another of the same number": f"some-0123.{host()}-{living.pid}-1",
            "without a machine": f"some-0123.{living.pid}-1",
            "on another machine": f"some-0123.0badcafe-{a_process_that_is_no_more()}-7",
            "old": "some.old",
        }
        kept = {names["living"], names["on another machine"]}
        for name in names.values():
            (scratch / name / "deep").mkdir(parents=True)
            (scratch / name / "deep" / "half").write_text("hal")
        run_here([stage("first")], tmp_path)
        assert {path.name for path in scratch.iterdir()} == kept
        assert all((scratch / name / "deep" / "half").exists() for name in kept)
    finally:
        living.kill()
        living.wait()


def test_half_written_states_and_tokens_of_the_living_are_kept(tmp_path: Path) -> None:
    dead, elsewhere = f"{host()}-{a_process_that_is_no_more()}-7", "0badcafe-1-7"
    states, tokens = tmp_path / RESUME, tmp_path / TOKENS
    for name in (mark(), elsewhere, dead, "17"):
        (half := states / f"0123.safetensors.{name}.tmp").mkdir(parents=True)
        (half / ".tmpAb1cD2").touch()  # as safetensors names what it has not finished
        (tokens / f".building-{name}-a_b1").mkdir(parents=True)
    run_here([stage("first")], tmp_path)
    kept = (mark(), elsewhere)
    assert {path.name for path in states.iterdir()} == {f"0123.safetensors.{name}.tmp" for name in kept}
    assert {path.name for path in tokens.iterdir()} == {f".building-{name}-a_b1" for name in kept}


def kept_state(results: Path, stage: Stage) -> Path:
    path = results / RESUME / f"{stage.key}.safetensors"
    path.parent.mkdir(exist_ok=True)
    path.touch()
    return path


def test_states_of_finished_trainings_are_swept_others_are_kept(tmp_path: Path) -> None:
    """As of a worker that was killed when it had just given the directory its name."""
    stages = [first := stage("first"), stage("second", pid=True), stage("failing", do="fail")]
    states = [kept_state(tmp_path, one) for one in stages]
    before = kept_state(tmp_path, stage("first", files={"of settings": "changed since"}))
    run([first], tmp_path)
    assert not states[0].exists(), "of what was done now"
    states[0].touch()
    run(stages, tmp_path)
    assert not states[0].exists(), "of what was done before"
    assert not states[1].exists()
    assert states[2].exists(), "of what failed"
    assert before.exists()
    states[0].touch()
    run([first], tmp_path)
    assert not states[0].exists(), "where there is nothing to do"


def test_the_state_of_what_is_done_again_is_kept(tmp_path: Path) -> None:
    """By another command, with --force."""
    first = stage("first")
    run([first], tmp_path)
    state = kept_state(tmp_path, first)
    with claims.Claims(tmp_path) as others:
        assert others.take(first.folder)
        run([first], tmp_path)
        assert state.exists()
    run([first], tmp_path)
    assert not state.exists()
    assert not list((tmp_path / claims.FOLDER).iterdir())


def test_leftovers_of_a_killed_worker_are_swept_by_the_next_run(tmp_path: Path) -> None:
    run([stage("dead", do="die")], tmp_path)
    run([stage("good")], tmp_path)
    assert not list((tmp_path / SCRATCH).iterdir())


def test_nothing_that_has_its_name_is_ever_partial(tmp_path: Path) -> None:
    """While a stage is at work, its files are elsewhere, and its name does not exist."""
    started, go = tmp_path / "started", tmp_path / "go"
    results = tmp_path / "results"
    slow = stage("slow", touch=str(started), wait=str(go))
    seen: list[tuple[bool, list[str]]] = []

    class Watcher(Reporter):
        def started(self, folder: str, label: str) -> None:
            super().started(folder, label)
            limit = time.monotonic() + 20
            while not started.exists() and time.monotonic() < limit:
                time.sleep(0.01)
            inside = [path.name for path in (results / SCRATCH).iterdir()]
            seen.append(((results / slow.folder).exists(), inside))
            go.touch()

    outcome = execute(
        [slow],
        results,
        data=None,
        device="cpu",
        threads=1,
        jobs=1,
        force=False,
        reporter=Watcher(1, io.StringIO()),
    )
    assert outcome.done == ["slow"]
    ((exists, (inside,)),) = seen
    assert not exists
    assert inside.startswith(f"{slow.folder}.")
    assert finished(results) == {"slow"}


def test_publishing_is_one_rename_after_done_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before the last rename there is no directory of that name, or still the old one, whole."""
    scratch, target = tmp_path / SCRATCH / "stage-0123.77", tmp_path / "stage-0123"
    scratch.mkdir(parents=True)
    (scratch / "out.txt").write_text("new")
    steps: list[tuple[str, bool, list[str]]] = []
    rename = Path.rename

    def watched(self: Path, to: Path) -> Path:
        steps.append((Path(to).name, (scratch / "DONE").exists(), damage(self)))
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", watched)
    runner._publish(scratch, target)
    assert steps == [("stage-0123", True, [])]
    assert damage(target) == []
    again = tmp_path / SCRATCH / "stage-0123.78"
    again.mkdir()
    (again / "out.txt").write_text("newer")
    runner._publish(again, target)
    assert (target / "out.txt").read_text() == "newer"
    assert damage(target) == []
    assert not list((tmp_path / SCRATCH).iterdir())


def test_a_results_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        run([stage("first")], tmp_path / "file")


def test_two_commands_on_one_folder_end_with_whole_directories(tmp_path: Path) -> None:
    """The second finishes a stage while the first is at it; whoever is later replaces the same content."""
    started, go = tmp_path / "started", tmp_path / "go"
    results = tmp_path / "results"
    first = stage("first", touch=str(started), wait=str(go))

    class Second(Reporter):
        def started(self, folder: str, label: str) -> None:
            super().started(folder, label)
            limit = time.monotonic() + 20
            while not started.exists() and time.monotonic() < limit:
                time.sleep(0.01)
            other = results / SCRATCH / f"{first.folder}.{os.getpid()}"
            other.mkdir(parents=True)
            (other / "out.txt").write_text("text")
            (other / "spec.json").write_text("{}")
            runner._publish(other, results / first.folder)
            go.touch()

    outcome = execute(
        [first], results, data=None, device="cpu", threads=1, jobs=1, force=False, reporter=Second(1, io.StringIO())
    )
    assert outcome == Outcome(done=["first"])
    assert finished(results) == {"first"}
