"""A Ray cluster to do stages on: joined, or started on this machine alone. Nothing of a scheduler is ours."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from benchmarks.errors import UsageError
from benchmarks.executors.pool import variables
from benchmarks.executors.ray_address import require_reachable
from benchmarks.runner import SCRATCH
from cringe.processes import mark

if TYPE_CHECKING:
    from benchmarks.executors.ray_pool import RayPool
    from benchmarks.progress import Reporter

RETRIES = 3
"""How often a stage is begun again whose worker or machine was lost; as often again when it was for want of memory."""
OBJECT_STORE_BYTES = 100_000_000
"""Shared memory of a Ray that we start: stages pass nothing through it. Ray takes 75 MiB at least."""


class Need(NamedTuple):
    """What a stage asks for."""

    threads: int
    """Of each of its processes; one CPU each."""
    gpu: bool
    """Does each of its processes take a GPU?"""
    processes: int = 1

    @property
    def resources(self) -> dict[str, int]:
        """By Ray's names."""
        return {"CPU": self.threads * self.processes} | ({"GPU": self.processes} if self.gpu else {})

    def __str__(self) -> str:
        return " and ".join(f"{count} {kind}{'s' * (count > 1)}" for kind, count in self.resources.items())

    def fits(self, machine: Mapping[str, float]) -> int:
        """How many stages a machine has room for that gives so much of each resource."""
        return min(int(machine.get(kind, 0) // count) for kind, count in self.resources.items())


class Cluster:
    """The Ray cluster of a command, joined or started when it is first needed.

    Args:
        address: of a cluster, ``HOST:PORT`` or ``auto``; None: one of this machine alone is started, and ended.
        threads: of a stage.
        cpus: how many one that is started has to give.

    Raises:
        UsageError: Ray is not installed.
    """

    def __init__(self, address: str | None, *, threads: int, cpus: int) -> None:
        if address is None:
            # Nobody else on this machine or its network shall run code in what is started here.
            os.environ.setdefault("RAY_AUTH_MODE", "token")
            if "RAY_AUTH_TOKEN_PATH" not in os.environ:
                os.environ.setdefault("RAY_AUTH_TOKEN", token_hex(32))
        else:
            # Where something listens that is no Ray, it would try twenty times for 40 seconds.
            os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "2")
        import_ray()
        self._address = address
        self._threads = threads
        self._cpus = max(cpus, threads)
        self._open = ExitStack()
        self._joined = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def is_local(self) -> bool:
        """Is it this machine alone?"""
        return self._address is None

    def has_gpus(self) -> bool:
        """Has any of its machines a GPU?"""
        return any(machine.get("GPU", 0) >= 1 for machine in self._machines().values())

    def room(self, need: Need) -> int:
        """How many stages can be done side by side."""
        return sum(need.fits(machine) for machine in self._machines().values())

    def describe(self, need: Need) -> str:
        """One line for ``--check``.

        Raises:
            UsageError: there is no room for a stage.
        """
        if self._address is None:
            return "ray: ok; one of this machine alone is started when the run begins"
        room = self._require_room(need)
        return f"ray: ok; {self._said()}; {room} stage{'s' * (room > 1)} of {need} side by side"

    def workers(self, need: Need, jobs: int | None, data: Path | None, results: Path, reporter: Reporter) -> RayPool:
        """Workers of the cluster.

        Args:
            need: what a stage asks for.
            jobs: stages done side by side at most; None: as many as there is room for.
            data: folder of the data sets.
            results: folder of the stages' directories.
            reporter: told how far the work is.

        Raises:
            UsageError: the cluster cannot be joined, or there is no room for a stage.
        """
        from benchmarks.executors.ray_pool import RayPool
        from benchmarks.executors.ray_worker import Command, source, versions

        self._require_room(need)
        # Not resolved: where a link leads may be another place on another machine.
        command = Command(
            results=str(results.absolute()),
            token=str(results.absolute() / SCRATCH / f"ray-{token_hex(8)}.{mark()}"),
            data=None if data is None else str(data.absolute()),
            folder=str(Path.cwd()),
            versions=versions(),
            source=source(),
            threads=need.threads,
        )
        return RayPool(self, command, need, jobs, reporter)

    def fitting(self, need: Need) -> dict[str, str]:
        """Name of each machine that has room for a stage, by its id in Ray."""
        ray = import_ray()
        names = {node["NodeID"]: node["NodeManagerHostname"] for node in ray.nodes()}
        return {machine: names[machine] for machine, has in self._machines().items() if need.fits(has)}

    def _require_room(self, need: Need) -> int:
        room = self.room(need)
        if not room:
            raise UsageError(
                f"no machine of the Ray cluster has {need} for a stage; it has {self._said()}\n"
                "  next step: set fewer threads or processes, take --device cpu, or start Ray with more (--num-cpus, "
                "--num-gpus)"
            )
        return room

    def _said(self) -> str:
        machines = self._machines().values()
        cpus, gpus = (sum(int(machine.get(kind, 0)) for machine in machines) for kind in ("CPU", "GPU"))
        return f"{len(machines)} machine{'s' * (len(machines) > 1)}, {cpus} CPUs, {gpus} GPUs"

    def _machines(self) -> dict[str, Mapping[str, float]]:
        """What each living machine has to give, by its id in Ray."""
        ray = import_ray()
        if not self._joined:
            self._open.enter_context(_joined(self._address, cpus=self._cpus, threads=self._threads))
            self._joined = True
        return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}


def import_ray() -> Any:  # noqa: ANN401 - a module
    """Ray, kept from calling home, from writing into our output, and from trying for ever."""
    for name, value in {
        "RAY_USAGE_STATS_ENABLED": "0",
        # What its processes have to say would go to standard output, between the lines of the table. Ray's own logs
        # on each machine hold it.
        "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        # Ray's default is without end.
        "RAY_task_oom_retries": str(RETRIES),
    }.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            f"--executor ray: Ray is not installed ({error})\n"
            "  next step: pip install -c constraints.txt 'cringe-benchmarks[ray]', or leave out --executor"
        ) from error
    return ray


@contextmanager
def _joined(address: str | None, *, cpus: int, threads: int) -> Iterator[None]:
    """Join a cluster, or start one of this machine alone; leave it, or end it, behind the block."""
    import logging

    ray = import_ray()
    if address is not None:
        require_reachable(address)
    local = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            # Of the processes that Ray starts before it is asked to, so that they are the right ones.
            runtime_env={"env_vars": variables(threads)},
            **(local if address is None else {}),
        )
    except Exception as error:  # whatever it is, there is no cluster
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if address is None:
            raise UsageError(f"no Ray could be started here: {said}\n  next step: leave out --executor") from error
        raise UsageError(
            f"the Ray cluster at {address} cannot be joined: {said}\n"
            "  next step: look with `ray status` whether it still runs, and run the command on one of its machines; "
            "where it asks for a token, with RAY_AUTH_MODE=token and the cluster's token in ~/.ray/auth_token"
        ) from error
    # Ray puts a handler of its own, which leaves no time to end what is at work.
    signal.signal(signal.SIGTERM, before if callable(before) else _terminated)
    try:
        yield
    finally:
        ray.shutdown()


def _terminated(*_: object) -> None:
    sys.exit(128 + signal.SIGTERM)
