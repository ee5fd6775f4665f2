"""The data sets: what is there, getting it, checking it, generating it: ``python -m benchmarks.data``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.ending import exit_code
from benchmarks.errors import DataError, UsageError, UserError, did_you_mean

if TYPE_CHECKING:
    from benchmarks.tasks._transfer import Progress
    from benchmarks.tasks.base import Task

EXAMPLES = """\
examples:
  python -m benchmarks.data status --data DIR
      what DIR holds of every task's files, and where to get what is missing
  python -m benchmarks.data fetch --task fits --data DIR
      download the missing files of a task, as far as they are published
  python -m benchmarks.data verify --data DIR
      read every file as a run would, and compare checksums and sizes with the official release
  python -m benchmarks.data synthesize --task decode --data DIR
      write generated files in the official formats

exit codes: 0 done, 2 wrong usage, 3 data missing or wrong, or not to be had or written
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.data",
        description="Show, fetch, verify or generate the data sets that tasks read.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, sentence, where in (
        ("status", "show which files are there, and the next step for each that is not", _FOUND),
        ("fetch", "download the missing files that are published, and say how to get the others", _FOUND),
        ("verify", "read every file and compare it with the official release", _FOUND),
        ("synthesize", "write generated files in the official formats", "folder to write to; made if it is missing"),
    ):
        command = commands.add_parser(name, help=sentence, description=f"{sentence.capitalize()}.")
        command.add_argument(
            "--task", nargs="+", action="extend", metavar="NAME", help="tasks, by name or alias (default: all)"
        )
        command.add_argument("--data", metavar="DIR", required=name == "synthesize", help=where)
        if name == "synthesize":
            command.add_argument("--seed", type=_seed, default=0, metavar="N", help="default: %(default)s")
    return parser


_GENERATING = ".generating-"
"""Beginning of the name of a folder in which files are generated; the process follows."""
_FOUND = "folder of the data sets in ParlAI's layout (default: $CRINGE_DATA, or ParlAI's own data folder)"


def _seed(word: str) -> int:
    if not (word.isascii() and word.isdecimal()):
        raise argparse.ArgumentTypeError(f"not a whole number from 0 on (found {word!r})")
    return int(word)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(arguments)
    return exit_code(lambda: _carry_out(options))


def _carry_out(options: argparse.Namespace) -> int:
    commands = {"status": _status, "fetch": _fetch, "verify": _verify, "synthesize": _synthesize}
    code = commands[options.command](_asked(options), options)
    sys.stdout.flush()  # here, where a broken pipe is caught
    return code


def _complain(error: UserError) -> None:
    print(f"error: {error}", file=sys.stderr)


class _Asked(NamedTuple):
    """A task, and where its data are said to be."""

    task: Task
    data: str | None


def _asked(options: argparse.Namespace) -> list[_Asked]:
    """What ``--task`` names, with the words of `benchmarks.run`; if it was not given, all tasks."""
    from benchmarks.tasks import registry
    from benchmarks.tasks.registry import OWN_DATA

    known = registry.entries()
    aliases = {alias: name for name, entry in known.items() for alias in entry.aliases}
    words = [part for word in options.task or ["all"] for part in word.split(",") if part]
    names = [
        name for word in words for name in ([one for one in known if one != OWN_DATA] if word == "all" else [word])
    ]
    asked: dict[str, _Asked] = {}
    problems = [] if names else ["no task is named"]
    for word in names:
        name, _, folder = word.partition(":")
        name = aliases.get(name, name)
        if name not in known:
            problems.append(f"no task is called '{name}'; {did_you_mean(name, [*known, *aliases, 'all'])}")
        elif folder and name != OWN_DATA:
            problems.append(f"only {OWN_DATA} takes a folder (found '{word}'); --data names that of other tasks")
        elif name == OWN_DATA and not folder and options.data is None:
            problems.append(f"{name} holds data of your own; name their folder: {name}:DIR")
        else:
            asked[f"{name}:{folder}"] = _Asked(registry.load(name), folder or options.data)
    if problems:
        raise UsageError("--task: " + "\n  ".join(dict.fromkeys(problems)))
    return list(asked.values())


def _folder(data: str | None, task: Task | None = None) -> tuple[Path | None, str]:
    """The data folder by the rules of a run, None if there is none; and who named it."""
    from benchmarks.datafolder import SYNTHETIC, resolve

    source = resolve(data, os.environ, task=task)
    if source.folder is None and source.origin != "synthetic":
        raise UsageError(
            f"{source.origin} is '{SYNTHETIC}', data that a run makes for itself; name a folder (one of this name is "
            f"./{SYNTHETIC})"
        )
    return source.folder, source.origin


def _folder_to_write(data: str | None) -> Path:
    """The data folder, there or not."""
    from benchmarks.datafolder import SYNTHETIC

    if data is None or data == SYNTHETIC:
        folder, _ = _folder(data)
    else:
        folder = Path(os.path.expanduser(data)) if data else None  # noqa: PTH111 (Path's fails for "~nobody")
    if folder is None:
        raise UsageError("no folder is named to write to: name one with --data DIR")
    return folder


def _status(asked: Sequence[_Asked], options: argparse.Namespace) -> int:
    from benchmarks.inventory import Inspector, describe, summary

    inspectors: dict[Path | None, Inspector] = {}
    reports = []
    for task, data in asked:
        folder, origin = _folder(data, task)
        if folder is None:  # a data folder of ParlAI's that holds nothing of this task is where its files belong
            folder, origin = _folder(data)
        if folder not in inspectors:
            inspectors[folder] = Inspector(folder)
            print(f"data: {folder} ({origin})" if folder else "data: no folder is named with --data or $CRINGE_DATA")
        reports.append(inspectors[folder].task(task))
        print(f"\n{describe(reports[-1])}", flush=True)
    print("\n" + "\n".join(map(summary, reports)))
    return 0 if all(report.runs for report in reports) else DataError.exit_code


