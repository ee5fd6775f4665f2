"""Killed at any moment and started again, every command ends with what an undisturbed one gives.

Thirty-one kills, always at the same moments: of the command and of its workers, by SIGKILL and by SIGTERM, in every
kind of stage and while tables, reports, published results and models are written.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.integration.faults.conftest import Faults
from tests.integration.faults.scene import (
    CODES,
    UPDATES,
    Ended,
    Scene,
    assert_same,
    contents,
    remove,
    stages,
    whole,
)

SEED = 20260
DRAWS = random.Random(SEED)
STEP, SAVE = "cringe.trainer:Trainer.step", "cringe.checkpoint:TrainingState.save"
REPLY, SCORE = "cringe.generation:_generate_batch", "evaluators.perplexity:reply_likelihoods"


class Kill(NamedTuple):
    """A signal at a point of a stage."""

    stage: str
    """Label of the stage, without the task."""
    signal: str
    to: str
    """"self": the worker; or "command"."""
    at: str
    call: int = 1
    match: str = ""
    """Of a file that is opened or renamed, in the place of a function."""

    @property
    def delay(self) -> float:
        """Seconds: a worker ends at the very point, a command wherever it is a little later."""
        late = self.to == "command" and self.at != "file"
        return random.Random(f"{SEED} {self}").uniform(0, 0.05) if late else 0.0

    @property
    def rule(self) -> dict[str, Any]:
        return {
            "at": self.at,
            "match": self.match,
            "stage": f"^decode-{self.stage}-[0-9a-f]+$",
            "call": self.call,
            "do": self.signal,
            "to": self.to,
            "delay": self.delay,
        }


def some_step() -> int:
    """Early enough for a second kill of the same training, which goes on from here.

    A worker goes on for half a second when its command is killed, and may reach the end: the worker is killed first.
    """
    return DRAWS.randint(2, UPDATES // 4)


def opened(name: str) -> dict[str, str]:
    return {"at": "file", "match": rf"^open .*/{name}$"}


STAGES = [
    Kill("warmup", "TERM", "self", SAVE, some_step()),
    Kill("warmup", "KILL", "command", STEP, some_step()),
    Kill("reference", "TERM", "command", SAVE, some_step()),
    Kill("judge", "KILL", "self", **opened("classifier.json")),
    Kill("guide", "TERM", "command", **opened("report.json")),
    Kill("transformer-s0-train", "KILL", "self", STEP, some_step()),
    Kill("transformer-s0-train", "KILL", "command", "file", some_step(), r"^os.rename .*\.tmp "),
    Kill("transformer-s0-train", "TERM", "command", **opened("ledger.json")),
    Kill("cringe-s0-round1", "KILL", "command", **opened("DONE")),
    Kill("cringe-s0-round1-data", "TERM", "self", REPLY, 2),
    Kill("cringe-s0-round2", "KILL", "self", SAVE, UPDATES // 4),
    Kill("backbone-beam", "KILL", "command", REPLY, 2),
    Kill("transformer-s0-nucleus", "TERM", "self", **opened("replies.jsonl")),
    Kill("references", "INT", "command", **opened("predictions.jsonl|.*\\.json")),
    Kill("transformer-s0-scores", "KILL", "self", SCORE),
    Kill("cringe-s0-scores", "TERM", "command", **opened("scores.csv")),
    Kill("backbone-s0-scores", "KILL", "command", "file", 1, r"^os.rename .*/\.unfinished/"),
]
"""In every kind of stage: a step of a training, inside the writing of its state, and a file of the result."""


def check(ended: Ended, kill: Kill) -> None:
    """What is said, and the exit code."""
    assert ended.fired == {0}, f"not reached: {kill}\n{ended.err}"
    assert not ended.left, "workers outlive the command that started them"
    if kill.to == "self":
        assert ended.code == 1
        assert f"failed: decode-{kill.stage}: its process was killed" in ended.err
    else:
        assert ended.code == CODES[kill.signal], ended.err
        if kill.signal != "KILL":
            assert ended.err.endswith("ed; the same command goes on from here\n")
            assert "Warning" not in ended.err


def test_in_every_kind_of_stage(scene: Scene, results: Path, undisturbed: Path, faults: Faults) -> None:
    """A stage is deleted and done again; the next command does what the last one was killed at, and so on."""
    expected = whole(undisturbed)
    missing: set[str] = set()
    stopped = 0
    for kill in STAGES:
        label = f"decode-{kill.stage}"
        remove(results, {label} & stages(results).keys())
        missing.add(label)
        faults.tried(f"{'SIG' + kill.signal} of a {'worker' if kill.to == 'self' else 'command'} in a stage")
        ended = scene.run(results, rules=[kill.rule], settings=["always_save"])
        check(ended, kill)
        # What was finished stays so, and nothing of it is done again.
        assert set(ended.started) <= missing
        missing = expected - whole(results)
        stopped += label in missing
    assert stopped >= len(STAGES) - 4, "most of the kills must meet a stage that is not done"
    last = scene.run(results)
    assert last.code == 0, last.err
    assert last.out == (undisturbed.parent / "said").read_text(encoding="utf-8")
    assert_same(results, undisturbed)
    for kill in STAGES:
        faults.survived(f"{'SIG' + kill.signal} of a {'worker' if kill.to == 'self' else 'command'} in a stage")


WRITING = "benchmarks.writing:write_whole"
TABLES = {
    "run: the first file of a table": ("run", "KILL", {"at": WRITING, "call": 1}),
    "run: between two files": ("run", "TERM", {"at": WRITING, "call": 3}),
    "run: before a file gets its name": ("run", "KILL", {"at": "file", "match": r"^os.rename .*\.json", "call": 1}),
    "run: before the hashes": ("run", "KILL", {"at": WRITING, "call": 5}),
    "score: between two files": ("score", "KILL", {"at": WRITING, "call": 3}),
    "report: while it draws": ("report", "TERM", {"at": "benchmarks.plots:draw"}),
    "report: a plot": ("report", "KILL", {"at": "file", "match": r"^open .*\.svg\.unfinished", "call": 2}),
    "report: the page": ("report", "KILL", {"at": "file", "match": r"^os.rename .*/index\.html"}),
    "report: interrupted": ("report", "INT", {"at": WRITING, "call": 4}),
    "publish: scores": ("publish", "KILL", {"at": "file", "match": r"^open .*/scores\.csv", "call": 2}),
    "publish: taking its place": (
        "publish",
        "TERM",
        {"at": "file", "match": r"^os.rename .*/\.unfinished/", "call": 2},
    ),
    "publish: the table at last": ("publish", "KILL", {"at": "file", "match": r"^os.rename .*/\.unfinished/tables"}),
    "export: the card": ("export", "KILL", {"at": "file", "match": r"^open .*/README\.md"}),
    "export: taking its place": ("export", "TERM", {"at": "file", "match": r"^os.rename .*\.unfinished ", "call": 1}),
}


@pytest.mark.parametrize("name", TABLES)
def test_while_results_are_written(name: str, scene: Scene, results: Path, tmp_path: Path, faults: Faults) -> None:
    """What has its name is whole, whether nothing was there before or it takes the place of something."""
    what, signal, point = TABLES[name]
    arguments, out = writing(what, scene, results, tmp_path / "out")
    if what != "run":
        assert scene.command(*arguments).code == 0
    (out,) = out.parent.glob(out.name)
    expected = contents(out)
    faults.tried(f"SIG{signal} while {what} writes")
    if what in ("run", "score", "report"):  # the others write anew what is there
        shutil.rmtree(out)
    ended = scene.command(*arguments, rules=[point | {"do": signal}])
    assert (ended.code, ended.fired) == (CODES[signal], {0}), ended.err
    assert ("the same command" in ended.err) == (signal != "KILL")
    # A file that has its name is whole.
    torn = {file for file, found in visible(out).items() if found != expected.get(file)}
    assert not torn
    assert scene.command(*arguments).code == 0
    assert contents(out) == expected
    assert not list(tmp_path.glob(".out*"))
    faults.survived(f"SIG{signal} while {what} writes")


def writing(what: str, scene: Scene, results: Path, out: Path) -> tuple[tuple[str, ...], Path]:
    """A command, and what it writes: a path, or what such a path looks like."""
    if what == "run":
        return scene.run_arguments(results), results / "tables" / "decode-micro-*"
    if what == "score":
        replies = stages(results)["decode-transformer-s0-scores"] / "predictions.jsonl"
        same = ("--task", "decode", "--preset", "micro.yaml", "--data", "data", "--device", "cpu", "--jobs", "1")
        command = ("benchmarks.score", str(replies), *same, "--decoding", "beam", "--name", "given")
        return (*command, "--out", str(results)), results / "tables" / "decode-micro-given-*"
    if what == "export":
        return ("benchmarks.export", str(stages(results)["decode-transformer-s0-train"]), str(out)), out
    return (f"benchmarks.{what}", str(results), "--out", str(out)), out


def visible(folder: Path) -> dict[str, bytes]:
    """Files but for those of hidden folders and names: what is in the making."""
    if not folder.exists():
        return {}
    return {name: found for name, found in contents(folder).items() if not any(map(is_hidden, name.split("/")))}


def is_hidden(part: str) -> bool:
    return part.startswith(".")


def test_there_are_thirty_one() -> None:
    assert len(STAGES) + len(TABLES) == 31
