"""Compare methods on a task under one budget and print the table: ``python -m benchmarks.run``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.carry_out import (
    Place,
    announce,
    device_kind,
    do_missing,
    find_data,
    missing,
    needed,
    require_readable,
    stopped,
    try_missing,
    writing_to,
)
from benchmarks.ending import exit_code
from benchmarks.errors import UsageError, UserError, clip
from benchmarks.run_options import parser
from benchmarks.tasks.registry import OWN_DATA
from benchmarks.time_limit import TimeLimit

if TYPE_CHECKING:
    from benchmarks.config import RunConfig
    from benchmarks.executors.ray_cluster import Cluster
    from benchmarks.plan import Plan
    from benchmarks.sweeps import Trial
    from cringe.discovery import Entry

_LONGEST_SEED = 40
"""Digits; Python reads no number of thousands."""


def main(arguments: Sequence[str] | None = None, *, clock: Callable[[], float] = time.monotonic) -> int:
    """Run the command; returns the exit code.

    Args:
        arguments: those of the process when not given.
        clock: what ``--time-limit`` is measured by, in seconds.
    """
    options = parser().parse_args(arguments)
    limit = TimeLimit(options.time_limit, clock=clock)
    return exit_code(_list if options.list else partial(_run, options, limit))


def _list() -> int:
    from benchmarks.presets import preset_entries
    from benchmarks.tasks import registry as tasks
    from cringe.methods import registry as methods
    from evaluators import registry as evaluators

    for title, module in (("tasks", tasks), ("methods", methods), ("evaluators", evaluators)):
        print(f"{title}:")
        for entry in module.entries().values():
            also = f" (also: {', '.join(entry.aliases)})" if entry.aliases else ""
            print(f"  {entry.name:17} {entry.sentence}{also}")
    print("presets:")
    for name, sentence in preset_entries().items():
        print(f"  {name:17} {sentence}")
    return 0


def _run(options: argparse.Namespace, limit: TimeLimit) -> int:
    configs = _configs(options)
    with _cluster(options, [config for config, _ in configs]) as cluster:
        device = device_kind(options.device, cluster)
        codes = [0]
        for config, data in configs:
            try:
                codes.append(_run_task(config, data, device, options, limit, cluster))
            except UserError as error:
                print(f"error: {config.task}: {error}", file=sys.stderr)
                codes.append(error.exit_code)
    return max(codes)


def _cluster(options: argparse.Namespace, configs: Sequence[RunConfig]) -> AbstractContextManager[Cluster | None]:
    """The cluster that stages are done on; it is joined, or started, when it is first needed."""
    if options.executor == "local":
        return nullcontext()
    from benchmarks.executors.ray_cluster import Cluster

    # As among processes of this machine, a stage finds room that has more threads than there are cores.
    stage = max(config.threads * config.processes for config in configs)
    cpus = max(os.cpu_count() or 1, stage * (options.jobs or 1))
    return Cluster(options.ray_address, threads=max(config.threads for config in configs), cpus=cpus)


def _run_task(
    config: RunConfig,
    data: str | None,
    device: str,
    options: argparse.Namespace,
    limit: TimeLimit,
    cluster: Cluster | None,
) -> int:
    """Do what was asked with one task; returns the exit code."""
    from benchmarks.plan import make_plan

    _, source, sources, hashes = find_data(config, data)
    make = partial(make_plan, sources=sources, fingerprint=hashes, device=device, generated=source.synthetic)
    place = Place(source, Path(options.out), device, options, limit, cluster)
    if options.check:
        return _check(config, make, place)
    if options.dry_run:
        _show(config, make, place)
        return 0
    return _execute(config, make, place)


def _configs(options: argparse.Namespace) -> list[tuple[RunConfig, str | None]]:
    """One configuration a task, and where its data are said to be; all errors of all of them at once."""
    from benchmarks.config import resolve
    from benchmarks.tasks import registry as tasks

    names, method_names = list(_split(options.task)), list(_split(options.methods))
    given = {"--task": names, "--methods": method_names}
    problems = [f"{option}: not given; see --list" for option, words in given.items() if not words]
    seeds = _plain_options(options, problems)
    configs = []
    known = tasks.entries()
    aliases = {alias: name for name, entry in known.items() for alias in entry.aliases}
    for word in dict.fromkeys(aliases.get(word, word) for word in _words(names, known)):
        name, folder = _task_and_folder(word, aliases, options, problems)
        if not name:
            continue
        try:
            config = resolve(
                task=name,
                method_names=method_names,
                preset=options.preset,
                seeds=seeds or None,
                lm_data=options.lm_data,
                shared_judge=options.judge == "shared",
                sweeps=options.sweep,
                overrides=options.set,
            )
            configs.append((config, folder or options.data))
        except UsageError as error:
            problems += str(error).split("\n")
    if problems:
        lines = "\n".join(f"  {problem}" for problem in dict.fromkeys(problems))
        raise UsageError(f"the command line and settings do not go together:\n{lines}\n  see --help and --list")
    return configs


def _plain_options(options: argparse.Namespace, problems: list[str]) -> list[int]:
    """Look at the options that need no configuration; returns the seeds."""
    try:
        options.out.encode("utf-8")
    except UnicodeEncodeError:
        problems.append(f"--out: {options.out!r} is not UTF-8; name another folder")
    if not options.out:
        problems.append("--out: is empty; name a folder, such as results/runs")
    if options.jobs is not None and options.jobs < 1:
        problems.append(f"--jobs: must be 1 or more (found {options.jobs})")
    if options.ray_address is not None and options.executor != "ray":
        problems.append(f"--ray-address {options.ray_address}: needs --executor ray")
    if options.time_limit is not None and not 0 < options.time_limit < inf:
        problems.append(f"--time-limit: must be a number of minutes above 0 (found {options.time_limit:g})")
    seeds: list[int] = []
    for word in _split(options.seeds):
        if word.isdecimal() and word.isascii() and len(word) <= _LONGEST_SEED:
            seeds.append(int(word))
        else:
            problems.append(f"--seeds: not a whole number from 0 on (found {clip(repr(word))})")
    return seeds


def _task_and_folder(
    word: str, aliases: Mapping[str, str], options: argparse.Namespace, problems: list[str]
) -> tuple[str, str]:
    """A task, and the folder of data of one's own; no name, and one problem more, where that is wrong."""
    from benchmarks.datafolder import SYNTHETIC

    name, _, folder = word.partition(":")
    name = aliases.get(name, name)
    if folder and name != OWN_DATA:
        problems.append(f"--task {word}: only {OWN_DATA} takes a folder; --data names that of other tasks")
    elif folder and options.data is not None:
        problems.append(f"--task {word}: names a folder, and --data another; leave out one of them")
    elif name == OWN_DATA and not folder and options.data is None:
        problems.append(f"--task {name}: holds data of your own; name their folder: --task {name}:DIR")
    else:
        return name, f"./{folder}" if folder == SYNTHETIC else folder  # a folder of that name, as for any other
    return "", ""


