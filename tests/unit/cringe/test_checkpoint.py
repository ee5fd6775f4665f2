"""The state of an unfinished training: complete, written at once or not at all, nothing executable in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from safetensors import safe_open
from torch import nn

from cringe.backbones import Seq2SeqBackbone
from cringe.checkpoint import DamagedStateError, TrainingState
from cringe.counts import Counts
from cringe.processes import mark


class Tiny(nn.Module):
    """Two parameters, one of them tied, one unused, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.unused = nn.Parameter(torch.ones(2))
        self.register_buffer("steps", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps += 1
        return self.second(self.first(x)).square().mean()


def make(seed: int) -> tuple[Tiny, AcceleratedOptimizer]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Tiny()
    optimizer = Accelerator(cpu=True).prepare(torch.optim.AdamW(model.parameters(), lr=0.1, fused=True))
    return model, optimizer


def walk(model: Tiny, optimizer: AcceleratedOptimizer, steps: int) -> None:
    for step in range(steps):
        model(torch.full((2, 3), 1.0 + step)).backward()
        optimizer.step()
        optimizer.zero_grad()


def equal(first: nn.Module, second: nn.Module) -> bool:
    other = second.state_dict()
    return all(torch.equal(tensor, other[name]) for name, tensor in first.state_dict().items())


def state_of(model: nn.Module, optimizer: AcceleratedOptimizer) -> TrainingState:
    counts = Counts(updates=3, flops=0.1, order_digest="abc")
    counts.target_tokens["negative"] = 5
    return TrainingState(
        model=model, optimizer=optimizer, step=3, counts=counts, records=[{"step": 3.0, "loss": 1 / 3}]
    )


def test_round_trip(tmp_path: Path) -> None:
    """Weights, buffers, moments, counts and log come back to the bit, so the next steps are the same."""
    path = tmp_path / "new" / "state.safetensors"
    model, optimizer = make(0)
    walk(model, optimizer, 3)
    saved = state_of(model, optimizer)
    saved.save(path)
    other, other_optimizer = make(1)
    assert not equal(model, other)
    found = TrainingState(model=other, optimizer=other_optimizer)
    found.load(path)
    assert equal(model, other)
    assert other.steps.item() == 3
    assert other.first.weight is other.second.weight
    assert (found.step, found.counts, found.records) == (saved.step, saved.counts, saved.records)
    walk(model, optimizer, 4)
    walk(other, other_optimizer, 4)
    assert equal(model, other)


def test_the_moments_matter(tmp_path: Path) -> None:
    """Weights alone are not enough to go on: the test above would fail without the optimiser's state."""
    model, optimizer = make(0)
    walk(model, optimizer, 3)
    other, other_optimizer = make(1)
    other.load_state_dict(model.state_dict())
    walk(model, optimizer, 4)
    walk(other, other_optimizer, 4)
    assert not equal(model, other)


def test_a_failed_save_leaves_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.safetensors"
    model, optimizer = make(0)
    walk(model, optimizer, 1)
    state_of(model, optimizer).save(path)
    before = path.read_bytes()
    walk(model, optimizer, 1)
    write = safetensors.torch.save_file

    def half(tensors: dict[str, torch.Tensor], target: Path, **more: object) -> None:
        # Whatever is left beside it when the process is killed here, the folder's name says whose it is.
        assert target.parent.name == f"{path.name}.{mark()}.tmp"
        write(tensors, target, **more)
        target.write_bytes(target.read_bytes()[:100])
        raise OSError("disk full")

    monkeypatch.setattr(safetensors.torch, "save_file", half)
    with pytest.raises(OSError, match="disk full"):
        state_of(model, optimizer).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    monkeypatch.undo()
    state_of(model, optimizer).save(path)
    assert path.read_bytes() != before


def test_file_is_safetensors_with_json(tmp_path: Path, make_backbone: Callable[..., Seq2SeqBackbone]) -> None:
    """Readable by anyone, tied weights once, and no scratch file left beside it."""
    model = make_backbone().model
    optimizer = Accelerator(cpu=True).prepare(torch.optim.AdamW(model.parameters(), lr=0.1))
    path = tmp_path / "state.safetensors"
    state_of(model, optimizer).save(path)
    assert list(tmp_path.iterdir()) == [path]
    with safe_open(path, framework="pt") as file:
        names = list(file.keys())
        assert json.loads(file.metadata()["state"])["step"] == 3
    assert "model.model.shared.weight" in names
    assert not {"model.lm_head.weight", "model.model.encoder.embed_tokens.weight"} & set(names)


def test_damage_is_noticed_and_changes_nothing(tmp_path: Path) -> None:
    """One bit anywhere, or an end that is missing: safetensors alone would take most of it for weights."""
    path = tmp_path / "state.safetensors"
    model, optimizer = make(0)
    walk(model, optimizer, 2)
    state_of(model, optimizer).save(path)
    whole = path.read_bytes()
    other, other_optimizer = make(1)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    spoiled = [whole[:length] for length in (0, 7, 100, len(whole) // 2, len(whole) - 1)]
    places = (*range(0, len(whole), 41), len(whole) - 1)
    spoiled += [whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :] for place in places]
    for content in spoiled:
        path.write_bytes(content)
        found = TrainingState(model=other, optimizer=other_optimizer)
        with pytest.raises(DamagedStateError, match="is damaged"):
            found.load(path)
        assert found.step == 0
        assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())
        assert not other_optimizer.state_dict()["state"]
    path.write_bytes(whole)
    TrainingState(model=other, optimizer=other_optimizer).load(path)
    assert equal(model, other)
