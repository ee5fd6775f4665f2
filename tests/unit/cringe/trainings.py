"""Trainings that torchrun starts and a test repeats in one process: ``torchrun trainings.py FOLDER TASK:NAME …``."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from cringe.backbones import build_backbone, train_tokenizer
from cringe.data import Example, Feedback
from cringe.methods import registry
from cringe.specs import ScratchBackbone, TrainingSettings
from cringe.trainer import Trainer

TEXT = "i have two dogs and a cat . do you like pizza ? i do not like it at all ! what do you do for work ?"
WORDS = TEXT.split(" ")
SPEC = ScratchBackbone(
    vocabulary=300,
    width=16,
    encoder_layers=1,
    decoder_layers=1,
    heads=2,
    feedforward=32,
    max_source=32,
    max_target=16,
)
KINDS = (Feedback.UNLABELLED, Feedback.POSITIVE, Feedback.UNLABELLED, Feedback.NEGATIVE)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A training of four steps, of as many examples each as ``sizes`` says in turn."""

    method: str
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    sizes: tuple[int, ...] = (8,)
    family: str = "seq2seq"
    dropout: float = 0.0
    double: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    alone: int = 4
    """Examples of a micro-batch in one process that does the same."""


TWO = {
    "transformer": Case(method="transformer", dropout=0.2),
    "cringe": Case(method="cringe_single", family="causal", settings={"micro_batch_size": 2}, alone=2),
    "director": Case(method="director", double=True, settings={"micro_batch_size": 2}, dropout=0.2, alone=2),
    "repeats": Case(method="unlikelihood_sequence", hyperparameters={"rate": 1.0, "ngram": 2}, family="causal"),
    "separate": Case(method="unlikelihood", settings={"reduction": "separate", "length_groups": 2}),
    "half": Case(method="director_shared", family="causal", settings={"precision": "bf16"}),
    "sigmoid": Case(method="sigmoid_only"),
    "odd": Case(method="cringe_single", sizes=(7,)),
    "one": Case(method="cringe_single", sizes=(1, 8)),
}
"""For two processes; a step of one example leaves the second none."""
THREE = {
    "uneven": Case(method="director_shared", sizes=(20,), family="causal", alone=7),
    "idle": Case(method="unlikelihood_sequence", hyperparameters={"ngram": 2}, sizes=(4,), dropout=0.2, alone=2),
}
"""For three: 7, 7 and 6 examples; 2, 2 and none."""
KILLED = {"killed": Case(method="director", sizes=(12,), double=True)}
"""Begun by two, one of which is killed; ended by three."""
CASES = TWO | THREE | KILLED


def examples(size: int, step: int) -> list[Example]:
    """Made up of a few words; of unequal lengths and all kinds of feedback."""
    made = []
    for index in range(size):
        number = 7 * step + index
        text = [" ".join(WORDS[(number + turn) % 9 :: 2 + turn][: 2 + (3 * number + turn) % 7]) for turn in range(3)]
        made.append(
            Example(
                uid=f"e{number}",
                context=tuple(text[: number % 3]),
                own=(True, False)[: number % 3],
                response=text[2],
                feedback=KINDS[number % 4],
                group=f"g{number}",
            )
        )
    return made


class Sampler:
    """The examples of a step; ``before`` is called first."""

    def __init__(self, sizes: Sequence[int], before: Callable[[int], None]) -> None:
        self._sizes, self._before = sizes, before

    def batch(self, step: int) -> list[Example]:
        self._before(step)
        return examples(self._sizes[step % len(self._sizes)], step)


def trainer(case: Case, *, before: Callable[[int], None] = lambda step: None, **changes: Any) -> Trainer:
    """Of a new model; ``changes`` are settings, or arguments of the trainer."""
    spec = SPEC.model_copy(update={"family": case.family, "dropout": case.dropout})
    backbone = build_backbone(spec, train_tokenizer([TEXT] * 3, spec), seed=0)
    method = registry.load(case.method)(**case.hyperparameters)
    method.wrap(backbone, seed=0)
    if case.double:
        backbone.model.double()
    settings = {"updates": 4, "batch_size": 8, "learning_rate": 1e-3, "warmup_updates": 2} | case.settings
    settings |= {name: changes.pop(name) for name in list(changes) if name in TrainingSettings.model_fields}
    return Trainer(
        backbone,
        method,
        Sampler(case.sizes, before),
        TrainingSettings.model_validate(settings),
        seed=0,
        log_every=1,
        **changes,
    )


def weights(made: Trainer) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in made.backbone.model.named_parameters()}


class Stop(Exception):  # noqa: N818 - nothing is wrong
    """Ends a training between two steps."""


def main(folder: Path, words: Sequence[str]) -> None:
    """Do what the words say, each a name and what is to be done with it; every process writes what it has come to.

    ``train``; ``stop``, which is gone on with; ``kill``, which a later command may ``resume``.
    """
    torch.set_num_threads(1)
    rank = os.environ["RANK"]
    for word in words:
        task, name = word.split(":")
        kept: dict[str, Any] = {"resume": folder / f"{name}.state.safetensors", "save_every_seconds": 0}
        if task == "train":
            made = trainer(CASES[name], progress=lambda done, total, note: print(done, total, note, flush=True))
        elif task == "kill":
            trainer(CASES[name], before=_die, **kept).train()
        else:
            if task == "stop":
                with suppress(Stop):
                    trainer(CASES[name], before=_stop, **kept).train()
            made = trainer(CASES[name], **kept)
        counts = made.train()
        save_file(weights(made), folder / f"{task}-{name}-{rank}.safetensors")
        found = {"counts": counts.to_dict(), "records": made.records, "is_main_process": made.is_main_process}
        (folder / f"{task}-{name}-{rank}.json").write_text(json.dumps(found), encoding="utf-8")


def _stop(step: int) -> None:
    if step == 2:
        raise Stop


def _die(step: int) -> None:
    if step == 2 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
