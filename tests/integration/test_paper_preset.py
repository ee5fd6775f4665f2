"""The preset ``paper`` on a folder that is all but its model: the same files and shapes, random weights.

The published 400M model cannot be had everywhere, and is not needed to know that the preset runs: what can go wrong
before a long run is the configuration, the tokenizer's files, memory, and the path through every stage. Two updates
are made and scored. The quick one has narrow layers; the slow one (``-m slow``) those of the real model.
"""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

from benchmarks.model_files import safetensors_parameters
from benchmarks.presets import FOLDER
from benchmarks.tasks import synthetic
from cringe.backbones import Backbone, pretrained_backbone
from cringe.data import Example
from cringe.seeding import torch_seed
from cringe.specs import PretrainedBackbone
from tests.integration import micro

VOCABULARY = 8008
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<s_AGAIN>", "<pad_AGAIN>", "</s_AGAIN>", "<unk_AGAIN>")
"""The first entries of the real vocabulary; the bytes come behind them, then what was merged."""
MASK = {"<mask>": VOCABULARY}
"""A token that the real tokenizer has and the real model has no row for."""
GENERATION = {"length_penalty": 0.65, "max_length": 60, "min_length": 20, "no_repeat_ngram_size": 3, "num_beams": 10}
"""What the real model's configuration says of decoding, which is the table's to say."""
METHODS = ("transformer", "cringe_single")
PROMPTS = 2
PRESET = yaml.safe_load((FOLDER / "paper.yaml").read_text(encoding="utf-8"))


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Of a BlenderBot; the default is that of ``facebook/blenderbot-400M-distill``."""

    width: int = 1280
    heads: int = 32
    feedforward: int = 5120
    encoder_layers: int = 2
    decoder_layers: int = 12
    new_tokens: int = 3
    """That a reply may have here."""

    @property
    def parameters(self) -> int:
        """By hand: products with their biases, two norms' weights and biases a block, one norm behind each stack."""
        d, f = self.width, self.feedforward
        attention, feedforward, norm = 4 * (d * d + d), 2 * d * f + f + d, 2 * d
        encoder = self.encoder_layers * (attention + feedforward + 2 * norm) + norm
        decoder = self.decoder_layers * (2 * attention + feedforward + 3 * norm) + norm
        return VOCABULARY * d + 2 * 128 * d + encoder + decoder


TINY = Shape(width=32, heads=2, feedforward=64, encoder_layers=2, decoder_layers=2, new_tokens=6)
REAL = Shape()


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where everything is that a command needs."""

    shape: Shape
    folder: Path

    def command(self, *options: str, settings: tuple[str, ...] = ()) -> micro.Said:
        """``python -m benchmarks.run`` with the preset, its hub ids replaced by folders."""
        words = ["--task", "decode", "--methods", *METHODS, "--preset", "paper", "--seeds", "0", "--device", "cpu"]
        words += ["--jobs", "1", "--data", str(self.folder / "data"), "--out", str(self.folder / "runs"), *options]
        names = [f"backbone.name={self.folder / 'blenderbot'}", f"reference.name={self.folder / 'reference'}"]
        return micro.here("benchmarks.run", *words, "--set", *names, *settings, folder=self.folder)

    def read(self, pattern: str, name: str) -> Any:
        """The JSON file of that name in the one directory whose name fits."""
        (folder,) = (self.folder / "runs").glob(pattern)
        return json.loads((folder / name).read_text(encoding="utf-8"))


def write_tokenizer(folder: Path, texts: list[str]) -> None:
    """Files as the real tokenizer has them: no ``tokenizer.json``, and nothing that says to end in ``</s>``."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    unused = {f"<unused {index}>": index for index in range(len(model["vocab"]), VOCABULARY)}
    special = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "cls_token": "<s>",
        "mask_token": "<mask>",
    }
    flags = {"single_word": False, "rstrip": False, "normalized": True, "__type": "AddedToken"}
    tokens = {name: {"content": text, "lstrip": text == "<mask>", **flags} for name, text in special.items()}
    files = {
        "vocab.json": model["vocab"] | unused,
        "tokenizer_config.json": {"errors": "replace", "add_prefix_space": True, "model_max_length": 128, **tokens},
        "special_tokens_map.json": special,
        "added_tokens.json": MASK,
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    merges = "".join(f"{left} {right}\n" for left, right in model["merges"])
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}", encoding="utf-8")


