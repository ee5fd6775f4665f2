"""Where the time of a training step and of a decoding step goes, for each method, and what bounds it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, NamedTuple

import torch

from benchmarks.speed.decoding import LENGTH, beam, make_guides
from benchmarks.speed.rows import table
from benchmarks.speed.setting import BATCH, FIVE, ONE, TWENTY, Repeated, Setting, Shape, build, machine, mixed, say
from benchmarks.speed.training import make_trainer
from cringe import beam as beam_search
from cringe.backbones import Backbone
from cringe.beam_state import BeamState
from cringe.beam_tree import BeamTree
from cringe.blocks import ContextBlock, EndBlock, RepeatBlock
from cringe.classifier import Classifier
from cringe.counts import Counts
from cringe.generation import generate
from cringe.guidance import FudgeProcessor
from cringe.methods import registry
from cringe.methods.base import Guides, Method
from cringe.trainer import Trainer

LARGER = ("transformer", "cringe_single")
"""Methods that are looked at in larger models, too."""
TRAINING = ("batch", "forward", "loss", "backward", "optimiser")
DECODING = ("encoder", "model", "blocks", "guide", "top-k", "cache")
REST = "rest"
STEPS = 6


class Watched(NamedTuple):
    """A function whose time is taken."""

    owner: object
    """A class or an instance."""
    name: str
    part: str


class Clock:
    """Seconds in each part; what a part calls that is a part itself counts there alone."""

    def __init__(self, synchronize: Callable[[], object]) -> None:
        self.seconds: dict[str, float] = {}
        self._synchronize = synchronize
        self._running: list[str] = []
        self._since = 0.0

    @contextmanager
    def timing(self, part: str) -> Iterator[None]:
        """The block is a part."""
        self._switch()
        self._running.append(part)
        try:
            yield
        finally:
            self._switch()
            self._running.pop()

    @contextmanager
    def watching(self, functions: Sequence[Watched]) -> Iterator[None]:
        """While this holds, calls of these functions are parts."""
        with ExitStack() as stack:
            for owner, name, part in functions:
                original = getattr(owner, name)
                if name in vars(owner):
                    stack.callback(setattr, owner, name, original)
                else:
                    stack.callback(delattr, owner, name)
                setattr(owner, name, self._timed(original, part))
            yield

    def _timed(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the function returns
            with self.timing(part):
                return function(*args, **kwargs)

        return timed

    def _switch(self) -> None:
        self._synchronize()
        now = time.perf_counter()
        if self._running:
            part = self._running[-1]
            self.seconds[part] = self.seconds.get(part, 0.0) + now - self._since
        self._since = now


def profile(setting: Setting) -> str:
    """Both tables, as Markdown."""
    rate = product_rate(setting)
    training, decoding = [], []
    for shape in (ONE, FIVE, TWENTY)[: 1 if setting.brief else None]:
        for name in registry.entries() if shape is ONE else LARGER:
            say(f"profile: {name}, {shape.name}")
            method: Method = registry.load(name)()
            if method.trained_as() == method:
                training.append([name, shape.name, *_training(setting, shape, method, rate)])
            decoding.append([name, shape.name, *_decoding(setting, shape, method, rate)])
    about = [f"{name}: {value}" for name, value in machine(setting).items()]
    about.append(f"matrix product: {rate / 1e9:.0f} GFLOP/s, fp32")
    columns = ("method", "parameters", "ms a step")
    bounds = ("bound by", "of the matrix product's rate")
    spec = beam(ONE, length=setting.tokens(LENGTH))
    return "\n".join(
        [
            *about,
            "",
            f"One training step, batch {BATCH}, 25% negative, {setting.dialogue}. What is not here trains as another.",
            "",
            table((*columns, *TRAINING, REST, *bounds), training),
            "",
            f"One step of decoding, beam {spec.beams}, the mean of {spec.max_new_tokens}.",
            "",
            table((*columns, *DECODING, REST, *bounds), decoding),
        ]
    )


def _training(setting: Setting, shape: Shape, method: Method, rate: float) -> list[str]:
    backbone = build(setting, shape)
    method.wrap(backbone, seed=0)
    trainer = make_trainer(backbone, method, Repeated(mixed(setting.examples()), batches=2), setting)
    for step in range(2):
        trainer.step(step)
    before, clock = trainer.counts.flops, Clock(setting.synchronize)
    steps = 1 if setting.brief else STEPS
    with clock.watching(_parts_of_training(trainer, backbone, method)):
        for step in range(steps):
            with clock.timing(REST):
                trainer.step(step)
    return _line(clock, TRAINING, steps, (trainer.counts.flops - before) / rate)


def _parts_of_training(trainer: Trainer, backbone: Backbone, method: Method) -> list[Watched]:
    accelerator, optimizer = trainer._accelerator, trainer._optimizer
    return [
        Watched(backbone, "collate", "batch"),
        Watched(backbone, "logits", "forward"),
        Watched(type(method), "loss", "loss"),
        Watched(accelerator, "backward", "backward"),
        Watched(accelerator, "clip_grad_norm_", "optimiser"),
        Watched(optimizer, "step", "optimiser"),
        Watched(optimizer, "zero_grad", "optimiser"),
    ]


def _decoding(setting: Setting, shape: Shape, method: Method, rate: float) -> list[str]:
    backbone = build(setting, shape)
    guides = make_guides(setting, backbone) if method.needs else Guides()
    method.wrap(backbone, seed=0)
    backbone.to(setting.device)
    spec = beam(shape, length=setting.tokens(LENGTH))
    examples = setting.examples()[: spec.batch_size]

    def run(counts: Counts) -> None:
        generate(backbone, examples, spec, seed=0, steering=method.steering(guides, seed=0), counts=counts)

    run(Counts())
    counts, clock = Counts(), Clock(setting.synchronize)
    with clock.watching(_parts_of_decoding(backbone)), clock.timing(REST):
        run(counts)
    return _line(clock, DECODING, spec.max_new_tokens, counts.flops / rate)


def _parts_of_decoding(backbone: Backbone) -> list[Watched]:
    return [
        Watched(backbone.model.get_encoder(), "forward", "encoder"),
        Watched(backbone.model, "forward", "model"),
        *(Watched(block, "__call__", "blocks") for block in (RepeatBlock, ContextBlock, EndBlock)),
        *(Watched(FudgeProcessor, name, "guide") for name in ("__call__", "shortlist")),
        Watched(Classifier, "probabilities", "guide"),
        Watched(BeamState, "extend", "top-k"),
        *(Watched(BeamTree, name, "cache") for name in ("advance", "keep")),
        Watched(beam_search._Decoder, "keep", "cache"),
    ]


def _line(clock: Clock, parts: Sequence[str], steps: int, least: float) -> list[str]:
    """Milliseconds a step, shares of the parts, the largest of them, and how near all is to a matrix product."""
    total = sum(clock.seconds.values())
    shares = {part: clock.seconds.get(part, 0.0) / total for part in (*parts, REST)}
    largest = max(shares, key=lambda part: shares[part])
    cells = [f"{share:.0%}" for share in shares.values()]
    return [f"{1000 * total / steps:.1f}", *cells, largest, f"{least / total:.0%}"]


def product_rate(setting: Setting) -> float:
    """Floating-point operations a second of a large matrix product on the device in fp32: the best of some tries."""
    size, best = 1024, 0.0
    left, right = (torch.ones(size, size, device=setting.device) for _ in range(2))
    for _ in range(6):
        setting.synchronize()
        start = time.perf_counter()
        left @ right
        setting.synchronize()
        best = max(best, 2.0 * size**3 / (time.perf_counter() - start))
    return best
