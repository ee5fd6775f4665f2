"""What makes a step fast, and that it is the plain step all the same: groups of like length, masks, nobody waiting."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import combinations, pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from cringe import causal, fusion, seq2seq
from cringe.attention_masks import causal_mask
from cringe.backbones import Backbone, pad
from cringe.batch import Batch, group_by_length, send, stack_rows
from cringe.data import Example
from cringe.methods.base import Method, TokenLoss
from cringe.methods.cringe import Cringe
from cringe.methods.registry import entries, load
from cringe.methods.transformer import Transformer
from cringe.methods.unlikelihood_sequence import UnlikelihoodSequence
from cringe.specs import TrainingSettings
from cringe.trainer import Trainer

MakeBackbone = Callable[..., Backbone]
# By name, and what to change in the specification of the tests' model.
FAMILIES: dict[str, dict[str, Any]] = {
    "seq2seq": {"family": "seq2seq"},
    "causal": {"family": "causal"},
    "fusion": {"family": "seq2seq", "documents": 2, "max_document": 8},
}
every_family = pytest.mark.parametrize("family", FAMILIES)


def trained(name: str) -> Method:
    """What a registered method trains, whose own replies, which must be read back, are left out."""
    method = load(name)()
    if isinstance(method, UnlikelihoodSequence):
        return method.model_copy(update={"rate": 0.0})
    return method.single() if isinstance(method, Cringe) else method.trained_as()


# Methods that differ in decoding alone are one training.
TRAINED = [method for name in entries() if type(method := trained(name)) is load(name)]


# --- groups of like length


def places(lengths: Sequence[tuple[int, int]], order: Sequence[int], ends: Sequence[int]) -> int:
    """Places of the padded groups, counted one by one."""
    groups = [[lengths[row] for row in order[first:last]] for first, last in pairwise([0, *ends])]
    return sum(len(rows) * (max(a for a, _ in rows) + max(b for _, b in rows)) for rows in groups)


@pytest.mark.parametrize("groups", [1, 2, 3, 4])
def test_groups_are_the_best_of_all_cuts(groups: int) -> None:
    """Against every cut of the sorted rows; in any order of the rows the same ones."""
    draws = random.Random(groups)
    for count in (1, 2, 5, 9):
        lengths = [(draws.randint(1, 20), draws.randint(1, 12)) for _ in range(count)]
        order, ends = group_by_length(lengths, groups)
        parts = min(groups, count)
        assert sorted(order) == list(range(count))
        assert [lengths[row][0] for row in order] == sorted(source for source, _ in lengths)
        assert (len(ends), ends[-1]) == (parts, count)
        cuts = [[*cut, count] for cut in combinations(range(1, count), parts - 1)]
        assert places(lengths, order, ends) == min(places(lengths, order, cut) for cut in cuts)


def test_groups_by_hand() -> None:
    """Two long contexts and two short ones: 2·(30 + 5) + 2·(3 + 9) places, and not 4·(30 + 9)."""
    lengths = [(30, 5), (2, 9), (29, 4), (3, 1)]
    order, ends = group_by_length(lengths, 2)
    assert (order, ends) == ([1, 3, 2, 0], [2, 4])
    assert places(lengths, order, ends) == 94


@pytest.mark.parametrize("family", ["seq2seq", "causal"])
def test_a_batch_in_groups_holds_the_same(family: str, make_backbone: MakeBackbone, mixed: list[Example]) -> None:
    """Each group holds whole contexts and responses, nothing else, and less padding."""
    backbone = make_backbone(family=family)
    batch, plain = (backbone.collate(mixed, seed=0, step=0, groups=groups) for groups in (3, 1))
    order = [plain.examples.index(example) for example in batch.examples]
    assert sorted(order) == list(range(6))
    assert torch.equal(batch.source, plain.source[order])
    assert torch.equal(batch.responses, plain.responses[order])
    assert (batch.unlabelled, batch.liked, batch.source_tokens) == (plain.unlabelled, plain.liked, plain.source_tokens)
    assert plain.source_tokens == int(plain.source_mask.sum())
    ((sources, responses),) = plain.parts()
    assert sources == plain.sources
    assert responses is plain.responses
    parts = list(batch.parts())
    assert len(parts) == 3
    rows = 0
    for sources, responses in parts:
        count, width = len(responses), batch.source.shape[1]
        spare = width - sources.ids.shape[1]
        columns = slice(spare, width) if family == "causal" else slice(0, width - spare)
        assert torch.equal(sources.ids, batch.source[rows : rows + count, columns])
        assert int(sources.mask.sum()) == int(batch.source_mask[rows : rows + count].sum())
        assert bool(sources.mask[:, 0 if family == "causal" else -1].any())
        assert responses.shape[1] == max(batch.lengths[rows : rows + count])
        rows += count
    assert rows == 6
    assert sum(part.ids.numel() + made.numel() for part, made in parts) < plain.source.numel() + plain.responses.numel()


@every_family
def test_logits_of_groups_are_those_of_the_batch(
    family: str, make_backbone: MakeBackbone, mixed: list[Example]
) -> None:
    """Token by token, found by its example and its place."""
    backbone = make_backbone(double=True, **FAMILIES[family])
    found = {}
    for groups in (1, 2, 4):
        batch = backbone.collate(mixed, seed=0, step=0, groups=groups)
        width = batch.responses.shape[1]
        names = [(batch.examples[place // width], place % width) for place in batch.tokens.tolist()]
        with torch.no_grad():
            found[groups] = dict(zip(names, backbone.logits(batch), strict=True))
        assert len(list(batch.parts())) == (1 if family == "fusion" else groups)
    for groups in (2, 4):
        assert found[groups].keys() == found[1].keys()
        assert all(torch.allclose(found[groups][name], row, rtol=0, atol=1e-12) for name, row in found[1].items())


@every_family
def test_lengths_are_what_is_read_and_written(family: str, make_backbone: MakeBackbone, mixed: list[Example]) -> None:
    backbone = make_backbone(**FAMILIES[family])
    batches = [backbone.collate([example], seed=0, step=0) for example in mixed]
    assert backbone.lengths(mixed) == [batch.source_tokens + sum(batch.lengths) for batch in batches]


def test_stacking_pads_with_zeros() -> None:
    first, second = torch.ones(1, 2, 1), torch.full((2, 3, 1), 2.0)
    assert stack_rows([first], 3) is first
    assert stack_rows([first, second], 3).squeeze(-1).tolist() == [[1, 1, 0], [2, 2, 2], [2, 2, 2]]


@pytest.mark.parametrize("left", [False, True])
def test_padding_is_that_of_lists(left: bool) -> None:
    """Against the obvious way, place by place."""
    draws = random.Random(1)
    rows = [[draws.randint(1, 99) for _ in range(draws.randint(0, 7))] for _ in range(20)]
    ids, mask = pad(rows, -1, left=left)
    width = max(map(len, rows))
    gaps = [[-1] * (width - len(row)) for row in rows]
    assert ids.tolist() == [[*gap, *row] if left else [*row, *gap] for row, gap in zip(rows, gaps, strict=True)]
    assert mask.tolist() == [[token != -1 for token in row] for row in ids.tolist()]
    assert (ids.dtype, mask.dtype) == (torch.int64, torch.bool)


# --- masks that are built without a look at what they hold


@every_family
def test_square_masks_are_those_of_transformers(
    family: str, make_backbone: MakeBackbone, mixed: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same logits and gradients as from masks of padding; on CPU these are what is used."""
    found = []
    for square in (False, True):
        for module in (causal, fusion, seq2seq):
            if square:
                monkeypatch.setattr(module, "takes_square_masks", lambda model: True, raising=False)
        backbone = make_backbone(double=True, **FAMILIES[family])
        logits = backbone.logits(backbone.collate(mixed, seed=0, step=0, groups=2))
        logits.pow(2).sum().backward()
        weights = backbone.model.named_parameters()
        found.append((logits.detach(), {name: weight.grad for name, weight in weights if weight.grad is not None}))
    (plain, gradients), (square_logits, square_gradients) = found
    torch.testing.assert_close(square_logits, plain, rtol=0, atol=1e-11)
    torch.testing.assert_close(square_gradients, gradients, rtol=1e-9, atol=1e-11)


