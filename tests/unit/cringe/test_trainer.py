"""The training step: one reduction that nothing but the examples decides, ledgers, schedules, resuming."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor

from cringe.backbones import Backbone, pad
from cringe.counts import Counts
from cringe.data import Example, Feedback, StratifiedSampler, Stratum
from cringe.losses import unlikelihood_loss
from cringe.methods.base import Method, TokenLoss
from cringe.methods.contrastive_token import ContrastiveToken
from cringe.methods.cringe import Cringe
from cringe.methods.cringe_single import CringeSingle
from cringe.methods.director import Director
from cringe.methods.director_shared import DirectorShared
from cringe.methods.registry import entries, load
from cringe.methods.sigmoid_only import SigmoidOnly
from cringe.methods.transformer import Transformer
from cringe.methods.unlikelihood import Unlikelihood
from cringe.methods.unlikelihood_sequence import UnlikelihoodSequence
from cringe.methods.unlikelihood_token import UnlikelihoodToken
from cringe.specs import TrainingSettings
from cringe.trainer import UNSCORED, Span, Trainer, learning_rate

MakeBackbone = Callable[..., Backbone]
MakeExample = Callable[..., Example]
MakeSettings = Callable[..., TrainingSettings]
Train = Callable[..., tuple[Trainer, Backbone]]

# Every registered method as it comes, so that one added later is held to the same, and what their fields can change.
# Methods that differ in decoding alone are one training, and a round of iterative CRINGE is one of the single method.
REGISTERED = {name: load(name)() for name in entries()}
TRAINED = {
    name: method.single() if isinstance(method, Cringe) else method.trained_as() for name, method in REGISTERED.items()
}
METHODS: list[Method] = [method for name, method in TRAINED.items() if load(name) is type(method)]
METHODS += [CringeSingle(k=1, alpha=2.0), CringeSingle(k=3, detach_positive=True)]
METHODS += [Director(lm_on_positives=False), SigmoidOnly(positives_only=True)]
METHODS += [UnlikelihoodSequence(rate=1.0, ngram=2)]
NAMES = [f"{type(method).__name__}-{index}" for index, method in enumerate(METHODS)]
# What has a loss on no token of a negative response.
NO_NEGATIVES = [Transformer(), ContrastiveToken(), UnlikelihoodToken(), SigmoidOnly(positives_only=True)]
# A seed whose first update is one of sequence-level unlikelihood where that is tossed for, and whose second is not.
BOTH = 3
every_method = pytest.mark.parametrize("method", METHODS, ids=NAMES)


@pytest.fixture(params=["seq2seq", "causal"])
def family(request: pytest.FixtureRequest) -> str:
    """Every test of this file holds for both families."""
    return str(request.param)


@pytest.fixture
def make_backbone(make_backbone: MakeBackbone, family: str) -> MakeBackbone:
    """The shared one, for a model of the family."""
    return partial(make_backbone, family=family)


@pytest.fixture
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses compute in float32 whatever they are given; here in double, so that rounding hides nothing.

    In float32 sums over rows of another width and the ends of vectors round otherwise, which Adam makes visible where
    a gradient is nearly 0.
    """
    narrow = Tensor.float
    # Whole numbers stay narrow: some models multiply positions with what they have cast to float32 in another way.
    monkeypatch.setattr(Tensor, "float", lambda self: self.double() if self.is_floating_point() else narrow(self))


wide = pytest.mark.usefixtures("_wide")


@pytest.fixture
def train(make_backbone: MakeBackbone, make_settings: MakeSettings, fixed_batches: Callable[..., Any]) -> Train:
    """Train a new model on the given batches: ``train(method, *batches, seed=0, dropout=0.0, **settings)``."""

    def run(
        method: Method,
        *batches: Sequence[Example],
        seed: int = 0,
        double: bool = False,
        dropout: float = 0.0,
        **settings: object,
    ) -> tuple[Trainer, Backbone]:
        backbone = make_backbone(double=double, dropout=dropout, method=method)
        chosen = make_settings(**({"batch_size": len(batches[0])} | settings))
        trainer = Trainer(backbone, method, fixed_batches(*batches), chosen, seed=seed, log_every=1)
        trainer.train()
        return trainer, backbone

    return run


def weights(backbone: Backbone) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in backbone.model.named_parameters()}


