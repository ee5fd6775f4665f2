"""Compare methods on a task under one budget and print the table: ``python -m benchmarks.run``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.errors import DataError, UsageError, UserError

if TYPE_CHECKING:
    from benchmarks.config import RunConfig
    from benchmarks.datafolder import DataSource
    from benchmarks.plan import Plan

EXAMPLES = """\
examples:
  python -m benchmarks.run --task decode --methods all
      every method of the task at tiny size, on generated data where no other is named
  python -m benchmarks.run --task decode --methods transformer cringe_single --preset cpu --data DIR --seeds 0 1 2
      two methods, three seeds, on the data sets in DIR
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
    what.add_argument("--task", nargs="+", action="extend", metavar="NAME", help="tasks, by name or alias")
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
    how.add_argument("--data", metavar="DIR", help="folder of the data sets in ParlAI's layout, or 'synthetic'")
    how.add_argument("--out", default="results/runs", metavar="DIR", help="where results go (default: %(default)s)")
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
    try:
        if options.list:
            return _list()
        return _run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


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
    from benchmarks.datafolder import check, fingerprint, resolve
    from benchmarks.plan import make_plan
    from benchmarks.tasks import registry as tasks

    configs = _configs(options)
    device = _device(options.device)
    out = Path(options.out)
    codes = [0]
    for config in configs:
        try:
            task = tasks.load(config.task)
            source = resolve(options.data, os.environ, task=task)
            if source.folder is not None:
                check(task, source.folder)
            hashes = None if source.folder is None else fingerprint(task, source.folder)
            plan = make_plan(config, fingerprint=hashes, device=device)
            if options.check:
                codes.append(_check(plan, source, out, device))
            elif options.dry_run:
                _show(plan, source, out)
            else:
                codes.append(_execute(plan, source, out, device, options))
        except DataError as error:
            print(f"error: {error}", file=sys.stderr)
            codes.append(error.exit_code)
    return max(codes)


def _configs(options: argparse.Namespace) -> list[RunConfig]:
    """One configuration a task; all errors of all of them at once."""
    from benchmarks.config import resolve
    from benchmarks.tasks import registry as tasks

    names, method_names = list(_split(options.task)), list(_split(options.methods))
    given = {"--task": names, "--methods": method_names}
    problems = [f"{option}: not given; see --list" for option, words in given.items() if not words]
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
    configs = []
    known = tasks.entries()
    aliases = {alias: name for name, entry in known.items() for alias in entry.aliases}
    for name in dict.fromkeys(known if "all" in names else (aliases.get(name, name) for name in names)):
        try:
            config = resolve(
                task=name,
                method_names=method_names,
                preset=options.preset,
                seeds=seeds or None,
                overrides=options.set,
            )
            configs.append(config)
        except UsageError as error:
            problems += str(error).split("\n")
    if problems:
        lines = "\n".join(f"  {problem}" for problem in dict.fromkeys(problems))
        raise UsageError(f"the command line and settings do not go together:\n{lines}\n  see --help and --list")
    return configs


def _split(words: Iterable[str] | None) -> Iterable[str]:
    """The names in a list option: several words, commas between them, or both."""
    return (part for word in words or () for part in word.split(",") if part)


def _device(asked: str) -> str:
    """The device kind that ``--device`` means; torch is waited for only where it could have a GPU."""
    from importlib.metadata import version

    if asked == "cpu" or (asked == "auto" and version("torch").endswith("+cpu")):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if asked == "cuda":
        raise UsageError("--device cuda: torch finds no CUDA device here; take --device cpu")
    return "cpu"


def _execute(plan: Plan, source: DataSource, out: Path, device: str, options: argparse.Namespace) -> int:
    from benchmarks.progress import Reporter
    from benchmarks.report import make_table, write_table
    from benchmarks.runner import execute
    from benchmarks.tasks import registry as tasks

    _announce(plan, source)
    jobs = options.jobs or (max(1, (os.cpu_count() or 1) // plan.config.threads) if device == "cpu" else 1)
    if source.folder is not None and any(not (out / stage.folder).exists() for stage in plan.stages):
        tasks.load(plan.config.task).load(source.folder)  # bad data are told of before anything is trained
    missing = [stage for stage in plan.stages if options.force or not (out / stage.folder).exists()]
    try:
        outcome = execute(
            plan.stages,
            out,
            data=source.folder,
            device=device,
            threads=plan.config.threads,
            jobs=jobs,
            force=options.force,
            reporter=Reporter(len(missing), sys.stderr),
        )
        table = make_table(plan, out)
        folder = write_table(plan, table, out)
    except OSError as error:
        reason = f"{error.strerror or error} ({error.filename})"
        raise UserError(
            f"cannot write results to {out}: {reason}\n  next step: name another folder with --out"
        ) from error
    print(table.to_markdown())
    print(f"written to {folder}; every row's directory is named in manifest.json there", file=sys.stderr)
    for failure in outcome.failed:
        where = f"; traceback in {failure.log}" if failure.log else ""
        print(f"failed: {failure.label}: {failure.message}{where}", file=sys.stderr)
    for label in outcome.blocked:
        print(f"not tried, for what it needs failed: {label}", file=sys.stderr)
    return 1 if outcome.failed or outcome.blocked else 0


def _announce(plan: Plan, source: DataSource) -> None:
    """Say aloud what data are used."""
    if plan.synthetic:
        why = "as asked for" if source.origin != "synthetic" else "for no data were named"
        print(f"*** GENERATED DATA, {why}: these numbers say nothing about human dialogue. ***")
        print("*** Name a folder with --data DIR or $CRINGE_DATA to use real data. ***")
    else:
        print(f"data: {source.folder} ({source.origin})", file=sys.stderr)


def _show(plan: Plan, source: DataSource, out: Path) -> None:
    _announce(plan, source)
    for stage in plan.stages:
        print(f"{'done' if (out / stage.folder).exists() else 'to do':6} {stage.folder}")


def _check(plan: Plan, source: DataSource, out: Path, device: str) -> int:
    from benchmarks.check import report

    _announce(plan, source)
    lines, code = report(plan, source, out, device)
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
