"""What all measures share: machine, threads, the shapes of models, and the dialogue that they are fed."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.environment import processor
from cringe.data import Example, Feedback
from cringe.seeding import stable_hash
from cringe.specs import ScratchBackbone, TrainingSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from benchmarks.config import RunConfig
    from cringe.backbones import Backbone

POOL = 4_000
"""Examples that batches are drawn from."""
BATCH = 32


class Shape(NamedTuple):
    """A BlenderBot of some size."""

    name: str
    vocabulary: int
    width: int
    encoder_layers: int
    decoder_layers: int
    heads: int
    feedforward: int

    def backbone(self, *, max_source: int = 64, max_target: int = 64) -> ScratchBackbone:
        """Its specification; no dropout, so that all sides do the same work."""
        shape = self._asdict() | {"max_source": max_source, "max_target": max_target}
        return ScratchBackbone.model_validate({name: value for name, value in shape.items() if name != "name"})

    def sentence(self) -> str:
        """The shape in words."""
        layers = f"{self.encoder_layers} + {self.decoder_layers} layers"
        return f"{self.name} parameters ({layers}, d {self.width}, V {self.vocabulary:,})"


ONE = Shape("1.3 M", 4096, 128, 1, 2, 4, 512)
FIVE = Shape("5 M", 8192, 256, 2, 2, 4, 512)
TWENTY = Shape("19 M", 8192, 512, 2, 2, 8, 2048)
PAPERS = Shape("365 M", 8008, 1280, 2, 12, 32, 5120)
"""BlenderBot 400M, the paper's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """How it is measured."""

    device: str
    """``cpu`` or ``cuda``."""
    threads: int
    data: Path | None
    """A folder with ConvAI2; None for generated dialogue."""
    against_parlai: bool
    brief: bool = False
    """One repetition of little work, to see that it runs: figures mean nothing."""

    @property
    def where(self) -> str:
        """Device and threads, for a row."""
        return f"{self.threads} thread{'s' * (self.threads > 1)}" if self.device == "cpu" else "GPU"

    def repeats(self, usual: int) -> int:
        """How often to repeat what is usually repeated so often."""
        return 1 if self.brief else usual

    def tokens(self, usual: int) -> int:
        """How many tokens to reply with where it is usually so many."""
        return 4 if self.brief else usual

    def synchronize(self) -> None:
        """Wait for what the device was told to do."""
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()

    @property
    def dialogue(self) -> str:
        """Which dialogue models are fed, for a row."""
        return "generated dialogue" if self.data is None else "ConvAI2"

    def examples(self) -> list[Example]:
        """Unlabelled dialogue, in an order that says nothing."""
        return list(_examples(self.data))


@lru_cache(maxsize=1)
def _examples(data: Path | None) -> tuple[Example, ...]:
    from benchmarks.tasks import convai2, synthetic

    if data is not None:
        found: Sequence[Example] = convai2.load_split(data, "train").examples
    else:
        with TemporaryDirectory() as folder:
            synthetic.write_convai2(Path(folder), seed=0, train_dialogues=POOL // 6, valid_dialogues=1)
            found = convai2.load_split(Path(folder), "train").examples
    return tuple(islice(sorted(found, key=lambda example: stable_hash("speed", example.uid)), POOL))


def mixed(examples: Sequence[Example], *, negatives: float = 0.25) -> list[Example]:
    """The same examples, a share of them said to be negative and as many to be positive, evenly spread."""
    every = round(1 / negatives)
    kinds = {0: Feedback.NEGATIVE, every // 2: Feedback.POSITIVE}
    return [
        replace(example, feedback=kinds.get(index % every, Feedback.UNLABELLED))
        for index, example in enumerate(examples)
    ]


class Repeated:
    """A sampler that gives some batches in turn."""

    def __init__(self, examples: Sequence[Example], *, batches: int, size: int = BATCH) -> None:
        self._batches = [list(examples[start * size : (start + 1) * size]) for start in range(batches)]

    def batch(self, step: int) -> list[Example]:
        """The examples of one optimiser step."""
        return self._batches[step % len(self._batches)]


@lru_cache(maxsize=1)
def _defaults() -> RunConfig:
    from benchmarks.config import resolve

    return resolve(task="convai2", method_names=["transformer"], preset="cpu", seeds=(0,))


def training_settings() -> TrainingSettings:
    """Our defaults, those of preset ``cpu``, for a training without end."""
    changed = {"updates": 1_000_000, "batch_size": BATCH, "schedule": "constant", "warmup_updates": 0}
    return _defaults().training.model_copy(update=changed)


def training_lengths() -> dict[str, int]:
    """Tokens of context and of response in training, by default."""
    backbone = _defaults().backbone
    return {"max_source": backbone.max_source, "max_target": backbone.max_target}


@lru_cache(maxsize=8)
def _tokenizer(setting: Setting, vocabulary: int) -> PreTrainedTokenizerFast:
    """Trained on the dialogue, and filled up with tokens that do not occur where its text holds fewer."""
    from cringe.tokenizer import train_tokenizer

    spec = ONE._replace(vocabulary=vocabulary).backbone()
    examples = setting.examples()
    tokenizer = train_tokenizer((text for example in examples for text in (*example.context, example.response)), spec)
    tokenizer.add_tokens([f"<unused{index}>" for index in range(vocabulary - len(tokenizer))])
    return tokenizer


def build(setting: Setting, shape: Shape, *, max_source: int = 64, max_target: int = 64) -> Backbone:
    """A model of a shape with random weights, the same ones each time, on the device."""
    from cringe.backbones import build_backbone

    tokenizer = _tokenizer(setting, shape.vocabulary)
    backbone = build_backbone(shape.backbone(max_source=max_source, max_target=max_target), tokenizer, seed=0)
    return backbone.to(setting.device)


def padding_share(lengths: Sequence[int]) -> float:
    """Which share of a batch, as wide as its longest sequence, is padding."""
    return 1 - sum(lengths) / (max(lengths) * len(lengths))


def machine(setting: Setting) -> Mapping[str, str]:
    """What the figures hold for, for the head of the table."""
    import torch

    name = processor() or platform.processor() or "unknown processor"
    found = {"processor": f"{name}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"}
    if setting.device == "cuda":
        found["GPU"] = torch.cuda.get_device_name()
    names = ["torch", "transformers", *["parlai"] * setting.against_parlai]
    packages = [f"{name} {_version(name)}" for name in names]
    found["versions"] = ", ".join([f"python {platform.python_version()}", *packages])
    found["threads"] = str(setting.threads)
    return found


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def say(text: str) -> None:
    """What is being done, beside the table."""
    print(text, file=sys.stderr, flush=True)
