"""What the tests of this package share: a tiny tokenizer, tiny models, and batches written out by hand."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import pytest
import torch

from cringe.backbones import Backbone, build_backbone, train_tokenizer
from cringe.data import Example, Feedback
from cringe.methods.base import Method
from cringe.specs import ScratchBackbone, TrainingSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_TEXTS = (
    "i have two dogs and a cat .",
    "do you like pizza ? i do not like it at all !",
    "no , i have never had a dog .",
    "what do you do for work ?",
)
_SPEC = ScratchBackbone(
    vocabulary=310,
    width=16,
    encoder_layers=1,
    decoder_layers=1,
    heads=2,
    feedforward=32,
    max_source=32,
    max_target=16,
)

MakeExample = Callable[..., Example]
MakeBackbone = Callable[..., Backbone]


class FixedBatches:
    """A sampler of given batches, one a step, over and over."""

    def __init__(self, *batches: Sequence[Example]) -> None:
        self._batches = batches

    def batch(self, step: int) -> list[Example]:
        return list(self._batches[step % len(self._batches)])


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny tensors gain nothing from threads, and sums in one order can be compared bit by bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def scratch() -> ScratchBackbone:
    """The specification of the tiny model."""
    return _SPEC


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(_TEXTS * 3, _SPEC)


@pytest.fixture(scope="session")
def make_backbone(tokenizer: PreTrainedTokenizerFast) -> MakeBackbone:
    """A fresh model: ``make_backbone(seed=0, double=False, method=None, **changes to the specification)``.

    With the heads of ``method``, where one is given and it has any. It is a copy: a model is built once, for tests ask
    for the same one thousands of times.
    """

    @functools.cache
    def new(spec: ScratchBackbone, seed: int) -> Backbone:
        return build_backbone(spec, tokenizer, seed=seed)

    def make(*, seed: int = 0, double: bool = False, method: Method | None = None, **changes: object) -> Backbone:
        untouched = new(_SPEC.model_copy(update=changes), seed)
        backbone = type(untouched)(copy.deepcopy(untouched.model), tokenizer, untouched.spec)
        if method is not None:
            method.wrap(backbone, seed=seed)
        if double:
            backbone.model.double()
        backbone.model.eval()
        return backbone

    return make


@pytest.fixture(scope="session")
def make_example() -> MakeExample:
    """``make_example(uid, response, feedback, *context)``; turns alternate and the last is the other's."""

    def make(
        uid: str, response: str = "i do .", feedback: Feedback | str = Feedback.UNLABELLED, *context: str
    ) -> Example:
        own = tuple((len(context) - index) % 2 == 0 for index in range(len(context)))
        return Example(
            uid=uid, context=context, response=response, feedback=Feedback(feedback), group=f"g-{uid}", own=own
        )

    return make


@pytest.fixture(scope="session")
def mixed(make_example: MakeExample) -> list[Example]:
    """Six examples of all feedbacks, of unequal lengths, one without a context, one truncated, one without words."""
    return [
        make_example("a", "i have two dogs .", "positive", "do you like it ?"),
        make_example("b", "no , never .", "negative", "i have a cat .", "do you ?", "what do you do for work ?"),
        make_example("c", "pizza", "unlabelled"),
        make_example("d", "i do not like pizza and i do not like work and a cat .", "negative", "dogs ?"),
        make_example("e", "", "negative", "work ?"),
        make_example("f", "a dog !", "unlabelled", "hi .", "hello , you ?"),
    ]


@pytest.fixture(scope="session")
def fixed_batches() -> type[FixedBatches]:
    return FixedBatches


@pytest.fixture(scope="session")
def make_settings() -> Callable[..., TrainingSettings]:
    """Settings with changes; by default four updates at a rate that moves the weights far."""

    def make(**changes: object) -> TrainingSettings:
        defaults = {"updates": 4, "batch_size": 6, "learning_rate": 1e-2, "warmup_updates": 2}
        return TrainingSettings.model_validate(defaults | changes)

    return make
