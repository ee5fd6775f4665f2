"""Judge replies, or a model, that nobody trained here, beside floor and ceiling: ``python -m benchmarks.score``."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import carry_out
from benchmarks.ending import exit_code
from benchmarks.errors import DataError, UsageError, UserError, clip, did_you_mean
from benchmarks.tasks.registry import OWN_DATA

if TYPE_CHECKING:
    from benchmarks.config import RunConfig
    from benchmarks.plan import Plan
    from benchmarks.scoring import GivenModel, GivenReplies
    from benchmarks.tasks.base import Source, Task
    from cringe.data import Example

RESERVED = ("constant", "random", "gold")
"""Names of rows that are floor or ceiling."""
JUDGES = ("judge", "guide", "reference")
"""Kinds of stages that train what judges."""
LONGEST = 64
"""Characters of the name of a row. Ours: names of files hold two such and more, and may have 255 on most disks."""
EXAMPLES = """\
examples:
  python -m benchmarks.score predictions.jsonl --task decode --data DIR
      replies to prompts of the task, one {"uid": …, "reply": …} a line; or {"context": […], "reply": …} to your own
  python -m benchmarks.score facebook/blenderbot-400M-distill --task decode --data DIR
      a model from the hub, or from a folder: weights in safetensors or GGUF
  python -m benchmarks.score results/runs/decode-cringe_single-s0-train-0123456789ab --task decode --data DIR
      a model that a run trained

exit codes: 0 done, 1 a stage failed, 2 wrong usage, 3 data missing or wrong
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.score",
        description="Judge replies or a model as the rows of a table are judged. Nothing is trained but what judges.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "what",
        metavar="PREDICTIONS.jsonl|MODEL",
        help="a file of replies; or a model: a folder, a GGUF file, a hub id, or the directory of a training",
    )
    parser.add_argument(
        "--task", required=True, metavar="NAME", help="by name or alias; jsonl:DIR for data of your own"
    )
    parser.add_argument("--name", metavar="ROW", help="name of the row (default: that of the file or the model)")
    parser.add_argument(
        "--decoding",
        metavar="NAME",
        help="of a model: this decoding of the preset alone; of replies: those of this decoding alone, or, where their "
        "file names none, how they were decoded",
    )
    parser.add_argument(
        "--model",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="of a pretrained one: revision, turn_separator, max_source, max_target, documents, max_document",
    )
    same = parser.add_argument_group("as for the table that the numbers are compared with (see benchmarks.run)")
    same.add_argument("--preset", default="tiny", metavar="NAME")
    same.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    same.add_argument("--data", metavar="DIR")
    same.add_argument("--lm-data", metavar="NAME")
    same.add_argument("--judge", default="independent", choices=["independent", "shared"])
    same.add_argument("--out", default="results/runs", metavar="DIR", help="judges are looked for here (%(default)s)")
    same.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    same.add_argument("--jobs", type=int, metavar="N")
    same.add_argument("--repair", action="store_true", help="do again what is damaged: deleted, cut off or changed")
    parser.set_defaults(force=False)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(arguments)
    return exit_code(lambda: _score(options))


class _Setting(NamedTuple):
    """What a plan is made from, but for the row."""

    config: RunConfig
    task: Task
    sources: tuple[Source, ...]
    hashes: Mapping[str, str] | None
    place: carry_out.Place


def _score(options: argparse.Namespace) -> int:
    from benchmarks.scoring import GivenPlanner

    if options.jobs is not None and options.jobs < 1:
        raise UsageError(f"--jobs: must be 1 or more (found {options.jobs})")
    path = Path(options.what)
    is_file = path.suffix == ".jsonl" or (path.is_file() and path.suffix != ".gguf")
    name = _row_name(options.name, path.stem if is_file else None)
    setting = _setting(options)
    place = setting.place
    given: GivenReplies | GivenModel
    with carry_out.writing_to(place.out):
        if is_file:
            given = _replies(path, name or "", options, setting)
        else:
            given = _model(options, name, setting)
            # The seed of a table is that of its models; here there is one.
            setting = setting._replace(config=setting.config.model_copy(update={"seeds": (given.seed,)}))
            if options.decoding:
                setting = setting._replace(config=_only(setting.config, options.decoding))
        planner = GivenPlanner(setting.config, setting.sources, setting.hashes, place.device, given)
        plan = planner.plan(generated=place.source.synthetic)
        if not plan.columns:
            problem = f"there is nothing to measure: task '{setting.task.name}' compares replies with gold ones"
            raise DataError(problem, path=path, hint="give the records a 'gold' reply")
        carry_out.announce(plan, place.source)
        _announce_training(plan, place.out)
        code = carry_out.do_missing(plan.stages, setting.config, place)
        folder = _write_table(plan, given, place.out)
    print(f"written to {folder}; every row's directory is named in manifest.json there", file=sys.stderr)
    return code


def _announce_training(plan: Plan, out: Path) -> None:
    """Say which judges are trained first because none in the results folder fits, and which there look as if."""
    missing = [stage for stage in plan.stages if stage.kind in JUDGES and not (out / stage.folder).exists()]
    if not missing:
        return
    alike = [
        path
        for stage in missing
        for path in out.glob(f"{stage.label}-*")
        if re.fullmatch(rf"{re.escape(stage.label)}-[0-9a-f]{{12}}", path.name)
    ]
    said = f"note: trained first, for {out} has none that fits: {', '.join(stage.folder for stage in missing)}"
    if alike:
        names = ", ".join(sorted(path.name for path in alike))
        said += f"; {names} there came of other code, packages, settings or data"
    print(said, file=sys.stderr)


