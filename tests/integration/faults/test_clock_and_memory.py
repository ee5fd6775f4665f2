"""A clock that jumps changes nothing; memory that runs out is told with the batch and the setting to lower."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

from tests.integration.faults.conftest import Faults
from tests.integration.faults.scene import Scene, assert_same, remove, stages

YEAR = 365 * 86400


def test_a_clock_that_jumps(scene: Scene, results: Path, undisturbed: Path, faults: Faults) -> None:
    """Years back and forth at every look at it, and files from the past and the future."""
    remove(results, ["decode-transformer-s0-train", "decode-transformer-s0-beam", "decode-transformer-s0-scores"])
    draws = random.Random(3)
    for path in results.rglob("*"):
        when = path.stat().st_mtime + draws.choice((-1, 1)) * draws.randint(1, 20) * YEAR
        os.utime(path, (when, when))
    faults.tried("clock jumps")
    ended = scene.run(results, settings=["clock", "always_save"])
    assert ended.code == 0, ended.err
    assert len(ended.started) == 3
    assert_same(results, undisturbed)
    for label in ended.started:
        ledger = json.loads((stages(results)[label] / "ledger.json").read_text())
        spent = [part["seconds"] for part in ledger.values() if isinstance(part, dict) and "seconds" in part]
        assert spent
        assert all(0 <= seconds < YEAR for seconds in spent)
    faults.survived("clock jumps")


def test_memory_that_runs_out(scene: Scene, results: Path, undisturbed: Path, faults: Faults) -> None:
    """A process that may have no more in a step of a training, and what torch raises on a GPU elsewhere."""
    points = {
        "decode-transformer-s0-train": ("cringe.trainer:Trainer.step", 5, "exhaust"),
        "decode-backbone-beam": ("cringe.generation:_generate_batch", 2, "cuda"),
        "decode-guide": ("cringe.classifier_transformer:TransformerClassifier._logits", 2, "cuda"),
    }
    rules = [
        {"at": at, "call": call, "do": do, "stage": f"^{label}-[0-9a-f]+$"} for label, (at, call, do) in points.items()
    ]
    remove(results, points)
    faults.tried("out of memory", len(points))
    ended = scene.run_here(results, rules=rules, settings=["always_save"])
    assert ended.fired == set(range(len(points))), ended.err
    assert ended.code == 1
    assert list((results / ".resume").iterdir()), "the state of the training is kept"
    said = {line.split(": ")[1]: line for line in ended.err.splitlines() if line.startswith("failed: ")}
    assert "out of memory with 8 examples at once in training; lower it" in said["decode-transformer-s0-train"]
    assert "--set training.micro_batch_size=4; the mathematics stay the same" in said["decode-transformer-s0-train"]
    assert "replying to 32 prompts at once, with 2 beam(s) each" in said["decode-backbone-beam"]
    assert "--set decoding.NAME.batch_size=16" in said["decode-backbone-beam"]
    assert "with batches of 64 pairs; lower it, such as --set guide.batch_size=32" in said["decode-guide"]
    assert all("--jobs 1" in line and "traceback in" in line for line in said.values())
    last = scene.run_here(results)
    assert last.code == 0, last.err
    assert_same(results, undisturbed)
    faults.survived("out of memory", len(points))
