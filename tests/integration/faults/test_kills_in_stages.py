"""Killed at any moment and started again, every command ends with what an undisturbed one gives.

Always at the same moments: of the command and of its workers, by SIGKILL and by SIGTERM, in every kind of stage. With
those of ``test_kills_in_writing.py`` there are thirty and more.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, NamedTuple

from tests.integration.faults.conftest import Faults
from tests.integration.faults.scene import (
    CODES,
    UPDATES,
    Ended,
    Scene,
    assert_same,
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
    Kill("reference", "TERM", "command", SAVE, some_step()),
    Kill("judge", "KILL", "self", **opened("classifier.json")),
    Kill("transformer-s0-train", "KILL", "self", STEP, some_step()),
    Kill("transformer-s0-train", "KILL", "command", "file", some_step(), r"^os.rename .*\.tmp/"),
    Kill("cringe-s0-round1", "KILL", "command", "file", 1, r"^os.rename .*/\.unfinished/"),
    Kill("cringe-s0-round1-data", "TERM", "self", REPLY, 2),
    Kill("cringe-s0-round2", "KILL", "self", SAVE, UPDATES // 4),
    Kill("backbone-beam", "KILL", "command", REPLY, 2),
    Kill("transformer-s0-nucleus", "TERM", "self", **opened("replies.jsonl")),
    Kill("references", "TERM", "command", **opened("predictions.jsonl|.*\\.json")),
    Kill("transformer-s0-scores", "KILL", "self", SCORE),
    Kill("cringe-s0-scores", "TERM", "command", **opened("scores.csv")),
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
        # A worker's command may as well be this process, which is quicker; a command that is killed may not.
        run = scene.run_here if kill.to == "self" else scene.run
        ended = run(results, rules=[kill.rule], settings=["always_save"])
        check(ended, kill)
        # What was finished stays so, and nothing of it is done again.
        assert set(ended.started) <= missing
        missing = expected - whole(results)
        stopped += label in missing
    assert stopped >= len(STAGES) - 4, "most of the kills must meet a stage that is not done"
    last = scene.run_here(results)
    assert last.code == 0, last.err
    assert last.out == (undisturbed.parent / "said").read_text(encoding="utf-8")
    assert_same(results, undisturbed)
    for kill in STAGES:
        faults.survived(f"{'SIG' + kill.signal} of a {'worker' if kill.to == 'self' else 'command'} in a stage")
