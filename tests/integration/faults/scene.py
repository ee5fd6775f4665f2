"""A small run, its undisturbed results, and commands that faults happen in."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.resource_tracker import ensure_running
from pathlib import Path
from typing import Any, NamedTuple

import benchmarks
from benchmarks.runner import SCRATCH, damage
from benchmarks.tasks import synthetic
from tests.integration import micro
from tests.integration.micro import outputs, preset

UPDATES = 20
TASK, METHODS = "decode", ("transformer", "cringe")
TIMEOUT = 240
"""Seconds; a command takes a few on a machine that does nothing else."""
FINISHED = re.compile(rf"{TASK}-.+-[0-9a-f]{{12}}")


class Ended(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str
    fired: frozenset[int]
    """Which rules have happened, by their place."""
    left: frozenset[int]
    """Processes that it started and that did not end with it."""

    def without_traceback(self) -> Ended:
        """Itself: whatever happens, it is said in sentences."""
        assert "Traceback" not in self.err, self.err
        return self

    @property
    def started(self) -> list[str]:
        """Labels of the stages that it began."""
        return [line.removesuffix(": started") for line in self.err.splitlines() if line.endswith(": started")]


@dataclass(kw_only=True)
class Scene:
    """A folder with a preset and data, in which commands are run."""

    folder: Path
    made: int = field(default=0)
    """Sets of rules so far."""

    @classmethod
    def make(cls, folder: Path) -> Scene:
        """Lay out preset, data, and the injector."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "micro.yaml").write_text(preset(updates=UPDATES), encoding="utf-8")
        synthetic.write_convai2(folder / "data", seed=1, train_dialogues=40, valid_dialogues=6)
        synthetic.write_decode(folder / "data", seed=1, train=160, dev=30, test=30)
        (folder / "site").mkdir()
        shutil.copyfile(Path(__file__).with_name("injector.py"), folder / "site" / "sitecustomize.py")
        return cls(folder=folder)

    def begin(self, *arguments: str, rules: Sequence[Mapping[str, Any]] = (), **plan: Any) -> Running:
        """Start ``python -m benchmarks.…`` with faults in it."""
        told = self._told(rules, plan)
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            env=os.environ | told,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return Running(process, Path(told["FAULTS"]).with_suffix(".fired"))

    def _told(self, rules: Sequence[Mapping[str, Any]], plan: Mapping[str, Any]) -> dict[str, str]:
        """What the environment of a process must hold that faults are to happen in."""
        self.made += 1
        file = self.folder / f"faults-{os.getpid()}-{self.made}.json"
        file.write_text(json.dumps({"rules": list(rules), **plan}))
        paths = [str(self.folder / "site"), str(Path(benchmarks.__file__).parents[1])]
        return {"PYTHONPATH": os.pathsep.join(paths), "FAULTS": str(file)}

    def command(self, *arguments: str, **more: Any) -> Ended:
        """Run ``python -m benchmarks.…`` to its end."""
        return self.begin(*arguments, **more).end()

    def here(self, *arguments: str, rules: Sequence[Mapping[str, Any]] = (), **plan: Any) -> Ended:
        """The same in this process, which need not load what takes seconds; faults happen in its workers alone."""
        told = self._told(rules, plan)
        ensure_running()  # it stays for as long as this process
        before = descendants(os.getpid())
        said = micro.here(*arguments, folder=self.folder, environment=told)
        left = filter(alive, descendants(os.getpid()) - before)
        return Ended(*said, fired(Path(told["FAULTS"]).with_suffix(".fired")), frozenset(left)).without_traceback()

    def run_arguments(self, results: Path, *options: str) -> tuple[str, ...]:
        """The command whose results all others are compared with."""
        settings = ("--preset", "micro.yaml", "--data", "data", "--device", "cpu", "--jobs", "1")
        return ("benchmarks.run", "--task", TASK, "--methods", *METHODS, *settings, "--out", str(results), *options)

    def run(self, results: Path, *options: str, **more: Any) -> Ended:
        """Run it."""
        return self.command(*self.run_arguments(results, *options), **more)

    def run_here(self, results: Path, *options: str, **more: Any) -> Ended:
        """Run it in this process."""
        return self.here(*self.run_arguments(results, *options), **more)


class Running(NamedTuple):
    """A command at work."""

    process: subprocess.Popen[str]
    fired: Path

    def end(self) -> Ended:
        """Wait for its end, and for that of all that it started."""
        below: set[int] = set()
        limit = time.monotonic() + TIMEOUT
        with self.process as process, ThreadPoolExecutor(2) as readers:
            said = [readers.submit(stream.read) for stream in (process.stdout, process.stderr)]
            while process.poll() is None:
                below |= descendants(process.pid)
                if time.monotonic() > limit:
                    process.kill()
                time.sleep(0.05)
            out, err = (text.result() for text in said)
        wait = time.monotonic() + 15
        while any(map(alive, below)) and time.monotonic() < wait:
            time.sleep(0.05)
        ended = Ended(process.returncode, out, err, fired(self.fired), frozenset(filter(alive, below)))
        return ended.without_traceback()


def fired(folder: Path) -> frozenset[int]:
    """The rules that have happened."""
    return frozenset(int(path.name) for path in folder.glob("*"))


def alive(pid: int) -> bool:
    """Is this a process, and not one that only waits to be asked for its exit code?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def descendants(pid: int) -> set[int]:
    """The processes below one."""
    below: set[int] = set()
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # a thread that has ended
            for child in map(int, path.read_text().split()):
                below |= {child} | descendants(child)
    return below


def stages(results: Path) -> dict[str, Path]:
    """Finished directories by label."""
    return {path.name[:-13]: path for path in sorted(results.iterdir()) if FINISHED.fullmatch(path.name)}


def whole(results: Path) -> set[str]:
    """Labels of the finished directories, after a look that all of them are whole."""
    found = stages(results)
    assert {label: names for label, folder in found.items() if (names := damage(folder))} == {}
    return set(found)


def remove(results: Path, labels: Iterable[str]) -> None:
    """Delete finished directories, so that the same command does these stages again."""
    for label in labels:
        shutil.rmtree(stages(results)[label])


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def assert_same(results: Path, undisturbed: Path) -> None:
    """The end state: everything is there, whole, as if nothing had happened, and nothing is left over."""
    assert whole(results) == whole(undisturbed)
    assert outputs(results) == outputs(undisturbed)
    for hidden in (SCRATCH, ".resume", ".claims"):
        assert [path.name for path in (results / hidden).glob("*")] == [], hidden
    assert not [path for path in results.rglob(".*.unfinished") if path.is_file()]


CODES = {"KILL": -signal.SIGKILL, "TERM": 143, "INT": 130}
"""Exit codes of a command that is sent a signal."""