def assert_close(first: Backbone, second: Backbone, tolerance: float) -> None:
    found = weights(second)
    for name, tensor in weights(first).items():
        torch.testing.assert_close(tensor, found[name], rtol=0, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")


def differ(first: Backbone, second: Backbone) -> bool:
    found = weights(second)
    return any(not torch.equal(tensor, found[name]) for name, tensor in weights(first).items())


def gradient(
    backbone: Backbone, method: Method, examples: Sequence[Example], settings: TrainingSettings
) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradient of one optimiser step, caught where the gradient would be clipped."""
    batch = list(examples)

    class Once:
        def batch(self, step: int) -> list[Example]:
            return batch

    trainer = Trainer(backbone, method, Once(), settings, seed=0)
    caught: dict[str, Tensor] = {}

    def catch(parameters: Iterator[Tensor], norm: float) -> Tensor:
        for name, parameter in backbone.model.named_parameters():
            caught[name] = parameter.grad.clone() if parameter.grad is not None else torch.zeros_like(parameter)
        return torch.tensor(0.0)

    trainer._accelerator.clip_grad_norm_ = catch
    backbone.model.train()
    record = trainer.step(0)
    return float(record["loss"]), caught


def same_gradient(first: dict[str, Tensor], second: dict[str, Tensor], tolerance: float = 1e-9) -> bool:
    assert max(float(tensor.abs().max()) for tensor in first.values()) > 1e-3
    return all(torch.allclose(tensor, second[name], rtol=0, atol=tolerance) for name, tensor in first.items())


# --- invariances


@wide
@every_method
@pytest.mark.parametrize("reduction", ["joint", "separate"])
def test_micro_batches_change_nothing(method: Method, reduction: str, train: Train, mixed: list[Example]) -> None:
    """One pass, or several that are added up, as large or not: the same weights, draws of CRINGE included.

    Adam divides by the gradient's size, so noise of 1e-16 in a gradient of nearly 0 may move a weight by about 1e-9.
    """
    again = partial(train, method, mixed, mixed[::-1], double=True, reduction=reduction, updates=2, seed=BOTH)
    whole, reference = again()
    for size in (1, 4):
        trainer, backbone = again(micro_batch_size=size)
        assert_close(backbone, reference, 1e-7)
        for ours, theirs in zip(trainer.records, whole.records, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-9)


@wide
@every_method
def test_groups_of_like_length_change_nothing(method: Method, train: Train, mixed: list[Example]) -> None:
    """The plain step, padded to the longest of all, and one whose forward pass is cut in two, three or six."""
    again = partial(train, method, mixed, mixed[::-1], double=True, updates=2, seed=BOTH)
    whole, reference = again()
    for groups, size in ((2, None), (3, 4), (9, None)):
        trainer, backbone = again(length_groups=groups, micro_batch_size=size)
        assert_close(backbone, reference, 1e-7)
        spent = trainer.counts
        assert spent == dataclasses.replace(
            whole.counts, seconds=spent.seconds, peak_memory_bytes=spent.peak_memory_bytes
        )


@wide
@every_method
def test_order_in_the_batch_changes_nothing(method: Method, train: Train, mixed: list[Example]) -> None:
    _, reference = train(method, mixed, double=True, updates=2, seed=BOTH)
    for order in ([5, 4, 3, 2, 1, 0], [3, 0, 5, 1, 4, 2]):
        batch = [mixed[index] for index in order]
        _, backbone = train(method, batch, double=True, updates=2, seed=BOTH, micro_batch_size=4)
        assert_close(backbone, reference, 1e-7)


@wide
@every_method
def test_padding_changes_nothing(
    method: Method,
    make_backbone: MakeBackbone,
    make_settings: MakeSettings,
    mixed: list[Example],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Five more columns of padding in contexts and responses: the same loss, the same gradient."""
    settings = make_settings()
    loss, plain = gradient(make_backbone(double=True, method=method), method, mixed, settings)

    from cringe import backbone_base, iterate

    def pad_more(sequences: Sequence[Sequence[int]], padding: int, *, left: bool = False) -> tuple[Tensor, Tensor]:
        ids, mask = pad(sequences, padding, left=left)
        columns = (5, 0) if left else (0, 5)
        return F.pad(ids, columns, value=padding), F.pad(mask, columns, value=False)

    monkeypatch.setattr(backbone_base, "pad", pad_more)
    monkeypatch.setattr(iterate, "pad", pad_more)
    backbone = make_backbone(double=True, method=method, max_source=64, max_target=64)
    with torch.no_grad():
        for name, tensor in make_backbone(double=True, method=method).model.named_parameters():
            own = dict(backbone.model.named_parameters())[name]
            own[tuple(slice(size) for size in tensor.shape)] = tensor  # positions: this model has more of them
    backbone.spec = make_backbone().spec  # and truncates where the other does
    batch = backbone.collate(mixed, seed=0, step=0)
    assert batch.responses.shape[1] == 16 + 5
    assert not batch.source_mask[:, :5].any() if backbone.left_pads_source else not batch.source_mask[:, -5:].any()
    padded_loss, padded = gradient(backbone, method, mixed, settings)
    assert padded_loss == pytest.approx(loss, rel=1e-7)
    cut = {name: padded[name][tuple(slice(size) for size in tensor.shape)] for name, tensor in plain.items()}
    assert same_gradient(plain, cut)


@wide
@every_method
def test_a_longer_neighbour_changes_nothing(
    method: Method, make_backbone: MakeBackbone, make_settings: MakeSettings, mixed: list[Example], family: str
) -> None:
    """The step's gradient is the sum of the examples' own, each alone and unpadded, by their shares of the tokens.

    So a longer example, which pads the others, only changes what the sum is divided by.
    """
    settings = make_settings()

    untrained = make_backbone(double=True, method=method)

    def tokens(examples: Sequence[Example]) -> int:
        """Of the step: data's, or those that the model generates in their place."""
        batch = untrained.collate(examples, seed=0, step=0)
        return sum(method.prepare_batch(untrained, batch, Counts()).lengths)

    _, whole = gradient(make_backbone(double=True, method=method), method, mixed, settings)
    total = {name: torch.zeros_like(tensor) for name, tensor in whole.items()}
    everything = tokens(mixed)
    for example in mixed:
        share = tokens([example]) / everything
        _, alone = gradient(make_backbone(double=True, method=method), method, [example], settings)
        for name, tensor in alone.items():
            total[name] += tensor * share
    # Llama's norms and rotations are in float32 in any model.
    assert same_gradient(whole, total, 1e-9 if family == "seq2seq" else 2e-7)


def test_in_float32_too(train: Train, mixed: list[Example]) -> None:
    """In the precision that is used, one update without Adam's amplification: weights move by 1e-2, noise by 1e-5."""
    method = CringeSingle()
    _, reference = train(method, mixed, updates=1, warmup_updates=0)
    _, backbone = train(method, mixed, updates=1, warmup_updates=0, micro_batch_size=1)
    moved = [(a - b).abs() for a, b in zip(weights(reference).values(), weights(backbone).values(), strict=True)]
    # A gradient that is 0 but for rounding (a key's bias) moves by its sign; there are 32 such weights and their like.
    assert sum(int((part > 1e-5).sum()) for part in moved) < 0.02 * sum(part.numel() for part in moved)


def test_the_seed_decides_the_draws(train: Train, mixed: list[Example]) -> None:
    """CRINGE with k > 1 draws by the seed; plain training has nothing to draw."""
    assert differ(train(CringeSingle(k=5), mixed)[1], train(CringeSingle(k=5), mixed, seed=1)[1])
    for method in (Transformer(), Unlikelihood(), CringeSingle(k=1)):
        assert not differ(train(method, mixed)[1], train(method, mixed, seed=1)[1])


# --- what α = 0 is


@pytest.mark.parametrize(
    "method",
    [
        CringeSingle(alpha=0, k=5),
        CringeSingle(alpha=0, k=1),
        Cringe(alpha=0).single(),
        Unlikelihood(alpha=0),
        UnlikelihoodToken(alpha=0),
        ContrastiveToken(alpha=0),
        UnlikelihoodSequence(rate=0),
    ],
    ids=["cringe-5", "cringe-1", "cringe", "unlikelihood", "unlikelihood-token", "contrastive", "sequence"],
)
@pytest.mark.parametrize("size", [None, 2])
def test_no_weight_on_negatives_is_transformer(
    method: Method, size: int | None, train: Train, make_backbone: MakeBackbone, mixed: list[Example]
) -> None:
    """At α = 0 and without dropout: the same parameters, to the bit, and the same log but for the new column."""
    batches = (mixed, mixed[1:] + mixed[:1], mixed[::-1])
    plain, reference = train(Transformer(), *batches, updates=5, micro_batch_size=size)
    trainer, backbone = train(method, *batches, updates=5, micro_batch_size=size)
    assert differ(reference, make_backbone())
    expected = weights(reference)
    for name, tensor in weights(backbone).items():
        assert torch.equal(tensor, expected[name]), name
    for ours, theirs in zip(trainer.records, plain.records, strict=True):
        assert {name: ours[name] for name in theirs} == theirs


@pytest.mark.parametrize("cls", [Director, DirectorShared])
def test_director_without_weight_is_transformer(cls: type[Director], train: Train, mixed: list[Example]) -> None:
    """γ = 0: the language model is Transformer's, to the bit; with ``lm_on_positives: false`` it never sees them."""
    batches = (mixed, mixed[1:] + mixed[:1], mixed[::-1])
    plain, reference = train(Transformer(), *batches, updates=7)
    trainer, backbone = train(cls(gamma=0), *batches, updates=7)
    found = weights(backbone)
    for name, tensor in weights(reference).items():
        assert torch.equal(found[name], tensor), name
    for ours, theirs in zip(trainer.records, plain.records, strict=True):
        # The norm sums over more weights, whose gradients are 0, and so in another order.
        rounded = {"gradient_norm": pytest.approx(theirs["gradient_norm"], rel=1e-6)}
        assert {name: ours[name] for name in theirs} == theirs | rounded
    unliked = [
        dataclasses.replace(example, feedback=Feedback.NEGATIVE) if example.feedback == Feedback.POSITIVE else example
        for example in mixed
    ]
    without = train(Transformer(), unliked, updates=4)[1]
    found = weights(train(cls(gamma=0, lm_on_positives=False), mixed, updates=4)[1])
    assert all(torch.equal(found[name], tensor) for name, tensor in weights(without).items())


@pytest.mark.parametrize(
    "method",
    [
        CringeSingle(alpha=0.1),
        Unlikelihood(alpha=0.1),
        UnlikelihoodToken(alpha=0.1),
        ContrastiveToken(alpha=0.1),
        UnlikelihoodSequence(rate=1.0, alpha=0.1),
        DirectorShared(gamma=0.1),
    ],
    ids=["cringe", "unlikelihood", "unlikelihood-token", "contrastive", "sequence", "director"],
)
def test_a_little_weight_is_not(method: Method, train: Train, mixed: list[Example]) -> None:
    assert differ(train(Transformer(), mixed)[1], train(method, mixed)[1])


def test_methods_that_steer_train_as_transformer() -> None:
    """What differs in decoding alone is one training; the others are trained as themselves."""
    steering = {"fudge", "pacer", "reranker"}
    rounds = {"cringe", "cringe_extra"}
    assert {name for name, method in TRAINED.items() if load(name) is not type(method)} == steering | rounds
    assert all(TRAINED[name] == Transformer() for name in steering)
    assert Cringe(alpha=3.0, k=2).single() == CringeSingle(alpha=3.0, k=2)
    assert Cringe(alpha=3.0, iterations=1).trained_as() == CringeSingle(alpha=3.0)
    assert Cringe().trained_as() == Cringe()


# --- the reduction, by hand


def by_hand(
    backbone: Backbone, examples: Sequence[Example], alpha: float, reduction: str
) -> tuple[float, dict[str, float]]:
    """Unlikelihood training as one would write it: token by token, each example alone, in double."""
    nll, penalty, liked, negative = 0.0, 0.0, 0, 0
    with torch.no_grad():
        for example in examples:
            alone = backbone.collate([example], seed=0, step=0)
            for row, target in zip(backbone.logits(alone).double(), alone.responses[0].tolist(), strict=True):
                p = row.softmax(dim=-1)[target]
                if example.feedback == Feedback.NEGATIVE:
                    penalty, negative = penalty - float(torch.log(1 - p)), negative + 1
                else:
                    nll, liked = nll - float(torch.log(p)), liked + 1
    everything = liked + negative
    components = {"nll": nll / everything, "unlikelihood": penalty / everything}
    if reduction == "joint":
        return (nll + alpha * penalty) / everything, components
    return nll / max(1, liked) + alpha * penalty / max(1, negative), components


@pytest.mark.parametrize("reduction", ["joint", "separate"])
@pytest.mark.parametrize("rows", [slice(None), slice(0, 2), slice(1, 2), slice(2, 3)], ids=str)
@pytest.mark.parametrize("size", [None, 1])
def test_reduction_by_hand(
    reduction: str,
    rows: slice,
    size: int | None,
    make_backbone: MakeBackbone,
    train: Train,
    mixed: list[Example],
) -> None:
    """Joint: every sum over all target tokens, of every feedback. Separate: each sum over its own kind's tokens."""
    expected, components = by_hand(make_backbone(double=True), mixed[rows], 5.0, reduction)
    trainer, _ = train(
        Unlikelihood(alpha=5.0), mixed[rows], double=True, updates=1, reduction=reduction, micro_batch_size=size
    )
    record = trainer.records[0]
    assert record["loss"] == pytest.approx(expected, rel=1e-6, abs=5e-6)
    assert {name: record[name] for name in components} == pytest.approx(components, rel=1e-6, abs=1e-6)


def test_transformer_divides_by_negatives_too(
    make_backbone: MakeBackbone, make_settings: MakeSettings, mixed: list[Example]
) -> None:
    """A negative gives no loss to Transformer and still a place in the denominator: 6 liked of 6 + n tokens."""
    liked, negative = mixed[:1], mixed[1:2]
    lengths = make_backbone().collate([*liked, *negative], seed=0, step=0).lengths
    alone, first = gradient(make_backbone(double=True), Transformer(), liked, make_settings())
    both, second = gradient(make_backbone(double=True), Transformer(), [*liked, *negative], make_settings())
    share = lengths[0] / sum(lengths)
    assert both == pytest.approx(alone * share, rel=1e-6)
    assert same_gradient({name: share * tensor for name, tensor in first.items()}, second, 2e-7)


def test_the_loss_is_the_gradient_s(make_backbone: MakeBackbone, make_settings: MakeSettings) -> None:
    """Autograd through the obvious formula gives the step's gradient; so nothing is scaled on the way."""
    backbone = make_backbone(double=True)
    example = Example(uid="n", context=("hi",), own=(False,), response="i do .", feedback=Feedback.NEGATIVE, group="g")
    batch = backbone.collate([example], seed=0, step=0)
    values = unlikelihood_loss(backbone.logits(batch), batch.targets)
    (2.0 * values.sum() / len(batch.tokens)).backward()
    expected = {
        name: weight.grad.clone() for name, weight in backbone.model.named_parameters() if weight.grad is not None
    }
    _, found = gradient(make_backbone(double=True), Unlikelihood(alpha=2.0), [example], make_settings())
    assert same_gradient(expected, found)


# --- batches of one kind


@every_method
@pytest.mark.parametrize("reduction", ["joint", "separate"])
@pytest.mark.parametrize("feedback", list(Feedback))
@pytest.mark.parametrize("responses", [["i have a dog .", "no !"], [""]], ids=["two", "one-token"])
def test_batches_of_one_kind_are_finite(
    method: Method,
    reduction: str,
    feedback: Feedback,
    responses: list[str],
    make_backbone: MakeBackbone,
    make_settings: MakeSettings,
    make_example: MakeExample,
) -> None:
    """All positive, all negative, all unlabelled, and a single token, the end token, alone."""
    examples = [make_example(str(index), text, feedback, "hi") for index, text in enumerate(responses)]
    backbone = make_backbone(method=method)
    batch = method.prepare_batch(backbone, backbone.collate(examples, seed=0, step=0), Counts())
    loss, found = gradient(backbone, method, examples, make_settings(reduction=reduction))
    assert all(tensor.isfinite().all() for tensor in found.values())
    if isinstance(method, UnlikelihoodSequence):  # on data as Transformer, on generations by what they repeat
        learns = bool(len(batch.tokens)) if batch.generated else feedback != Feedback.NEGATIVE
    else:
        learns = feedback != Feedback.NEGATIVE or method not in NO_NEGATIVES
    assert (loss > 0) == learns
    assert any(bool(tensor.any()) for tensor in found.values()) == learns


@every_method
def test_training_on_one_kind_stays_finite(method: Method, train: Train, mixed: list[Example]) -> None:
    """Also when micro-batches hold one kind only, over updates that go far."""
    negatives = [example for example in mixed if example.feedback == Feedback.NEGATIVE]
    every_kind = mixed[:3]
    for batch, size in ((negatives, None), (negatives[-1:], None), (every_kind, 1)):
        trainer, backbone = train(method, batch, updates=8, learning_rate=0.1, micro_batch_size=size)
        assert all(tensor.isfinite().all() for tensor in weights(backbone).values())
        assert all(value == value and abs(value) < 1e6 for record in trainer.records for value in record.values())


@pytest.mark.parametrize("method", [CringeSingle(), Unlikelihood(alpha=1.0)], ids=["cringe", "unlikelihood"])
def test_negatives_are_unlearnt_and_positives_learnt(
    method: Method, train: Train, make_backbone: MakeBackbone, make_example: MakeExample
) -> None:
    good = make_example("g", "i have two dogs .", "positive", "do you ?")
    bad = make_example("b", "i have a cat .", "negative", "do you ?")

    def likelihood(backbone: Backbone, example: Example) -> float:
        batch = backbone.collate([example], seed=0, step=0)
        with torch.no_grad():
            return -float(F.cross_entropy(backbone.logits(batch), batch.targets))

    _, after = train(method, [good, bad], updates=30)
    _, plain = train(Transformer(), [good, bad], updates=30)
    assert likelihood(after, good) > likelihood(make_backbone(), good) + 2
    assert likelihood(after, bad) < likelihood(plain, bad) - 0.1


# --- feedback on parts


def with_spans(examples: Sequence[Example]) -> list[Example]:
    """A word of two negative responses and of a positive one; of the last all that is not cut off is without feedback.

    So the first has liked and negative tokens, the second and the fourth negative and unscored ones.
    """
    spans = {"a": ((2, 6),), "b": ((5, 10),), "d": ((0, 1), (9, 15))}
    late = dataclasses.replace(examples[3], uid="z", negative_spans=((50, 54),))
    return [dataclasses.replace(example, negative_spans=spans.get(example.uid, ())) for example in examples] + [late]


@wide
@every_method
@pytest.mark.parametrize("reduction", ["joint", "separate"])
def test_parts_of_responses_in_any_cut(method: Method, reduction: str, train: Train, mixed: list[Example]) -> None:
    """The same sums however the examples are cut into batches, also where a batch has no scored token."""
    batch = with_spans(mixed)
    again = partial(train, method, batch, batch[::-1], double=True, reduction=reduction, updates=2, seed=BOTH)
    whole, reference = again()
    for size in (1, 3):
        trainer, backbone = again(micro_batch_size=size)
        assert_close(backbone, reference, 1e-7)
        for ours, theirs in zip(trainer.records, whole.records, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-9)
        assert comparable(trainer.counts) == comparable(whole.counts)


@pytest.mark.parametrize("reduction", ["joint", "separate"])
@pytest.mark.parametrize("size", [None, 2])
def test_parts_of_responses_by_hand(
    reduction: str, size: int | None, make_backbone: MakeBackbone, train: Train, mixed: list[Example]
) -> None:
    """Unlikelihood token by token: of a negative response only what lies in its spans has a loss, and all is counted.

    Joint: both sums over all 7 responses' tokens. Separate: over the liked ones, over the negative ones.
    """
    examples, backbone = with_spans(mixed), make_backbone(double=True)
    found = {"positive": 0, "negative": 0, "unlabelled": 0, UNSCORED: 0}
    nll = penalty = 0.0
    for example in examples:
        alone = backbone.collate([dataclasses.replace(example, negative_spans=())], seed=0, step=0)
        encoded = backbone.tokenizer(example.response, add_special_tokens=False, return_offsets_mapping=True)
        offsets = [*encoded["offset_mapping"], (10**6, 10**6)][:16]  # the end token lies in no span
        with torch.no_grad():
            p = backbone.logits(alone).double().softmax(dim=-1).gather(1, alone.targets[:, None]).squeeze(1).tolist()
        for (first, last), share in zip(offsets, p, strict=True):
            if any(first < stop and start < last for start, stop in example.negative_spans):
                kind = "negative"
            elif example.feedback == Feedback.NEGATIVE and example.negative_spans:
                kind = UNSCORED
            else:
                kind = example.feedback.value
            found[kind] += 1
            nll -= math.log(share) * (kind in ("positive", "unlabelled"))
            penalty -= math.log1p(-share) * (kind == "negative")
    liked, total = found["positive"] + found["unlabelled"], sum(found.values())
    assert min(found.values()) > 0
    expected = (nll + 5 * penalty) / total if reduction == "joint" else nll / liked + 5 * penalty / found["negative"]
    trainer, _ = train(
        Unlikelihood(alpha=5.0), examples, double=True, updates=1, reduction=reduction, micro_batch_size=size
    )
    record = trainer.records[0]
    assert record["loss"] == pytest.approx(expected, rel=1e-5)
    assert record["nll"] == pytest.approx(nll / total, rel=1e-5)
    assert record["negative_share"] == pytest.approx(found["negative"] / total)
    assert trainer.counts.target_tokens == found


@pytest.mark.parametrize("method", [method for method in METHODS if not isinstance(method, SigmoidOnly)], ids=repr)
def test_a_step_without_a_scored_token(method: Method, train: Train, mixed: list[Example]) -> None:
    """Nothing is learnt. Sigmoid-only is left out: its constant needs a token to start from."""
    batch = with_spans(mixed)[-1:]
    if isinstance(method, UnlikelihoodSequence):
        method = method.model_copy(update={"rate": 0.0})
    trainer, _ = train(method, batch, updates=1)
    assert trainer.records[0]["loss"] == 0
    assert trainer.records[0]["gradient_norm"] == 0
    assert trainer.counts.target_tokens == {UNSCORED: 16}


# --- schedule, optimiser


def test_learning_rate_by_hand(make_settings: MakeSettings) -> None:
    """8 updates, 3 of them rising to 1.2: a third more each, then down by fifths; the step after the last has 0."""
    settings = make_settings(updates=8, warmup_updates=3, learning_rate=1.2)
    rates = [learning_rate(settings, step) for step in range(9)]
    assert rates == pytest.approx([0.4, 0.8, 1.2, 1.2, 0.96, 0.72, 0.48, 0.24, 0.0])
    constant = settings.model_copy(update={"schedule": "constant"})
    assert [learning_rate(constant, step) for step in range(8)] == pytest.approx([0.4, 0.8, *[1.2] * 6])
    cold = settings.model_copy(update={"warmup_updates": 0})
    assert [learning_rate(cold, step) for step in (0, 4, 7)] == pytest.approx([1.2, 0.6, 0.15])
    short = settings.model_copy(update={"warmup_updates": 8})
    assert [learning_rate(short, step) for step in (0, 7)] == pytest.approx([0.15, 1.2])


def test_optimiser_by_hand(
    make_backbone: MakeBackbone, make_settings: MakeSettings, train: Train, mixed: list[Example]
) -> None:
    """AdamW's first step moves a weight w with gradient g to w - r·d·w - r·g/(|g| + 1e-8), g clipped to norm c before.

    Rate r = 0.01, decay d = 0.5, norm c = 0.001.
    """
    settings = make_settings(updates=1, warmup_updates=0, weight_decay=0.5, clip_norm=1e-3)
    backbone = make_backbone(double=True)
    before = weights(backbone)
    _, found = gradient(make_backbone(double=True), Unlikelihood(), mixed, settings)
    norm = torch.sqrt(sum((tensor**2).sum() for tensor in found.values()))
    assert norm > 0.1
    trainer, after = train(
        Unlikelihood(), mixed, double=True, updates=1, warmup_updates=0, weight_decay=0.5, clip_norm=1e-3
    )
    assert trainer.records[0]["gradient_norm"] == pytest.approx(float(norm))
    assert trainer.records[0]["learning_rate"] == 0.01
    for name, tensor in found.items():
        clipped = tensor * 1e-3 / norm
        expected = before[name] * (1 - 0.005) - 0.01 * clipped / (clipped.abs() + 1e-8)
        # 1e-6 in the norm by which torch divides, felt where a gradient is as small as Adam's 1e-8.
        torch.testing.assert_close(weights(after)[name], expected, rtol=0, atol=1e-5)


def test_modes(make_backbone: MakeBackbone, make_settings: MakeSettings, mixed: list[Example]) -> None:
    """In training mode while it trains, in evaluation mode when it is done."""
    backbone = make_backbone()
    seen: list[bool] = []

    class Sampler:
        def batch(self, step: int) -> list[Example]:
            seen.append(backbone.model.training)
            return mixed

    Trainer(backbone, Transformer(), Sampler(), make_settings(updates=2), seed=0).train()
    assert seen == [True, True]
    assert not backbone.model.training


@pytest.mark.parametrize("method", [Transformer(), SigmoidOnly()], ids=["transformer", "sigmoid_only"])
def test_dropout_is_seeded(method: Method, train: Train, mixed: list[Example]) -> None:
    """Equal seeds give equal masks, others others; torch's own state neither matters nor moves."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        before = torch.random.get_rng_state()
        first = train(method, mixed, dropout=0.3)[1]
        assert torch.equal(torch.random.get_rng_state(), before)
        torch.manual_seed(2)
        assert not differ(first, train(method, mixed, dropout=0.3)[1])
    assert differ(first, train(method, mixed, dropout=0.3, seed=1)[1])
    assert differ(first, train(method, mixed)[1])


def test_log_and_progress(
    make_backbone: MakeBackbone, make_settings: MakeSettings, mixed: list[Example], fixed_batches: Callable[..., Any]
) -> None:
    """Every third step and the last, with the share of negative tokens."""
    told: list[tuple[int, int, str]] = []
    trainer = Trainer(
        make_backbone(),
        CringeSingle(),
        fixed_batches(mixed),
        make_settings(updates=7),
        seed=0,
        log_every=3,
        progress=lambda *what: told.append(what),
    )
    trainer.train()
    assert [record["step"] for record in trainer.records] == [3, 6, 7]
    assert [done for done, *_ in told] == [3, 6, 7]
    assert all(total == 7 and note.startswith("loss ") for _, total, note in told)
    names = {"step", "learning_rate", "loss", "nll", "cringe", "gradient_norm", "negative_share"}
    assert all(set(record) == names for record in trainer.records)
    lengths = dict(zip("abcdef", trainer.backbone.collate(mixed, seed=0, step=0).lengths, strict=True))
    share = sum(lengths[uid] for uid in "bde") / sum(lengths.values())
    assert trainer.records[0]["negative_share"] == pytest.approx(share)


# --- ledger


def comparable(counts: Counts) -> dict[str, Any]:
    return {name: value for name, value in counts.to_dict().items() if name not in ("seconds", "peak_memory_bytes")}


@every_method
@pytest.mark.parametrize("size", [None, 2])
def test_ledger_by_hand(method: Method, size: int | None, train: Train, mixed: list[Example]) -> None:
    """Two updates on six examples; tokens counted from the encodings; the same for every method and any cut.

    But for methods that train on what they generate; see `test_ledger_of_generations`.
    """
    if isinstance(method, UnlikelihoodSequence):
        method = method.model_copy(update={"rate": 0.0})
    trainer, backbone = train(method, mixed, updates=2, micro_batch_size=size)
    encode = backbone.tokenizer
    tokens = {
        example.uid: min(16, len(encode(example.response, add_special_tokens=False)["input_ids"]) + 1)
        for example in mixed
    }
    assert tokens["e"] == 1
    assert tokens["d"] == 16
    mark = int(backbone.left_pads_source)  # a decoder-only model is told that it is its turn
    source = sum(
        mark
        + max(
            1,
            min(
                32 - mark,
                sum(1 + len(encode(turn, add_special_tokens=False)["input_ids"]) for turn in example.context),
            ),
        )
        for example in mixed
    )
    counts = trainer.counts
    assert comparable(counts) == {
        "updates": 2,
        "examples": 12,
        "source_tokens": 2 * source,
        "target_tokens": {
            "negative": 2 * (tokens["b"] + tokens["d"] + tokens["e"]),
            "positive": 2 * tokens["a"],
            "unlabelled": 2 * (tokens["c"] + tokens["f"]),
        },
        "forward_passes": 12,
        "backward_passes": 12,
        "generated_tokens": 0,
        "flops": pytest.approx(2 * 3 * backbone.forward_flops(source, sum(tokens.values()))),
        "order_digest": counts.order_digest,
    }
    assert counts.seconds > 0
    assert counts.peak_memory_bytes > 1e6


@pytest.mark.parametrize("size", [None, 2])
def test_ledger_of_generations(size: int | None, train: Train, mixed: list[Example]) -> None:
    """Sequence-level unlikelihood: the same examples in the same order and as many updates; its own tokens on top."""
    plain, _ = train(Transformer(), mixed, micro_batch_size=size)
    trainer, backbone = train(UnlikelihoodSequence(rate=1.0, ngram=1), mixed, micro_batch_size=size)
    counts = trainer.counts
    for name in ("updates", "examples", "source_tokens", "order_digest", "backward_passes"):
        assert getattr(counts, name) == getattr(plain.counts, name), name
    # Every token of the step is the model's own, repeated ones negative and the rest without a loss.
    assert set(counts.target_tokens) == {"negative", UNSCORED}
    assert counts.target_tokens.total() == counts.generated_tokens
    assert 24 <= counts.generated_tokens <= 4 * 6 * backbone.spec.max_target
    assert counts.forward_passes >= 24 + counts.generated_tokens
    assert counts.flops > 3 * backbone.forward_flops(counts.source_tokens, counts.generated_tokens)
    share = trainer.records[-1]["negative_share"]
    assert 0 < share < 1


def test_order_digest(make_example: MakeExample, make_backbone: MakeBackbone, make_settings: MakeSettings) -> None:
    """Equal for all methods, another for another seed of the order."""
    rows = [make_example(f"{kind}{index}", "no .", kind) for kind in Feedback for index in range(9)]
    strata = [Stratum(source="s", feedback=kind, weight=1) for kind in Feedback]

    def digest(method: Method, seed: int) -> str:
        sampler = StratifiedSampler({"s": rows}, strata, batch_size=6, seed=seed)
        backbone = make_backbone(method=method)
        return Trainer(backbone, method, sampler, make_settings(), seed=seed).train().order_digest

    digests = {digest(method, 0) for method in METHODS}
    assert len(digests) == 1
    assert digest(METHODS[0], 1) not in digests


def test_digest_tells_orders_apart() -> None:
    def digest(*steps: Sequence[str]) -> str:
        counts = Counts()
        for step in steps:
            counts.see(step)
        return counts.order_digest

    assert digest(["a", "b"]) == digest(["a", "b"])
    assert (
        len({digest(), digest(["a", "b"]), digest(["b", "a"]), digest(["ab"]), digest(["a"]), digest(["a"], ["c"])})
        == 6
    )


def test_counts_survive_json() -> None:
    import json

    counts = Counts(updates=3, flops=0.1 + 0.2)
    counts.target_tokens.update({"negative": 5, "positive": 2})
    counts.see(["x"])
    with pytest.raises(RuntimeError, match="inside"), counts.timed():
        raise RuntimeError("inside")
    assert counts.seconds > 0
    again = Counts.from_dict(json.loads(json.dumps(counts.to_dict())))
    assert again == counts
    again.target_tokens["new"] += 1
    assert again.target_tokens["new"] == 1


# --- resuming


class KilledError(Exception):
    """Stands for whatever ends a run in the middle of it."""


class Mortal:
    """A sampler that dies when it is asked for a certain step, and tells which steps it was asked for."""

    def __init__(self, *batches: Sequence[Example], dies_at: int | None = None) -> None:
        self._batches = batches
        self._dies_at = dies_at
        self.asked: list[int] = []

    def batch(self, step: int) -> list[Example]:
        if step == self._dies_at:
            raise KilledError
        self.asked.append(step)
        return list(self._batches[step % len(self._batches)])


@every_method
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_resumed_is_undisturbed(
    method: Method,
    dropout: float,
    make_backbone: MakeBackbone,
    make_settings: MakeSettings,
    mixed: list[Example],
    tmp_path: Path,
) -> None:
    """Killed twice, gone on with each time in a new process's stead: parameters, counts and log, to the bit."""
    settings = make_settings(updates=5, weight_decay=0.1, micro_batch_size=4)
    batches = (mixed, mixed[::-1])

    def run(dies_at: int | None, resume: Path | None) -> tuple[Trainer, Mortal]:
        sampler = Mortal(*batches, dies_at=dies_at)
        backbone = make_backbone(dropout=dropout, method=method)
        return Trainer(
            backbone, method, sampler, settings, seed=3, log_every=2, resume=resume, save_every_seconds=0
        ), sampler

    reference, _ = run(None, None)
    reference.train()
    state = tmp_path / "run" / "state.safetensors"
    for dies_at, start in ((3, 0), (4, 3)):
        trainer, sampler = run(dies_at, state)
        with pytest.raises(KilledError):
            trainer.train()
        looked = [0] if start == 0 and type(method).begin is not Method.begin else []
        assert sampler.asked == [*looked, *range(start, dies_at)]
    trainer, sampler = run(None, state)
    counts = trainer.train()
    assert sampler.asked == [4]
    expected = weights(reference.backbone)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(trainer.backbone).items())
    assert comparable(counts) == comparable(reference.counts)
    assert counts.updates == 5
    assert trainer.records == reference.records
    assert counts.seconds > 0
    if trainer.backbone.head is not None:
        assert {f"model.lm_head.{name}" for name in trainer.backbone.head.own_weights()} <= stored(state)

    done, sampler = run(None, state)
    assert comparable(done.train()) == comparable(reference.counts)
    assert sampler.asked == []
    assert not differ(done.backbone, reference.backbone)


