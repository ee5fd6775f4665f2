"""A command whose time is over: what it says, what it writes, what it leaves for the next one.

The stages are not done here: a stand-in for the runner takes as many minutes for each, by a clock that the command is
given, as a test wants.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from benchmarks import run, runner
from benchmarks.plan import Stage
from benchmarks.runner import Outcome
from benchmarks.time_limit import NO_LIMIT, TimeLimit, first_few


def test_a_limit_is_over_when_its_minutes_are() -> None:
    times = iter([100.0, 100.0, 189.9, 190.0, 1e9])
    limit = TimeLimit(1.5, clock=lambda: next(times))
    assert [limit.over() for _ in range(4)] == [False, False, True, True]
    assert limit.given
    assert str(limit) == "the time limit of 1.5 minutes"
    assert str(TimeLimit(1)) == "the time limit of 1 minute"


def test_without_a_limit_there_is_always_time() -> None:
    times = iter([0.0, 1e18])
    assert not TimeLimit(None, clock=lambda: next(times)).over()
    assert not NO_LIMIT.over()
    assert not NO_LIMIT.given


def test_a_few_are_named_and_the_others_counted() -> None:
    assert first_few(["a"]) == "a"
    assert first_few(["a", "b", "c"]) == "a, b, c"
    assert first_few(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


class Answer(NamedTuple):
    code: int
    out: str
    err: str


class Machine:
    """Does stages in no time, and says that each took ``minutes``."""

    def __init__(self, minutes: float) -> None:
        self.minutes = minutes
        self.seconds = 0.0
        self.begun: list[str] = []

    def clock(self) -> float:
        return self.seconds

    def execute(self, stages: Sequence[Stage], results: Path, *, limit: TimeLimit, force: bool, **_: Any) -> Outcome:
        outcome = Outcome()
        for stage in stages:
            folder = results / stage.folder
            if folder.exists() and not force:
                outcome.skipped.append(stage.label)
            elif limit.over():
                outcome.not_begun.append(stage.label)
            else:
                folder.mkdir(parents=True, exist_ok=True)
                self.seconds += 60 * self.minutes
                outcome.done.append(stage.label)
        self.begun += outcome.done
        return outcome


Command = Callable[..., Answer]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine(minutes=1)
    monkeypatch.setattr(runner, "execute", found.execute)
    return found


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: Machine
) -> Command:
    """Runs the command on generated data, which nobody generates, in an empty folder, by the machine's clock."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Answer:
        words = ["--methods", "transformer", "cringe_single", "--data", "synthetic", "--device", "cpu", "--out", "out"]
        code = run.main([*arguments, *words], clock=machine.clock)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Answer(code, captured.out, captured.err)

    return call


def tables() -> list[str]:
    return sorted(path.name.rsplit("-", 1)[0] for path in Path("out/tables").glob("*"))


def test_the_table_is_written_from_what_is_there(command: Command, machine: Machine) -> None:
    answer = command("--task", "decode", "--time-limit", "5")
    assert answer.code == 1
    assert len(machine.begun) == 5
    assert tables() == ["decode-tiny-synthetic"]
    assert "| cringe_single |" in answer.out
    assert (
        "the time limit of 5 minutes is over: 13 stages were not begun: decode-references, "
        "decode-references-scores, decode-backbone-beam and 10 more; the same command goes on from here\n"
    ) in answer.err


def test_the_same_command_goes_on_until_all_is_done(command: Command, machine: Machine) -> None:
    words = ("--task", "decode", "--time-limit", "8")
    codes = [command(*words).code for _ in range(4)]
    assert codes == [1, 1, 0, 0]
    assert len(machine.begun) == len(set(machine.begun)) == 18
    unlimited = Path("out")
    assert tables() == ["decode-tiny-synthetic"], "the limit is no part of a key"
    assert len(list(unlimited.glob("decode-*"))) == 18