def test_a_causal_mask_by_hand() -> None:
    """Tokens see what came before; padding, on the left, is seen by itself alone, for softmax needs something."""
    ids, mask = pad([[7, 8], [9]], 0, left=True)
    assert causal_mask(ids).tolist() == [[[[True, False], [True, True]]]]
    assert causal_mask(ids, mask)[1].tolist() == [[[True, False], [False, True]]]


# --- nobody waits for the device


class Same:
    """The same batch at every step."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = list(examples)

    def batch(self, step: int) -> list[Example]:
        return self._examples


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch, make_backbone: MakeBackbone, mixed: list[Example]) -> Callable[..., Trainer]:
    """A trainer on a device whose tensors have no values: whoever asks for one, as for a GPU's, is told off."""
    from accelerate import Accelerator

    meta = torch.device("meta")
    monkeypatch.setattr(Accelerator, "device", property(lambda self: meta))

    def make(method: Method, family: str) -> Trainer:
        backbone = make_backbone(method=method, dropout=0.1, **FAMILIES[family])
        backbone.model.to(meta)
        settings = TrainingSettings(updates=3, batch_size=6, learning_rate=0.1, length_groups=2, micro_batch_size=4)
        trainer = Trainer(backbone, method, Same(mixed), settings, seed=0)
        monkeypatch.setattr(trainer._optimizer, "step", lambda: None)  # fused kernels have no such device
        return trainer

    return make


