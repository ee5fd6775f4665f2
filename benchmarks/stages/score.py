"""Scores of replies, one row a reply, and what only all replies together show: what the table is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from benchmarks.stages.context import Context, read_json, read_lines, write_json, write_lines
from benchmarks.stages.judge import OTHER_VIEW, SECOND
from benchmarks.stages.model import load_trained
from cringe.backbones import load_backbone
from cringe.classifier import Classifier
from cringe.data import Example, Feedback, normalised
from cringe.seeding import stable_hash
from evaluators.diversity import distinct_ngrams
from evaluators.f1 import unigram_f1
from evaluators.perplexity import reply_likelihoods
from evaluators.preference import preference_values
from evaluators.repetition import context_repetition, repetition

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
    _, data = context.load(settings)
    by_uid = {name: {example.uid: example for example in examples} for name, examples in data.prompts.items()}
    records = _replies(context)
    prompts = [by_uid[record["prompts"]][record["uid"]] for record in records]
    replies = [
        replace(prompt, response=record["reply"], evidence=(), negative_spans=())
        for prompt, record in zip(prompts, records, strict=True)
    ]
    scored = _Scored(prompts, replies, _frame(records, replies))
    _text_metrics(scored)
    _likelihood(scored, context)
    for metric, prompt_sets in settings["judged"].items():
        _verdicts(scored, metric, prompt_sets, context)
    _gold_likelihood(scored, settings, context)
    scored.scores.to_csv(context.out / "scores.csv", index=False, lineterminator="\n")
    write_json(context.out / "corpus.json", _corpus(scored))
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


def _text_metrics(scored: _Scored) -> None:
    """What can be counted: words in common with the gold reply, where there is one, and repetition."""
    texts = [reply.response for reply in scored.replies]
    scored.scores["f1"] = [
        unigram_f1(text, [prompt.response]) if prompt.response else np.nan
        for text, prompt in zip(texts, scored.prompts, strict=True)
    ]
    scored.scores["repetition_4"] = [repetition(text) for text in texts]
    scored.scores["context_repetition_4"] = [
        context_repetition(text, prompt.context) for text, prompt in zip(texts, scored.prompts, strict=True)
    ]


def _likelihood(scored: _Scored, context: Context) -> None:
    """How likely the reference model finds each reply."""
    reference = load_backbone(context.parents["reference"]).to(context.device)
    likelihoods = reply_likelihoods(reference, scored.replies, progress=context.progress)
    scored.scores["tokens"] = [likelihood.tokens for likelihood in likelihoods]
    scored.scores["nll"] = [likelihood.nll for likelihood in likelihoods]


def _verdicts(scored: _Scored, metric: str, prompt_sets: Sequence[str], context: Context) -> None:
    """What the judge says, the probability of being negative that it rests on, and what other classifiers say."""
    rows = scored.scores.index[scored.scores["prompts"].isin(prompt_sets)]
    replies = [scored.replies[row] for row in rows]
    judge = context.parents["judge"]
    classifiers = {
        metric: judge,
        f"{metric}_by_guide": context.parents["guide"],
        f"{metric}_other_view": judge / OTHER_VIEW,
        f"{metric}_by_second": judge / SECOND,
    }
    for column, folder in classifiers.items():
        if folder.exists():
            negative = np.array(Classifier.load(folder).to(context.device).probabilities(replies))
            threshold = read_json(folder / "report.json")["threshold"]
            scored.scores.loc[rows, column] = (negative < threshold).astype(float)
            if column == metric:
                scored.scores.loc[rows, "negative_probability"] = negative


def _gold_likelihood(scored: _Scored, settings: Mapping[str, Any], context: Context) -> None:
    """How likely the model under test finds the gold replies, before any guidance and however it decodes."""
    scored.scores["gold_nll"] = scored.scores["gold_tokens"] = scored.scores["preference"] = np.nan
    if "tested" not in context.parents:
        return
    model = load_trained(context.parents["tested"], settings, context.device).backbone
    gold = {prompt.uid: prompt for prompt in scored.prompts if prompt.response}
    likelihoods = dict(zip(gold, reply_likelihoods(model, list(gold.values())), strict=True))
    found = [likelihoods.get(prompt.uid) for prompt in scored.prompts]
    scored.scores["gold_nll"] = [np.nan if item is None else item.nll for item in found]
    scored.scores["gold_tokens"] = [np.nan if item is None else item.tokens for item in found]
    _preference(scored)


def _preference(scored: _Scored) -> None:
    """Does the model find good human replies likelier than bad ones? Of sets of prompts whose gold replies are both."""
    labels = {Feedback.NEGATIVE: 1.0, Feedback.POSITIVE: 0.0}
    negative = np.array([labels.get(prompt.feedback, np.nan) for prompt in scored.prompts])
    rates = (scored.scores["gold_nll"] / scored.scores["gold_tokens"]).to_numpy()
    for places in scored.scores.groupby(["row", "decoding", "prompts"]).indices.values():
        scored.scores.loc[places, "preference"] = preference_values(rates[places], negative[places])


def _corpus(scored: _Scored) -> list[dict[str, Any]]:
    """Numbers of all replies together: of each row, decoding and set of prompts."""
    found = []
    for (row, decoding, prompts), part in scored.scores.groupby(["row", "decoding", "prompts"], sort=True):
        texts = [scored.replies[index].response for index in part.index]
        distinct = {f"distinct_{n}": distinct_ngrams(texts, n) for n in (1, 2)}
        found.append({"row": row, "decoding": decoding, "prompts": prompts, **distinct})
    return found


def _ledger(context: Context) -> dict[str, Any]:
    """What the run spent: training of the method and each decoding on lines of their own."""
    ledger: dict[str, Any] = {}
    if "tested" in context.parents:
        ledger["start"] = context.parents["model"].name
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
