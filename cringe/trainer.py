"""The one training loop: every method goes through it, so that only the loss differs."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from cringe.backbones import Backbone
from cringe.batch import Batch
from cringe.checkpoint import DamagedStateError, TrainingState
from cringe.counts import SUMMED, Counts
from cringe.data import Example, Feedback
from cringe.methods.base import Method, TokenLoss
from cringe.parallel import Processes, make_accelerator
from cringe.seeding import torch_seed
from cringe.specs import TrainingSettings

Progress = Callable[[int, int, str], None]
"""Told (done, total, note) as work goes on."""


class Sampler(Protocol):
    """What gives the trainer its batches."""

    def batch(self, step: int) -> list[Example]:
        """The examples of one optimiser step."""


def learning_rate(settings: TrainingSettings, step: int) -> float:
    """The learning rate of optimiser step ``step``, counted from 0."""
    if step < settings.warmup_updates:
        return settings.learning_rate * (step + 1) / settings.warmup_updates
    if settings.schedule == "constant":
        return settings.learning_rate
    remaining = (settings.updates - step) / max(1, settings.updates - settings.warmup_updates)
    return settings.learning_rate * remaining


UNSCORED = "unscored"
"""In the ledger: target tokens that no method gives a loss: outside of the spans of a negative response, or outside of
what is repeated in a reply that the model generated in training."""


_ALIKE = frozenset({"learning_rate", "gradient_norm", "negative_share"})
"""What a record of the log holds of the whole step in every process; of the rest each has a part."""


class Span(NamedTuple):
    """The optimiser steps that one training does, of a schedule that may begin earlier and end later."""

    first: int
    last: int
    """One past the last step."""
    origin: int = 0
    """The step at which the schedule of the learning rate begins."""


class _Forward(nn.Module):
    """The forward pass as one module, for what wraps modules: data-parallel training, mixed precision.

    The loss is a part of it, for accelerate copies what leaves a module in half precision to float32: here N numbers,
    and not the logits.
    """

    def __init__(self, backbone: Backbone, method: Method) -> None:
        super().__init__()
        self.model = backbone.model
        self._backbone = backbone
        self._method = method

    def forward(self, batch: Batch) -> TokenLoss:
        """The losses of the batch's target tokens; the log's parts of them give no gradient."""
        values, components = self._method.loss(self._backbone.logits(batch), batch)
        return TokenLoss(values, {name: part.detach() for name, part in components.items()})


class Trainer:
    """Trains a backbone in place. One optimiser step is a function of the weights, the examples, the seed and the step.

    Where torchrun started several processes, each makes a trainer of the same things and computes a share of every
    step; weights, counts and log are those of the whole step in all of them. Two processes give what one gives that
    accumulates twice as many micro-batches.

    Args:
        backbone: the model to train.
        method: gives the loss.
        sampler: gives the examples of each step.
        settings: equal for all methods of a table.
        span: the steps to do, where training is one round of several; all of ``settings`` when not given.
        seed: of dropout and of the draws inside losses.
        device: ``cpu`` or ``cuda``.
        log_every: steps between two records of the log.
        progress: told how far it is, by the first process.
        resume: a file for the state of an unfinished training, which the first process writes; what it holds is gone
            on with, unless it is damaged.
        save_every_seconds: how often the state is kept.
    """

    def __init__(
        self,
        backbone: Backbone,
        method: Method,
        sampler: Sampler,
        settings: TrainingSettings,
        *,
        seed: int,
        span: Span | None = None,
        device: str = "cpu",
        log_every: int = 20,
        progress: Progress = lambda done, total, note: None,
        resume: Path | None = None,
        save_every_seconds: float = 120.0,
    ) -> None:
        self.backbone = backbone
        self.method = method
        self.settings = settings
        self.counts = Counts()
        self._sampler = sampler
        self._seed = seed
        self._span = span if span is not None else Span(0, settings.updates)
        self.records: list[dict[str, float]] = []
        self._log_every = log_every
        self._progress = progress
        self._accelerator = make_accelerator(settings, device)
        self._processes = Processes(self._accelerator)
        optimizer = torch.optim.AdamW(
            backbone.model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        self._model, self._optimizer = self._accelerator.prepare(_Forward(backbone, method), optimizer)
        self._resume = resume
        self._save_every_seconds = save_every_seconds

    @property
    def is_main_process(self) -> bool:
        """Is this the process that shall save what was trained? One alone is."""
        return self._processes.is_first

    def train(self) -> Counts:
        """Do all updates that are not done yet; return what was spent, earlier parts included."""
        step = self._span.first
        if self._resume is not None and self._resume.is_file():
            step = self._take_up(self._resume, step)
        self._processes.require_equal(step, f"processes go on from different steps; do all of them see {self._resume}?")
        saved = time.monotonic()
        self.backbone.model.train()
        if step == 0:
            self._begin()
        while step < self._span.last:
            with self.counts.timed():
                record = self.step(step)
            step += 1
            if step % self._log_every == 0 or step == self._span.last:
                self._log(step, record)
            if self._resume is not None and time.monotonic() - saved > self._save_every_seconds:
                self.keep(self._resume, step)
                saved = time.monotonic()
        self.backbone.model.eval()
        (self.counts.peak_memory_bytes,) = self._processes.largest([self.counts.peak_memory_bytes])
        return self.counts

    def _log(self, step: int, record: Mapping[str, float | Tensor]) -> None:
        """Add a step to the log, what all processes have a part of summed up, and say how far it is."""
        values = {name: float(value) for name, value in record.items()}
        parts = [name for name in values if name not in _ALIKE]
        whole = self._processes.sums([values[name] for name in parts])
        self.records.append({"step": step, **values, **dict(zip(parts, whole, strict=True))})
        self._check_finite()
        if self.is_main_process:
            done, total = step - self._span.first, self._span.last - self._span.first
            self._progress(done, total, f"loss {self.records[-1]['loss']:.3f}")

    def _take_up(self, path: Path, first: int) -> int:
        """Go on from a kept state, or, where it is damaged, begin at step ``first``; returns the step."""
        try:
            return self.restore(path)
        except DamagedStateError as error:
            logging.getLogger(__name__).warning("%s; the training begins again", error)
            return first

    def _check_finite(self) -> None:
        """Stop at a loss that is no number, rather than train on to weights that are none."""
        last = self.records[-1]
        if not all(math.isfinite(value) for value in last.values()):
            raise ValueError(
                f"the loss is not finite by step {last['step']:.0f} (loss {last['loss']}, gradient norm "
                f"{last['gradient_norm']}); lower the learning rate or the method's weights"
            )

    def _begin(self) -> None:
        """Show the method the first step's examples, in batches that a forward pass holds."""
        if type(self.method).begin is not Method.begin:
            parts = self._processes.cut(self._sampler.batch(0), self.settings.micro_batch_size)
            self.method.begin(self.backbone, [self._collate(part, 0) for part in parts])
            self._processes.copy_from_first(self.backbone.model)

    def step(self, step: int) -> dict[str, float | Tensor]:
        """One optimiser step, from 0. Returns what the log records of it, tensors not yet waited for."""
        examples = self._sampler.batch(step)
        rate = learning_rate(self.settings, step - self._span.origin)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        parts = self._processes.deal(self._processes.cut(examples, self.settings.micro_batch_size))
        generated = Counts()
        batches = [(place, self._batch(part, step, generated)) for place, part in parts]
        tokens = self._count(examples, [batch for _, batch in batches], generated)
        shares: Mapping[str, float] = tokens
        if not batches:  # the others wait for this process's gradient: it gives them one of 0
            batches = [(0, self._batch(examples[:1], step, Counts()))]
            shares = dict.fromkeys(tokens, math.inf)
        record: dict[str, float | Tensor] = {"learning_rate": rate, "loss": 0.0}
        for place, batch in batches:
            with ExitStack() as stack:
                if batch is not batches[-1][1]:
                    stack.enter_context(self._accelerator.no_sync(self._model))
                self._backward(batch, shares, place, record)
        record["gradient_norm"] = self._accelerator.clip_grad_norm_(self._model.parameters(), self.settings.clip_norm)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.counts.updates += 1
        record["negative_share"] = tokens["negative"] / tokens["all"]
        return record

    def _batch(self, examples: Sequence[Example], step: int, counts: Counts) -> Batch:
        """Examples as the method wants to be trained on them; what it generates for that is counted."""
        return self.method.prepare_batch(self.backbone, self._collate(examples, step), counts)

    def _collate(self, examples: Sequence[Example], step: int) -> Batch:
        groups = self.settings.length_groups
        batch = self.backbone.collate(examples, seed=self._seed, step=step, groups=groups)
        return batch.to(self._accelerator.device)

    def _backward(
        self, batch: Batch, tokens: Mapping[str, float], place: int, record: dict[str, float | Tensor]
    ) -> None:
        """Add the gradient of one micro-batch; its loss is a sum, divided by the count of the whole step."""
        with ExitStack() as stack:
            stack.enter_context(self._accelerator.autocast())
            if self.backbone.dropout > 0:
                stack.enter_context(torch_seed(self._seed, "dropout", batch.step, place, *batch.examples[:1]))
            token_loss: TokenLoss = self._model(batch)
        loss = self._reduce(token_loss.values, batch, tokens)
        # Data-parallel training averages gradients over processes; the reduction is a sum.
        self._accelerator.backward(loss * self._accelerator.num_processes)
        record["loss"] = record["loss"] + loss.detach()
        for name, values in token_loss.components.items():
            record[name] = record.get(name, 0.0) + values.sum() / tokens["all"]

    def _reduce(self, values: Tensor, batch: Batch, tokens: Mapping[str, float]) -> Tensor:
        """The step's share of this batch: a sum of token losses over the step's number of target tokens."""
        if self.settings.reduction == "joint":
            return values.sum() / tokens["all"]
        liked = values[: batch.liked].sum() / max(1, tokens["liked"])
        return liked + values[batch.liked :].sum() / max(1, tokens["negative"])

    def _count(self, examples: Sequence[Example], batches: Sequence[Batch], generated: Counts) -> dict[str, int]:
        """Count the step in the ledger; return the numbers of target tokens that losses are divided by.

        Args:
            examples: of the whole step.
            batches: of this process, and
            generated: what it spent on making them.
        """
        spent = Counter(dict.fromkeys(["source", *(feedback.value for feedback in Feedback), UNSCORED], 0))
        for batch in batches:
            spent["source"] += batch.source_tokens
            spent[Feedback.UNLABELLED.value] += batch.unlabelled
            spent[Feedback.POSITIVE.value] += batch.liked - batch.unlabelled
            spent[Feedback.NEGATIVE.value] += len(batch.tokens) - batch.liked
            spent[UNSCORED] += sum(batch.lengths) - len(batch.tokens)
        whole = iter(self._processes.sums([*spent.values(), *(getattr(generated, name) for name in SUMMED)]))
        spent = Counter({name: next(whole) for name in spent})
        self.counts.add(Counts(**dict(zip(SUMMED, whole, strict=True))))
        source = spent.pop("source")
        counts = self.counts
        counts.examples += len(examples)
        counts.see(example.uid for example in examples)
        counts.source_tokens += source
        counts.target_tokens += spent  # drops what is 0
        counts.forward_passes += len(examples)
        counts.backward_passes += len(examples)
        counts.flops += 3 * self.backbone.forward_flops(source, spent.total())
        liked = spent[Feedback.UNLABELLED.value] + spent[Feedback.POSITIVE.value]
        return {"all": max(1, spent.total()), "liked": liked, "negative": spent[Feedback.NEGATIVE.value]}

    def keep(self, path: Path, step: int) -> None:
        """Write the state after ``step`` steps; one process does."""
        if self.is_main_process:
            self._state(step).save(path)

    def restore(self, path: Path) -> int:
        """Go on from a kept state; return the number of steps done."""
        state = self._state(0)
        state.load(path)
        self.counts, self.records = state.counts, state.records
        return state.step

    def _state(self, step: int) -> TrainingState:
        return TrainingState(
            step=step,
            counts=self.counts,
            records=self.records,
            model=self.backbone.model,
            optimizer=self._optimizer,
        )
