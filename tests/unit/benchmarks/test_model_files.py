"""A pretrained model is looked for and counted before a run begins, by the headers of its files alone."""

from __future__ import annotations

import json
import struct
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from benchmarks import model_files
from benchmarks.errors import DataError
from benchmarks.model_files import gguf_parameters, look, safetensors_parameters


def weights(path: Path, **shapes: tuple[int, ...]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: np.zeros(shape, dtype=np.float16) for name, shape in shapes.items()}, path)
    return path


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def write_gguf(path: Path, *shapes: tuple[int, ...]) -> Path:
    """By hand: a file of zeros in F32, with values of every kind before them."""
    entries = [
        text("name") + struct.pack("<I", 8) + text("a model"),
        text("size") + struct.pack("<II", 4, 7),
        text("long") + struct.pack("<IQ", 10, 7),
        text("flag") + struct.pack("<IB", 7, 1),
        text("words") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("bc"),
        text("scores") + struct.pack("<IIQ", 9, 6, 3) + bytes(12),
    ]
    infos, offset = b"", 0
    for index, shape in enumerate(shapes):
        infos += text(f"w{index}") + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, offset)
        offset += 4 * int(np.prod(shape))
    header = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(entries)) + b"".join(entries) + infos
    path.write_bytes(header + bytes(-len(header) % 32 + offset))
    return path


def test_weights_are_counted_and_what_is_no_weight_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"w": np.zeros((3, 4), np.float32), "b": np.zeros(5, np.float16), "ids": np.zeros(99, np.int64)}, path)
    assert safetensors_parameters(path) == 17
    assert gguf_parameters(write_gguf(tmp_path / "a.gguf", (8, 4), (8,))) == 40


def test_a_written_gguf_file_is_counted_as_its_own_package_counts_it(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.add_token_list(["a", "bc", "ü"])
    writer.add_block_count(2)
    for name, shape in {"x": (4, 32), "y": (7,)}.items():
        writer.add_tensor(name, np.ones(shape, np.float32))
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        write()
    writer.close()
    assert gguf_parameters(tmp_path / "a.gguf") == 4 * 32 + 7


@pytest.mark.parametrize("kind", ["safetensors", "gguf"])
def test_files_that_are_cut_off_or_no_weights_at_all_are_told_of(kind: str, tmp_path: Path) -> None:
    """Cut anywhere: in a number, in the header, or in the last tensor."""
    if kind == "gguf":
        content, count = write_gguf(tmp_path / "whole", (8, 4), (8,)).read_bytes(), gguf_parameters
    else:
        content, count = weights(tmp_path / "whole", w=(8, 4), b=(8,)).read_bytes(), safetensors_parameters
    path = tmp_path / "part"
    for size in (0, 3, 6, 12, 40, 100, len(content) - 40):
        path.write_bytes(content[:size])
        with pytest.raises(DataError, match=r"part: is (cut off|no )"):
            count(path)
    for junk in (b"\xff" * 400, b"GGUF" + b"\xff" * 400, b"\x05" + bytes(7) + b"[[]]]", b"\x02" + bytes(7) + b"[]"):
        path.write_bytes(junk)
        with pytest.raises(DataError):
            count(path)


def test_a_folder_needs_a_configuration_and_weights(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    weights(folder / "model.safetensors", w=(2, 3))
    assert look(str(folder)) == (
        "holds no config.json beside model.safetensors or model.safetensors.index.json",
        None,
        False,
    )
    (folder / "config.json").write_text("{}")
    assert look(str(folder)) == ("there", 6, True)
    (folder / "model.safetensors").write_bytes(b"")
    assert not look(str(folder)).usable
    (folder / "model.safetensors").unlink()
    assert not look(str(folder)).usable


def test_the_parts_of_a_large_model_are_those_of_its_index(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "1.safetensors", "b": "2.safetensors", "c": "2.safetensors"}}))
    weights(tmp_path / "1.safetensors", a=(2, 3))
    weights(tmp_path / "other.safetensors", a=(99,))
    assert not look(str(tmp_path)).usable
    weights(tmp_path / "2.safetensors", b=(4,), c=(5,))
    assert look(str(tmp_path)).parameters == 15
    for damaged in ("[]", "{", '{"weight_map": 3}'):
        index.write_text(damaged)
        assert "is no index of weights" in look(str(tmp_path)).said


def test_gguf_needs_its_package_and_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gguf(tmp_path / "a.gguf", (8, 4))
    monkeypatch.setattr(model_files, "find_spec", lambda name: None)
    assert not look(str(tmp_path), gguf_file="a.gguf").usable
    assert "pip install" in look(str(tmp_path), gguf_file="a.gguf").said
    monkeypatch.setattr(model_files, "find_spec", lambda name: find_spec("json"))
    assert look(str(tmp_path), gguf_file="a.gguf") == ("there", 32, True)
    assert look(str(tmp_path), gguf_file="b.gguf") == ("holds no b.gguf", None, False)


def test_a_model_of_the_hub_is_in_its_cache_or_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    found = look("some/model")
    assert (found.parameters, found.usable) == (None, True)
    assert "will be fetched" in found.said
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert not look("some/model").usable
    model = tmp_path / "models--some--model"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("abc")
    snapshot = model / "snapshots" / "abc"
    weights(snapshot / "model.safetensors", w=(2, 3))
    assert not look("some/model").usable, "a fetch that was broken off"
    (snapshot / "config.json").write_text("{}")
    assert look("some/model") == ("in the cache of the hub", 6, True)
    assert look("some/model", revision="abc").usable
    assert not look("some/model", revision="def").usable


@pytest.mark.parametrize("name", ["/no/such/folder", "./none", "a/b/c", "../up", ".hidden/model", "a b", "~/model"])
def test_neither_a_folder_nor_a_hub_id(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert look(name) == ("no such folder, and no hub id", None, False)