def _words(names: Iterable[str], known: Mapping[str, Entry]) -> Iterator[str]:
    """Tasks as they were named; ``all`` stands for those of the paper and its field, not for data of one's own."""
    for name in names:
        yield from (task for task in known if task != OWN_DATA) if name == "all" else (name,)


def _split(words: Iterable[str] | None) -> Iterable[str]:
    """The names in a list option: several words, commas between them, or both."""
    return (part for word in words or () for part in word.split(",") if part)


def _execute(config: RunConfig, make: Callable[..., Plan], place: Place) -> int:
    """Choose what is to be chosen, do what is missing, write and print the table.

    Returns the exit code: 0 only if nothing failed and nothing was left for want of time.
    """
    from benchmarks import sweeps
    from benchmarks.report import make_table, write_table
    from benchmarks.table_text import to_markdown

    plan = make(config)
    trials = _trials(config, make)
    if place.limit.over() and missing(sweeps.stages(trials) or plan.stages, place):
        stopped(place, f"task {config.task} was not begun")
        return 1
    announce(plan, place.source)
    require_readable(plan, place)
    with writing_to(place.out):
        code = 0
        if trials:
            outcome = try_missing(sweeps.stages(trials), config, place)
            if outcome.not_begun:
                why = "not all trials of its sweeps were tried, and nothing is chosen from a part of them"
                print(f"no table of {config.task}: {why}", file=sys.stderr)
                return 1
            code = outcome.exit_code
            chosen, records, choices = sweeps.choose(config, trials, place.out)
            plan = replace(make(chosen), trials=tuple(records), choices=tuple(choices))
        code = max(code, do_missing(plan.stages, config, place))
        table = make_table(plan, place.out)
        folder = write_table(plan, table, place.out)
    print(to_markdown(table))
    print(f"written to {folder}; every row's directory is named in manifest.json there", file=sys.stderr)
    if place.options.export is not None:
        from benchmarks.export import export_plan, tell

        for exported in export_plan(plan, place.out, Path(place.options.export)):
            tell(exported)
    return code


def _trials(config: RunConfig, make: Callable[..., Plan]) -> list[Trial]:
    """The trials of the sweeps of a configuration, if it has any."""
    from benchmarks import sweeps
    from benchmarks.tasks import registry as tasks

    return sweeps.trials(config, partial(make, columns=(tasks.load(config.task).selection,)))


def _show(config: RunConfig, make: Callable[..., Plan], place: Place) -> None:
    """Name every stage, and whether it is done, to do, or damaged."""
    from benchmarks.runner import REPAIR, damaged

    plan = _with_trials(config, make)
    announce(plan, place.source)
    if config.sweeps:
        print("first the trials of the sweeps; then the table, shown here as if they had chosen what is set now")
    todo = {stage.folder for stage in missing(plan.stages, place)}
    broken = damaged(place.out / stage.folder for stage in plan.stages if stage.folder not in todo)
    for stage in plan.stages:
        state = "to do" if stage.folder in todo else "damaged" if stage.folder in broken else "done"
        print(f"{state:6} {stage.folder}")
    if broken:
        print(f"what is damaged is refused; {REPAIR}")


def _with_trials(config: RunConfig, make: Callable[..., Plan]) -> Plan:
    """The plan of the table, and before its stages those of the trials."""
    from benchmarks import sweeps
    from benchmarks.plan import in_order

    plan = make(config)
    return replace(plan, stages=tuple(in_order([*sweeps.stages(_trials(config, make)), *plan.stages])))


def _check(config: RunConfig, make: Callable[..., Plan], place: Place) -> int:
    """Say whether it could be carried out; returns the exit code."""
    from benchmarks.check import report

    plan = _with_trials(config, make)
    announce(plan, place.source)
    elsewhere = place.cluster is not None and not place.cluster.is_local
    again = place.options.repair or place.options.force
    lines, code = report(plan, place.source, place.out, place.device, elsewhere=elsewhere, again=again)
    print("\n".join(lines))
    if place.cluster is not None:
        print(place.cluster.describe(needed(config, place.device)))
    return code


if __name__ == "__main__":
    sys.exit(main())
