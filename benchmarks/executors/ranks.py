"""A stage that several processes do together: torchrun starts them, and one that fails ends the others.

A worker of the command starts torchrun (``python -m benchmarks.executors.ranks start …``), and torchrun the ranks
(``python -m benchmarks.executors.ranks work …``). Each ends when the process that started it is gone, so that none
outlives the command. What the first rank says of its progress goes through torchrun's output to the worker, and on to
the command.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import textwrap
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.executors.pool import end_with, prepare, say

if TYPE_CHECKING:
    from benchmarks.progress import Message
    from benchmarks.runner import Job

_TOLD = "told"
"""Folder, inside the stage's while it is in the making, of what its ranks are told and tell."""

_KILLED = "Signal 9 (SIGKILL) received"
"""What torchrun says of a rank that was killed."""


class RankError(Exception):
    """A rank failed; in words, with its traceback where it has one."""


def do_stage(job: Job, out: Path) -> None:
    """Do a stage in as many processes as the job says, into a folder of its own; called in a worker.

    Raises:
        RankError: one of them failed, or was killed.
    """
    import torch

    if torch.cuda.is_initialized():  # what earlier stages of this worker left in its hands is the ranks' now
        gc.collect()
        torch.cuda.empty_cache()
    told = out / _TOLD
    told.mkdir()
    work = {"job": asdict(job), "out": str(out), "threads": torch.get_num_threads()}
    (told / "work.json").write_text(json.dumps(work), encoding="utf-8")
    if _torchrun(job.processes, told):
        raise RankError(_why(job.processes, told))
    for path in told.iterdir():
        path.unlink()
    told.rmdir()


def _torchrun(processes: int, told: Path) -> int:
    """Start the ranks, pass on what they say, and wait for their end; returns the exit code."""
    root = str(Path(__file__).parents[2])
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    with (told / "log.txt").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.executors.ranks", "start", str(os.getpid()), str(processes), str(told)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join([*paths, root])},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C is for the command
        )
        with process:
            try:
                for line in process.stdout or ():
                    if (message := _message(line)) is not None:
                        say(*message)
                    else:
                        log.write(line)
            except BaseException:
                process.kill()
                raise
    return process.returncode


class _Line:
    """Takes messages to the worker, a line of JSON each."""

    def put(self, message: Message) -> None:
        """Write one, whole: other ranks write to the same pipe."""
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


def _message(line: str) -> Message | None:
    """What `_Line` wrote; None for anything else that is printed."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    match found:
        case [str(folder), int(done), int(total), str(note)]:
            return folder, done, total, note
    return None


def _why(processes: int, told: Path) -> str:
    """What went wrong, in a sentence or as the traceback of the rank that failed first, and what all had to say."""
    said = (told / "log.txt").read_text(encoding="utf-8", errors="replace")
    failed = sorted(told.glob("rank-*.txt"), key=lambda path: path.stat().st_mtime_ns)
    traces = [path.read_text(encoding="utf-8") for path in failed]
    if _KILLED in said:  # others may have raised, for they lost it
        what = (
            f"one of its {processes} processes was killed (out of memory?); lower training.micro_batch_size or --jobs"
        )
        return f"{what}\n{_aside(said, *traces)}"
    if not failed:
        return f"one of its {processes} processes ended without a traceback\n{_aside(said)}"
    rank = int(failed[0].stem.removeprefix("rank-"))
    return f"process {rank + 1} of {processes} failed first\n{_aside(said, *traces[1:])}\n{traces[0]}"


def _aside(*texts: str) -> str:
    """Texts that are not to be taken for the error itself, whose lines begin further to the left."""
    return "\n".join(textwrap.indent(text.strip(), " " * 4) for text in texts)


def _start(processes: int, told: Path) -> None:
    """Be torchrun."""
    from torch.distributed.run import main

    work = ["-m", "benchmarks.executors.ranks", "work", str(os.getpid()), str(told)]
    main(["--standalone", "--nproc-per-node", str(processes), *work])


def _work(told: Path) -> None:
    """Be a rank."""
    import torch.distributed as dist

    from benchmarks.runner import Job, do_stage

    work = json.loads((told / "work.json").read_text(encoding="utf-8"))
    try:
        prepare(_Line(), work["threads"])
        do_stage(Job(**work["job"]), Path(work["out"]))
    except Exception:  # noqa: BLE001 - whatever it is, it is told
        (told / f"rank-{os.environ['RANK']}.txt").write_text(traceback.format_exc(), encoding="utf-8")
        os._exit(1)  # at once: in an orderly end it might wait for the others, which wait for it
    if dist.is_initialized():
        dist.destroy_process_group()


def main(role: str, parent: str, *words: str) -> None:
    """Be what a worker starts, or torchrun."""
    end_with(int(parent))
    if role == "start":
        _start(int(words[0]), Path(words[1]))
    else:
        _work(Path(words[0]))


if __name__ == "__main__":
    main(*sys.argv[1:])
