"""Errors that a user can act on: what was wrong, the value, what is allowed, the next step.

They end a command with one message and an exit code, never with a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class UserError(Exception):
    """A problem that the message explains and the user can mend. Exit code 1."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        """What a message quotes of a file or a command line cannot command a terminal: such characters are escaped."""
        super().__init__(printable(message))


class UsageError(UserError):
    """A wrong command line or configuration. Exit code 2."""

    exit_code = 2


class DataError(UserError):
    """Data that is missing, incomplete or not in the documented format. Exit code 3."""

    exit_code = 3

    def __init__(
        self,
        problem: str,
        *,
        path: Path | str | None = None,
        line: int | None = None,
        found: object = None,
        hint: str = "",
    ) -> None:
        """Say where (file and line, from 1), what was found, and what to do next."""
        where = "" if path is None else f"{path}:{line}: " if line else f"{path}: "
        value = "" if found is None else f" (found {clip(repr(found))})"
        super().__init__(f"{where}{problem}{value}" + (f"\n  next step: {hint}" if hint else ""))


def printable(text: str) -> str:
    """The text with line ends, and every other character that is not printed as itself as an escape sequence."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one == "\n" else repr(one)[1:-1] for one in text)


def clip(text: str, limit: int = 80) -> str:
    """Shorten a value for a message."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A sentence that names the nearest known word and all of them, for the end of a message."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return (f"did you mean '{near[0]}'? " if near else "") + f"known: {', '.join(names)}"
