"""Is a Ray cluster where it is said to be? Ray itself would try for minutes."""

from __future__ import annotations

import re
import socket

from benchmarks.errors import UsageError

ANSWER_SECONDS = 10.0
"""How long a head may take to answer."""


def require_reachable(address: str) -> None:
    """Refuse what is no address, and one where nothing listens.

    Args:
        address: ``auto``, or ``HOST:PORT``.

    Raises:
        UsageError: it is something else, or nobody answers.
    """
    if address == "auto":
        return
    if "://" in address:
        raise UsageError(
            f"--ray-address {address}: Ray's client cannot be used, for the command works on the same folders as the "
            "cluster\n  next step: run it on a machine of the cluster, with --ray-address auto"
        )
    parts = re.fullmatch(r"\[?(?P<host>[^\s\[\]]+?)\]?:(?P<port>[0-9]{1,5})", address, flags=re.ASCII)
    if parts is None:
        raise UsageError(f"--ray-address: must be auto, or HOST:PORT of the cluster's head (found {address!r})")
    try:
        socket.create_connection((parts["host"], int(parts["port"])), timeout=ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"no Ray cluster answers at {address}: {error}\n"
            "  next step: start its head with `ray start --head --port=6379`, or leave out --ray-address"
        ) from error
