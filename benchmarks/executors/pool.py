"""Worker processes that do stages side by side, with threads and GPUs of their own; one that is killed is replaced."""

from __future__ import annotations

import gc
import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.queues import Queue
from typing import NamedTuple, Protocol, Self, TypeVar

from benchmarks.progress import Message, Reporter

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""What the libraries that compute take their number of threads from; each but the first overrules the first."""
_T = TypeVar("_T")


def variables(threads: int) -> dict[str, str]:
    """What the environment of a worker must hold before it loads a library that computes."""
    return {
        # Read by OpenMP and by the libraries of linear algebra when a worker starts, whatever the command was started
        # with; spinning workers would slow each other down fifteenfold.
        **dict.fromkeys(THREAD_VARIABLES, str(threads)),
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
        # cuBLAS is deterministic only with a workspace of fixed size.
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }


class Workers(Protocol):
    """Takes jobs and does them elsewhere: in processes of this machine (`Pool`) or of a cluster."""

    def __enter__(self) -> Self:
        """Begin to take jobs."""
        ...

    def __exit__(self, *_: object) -> None:
        """End what is still at work."""
        ...

    @property
    def free(self) -> bool:
        """Can a job be taken?"""
        ...

    def submit(self, work: Callable[[_T], str | None], job: _T) -> Future[str | None]:
        """Start a job.

        Args:
            work: a function of a module, which the worker imports; returns what went wrong, if anything did.
            job: what it is given.
        """
        ...

    def release(self, future: Future[str | None]) -> None:
        """Take back the worker of a finished job."""
        ...

    def lost(self, error: BaseException) -> str | None:
        """What to say of a job whose worker was lost, and how; None where the job itself raised the error."""
        ...


class _Worker(NamedTuple):
    """A process, and the GPUs that it sees, which are its alone."""

    executor: ProcessPoolExecutor
    gpu: str | None
    """As CUDA names them; commas between several."""


class Pool:
    """Worker processes, each apart from the others, so that one that is killed takes nothing else with it."""

    def __init__(self, threads: int, gpus: Sequence[str | None], reporter: Reporter) -> None:
        os.environ |= variables(threads)
        self._context = get_context("spawn")
        self._messages: Queue[Message] = self._context.Queue()
        self._threads = threads
        self._idle = [self._worker(gpu) for gpu in reversed(gpus)]
        self._busy: dict[Future[str | None], _Worker] = {}
        self._reporter = reporter

    def __enter__(self) -> Self:
        self._reporter.listen(self._messages)
        return self

    def __exit__(self, *_: object) -> None:
        for worker in [*self._idle, *self._busy.values()]:
            for process in list((worker.executor._processes or {}).values()):
                process.terminate()
            worker.executor.shutdown(wait=True, cancel_futures=True)
        self._reporter.close()

    @property
    def free(self) -> bool:
        """Can a job be taken?"""
        return bool(self._idle)

    def submit(self, work: Callable[[_T], str | None], job: _T) -> Future[str | None]:
        """Start a job on an idle worker.

        Args:
            work: a function of a module, which the worker imports; returns what went wrong, if anything did.
            job: what it is given.
        """
        worker = self._idle.pop()
        with _no_interrupts():
            future = worker.executor.submit(work, job)
        self._busy[future] = worker
        return future

    def release(self, future: Future[str | None]) -> None:
        """Take back the worker of a finished job; a new one for one that died."""
        worker = self._busy.pop(future)
        died = isinstance(future.exception(), BrokenProcessPool)
        self._idle.append(self._worker(worker.gpu) if died else worker)

    def lost(self, error: BaseException) -> str | None:
        """What to say of a job whose process was killed."""
        if isinstance(error, BrokenProcessPool):
            return "its process was killed (out of memory?); lower training.micro_batch_size or --jobs"
        return None

    def _worker(self, gpu: str | None) -> _Worker:
        told = (self._messages, self._threads, gpu, os.getpid())
        return _Worker(ProcessPoolExecutor(1, mp_context=self._context, initializer=_start, initargs=told), gpu)


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Processes started in the block never see Ctrl-C, not even while they come up: it is for the command alone."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Sink(Protocol):
    """Takes messages to the command."""

    def put(self, message: Message, /) -> None:
        """Send one."""
        ...


_LAUNCHERS = re.compile(
    r"((LOCAL|GROUP|ROLE)_)?(RANK|WORLD_SIZE)|MASTER_(ADDR|PORT)|(ACCELERATE|FSDP|MPI|MV2|OMPI|PET|PMI|TORCHELASTIC)_\w+"
)
_messages: Sink | None = None
"""To the command that started this process, in a worker."""


def say(folder: str, done: int, total: int, note: str) -> None:
    """Tell the command how far a stage is; called by what a worker does."""
    if _messages is not None:
        _messages.put((folder, done, total, note))


def _start(messages: Queue[Message], threads: int, gpu: str | None, parent: int) -> None:
    """Prepare a worker: it says how far it is, and ends when the command that started it is gone."""
    end_with(parent)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # read when torch first looks for GPUs
    prepare(messages, threads)


def forget_launchers() -> None:
    """Take from the environment what MPI, torchrun, accelerate's launcher or a cluster says to processes of theirs.

    A stage would wait for processes that nobody has started, or take settings that are not in its key. Where several do
    a stage, the torchrun that starts them says it again.
    """
    for name in list(filter(_LAUNCHERS.fullmatch, os.environ)):
        del os.environ[name]


def end_with(parent: int) -> None:
    """End this process when the one that started it is gone."""
    import threading
    import time

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def prepare(messages: Sink, threads: int) -> None:
    """Make this process one that stages are done in: equal ones give equal bytes, and they say how far they are."""
    global _messages
    _messages = messages
    gc.disable()  # a million objects come now and none goes; to look for garbage among them takes half a second
    import torch
    import transformers

    gc.freeze()
    gc.enable()
    torch.set_num_threads(threads)
    # What `use_deterministic_algorithms` does, but that this one does not load torch's compiler, which takes a second.
    torch.set_deterministic_debug_mode("warn")
    # It would also fill all new memory, a twentieth of a small model's step, lest something read it before it writes.
    torch.utils.deterministic.fill_uninitialized_memory = False
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
