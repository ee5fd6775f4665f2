"""Carrying out a plan from a command line: on which device, what is said of the data, and what becomes of failures."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.errors import UsageError, UserError
from benchmarks.stopped import FULL
from benchmarks.time_limit import NO_LIMIT, TimeLimit, first_few

if TYPE_CHECKING:
    from benchmarks.config import RunConfig
    from benchmarks.datafolder import DataSource
    from benchmarks.executors.pool import Workers
    from benchmarks.executors.ray_cluster import Cluster, Need
    from benchmarks.plan import Plan, Stage
    from benchmarks.progress import Reporter
    from benchmarks.runner import Outcome
    from benchmarks.tasks.base import Source, Task


class Place(NamedTuple):
    """Where and how a plan is carried out."""

    source: DataSource
    out: Path
    device: str
    options: argparse.Namespace
    limit: TimeLimit = NO_LIMIT
    cluster: Cluster | None = None
    """Where stages are done, instead of this machine."""


def require_whole_shares(config: RunConfig, sources: Sequence[Source]) -> None:
    """A batch must hold whole shares of the sources that were found; which these are depends on the data."""
    from benchmarks.config import share_problems

    problems = share_problems(config, sources)
    if problems:
        names = ", ".join(source.name for source in sources)
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise UsageError(
            f"task '{config.task}' trains on {names}, which the batches cannot be shared among:\n{lines}\n"
            "  next step: set the batch sizes, or name the sources to train on, such as --set 'sources=[…]'"
        )


class Found(NamedTuple):
    """The data that a configuration is carried out on."""

    task: Task
    source: DataSource
    sources: tuple[Source, ...]
    hashes: Mapping[str, str] | None
    """SHA-256 by file; None where the data are generated."""


def find_data(config: RunConfig, data: str | None) -> Found:
    """Find the data of a configuration, and say what of them it leaves out.

    Args:
        config: whose task, sources and batches they must go together with.
        data: where they are said to be.

    Raises:
        UserError: they are missing or wrong, or batches cannot be shared among them.
    """
    from benchmarks.config import with_lm_data
    from benchmarks.datafolder import check, choose_sources, fingerprint, left_out, resolve
    from benchmarks.tasks import registry as tasks

    task = tasks.load(config.task)
    source = resolve(data, os.environ, task=task)
    sources = with_lm_data(choose_sources(task, source.folder, config.sources), config.lm_data)
    hashes = None
    if source.folder is not None:
        check(task, source.folder, sources)
        hashes = fingerprint(task, source.folder, sources)
        for sentence in left_out(task, source.folder, sources):
            print(f"note: {config.task}: {sentence}", file=sys.stderr)
    require_whole_shares(config, sources)
    return Found(task, source, tuple(sources), hashes)


def device_kind(asked: str, cluster: Cluster | None = None) -> str:
    """The device kind that ``--device`` means; torch is waited for only where it could have a GPU.

    Args:
        asked: ``auto``, ``cpu`` or ``cuda``.
        cluster: its machines have the GPUs or have none, whatever this one has.
    """
    from importlib.metadata import version

    if cluster is not None and asked != "cpu" and not cluster.is_local:
        if cluster.has_gpus():
            return "cuda"
        if asked == "cuda":
            raise UsageError("--device cuda: no machine of the Ray cluster has a GPU; take --device cpu")
        return "cpu"
    if asked == "cpu" or (asked == "auto" and version("torch").endswith("+cpu")):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if asked == "cuda":
        raise UsageError("--device cuda: torch finds no CUDA device here; take --device cpu")
    return "cpu"


def gpu_names() -> list[str]:
    """The GPUs that the command may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return named[:count] or [str(index) for index in range(count)]


def too_few(gpus: Sequence[str], processes: int) -> str:
    """What to say where a stage has more processes than there are GPUs; empty where it has not."""
    if len(gpus) >= processes:
        return ""
    there = f"there {'is' if len(gpus) == 1 else 'are'} {len(gpus)}"
    return f"processes: each of the {processes} takes a GPU of its own, and {there}; set fewer with --set processes=N"


def announce(plan: Plan, source: DataSource) -> None:
    """Say aloud what data are used."""
    if plan.synthetic:
        why = "as asked for" if source.origin != "synthetic" else "for no data were named"
        if source.folder is not None:
            why = f"in {source.folder}"
        print(f"*** GENERATED DATA, {why}: these numbers say nothing about human dialogue. ***")
        print("*** Name a folder with --data DIR or $CRINGE_DATA to use real data. ***")
    else:
        print(f"data: {source.folder} ({source.origin})", file=sys.stderr)


