"""Makes faults happen at chosen points inside of commands and their workers.

Not imported by tests: a copy of it, named ``sitecustomize``, is what every Python process of a command loads first. The
rules stand in the JSON file that ``$FAULTS`` names; each happens once in all processes together:

    at      where: "module:function" or "module:Class.method" for a call of it; or "file" for opening a file to write,
            renaming or making one
    match   of "file": a regular expression that is searched for in "event path [new path]"
    stage   a regular expression that the name of the stage's directory must match; without it anywhere, with it in
            workers alone
    call    at which of these calls, from 1 on
    do      what happens before the call: a signal (KILL, TERM, INT), "fill" (no byte more fits on the disk), "exhaust"
            (torch asks for more memory than the process may have), "cuda" (what torch raises where a GPU is full),
            "sleep", or "nothing"
    to      of a signal: "self", or "command", the process that started the worker
    delay   seconds that pass before the signal is sent, while the work goes on

Two settings change more than one moment: "always_save" keeps a training's state after every step, and "clock" makes the
time of day jump back and forth by years at every look.
"""

import importlib.util
import json
import os
import re
import resource
import signal
import sys
import threading
import time
from functools import wraps
from pathlib import Path

STAGE = re.compile(r"/\.unfinished/([^/]+)\.[^/]*$")
"""The directory that a stage works in, when it is made."""


class Injector:
    def __init__(self, file: Path) -> None:
        plan = json.loads(file.read_text())
        self.rules = plan["rules"]
        self.settings = plan.get("settings", ())
        self.fired = file.with_suffix(".fired")
        self.room = plan.get("room", "")
        self.calls = [0] * len(self.rules)
        self.stage = ""
        self.busy = threading.local()

    def install(self) -> None:
        functions = {rule["at"] for rule in self.rules} - {"file"}
        if "always_save" in self.settings:
            functions.add("cringe.trainer:Trainer.__init__")
        self.wanted = {}
        for name in functions:
            module, _, function = name.partition(":")
            self.wanted.setdefault(module, []).append(function)
        sys.meta_path.insert(0, self)
        sys.addaudithook(self.audit)
        if "clock" in self.settings:
            jump()

    # Where something happens

    def audit(self, event: str, arguments: tuple) -> None:
        if event not in ("open", "os.rename", "os.mkdir") or getattr(self.busy, "now", False):
            return
        if event == "open" and not writes(arguments):
            return
        self.busy.now = True
        try:
            paths = [os.fsdecode(part) for part in arguments[:2] if isinstance(part, str | bytes | os.PathLike)]
            if event == "os.mkdir" and (found := STAGE.search(paths[0])):
                self.stage = found.group(1)
            text = " ".join([event, *paths[: 2 if event == "os.rename" else 1]])
            for index, rule in enumerate(self.rules):
                if rule["at"] == "file" and re.search(rule["match"], text):
                    self.at(index)
        finally:
            self.busy.now = False

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        """Finds modules whose functions are points, and changes them when they have been loaded."""
        if name not in self.wanted:
            return None
        functions = self.wanted.pop(name)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def load_and_change(module: object) -> None:
            load(module)
            for function in functions:
                self.change(module, name, function)

        spec.loader.exec_module = load_and_change
        return spec

    def change(self, module: object, name: str, function: str) -> None:
        *holders, last = function.split(".")
        holder = module
        for part in holders:
            holder = getattr(holder, part)
        original = getattr(holder, last)
        if last == "__init__":
            original.__kwdefaults__["save_every_seconds"] = 0.0
            return
        point = f"{name}:{function}"

        @wraps(original)
        def changed(*args: object, **kwargs: object) -> object:
            for index, rule in enumerate(self.rules):
                if rule["at"] == point:
                    self.at(index)
            return original(*args, **kwargs)

        setattr(holder, last, changed)

    # What happens

    def at(self, index: int) -> None:
        rule = self.rules[index]
        if "stage" in rule and not re.search(rule["stage"], self.stage):
            return
        self.calls[index] += 1
        if self.calls[index] != rule.get("call", 1):
            return
        try:
            self.fired.mkdir(exist_ok=True)
            os.close(os.open(self.fired / str(index), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        getattr(self, f"do_{rule['do'].lower()}", self.do_signal)(rule)

    def do_signal(self, rule: dict) -> None:
        number = signal.Signals[f"SIG{rule['do']}"]
        process = os.getppid() if rule.get("to") == "command" else os.getpid()
        if rule.get("delay"):
            threading.Timer(rule["delay"], os.kill, (process, number)).start()
        else:
            os.kill(process, number)

    def do_fill(self, rule: dict) -> None:
        if self.room:
            with (Path(self.room) / "filler").open("wb", buffering=0) as file:
                for size in (1 << 16, 1):
                    try:
                        while True:
                            file.write(b"x" * size)
                    except OSError:
                        pass
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (16, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    def do_exhaust(self, rule: dict) -> None:
        import torch

        limits = resource.getrlimit(resource.RLIMIT_AS)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), limits[1]))
        try:
            torch.zeros(256 << 20, dtype=torch.uint8)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, limits)

    def do_sleep(self, rule: dict) -> None:
        time.sleep(1000)

    def do_nothing(self, rule: dict) -> None:
        """The file that says that it happened is what somebody waits for."""

    def do_cuda(self, rule: dict) -> None:
        import torch

        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def writes(arguments: tuple) -> bool:
    _, mode, flags = arguments
    if mode is not None:
        return any(letter in mode for letter in "wax+")
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def jump() -> None:
    """Years forwards at one look at the clock, years back at the next."""
    now, now_ns = time.time, time.time_ns
    looks = [0]

    def years() -> int:
        looks[0] += 1
        return (-1) ** looks[0] * looks[0] % 7 * 365 * 86400

    time.time = lambda: now() + years()
    time.time_ns = lambda: now_ns() + years() * 10**9


if file := os.environ.get("FAULTS"):
    Injector(Path(file)).install()
