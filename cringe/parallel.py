"""What the processes of one training do together: who computes which part of a step, and sums of small numbers.

One process is alone unless torchrun started more. Gradients are torch's business (`DistributedDataParallel`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from cringe.specs import TrainingSettings

if TYPE_CHECKING:
    from accelerate import Accelerator

_T = TypeVar("_T")


def make_accelerator(settings: TrainingSettings, device: str) -> Accelerator:
    """An accelerator for a device kind and a precision, on its own or one of those that torchrun started."""
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState

    precision = "no" if settings.precision == "fp32" else settings.precision
    if AcceleratorState._shared_state.get("_mixed_precision", precision) != precision:
        AcceleratorState._reset_state()  # accelerate keeps the precision of a process's first training for all others
    # A method need not use every weight. Gradients also stay in the same buckets throughout then, and so does the order
    # in which those of three processes or more are added: a resumed training is to the bit what it would have been.
    parallel = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(cpu=device == "cpu", mixed_precision=precision, kwargs_handlers=[parallel])


class Processes:
    """The processes of a training; each holds the whole model, and knows all examples of a step.

    Numbers travel by gloo from CPU to CPU, so that no GPU is waited for.

    Args:
        accelerator: knows how many there are, and has them connected.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.count: int = accelerator.num_processes
        self.index: int = accelerator.process_index
        alone = self.count == 1
        # On CPU the group of all does: it is gloo's.
        self._group = None if alone or accelerator.device.type == "cpu" else dist.new_group(backend="gloo")

    @property
    def is_first(self) -> bool:
        """Is this the process that writes and reports?"""
        return self.index == 0

    def cut(self, examples: Sequence[_T], most: int | None) -> list[Sequence[_T]]:
        """The micro-batches of a step, of all processes.

        One process alone has ``most`` examples in each but the last. Several take turns in which all of them compute,
        no more turns than are needed, and the micro-batches are as large as that allows: where the step is a multiple
        of ``most`` times the processes they are those of one process alone.

        Args:
            examples: of the step.
            most: examples of a micro-batch; None for all, or for each process its share of all.
        """
        size = most or len(examples)
        if self.count > 1:
            turns = _ceil(len(examples), size * self.count)
            size = _ceil(len(examples), turns * self.count)
        return [examples[start : start + size] for start in range(0, len(examples), size)]

    def deal(self, parts: Sequence[_T]) -> list[tuple[int, _T]]:
        """This process's part of some work, each piece with its place among all; it may be none."""
        return list(enumerate(parts))[self.index :: self.count]

    def sums(self, numbers: Sequence[_T]) -> list[_T]:
        """The sum over all processes of each of some numbers, of which all have as many; integers stay so, to 2⁵³."""
        return self._reduced(numbers, dist.ReduceOp.SUM)

    def largest(self, numbers: Sequence[_T]) -> list[_T]:
        """The largest of all processes of each of some numbers."""
        return self._reduced(numbers, dist.ReduceOp.MAX)

    def require_equal(self, number: int, what: str) -> None:
        """All processes must have come to the same number.

        Raises:
            ValueError: they have not; with ``what``, a sentence, and the smallest and largest. In all processes.
        """
        most, least = self.largest([number, -number])
        if most != -least:
            raise ValueError(f"{what} (from {-least} to {most})")

    def copy_from_first(self, model: nn.Module) -> None:
        """Give the weights of the first process's model to the others'."""
        if self.count > 1:
            for weight in model.parameters():
                dist.broadcast(weight.detach(), src=0)

    def _reduced(self, numbers: Sequence[_T], operation: dist.ReduceOp) -> list[_T]:
        if self.count == 1:
            return list(numbers)
        reduced = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(reduced, operation, group=self._group)
        kinds = map(type, numbers)
        return [kind(number) for kind, number in zip(kinds, reduced.tolist(), strict=True)]


def _ceil(number: int, divisor: int) -> int:
    return -(-number // divisor)
