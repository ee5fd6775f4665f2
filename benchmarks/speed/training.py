"""Training: a CRINGE step against a step of plain likelihood, and our defaults against ParlAI's agent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.speed.rows import Row, Side, Target, take_turns
from benchmarks.speed.setting import (
    BATCH,
    FIVE,
    ONE,
    TWENTY,
    Repeated,
    Setting,
    Shape,
    build,
    mixed,
    padding_share,
    say,
    training_lengths,
    training_settings,
)
from cringe.data import Feedback, StratifiedSampler, Stratum
from cringe.methods.base import Method
from cringe.methods.cringe_single import CringeSingle
from cringe.methods.transformer import Transformer
from cringe.token_cache import TokenCache
from cringe.trainer import Sampler, Trainer

if TYPE_CHECKING:
    from cringe.backbones import Backbone

STEP = 1.10
PEER = {ONE.name: Target(2.0, at_most=False)}
"""Against ParlAI, by shape; larger ones are reported."""
STEPS = {ONE.name: 3, FIVE.name: 2, TWENTY.name: 1}
"""Steps that are timed at once."""


def make_trainer(backbone: Backbone, method: Method, sampler: Sampler, setting: Setting) -> Trainer:
    """The real one, ready to step."""
    backbone.model.train()
    return Trainer(backbone, method, sampler, training_settings(), seed=0, device=setting.device)


class Steps:
    """Optimiser steps of a trainer, some at a time."""

    def __init__(self, trainer: Trainer, count: int) -> None:
        self._trainer = trainer
        self._count = count
        self._done = 0

    def side(self) -> Side:
        """In units of steps; the batches come in the sampler's order."""
        return Side(self._run)

    def tokens(self) -> Side:
        """In units of target tokens."""
        return Side(self._run_tokens)

    def _run(self) -> float:
        for _ in range(self._count):
            self._trainer.step(self._done)
            self._done += 1
        return float(self._count)

    def _run_tokens(self) -> float:
        before = self._trainer.counts.target_tokens.total()
        self._run()
        return float(self._trainer.counts.target_tokens.total() - before)


def measure_step(setting: Setting) -> Iterator[Row]:
    """The same batches through both losses, in models of three sizes."""
    examples = mixed(setting.examples())
    for shape in (ONE, FIVE, TWENTY)[: 1 if setting.brief else None]:
        say(f"step: {shape.name}")
        batches = Repeated(examples, batches=4)
        padding = _padding(build(setting, shape), batches)
        methods = {"CRINGE": CringeSingle(), "cross-entropy": Transformer()}
        sides = {
            name: Steps(make_trainer(build(setting, shape), method, batches, setting), STEPS[shape.name]).side()
            for name, method in methods.items()
        }
        turns = take_turns(sides, setting.repeats(11), warm_up=2, synchronize=setting.synchronize)
        yield Row(
            measure="step",
            what="a CRINGE training step, against one of cross-entropy",
            setting=f"{shape.sentence()}, batch {BATCH}, 25% negative, fp32, {padding}, {setting.dialogue}, "
            f"{setting.where}",
            values=turns.times("CRINGE", "cross-entropy"),
            target=Target(STEP),
            raw=turns.raw(),
        )


def measure_training(setting: Setting) -> Iterator[Row]:
    """Our sampler, trainer and defaults against ParlAI's agent, whose batches are of the same examples and size."""
    for shape in (ONE, FIVE, TWENTY)[: 1 if setting.brief else None]:
        examples = setting.examples()[: 500 if setting.brief else None]
        strata = (Stratum(source="dialogue", feedback=Feedback.UNLABELLED, weight=1),)
        backbone, settings = build(setting, shape, **training_lengths()), training_settings()
        sampler = StratifiedSampler(
            {"dialogue": examples},
            strata,
            batch_size=BATCH,
            seed=0,
            window=settings.length_window,
            lengths=backbone.lengths,
        )
        row = Row(
            measure="training",
            what="target tokens a second, against ParlAI's TransformerGeneratorAgent",
            setting=f"{shape.sentence()}, batch {BATCH}, up to {backbone.spec.max_source} tokens of context and "
            f"{backbone.spec.max_target} of response, fp32, {_padding(backbone, sampler)}, {setting.dialogue}, "
            f"{setting.where}",
            target=PEER.get(shape.name),
        )
        yield _against_peer(row, setting, shape, backbone, sampler)


def _against_peer(row: Row, setting: Setting, shape: Shape, backbone: Backbone, sampler: StratifiedSampler) -> Row:
    """The row with its figures, where ParlAI is to be measured against."""
    if not setting.against_parlai:
        return replace(row, missing="give --against parlai")
    from benchmarks.speed.parlai_peer import Peer

    say(f"training: {shape.name}")
    examples = setting.examples()
    with TemporaryDirectory() as folder:
        backbone.tokens = TokenCache.open(Path(folder), backbone, examples)
        steps = STEPS[shape.name] * 2
        sides = {
            "ours": Steps(make_trainer(backbone, Transformer(), sampler, setting), steps).tokens(),
            "ParlAI": Peer(setting, shape, backbone, examples).training(steps),
        }
        turns = take_turns(sides, setting.repeats(9), warm_up=2, synchronize=setting.synchronize)
    return replace(row, values=turns.speeds("ours", "ParlAI"), raw=turns.raw())


def _padding(backbone: Backbone, sampler: Sampler) -> str:
    """Which share of sources and targets is padding, over some batches."""
    sources, targets = [], []
    for step in range(4):
        examples = sampler.batch(step)
        sources.append(padding_share(backbone.context_lengths(examples)))
        targets.append(padding_share(backbone.collate(examples, seed=0, step=step).lengths))
    shares = (sum(found) / len(found) for found in (sources, targets))
    return "padding {:.0%} of sources, {:.0%} of targets".format(*shares)
