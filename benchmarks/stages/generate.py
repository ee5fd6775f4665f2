"""Replies of one model under one decoding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.stages.context import Context, choose_prompts, write_json, write_lines
from cringe.backbones import load_backbone
from cringe.counts import Counts
from cringe.generation import generate
from cringe.specs import DecodingSpec


def run(settings: Mapping[str, Any], context: Context) -> None:
    """Reply to the chosen prompts of every set that a column of the table is measured on."""
    task, data = context.load(settings)
    backbone = load_backbone(context.parents["model"]).to(context.device)
    spec = DecodingSpec.model_validate(settings["decoding"])
    counts = Counts()
    records = []
    for name in task.prompt_sets():
        replies = generate(
            backbone,
            choose_prompts(data.prompts[name], settings["prompts"]),
            spec,
            seed=settings.get("seed", 0),
            counts=counts,
            progress=context.progress,
        )
        records += [{"prompts": name, "uid": uid, "reply": text, "tokens": tokens} for uid, text, tokens in replies]
    write_lines(context.out / "replies.jsonl", records)
    write_json(context.out / "ledger.json", {"generation": counts.to_dict()})