def stored(path: Path) -> set[str]:
    """Names of the tensors of a state."""
    with safe_open(path, framework="pt") as file:
        return set(file.keys())


# --- rounds


@pytest.mark.parametrize("method", [CringeSingle(), Director()], ids=["cringe", "director"])
def test_two_rounds_of_one_schedule_are_one_training(
    method: Method, make_backbone: MakeBackbone, make_settings: MakeSettings, mixed: list[Example], tmp_path: Path
) -> None:
    """``rounds: split``: steps 0 to 2 and 3 to 8 of a schedule, the optimiser taken over: the whole one, to the bit."""
    settings = make_settings(updates=9)
    batches = (mixed, mixed[::-1])

    def trainer(span: Span | None, dies_at: int | None = None) -> tuple[Trainer, Mortal]:
        sampler = Mortal(*batches, dies_at=dies_at)
        return Trainer(make_backbone(method=method), method, sampler, settings, seed=3, span=span, log_every=1), sampler

    whole, _ = trainer(None)
    whole.train()
    first, sampler = trainer(Span(0, 3))
    first.train()
    assert sampler.asked == [0, 1, 2]
    first.keep(tmp_path / "state.safetensors", 3)
    second, sampler = trainer(Span(3, 9))
    assert second.restore(tmp_path / "state.safetensors") == 3
    second.train()
    assert sampler.asked == list(range(3, 9))
    assert not differ(second.backbone, whole.backbone)
    assert comparable(second.counts) == comparable(whole.counts)
    assert second.records == whole.records


