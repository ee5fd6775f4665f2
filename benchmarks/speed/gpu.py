"""What a GPU makes of it: rates as shares of what the card does in a plain matrix product and a plain copy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from benchmarks.speed import losses
from benchmarks.speed.decoding import beam
from benchmarks.speed.rows import Row, Side, Target, take_turns
from benchmarks.speed.setting import BATCH, PAPERS, Repeated, Setting, build, mixed, say, training_settings
from cringe.generation import generate
from cringe.methods.cringe_single import CringeSingle
from cringe.trainer import Trainer

TRAINING, LOSS = 0.4, 0.7
PROMPTS = 64
NO_GPU = "torch finds no CUDA device here; it is measured with --device cuda"


def measure(setting: Setting) -> Iterator[Row]:
    """Training and the loss against the card itself, and decoding against transformers' own search."""
    rows = {
        "training": Row(
            measure="gpu",
            what="floating-point operations a second in training, against a matrix product",
            setting=f"{PAPERS.sentence()}, batch {BATCH}, bf16 autocast, {setting.dialogue}",
            target=Target(TRAINING, at_most=False),
        ),
        "loss": Row(
            measure="gpu",
            what="bytes a second in the loss (logits read, gradient written), against a copy",
            setting="8×128 tokens, V 50,000, 25% negative, bf16",
            target=Target(LOSS, at_most=False),
        ),
        "decoding": Row(
            measure="gpu",
            what="examples a second of our beam search, against generate of transformers",
            setting=f"{PAPERS.sentence()}, beam 10, {PROMPTS} prompts, bf16, {setting.dialogue}",
        ),
    }
    if setting.device != "cuda":
        yield from (replace(row, missing=NO_GPU) for row in rows.values())
        return
    for name, row in rows.items():
        say(f"gpu: {name}")
        yield {"training": _training, "loss": _loss, "decoding": _decoding}[name](row, setting)


def _training(row: Row, setting: Setting) -> Row:
    examples = mixed(setting.examples())
    backbone = build(setting, PAPERS, max_source=128, max_target=128)
    backbone.model.train()
    settings = training_settings().model_copy(update={"precision": "bf16"})
    sampler = Repeated(examples, batches=4)
    trainer = Trainer(backbone, CringeSingle(), sampler, settings, seed=0, device="cuda")
    done = 0

    def steps() -> float:
        nonlocal done
        before = trainer.counts.flops
        for _ in range(4):
            trainer.step(done)
            done += 1
        return trainer.counts.flops - before

    size, times = 8192, 8
    left, right = (torch.ones(size, size, dtype=torch.bfloat16, device="cuda") for _ in range(2))

    def product() -> float:
        for _ in range(times):
            left @ right
        return 2.0 * size**3 * times

    sides = {"training": Side(steps), "matrix product": Side(product)}
    turns = take_turns(sides, setting.repeats(9), warm_up=3, synchronize=setting.synchronize)
    return replace(row, values=turns.speeds("training", "matrix product"), raw=turns.raw())


def _loss(row: Row, setting: Setting) -> Row:
    method = CringeSingle()
    case = losses.make_case(50_000, (8, 128), 0.25, "cuda")
    case = case._replace(packed=case.packed.bfloat16(), grid=case.grid[:0])
    size = float(case.packed.numel() * case.packed.element_size())
    copy = torch.empty_like(case.packed)

    def gradient() -> float:
        losses.ours(case, method)
        return 2 * size

    def copied() -> float:
        for _ in range(10):
            copy.copy_(case.packed)
        return 20 * size

    sides = {"loss": Side(gradient), "copy": Side(copied)}
    turns = take_turns(sides, setting.repeats(15), warm_up=3, synchronize=setting.synchronize)
    return replace(row, values=turns.speeds("loss", "copy"), raw=turns.raw())


def _decoding(row: Row, setting: Setting) -> Row:
    """The same model, batch, constraints and lengths through `cringe.generation` and through ``model.generate``."""
    spec = beam(PAPERS).model_copy(update={"batch_size": PROMPTS})
    examples = setting.examples()[:PROMPTS]
    backbone = build(setting, PAPERS, max_source=128, max_target=128)
    backbone.model.to(torch.bfloat16)

    def ours() -> float:
        return float(len(generate(backbone, examples, spec, seed=0)))

    def theirs() -> float:
        sources = backbone.sources(examples)
        with torch.inference_mode():
            found = backbone.model.generate(
                input_ids=sources.ids.to("cuda"),
                attention_mask=sources.mask.long().to("cuda"),
                num_beams=spec.beams,
                length_penalty=spec.length_penalty,
                no_repeat_ngram_size=spec.no_repeat_ngram,
                encoder_no_repeat_ngram_size=spec.no_context_ngram,
                min_new_tokens=spec.min_new_tokens,
                max_new_tokens=spec.max_new_tokens,
                do_sample=False,
            )
        return float(len(found))

    sides = {"ours": Side(ours), "transformers": Side(theirs)}
    turns = take_turns(sides, setting.repeats(5), synchronize=setting.synchronize)
    return replace(row, values=turns.speeds("ours", "transformers"), raw=turns.raw())
