"""Heads: their losses by hand, their scores, and that they are kept with the model, on both families."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from cringe.backbones import HEAD, Backbone, load_backbone
from cringe.batch import Batch
from cringe.data import Example
from cringe.generation import generate
from cringe.heads import DirectorHead, SigmoidHead
from cringe.methods.base import Method
from cringe.methods.director import Director
from cringe.methods.director_shared import DirectorShared
from cringe.methods.sigmoid_only import SigmoidOnly
from cringe.specs import DecodingSpec, TrainingSettings
from cringe.trainer import Trainer

MakeBackbone = Callable[..., Backbone]
HEADS = [Director(decoding_gamma=2.0), DirectorShared(decoding_gamma=2.0), SigmoidOnly()]
every_head = pytest.mark.parametrize("method", HEADS, ids=lambda method: type(method).__name__)


@pytest.fixture(params=["seq2seq", "causal"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def three_tokens() -> Batch:
    """One unlabelled token (id 1), one positive (id 0), one negative (id 2), in this order; V = 3."""
    return Batch(
        source=torch.zeros(3, 1, dtype=torch.long),
        source_mask=torch.ones(3, 1, dtype=torch.bool),
        responses=torch.tensor([[1], [0], [2]]),
        tokens=torch.tensor([0, 1, 2]),
        unlabelled=1,
        liked=2,
        examples=(1, 2, 3),
        lengths=(1, 1, 1),
        source_tokens=3,
        seed=0,
        step=0,
    )


# --- DIRECTOR's loss

LM = [[0.0, math.log(2), math.log(5)]] * 3
"""p = (1, 2, 5) / 8 at each place."""
CLASS = [[math.log(3), math.log(7), -math.log(4)]] * 3
"""σ = (3/4, 7/8, 1/5) at each place."""


@pytest.mark.parametrize("lm_on_positives", [True, False])
def test_director_loss_by_hand(lm_on_positives: bool) -> None:
    """γ = 1/2. Unlabelled x = 1: -log(2/8), no class loss. Positive x = 0: -log(1/8) or none, and -log(3/4)/2.

    Negative x = 2: no likelihood, -log(1 - 1/5)/2. The gradient of the class loss is (σ - label)/2 at x alone: -1/8 and
    1/10; that of the likelihood p - onehot.
    """
    logits = torch.cat([torch.tensor(LM), torch.tensor(CLASS)], dim=1).requires_grad_()
    loss = Director(gamma=0.5, lm_on_positives=lm_on_positives).loss(logits, three_tokens())
    nll = math.log(8) if lm_on_positives else 0.0
    expected = [math.log(4), nll + 0.5 * math.log(4 / 3), 0.5 * math.log(5 / 4)]
    assert loss.values.tolist() == pytest.approx(expected, rel=1e-6)
    assert loss.components["nll"].tolist() == pytest.approx([math.log(4), math.log(8)][: 1 + lm_on_positives])
    assert loss.components["class"].tolist() == pytest.approx([math.log(4 / 3), math.log(5 / 4)], rel=1e-6)
    loss.values.sum().backward()
    assert logits.grad is not None
    likelihood = [-7 / 8, 2 / 8, 5 / 8] if lm_on_positives else [0.0] * 3
    assert logits.grad.tolist()[0] == pytest.approx([1 / 8, -6 / 8, 5 / 8, 0, 0, 0], abs=1e-6)
    assert logits.grad.tolist()[1] == pytest.approx([*likelihood, -1 / 8, 0, 0], abs=1e-6)
    assert logits.grad.tolist()[2] == pytest.approx([0, 0, 0, 0, 0, 1 / 10], abs=1e-6)


def linear(weight: list[list[float]]) -> nn.Linear:
    """A projection onto a vocabulary without a bias."""
    layer = nn.Linear(len(weight[0]), len(weight), bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
    return layer


def test_director_shared_starts_as_the_language_model() -> None:
    """(a, b) = (1, 0): class logits are the LM's; and a · s + b once they have moved."""
    head = DirectorHead(linear([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]), gamma=1.0, shared=True, seed=0)
    assert {name: weight.item() for name, weight in head.own_weights().items()} == {"scale": 1.0, "shift": 0.0}
    hidden = torch.tensor([[3.0, -1.0]])
    logits = torch.tensor([[3.0, -2.0, 2.0]])
    assert torch.equal(head.train()(hidden), torch.cat([logits, logits], dim=1))
    with torch.no_grad():
        head.scale.fill_(2.0)  # type: ignore[union-attr]
        head.shift.fill_(-1.0)  # type: ignore[union-attr]
    assert torch.equal(head(hidden), torch.cat([logits, 2 * logits - 1], dim=1))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 3.0])
