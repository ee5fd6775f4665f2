"""From the scores of finished runs to tables, plots and a page: ``python -m benchmarks.report``; touches no model."""

from __future__ import annotations

import argparse
import gc
import json
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.assemble import MANIFEST, inputs, manifest
from benchmarks.carry_out import refusal
from benchmarks.ending import exit_code
from benchmarks.errors import UserError, printable
from benchmarks.plan import Plan
from benchmarks.rebuild import TABLES, Built, rebuild, safe_name
from benchmarks.table_text import files
from benchmarks.tables import Table, build_table
from benchmarks.textless import RECORDED
from benchmarks.writing import write_folder, write_whole

EXAMPLES = """\
examples:
  python -m benchmarks.report results/runs --out report
      every table of a results folder: Markdown, CSV, JSON, LaTeX, plots, costs, and a page to read it all in
  python -m benchmarks.report results/runs/tables/decode-tiny-synthetic-0123456789ab --out report --no-text
      one table, its page without the texts of data and models
  python -m benchmarks.report results/published/cpu
      what was published, again from its stored scores: results/published/cpu/report, byte for byte

exit codes: 0 done, 1 nothing could be made, 2 wrong usage
"""
DOCUMENT = "tables.tex"
"""A LaTeX document of all tables."""
_PLOT = re.compile(r"(scatter|best|splits|rounds)-.+|training|judge|sweep")
"""Names that `benchmarks.plots` gives."""


def make_table(plan: Plan, results: Path) -> Table:
    """The table of a plan, from the stages that are finished.

    Raises:
        UserError: methods did not train under the same budget.
    """
    runs, judges, meta = inputs(manifest(plan), results)
    return build_table([run for run in runs if run.round is None], judges, meta)


def write_table(plan: Plan, table: Table, results: Path) -> Path:
    """Write the table as Markdown, CSV and JSON, and what it was made from; return the folder.

    A file that holds the same bytes already is left alone; one that was damaged since is named.
    """
    folder = results / TABLES / f"{plan.name}-{plan.key[:12]}"
    lay_down(folder, plan.name, table, manifest(plan))
    return folder


def lay_down(folder: Path, stem: str, table: Table, made_from: Mapping[str, Any]) -> None:
    """Write the folder of a table, its files named ``stem``, its manifest ``made_from``; see `write_table`."""
    content = json.dumps(made_from, indent=2, sort_keys=True) + "\n"
    if damaged := write_folder(folder, _table_files(stem, table) | {MANIFEST: content}):
        _warn(f"{folder}: {', '.join(damaged)} missing or not what was written; written again")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.report",
        description="Make tables, plots and a page from the stored scores of finished runs; no model is touched.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", metavar="RUNS", help="a results folder, or the folder of one of its tables")
    parser.add_argument(
        "--out", metavar="DIR", help="where the report goes, a folder for each table (default: RUNS/report)"
    )
    parser.add_argument(
        "--no-text", action="store_true", help="leave the texts of data and models out of the page, for publishing it"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(arguments)
    with _rare_collections():
        return exit_code(partial(_report, options), then="the same command makes the report whole")


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Look for garbage in rings once in a million objects: there is hardly any, and it takes a tenth of the time."""
    before = gc.get_threshold()
    gc.set_threshold(1_000_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _report(options: argparse.Namespace) -> int:
    out = Path(options.runs, "report") if options.out is None else Path(options.out)
    built = rebuild(Path(options.runs), _warn)
    if not built:
        raise UserError(f"{options.runs}: no table could be made again; the reasons are above")
    try:
        report(built, out, text=not options.no_text and not any(RECORDED in entry.manifest for entry in built))
    except OSError as error:
        raise UserError(refusal("write to", out, error, "--out")) from error
    for entry in built:
        print(out / entry.name)
    return 0


def report(built: Sequence[Built], out: Path, *, text: bool) -> None:
    """Write the report: a folder for each table, a document of all of them, and the page.

    Args:
        built: the tables.
        out: where to; files that hold the same bytes already are left alone.
        text: show in the page what was written, by people and by models.
    """
    from benchmarks.page import write_page
    from benchmarks.plots import draw

    drawn: dict[str, list[tuple[str, str]]] = {}
    for entry in built:
        try:
            plots = draw(entry, built)
        except UserError as error:
            _warn(f"{entry.name}: without plots: {error}")
            plots = []
        drawn[entry.name] = [(plot.title, plot.svg) for plot in plots]
        _write(out / entry.name, _files(entry) | _origin(entry) | {f"{plot.name}.svg": plot.svg for plot in plots})
        _remove_other_plots(out / entry.name, {plot.name for plot in plots})
    from benchmarks.latex import document

    _write(out, {DOCUMENT: document([f"{entry.name}/{_stem(entry)}.tex" for entry in built])})
    write_page(built, drawn, out, text=text)


def _files(entry: Built) -> dict[str, str]:
    """A table and its costs, in all formats, by file name."""
    from benchmarks.costs import costs, to_csv, to_markdown
    from benchmarks.latex import to_latex
    from benchmarks.order import analyse
    from benchmarks.order_csv import to_csv as order_csv
    from benchmarks.order_text import to_markdown as order_markdown

    spent, order = costs(entry), analyse(entry)
    return _table_files(_stem(entry), entry.table) | {
        f"{_stem(entry)}.tex": to_latex(entry.table, entry.name),
        "costs.md": to_markdown(entry, spent),
        "costs.csv": to_csv(entry, spent),
        "order.md": order_markdown(entry, order),
        "order.csv": order_csv(entry, order),
    }


def _origin(entry: Built) -> dict[str, str]:
    """How a published table was made; nothing for others, whose runs say it."""
    from benchmarks.provenance import FILE, to_markdown

    return {FILE: to_markdown(entry.manifest)} if "command" in entry.manifest.get(RECORDED, ()) else {}


def _stem(entry: Built) -> str:
    """File name of a table, without ending; `benchmarks.plan.Plan.name` is the same."""
    made_from = entry.manifest
    parts = [made_from["task"], made_from["preset"], *(["synthetic"] if made_from["generated_data"] else [])]
    return safe_name("-".join(parts))


def _table_files(stem: str, table: Table) -> dict[str, str]:
    return {f"{stem}{ending}": text for ending, text in files(table).items()}


def _write(folder: Path, files: Mapping[str, str]) -> None:
    """Write texts to a folder; a file that holds the same bytes already is left alone."""
    for name, text in files.items():
        write_whole(folder / name, text)


def _remove_other_plots(folder: Path, names: Collection[str]) -> None:
    """Delete plots that an earlier report drew and this one does not, for they show other scores."""
    for path in folder.glob("*.svg"):
        if path.stem not in names and _PLOT.fullmatch(path.stem):
            path.unlink()


def _warn(sentence: str) -> None:
    print(printable(f"note: {sentence}"), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
