"""Runs as small as they get: presets, commands without a process, and what of the results must be equal to the byte."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

import pytest
import yaml

import benchmarks
from benchmarks.executors.pool import variables

DECODING = {
    "beam": {
        "strategy": "beam",
        "beams": 2,
        "min_new_tokens": 3,
        "max_new_tokens": 6,
        "no_repeat_ngram": 3,
        "no_context_ngram": 3,
    },
    "greedy": {"strategy": "greedy", "max_new_tokens": 6},
    "nucleus": {"strategy": "nucleus", "top_p": 0.9, "max_new_tokens": 6},
}
SMALL = {"epochs": 1, "width": 16, "heads": 2, "feedforward": 16}
"""A guide, or a judge of its kind."""
OUTPUTS = frozenset(
    {"predictions.jsonl", "scores.csv", "replies.jsonl", "report.json", "model.safetensors", "tokenizer.json"}
)


def preset(
    *,
    updates: int,
    warmup: int | None = None,
    prompts: int = 8,
    decoding: Sequence[str] = ("beam", "nucleus"),
    **more: Any,
) -> str:
    """A preset as YAML; its numbers mean nothing.

    Args:
        updates: of each training.
        warmup: of the warm-up, and of the reference model; as many when not given.
        prompts: of each set.
        decoding: names in `DECODING`.
        more: further entries, over those here.
    """
    same = {"batch_size": 8, "warmup_updates": 2}
    entries = {
        "seeds": [0],
        "threads": 1,
        "prompts": prompts,
        "backbone": {
            "kind": "scratch",
            "vocabulary": 320,
            "width": 16,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "heads": 2,
            "feedforward": 16,
            "max_source": 24,
            "max_target": 16,
        },
        "warmup": {"updates": updates if warmup is None else warmup, "learning_rate": 0.01, **same},
        "training": {"updates": updates, "learning_rate": 0.02, **same},
        "decoding": {name: DECODING[name] for name in decoding},
        "judge": {"kind": "linear"},
        "guide": dict(SMALL),
    }
    return yaml.safe_dump({**entries, **more}, sort_keys=False)


def outputs(results: Path) -> dict[str, bytes]:
    """What law 4 wants equal to the byte: predictions, scores and tables; on one machine replies and weights, too."""
    return {
        path.relative_to(results).as_posix(): path.read_bytes()
        for path in sorted(results.rglob("*"))
        if path.is_file()
        and not path.relative_to(results).parts[0].startswith(".")
        and (path.name in OUTPUTS or path.parent.parent.name == "tables")
    }


class Said(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str


def here(*arguments: str, folder: Path, environment: Mapping[str, str] | None = None) -> Said:
    """Run ``python -m benchmarks.…`` in this process, which need not load what takes seconds; its workers are others.

    Args:
        arguments: the module's name first.
        folder: that the command is given in.
        environment: of its workers.
    """
    with pytest.MonkeyPatch.context() as patch, caught() as said:
        patch.chdir(folder)
        paths = {"PYTHONPATH": str(Path(benchmarks.__file__).parents[1])}
        for name, value in {**variables(1), **paths, **(environment or {})}.items():  # the command sets the first
            patch.setenv(name, value)
        code = import_module(arguments[0]).main(list(arguments[1:]))
    return Said(code, *said)


@contextmanager
def caught() -> Iterator[list[str]]:
    """What this process and those that it starts print in the block, on stdout and stderr, once the block is over."""
    said: list[str] = []
    with ExitStack() as stack:
        files = [stack.enter_context(TemporaryFile("w+", buffering=1)) for _ in range(2)]
        for number, file in enumerate(files, 1):
            kept = os.dup(number)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, number)
            os.dup2(file.fileno(), number)
        with redirect_stdout(files[0]), redirect_stderr(files[1]):
            yield said
        for file in files:
            file.seek(0)
            said.append(file.read())
