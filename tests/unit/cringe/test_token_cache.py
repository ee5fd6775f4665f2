"""Tokens kept on disk: the same batches with them and without; built once, also by several, and again when damaged."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from cringe import token_cache
from cringe.backbones import Backbone, build_backbone, train_tokenizer
from cringe.data import Example
from cringe.generation import generate
from cringe.methods.cringe_single import CringeSingle
from cringe.specs import DecodingSpec, ScratchBackbone, TrainingSettings
from cringe.token_cache import TokenCache
from cringe.trainer import Trainer

MakeBackbone = Callable[..., Backbone]
MakeExample = Callable[..., Example]
ODD = ["", " ", "</s> <own>", "naïve ‘Q’ 👩🏽‍🚀", "שלום", "z" * 5000, "\u0000\ufeff", "i have two dogs ."]


@pytest.fixture(scope="module")
def examples(mixed: list[Example], make_example: MakeExample) -> list[Example]:
    """With documents, odd texts on every side, texts that occur twice, and spans in two responses."""
    found = [dataclasses.replace(example, documents=("a dog", "cats", f"text {example.uid}")) for example in mixed]
    found += [make_example(f"odd-{index}", text, "negative", *ODD[: index % 4]) for index, text in enumerate(ODD)]
    spans = {"a": ((2, 6),), "odd-3": ((0, 5), (10, 13))}
    return [dataclasses.replace(example, negative_spans=spans.get(example.uid, ())) for example in found]


@pytest.fixture(params=["seq2seq", "causal"])
def backbone(request: pytest.FixtureRequest, make_backbone: MakeBackbone) -> Backbone:
    return make_backbone(family=request.param, documents=2, max_document=8)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that a tokenizer was asked for."""
    found: list[str] = []
    for name in ("tokenize", "find_offsets"):
        original = getattr(Backbone, name)

        def watch(self: Backbone, texts: Sequence[str], original: Callable[..., Any] = original) -> Any:
            found.extend(texts)
            return original(self, texts)

        monkeypatch.setattr(Backbone, name, watch)
    return found


def same(first: Backbone, second: Backbone, examples: Sequence[Example]) -> bool:
    """Are their batches equal in all fields?"""
    batches = [vars_of(backbone.collate(examples, seed=1, step=2)) for backbone in (first, second)]
    return batches[0] == batches[1]


def vars_of(batch: Any) -> dict[str, Any]:
    values = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    return {name: value.tolist() if isinstance(value, torch.Tensor) else value for name, value in values.items()}


# --- the same with it and without


def test_batches_are_equal(
    backbone: Backbone, make_backbone: MakeBackbone, examples: list[Example], tmp_path: Path, asked: list[str]
) -> None:
    """In every field, in any order, the tokenizer not asked again; documents that are not read are not kept."""
    plain = make_backbone(**backbone.spec.model_dump())
    cache = TokenCache.open(tmp_path, backbone, examples)
    texts = {text for example in examples for text in (*example.context, *example.documents[:2], example.response)}
    assert len(cache) == len(texts)
    backbone.tokens = cache
    expected = [vars_of(plain.collate(part, seed=0, step=0)) for part in (examples, examples[::-1], examples[3:5])]
    asked.clear()
    found = [vars_of(backbone.collate(part, seed=0, step=0)) for part in (examples, examples[::-1], examples[3:5])]
    assert found == expected
    assert asked == []
    assert backbone.encode_contexts(examples) == plain.encode_contexts(examples)
    assert backbone.context_lengths(examples) == plain.context_lengths(examples)


