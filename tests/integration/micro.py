"""Runs as small as they get: their presets, and what of their results must be equal to the byte."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

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
