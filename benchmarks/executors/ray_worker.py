"""What a process of a Ray cluster does: looks whether its machine fits, then does stages as any worker."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.keys import OUR_PACKAGES, package_versions, source_digest

if TYPE_CHECKING:
    from benchmarks.progress import Message
    from benchmarks.runner import Job

APPEARS_SECONDS = 60.0
"""How long a file of another machine may take to be seen on shared storage; NFS caches directories for as long."""
TELL_SECONDS = 0.5
"""Between two messages of a stage, at least."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """What a machine must have in common with the one that the command runs on."""

    results: str
    """Absolute; so are the others."""
    token: str
    """A folder in it that this command alone has made."""
    data: str | None
    folder: str
    """That relative paths of the settings start from."""
    versions: tuple[tuple[str, str], ...]
    source: str
    threads: int


def versions() -> tuple[tuple[str, str], ...]:
    """Of Python and of the packages that go into keys, on this machine."""
    return tuple(sorted(package_versions().items()))


@cache
def source() -> str:
    """One digest for all code of ours, as it goes into keys: comments and docstrings aside."""
    from importlib.util import find_spec

    names = []
    for package in OUR_PACKAGES:
        spec = find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or ():
            files = (path.relative_to(folder).with_suffix("") for path in Path(folder).rglob("*.py"))
            names += [".".join((package, *file.parts)).removesuffix(".__init__") for file in files]
    return source_digest(*sorted(names))


@cache
def complaint(command: Command, *, seconds: float = APPEARS_SECONDS) -> str | None:
    """Why this machine cannot do the command's stages, and what to do about it; None where it can.

    Args:
        command: what it must have in common with the command's machine.
        seconds: how long to wait until the folder of results is seen.
    """
    here = dict(versions())
    found = [f"{name} {here.get(name)}, not {told}" for name, told in command.versions if here.get(name) != told]
    if not found and source() != command.source:
        found = ["other code of ours"]
    if found:
        place = Path(__file__).parents[2]
        return (
            f"{node()} has {'; '.join(found)} (code in {place}), and keys hold versions\n"
            "  next step: install the same packages on every machine of the cluster, and start Ray there again"
        )
    missing = [] if appears(Path(command.token), seconds) else [f"the folder of results, {command.results}"]
    if command.data is not None and not Path(command.data).is_dir():
        missing.append(f"the folder of data, {command.data}")
    if missing:
        return (
            f"{node()} does not see {' and '.join(missing)}\n"
            "  next step: name folders on storage that every machine of the cluster has under the same path"
        )
    return None


def node() -> str:
    """A name for this machine, for people."""
    return f"machine {socket.gethostname()}"


def appears(path: Path, seconds: float) -> bool:
    """Wait until a file or folder is seen here that another machine has made."""
    limit = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > limit:
            return False
        time.sleep(0.2)
        try:
            os.listdir(path.parent)  # noqa: PTH208 - makes a client of NFS look again
        except OSError:
            continue
    return True


def do_stage(command: Command, messages: Any, work: Callable[[Job], str | None], job: Job) -> str | None:  # noqa: ANN401
    """Do a stage here.

    Args:
        command: the one that it is done for.
        messages: handle of the actor behind a `ray.util.queue.Queue`.
        work: does it; returns what went wrong.
        job: what ``work`` is given.
    """
    problem = complaint(command)
    if problem:
        return problem
    _begin(command, messages)
    messages.put_nowait.remote((job.folder, 0, 0, node()))
    for parent in job.parents.values():
        appears(Path(job.results, parent, "DONE"), APPEARS_SECONDS)
    return work(job)


@cache
def _begin(command: Command, messages: Any) -> None:  # noqa: ANN401
    """Once in a process."""
    from benchmarks.executors.pool import prepare

    os.chdir(command.folder if Path(command.folder).is_dir() else command.results)
    prepare(_Sink(messages), command.threads)


class _Sink:
    """Sends messages and waits for none to arrive: how far a stage is shall never stop it."""

    def __init__(self, messages: Any) -> None:  # noqa: ANN401
        self._messages = messages
        self._next = 0.0

    def put(self, message: Message, /) -> None:
        """Send one, unless the last was just sent."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + TELL_SECONDS
            self._messages.put_nowait.remote(message)
