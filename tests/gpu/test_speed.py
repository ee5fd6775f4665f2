"""On a GPU: the losses are those of the CPU, and the speed command measures everything."""

from __future__ import annotations

import pytest
import torch

from benchmarks.speed import gpu, losses
from benchmarks.speed.rows import UNMEASURED
from benchmarks.speed.setting import Setting
from cringe.methods.cringe_single import CringeSingle

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("share", losses.LIMITS)
def test_gradient_of_the_loss(share: float, k: int) -> None:
    """The draws are numpy's, so both devices contrast with the same tokens."""
    method = CringeSingle(k=k)
    here, there = (losses.ours(losses.make_case(1_000, (8, 16), share, device), method) for device in ("cpu", "cuda"))
    torch.testing.assert_close(there.cpu(), here, rtol=1e-4, atol=1e-6)


def test_nobody_waits_for_the_loss() -> None:
    """No value comes back from the device while the loss and its gradient are computed."""
    case = losses.make_case(1_000, (8, 16), 0.25, "cuda")
    losses.ours(case, CringeSingle(k=1))
    torch.cuda.set_sync_debug_mode("error")
    try:
        losses.ours(case, CringeSingle(k=1))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_memory_of_the_loss() -> None:
    case = losses.make_case(8_000, (8, 32), 0.25, "cuda")
    method = CringeSingle()
    ours, theirs = (
        losses.extra_memory(lambda run=run: run(case, method), case.packed) for run in (losses.ours, losses.published)
    )
    assert ours < losses.MEMORY * theirs


@pytest.mark.slow
def test_measures() -> None:
    """Their figures are for the table of the command, which says what is met."""
    setting = Setting(device="cuda", threads=1, data=None, against_parlai=False, brief=True)
    for row in gpu.measure(setting):
        assert row.verdict != UNMEASURED
        assert all(value > 0 for value in row.values)
