"""Whole commands in processes of their own: what a grid costs, what a second job saves, and how long one waits."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks.errors import UserError
from benchmarks.speed.rows import Row, Side, Target, once, take_turns
from benchmarks.speed.setting import Setting, say

METHODS = ("transformer", "unlikelihood", "cringe_single", "fudge")
"""Three trainings; fudge decodes the model of the first."""
PRESET = """\
seeds: [{seeds}]
threads: 1
prompts: 16
backbone:
  {{kind: scratch, vocabulary: 1000, width: 64, encoder_layers: 1, decoder_layers: 1, heads: 4, feedforward: 128,
   max_source: 48, max_target: 24}}
warmup: {{updates: 20, batch_size: 32, learning_rate: 0.01, warmup_updates: 2}}
training: {{updates: {updates}, batch_size: 32, learning_rate: 0.005, warmup_updates: 2}}
decoding:
  beam: {{strategy: beam, beams: 4, min_new_tokens: 8, max_new_tokens: 12, no_repeat_ngram: 3, no_context_ngram: 3}}
judge: {{kind: linear}}
guide: {{epochs: 1, width: 16, heads: 2, feedforward: 16}}
"""
GRID = 1.05
JOBS = 1.4
REPORT_SECONDS, AGAIN_SECONDS, HELP_SECONDS = 10.0, 5.0, 0.5
_DONE = re.compile(r"^\[\d+/\d+\] (?P<label>\S+): done in (?P<seconds>[\d.]+) s$", re.MULTILINE)
_TRAIN = re.compile(r"-(?P<method>\w+)-(?P<rest>s\d+-train)$")


class Stage(NamedTuple):
    """A stage that a command has done, as it said."""

    label: str
    seconds: float


class Grid:
    """A tiny grid on generated data, in a folder of its own.

    Args:
        folder: where its preset, its data and its results go.
        brief: train hardly at all.
    """

    def __init__(self, folder: Path, *, brief: bool) -> None:
        from benchmarks.tasks import synthetic

        self._folder = folder
        self._runs = 0
        self.stages: list[tuple[Stage, ...]] = []
        """What each run with one job has done."""
        preset = PRESET.format(seeds="0" if brief else "0, 1", updates=5 if brief else 120)
        (folder / "micro.yaml").write_text(preset, encoding="utf-8")
        synthetic.write_convai2(folder / "data", seed=1, train_dialogues=60, valid_dialogues=6)
        synthetic.write_decode(folder / "data", seed=1, train=300, dev=60, test=60)

    @property
    def latest(self) -> Path:
        """Results of the last run."""
        return self._folder / f"runs-{self._runs}"

    def fresh(self, jobs: int) -> float:
        """Do all of it in a new folder."""
        self._runs += 1
        said = self.again(jobs)
        found = tuple(Stage(match["label"], float(match["seconds"])) for match in _DONE.finditer(said))
        if jobs == 1:
            self.stages.append(found)
        return 1.0

    def again(self, jobs: int = 1, *more: str) -> str:
        """The same command, which finds done what is done; returns what it says beside its table."""
        return run_command(
            "benchmarks.run",
            *("--task", "decode", "--methods", *METHODS, "--preset", "micro.yaml", "--data", "data"),
            *("--device", "cpu", "--out", str(self.latest), "--jobs", str(jobs), *more),
            folder=self._folder,
        )


def run_command(module: str, *arguments: str, folder: Path) -> str:
    """Run one of our commands; returns what it wrote to standard error.

    Raises:
        UserError: it failed.
    """
    import benchmarks

    paths = [str(Path(benchmarks.__file__).parents[1]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UserError(f"python -m {module} {' '.join(arguments)}: exit code {done.returncode}: {done.stderr[-800:]}")
    return done.stderr


def measure(setting: Setting, wanted: Sequence[str]) -> Iterator[Row]:
    """The rows of the measures among ``grid``, ``jobs`` and ``commands`` that are wanted."""
    with TemporaryDirectory(prefix="speed-") as name:
        grid = Grid(Path(name), brief=setting.brief)
        grid.again(1, "--dry-run")  # compiles what has never been imported
        say("grid")
        if "jobs" in wanted or "grid" in wanted:
            yield from _grid_and_jobs(grid, setting, wanted)
        if "commands" in wanted:
            if not grid.stages:
                grid.fresh(1)
            yield from _commands(grid, setting, Path(name))


def _grid_and_jobs(grid: Grid, setting: Setting, wanted: Sequence[str]) -> Iterator[Row]:
    about = f"{len(METHODS)} methods{'' if setting.brief else ', 2 seeds'}, 1 thread a stage, {os.cpu_count()} cores"
    sides = {"--jobs 1": Side(lambda: grid.fresh(1))}
    if "jobs" in wanted:
        sides["--jobs 2"] = Side(lambda: grid.fresh(2))
    turns = take_turns(sides, setting.repeats(3), warm_up=0)
    if "grid" in wanted:
        totals = turns.seconds["--jobs 1"]
        sums = tuple(distinct_seconds(stages) for stages in grid.stages)
        yield Row(
            measure="grid",
            what="whole time of a tiny grid, against the sum of its distinct stages",
            setting=f"{about}, --jobs 1",
            values=tuple(total / stages for total, stages in zip(totals, sums, strict=True)),
            target=Target(GRID),
            raw={"whole": totals, "distinct stages": sums},
        )
    if "jobs" in wanted:
        yield Row(
            measure="jobs",
            what="speed of a tiny grid with --jobs 2, against --jobs 1",
            setting=about,
            values=turns.speeds("--jobs 2", "--jobs 1"),
            target=Target(JOBS, at_most=False),
            raw=turns.raw(),
        )


def distinct_seconds(stages: Sequence[Stage]) -> float:
    """The sum over stages, each counted once: of several trainings of one and the same model, the first."""
    seconds: dict[str, float] = {}
    for stage in stages:
        seconds.setdefault(_what(stage.label), stage.seconds)
    return sum(seconds.values())


def _what(label: str) -> str:
    """What a stage does: methods that differ in decoding alone train one model."""
    from cringe.methods import registry

    match = _TRAIN.search(label)
    if match is None or match["method"] not in registry.entries():
        return label
    trained = type(registry.load(match["method"])().trained_as())
    return f"{trained.__name__}-{match['rest']}"


def _commands(grid: Grid, setting: Setting, folder: Path) -> Iterator[Row]:
    """Seconds that one waits for what computes nothing new."""
    sides = {
        "--help": (HELP_SECONDS, lambda: run_command("benchmarks.run", "--help", folder=folder)),
        "a finished command, issued again": (AGAIN_SECONDS, grid.again),
        "report, from its results": (
            REPORT_SECONDS,
            lambda: run_command("benchmarks.report", str(grid.latest), "--out", "report", folder=folder),
        ),
    }
    turns = take_turns(
        {name: once(run) for name, (_, run) in sides.items()},
        setting.repeats(5),
    )
    for name, (limit, _) in sides.items():
        yield Row(
            measure="commands",
            what=name,
            setting=f"{len(METHODS)} methods of a tiny grid",
            unit="s",
            values=turns.seconds[name],
            target=Target(limit),
            raw={name: turns.seconds[name]},
        )
