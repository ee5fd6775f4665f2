"""Scores of replies, one row a reply: what the table is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from benchmarks.stages.context import Context, read_json, read_lines, write_json, write_lines
from benchmarks.tasks.base import TaskData
from cringe.backbones import Seq2SeqBackbone
from cringe.classifier import Classifier
from cringe.data import Example, normalised
from cringe.seeding import stable_hash
from evaluators.f1 import unigram_f1
from evaluators.perplexity import reply_likelihoods

REPLIES = "replies-"
"""Parents whose name begins so hold replies; the rest of the name is their decoding."""


def run(settings: Mapping[str, Any], context: Context) -> None:
    """Score all replies of a run, and lay the predictions, the log and the ledger beside the scores."""
    task, data = context.load(settings)
    predictions = _predictions(data, context)
    answered = [_answered(data, record) for record in predictions]
    scores = pd.DataFrame(
        {
            "row": [record["row"] for record in predictions],
            "decoding": [record["decoding"] for record in predictions],
            "prompts": [record["prompts"] for record in predictions],
            "uid": [example.uid for example in answered],
            "group": [example.group for example in answered],
            "reply_id": [f"{stable_hash(normalised(example.response)):016x}" for example in answered],
        }
    )
    model = Seq2SeqBackbone.load(context.parents["model"]).to(context.device)
    likelihoods = reply_likelihoods(model, answered, progress=context.progress)
    scores["tokens"] = [likelihood.tokens for likelihood in likelihoods]
    scores["nll"] = [likelihood.nll for likelihood in likelihoods]
    for column in task.columns:
        rows = scores.index[scores["prompts"] == column.prompts]
        _METRICS[column.metric](scores, rows, data, answered, context)
    scores.to_csv(context.out / "scores.csv", index=False, lineterminator="\n")
    write_lines(context.out / "predictions.jsonl", predictions)
    write_json(context.out / "ledger.json", _ledger(context))
    if "training" in context.parents:
        log = context.parents["training"] / "training_log.jsonl"
        (context.out / "training_log.jsonl").write_bytes(log.read_bytes())


def _predictions(data: TaskData, context: Context) -> list[dict[str, Any]]:
    """Every reply of the run with its prompt and the gold reply, to be read by people."""
    prompts = {name: {example.uid: example for example in examples} for name, examples in data.prompts.items()}
    predictions = []
    for role, folder in context.parents.items():
        if role.startswith(REPLIES):
            for record in read_lines(folder / "replies.jsonl"):
                prompt = prompts[record["prompts"]][record["uid"]]
                shown = {"context": prompt.context, "gold": prompt.response}
                predictions.append({"row": "", "decoding": role.removeprefix(REPLIES), **record, **shown})
    return predictions


def _answered(data: TaskData, record: Mapping[str, Any]) -> Example:
    """The prompt with the reply in place of the gold one."""
    by_uid = {example.uid: example for example in data.prompts[record["prompts"]]}
    return replace(by_uid[record["uid"]], response=record["reply"], evidence=())


def _f1(scores: pd.DataFrame, rows: pd.Index[int], data: TaskData, answered: list[Example], context: Context) -> None:
    """Unigram F1 to the gold reply."""
    gold = {example.uid: example.response for examples in data.prompts.values() for example in examples}
    scores.loc[rows, "f1"] = [unigram_f1(answered[row].response, [gold[answered[row].uid]]) for row in rows]


def _coherent(
    scores: pd.DataFrame, rows: pd.Index[int], data: TaskData, answered: list[Example], context: Context
) -> None:
    """The judge's verdict, and the probability of a contradiction that it rests on."""
    judge = Classifier.load(context.parents["judge"]).to(context.device)
    threshold = read_json(context.parents["judge"] / "report.json")["threshold"]
    negative = judge.probabilities([answered[row] for row in rows])
    scores.loc[rows, "coherent"] = [float(probability < threshold) for probability in negative]
    scores.loc[rows, "contradiction_probability"] = negative


_METRICS = {"f1": _f1, "coherent": _coherent}


def _ledger(context: Context) -> dict[str, Any]:
    """What the run spent: training of the method and each decoding on lines of their own."""
    ledger: dict[str, Any] = {"start": context.parents["model"].name}
    if "training" in context.parents:
        ledger |= read_json(context.parents["training"] / "ledger.json")
    for role, folder in context.parents.items():
        if role.startswith(REPLIES) and (folder / "ledger.json").exists():
            ledger[f"generation {role.removeprefix(REPLIES)}"] = read_json(folder / "ledger.json")["generation"]
    return ledger
