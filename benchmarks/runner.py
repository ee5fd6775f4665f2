"""Executes a plan: skips what is done, does the rest in worker processes, and keeps one failure from being all.

A stage works in a directory with a temporary name. When it is finished, `DONE` is written into it with the hash of
every file, and the directory gets its name: so a directory that has a name is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from benchmarks.claims import POLL_SECONDS, Claims
from benchmarks.errors import UserError
from benchmarks.executors.pool import Pool, Workers, forget_launchers, say
from benchmarks.plan import Stage
from benchmarks.progress import Reporter
from benchmarks.stopped import explained, is_full
from benchmarks.time_limit import NO_LIMIT, TimeLimit
from cringe.processes import in_use, left_behind, mark

SCRATCH = ".unfinished"
"""Folder, beside the finished directories, of those in the making."""
RESUME = ".resume"
"""Folder of the states of unfinished trainings."""
TOKENS = ".tokens"
"""Folder of tokenised data."""
REPAIR = "next step: the same command with --repair does these again"
"""What to say of damaged directories."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A stage as a worker process is told of it."""

    kind: str
    label: str
    settings: Mapping[str, Any]
    identity: Mapping[str, Any]
    key: str
    folder: str
    parents: Mapping[str, str]
    results: str
    data: str | None
    device: str
    processes: int = 1


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A stage that failed, and why."""

    label: str
    message: str
    log: Path | None
    full: bool = False
    """Was there no space left?"""


@dataclass(kw_only=True)
class Outcome:
    """What became of the stages of a plan."""

    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    """Done before, or meanwhile by another command."""
    failed: list[Failure] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)
    """Not tried, for something that they need failed, or there was no space left."""
    not_begun: list[str] = field(default_factory=list)
    """There was no time left for them."""

    @property
    def exit_code(self) -> int:
        """0 if everything is done, else 1."""
        return 1 if self.failed or self.blocked or self.not_begun else 0


def damage(folder: Path) -> list[str]:
    """What is wrong with a finished directory: names of files that are missing, changed or unreadable.

    A `DONE` that names anything but files of the directory is wrong itself.
    """
    done = folder / "DONE"
    try:
        hashes = json.loads(done.read_text(encoding="utf-8")) if done.is_file() else None
    except (OSError, ValueError, RecursionError):
        return ["DONE"]
    if not isinstance(hashes, dict) or not hashes or not all(map(_is_inside, hashes)):
        return ["DONE"]
    return [name for name, digest in hashes.items() if not _intact(folder / name, digest)]


def execute(
    stages: Sequence[Stage],
    results: Path,
    *,
    data: Path | None,
    device: str,
    threads: int,
    jobs: int,
    force: bool,
    reporter: Reporter,
    repair: bool = False,
    gpus: Sequence[str] = (),
    limit: TimeLimit = NO_LIMIT,
    workers: Callable[[], Workers] | None = None,
) -> Outcome:
    """Do all stages that are not done.

    Args:
        stages: parents before children.
        results: folder of the stages' directories.
        data: folder of the data sets; None where a stage generates them.
        device: kind of device, a part of the keys.
        threads: of a stage on CPU, a part of the keys.
        jobs: stages done side by side.
        force: do again what is done.
        reporter: told how far the work is.
        repair: do again what is damaged.
        gpus: as CUDA names them; every worker sees one alone, or as many as a stage has processes, the same ones for as
            long as it lives. None: all see all.
        limit: once it is over no stage is begun, and those in progress are finished. Where there is one, stages are
            done in the given order, row by row, so that as many rows as can be are whole when it is over.
        workers: where stages are done, instead of ``jobs`` processes of this machine; asked for if any is to be done.

    Raises:
        UserError: a finished directory is damaged, and both `force` and `repair` are off.
    """
    results.mkdir(parents=True, exist_ok=True)
    _sweep(results)
    there = [stage for stage in stages if (results / stage.folder).exists()]
    folders = [results / stage.folder for stage in there]
    again = {folder.name for folder in folders} if force else _damaged(folders, repair)
    outcome = Outcome(skipped=[stage.label for stage in there if stage.folder not in again])
    done = {stage.folder for stage in there} - again
    waiting = [stage for stage in stages if stage.folder not in done]
    if waiting:
        order = waiting if limit.given else longest_first(waiting)
        if workers is None:
            processes = max(stage.processes for stage in waiting)
            pool: Workers = Pool(threads, share_out(gpus, min(jobs, len(waiting)), processes), reporter)
        else:
            pool = workers()
        with Claims(results) as claims, pool:
            _drain(order, pool, claims, results, data, device, outcome, reporter, limit)
        _sweep(results)  # once more, for a command that this one waited for may have been killed
    finished = {*outcome.done, *outcome.skipped}
    _forget_states([stage for stage in stages if stage.label in finished], results)
    return outcome


def share_out(gpus: Sequence[str], workers: int, each: int = 1) -> list[str | None]:
    """The GPUs of each worker, ``each`` of them with commas between, in turn; None where there are none to choose."""
    shares = [",".join(gpus[start : start + each]) for start in range(0, len(gpus) - each + 1, each)]
    return [shares[index % len(shares)] if shares else None for index in range(workers)]


def longest_first(stages: Sequence[Stage]) -> list[Stage]:
    """Stages by the length of the longest chain of stages that wait for them, longest first; else in the given order.

    Workers are idle at the end for as long as a chain goes on that was begun late, such as the rounds of a method.

    Args:
        stages: parents before children.
    """
    behind = Counter[str]()
    for stage in reversed(stages):
        for parent in stage.parents.values():
            behind[parent.key] = max(behind[parent.key], behind[stage.key] + 1)
    return sorted(stages, key=lambda stage: -behind[stage.key])


def damaged(folders: Iterable[Path]) -> dict[str, list[str]]:
    """What is wrong with each of some finished directories, by its name; those that are not there are left out."""
    return {folder.name: names for folder in folders if folder.exists() and (names := damage(folder))}


def _damaged(folders: Iterable[Path], repair: bool) -> set[str]:
    """Names of damaged directories, which are refused unless they are to be repaired."""
    broken = damaged(folders)
    if broken and not repair:
        lines = [f"  {name}: {', '.join(names)}" for name, names in broken.items()]
        raise UserError(
            "finished results are damaged (files missing or not what they were when written):\n"
            + "\n".join(lines)
            + f"\n  {REPAIR}"
        )
    return set(broken)


def _drain(
    waiting: list[Stage],
    pool: Workers,
    claims: Claims,
    results: Path,
    data: Path | None,
    device: str,
    outcome: Outcome,
    reporter: Reporter,
    limit: TimeLimit,
) -> None:
    """Hand out stages whose parents are done and nobody else is at, until none is left or can be, or time is over."""
    todo = {stage.key for stage in waiting}
    before = {stage.folder: _inode(results / stage.folder) for stage in waiting}
    failed: set[str] = set()
    full = False
    running: dict[Future[str | None], Stage] = {}
    while waiting or running:
        elsewhere: list[str] = []
        for stage in list(waiting):
            needs = {parent.key for parent in stage.parents.values()}
            if needs & failed or full:
                waiting.remove(stage)
                failed.add(stage.key)
                outcome.blocked.append(stage.label)
            elif limit.over():
                waiting.remove(stage)
                outcome.not_begun.append(stage.label)
            elif needs & todo or not pool.free:
                continue
            elif not claims.take(stage.folder):
                elsewhere.append(stage.label)
            elif _inode(results / stage.folder) not in (None, before[stage.folder]):
                claims.release(stage.folder)
                waiting.remove(stage)
                todo.discard(stage.key)
                outcome.skipped.append(stage.label)
                reporter.found(stage.label)
            else:
                waiting.remove(stage)
                running[pool.submit(_work, _job(stage, results, data, device))] = stage
                reporter.started(stage.folder, stage.label)
        reporter.waiting([] if running else elsewhere)
        if not running and elsewhere:
            time.sleep(POLL_SECONDS)
        for future in wait(running, POLL_SECONDS if elsewhere else None, FIRST_COMPLETED).done if running else ():
            stage = running.pop(future)
            todo.discard(stage.key)
            pool.release(future)
            claims.release(stage.folder)
            failure = _failure(stage, future, results, pool)
            reporter.finished(stage.folder, failed=failure is not None)
            if failure is None:
                outcome.done.append(stage.label)
                continue
            outcome.failed.append(failure)
            failed.add(stage.key)
            full = full or failure.full


def _failure(stage: Stage, future: Future[str | None], results: Path, pool: Workers) -> Failure | None:
    """None if the stage was done; else why not, with the traceback kept in a file."""
    error = future.exception()
    lost = error and pool.lost(error)
    if lost:
        return Failure(label=stage.label, message=lost, log=None)
    trace = future.result() if error is None else "".join(traceback.format_exception(error))
    if trace is None:
        return None
    message = explained(trace, stage.kind, stage.settings, results, stage.processes) or _what(trace)
    log = _kept(trace, results / "failures" / f"{stage.folder}.log")
    return Failure(label=stage.label, message=message, log=log, full=is_full(trace))


def _kept(trace: str, log: Path) -> Path | None:
    """Write a traceback to a file; None where there is no space for it."""
    try:
        log.parent.mkdir(exist_ok=True)
        log.write_text(trace, encoding="utf-8")
    except OSError:
        with suppress(OSError):
            log.unlink(missing_ok=True)
        return None
    return log


def _what(trace: str) -> str:
    """What went wrong: the line of a traceback behind its last frame, and not what an error says to do next."""
    lines = trace.strip().split("\n")
    frames = [place for place, line in enumerate(lines) if line.startswith("  File ")]
    behind = lines[frames[-1] + 1 :] if frames else lines
    return next((line for line in behind if line and not line.startswith(" ")), lines[-1])


def _job(stage: Stage, results: Path, data: Path | None, device: str) -> Job:
    return Job(
        kind=stage.kind,
        label=stage.label,
        settings=dict(stage.settings),
        identity=stage.identity,
        key=stage.key,
        folder=stage.folder,
        parents={name: parent.folder for name, parent in stage.parents.items()},
        results=str(results),
        data=None if data is None else str(data),
        device=device,
        processes=stage.processes,
    )


def _work(job: Job) -> str | None:
    """Do a stage, in a worker. Returns None, or the traceback of what went wrong."""
    from benchmarks.environment import environment
    from benchmarks.executors import ranks
    from benchmarks.stages.context import write_json

    forget_launchers()
    results = Path(job.results)
    scratch = results / SCRATCH / f"{job.folder}.{mark()}"
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        with in_use(scratch):
            if job.processes == 1:
                do_stage(job, scratch)
            else:
                ranks.do_stage(job, scratch)
            write_json(scratch / "spec.json", {"label": job.label, "key": job.key, **job.identity})
            write_json(scratch / "environment.json", environment(job.device))
            _publish(scratch, results / job.folder)
        _resume(job).unlink(missing_ok=True)
    except Exception:  # noqa: BLE001 - whatever it is, it is this stage's alone, and it is told
        shutil.rmtree(scratch, ignore_errors=True)
        return traceback.format_exc()
    return None


def do_stage(job: Job, out: Path) -> None:
    """Do a stage in this process, into a folder of its own."""
    from importlib import import_module

    from benchmarks.stages.context import Context

    results = Path(job.results)
    context = Context(
        out=out,
        parents={name: results / folder for name, folder in job.parents.items()},
        data=None if job.data is None else Path(job.data),
        hashes=job.identity.get("data", {}),
        resume=_resume(job),
        tokens=results / TOKENS,
        device=job.device,
        progress=lambda done, total, note: say(job.folder, done, total, note),
    )
    import_module(f"benchmarks.stages.{job.kind}").run(job.settings, context)


def _resume(job: Job) -> Path:
    return _state(Path(job.results), job.key)


def _state(results: Path, key: str) -> Path:
    """Where the state of a stage's unfinished training is kept."""
    return results / RESUME / f"{key}.safetensors"