def test_a_round_with_a_schedule_of_its_own(
    make_backbone: MakeBackbone, make_settings: MakeSettings, mixed: list[Example]
) -> None:
    """``rounds: extra``: steps go on, so that batches and draws are new, and the learning rate begins anew."""
    settings = make_settings(updates=4)
    told: list[tuple[int, int]] = []
    sampler = Mortal(mixed)
    trainer = Trainer(
        make_backbone(),
        CringeSingle(),
        sampler,
        settings,
        seed=3,
        span=Span(4, 8, 4),
        log_every=1,
        progress=lambda done, total, note: told.append((done, total)),
    )
    counts = trainer.train()
    assert sampler.asked == [4, 5, 6, 7]
    assert counts.updates == 4
    assert [record["step"] for record in trainer.records] == [5, 6, 7, 8]
    assert [record["learning_rate"] for record in trainer.records] == [learning_rate(settings, n) for n in range(4)]
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_state_is_kept_at_times(
    make_backbone: MakeBackbone, make_settings: MakeSettings, mixed: list[Example], tmp_path: Path
) -> None:
    """Not before its time, and not where none is asked for."""
    state = tmp_path / "state.safetensors"
    Trainer(
        make_backbone(), Transformer(), Mortal(mixed), make_settings(), seed=0, resume=state, save_every_seconds=60
    ).train()
    Trainer(make_backbone(), Transformer(), Mortal(mixed), make_settings(), seed=0, save_every_seconds=0).train()
    assert list(tmp_path.iterdir()) == []


