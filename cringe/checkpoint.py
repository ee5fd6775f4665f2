"""The state of an unfinished training, kept so that a killed run goes on where it was. Safetensors only, no pickle."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn

from cringe.counts import Counts
from cringe.processes import mark


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
        """Write one safetensors file, replacing an older one at once or not at all."""
        from safetensors.torch import save_file

        tensors = {f"model.{name}": tensor for name, tensor in _tensors(self.model).items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in state.items()}
        meta = {"step": self.step, "counts": self.counts.to_dict(), "records": self.records, "scaler": self._scaler()}
        scratch = path.with_name(f"{path.name}.{mark()}.tmp")
        scratch.parent.mkdir(parents=True, exist_ok=True)
        flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(flat, scratch, metadata={"state": json.dumps(meta)})
        scratch.replace(path)

    def load(self, path: Path) -> None:
        """Put everything back into ``model`` and ``optimizer``, and read the counts and the log."""
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            meta = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
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


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, tied ones once."""
    return dict(model.named_parameters()) | dict(model.named_buffers())
