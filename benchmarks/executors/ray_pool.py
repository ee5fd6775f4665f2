"""Stages as tasks of a Ray cluster.

A stage asks for CPUs, and for GPUs where the device is one. One whose worker or machine is lost is begun again up to
`RETRIES` times, on whatever machine has room, and a training goes on from its last saved state; one that raises has
failed, as it has on one machine.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import asdict, replace
from math import inf
from pathlib import Path
from queue import Empty
from typing import TYPE_CHECKING, Any, Self, TypeVar

from benchmarks.errors import UsageError
from benchmarks.executors.pool import variables
from benchmarks.executors.ray_cluster import RETRIES
from benchmarks.executors.ray_worker import APPEARS_SECONDS, Command, appears
from benchmarks.runner import Job
from cringe.processes import in_use

if TYPE_CHECKING:
    from benchmarks.executors.ray_cluster import Cluster, Need
    from benchmarks.progress import Message, Reporter

LOOK_SECONDS = 300.0
"""How long a machine may take to say whether it fits; it may have to start a process and to load packages from afar."""
_T = TypeVar("_T")


class RayPool:
    """Workers of a Ray cluster."""

    def __init__(self, cluster: Cluster, command: Command, need: Need, jobs: int | None, reporter: Reporter) -> None:
        self._cluster = cluster
        self._command = command
        self._need = need
        self._jobs = inf if jobs is None else jobs
        self._reporter = reporter
        self._busy: dict[Future[str | None], tuple[Any, Job]] = {}
        self._open = ExitStack()

    def __enter__(self) -> Self:
        import ray
        from ray.util.queue import Queue
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._task = ray.remote(_by_value())
        token = Path(self._command.token)
        token.mkdir(parents=True)
        self._open.callback(shutil.rmtree, token, ignore_errors=True)
        self._open.enter_context(in_use(token))
        try:
            self._look()
            here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
            queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
        except BaseException:
            self._open.close()
            raise
        self._open.callback(queue.shutdown, force=True)
        self._messages = queue.actor
        self._open.callback(self._reporter.close)
        self._reporter.listen(_Messages(queue))
        return self

    def __exit__(self, *_: object) -> None:
        import ray

        for reference, _job in self._busy.values():
            ray.cancel(reference, force=True)
        self._open.close()

    @property
    def free(self) -> bool:
        """Is there room for a stage? One is always tried, and waits in Ray where the last machine was lost."""
        return len(self._busy) < min(self._jobs, max(1, self._cluster.room(self._need)))

    def submit(self, work: Callable[[_T], str | None], job: _T) -> Future[str | None]:
        """Hand a stage to Ray.

        Args:
            work: a function of a module, which the worker imports; returns what went wrong, if anything did.
            job: what it is given.
        """
        if not isinstance(job, Job):
            raise TypeError(f"stages alone are done on a cluster (found {type(job).__name__})")
        told = replace(job, results=self._command.results, data=self._command.data)
        asked = self._need._replace(processes=job.processes).resources
        task = self._task.options(
            **self._environment(),
            num_cpus=asked["CPU"],
            num_gpus=asked.get("GPU", 0),
            max_retries=RETRIES,
            name=job.label,
        )
        reference = task.remote(asdict(self._command), self._messages, work, told)
        future: Future[str | None] = reference.future()
        self._busy[future] = (reference, told)
        return future

    def release(self, future: Future[str | None]) -> None:
        """Forget a finished stage, once what it wrote is seen here."""
        _, job = self._busy.pop(future)
        if future.exception() is None and future.result() is None:
            appears(Path(job.results, job.folder, "DONE"), APPEARS_SECONDS)

    def lost(self, error: BaseException) -> str | None:
        """What to say of a stage that was begun again too often."""
        from ray.exceptions import OutOfMemoryError, RayError, RayTaskError

        times = f"{RETRIES + 1} times"
        if isinstance(error, OutOfMemoryError):
            ended = f"Ray's memory monitor ended it {times}, for its machine ran out of memory"
            return f"{ended}; lower training.micro_batch_size or --jobs"
        if isinstance(error, RayError) and not isinstance(error, RayTaskError):
            ended = f"its worker or its machine was lost {times} ({type(error).__name__}; out of memory?)"
            return f"{ended}; lower training.micro_batch_size or --jobs, or look at Ray's logs there"
        return None

    def _environment(self) -> dict[str, Any]:
        """What a worker's process begins with."""
        return {"runtime_env": {"env_vars": variables(self._command.threads)}}

    def _look(self) -> None:
        """Ask every machine that may get a stage whether it fits, before any is begun.

        Raises:
            UsageError: one does not, or does not answer.
        """
        import ray
        from ray.exceptions import GetTimeoutError, RayError, RayTaskError
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        asked = {}
        for machine, name in self._cluster.fitting(self._need).items():
            there = NodeAffinitySchedulingStrategy(machine, soft=False)
            task = self._task.options(**self._environment(), num_cpus=0, max_retries=1, scheduling_strategy=there)
            asked[task.remote(asdict(self._command))] = name
        problems = []
        for reference, name in asked.items():
            try:
                problem = ray.get(reference, timeout=LOOK_SECONDS)
            except GetTimeoutError:
                problem = f"machine {name} did not answer within {LOOK_SECONDS:.0f} seconds"
            except RayError as error:
                # A traceback ends with what is to be said; what Ray says itself begins with it.
                lines = str(error).strip().splitlines() or [type(error).__name__]
                problem = f"machine {name} cannot be asked: {lines[-1 if isinstance(error, RayTaskError) else 0]}"
            if problem:
                problems.append(problem)
        if problems:
            raise UsageError("the machines of the Ray cluster do not fit together:\n" + "\n".join(problems))


class _Messages:
    """What workers say, for a `Reporter`."""

    def __init__(self, queue: Any) -> None:  # noqa: ANN401 - of a class of Ray
        self._queue = queue

    def get(self, *, timeout: float) -> Message:
        """The next message; raises `queue.Empty` after so many seconds without, or if there can be none any more."""
        from ray.exceptions import RayError

        try:
            folder, done, total, note = self._queue.get(timeout=timeout)
        except Empty:
            raise
        except RayError as error:
            time.sleep(timeout)
            raise Empty from error
        return folder, done, total, note


def _by_value() -> Callable[..., str | None]:
    """A function that is sent whole, so that it can tell where our code is missing or too old."""

    def on_a_machine(command: dict[str, Any], *rest: Any) -> str | None:
        import socket

        try:
            from benchmarks.executors.ray_worker import Command, complaint, do_stage
        except ImportError as error:
            return (
                f"machine {socket.gethostname()} has not this code: {error}\n"
                "  next step: install the same version on every machine of the cluster, and start Ray there again"
            )
        return do_stage(Command(**command), *rest) if rest else complaint(Command(**command))

    return on_a_machine