@every_family
@pytest.mark.parametrize("method", TRAINED, ids=lambda method: type(method).__name__)
def test_a_step_asks_the_device_for_nothing(method: Method, family: str, blind: Callable[..., Trainer]) -> None:
    """Batches, forward pass, loss, backward pass, clipping and what the log will show: all without one value."""
    trainer = blind(method, family)
    trainer.backbone.model.train()
    losses = [trainer.step(step)["loss"] for step in range(2)]
    assert all(isinstance(loss, Tensor) and loss.is_meta for loss in losses)
    assert trainer.counts.updates == 2


def test_a_step_that_asks_is_found(blind: Callable[..., Trainer]) -> None:
    class Asking(Transformer):
        """Looks at its loss."""

        def loss(self, logits: Tensor, batch: Batch) -> TokenLoss:
            found = super().loss(logits, batch)
            assert found.values.sum() >= 0
            return found

    with pytest.raises(RuntimeError, match="meta"):
        blind(Asking(), "seq2seq").step(0)


def test_sending_to_the_cpu_is_no_copy() -> None:
    tensor = torch.arange(3)
    assert send(tensor, torch.device("cpu")) is tensor


@pytest.mark.gpu
@every_family
@pytest.mark.parametrize("method", TRAINED, ids=lambda method: type(method).__name__)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_gpu_is_not_waited_for(
    method: Method, family: str, precision: str, make_backbone: MakeBackbone, mixed: list[Example]
) -> None:
    """CUDA itself raises where a step would wait; the first step may, for what is loaded once."""
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(True)
    backbone = make_backbone(method=method, dropout=0.1, **FAMILIES[family]).to("cuda")
    settings = TrainingSettings.model_validate(
        {"updates": 4, "batch_size": 6, "learning_rate": 0.1, "micro_batch_size": 4, "precision": precision}
    )
    trainer = Trainer(backbone, method, Same(mixed), settings, seed=0, device="cuda")
    backbone.model.train()
    trainer.step(0)
    try:
        torch.cuda.set_sync_debug_mode("error")
        for step in range(1, 4):
            trainer.step(step)
    finally:
        torch.cuda.set_sync_debug_mode("default")
        AcceleratorState._reset_state(True)
