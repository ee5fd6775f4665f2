"""What a piece of work spent."""

from __future__ import annotations

import hashlib
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

SUMMED = (
    "updates",
    "examples",
    "source_tokens",
    "forward_passes",
    "backward_passes",
    "generated_tokens",
    "flops",
    "seconds",
)
"""Fields of `Counts` that are numbers and add up."""


@dataclass(kw_only=True)
class Counts:
    """Counted while training or generating; what a budget limits and a ledger shows.

    ``seconds`` and ``peak_memory_bytes`` differ from run to run; everything else is a function of the run's key.
    """

    updates: int = 0
    examples: int = 0
    source_tokens: int = 0
    target_tokens: Counter[str] = field(default_factory=Counter)
    """Non-pad target tokens by feedback."""
    forward_passes: int = 0
    """Examples sent through the model forwards, a generated token of a beam counting as one."""
    backward_passes: int = 0
    generated_tokens: int = 0
    flops: float = 0.0
    """Estimated: 2 per weight and token forwards, 4 more backwards (Kaplan et al. 2020, §2.1)."""
    order_digest: str = ""
    """A hash of the examples seen, in their order."""
    seconds: float = 0.0
    peak_memory_bytes: int = 0

    def see(self, uids: Iterable[str]) -> None:
        """Add examples to the digest of the order."""
        text = self.order_digest + "\x1f" + "\x1f".join(uids)
        self.order_digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def add(self, other: Counts) -> None:
        """Add what another piece of work spent; the digests of the order are joined."""
        for name in (*SUMMED, "target_tokens"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        if other.order_digest:
            self.see([other.order_digest])
        self.peak_memory_bytes = max(self.peak_memory_bytes, other.peak_memory_bytes)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Add the block's seconds, and keep the process's peak memory."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start
            unit = 1 if sys.platform == "darwin" else 1024
            self.peak_memory_bytes = max(
                self.peak_memory_bytes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, _cuda_peak()
            )

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self) | {"target_tokens": dict(sorted(self.target_tokens.items()))}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Counts:
        """The inverse of `to_dict`."""
        return cls(**(values | {"target_tokens": Counter(values["target_tokens"])}))


def _cuda_peak() -> int:
    torch = sys.modules.get("torch")
    return int(torch.cuda.max_memory_allocated()) if torch is not None and torch.cuda.is_available() else 0
