"""Between two rounds of iterative CRINGE: generate on training prompts, label with the guide, balance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.stages.context import Context, read_json, write_json, write_lines
from cringe.backbones import load_backbone
from cringe.classifier import Classifier
from cringe.counts import Counts
from cringe.generation import generate
from cringe.iterate import additions
from cringe.seeding import stable_hash
from cringe.specs import DecodingSpec


def run(settings: Mapping[str, Any], context: Context) -> None:
    """Write what the round adds, and what of it was positive."""
    task, data = context.load(settings)
    seed, round_ = settings["seed"], settings["round"]
    pool = data.sources[task.prompt_source]
    drawn = sorted(pool, key=lambda example: stable_hash(seed, "generate", round_, example.uid))
    prompts = sorted(drawn[: settings["generations"]], key=lambda example: example.uid)
    counts = Counts()
    replies = generate(
        load_backbone(context.parents["model"]).to(context.device),
        prompts,
        DecodingSpec.model_validate(settings["decoding"]),
        seed=stable_hash(seed, "round", round_) % 2**31,
        counts=counts,
        progress=context.progress,
    )
    found = additions(
        prompts,
        replies,
        Classifier.load(context.parents["guide"]).to(context.device),
        threshold=read_json(context.parents["guide"] / "report.json")["threshold"],
        seed=seed,
        round_=round_,
    )
    write_lines(
        context.out / "additions.jsonl",
        (
            {
                "uid": example.uid,
                "context": example.context,
                "own": example.own,
                "group": example.group,
                "response": example.response,
                "feedback": example.feedback.value,
            }
            for example in found.examples
        ),
    )
    summary = {"labelled": found.labelled, "added": len(found.examples), "positive_share": found.positive_share}
    write_json(context.out / "round.json", summary | {"round": round_, "sentence": found.sentence()})
    guide = read_json(context.parents["guide"] / "ledger.json")["training"]
    write_json(context.out / "ledger.json", {"generation": counts.to_dict(), "guide": guide})
