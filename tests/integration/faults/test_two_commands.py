"""The same command twice at once: the work is done once, and nothing is torn."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from tests.integration.faults.conftest import Faults
from tests.integration.faults.scene import TIMEOUT, Scene, assert_same, remove, stages

KIND = "the same command twice at once"


def test_both_end_well_and_share_the_work(scene: Scene, results: Path, undisturbed: Path, faults: Faults) -> None:
    """Two rows are to be done; each stage is done by one of both, and either prints the table."""
    rows = [label for label in stages(results) if "transformer" in label or "round2" in label or "backbone" in label]
    remove(results, rows)
    faults.tried(KIND)
    both = [scene.begin(*scene.run_arguments(results)) for _ in range(2)]
    ended = [one.end() for one in both]
    said = (undisturbed.parent / "said").read_text(encoding="utf-8")
    assert [(one.code, one.out) for one in ended] == [(0, said)] * 2, [one.err for one in ended]
    assert Counter(label for one in ended for label in one.started) == dict.fromkeys(rows, 1)
    assert_same(results, undisturbed)
    faults.survived(KIND)


def test_one_takes_over_what_the_other_was_killed_at(
    scene: Scene, results: Path, undisturbed: Path, faults: Faults
) -> None:
    """The second has nothing to do but wait, and says so."""
    remove(results, ["decode-transformer-s0-train"])
    faults.tried(KIND)
    forever = {"at": "cringe.trainer:Trainer.step", "call": 3, "do": "sleep"}
    looked = {"at": "benchmarks.claims:Claims.take", "call": 4, "do": "nothing"}
    first = scene.begin(*scene.run_arguments(results), rules=[forever])
    wait_for(first.fired / "0")
    second = scene.begin(*scene.run_arguments(results), rules=[looked])
    wait_for(second.fired / "0")
    first.process.kill()
    assert not first.end().left
    ended = second.end()
    assert ended.code == 0, ended.err
    assert ended.err.count("waiting for another command that is at decode-transformer-s0-train\n") == 1
    assert ended.started == ["decode-transformer-s0-train"]
    assert_same(results, undisturbed)
    faults.survived(KIND)


def wait_for(path: Path) -> None:
    limit = time.monotonic() + TIMEOUT
    while not path.exists():
        assert time.monotonic() < limit, f"{path} was never made"
        time.sleep(0.05)
