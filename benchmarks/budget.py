"""What methods may spend, and the check that they spent the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.errors import UserError

EQUAL = ("updates", "examples", "source_tokens", "target_tokens", "order_digest")
"""Of the training of two methods with the same seed these must be equal, or their numbers do not compare."""


class IncomparableError(UserError):
    """Rows of one table did not train under one budget. Exit code 1."""


def assert_comparable(ledgers: Mapping[tuple[str, int], Mapping[str, Any]]) -> None:
    """Check that all methods trained under one budget: same start, same batches in the same order, as many updates.

    Args:
        ledgers: by method and seed.

    Raises:
        IncomparableError: naming each quantity, both rows and both values.
    """
    problems = []
    first: dict[int, tuple[str, Mapping[str, Any]]] = {}
    for (method, seed), ledger in ledgers.items():
        other, reference = first.setdefault(seed, (method, ledger))
        for name in ("start", *EQUAL):
            ours, theirs = _entry(ledger, name), _entry(reference, name)
            if ours != theirs:
                problems.append(f"  seed {seed}, {name}: {other} {theirs}, {method} {ours}")
    if problems:
        raise IncomparableError(
            "these methods did not train under one budget, so no table is written:\n"
            + "\n".join(problems)
            + "\n  next step: give them the same settings, or compare them in tables of their own"
        )


def _entry(ledger: Mapping[str, Any], name: str) -> object:
    return ledger.get(name) if name == "start" else ledger.get("training", {}).get(name)
