"""A run that a time limit stops, and goes on, ends like one that was never stopped: real stages, very small."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import benchmarks
from benchmarks.executors.pool import THREAD_VARIABLES
from benchmarks.run import main
from benchmarks.runner import SCRATCH, damage
from benchmarks.tasks import synthetic
from tests.integration.micro import outputs, preset

MICRO = preset(updates=4, prompts=4, decoding=["nucleus"])
STAGES = 11
"""Of the transformer's table, one seed and one decoding."""


def test_stopped_twice_it_ends_in_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a clock that counts a minute for each stage that is done since the command began."""
    monkeypatch.setenv("PYTHONPATH", str(Path(benchmarks.__file__).parents[1]))
    # The runner sets these for its workers; they shall not outlive the test.
    for name in (*THREAD_VARIABLES, "OMP_WAIT_POLICY", "TOKENIZERS_PARALLELISM", "CUBLAS_WORKSPACE_CONFIG"):
        monkeypatch.setenv(name, os.environ.get(name, "1" if name.endswith("THREADS") else ""))
    micro, data = tmp_path / "micro.yaml", tmp_path / "data"
    micro.write_text(MICRO, encoding="utf-8")
    synthetic.write_convai2(data, seed=0, train_dialogues=30, valid_dialogues=5)
    synthetic.write_decode(data, seed=0, train=80, dev=20, test=20)

    def call(out: Path, *options: str) -> tuple[int, str, str]:
        words = ["--task", "decode", "--methods", "transformer", "--preset", str(micro), "--data", str(data)]
        words += ["--device", "cpu", "--jobs", "1", "--out", str(out), *options]
        code = main(words, clock=lambda: 60.0 * len(list(out.glob("*/DONE"))))
        said = capsys.readouterr()
        return code, said.out, said.err

    code, whole, _ = call(tmp_path / "whole")
    assert code == 0
    parts = tmp_path / "parts"
    for done, row in ((6, "gold"), (9, "backbone")):
        code, out, err = call(parts, "--time-limit", str(done - len(list(parts.glob("*/DONE")))))
        assert code == 1
        assert f"is over: {STAGES - done} stages were not begun: decode-" in err
        assert len(list(parts.glob("*/DONE"))) == done
        assert not any(damage(folder.parent) for folder in parts.glob("*/DONE"))
        assert not list((parts / SCRATCH).iterdir())
        lines = [line for line in out.split("\n### Decoding")[1].splitlines() if line.startswith("| ")]
        cells = {line.split("|")[1].strip(): line.split("|")[2].strip() for line in lines[:7]}
        assert cells[row] != "n/a"
        assert cells["transformer"] == "n/a"
    code, out, err = call(parts, "--time-limit", "2.5")
    assert (code, out) == (0, whole), err
    assert outputs(parts) == outputs(tmp_path / "whole")
    assert len(list(parts.glob("*/DONE"))) == STAGES
