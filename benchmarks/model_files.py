"""What is there of a pretrained model, and how large it is: read from headers of files, without loading weights."""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Callable
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import BinaryIO, NamedTuple

from benchmarks.errors import DataError, UserError

CONFIGURATION, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
"""Files of a model as transformers names them; a large one has an index of several files of weights."""
_HUB_ID = re.compile(r"(?![.])[\w.-]+(/[\w.-]+)?")
_FLOATS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})
"""Types of weights in safetensors; integers are masks and positions."""
_GGUF_SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value of each type in a GGUF file's header; 8 is a string, 9 an array."""
_GGUF_STRING, _GGUF_ARRAY = 8, 9
_MOST_DIMENSIONS = 8
_Find = Callable[[str], Path | None]


class Found(NamedTuple):
    """What is known of a model before it is loaded."""

    said: str
    """Where it is, or what is missing, for people."""
    parameters: int | None
    """Number of weights; None where there is no file to count them in."""
    usable: bool
    """False where a run would fail."""


def look(name: str, *, gguf_file: str | None = None, revision: str | None = None) -> Found:
    """Look for a model's files where transformers would: in a folder, or in the cache of the hub.

    Args:
        name: a folder or a hub id.
        gguf_file: the file of the weights, where they are in GGUF.
        revision: on the hub; its main branch when not given.
    """
    if gguf_file is not None and find_spec("gguf") is None:
        return Found("weights in GGUF need a package; pip install -c constraints.txt gguf", None, usable=False)
    folder = Path(name)
    if folder.is_dir():
        try:
            parameters = _parameters(lambda file: _in_folder(folder, file), gguf_file)
        except UserError as error:
            return Found(str(error).split("\n")[0], None, usable=False)
        if parameters is None:
            needed = gguf_file or f"{CONFIGURATION} beside {WEIGHTS} or {INDEX}"
            return Found(f"holds no {needed}", None, usable=False)
        return Found("there", parameters, usable=True)
    if not _HUB_ID.fullmatch(name):
        return Found("no such folder, and no hub id", None, usable=False)
    return _on_hub(name, gguf_file, revision)


def _in_folder(folder: Path, file: str) -> Path | None:
    path = folder / file
    return path if path.is_file() else None


def _on_hub(name: str, gguf_file: str | None, revision: str | None) -> Found:
    """What the cache holds of a model of the hub; the hub is not asked."""
    from huggingface_hub import constants, try_to_load_from_cache

    def cached(file: str) -> Path | None:
        found = try_to_load_from_cache(name, file, revision=revision)
        return Path(found) if isinstance(found, str) else None

    try:
        parameters = _parameters(cached, gguf_file)
    except (UserError, ValueError) as error:
        return Found(str(error).split("\n")[0], None, usable=False)
    if parameters is not None:
        return Found("in the cache of the hub", parameters, usable=True)
    if constants.HF_HUB_OFFLINE:
        return Found("not in the cache of the hub, and HF_HUB_OFFLINE keeps it from being fetched", None, usable=False)
    return Found("not in the cache of the hub; will be fetched when the run begins", None, usable=True)


def _parameters(find: _Find, gguf_file: str | None) -> int | None:
    """Number of weights of a model whose files ``find`` finds; None if one of them is missing.

    Raises:
        DataError: a file is not in its format, or is cut off.
    """
    if gguf_file is not None:
        path = find(gguf_file)
        return None if path is None else gguf_parameters(path)
    if find(CONFIGURATION) is None:
        return None
    names = {WEIGHTS}
    if find(WEIGHTS) is None and (index := find(INDEX)) is not None:
        try:
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise DataError("is no index of weights", path=index) from error
    paths = [find(str(name)) for name in sorted(map(str, names))]
    return sum(safetensors_parameters(path) for path in paths if path is not None) if all(paths) else None


def safetensors_parameters(path: Path) -> int:
    """Number of weights in a file of safetensors, from its header.

    Raises:
        DataError: it is not in that format, or is cut off.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = _numbers(file, "<Q")
            if length > size:
                raise EOFError
            header = json.loads(file.read(length))
        tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
        end = 8 + length + max((tensor["data_offsets"][1] for tensor in tensors), default=0)
        count = sum(prod(tensor["shape"]) for tensor in tensors if tensor["dtype"] in _FLOATS)
    except (OSError, EOFError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        raise DataError("is no file of safetensors", path=path) from error
    if end > size:
        raise DataError("is cut off", path=path)
    return count


def gguf_parameters(path: Path) -> int:
    """Number of weights in a GGUF file, from its header (github.com/ggml-org/ggml, docs/gguf.md).

    Raises:
        DataError: it is not in that format, or is cut off.
    """
    size = path.stat().st_size
    count = last = 0
    try:
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise DataError("is no GGUF file", path=path)
            _, tensors, entries = _numbers(file, "<IQQ")
            for _ in range(entries):
                _skip_string(file)
                _skip_value(file, *_numbers(file, "<I"))
            for _ in range(tensors):
                _skip_string(file)
                (dimensions,) = _numbers(file, "<I")
                if dimensions > _MOST_DIMENSIONS:
                    raise DataError("is no GGUF file that is understood here", path=path)
                count += prod(_numbers(file, f"<{dimensions}Q"))
                _, offset = _numbers(file, "<IQ")
                last = max(last, offset)
            if file.tell() + last >= size:
                raise EOFError
    except (EOFError, OSError, OverflowError, ValueError) as error:
        raise DataError("is cut off, or is no GGUF file that is understood here", path=path) from error
    return count


def _numbers(file: BinaryIO, form: str) -> tuple[int, ...]:
    """Read numbers.

    Raises:
        EOFError: the file ends before.
    """
    content = file.read(struct.calcsize(form))
    if len(content) < struct.calcsize(form):
        raise EOFError
    return struct.unpack(form, content)


def _skip_string(file: BinaryIO) -> None:
    (length,) = _numbers(file, "<Q")
    file.seek(length, os.SEEK_CUR)


def _skip_value(file: BinaryIO, kind: int) -> None:
    """Go behind a value of the header."""
    if kind == _GGUF_STRING:
        _skip_string(file)
    elif kind == _GGUF_ARRAY:
        inner, length = _numbers(file, "<IQ")
        if inner == _GGUF_STRING:
            for _ in range(length):
                _skip_string(file)
        else:
            file.seek(_bytes_of(inner) * length, os.SEEK_CUR)
    else:
        file.seek(_bytes_of(kind), os.SEEK_CUR)


def _bytes_of(kind: int) -> int:
    if kind not in _GGUF_SCALARS:
        raise ValueError(f"a value of type {kind}")
    return _GGUF_SCALARS[kind]