def require_readable(plan: Plan, place: Place) -> None:
    """Bad data are told of before anything is trained."""
    from benchmarks.tasks import registry as tasks
    from benchmarks.tasks.base import LM_DATA

    folder = place.source.folder
    if folder is not None and missing(plan.stages, place):
        tasks.load(plan.config.task).load(folder, [part.name for part in plan.sources if part != LM_DATA])


def missing(stages: Sequence[Stage], place: Place) -> list[Stage]:
    """The stages that are to be done."""
    from benchmarks.runner import damage

    options = place.options
    folders = [place.out / stage.folder for stage in stages]
    return [
        stage
        for stage, folder in zip(stages, folders, strict=True)
        if options.force or not folder.exists() or (options.repair and damage(folder))
    ]


def do_missing(stages: Sequence[Stage], config: RunConfig, place: Place) -> int:
    """Do what is missing of some stages, and say what is not done; returns the exit code."""
    return try_missing(stages, config, place).exit_code


def try_missing(stages: Sequence[Stage], config: RunConfig, place: Place) -> Outcome:
    """Do what is missing of some stages, and say what failed and what there was no time for."""
    from benchmarks.progress import Reporter
    from benchmarks.runner import execute

    options = place.options
    gpus = gpu_names() if place.device == "cuda" and place.cluster is None else []
    todo = missing(stages, place)
    processes = max((stage.processes for stage in todo), default=1)
    if place.device == "cuda" and place.cluster is None and (problem := too_few(gpus, processes)):
        raise UsageError(problem)
    devices = len(gpus) if place.device == "cuda" else (os.cpu_count() or 1) // config.threads
    reporter = Reporter(len(todo), sys.stderr)
    outcome = execute(
        stages,
        place.out,
        data=place.source.folder,
        device=place.device,
        threads=config.threads,
        jobs=options.jobs or max(1, devices // processes),
        force=options.force,
        repair=options.repair,
        reporter=reporter,
        gpus=gpus,
        limit=place.limit,
        workers=_elsewhere(config, place, reporter),
    )
    for failure in outcome.failed:
        where = f"; traceback in {failure.log}" if failure.log else ""
        print(f"failed: {failure.label}: {failure.message}{where}", file=sys.stderr)
    for label in outcome.blocked:
        print(f"not tried, for what it needs failed: {label}", file=sys.stderr)
    if outcome.not_begun:
        count = f"{len(outcome.not_begun)} stage{'s were' if len(outcome.not_begun) > 1 else ' was'}"
        stopped(place, f"{count} not begun: {first_few(outcome.not_begun)}")
    return outcome


def needed(config: RunConfig, device: str) -> Need:
    """What a stage asks of a cluster at most: some are done by one process whatever was set."""
    from benchmarks.executors.ray_cluster import Need

    return Need(threads=config.threads, gpu=device == "cuda", processes=config.processes)


def _elsewhere(config: RunConfig, place: Place, reporter: Reporter) -> Callable[[], Workers] | None:
    """What makes the workers of a cluster; None where stages are done on this machine."""
    if place.cluster is None:
        return None
    need = needed(config, place.device)
    return partial(place.cluster.workers, need, place.options.jobs, place.source.folder, place.out, reporter)


def stopped(place: Place, what: str) -> None:
    """Say that the time limit ended the work, of what, and how to go on."""
    same = "the same command without --force" if place.options.force else "the same command"
    print(f"{place.limit} is over: {what}; {same} goes on from here", file=sys.stderr)


@contextmanager
def writing_to(out: Path) -> Iterator[None]:
    """Turn what the disk refuses into a sentence."""
    try:
        yield
    except OSError as error:
        raise UserError(refusal("write results to", out, error, "--out")) from error


def refusal(what: str, folder: Path, error: OSError, option: str = "") -> str:
    """What to say where the disk refuses: which folder, why, and the next step."""
    where = f" ({error.filename})" if error.filename is not None else ""
    step = f"name another folder{f' with {option}' if option else ''}"
    if error.errno in FULL:
        step = f"free some space, or {step}; the same command goes on from here"
    return f"cannot {what} {folder}: {error.strerror or error}{where}\n  next step: {step}"