def _publish(scratch: Path, target: Path) -> None:
    """Write `DONE` and give the directory its name, in place of an older one."""
    files = sorted(path for path in scratch.rglob("*") if path.is_file())
    hashes = {path.relative_to(scratch).as_posix(): _digest(path) for path in files}
    (scratch / "DONE").write_text(json.dumps(hashes, indent=1) + "\n", encoding="utf-8")
    if os.path.lexists(target):  # a link that leads nowhere, too
        target.rename(scratch.with_suffix(".old"))
    try:
        scratch.rename(target)
    except OSError:
        # Another command did the same stage in the meantime: the content of a key is one and the same.
        if damage(target):
            raise
        shutil.rmtree(scratch, ignore_errors=True)
    _remove(scratch.with_suffix(".old"))


def _remove(path: Path) -> None:
    """Delete a directory, or what has taken its place, such as a link to where it was moved; that stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):  # where nothing can be deleted, nothing may have to be written either
            path.unlink()


def _is_inside(name: str) -> bool:
    """Does a name that was read lead to something below the folder that it stands for, as paths go?"""
    path = PurePosixPath(name)
    return name.isprintable() and not path.is_absolute() and ".." not in path.parts and path.name != ""


def _intact(path: Path, digest: str) -> bool:
    """Has a file this hash? What is no file has none: some that are not cannot be read to an end."""
    try:
        return path.is_file() and _digest(path) == digest
    except (OSError, ValueError):
        return False


def _inode(folder: Path) -> int | None:
    """What tells a directory from another that got its name later; None where there is none."""
    try:
        return folder.stat().st_ino
    except OSError:
        return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sweep(results: Path) -> None:
    """Remove what processes that are no more left half written; see `cringe.processes.left_behind`."""
    for path in (results / SCRATCH).glob("*"):
        if left_behind(path, path.suffix.removeprefix(".")):
            _remove(path)
    for path in (results / TOKENS).glob(".building-*"):
        if left_behind(path, path.name.removeprefix(".building-").rpartition("-")[0]):
            shutil.rmtree(path, ignore_errors=True)
    for path in (results / RESUME).glob("*.tmp"):
        if left_behind(path, Path(path.stem).suffix.removeprefix(".")):
            _remove(path)


def _forget_states(finished: Iterable[Stage], results: Path) -> None:
    """Remove the states of trainings that are finished.

    A worker does so itself, unless it is killed when it has just given the directory its name; and one that a command
    has lost sight of, on another machine, may keep a state of what has been done again since.
    """
    claims = Claims(results)
    for stage in finished:
        state = _state(results, stage.key)
        with suppress(OSError):  # as above
            if state.exists() and claims.take(stage.folder):  # else another command does it again
                try:
                    state.unlink(missing_ok=True)
                finally:
                    claims.release(stage.folder)