def test_training_and_replies_are_equal(
    backbone: Backbone,
    make_backbone: MakeBackbone,
    examples: list[Example],
    make_settings: Callable[..., TrainingSettings],
    fixed_batches: Callable[..., Any],
    tmp_path: Path,
) -> None:
    plain = make_backbone(**backbone.spec.model_dump())
    backbone.tokens = TokenCache.open(tmp_path, backbone, examples)
    for model in (plain, backbone):
        Trainer(model, CringeSingle(), fixed_batches(examples), make_settings(), seed=0).train()
    for ours, theirs in zip(backbone.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    spec = DecodingSpec(strategy="beam", beams=3, max_new_tokens=6, no_context_ngram=2)
    assert generate(backbone, examples, spec, seed=0) == generate(plain, examples, spec, seed=0)


def test_what_is_not_kept_is_tokenised(
    backbone: Backbone, make_backbone: MakeBackbone, examples: list[Example], tmp_path: Path, asked: list[str]
) -> None:
    """Another response under a known uid, spans where there were none, other documents: looked up by what they are."""
    plain = make_backbone(**backbone.spec.model_dump())
    backbone.tokens = TokenCache.open(tmp_path, backbone, examples[::2])
    changed = [
        dataclasses.replace(examples[0], response="never said", negative_spans=((0, 5),)),
        dataclasses.replace(examples[2], negative_spans=((1, 3),)),
        dataclasses.replace(examples[4], documents=("new", "a dog")),
        *examples,
    ]
    asked.clear()
    backbone.collate(changed, seed=0, step=0)
    assert {"never said", "pizza", "new"} <= set(asked)
    assert not {"a dog", "cats", "do you like it ?"} & set(asked)
    assert same(backbone, plain, changed)


# --- its file


def test_built_once(backbone: Backbone, examples: list[Example], tmp_path: Path, asked: list[str]) -> None:
    """The same texts in any order are the same file; nothing else is left in the folder, and nothing that runs code."""
    TokenCache.open(tmp_path / "deep" / "er", backbone, examples)
    assert asked
    files = sorted((tmp_path / "deep" / "er").iterdir())
    assert [path.suffix for path in files] == [".arrow", ".blake2b"]
    stamps = [(path.stat().st_mtime_ns, path.read_bytes()) for path in files]
    asked.clear()
    again = TokenCache.open(tmp_path / "deep" / "er", backbone, iter(examples[::-1]))
    assert asked == []
    assert [(path.stat().st_mtime_ns, path.read_bytes()) for path in files] == stamps
    assert sorted((tmp_path / "deep" / "er").iterdir()) == files
    shutil.rmtree(tmp_path / "deep")
    assert again.ids("i have two dogs .") == backbone.tokenize(["i have two dogs ."])[0]  # what is mapped stays


def test_other_texts_and_tokenizers_are_other_files(
    backbone: Backbone, examples: list[Example], scratch: ScratchBackbone, tmp_path: Path
) -> None:
    """A text more, a span where there was none, more documents, another tokenizer; a shorter maximum is no other."""

    def count() -> int:
        return len(list(tmp_path.glob("*.arrow")))

    TokenCache.open(tmp_path, backbone, examples)
    backbone.spec = backbone.spec.model_copy(update={"max_source": 16, "max_target": 5, "max_document": 9})
    TokenCache.open(tmp_path, backbone, examples)
    assert count() == 1
    TokenCache.open(tmp_path, backbone, examples[1:])
    TokenCache.open(tmp_path, backbone, [dataclasses.replace(examples[1], negative_spans=((0, 2),)), *examples])
    backbone.spec = backbone.spec.model_copy(update={"documents": 3})
    TokenCache.open(tmp_path, backbone, examples)
    assert count() == 4
    other = build_backbone(scratch, train_tokenizer(["another text altogether"] * 3, scratch), seed=0)
    cache = TokenCache.open(tmp_path, other, examples)
    assert count() == 5
    with pytest.raises(ValueError, match="tokens of another tokenizer"):
        backbone.tokens = cache
    other.tokens = cache
    other.tokens = None


def test_no_example_is_no_text(backbone: Backbone, examples: list[Example], tmp_path: Path) -> None:
    cache = TokenCache.open(tmp_path, backbone, [])
    assert len(cache) == 0
    assert cache.ids("x") is None
    backbone.tokens = cache
    backbone.collate(examples, seed=0, step=0)


@pytest.mark.parametrize("damage", ["cut", "byte", "empty", "gone", "no digest", "wrong digest"])
def test_damage_is_repaired(damage: str, backbone: Backbone, examples: list[Example], tmp_path: Path) -> None:
    """A file that is not what was written is written again; processes that have the old one mapped keep it."""
    before = TokenCache.open(tmp_path, backbone, examples)
    arrow, digest = sorted(tmp_path.iterdir())
    content = arrow.read_bytes()

    def spoil(path: Path, data: bytes) -> None:
        path.unlink()  # not in place: the old file is mapped
        path.write_bytes(data)

    if damage == "cut":
        spoil(arrow, content[: len(content) // 2])
    elif damage == "byte":
        spoil(arrow, content[:-900] + bytes([content[-900] ^ 1]) + content[-899:])
    elif damage == "empty":
        spoil(arrow, b"")
    elif damage == "gone":
        arrow.unlink()
    elif damage == "no digest":
        digest.unlink()
    else:
        spoil(digest, b"\xff\x00")
    after = TokenCache.open(tmp_path, backbone, examples)
    assert arrow.read_bytes() == content
    for text in ODD:
        assert after.ids(text) == before.ids(text) == backbone.tokenize([text])[0]


def test_an_unfinished_building_leaves_nothing(
    backbone: Backbone, examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(texts: Sequence[str]) -> list[list[int]]:
        raise RuntimeError("stopped")

    monkeypatch.setattr(backbone, "tokenize", fail)
    with pytest.raises(RuntimeError, match="stopped"):
        TokenCache.open(tmp_path, backbone, examples)
    assert list(tmp_path.iterdir()) == []


def test_many_chunks(
    backbone: Backbone, examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are found across the parts in which they were written."""
    monkeypatch.setattr(token_cache, "_ROWS", 3)
    cache = TokenCache.open(tmp_path, backbone, examples)
    assert len(cache.dataset.data.column("ids").chunks) > 5
    for example in examples:
        assert cache.ids(example.response) == backbone.tokenize([example.response])[0]
        if example.negative_spans:
            assert cache.offsets(example.response) == backbone.find_offsets([example.response])[0]


# --- processes

_PROGRAM = """
import json, os, sys, time
from pathlib import Path
from cringe.backbones import build_backbone, train_tokenizer
from cringe.data import Example
from cringe.specs import ScratchBackbone
from cringe.token_cache import TokenCache
import numpy

def peak():
    # Of this program alone; what getrusage says includes the process that it was started from.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024

folder, count, together = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
draws = numpy.random.default_rng(0)
words = ["".join(draws.choice(list("abcdefghijklmnopqrstuvwxyz"), draws.integers(2, 9))) for _ in range(5000)]
shares = 1 / numpy.arange(1, len(words) + 1)
shares /= shares.sum()

def comments(first, last):
    for index, drawn in enumerate(draws.choice(len(words), (last - first, 80), p=shares).tolist(), first):
        text = " ".join([words[word] for word in drawn])
        yield Example(uid=str(index), context=(), own=(), response=text, group=str(index))

examples = [one for first in range(0, count, 500) for one in comments(first, min(first + 500, count))]
spec = ScratchBackbone(
    vocabulary=1000, width=8, encoder_layers=1, decoder_layers=1, heads=1, feedforward=8, max_source=8, max_target=32
)
backbone = build_backbone(spec, train_tokenizer((example.response for example in examples[:500]), spec), seed=0)

def use(folder, examples):
    cache = TokenCache.open(folder, backbone, examples)
    backbone.tokens = cache
    return len(cache), backbone.collate(examples[:64], seed=0, step=0).responses.tolist()

def fork(place):
    child = os.fork()
    if not child:
        (folder / f"{place}.json").write_text(json.dumps(use(folder / "together", examples[:300])))
        os._exit(0)
    return child

children = [fork(place) for place in range(together)]  # now, for they are one thread each
codes = [os.waitpid(child, 0)[1] for child in children]

import datasets
before, start = peak(), time.process_time()
rows, _ = use(folder / "alone", examples)
seconds = time.process_time() - start
print(json.dumps({"peak": peak(), "added": peak() - before, "seconds": seconds, "rows": rows, "codes": codes}))
"""


def measure(folder: Path, count: int, *, together: int = 0) -> dict[str, Any]:
    """What building takes of one process; before that several processes at once build something small."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    # From Python 3.12 on it warns of forks beside threads; those of torch do nothing here.
    command = [
        sys.executable,
        "-W",
        "ignore::DeprecationWarning",
        "-c",
        _PROGRAM,
        str(folder),
        str(count),
        str(together),
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no progress bar, no warning
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Of one program, for it takes seconds to start."""
    folder = tmp_path_factory.mktemp("measured")
    return folder, measure(folder, 20_000, together=2)


def test_two_processes_build_one(measured: tuple[Path, dict[str, Any]]) -> None:
    """At the same time, or one after the other."""
    folder, found = measured
    assert found["codes"] == [0, 0]
    first, second = (json.loads((folder / f"{place}.json").read_text()) for place in range(2))
    assert first == second
    assert first[0] == 300
    assert len(list((folder / "together").iterdir())) == 2


def test_memory_and_time(measured: tuple[Path, dict[str, Any]]) -> None:
    """20,000 comments of 80 words, an eighth of the largest data set: an eighth of what is allowed of time.

    What is added to memory hardly grows with their number; the whole must stay under 1 GB at eight times as many.
    """
    _, found = measured
    assert found["rows"] == 20_000
    assert found["seconds"] < 60 / 8
    assert found["added"] < 100e6
    assert found["peak"] < 1e9  # most of it torch, more with CUDA


@pytest.mark.slow
@pytest.mark.alone
def test_memory_and_time_of_all(tmp_path: Path) -> None:
    """160,000 comments of 80 words: under 1 GB and 60 seconds."""
    found = measure(tmp_path, 160_000)
    assert found["rows"] == 160_000
    assert found["seconds"] < 60
    assert found["peak"] < 1e9