def _verify(asked: Sequence[_Asked], options: argparse.Namespace) -> int:
    from benchmarks.inventory import Inspector, summary, verdict
    from benchmarks.tasks.download import checksums, kept_archives

    inspectors: dict[Path, Inspector] = {}
    shown: set[str] = set()
    lines: list[str] = []
    good = True
    for task, data in asked:
        folder, _ = _folder(data, task)
        if folder is None:
            raise DataError(f"no folder holds data of task '{task.name}'", hint="name one with --data or $CRINGE_DATA")
        if folder not in inspectors:
            inspectors[folder] = Inspector(folder, checksums=checksums(folder))
        report = inspectors[folder].task(task)
        for line in (verdict(report, found) for found in report.files):
            if line not in shown:
                shown.add(line)
                print(line, flush=True)
        problem = report.load_problem()
        lines.append(f"{task.name}: cannot be used: {problem}" if problem else summary(report))
        good &= report.runs and report.readable and not problem
    for folder in inspectors:
        for archive, right in kept_archives(folder).items():
            print(f"{archive.name}: {'whole' if right else 'SHA-256 differs from the published one'}, not unpacked")
            good &= right
    print("\n" + "\n".join(lines))
    return 0 if good else DataError.exit_code


def _fetch(asked: Sequence[_Asked], options: argparse.Namespace) -> int:
    folders: dict[str | None, list[Task]] = {}
    for task, data in asked:
        folders.setdefault(data, []).append(task)
    return max(_fetch_into(_folder_to_write(data), tasks) for data, tasks in folders.items())


def _fetch_into(folder: Path, tasks: Sequence[Task]) -> int:
    from benchmarks.inventory import expected, is_missing, needed_to_run, next_steps
    from benchmarks.tasks.download import ARCHIVES, fetch, unpacked

    wanted = [file for task in tasks for file in expected(task.files, folder) if is_missing(folder / file.path)]
    good = True
    for archive in ARCHIVES:
        paths = [path for path in dict.fromkeys(file.path for file in wanted) if archive.may_hold(path)]
        if not paths:
            continue
        try:
            held = unpacked(archive, folder)
            if held is None or any(path in held for path in paths):
                with _progress(archive.address) as progress:
                    held = fetch(archive, folder, progress=progress)
                print(f"{archive.name}: {len(held)} files unpacked into {folder / archive.folder}", flush=True)
            for path in paths:
                if path not in held:
                    print(f"{archive.name} does not hold {path}", flush=True)
        except DataError as error:
            _complain(error)
            good = False
    left = [file for file in wanted if is_missing(folder / file.path)]
    for line in next_steps(left, folder, fetch=None) if wanted else [f"nothing is missing in {folder}"]:
        print(line)
    needed = {file.name for task in tasks for file in needed_to_run(task)}
    return DataError.exit_code if not good or any(file.name in needed for file in left) else 0


@contextmanager
def _progress(label: str) -> Iterator[Progress]:
    """A bar on a terminal, a line elsewhere."""
    print(f"fetching {label}", file=sys.stderr, flush=True)
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Bars(*columns, console=Console(file=sys.stderr), transient=True) as bars:
        bar = bars.add_task(label, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)


def _synthesize(asked: Sequence[_Asked], options: argparse.Namespace) -> int:
    for task, data in asked:
        folder = _folder_to_write(data)
        new, old = _generate(task, folder, seed=options.seed)
        also = f"; {len(old)} were there already, with the same content" if old else ""
        print(f"{task.name}: {len(new)} generated files written to {folder}{also}", flush=True)
    return 0


def _generate(task: Task, folder: Path, *, seed: int) -> tuple[list[Path], list[Path]]:
    """Write generated files of a task, all of them or none; which are new, and which were there with this content."""
    from benchmarks.datafolder import GENERATED
    from benchmarks.tasks._transfer import writing
    from benchmarks.tasks.reading import sha256
    from cringe.processes import left_behind, mark

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(f"{_GENERATING}*"):
            if left_behind(path, path.name.removeprefix(_GENERATING).rpartition("-")[0]):
                rmtree(path, ignore_errors=True)
        with TemporaryDirectory(prefix=f"{_GENERATING}{mark()}-", dir=folder) as name:
            fresh = Path(name)
            task.synthesize(fresh, seed=seed)
            paths = [path.relative_to(fresh) for path in sorted(fresh.rglob("*")) if path.is_file()]
            old = [path for path in paths if os.path.lexists(folder / path)]
            different = [path for path in old if sha256(folder / path) != sha256(fresh / path)]
            if different:
                raise DataError(
                    f"{len(different)} of the files that task '{task.name}' would generate are there with another "
                    f"content, such as {different[0]}; nothing of this task was written",
                    path=folder,
                    hint="name another folder with --data, or move them away",
                )
            new = [path for path in paths if path not in old]
            # Tables made from this folder are to say that they are of generated data.
            (folder / GENERATED).write_text(json.dumps({"seed": seed}) + "\n", encoding="utf-8")
            for path in new:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (fresh / path).replace(folder / path)
    return new, old


if __name__ == "__main__":
    sys.exit(main())
