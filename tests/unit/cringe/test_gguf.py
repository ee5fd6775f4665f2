"""Models from GGUF files, whose weights are stored in blocks of few bits, are plain models once they are loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from cringe.backbones import load_backbone, pretrained_backbone
from cringe.data import Example
from cringe.specs import PretrainedBackbone

WIDTH, FEEDFORWARD, VOCABULARY, LAYERS = 32, 64, 259, 2
FILE = "tiny.Q8_0.gguf"


def spec(folder: Path) -> PretrainedBackbone:
    return PretrainedBackbone(
        kind="pretrained", family="causal", name=str(folder), gguf_file=FILE, max_source=32, max_target=16
    )


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """A folder with a Llama that nobody trained, its products in eight bits; and what they stand for."""
    gguf = pytest.importorskip("gguf")
    from tokenizers.pre_tokenizers import ByteLevel

    folder = tmp_path_factory.mktemp("gguf")
    writer = gguf.GGUFWriter(folder / FILE, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(FEEDFORWARD)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["<|endoftext|>", *sorted(ByteLevel.alphabet()), "do", "no"])
    writer.add_token_types([3, *[1] * (VOCABULARY - 1)])
    writer.add_token_merges(["d o", "n o"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    shapes = {"token_embd.weight": (VOCABULARY, WIDTH), "output_norm.weight": (WIDTH,)}
    for layer in range(LAYERS):
        block = {f"attn_{part}": (WIDTH, WIDTH) for part in ("q", "k", "v", "output")}
        block |= {f"ffn_{part}": (FEEDFORWARD, WIDTH) for part in ("gate", "up")}
        block |= {"ffn_down": (WIDTH, FEEDFORWARD), "attn_norm": (WIDTH,), "ffn_norm": (WIDTH,)}
        shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in block.items()}
    draws = np.random.default_rng(0)
    weights = {}
    for name, shape in shapes.items():
        values = draws.normal(scale=0.3, size=shape).astype(np.float32)
        kind = gguf.GGMLQuantizationType.F32 if len(shape) == 1 else gguf.GGMLQuantizationType.Q8_0
        packed = gguf.quants.quantize(values, kind)
        weights[name] = gguf.quants.dequantize(packed, kind)
        writer.add_tensor(name, packed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder, weights


def test_what_was_loaded_is_saved_and_loaded_again(
    stored: tuple[Path, dict[str, np.ndarray]], mixed: list[Example], tmp_path: Path
) -> None:
    folder, weights = stored
    backbone = pretrained_backbone(spec(folder)).to("cpu")
    state = backbone.model.state_dict()
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    for ours, theirs in (
        ("model.embed_tokens.weight", "token_embd.weight"),
        ("model.layers.1.mlp.down_proj.weight", "blk.1.ffn_down.weight"),
        ("model.layers.0.self_attn.v_proj.weight", "blk.0.attn_v.weight"),
        ("model.norm.weight", "output_norm.weight"),
    ):
        assert torch.equal(state[ours], torch.from_numpy(weights[theirs]))
    batch = backbone.collate(mixed, seed=0, step=0)
    backbone.logits(batch).sum().backward()
    assert all(weight.grad is not None for weight in backbone.model.parameters())

    backbone.save(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    again = load_backbone(tmp_path).to("cpu")
    assert again.spec == backbone.spec
    assert again.parameters == backbone.parameters == sum(values.size for values in weights.values())
    found = again.model.state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())
    with torch.no_grad():
        assert torch.equal(again.logits(again.collate(mixed, seed=0, step=0)), backbone.logits(batch))


def test_weights_are_asked_for_unpacked_and_in_single_precision(
    make_backbone: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left to itself transformers keeps them packed where it finds a kernel on the hub, and runs that."""
    make_backbone(family="causal").save(tmp_path)
    load = transformers.AutoModelForCausalLM.from_pretrained
    asked: dict[str, Any] = {}

    def record(name: str, **options: Any) -> Any:
        asked.update(options)
        return load(name, use_safetensors=True)

    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", record)
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *_, **__: tokenizer)
    pretrained_backbone(spec(tmp_path))
    assert asked["gguf_file"] == FILE
    assert asked["quantization_config"].dequantize
    assert asked["dtype"] == torch.float32
    assert not asked["trust_remote_code"]


def test_a_checkpoint_in_half_precision_is_trained_in_single(make_backbone: Any, tmp_path: Path) -> None:
    backbone = make_backbone(family="causal")
    backbone.model.to(torch.bfloat16)
    backbone.save(tmp_path)
    loaded = pretrained_backbone(spec(tmp_path).model_copy(update={"gguf_file": None}))
    assert {weight.dtype for weight in loaded.model.parameters()} == {torch.float32}
