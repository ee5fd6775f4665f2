"""Compare two sets of results, and stop a regression: ``python -m benchmarks.compare``; touches no model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.compare_checks import Compared, compare_tables
from benchmarks.compare_replies import changed_most
from benchmarks.compare_text import failure, paragraphs, to_json
from benchmarks.ending import exit_code
from benchmarks.errors import DataError, UsageError, printable
from benchmarks.gate import LEAST_SEEDS, judge
from benchmarks.reference import load, match
from benchmarks.reference_writer import record
from benchmarks.writing import write_whole

if TYPE_CHECKING:
    from benchmarks.rebuild import Built

EXAMPLES = """\
examples:
  python -m benchmarks.compare before/runs after/runs
      the tables of two results folders; of a folder that holds several of one kind, name one: …/tables/NAME
  python -m benchmarks.compare results/reference/tiny results/runs --gate
      exit code 1 if anything is worse than the reference beyond its margin, and significantly so
  python -m benchmarks.compare results/runs --record results/reference/tiny
      make these runs the reference

exit codes: 0 done, 1 the gate failed, as where NEW is not whole, 2 wrong usage or not comparable,
3 results missing or damaged
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare",
        description="Compare two sets of results, cell by cell; optionally fail where the new one is worse.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("old", metavar="OLD", type=Path, help="a results folder, a table's folder or a reference")
    parser.add_argument("new", metavar="NEW", type=Path, nargs="?", help="the same, of what may have become worse")
    parser.add_argument("--gate", action="store_true", help="exit with 1 if NEW is worse than OLD")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all that is said, but no text of replies")
    parser.add_argument(
        "--samples", metavar="N", type=int, default=5, help="replies to show a column (default: %(default)s)"
    )
    parser.add_argument("--no-text", action="store_true", help="show scores of these replies, not what they say")
    parser.add_argument("--record", metavar="DIR", type=Path, help="instead: record OLD as a reference in DIR")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(arguments)
    return exit_code(partial(_carry_out, options), then="the same command does it again")


def _carry_out(options: argparse.Namespace) -> int:
    try:
        return _compare(options) if options.record is None else _record(options)
    except BrokenPipeError:
        raise
    except OSError as error:
        _tell(f"error: cannot read or write: {error.strerror or error} ({error.filename})")
        return 1


def _record(options: argparse.Namespace) -> int:
    if options.new is not None or options.gate or options.json is not None:
        raise UsageError("--record takes one results folder, and nothing else")
    for folder in record(options.old, options.record, _warn):
        print(printable(f"recorded {folder}"))
    return 0


def _warn(sentence: str) -> None:
    _tell(f"note: {sentence}")


def _tell(text: str) -> None:
    """Say something that may hold a path from the command line."""
    print(printable(text), file=sys.stderr)


def _compare(options: argparse.Namespace) -> int:
    if options.new is None:
        raise UsageError("NEW: not given; see --help")
    if options.samples < 0:
        raise UsageError(f"--samples: must be 0 or more (found {options.samples})")
    found = match(_load_old(options), load(options.new, _warn), _warn)
    compared = [compare_tables(str(key), old, new) for key, old, new in found.pairs]
    if options.gate:
        _require_comparable(compared)
    problems = [f"{name}: no table in NEW" for name in found.only_old]
    problems += [f"{one.name}: {problem}" for one in compared for problem in one.problems]
    verdicts = iter(judge([check for one in compared for check in one.checks]))
    judged = [(one, [next(verdicts) for _ in one.checks]) for one in compared]
    failures = problems + [
        failure(check)
        for one, words in judged
        for check, said in zip(one.checks, words, strict=True)
        if said.word == "fails"
    ]
    for one, words in judged:
        print("\n\n".join(paragraphs(one, words)) + "\n")
        for text in changed_most(one, options.samples, text=not options.no_text):
            print(text + "\n")
    for name in found.only_old:
        print(f"{name}: only OLD has it.")
    for name in found.only_new:
        print(f"{name}: only NEW has it.")
    if options.json is not None:
        write_whole(options.json, to_json(judged, found.only_old, found.only_new, failures if options.gate else None))
    if options.gate:
        for failed in failures:
            print(f"failed: {failed}")
        print(f"gate: FAILED ({len(failures)})" if failures else "gate: passed")
    return 1 if options.gate and failures else 0


def _load_old(options: argparse.Namespace) -> list[Built]:
    """The tables of OLD. For the gate they must be whole: what is missing on this side would not be looked at."""
    said: list[str] = []
    tables = load(options.old, said.append if options.gate else _warn)
    if said:
        raise DataError(
            "must be whole for the gate:\n  " + "\n  ".join(said),
            path=options.old,
            hint="restore it, record it again, or repeat its run with --repair",
        )
    return tables


def _require_comparable(compared: Iterable[Compared]) -> None:
    """Refuse to gate what is not the same but for the code."""
    problems = [f"{one.name}: {sentence}" for one in compared for sentence in one.unlike]
    for one in compared:
        seeds = {name: len(runs) for name, runs in one.old.runs.items() if runs and runs[0].kind == "method"}
        few = [name for name, count in seeds.items() if count < LEAST_SEEDS]
        if few:
            problems.append(f"{one.name}: {', '.join(few)} of OLD has fewer than {LEAST_SEEDS} seeds.")
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise UsageError(
            f"the gate compares code, all else being equal:\n{lines}\n"
            "  next step: run NEW with the settings and data of OLD, or record the reference again"
        )


if __name__ == "__main__":
    sys.exit(main())