def test_one_stage_is_named_as_one(command: Command) -> None:
    answer = command("--task", "decode", "--time-limit", "17")
    assert answer.code == 1
    assert "is over: 1 stage was not begun: decode-cringe_single-s0-scores; the same command" in answer.err


def test_the_last_stage_may_end_with_the_limit(command: Command) -> None:
    answer = command("--task", "decode", "--time-limit", "18")
    assert answer.code == 0
    assert "time limit" not in answer.err


def test_tasks_that_come_too_late_are_named_and_not_begun(command: Command, machine: Machine) -> None:
    answer = command("--task", "decode", "convai2", "wikitoxic", "--time-limit", "5")
    assert answer.code == 1
    assert tables() == ["decode-tiny-synthetic"]
    assert {label.split("-")[0] for label in machine.begun} == {"decode"}
    for task in ("convai2", "wikitoxic"):
        said = f"the time limit of 5 minutes is over: task {task} was not begun; the same command goes on from here\n"
        assert said in answer.err
    assert answer.out.count("*** GENERATED DATA") == 1


def test_the_limit_is_one_for_all_tasks(command: Command, machine: Machine) -> None:
    answer = command("--task", "decode", "convai2", "--time-limit", "20")
    assert answer.code == 1
    assert len(machine.begun) == 20
    assert tables() == ["convai2-tiny-synthetic", "decode-tiny-synthetic"]
    assert "was not begun" not in answer.err
    assert "stages were not begun: convai2-" in answer.err


def test_a_task_that_is_done_is_shown_however_late_it_is(command: Command, machine: Machine) -> None:
    assert command("--task", "decode", "convai2").code == 0
    machine.minutes = 0
    done = len(machine.begun)
    machine.clock = iter([0.0, *[1e6] * 99]).__next__  # type: ignore[method-assign]
    answer = command("--task", "decode", "convai2", "--time-limit", "1")
    assert answer.code == 0
    assert len(machine.begun) == done
    assert answer.out.count("## ") >= 2
    assert "time limit" not in answer.err


@pytest.mark.parametrize("minutes", ["4", "6"])
def test_nothing_is_chosen_from_a_part_of_the_trials(command: Command, machine: Machine, minutes: str) -> None:
    answer = command("--task", "decode", "--sweep", "cringe_single.alpha=1,2", "--time-limit", minutes)
    assert answer.code == 1
    assert len(machine.begun) == int(minutes)
    assert not tables()
    assert "| " not in answer.out
    assert f"the time limit of {minutes} minutes is over: " in answer.err
    assert answer.err.endswith(
        "no table of decode: not all trials of its sweeps were tried, and nothing is chosen from a part of them\n"
    )


def test_a_sweep_that_comes_too_late_is_not_begun(command: Command, machine: Machine) -> None:
    words = ("--sweep", "cringe_single.alpha=1,2", "--time-limit", "3")
    answer = command("--task", "decode", "wikitoxic", *words)
    assert answer.code == 1
    assert "task wikitoxic was not begun" in answer.err
    assert "no table of wikitoxic" not in answer.err
    assert {label.split("-")[0] for label in machine.begun} == {"decode"}


def test_with_force_the_same_command_would_begin_anew(command: Command) -> None:
    answer = command("--task", "decode", "--time-limit", "2", "--force")
    assert answer.code == 1
    assert answer.err.count("; the same command without --force goes on from here\n") == 1


@pytest.mark.parametrize("instead", ["--dry-run", "--check", "--list"])
def test_what_runs_nothing_has_no_limit(command: Command, machine: Machine, instead: str) -> None:
    machine.clock = iter([0.0, *[1e6] * 99]).__next__  # type: ignore[method-assign]
    limited = command("--task", "decode", instead, "--time-limit", "0.001")
    assert (limited.code, limited.err) == (0, "")
    assert limited.out == command("--task", "decode", instead).out
    assert not machine.begun