def test_director_decodes_by_the_product(gamma: float) -> None:
    """p ∝ p_LM · σ^γ; here p_LM ∝ (1, 2, 5), σ = (3/4, 7/8, 1/5), by a classifier of its own."""
    head = DirectorHead(linear([[row] for row in LM[0]]), gamma=gamma, shared=False, seed=0).eval()
    assert head.classifier is not None
    with torch.no_grad():
        head.classifier.weight.copy_(torch.tensor(CLASS[0])[:, None])
        head.classifier.bias.zero_()
        found = head(torch.ones(2, 1))
    weights = [p * q**gamma for p, q in zip((1, 2, 5), (3 / 4, 7 / 8, 1 / 5), strict=True)]
    expected = [math.log(weight / sum(weights)) for weight in weights]
    assert found[0].tolist() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(found[0], found[1])


def test_the_classifier_is_seeded() -> None:
    projection = linear([[0.0] * 64] * 200)
    first, again, other = (DirectorHead(projection, gamma=1, shared=False, seed=seed) for seed in (1, 1, 2))
    weight = first.own_weights()["classifier.weight"]
    assert torch.equal(weight, again.own_weights()["classifier.weight"])
    assert not torch.equal(weight, other.own_weights()["classifier.weight"])
    assert float(weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert set(first.own_weights()) == {"classifier.weight", "classifier.bias"}
    assert not first.own_weights()["classifier.bias"].any()


# --- sigmoid-only


def test_sigmoid_only_by_hand() -> None:
    """α± = 0.5, α₋ = 2, V = 3, s = (log 3, 0, -log 2): σ = (3/4, 1/2, 1/3).

    Liked x = 1: log 2 + (log 4 + log 3/2) / 2. Positive x = 0: log 4/3 + (log 2 + log 3/2) / 2. Negative x = 2:
    2 · log 3/2. The gradient is σ - 1 at a liked target, σ/2 at the others, 2σ at a negative one and 0 elsewhere.
    """
    logits = torch.tensor([[math.log(3), 0.0, -math.log(2)]]).repeat(3, 1).requires_grad_()
    loss = SigmoidOnly(alpha_rest=0.5, alpha_negative=2.0).loss(logits, three_tokens())
    expected = [
        math.log(2) + 0.5 * (math.log(4) + math.log(3 / 2)),
        math.log(4 / 3) + 0.5 * (math.log(2) + math.log(3 / 2)),
        2 * math.log(3 / 2),
    ]
    assert loss.values.tolist() == pytest.approx(expected, rel=1e-6)
    loss.values.sum().backward()
    assert logits.grad is not None
    for row, gradient in zip(
        logits.grad.tolist(), ([3 / 8, -1 / 2, 1 / 6], [-1 / 4, 1 / 4, 1 / 6], [0, 0, 2 / 3]), strict=True
    ):
        assert row == pytest.approx(gradient, abs=1e-6)


def test_positives_only_is_scones() -> None:
    """-log σ(s_x) - Σ_{v ≠ x} log(1 - σ(s_v)) on liked tokens (Stahlberg & Kumar 2022, eq. 4); nothing on negatives."""
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    batch = three_tokens()
    values = SigmoidOnly(positives_only=True).loss(logits, batch).values
    labels = F.one_hot(batch.targets, 3).float()
    scones = F.binary_cross_entropy_with_logits(logits.detach(), labels, reduction="none").sum(dim=1)
    torch.testing.assert_close(values[:2], scones[:2])
    assert values[2] == 0
    values.sum().backward()
    assert logits.grad is not None
    assert not logits.grad[2].any()


def test_sigmoid_head_scores() -> None:
    """Logits to train on; log σ to decode by, which is no softmax."""
    head = SigmoidHead(linear([[1.0], [2.0], [-3.0]]))
    hidden = torch.tensor([[0.5]])
    logits = torch.tensor([[0.5, 1.0, -1.5]])
    assert torch.equal(head.train()(hidden), logits)
    torch.testing.assert_close(head.eval()(hidden), logits.sigmoid().log())


@every_head
def test_half_precision_is_widened(method: Method, make_backbone: MakeBackbone, family: str) -> None:
    """Scores are float32 and finite, whatever the hidden states are."""
    backbone = make_backbone(family=family, method=method)
    head = backbone.head
    assert head is not None
    width = head.weight.shape[1]
    scores = head.bfloat16().eval()(50 * torch.randn(4, width, generator=torch.Generator().manual_seed(0)).bfloat16())
    assert scores.dtype == torch.float32
    assert scores.isfinite().all()


# --- kept with the model


class Same:
    """A sampler of one batch."""

    def __init__(self, examples: list[Example]) -> None:
        self._examples = examples

    def batch(self, step: int) -> list[Example]:
        return self._examples


def train(
    backbone: Backbone, method: Method, examples: list[Example], make_settings: Callable[..., TrainingSettings]
) -> Trainer:
    trainer = Trainer(backbone, method, Same(examples), make_settings(updates=12), seed=0)
    trainer.train()
    return trainer


DECODINGS = [
    DecodingSpec(strategy="greedy", max_new_tokens=8),
    DecodingSpec(strategy="beam", beams=3, max_new_tokens=8, no_repeat_ngram=3),
    DecodingSpec(strategy="nucleus", top_p=0.9, max_new_tokens=8),
]


@every_head
def test_heads_survive_their_folder(
    method: Method,
    family: str,
    make_backbone: MakeBackbone,
    make_settings: Callable[..., TrainingSettings],
    mixed: list[Example],
    tmp_path: Path,
) -> None:
    """Trained, saved, loaded: the same scores to the bit and the same replies; nothing executable in the folder."""
    backbone = make_backbone(family=family, method=method)
    before = {name: weight.clone() for name, weight in backbone.head.own_weights().items()}  # type: ignore[union-attr]
    train(backbone, method, mixed, make_settings)
    assert backbone.head is not None
    assert all(not torch.equal(weight, before[name]) for name, weight in backbone.head.own_weights().items())
    backbone.save(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} <= {".json", ".safetensors", ".jinja"}
    assert set(load_file(tmp_path / HEAD)) == set(backbone.head.own_weights())

    loaded = load_backbone(tmp_path)
    method.wrap(loaded, seed=77)  # what the weights are from is overwritten
    assert loaded.head is not None
    loaded.head.load(tmp_path / HEAD)
    loaded.to("cpu")
    first, second = (model.collate(mixed, seed=0, step=0) for model in (backbone, loaded))
    with torch.no_grad():
        assert torch.equal(backbone.logits(first), loaded.logits(second))
    for spec in DECODINGS:
        assert generate(backbone, mixed, spec, seed=1) == generate(loaded, mixed, spec, seed=1)


@pytest.mark.parametrize("method", HEADS[:2], ids=["own", "shared"])
def test_the_head_is_felt(method: Method, family: str, make_backbone: MakeBackbone, mixed: list[Example]) -> None:
    """A class head that hates what the model would say changes the reply; so it is not left behind by `generate`."""
    plain = make_backbone(family=family)
    spec = DecodingSpec(strategy="greedy", max_new_tokens=4)
    backbone = make_backbone(family=family, method=method)
    head = backbone.head
    assert isinstance(head, DirectorHead)
    batch = plain.collate(mixed[:1], seed=0, step=0)
    with torch.no_grad():
        favourite = int(plain.logits(batch)[0].argmax())
        if head.classifier is not None:
            head.classifier.bias[favourite] = -100.0
        else:
            head.scale.fill_(-500.0)  # type: ignore[union-attr]
        assert int(backbone.logits(batch)[0].argmax()) != favourite
    assert generate(plain, mixed, spec, seed=0) != generate(backbone, mixed, spec, seed=0)


@every_head
def test_heads_are_in_the_state(
    method: Method,
    family: str,
    make_backbone: MakeBackbone,
    make_settings: Callable[..., TrainingSettings],
    mixed: list[Example],
    tmp_path: Path,
) -> None:
    """A state of training holds the head's weights and, where it has any, their moments; and puts them back."""
    trainer = train(make_backbone(family=family, method=method), method, mixed, make_settings)
    path = tmp_path / "state.safetensors"
    trainer.keep(path, 12)
    own = trainer.backbone.head.own_weights()  # type: ignore[union-attr]
    with safe_open(path, framework="pt") as file:
        names = set(file.keys())
        stored = {name: file.get_tensor(f"model.lm_head.{name}") for name in own}
    assert all(torch.equal(stored[name], weight) for name, weight in own.items())
    moments = {name for name in names if name.startswith("optimizer.") and name.endswith(".exp_avg")}
    assert len(moments) == len(list(trainer.backbone.model.parameters()))
    other = Trainer(
        make_backbone(family=family, method=method, seed=5), method, Same(mixed), make_settings(updates=12), seed=0
    )
    assert other.restore(path) == 12
    found = dict(other.backbone.model.named_parameters())
    assert all(torch.equal(found[name], weight) for name, weight in trainer.backbone.model.named_parameters())


def test_a_head_of_another_kind_is_refused(make_backbone: MakeBackbone, tmp_path: Path) -> None:
    """Two scalars are no classifier."""
    shared = make_backbone(method=DirectorShared()).head
    own: Any = make_backbone(method=Director()).head
    assert shared is not None
    shared.save(tmp_path / HEAD)
    with pytest.raises(KeyError, match="classifier"):
        own.load(tmp_path / HEAD)


def lm_weight(backbone: Backbone) -> Tensor:
    weight: Tensor = backbone.model.get_output_embeddings().weight
    return weight


@every_head
def test_embeddings_stay_tied(method: Method, family: str, make_backbone: MakeBackbone) -> None:
    """The projection inside the head is still the input's embedding, counted once."""
    plain, backbone = make_backbone(family=family), make_backbone(family=family, method=method)
    assert lm_weight(backbone) is backbone.model.get_input_embeddings().weight
    own = sum(weight.numel() for weight in backbone.head.own_weights().values())  # type: ignore[union-attr]
    assert backbone.parameters == plain.parameters + own