def write_blenderbot(folder: Path, shape: Shape, texts: list[str]) -> None:
    """A model of the shape with random weights, and configurations with the real one's entries, the old ones too."""
    from transformers import BlenderbotConfig, BlenderbotForConditionalGeneration

    numbers = {
        "vocab_size": VOCABULARY,
        "d_model": shape.width,
        "max_position_embeddings": 128,
        "init_std": 0.02,
        "encoder_layers": shape.encoder_layers,
        "decoder_layers": shape.decoder_layers,
        "encoder_attention_heads": shape.heads,
        "decoder_attention_heads": shape.heads,
        "encoder_ffn_dim": shape.feedforward,
        "decoder_ffn_dim": shape.feedforward,
        "dropout": 0.1,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "activation_function": "gelu",
        "scale_embedding": True,
        "encoder_no_repeat_ngram_size": 3,
        "forced_eos_token_id": 2,
    }
    ids = {"pad_token_id": 0, "bos_token_id": 1, "decoder_start_token_id": 1, "eos_token_id": 2}
    old = {
        "add_bias_logits": False,
        "add_final_layer_norm": True,
        "classif_dropout": 0.0,
        "classifier_dropout": 0.0,
        "do_blenderbot_90_layernorm": True,
        "extra_layer_norm": False,
        "extra_pos_embeddings": 0,
        "force_bos_token_to_be_generated": False,
        "gradient_checkpointing": False,
        "normalize_before": True,
        "layernorm_variant": "prelayernorm",
        "normalize_embedding": False,
        "static_position_embeddings": False,
        "num_hidden_layers": shape.encoder_layers,
        "unk_token_id": 3,
        "use_cache": True,
    }
    with torch_seed(0, "a model that nobody trained"):
        BlenderbotForConditionalGeneration(BlenderbotConfig(**numbers, **ids)).save_pretrained(folder)
    kind = {"model_type": "blenderbot", "architectures": ["BlenderbotForConditionalGeneration"]}
    whole = {**kind, "is_encoder_decoder": True, **numbers, **ids, **old, **GENERATION}
    (folder / "config.json").write_text(json.dumps(whole), encoding="utf-8")
    generation = {"_from_model_config": True, **ids, **GENERATION, "encoder_no_repeat_ngram_size": 3}
    (folder / "generation_config.json").write_text(json.dumps(generation), encoding="utf-8")
    write_tokenizer(folder, texts)


def write_reference(folder: Path, texts: list[str]) -> None:
    """A very small decoder-only model with the parts of the one that the preset names."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    end = "<|endoftext|>"
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=[end], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=end, eos_token=end, unk_token=end)
    wrapped.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=600,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=8192,
        bos_token_id=0,
        eos_token_id=0,
        tie_word_embeddings=True,
    )
    with torch_seed(1, "a model that nobody trained"):
        LlamaForCausalLM(config).save_pretrained(folder)


@pytest.fixture(
    scope="module", params=[pytest.param(TINY, id="tiny"), pytest.param(REAL, id="400M", marks=pytest.mark.slow)]
)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Generated data and two folders of models; nothing is kept of them, for the larger take gigabytes."""
    found = Place(shape=request.param, folder=tmp_path_factory.mktemp("paper"))
    data = found.folder / "data"
    synthetic.write_convai2(data, seed=0, train_dialogues=40, valid_dialogues=6)
    synthetic.write_decode(data, seed=0, train=160, dev=30, test=30)
    texts = [line for path in sorted(data.rglob("*")) if path.is_file() for line in path.read_text().splitlines()]
    write_blenderbot(found.folder / "blenderbot", found.shape, texts)
    write_reference(found.folder / "reference", texts)
    yield found
    shutil.rmtree(found.folder)


@pytest.fixture(scope="module")
def run(place: Place) -> micro.Said:
    """Two updates of the preset, and few and short replies; its sweeps are switched off."""
    short = [f"decoding.{name}.max_new_tokens={place.shape.new_tokens}" for name in ("beam", "nucleus")]
    cheap = ("training.updates=2", f"prompts={PROMPTS}", "decoding.beam.min_new_tokens=2", *short, "sweeps=null")
    done = place.command(settings=cheap)
    assert done.code == 0, done.err
    return done


def backbone(place: Place) -> Backbone:
    """The model as the preset reads it."""
    return pretrained_backbone(
        PretrainedBackbone.model_validate({**PRESET["backbone"], "name": str(place.folder / "blenderbot")})
    )


def test_the_tokenizer_is_read_from_its_two_files(place: Place) -> None:
    found = backbone(place)
    assert type(found.tokenizer).__name__ == "BlenderbotTokenizer"
    assert found.tokenizer.vocab_size == found.model.config.vocab_size == VOCABULARY
    assert (found.pad, found.eos, found.model.config.decoder_start_token_id) == (0, 2, 1)
    words = found.tokenizer.convert_ids_to_tokens(found.tokenize(["where do you live ?"])[0])
    assert words == ["Ġwhere", "Ġdo", "Ġyou", "Ġlive", "Ġ?"]
    assert found.parameters == place.shape.parameters


def test_replies_end_and_turns_are_two_spaces_apart(place: Place) -> None:
    """The tokenizer itself ends nothing; ParlAI encodes turns and delimiter one by one, as is done here."""
    found = backbone(place)
    example = Example(
        uid="1", context=("where do you live ?", "in a town"), own=(False, True), response="i see", group="1"
    )
    batch = found.collate([example], seed=0, step=0)
    reply, (first, second) = found.tokenize(["i see"])[0], found.tokenize(example.context)
    assert batch.responses.tolist() == [[*reply, 2]]
    (space,) = found.tokenizer.convert_tokens_to_ids(["Ġ"])
    assert batch.source.tolist() == [[space, space, *first, space, space, *second]]


