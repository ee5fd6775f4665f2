"""Generated data in the official formats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.stages.context import Context
from benchmarks.tasks import registry as tasks


def run(settings: Mapping[str, Any], context: Context) -> None:
    """Write the task's files."""
    tasks.load(settings["task"]).synthesize(context.out, seed=settings["seed"])
