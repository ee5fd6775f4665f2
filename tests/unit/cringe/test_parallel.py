"""Several processes train what one does that accumulates as many micro-batches; over gloo, started by torchrun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from itertools import product
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import cringe
from cringe.parallel import Processes

SCRIPT = Path(__file__).with_name("trainings.py")


def load() -> ModuleType:
    """The script, as a module of this process."""
    spec = spec_from_file_location("trainings", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["trainings"] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


trainings = load()


def torchrun(count: int, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)),
            *(str(SCRIPT), str(folder), *words),
        ],
        env=os.environ | {"PYTHONPATH": str(Path(cringe.__file__).parents[1]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


class Run:
    """What the processes of two commands have come to: the first of two processes, the second of three."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        words = [f"train:{name}" for name in trainings.TWO]
        self.killed = torchrun(2, folder, *words, "stop:repeats", "kill:killed")
        words = [f"train:{name}" for name in trainings.THREE]
        self.resumed = torchrun(3, folder, *words, "stop:uneven", "resume:killed")

    def found(self, word: str, rank: int = 0) -> tuple[dict[str, Any], dict[str, Tensor]]:
        path = self._folder / f"{word.replace(':', '-')}-{rank}"
        return json.loads(path.with_suffix(".json").read_text()), load_file(path.with_suffix(".safetensors"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("parallel"))


def spent(counts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in counts.items() if name not in ("seconds", "peak_memory_bytes")}


WORDS = [f"train:{name}" for name in trainings.TWO | trainings.THREE] + ["resume:killed"]


@pytest.mark.parametrize("word", WORDS)
def test_processes_train_what_one_does(word: str, run: Run) -> None:
    """Weights and log to 1e-5, and the ledger to the last token; dropout and draws included."""
    case = trainings.CASES[word.split(":")[1]]
    alone = trainings.trainer(case, micro_batch_size=case.alone)
    counts = alone.train()
    found, weights = run.found(word)
    assert max(float((weights[name] - weight).abs().max()) for name, weight in trainings.weights(alone).items()) < 1e-5
    assert spent(found["counts"]) == spent(counts.to_dict())
    assert len(found["records"]) == 4
    for ours, theirs in zip(found["records"], alone.records, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-7)
    before = trainings.weights(trainings.trainer(case))
    assert max(float((weights[name] - weight).abs().max()) for name, weight in before.items()) > 1e-3


@pytest.mark.parametrize("word", WORDS)
def test_all_processes_come_to_the_same(word: str, run: Run) -> None:
    """So that any of them could go on; the first alone is the one to write."""
    first, weights = run.found(word)
    for rank in range(1, 2 if word.split(":")[1] in trainings.TWO else 3):
        found, others = run.found(word, rank)
        assert all(torch.equal(others[name], weight) for name, weight in weights.items())
        assert spent(found["counts"]) == spent(first["counts"])
        assert found["counts"]["peak_memory_bytes"] == first["counts"]["peak_memory_bytes"]
        assert found["records"] == first["records"]
        assert (first["is_main_process"], found["is_main_process"]) == (True, False)


@pytest.mark.parametrize("name", ["repeats", "uneven"])
def test_a_stopped_training_goes_on_to_the_same_bits(name: str, run: Run) -> None:
    """With three processes, too: the order in which their gradients are added does not change."""
    (found, weights), (again, resumed) = run.found(f"train:{name}"), run.found(f"stop:{name}")
    assert all(torch.equal(resumed[part], weight) for part, weight in weights.items())
    assert spent(again["counts"]) == spent(found["counts"])
    assert again["records"] == found["records"]


def test_one_that_is_killed_ends_the_other(run: Run) -> None:
    assert run.killed.returncode != 0
    assert "SIGKILL" in run.killed.stderr
    assert run.resumed.returncode == 0, run.resumed.stderr


def test_the_first_alone_tells_how_far_it_is(run: Run) -> None:
    assert len(run.killed.stdout.splitlines()) == 4 * len(trainings.TWO)


# --- who computes what


def processes(count: int, index: int = 0) -> Processes:
    made = object.__new__(Processes)
    made.count, made.index = count, index
    return made


def test_a_step_is_dealt_once_and_evenly() -> None:
    """Every example to one process, in as few turns as can be; the places are those of the uncut step."""
    for count, size, most in product((1, 2, 3, 5), (1, 3, 4, 20, 21), (None, 1, 3, 8, 30)):
        parts = processes(count).cut(range(size), most)
        assert [example for part in parts for example in part] == list(range(size))
        assert max(map(len, parts)) <= (most or size)
        dealt = [processes(count, index).deal(parts) for index in range(count)]
        assert sorted(place for share in dealt for place, _ in share) == list(range(len(parts)))
        assert all(parts[place] is part for share in dealt for place, part in share)
        turns = max(map(len, dealt))
        assert turns == -(-size // ((most or size) * count))
        # The others wait for the one that has most, and that is less than a row of each turn above an even share.
        assert count == 1 or max(sum(len(part) for _, part in share) for share in dealt) < size / count + turns


def test_one_process_cuts_as_it_is_told() -> None:
    assert [len(part) for part in processes(1).cut(range(20), 8)] == [8, 8, 4]
    assert [len(part) for part in processes(2).cut(range(32), 8)] == [8, 8, 8, 8]
    assert [len(part) for part in processes(3).cut(range(32), 8)] == [6, 6, 6, 6, 6, 2]


@pytest.fixture
def group() -> Iterator[None]:
    """A group of this process alone, to call what several call."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("group")
def test_numbers_keep_their_kind_and_their_digits() -> None:
    """On a GPU numbers have a group of their own, on the CPU."""
    for device in ("cpu", "cuda"):
        made = Processes(SimpleNamespace(num_processes=2, process_index=0, device=torch.device(device)))
        assert [(number, type(number)) for number in made.sums([2**53 - 1, 0.1])] == [(2**53 - 1, int), (0.1, float)]
        assert made.largest([-7, 2.5]) == [-7, 2.5]
        made.require_equal(4, "no")


def test_steps_that_differ_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    made = processes(2)
    monkeypatch.setattr(made, "largest", lambda numbers: [20, -4])
    with pytest.raises(ValueError, match=r"^different steps \(from 4 to 20\)$"):
        made.require_equal(4, "different steps")
