"""Scores of replies, one row a reply: what the table is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pandas as pd

from benchmarks.stages.context import Context, read_json, read_lines, write_json, write_lines
from cringe.backbones import load_backbone
from cringe.classifier import Classifier
from cringe.data import Example, normalised
from cringe.seeding import stable_hash
from evaluators.f1 import unigram_f1
from evaluators.perplexity import reply_likelihoods

REPLIES = "replies-"
"""Parents whose name begins so hold replies; the rest of the name is their decoding."""


class _Scored(NamedTuple):
    """The replies of a run, in the order of its predictions."""

    prompts: list[Example]
    """What was replied to, with the gold reply."""
    replies: list[Example]
    """The same with the reply in the gold one's place."""
    scores: pd.DataFrame


def run(settings: Mapping[str, Any], context: Context) -> None:
    """Score all replies of a run, and lay the predictions, the log and the ledger beside the scores."""
    task, data = context.load(settings)
    by_uid = {name: {example.uid: example for example in examples} for name, examples in data.prompts.items()}
    records = _replies(context)
    prompts = [by_uid[record["prompts"]][record["uid"]] for record in records]
    replies = [
        replace(prompt, response=record["reply"], evidence=()) for prompt, record in zip(prompts, records, strict=True)
    ]
    scored = _Scored(prompts, replies, _frame(records, replies))
    model = load_backbone(context.parents["model"]).to(context.device)
    likelihoods = reply_likelihoods(model, replies, progress=context.progress)
    scored.scores["tokens"] = [likelihood.tokens for likelihood in likelihoods]
    scored.scores["nll"] = [likelihood.nll for likelihood in likelihoods]
    for column in task.columns:
        rows = scored.scores.index[scored.scores["prompts"] == column.prompts]
        _METRICS[column.metric](scored, rows, context)
    scored.scores.to_csv(context.out / "scores.csv", index=False, lineterminator="\n")
    shown = ({"context": prompt.context, "gold": prompt.response} for prompt in prompts)
    write_lines(
        context.out / "predictions.jsonl", (record | extra for record, extra in zip(records, shown, strict=True))
    )
    write_json(context.out / "ledger.json", _ledger(context))
    if "training" in context.parents:
        log = context.parents["training"] / "training_log.jsonl"
        (context.out / "training_log.jsonl").write_bytes(log.read_bytes())


def _replies(context: Context) -> list[dict[str, Any]]:
    """Every reply of the run, with its decoding."""
    return [
        {"row": "", "decoding": role.removeprefix(REPLIES), **record}
        for role, folder in context.parents.items()
        if role.startswith(REPLIES)
        for record in read_lines(folder / "replies.jsonl")
    ]


def _frame(records: Sequence[Mapping[str, Any]], replies: Sequence[Example]) -> pd.DataFrame:
    """A row a reply: what it is a reply to, and a hash of its text."""
    return pd.DataFrame(
        {
            "row": [record["row"] for record in records],
            "decoding": [record["decoding"] for record in records],
            "prompts": [record["prompts"] for record in records],
            "uid": [reply.uid for reply in replies],
            "group": [reply.group for reply in replies],
            "reply_id": [f"{stable_hash(normalised(reply.response)):016x}" for reply in replies],
        }
    )


def _f1(scored: _Scored, rows: pd.Index[int], context: Context) -> None:
    """Unigram F1 to the gold reply."""
    scored.scores.loc[rows, "f1"] = [
        unigram_f1(scored.replies[row].response, [scored.prompts[row].response]) for row in rows
    ]


def _coherent(scored: _Scored, rows: pd.Index[int], context: Context) -> None:
    """The judge's verdict, and the probability of a contradiction that it rests on."""
    judge = Classifier.load(context.parents["judge"]).to(context.device)
    threshold = read_json(context.parents["judge"] / "report.json")["threshold"]
    negative = judge.probabilities([scored.replies[row] for row in rows])
    scored.scores.loc[rows, "coherent"] = [float(probability < threshold) for probability in negative]
    scored.scores.loc[rows, "contradiction_probability"] = negative


_METRICS = {"f1": _f1, "coherent": _coherent}


def _ledger(context: Context) -> dict[str, Any]:
    """What the run spent: training of the method and each decoding on lines of their own."""
    ledger: dict[str, Any] = {"start": context.parents["model"].name}
    if "training" in context.parents:
        ledger |= read_json(context.parents["training"] / "ledger.json")
    for role, folder in context.parents.items():
        if role.startswith(REPLIES) and (folder / "ledger.json").exists():
            spent = read_json(folder / "ledger.json")
            name = role.removeprefix(REPLIES)
            ledger[f"generation {name}"] = spent["generation"]
            if "steering" in spent:
                ledger[f"steering {name}"] = spent["steering"]
            for guide in ("guide", "prefix_guide"):
                if guide in spent:
                    ledger[f"auxiliary {guide}"] = spent[guide]
    return ledger
