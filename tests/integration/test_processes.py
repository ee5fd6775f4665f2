"""A table whose language models are each trained by two processes, from a command that was killed at it before."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import benchmarks
from benchmarks.budget import assert_comparable
from benchmarks.runner import SCRATCH, damage
from benchmarks.tasks import synthetic

PRESET = """\
seeds: [0]
threads: 1
processes: 2
prompts: 8
backbone:
  {kind: scratch, vocabulary: 320, width: 16, encoder_layers: 1, decoder_layers: 1, heads: 2, feedforward: 16,
   max_source: 24, max_target: 16, dropout: 0.1}
warmup: {updates: 0, batch_size: 8, learning_rate: 0.01}
reference_training: {updates: 20, warmup_updates: 2}
training: {updates: 20, batch_size: 8, learning_rate: 0.02, warmup_updates: 2}
decoding:
  greedy: {strategy: greedy, max_new_tokens: 6}
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "benchmarks.run", "--task", "convai2", "--device", "cpu", "--jobs", "1"),
            *("--methods", "transformer", "unlikelihood_sequence"),
            *("--preset", "micro.yaml", "--data", "data", "--out", "runs"),
        ],
        env=os.environ | {"PYTHONPATH": str(Path(benchmarks.__file__).parents[1])},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ranks(folder: Path) -> list[str]:
    """Commands of the processes that work at a stage of this folder, torchrun among them."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_text(errors="replace").split("\0")
            inside = (path / "cwd").readlink() == folder
        except OSError:
            continue
        if inside and "benchmarks.executors.ranks" in words:
            found.append(words[words.index("benchmarks.executors.ranks") + 1])
    return found


def wait_for(what: str, seconds: float, *, folder: Path, count: int) -> None:
    limit = time.monotonic() + seconds
    while ranks(folder).count("work") != count and time.monotonic() < limit:
        time.sleep(0.05)
    assert ranks(folder).count("work") == count, what


def test_a_killed_command_ends_its_ranks_and_another_goes_on_to_the_table(tmp_path: Path) -> None:
    folder = tmp_path.resolve()
    (folder / "micro.yaml").write_text(PRESET, encoding="utf-8")
    synthetic.write_convai2(folder / "data", seed=1, train_dialogues=40, valid_dialogues=6)

    killed = start(folder)
    wait_for("two ranks train", 120, folder=folder, count=2)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    wait_for("ranks outlive the command", 30, folder=folder, count=0)
    killed.communicate()

    again = start(folder)
    out, err = again.communicate(timeout=280)
    assert again.returncode == 0, err
    assert out.count("| transformer") > 1
    assert ranks(folder) == []
    assert not list((folder / "runs" / SCRATCH).iterdir())

    found = {}
    for stage in folder.glob("runs/convai2-*"):
        assert damage(stage) == []
        spec = json.loads((stage / "spec.json").read_text())
        together = spec["kind"] in ("train", "reference")  # the warm-up has no updates here
        assert spec.get("processes") == (2 if together else None), stage.name
        if together:
            assert len((stage / "training_log.jsonl").read_text().splitlines()) == 1
        if spec["kind"] == "train":
            ledger = json.loads((stage / "ledger.json").read_text())
            found[spec["settings"]["method"], 0] = ledger | {"start": spec["parents"]["model"]}
    assert {ledger["training"]["updates"] for ledger in found.values()} == {20}
    assert {ledger["training"]["examples"] for ledger in found.values()} == {160}
    assert found["unlikelihood_sequence", 0]["training"]["generated_tokens"] > 0
    assert len(found) == 2
    assert len(assert_comparable(found)) == 1
