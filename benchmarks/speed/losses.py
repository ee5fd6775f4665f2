"""The loss of a training step, forwards and backwards, against the published form on the same logits."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from benchmarks.speed.published import published_loss
from benchmarks.speed.rows import Row, Target, once, take_turns
from benchmarks.speed.setting import Setting, say
from cringe.batch import Batch
from cringe.methods.cringe_single import CringeSingle

if TYPE_CHECKING:
    from cringe.methods.base import TokenLoss

SIZES = {8_000: (16, 32), 50_000: (8, 32)}
"""Responses and tokens of each, by vocabulary."""
LIMITS = {0.25: 0.5, 0.5: 0.7}
"""Time as a multiple of the published form's, by share of negatives."""
MEMORY = 0.5
OURS, PUBLISHED = "ours", "published"


class Case(NamedTuple):
    """Logits of a batch in both layouts, and what is known of its tokens."""

    grid: Tensor
    """(B, T, V)."""
    packed: Tensor
    """(B·T, V), the same logits: liked tokens first."""
    negative: Tensor
    """(B,)."""
    batch: Batch
    """Targets and places of the tokens."""


def make_case(vocabulary: int, size: tuple[int, int], share: float, device: str) -> Case:
    """Logits as a young model has them; no padding, so that both forms have the same work to do."""
    draw = torch.Generator().manual_seed(0)
    rows, length = size
    grid = 2 * torch.randn(rows, length, vocabulary, generator=draw)
    negative = torch.arange(rows) >= round(rows * (1 - share))
    liked = int((~negative).sum()) * length
    batch = Batch(
        source=torch.zeros(rows, 1, dtype=torch.long),
        source_mask=torch.ones(rows, 1, dtype=torch.bool),
        responses=torch.randint(vocabulary, (rows, length), generator=draw),
        tokens=torch.arange(rows * length),  # the liked responses are the first ones
        unlabelled=liked,
        liked=liked,
        examples=tuple(range(rows)),
        lengths=(length,) * rows,
        source_tokens=rows,
        seed=0,
        step=0,
    ).to(torch.device(device))
    grid = grid.to(device)
    return Case(grid, grid.flatten(0, 1), negative.to(device), batch)


def ours(case: Case, method: CringeSingle) -> Tensor:
    """The gradient (B·T, V) of a training step's loss."""
    leaf = case.packed.detach().requires_grad_()
    found: TokenLoss = method.loss(leaf, case.batch)
    (found.values.sum() / len(case.batch.tokens)).backward()
    gradient: Tensor = leaf.grad
    return gradient


def published(case: Case, method: CringeSingle) -> Tensor:
    """The gradient (B, T, V) of the published form."""
    leaf = case.grid.detach().requires_grad_()
    targets = case.batch.responses
    nothing = torch.zeros_like(targets, dtype=torch.bool)
    published_loss(leaf, targets, nothing, case.negative, k=method.k, alpha=method.alpha).backward()
    gradient: Tensor = leaf.grad
    return gradient


def measure(setting: Setting) -> Iterator[Row]:
    """Time and memory of both forms."""
    method = CringeSingle()
    for vocabulary, usual in SIZES.items():
        size = (4, 8) if setting.brief else usual
        say(f"loss: V {vocabulary:,}")
        for share, limit in LIMITS.items():
            case = make_case(vocabulary, size, share, setting.device)
            sides = {OURS: partial(ours, case, method), PUBLISHED: partial(published, case, method)}
            tokens = f"{size[0]}×{size[1]} tokens, V {vocabulary:,}, {share:.0%} negative"
            about = f"{tokens}, fp32, no padding, {setting.where}"
            turns = take_turns(
                {name: once(run) for name, run in sides.items()},
                setting.repeats(15),
                warm_up=2,
                synchronize=setting.synchronize,
            )
            yield Row(
                measure="loss",
                what="time, against the published form",
                setting=about,
                values=turns.times(OURS, PUBLISHED),
                target=Target(limit),
                raw=turns.raw(),
            )
            held = {name: float(extra_memory(run, case.packed)) for name, run in sides.items()}
            yield Row(
                measure="loss",
                what="memory beyond logits and gradient, against the published form",
                setting=about,
                values=(held[OURS] / held[PUBLISHED],),
                target=Target(MEMORY),
                raw={f"{name}, bytes": (most,) for name, most in held.items()},
            )


def extra_memory(run: Callable[[], Tensor], logits: Tensor) -> int:
    """Bytes that a run holds at most, beyond the logits and their gradient, which it returns."""
    most = _cuda_peak(run) if logits.device.type == "cuda" else _cpu_peak(run)
    return max(0, most - logits.numel() * logits.element_size())


def _cuda_peak(run: Callable[[], Tensor]) -> int:
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return int(torch.cuda.max_memory_allocated()) - before


def _cpu_peak(run: Callable[[], Tensor]) -> int:
    """From the profiler, which is told of every piece that torch allocates or frees."""
    from torch.profiler import ProfilerActivity, profile

    with _quiet(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        run()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        found.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    changes = [(event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == "[memory]"]
    held = most = 0
    for _, change in sorted(changes, key=lambda pair: pair[0]):
        held += change
        most = max(most, held)
    return most


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the profiler's library says of itself from standard error."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