def test_no_updates(make_backbone: MakeBackbone, make_settings: MakeSettings, mixed: list[Example]) -> None:
    """The row ``backbone`` of a table: nothing asked, nothing spent, nothing changed."""
    backbone = make_backbone()
    before, sampler = weights(backbone), Mortal(mixed)
    counts = Trainer(backbone, CringeSingle(), sampler, make_settings(updates=0), seed=0).train()
    assert sampler.asked == []
    assert counts == Counts()
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(backbone).items())


@pytest.fixture
def new_process() -> Iterator[None]:
    """Accelerate keeps its settings for the life of a process; forget them before and after."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


@pytest.mark.usefixtures("new_process")
def test_bfloat16_runs_close(train: Train, mixed: list[Example], make_backbone: MakeBackbone) -> None:
    """Mixed precision is a setting: the first loss agrees to bfloat16's three digits, weights stay in float32."""
    rough, backbone = train(Unlikelihood(alpha=1.0), mixed, updates=2, precision="bf16")
    exact, _ = by_hand(make_backbone(), mixed, 1.0, "joint")
    assert rough.records[0]["loss"] == pytest.approx(exact, rel=2e-2)
    assert rough.records[0]["loss"] != pytest.approx(exact, rel=1e-7)
    assert {tensor.dtype for tensor in weights(backbone).values()} == {torch.float32}
    assert all(tensor.isfinite().all() for tensor in weights(backbone).values())


@pytest.mark.usefixtures("new_process")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_logits_are_not_copied_to_another_precision(precision: str, train: Train, mixed: list[Example]) -> None:
    """The loss reads what the forward pass wrote; accelerate would widen whatever leaves a module."""
    seen = []

    class Looking(Transformer):
        """Notes what its loss is given."""

        def loss(self, logits: Tensor, batch: Any) -> TokenLoss:
            seen.append(logits.dtype)
            return super().loss(logits, batch)

    train(Looking(), mixed, updates=2, precision=precision)
    assert seen == 2 * [{"fp32": torch.float32, "bf16": torch.bfloat16}[precision]]


@pytest.mark.usefixtures("new_process")
def test_two_precisions_in_one_process(train: Train, mixed: list[Example]) -> None:
    """One run in float32 and the next in bfloat16."""
    train(Transformer(), mixed, updates=1)
    train(Transformer(), mixed, updates=1, precision="bf16")
