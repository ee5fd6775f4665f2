"""How a pretrained model is read that was named on a command line: what its own configuration says, and limits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from benchmarks.config import RunConfig
from benchmarks.config_checks import same_model
from benchmarks.errors import DataError, UsageError, clip, did_you_mean
from benchmarks.scoring import GivenModel
from benchmarks.yaml_text import read_yaml
from cringe.specs import PretrainedBackbone

SETTINGS = ("revision", "turn_separator", "max_source", "max_target", "documents", "max_document")
"""Of `cringe.specs.PretrainedBackbone`, what can be set; family, weights and revision are found."""
LONGEST_SOURCE, LONGEST_TARGET = 512, 128
"""Tokens of a context and of a gold reply that are read where nobody says, and the model has places for so many."""
_SEPARATORS = {"blenderbot": "  "}
"""Between turns, by the type of model, where it is not a line end: what the model was trained with."""


class _Source(NamedTuple):
    """Where a model is, in the words of transformers' ``from_pretrained``."""

    name: str
    gguf_file: str | None


def pretrained_model(what: str, words: Sequence[str], *, name: str | None, config: RunConfig) -> GivenModel:
    """The row of a model that transformers loads: from a folder, a GGUF file or the hub.

    Args:
        what: the folder, file or hub id.
        words: ``KEY=VALUE`` of `SETTINGS`.
        name: of the row; the last part of ``what`` when not given.
        config: whose decodings it must have places for.

    Raises:
        UserError: there is no such model, it cannot be read, or the settings do not fit it.
    """
    source = _source(what)
    values = _settings(words)
    found = _configuration(source, values.get("revision"))
    seq2seq = bool(getattr(found, "is_encoder_decoder", False))
    places = next(
        (int(value) for key in ("max_position_embeddings", "n_positions") if (value := getattr(found, key, 0))), 0
    )
    longest = max(spec.max_new_tokens for spec in config.decoding.values())
    if places and longest >= places:
        raise UsageError(
            f"{what} has {places} positions, and a decoding asks for {longest} new tokens\n"
            f"  next step: set fewer, such as --set decoding.{next(iter(config.decoding))}.max_new_tokens={places // 2}"
        )
    target = min(LONGEST_TARGET, places or LONGEST_TARGET)
    beside = values.get("max_document", 64) * bool(values.get("documents")) if seq2seq else max(longest, target // 2)
    usual = {
        "family": "seq2seq" if seq2seq else "causal",
        "turn_separator": _SEPARATORS.get(getattr(found, "model_type", ""), "\n"),
        "max_source": min(LONGEST_SOURCE, places - beside) if places else LONGEST_SOURCE,
        "max_target": target if seq2seq else max(longest, target // 2),
        "revision": getattr(found, "_commit_hash", None),
    }
    chosen = {"kind": "pretrained", "name": source.name, "gguf_file": source.gguf_file, **usual, **values}
    try:
        spec = PretrainedBackbone.model_validate(chosen)
    except ValidationError as error:
        lines = "".join(f"\n  {item['loc'][-1]}: {item['msg']} (found {item['input']!r})" for item in error.errors())
        raise UsageError(f"{what} cannot be read so:{lines}\n  next step: set it with --model KEY=VALUE") from error
    if isinstance(config.reference, PretrainedBackbone) and same_model(spec, config.reference):
        raise UsageError(
            f"{what} is the reference model, too, and a model finds fluent what it writes itself\n"
            "  next step: name another with --set reference.name=…, or take a preset whose reference is another"
        )
    row = name or re.sub(r"[^A-Za-z0-9._-]+", "-", Path(what).stem if source.gguf_file else Path(what).name)
    commit = f" at {spec.revision}" if spec.revision else ""
    return GivenModel(
        name=row,
        seed=0,
        settings={"backbone": spec.model_dump()},
        method=None,
        notes=(f"{row}: {Path(what).name}{commit} as it is; nothing was trained for this table but what judges.",),
    )


def _source(what: str) -> _Source:
    path = Path(what)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise DataError("the file is missing", path=path, hint="name a GGUF file, a folder or a hub id")
        return _Source(str(path.resolve().parent), path.name)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise DataError(
                "holds no model that transformers loads (there is no config.json)",
                path=path,
                hint="name a folder that save_pretrained wrote, or a directory of a training of a run",
            )
        if not list(path.glob("*.safetensors")):
            hint = "save it with save_pretrained, which writes safetensors; other formats can run code and are not read"
            raise DataError("holds no weights in safetensors", path=path, hint=hint)
        return _Source(str(path.resolve()), None)
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", what) or what.startswith("."):
        raise DataError("no such file or folder, and no hub id", path=what, hint="check the name")
    return _Source(what, None)


def _settings(words: Sequence[str]) -> dict[str, Any]:
    """The settings of a command line."""
    values = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or key not in SETTINGS:
            raise UsageError(f"--model {word}: not of the form KEY=VALUE; {did_you_mean(key, SETTINGS)}")
        try:
            values[key] = read_yaml(text)
        except ValueError as error:
            raise UsageError(f"--model {clip(word)}: the value is not YAML ({error})") from error
    return values


def _configuration(source: _Source, revision: str | None) -> Any:  # noqa: ANN401 - of a class of transformers
    """The model's own configuration; on the hub its commit is found with it."""
    from transformers import AutoConfig

    more = {"gguf_file": source.gguf_file} if source.gguf_file else {}
    try:
        return AutoConfig.from_pretrained(source.name, revision=revision or "main", trust_remote_code=False, **more)
    except (OSError, ValueError, ImportError, KeyError) as error:
        reason = clip(" ".join(str(error).split()), 200)
        raise DataError(
            f"cannot be read as a model of transformers: {reason}",
            path=source.name,
            hint="name a folder that save_pretrained wrote, a GGUF file, or a hub id that can be reached from here; a "
            "model's own code is not run",
        ) from error
