"""Reading data files line by line: what is wrong with one ends in a `DataError`, never in a traceback or a lost row.

Lines end at a newline byte and nowhere else, so U+2028 or U+0085 inside a text stays inside it. A byte order mark at
the start of a file and carriage returns at the ends of its lines are no part of the text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, NoReturn, TypeVar

from benchmarks.errors import DataError, clip

LAYOUT_HINT = "put the official file there, in the layout of ParlAI's data folder, or take '--data synthetic'"
T = TypeVar("T")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_WHOLE_FILE_HINT = "the file may be cut off or damaged; get it again from its source"


class TextLine(NamedTuple):
    """A line of a file that is not blank."""

    number: int
    """From 1, blank lines counted."""
    text: str
    """Without its line end."""


def text_lines(path: Path, *, hint: str = LAYOUT_HINT) -> Iterator[TextLine]:
    """Stream the lines of a UTF-8 file, skipping blank ones.

    Args:
        path: the file.
        hint: the next step to name when the file is missing.

    Raises:
        DataError: the file is missing, no regular file, unreadable or empty, or a line is not UTF-8 or holds NUL.
    """
    _require_file(path, hint)
    empty = True
    try:
        with path.open("rb") as file:
            offset = 0
            for number, raw in enumerate(file, start=1):
                start, offset = offset, offset + len(raw)
                text = _decoded(raw, path=path, number=number, start=start)
                if text.strip():
                    empty = False
                    yield TextLine(number, text)
    except OSError as error:
        raise _unreadable(path, error) from error
    if empty:
        raise DataError("the file is empty", path=path, hint=_WHOLE_FILE_HINT)


def _require_file(path: Path, hint: str) -> None:
    """Opening tells a missing file from others, but would wait for ever on a pipe."""
    try:
        if path.is_dir():
            raise DataError("a directory where a file belongs", path=path, hint=hint)
        if not path.exists():
            raise DataError("the file is missing", path=path, hint=hint)
        if not path.is_file():
            raise DataError("not a regular file", path=path, hint=hint)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> DataError:
    reason = error.strerror or type(error).__name__
    return DataError(f"the file cannot be read: {reason}", path=path, hint="check its permissions and its disk")


def _decoded(raw: bytes, *, path: Path, number: int, start: int) -> str:
    """The text of a line that begins at byte ``start`` of the file."""
    if number == 1 and raw.startswith(_BYTE_ORDER_MARK):
        raw, start = raw[len(_BYTE_ORDER_MARK) :], start + len(_BYTE_ORDER_MARK)
    if b"\0" in raw:
        raise DataError(
            f"a NUL byte at byte offset {start + raw.index(0)}",
            path=path,
            line=number,
            hint="the file is damaged, or not UTF-8 text; get it again from its source",
        )
    try:
        return raw.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"not valid UTF-8 at byte offset {start + error.start}",
            path=path,
            line=number,
            found=raw[error.start : error.end],
            hint="the file is damaged or in another encoding; get it again from its source, or convert it to UTF-8",
        ) from error


class Row:
    """A JSON object with its place in a file; fields are typed when they are taken."""

    def __init__(self, values: Mapping[str, object], *, path: Path, line: int, inside: str = "") -> None:
        self.line = line
        self._values = values
        self._path = path
        self._inside = inside

    def fail(self, problem: str, *, found: object = None, hint: str = _WHOLE_FILE_HINT) -> NoReturn:
        """Raise a `DataError` that names this row."""
        raise DataError(problem, path=self._path, line=self.line, found=found, hint=hint)

    def _take(self, field: str, kind: type[T], expected: str) -> T:
        if field not in self._values:
            # repr: a damaged name must not reach the terminal as it is.
            known = ", ".join(map(repr, sorted(self._values))) or "no fields"
            self.fail(f"the field '{self._inside}{field}' is missing; the record holds {clip(known, 160)}")
        value = self._values[field]
        # bool is a subclass of int, but `true` is neither a speaker nor an index.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self._mistyped(f"{self._inside}{field}", expected, value)
        return value

    def _mistyped(self, name: str, expected: str, value: object) -> NoReturn:
        self.fail(
            f"the field '{name}' must be {expected}",
            found=value,
            hint="compare the record with the official format of this file",
        )

    def text(self, field: str) -> str:
        """A string that can be written out again (JSON can spell half a surrogate pair, UTF-8 cannot)."""
        value = self._take(field, str, "a string")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            self.fail(f"the field '{self._inside}{field}' holds half of a surrogate pair", found=value)
        return value

    def flag(self, field: str) -> bool:
        """A boolean."""
        return self._take(field, bool, "true or false")

    def integer(self, field: str) -> int:
        """An integer."""
        return self._take(field, int, "an integer")

    def integers(self, field: str) -> tuple[int, ...]:
        """A list of integers."""
        values = self._take(field, list, "a list of integers")
        if any(not isinstance(value, int) or isinstance(value, bool) for value in values):
            self._mistyped(f"{self._inside}{field}", "a list of integers", values)
        return tuple(values)

    def rows(self, field: str) -> list[Row]:
        """A list of JSON objects."""
        values = self._take(field, list, "a list of objects")
        for index, value in enumerate(values):
            if not isinstance(value, dict):
                self._mistyped(f"{self._inside}{field}[{index}]", "an object", value)
        return [
            Row(value, path=self._path, line=self.line, inside=f"{self._inside}{field}[{index}].")
            for index, value in enumerate(values)
        ]


def json_rows(path: Path, *, hint: str = LAYOUT_HINT) -> Iterator[Row]:
    """Stream the objects of a file that holds one JSON object a line.

    Raises:
        DataError: as `text_lines`, or a line is not one JSON object.
    """
    for number, text in text_lines(path, hint=hint):
        try:
            value = json.loads(text)
        except RecursionError as error:
            raise DataError("JSON nested too deeply", path=path, line=number, hint=_WHOLE_FILE_HINT) from error
        except ValueError as error:
            reason = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
            raise DataError(
                f"not valid JSON: {reason}", path=path, line=number, found=text[-60:], hint=_WHOLE_FILE_HINT
            ) from error
        if not isinstance(value, dict):
            raise DataError("not a JSON object", path=path, line=number, found=value, hint=_WHOLE_FILE_HINT)
        yield Row(value, path=path, line=number)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        DataError: the file is missing, no regular file or unreadable.
    """
    _require_file(path, LAYOUT_HINT)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error
