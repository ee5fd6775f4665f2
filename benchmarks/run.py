"""Compare methods on a task under one budget and print the table: ``python -m benchmarks.run``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.carry_out import (
    Place,
    announce,
    device_kind,
    do_missing,
    require_readable,
    require_whole_shares,
    writing_to,
)
from benchmarks.ending import exit_code
from benchmarks.errors import UsageError, UserError
from benchmarks.tasks.registry import OWN_DATA

if TYPE_CHECKING:
    from benchmarks.config import RunConfig
    from benchmarks.datafolder import DataSource
    from benchmarks.plan import Plan
    from cringe.discovery import Entry

EXAMPLES = """\
examples:
  python -m benchmarks.run --task decode --methods all
      every method of the task at tiny size, on generated data where no other is named
  python -m benchmarks.run --task decode --methods transformer cringe_single --preset cpu --data DIR --seeds 0 1 2
      two methods, three seeds, on the data sets in DIR
  python -m benchmarks.run --task jsonl:DIR --methods all
      on replies of your own, each with a context and a label
  python -m benchmarks.run --task decode --methods all --set training.updates=100 cringe_single.alpha=2
      other settings

exit codes: 0 done, 1 a run failed, 2 wrong usage, 3 data missing or wrong
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run",
        description="Compare methods on a task under one budget and print the table.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_argument_group("what is compared")
    what.add_argument(
        "--task",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="tasks, by name or alias; 'all'; jsonl:DIR for data of your own",
    )
    what.add_argument(
        "--methods",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="methods, by name or alias; 'all' are those that the task declares",
    )
    what.add_argument("--seeds", nargs="+", action="extend", metavar="N", help="seeds, instead of the preset's")
    how = parser.add_argument_group("how")
    how.add_argument(
        "--preset", default="tiny", metavar="NAME", help="tiny (default), cpu, small, paper, or a YAML file"
    )
    how.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="settings over the preset's"
    )
    how.add_argument(
        "--sweep",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUES",
        help="choose a method's setting on validation, such as cringe.alpha=0.5,1,2,5",
    )
    how.add_argument("--data", metavar="DIR", help="folder of the data sets in ParlAI's layout, or 'synthetic'")
    how.add_argument(
        "--lm-data",
        metavar="NAME",
        help="unlabelled dialogue instead of the task's own: parlai:TEACHER or hf:NAME",
    )
    how.add_argument(
        "--judge",
        default="independent",
        choices=["independent", "shared"],
        help="shared: the guide that methods learn from judges them, too, as in the paper; its cells are marked",
    )
    how.add_argument("--out", default="results/runs", metavar="DIR", help="where results go (default: %(default)s)")
    how.add_argument("--export", metavar="DIR", help="also write every trained model there, for transformers to load")
    how.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    how.add_argument("--jobs", type=int, metavar="N", help="stages side by side (default: as many as fit the cores)")
    how.add_argument("--force", action="store_true", help="do again what is done")
    instead = parser.add_argument_group("instead of running")
    instead.add_argument("--list", action="store_true", help="show tasks, methods, evaluators and presets")
    instead.add_argument("--dry-run", action="store_true", help="show what would be done")
    instead.add_argument("--check", action="store_true", help="check configuration, data, disk and device")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(arguments)
    return exit_code(_list if options.list else partial(_run, options))


def _list() -> int:
    from benchmarks.presets import preset_entries
    from benchmarks.tasks import registry as tasks
    from cringe.methods import registry as methods
    from evaluators import registry as evaluators

    for title, module in (("tasks", tasks), ("methods", methods), ("evaluators", evaluators)):
        print(f"{title}:")
        for entry in module.entries().values():
            also = f" (also: {', '.join(entry.aliases)})" if entry.aliases else ""
            print(f"  {entry.name:15} {entry.sentence}{also}")
    print("presets:")
    for name, sentence in preset_entries().items():
        print(f"  {name:15} {sentence}")
    return 0


def _run(options: argparse.Namespace) -> int:
    from benchmarks.config import with_lm_data
    from benchmarks.datafolder import check, choose_sources, fingerprint, left_out, resolve
    from benchmarks.plan import make_plan
    from benchmarks.tasks import registry as tasks

    configs = _configs(options)
    device = device_kind(options.device)
    out = Path(options.out)
    codes = [0]
    for config, data in configs:
        try:
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
            make = partial(make_plan, sources=sources, fingerprint=hashes, device=device, generated=source.synthetic)
            place = Place(source, out, device, options)
            if options.check:
                codes.append(_check(make(config), source, out, device))
            elif options.dry_run:
                _show(config, make, place)
            else:
                codes.append(_execute(config, make, place))
        except UserError as error:
            print(f"error: {config.task}: {error}", file=sys.stderr)
            codes.append(error.exit_code)
    return max(codes)


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
    seeds: list[int] = []
    for word in _split(options.seeds):
        if word.isdecimal() and word.isascii():
            seeds.append(int(word))
        else:
            problems.append(f"--seeds: not a whole number from 0 on (found {word!r})")
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
    """Choose what is to be chosen, do what is missing, write and print the table."""
    from benchmarks import sweeps
    from benchmarks.report import make_table, write_table
    from benchmarks.table_text import to_markdown
    from benchmarks.tasks import registry as tasks

    plan = make(config)
    announce(plan, place.source)
    require_readable(plan, place)
    with writing_to(place.out):
        code = 0
        if config.sweeps:
            selection = (tasks.load(config.task).selection,)
            trials = sweeps.trials(config, partial(make, columns=selection))
            code = do_missing(sweeps.stages(trials), config, place)
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


def _show(config: RunConfig, make: Callable[..., Plan], place: Place) -> None:
    """Name every stage, and whether it is done."""
    from benchmarks import sweeps
    from benchmarks.plan import in_order
    from benchmarks.tasks import registry as tasks

    plan = make(config)
    announce(plan, place.source)
    stages = list(plan.stages)
    if config.sweeps:
        print("first the trials of the sweeps; then the table, shown here as if they had chosen what is set now")
        selection = (tasks.load(config.task).selection,)
        stages = list(in_order([*sweeps.stages(sweeps.trials(config, partial(make, columns=selection))), *stages]))
    for stage in stages:
        print(f"{'done' if (place.out / stage.folder).exists() else 'to do':6} {stage.folder}")


def _check(plan: Plan, source: DataSource, out: Path, device: str) -> int:
    from benchmarks.check import report

    announce(plan, source)
    lines, code = report(plan, source, out, device)
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
