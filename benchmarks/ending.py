"""How a command ends: with one message and an exit code, whatever stops it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from benchmarks.errors import UserError

GOES_ON = "interrupted; the same command goes on from here"


def exit_code(command: Callable[[], int], *, interrupted: str = GOES_ON) -> int:
    """Carry out a command; what the user can mend, an interruption and a reader that has gone become exit codes.

    Args:
        command: returns its exit code.
        interrupted: what to say when it is.
    """
    try:
        return command()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
