"""One seed, many streams: every draw is a function of what it is for, not of when it is made.

A draw is addressed by the seed, its purpose and what it belongs to (a step, an example, a position). So it does not
matter how a batch is cut, in which order things are called, or whether a run was interrupted in between.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def stable_hash(*parts: str | int) -> int:
    """A 64-bit hash of a tuple of strings and integers, equal on every machine and in every process."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def stream(seed: int, purpose: str, *parts: str | int) -> np.random.Generator:
    """A numpy generator of its own for one purpose."""
    return np.random.Generator(np.random.Philox(key=stable_hash(seed, purpose, *parts)))


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output of SplitMix64 (Steele, Lea & Flood 2014, "Fast Splittable Pseudorandom Number Generators")."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def uniforms(
    seed: int, purpose: str, *, step: int, examples: Sequence[int], positions: Sequence[int]
) -> NDArray[np.float64]:
    """Uniform draws in [0, 1), one for every example and position.

    Args:
        seed: the run's seed.
        purpose: what the draws are for; other purposes give independent draws.
        step: the optimiser step, or the number of the sample.
        examples: B hashes, one an example (`stable_hash` of its uid).
        positions: T token positions.

    Returns:
        (B, T) float64, with 53 random bits each. Entry (b, t) depends on ``seed``, ``purpose``, ``step``,
        ``examples[b]`` and ``positions[t]`` alone.
    """
    key = np.uint64(stable_hash(seed, purpose, step))
    rows = np.asarray(examples, dtype=np.uint64)
    columns = np.asarray(positions, dtype=np.uint64)
    with np.errstate(over="ignore"):
        row_keys = _mix(_mix(rows + key) + _GOLDEN)
        bits = _mix(_mix(row_keys[:, None] + (columns[None, :] + np.uint64(1)) * _GOLDEN))
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


@contextmanager
def torch_seed(seed: int, purpose: str, *parts: str | int) -> Iterator[None]:
    """Seed torch's global state for a block, for code that takes no generator, and put it back afterwards."""
    import torch

    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if torch.cuda.is_available() else []):
        torch.manual_seed(stable_hash(seed, purpose, *parts) % 2**63)
        yield