def test_no_text_makes_a_token_that_the_model_has_no_row_for(place: Place) -> None:
    found = backbone(place)
    texts = ["<mask>", "a <mask> b</s>", "<pad> <s> <unk>", "<unused 8007>", "ünï 你好 😀", "  ", "\n", ""]
    for text, ids in zip(texts, found.tokenize(texts), strict=True):
        assert all(len(SPECIAL) <= token < VOCABULARY for token in ids), text
        assert found.tokenizer.decode(ids).strip() == text.strip()


def test_what_the_checkpoint_says_of_decoding_is_not_taken_over(place: Place) -> None:
    generation = backbone(place).model.generation_config.to_diff_dict()
    assert not GENERATION.keys() & generation.keys()
    assert generation["encoder_no_repeat_ngram_size"] == 0


def test_check_passes_and_counts_the_trials(place: Place) -> None:
    """Four trials of `cringe_single`, and a table of a transformer and the fifth; warm-up and reference for all."""
    checked = place.command("--check")
    assert checked.code == 0, checked.err
    lines = checked.out.splitlines()
    assert lines[0] == "configuration: ok; preset paper, methods transformer, cringe_single, seeds 0"
    assert f"data: ok; {place.folder / 'data'} (--data)" in lines
    (disk,) = (line for line in lines if line.startswith("disk: "))
    trials = len(PRESET["sweeps"]["cringe_single"]["alpha"])
    models = 3 + trials  # the value that is set is one of the trials'
    stored, reference = (
        safetensors_parameters(place.folder / name / "model.safetensors") for name in ("blenderbot", "reference")
    )
    assert stored == place.shape.parameters + VOCABULARY, "the bias of the logits is stored, and not trained"
    size = 4 * ((models - 1) * stored + reference) / 1e6
    assert disk.startswith(f"disk: ok; about {size:,.0f} MB for {models} models, ")
    assert "models: ok" in lines
    assert f"  backbone: {place.folder / 'blenderbot'}: there, {stored:,} parameters" in lines
    assert lines[-1] == f"device: cpu, {os.cpu_count()} cores, 1 thread(s) a stage"
    without = place.command("--check", settings=("sweeps=null",))
    assert without.code == 0
    size = 4 * (3 * stored + reference) / 1e6
    assert f"disk: ok; about {size:,.0f} MB for 4 models, " in without.out


def test_two_updates_are_made_as_the_preset_says(place: Place, run: micro.Said) -> None:
    for method in METHODS:
        ledger = place.read(f"decode-{method}-s0-train-*", "ledger.json")
        assert ledger["parameters"] == place.shape.parameters
        assert (ledger["training"]["updates"], ledger["training"]["examples"]) == (2, 32)
        assert all(ledger["training"]["target_tokens"][kind] for kind in ("positive", "negative", "unlabelled"))
        settings = place.read(f"decode-{method}-s0-train-*", "spec.json")["settings"]["training"]
        given = {key: settings[key] for key in PRESET["training"]}
        assert given == {**PRESET["training"], "updates": 2}
    assert place.read("decode-warmup-*", "ledger.json")["training"]["updates"] == 0


def test_training_starts_from_the_folder_and_moves_its_weights(place: Place, run: micro.Said) -> None:
    given = load_file(place.folder / "blenderbot" / "model.safetensors")
    differ = {}
    for name in ("warmup", *(f"{method}-s0-train" for method in METHODS)):
        (folder,) = (place.folder / "runs").glob(f"decode-{name}-*")
        stored = load_file(folder / "model.safetensors")
        assert stored.keys() == given.keys()
        assert all(weights.isfinite().all() for weights in stored.values())
        differ[name] = [key for key in given if not stored[key].equal(given[key])]
    assert not differ["warmup"]
    for method in METHODS:
        moved = differ[f"{method}-s0-train"]
        assert any("encoder.layers.0.fc1" in key for key in moved)
        assert any(f"decoder.layers.{place.shape.decoder_layers - 1}.fc2" in key for key in moved)


def test_every_row_has_scores(place: Place, run: micro.Said) -> None:
    for name in ("backbone", *METHODS):
        (folder,) = (place.folder / "runs").glob(f"decode-{name}-s0-scores-*")
        with (folder / "scores.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert {(row["decoding"], row["prompts"]) for row in rows} == {
            (decoding, prompts) for decoding in ("beam", "nucleus") for prompts in ("convai2", "decode")
        }
        assert len(rows) == 4 * PROMPTS
        assert all(0 <= float(row["f1"]) <= 1 for row in rows)
        assert all(row["coherent"] for row in rows if row["prompts"] == "decode")
        assert all(math.isfinite(float(row["nll"])) for row in rows if row["nll"])
        lines = (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
        assert not any(token in json.loads(line)["reply"] for line in lines for token in (*SPECIAL, *MASK))
    assert run.out.startswith("## decode: contradiction avoidance")
    assert "| cringe_single |" in run.out
