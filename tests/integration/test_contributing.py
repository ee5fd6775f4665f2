"""The method that CONTRIBUTING.md shows is one: under 40 lines, found by its file, and trained by."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import cringe.methods
from cringe.backbones import build_backbone, train_tokenizer
from cringe.data import Example, Feedback
from cringe.losses import token_nll, unlikelihood_loss
from cringe.methods.base import Method
from cringe.methods.registry import entries, load
from cringe.specs import ScratchBackbone, TrainingSettings
from cringe.trainer import Trainer

TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
(BLOCK,) = re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
(NAME,) = re.findall(r"`cringe/methods/(\w+)\.py`", TEXT)
SPEC = ScratchBackbone(
    vocabulary=300, width=8, encoder_layers=1, decoder_layers=1, heads=2, feedforward=8, max_source=16, max_target=16
)


@pytest.fixture(scope="module")
def method(tmp_path_factory: pytest.TempPathFactory) -> Iterator[type[Method]]:
    """The block, saved as the text says, in a folder that the package is looked for in as well."""
    folder = tmp_path_factory.mktemp("methods")
    (folder / f"{NAME}.py").write_text(BLOCK, encoding="utf-8")
    cringe.methods.__path__.append(str(folder))
    try:
        yield load(NAME)
    finally:
        cringe.methods.__path__.remove(str(folder))
        sys.modules.pop(f"cringe.methods.{NAME}", None)


def examples() -> list[Example]:
    rows = (("good", "i have two dogs .", "positive"), ("bad", "i have no dogs at all !", "negative"))
    return [
        Example(uid=uid, context=("hi",), own=(False,), response=text, feedback=Feedback(kind), group=uid)
        for uid, text, kind in rows
    ]


class Both:
    """A sampler of the two."""

    def batch(self, step: int) -> list[Example]:
        return examples()


def test_it_is_short() -> None:
    assert len(BLOCK.rstrip("\n").split("\n")) < 40


def test_it_is_found_by_its_file(method: type[Method]) -> None:
    """With its sentence, and with a source for the value of each field."""
    assert entries()[NAME].sentence == BLOCK.split('"""')[1]
    assert all(info.description for info in method.model_fields.values())
    assert f"{NAME}.first=2" in TEXT
    assert method.model_validate({"first": 2}) != method()


@pytest.mark.parametrize("family", ["seq2seq", "causal"])
def test_it_trains(method: type[Method], family: str) -> None:
    """Two steps, on both families: a loss that is its docstring's, weights that move, a ledger like the others'."""
    tokenizer = train_tokenizer([example.response for example in examples()], SPEC)
    backbone = build_backbone(SPEC.model_copy(update={"family": family}), tokenizer, seed=0)
    chosen = method.model_validate({"first": 2, "alpha": 3.0})
    batch = backbone.collate(examples(), seed=0, step=0)
    with torch.no_grad():
        logits = backbone.logits(batch)
    found, liked, targets = chosen.loss(logits, batch), batch.liked, batch.targets
    expected = torch.cat([token_nll(logits, targets)[:liked], 3 * unlikelihood_loss(logits, targets)[liked:]])
    expected[liked + 2 :] = 0
    torch.testing.assert_close(found.values, expected)
    assert bool(expected[liked : liked + 2].all())

    before = {name: weight.detach().clone() for name, weight in backbone.model.named_parameters()}
    settings = TrainingSettings(updates=2, batch_size=2, learning_rate=1e-2)
    trainer = Trainer(backbone, chosen, Both(), settings, seed=0, log_every=1)
    counts = trainer.train()
    assert (counts.updates, counts.examples) == (2, 4)
    assert counts.target_tokens.total() == 2 * sum(batch.lengths)
    assert trainer.records[0]["loss"] == pytest.approx(float(expected.sum()) / sum(batch.lengths), rel=1e-5)
    assert {"nll", "unlikelihood"} <= set(trainer.records[0])
    moved = [not torch.equal(weight, before[name]) for name, weight in backbone.model.named_parameters()]
    assert any(moved)
    assert all(weight.isfinite().all() for weight in backbone.model.parameters())


@pytest.mark.usefixtures("method")
def test_it_can_be_compared(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """As the text says: named beside another method, its fields set; planned, not run."""
    from benchmarks import run

    arguments = ["--task", "decode", "--methods", "transformer", NAME, "--set", f"{NAME}.first=2", "--dry-run"]
    code = run.main([*arguments, "--data", "synthetic", "--device", "cpu", "--out", str(tmp_path / "runs")])
    said = capsys.readouterr()
    assert code == 0, said.err
    assert NAME in said.out