def _row_name(asked: str | None, usual: str | None) -> str | None:
    """The row's name, which becomes a part of names of files."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", usual)[:LONGEST] if asked is None and usual is not None else asked
    if name is not None and not re.fullmatch(rf"[A-Za-z0-9_][A-Za-z0-9._-]{{0,{LONGEST - 1}}}", name):
        raise UsageError(f"--name: takes up to {LONGEST} letters, digits, '.', '-' and '_' (found {clip(repr(name))})")
    if name in RESERVED:
        raise UsageError(f"'{name}' is the name of another row of the table; give this one a name with --name")
    return name


def _setting(options: argparse.Namespace) -> _Setting:
    """Configuration and data, found as `benchmarks.run` finds them."""
    from benchmarks.config import find, resolve
    from benchmarks.tasks import registry as tasks

    word, _, folder = options.task.partition(":")
    problems: list[str] = []
    word = find(word, tasks.entries(), "task", problems)
    if problems:
        raise UsageError(f"--task: {problems[0]}")
    if folder and word != OWN_DATA:
        raise UsageError(f"--task {options.task}: only {OWN_DATA} takes a folder; --data names that of others")
    if word == OWN_DATA and not folder and options.data is None:
        raise UsageError(f"--task {word}: holds data of your own; name their folder: --task {word}:DIR")
    config = resolve(
        task=word,
        method_names=(),
        preset=options.preset,
        seeds=(0,),
        lm_data=options.lm_data,
        shared_judge=options.judge == "shared",
        overrides=options.set,
    )
    task, source, sources, hashes = carry_out.find_data(config, folder or options.data)
    place = carry_out.Place(source, Path(options.out), carry_out.device_kind(options.device), options)
    return _Setting(config, task, sources, hashes, place)


def _replies(path: Path, name: str, options: argparse.Namespace, setting: _Setting) -> GivenReplies:
    """The row of a file, which is read to its end before anything is done."""
    from benchmarks.scoring import given_replies
    from benchmarks.stages.context import choose_prompts
    from benchmarks.stages.given import read_given

    if options.model:
        raise UsageError("--model: says how a model is read, and a file of replies was given")
    _require_content(path)
    known = _prompts(setting)
    asked = {prompts: choose_prompts(known[prompts], setting.config.prompts) for prompts in setting.task.prompt_sets()}
    given = read_given(path, known, asked)
    found = given_replies(given, path, name=name, config=setting.config, asked=asked, only=options.decoding)
    for note in found.notes[1:]:
        print(f"note: {note}", file=sys.stderr)
    return found


def _require_content(path: Path) -> None:
    """An empty file of one's own cannot be had again from where the data are published."""
    if path.is_file():
        with path.open("rb") as lines:
            if not any(line.strip() for line in lines):
                hint = 'write a record a line into it, such as {"uid": "…", "reply": "…"}'
                raise DataError("the file is empty", path=path, hint=hint)


def _prompts(setting: _Setting) -> Mapping[str, Sequence[Example]]:
    """All prompts of the task, by set; data that are to be generated are generated first."""
    from benchmarks.plan import make_plan
    from benchmarks.tasks.base import LM_DATA

    place = setting.place
    folder = place.source.folder
    if folder is None:
        plan = make_plan(setting.config, sources=setting.sources, fingerprint=None, device=place.device)
        generated = [stage for stage in plan.stages if stage.kind == "synthesize"]
        if carry_out.do_missing(generated, setting.config, place):
            raise UserError("the data could not be generated; see the failure above")
        folder = place.out / generated[0].folder
    names = [source.name for source in setting.sources if source != LM_DATA]
    return setting.task.load(folder, names).prompts


def _model(options: argparse.Namespace, name: str | None, setting: _Setting) -> GivenModel:
    """The row of a model."""
    from benchmarks.pretrained import pretrained_model
    from benchmarks.scoring import trained_model

    folder = Path(options.what)
    if not (folder / "backbone.json").is_file():
        found = pretrained_model(options.what, options.model, name=name, config=setting.config)
    elif options.model:
        raise UsageError("--model: says how a pretrained model is read; that of a run brings its settings along")
    else:
        found = trained_model(folder, name=name, config=setting.config)
    _row_name(found.name, None)
    return found


def _only(config: RunConfig, decoding: str) -> RunConfig:
    """One decoding of the preset alone."""
    if decoding not in config.decoding:
        raise UsageError(f"--decoding {decoding}: not in the preset; {did_you_mean(decoding, config.decoding)}")
    return config.model_copy(update={"decoding": {decoding: config.decoding[decoding]}})


def _write_table(plan: Plan, given: GivenReplies | GivenModel, out: Path) -> Path:
    """Make the table, print it, and write it as a run writes its own; returns the folder."""
    from benchmarks.assemble import inputs
    from benchmarks.rebuild import TABLES
    from benchmarks.report import lay_down
    from benchmarks.scoring import given_manifest
    from benchmarks.table_text import to_markdown
    from benchmarks.tables import build_table

    made_from = given_manifest(plan, given)
    table = build_table(*inputs(made_from, out))
    stem = f"{plan.name}-{given.name}"
    folder = out / TABLES / f"{stem}-{plan.key[:12]}"
    lay_down(folder, stem, table, made_from)
    print(to_markdown(table))
    return folder


if __name__ == "__main__":
    sys.exit(main())
