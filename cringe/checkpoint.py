"""The state of an unfinished training, kept so that a killed run goes on where it was. Safetensors only, no pickle."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn

from cringe.counts import Counts
from cringe.processes import mark


class DamagedStateError(Exception):
    """A state that was cut off or changed since it was written: nobody can go on from it."""


@dataclass(kw_only=True)
class TrainingState:
    """Everything that a training is at after a step; randomness has no state here (see `cringe.seeding`)."""

    model: nn.Module
    optimizer: AcceleratedOptimizer
    step: int = 0
    counts: Counts = field(default_factory=Counts)
    records: list[dict[str, float]] = field(default_factory=list)
    """The log so far."""

    def save(self, path: Path) -> None:
        """Write one safetensors file, replacing an older one at once or not at all.

        Raises:
            OSError, SafetensorError: it could not be written; an older one is as it was.
        """
        from safetensors.torch import save_file

        tensors = {f"model.{name}": tensor for name, tensor in _tensors(self.model).items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in state.items()}
        meta = {"step": self.step, "counts": self.counts.to_dict(), "records": self.records, "scaler": self._scaler()}
        # A folder, for safetensors writes to a file whose name it draws, which nobody would know for left behind.
        scratch = path.with_name(f"{path.name}.{mark()}.tmp")
        flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        state = json.dumps(meta)
        try:
            scratch.mkdir(parents=True, exist_ok=True)
            save_file(flat, scratch / path.name, metadata={"state": state, "digest": _digest(flat, state)})
            (scratch / path.name).replace(path)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def load(self, path: Path) -> None:
        """Put everything back into ``model`` and ``optimizer``, and read the counts and the log.

        Raises:
            DamagedStateError: the file is not what `save` wrote; nothing was changed.
        """
        meta, tensors = _read(path)
        with torch.no_grad():
            for name, tensor in _tensors(self.model).items():
                tensor.copy_(tensors[f"model.{name}"])
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "optimizer":
                index, _, moment = rest.partition(".")
                moments.setdefault(int(index), {})[moment] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        if self.optimizer.scaler is not None and meta["scaler"]:
            self.optimizer.scaler.load_state_dict(meta["scaler"])
        self.step, self.records = meta["step"], meta["records"]
        self.counts = Counts.from_dict(meta["counts"])

    def _scaler(self) -> dict[str, Any]:
        """The loss scale of fp16 training; empty otherwise."""
        return self.optimizer.scaler.state_dict() if self.optimizer.scaler is not None else {}


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What `TrainingState.save` wrote, if it is that to the bit."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            said = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, ValueError) as error:
        raise DamagedStateError(f"the training state {path} is damaged ({error})") from error
    if said.get("digest") != _digest(tensors, said.get("state", "")):
        raise DamagedStateError(f"the training state {path} is damaged (it is not what was written)")
    meta: dict[str, Any] = json.loads(said["state"])
    return meta, tensors


def _digest(tensors: Mapping[str, Tensor], state: str) -> str:
    """A hash of names, shapes, types, bytes and what is kept beside them; tensors are contiguous and on the CPU."""
    found = hashlib.blake2b(state.encode(), digest_size=16)
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, tied ones once."""
    return dict(model.named_parameters()) | dict(model.named_buffers())
