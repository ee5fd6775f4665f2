"""Models that bring code along: nothing of it is run, whether it lies in a pickle, a module or a tokenizer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.config import resolve
from benchmarks.errors import DataError, UserError
from benchmarks.model_files import look
from benchmarks.pretrained import pretrained_model
from cringe.backbones import Backbone, load_backbone, pretrained_backbone
from cringe.classifier_pretrained import Pretrained
from cringe.specs import PretrainedBackbone, PretrainedClassifier

SETTINGS = {"turn_separator": "\n", "max_source": 16, "max_target": 8}
CODE = "import pathlib\npathlib.Path({marker!r}).touch()\nclass Config: ...\nclass Model: ...\nclass Tokenizer: ...\n"


def bomb(marker: Path) -> bytes:
    """A pickle, written by hand, that leaves a file when it is read."""
    return f"cposix\nsystem\n(S'touch {marker}'\ntR.".encode()


@pytest.fixture
def saved(tmp_path: Path, make_backbone: Callable[..., Backbone]) -> Path:
    """A folder as training writes it."""
    folder = tmp_path / "model"
    folder.mkdir()
    make_backbone().save(folder)
    return folder


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "code-was-run"


@pytest.fixture
def pickled(saved: Path, marker: Path) -> Path:
    """Its weights as a pickle alone."""
    (saved / "model.safetensors").unlink()
    (saved / "pytorch_model.bin").write_bytes(bomb(marker))
    return saved


@pytest.fixture
def with_code(saved: Path, marker: Path) -> Path:
    """Everything in it asks for classes of its own."""
    for name in ("evil.py", "modeling_evil.py"):
        (saved / name).write_text(CODE.format(marker=str(marker)))
    for name, classes in (
        (
            "config.json",
            {"AutoConfig": "evil.Config", "AutoModelForSeq2SeqLM": "evil.Model", "AutoModel": "evil.Model"},
        ),
        ("tokenizer_config.json", {"AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"]}),
    ):
        content = json.loads((saved / name).read_text())
        (saved / name).write_text(json.dumps({**content, "auto_map": classes}))
    return saved


def config_of(**more: str):
    return resolve(task="decode", method_names=[], overrides=[f"{key}={value}" for key, value in more.items()])


def test_the_bomb_is_one(tmp_path: Path, marker: Path) -> None:
    """Or the tests below would show nothing."""
    import torch

    path = tmp_path / "weights.bin"
    path.write_bytes(bomb(marker))
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it says of what is no checkpoint
        torch.load(path, weights_only=False)  # noqa: TID251 - in a file of our own
    assert marker.exists()


def test_weights_in_a_pickle_are_refused(pickled: Path, marker: Path) -> None:
    """By whoever loads a model, before anything is read; and by whoever looks whether one can be loaded."""
    with pytest.raises(OSError, match="safetensors"):
        load_backbone(pickled)
    spec = PretrainedBackbone(kind="pretrained", family="seq2seq", name=str(pickled), **SETTINGS)
    with pytest.raises(OSError, match="safetensors"):
        pretrained_backbone(spec)
    with pytest.raises(ValueError, match="safetensors"):
        Pretrained.read(pickled, PretrainedClassifier(kind="pretrained", name=str(pickled), reads="response"))
    with pytest.raises(DataError, match="other formats can run code"):
        pretrained_model(str(pickled), (), name=None, config=config_of())
    assert not look(str(pickled)).usable
    assert not marker.exists()


def test_a_pickle_beside_safetensors_is_not_read(saved: Path, marker: Path) -> None:
    (saved / "pytorch_model.bin").write_bytes(bomb(marker))
    load_backbone(saved)
    assert not marker.exists()


def test_a_pickle_by_the_name_of_safetensors(pickled: Path, marker: Path) -> None:
    shutil.move(pickled / "pytorch_model.bin", pickled / "model.safetensors")
    with pytest.raises(Exception, match=r"(?i)header|safetensors|large"):
        load_backbone(pickled)
    assert not look(str(pickled)).usable
    assert not marker.exists()


def test_classes_that_a_model_brings_along_are_not_loaded(with_code: Path, marker: Path) -> None:
    """Of a known type, it is loaded as what it says it is."""
    load_backbone(with_code)
    spec = PretrainedBackbone(kind="pretrained", family="seq2seq", name=str(with_code), **SETTINGS)
    pretrained_backbone(spec)
    pretrained_model(str(with_code), (), name=None, config=config_of())
    assert not marker.exists()


def test_a_type_that_nobody_knows_is_refused(with_code: Path, marker: Path) -> None:
    content = json.loads((with_code / "config.json").read_text())
    (with_code / "config.json").write_text(json.dumps({**content, "model_type": "evil", "architectures": ["Model"]}))
    with pytest.raises(ValueError, match=r"trust_remote_code|evil"):
        load_backbone(with_code)
    with pytest.raises(ValueError, match="no pretrained classifier can be loaded"):
        Pretrained.read(with_code, PretrainedClassifier(kind="pretrained", name=str(with_code), reads="response"))
    with pytest.raises(UserError, match="own code is not run"):
        pretrained_model(str(with_code), (), name=None, config=config_of())
    assert not marker.exists()
