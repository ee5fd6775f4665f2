"""How a command ends: with one message and an exit code, whatever stops it."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from benchmarks.errors import UserError, printable

GOES_ON = "the same command goes on from here"
"""What follows from an interruption, for most commands."""


_LOOK = "see that it is there, may be read and written, and that there is room; the same command does it again"


class Terminated(BaseException):
    """The process was asked to end (SIGTERM); no error, so nothing that handles errors stops it."""


def exit_code(command: Callable[[], int], *, then: str = GOES_ON) -> int:
    """Carry out a command; what the user can mend, an interruption and a reader that has gone become exit codes.

    Args:
        command: returns its exit code.
        then: what follows when it is interrupted or terminated, to be said.
    """
    _print_anything()
    try:
        with _terminable():
            return command()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"interrupted; {then}", file=sys.stderr)
        return 128 + signal.SIGINT
    except Terminated:
        print(f"terminated; {then}", file=sys.stderr)
        return 128 + signal.SIGTERM
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # behind what is said where a file is known to be at stake
        where = f"{error.filename}: " if error.filename is not None else ""
        print(printable(f"error: {where}{error.strerror or error}\n  next step: {_LOOK}"), file=sys.stderr)
        return UserError.exit_code
    except MemoryError:
        print("error: out of memory\n  next step: take a machine with more, or raise its limit", file=sys.stderr)
        return UserError.exit_code


def _print_anything() -> None:
    """What the terminal has no characters for is printed as an escape sequence, and ends no command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def _terminable() -> Iterator[None]:
    """Inside the block SIGTERM raises, as Ctrl-C does, so that what is open is closed and workers are ended."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say what becomes of signals
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated
