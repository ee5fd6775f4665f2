"""The numbers of a table: from the stored scores of a row to a cell, one function for each kind of number."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmarks.table_inputs import ANY_DECODING, JudgeReport, RunScores, TableMeta
from benchmarks.table_model import MISFIT, MODELS, Cell
from evaluators.diversity import distinct_share
from evaluators.limits import t_quantile
from evaluators.metrics import METRICS
from evaluators.prevalence import corrected_share
from evaluators.stats import Interval, mean_interval, ratio_interval, weighted_mean_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame

    from benchmarks.table_inputs import Columns

HUMAN_RANGE = (0.025, 0.975)
"""Quantiles of the nll a token of human replies."""
LEAST_HUMAN = 40
"""Human replies that such a range needs: of fewer not even one lies beyond either end."""
AND_FLUENT = "_and_fluent"
"""Behind the name of a judged metric: the judge likes the reply, and its nll a token is that of human replies."""
CORRECTED = "_corrected"
"""Behind the name of a judged metric: without the judge's errors."""
LARGEST_EXPONENT = 700.0
"""Exp of more than 709 is not a float."""


class Replies(NamedTuple):
    """One row's replies to one set of prompts: columns for each seed, with equal uids in equal order."""

    seeds: tuple[int, ...]
    columns: tuple[Columns, ...]
    generated: bool = True
    """Did a model draw what the scores are of? Else an equal reply is no draw that came again."""

    @property
    def uids(self) -> list[str]:
        """The N prompts."""
        uids: list[str] = self.columns[0]["uid"].tolist()
        return uids

    @property
    def groups(self) -> list[str]:
        """The dialogue of each prompt."""
        groups: list[str] = self.columns[0]["group"].tolist()
        return groups

    @property
    def texts(self) -> NDArray[np.str_]:
        """(S, N) hashes of the replies; of what no model drew, all are different."""
        return np.stack([part["reply_id" if self.generated else "uid"] for part in self.columns])

    def matrix(self, name: str) -> NDArray[np.float64]:
        """(S, N) values of a column."""
        return np.stack([part[name] for part in self.columns])


class HumanRange(NamedTuple):
    """The nll a token between which 95 % of human replies lie."""

    low: float
    high: float
    prompts: tuple[str, ...]
    """What they are replies to."""


def collect(runs: Iterable[RunScores], decoding: str, prompts: str, metric: str | None = None) -> Replies | None:
    """What each seed replied, with a score for ``metric`` where one is asked for; None when nothing is there.

    Raises:
        ValueError: a prompt twice, seeds that answer different prompts, or NaN among applicable scores, to which
            tokens and nll always belong.
    """
    seeds: list[int] = []
    found: list[Columns] = []
    generated = True
    for run in runs:
        wanted = decoding if any(name == decoding for name, _ in run.sets) else ANY_DECODING
        part = run.sets.get((wanted, prompts))
        if part is None or (metric is not None and (metric not in part or np.isnan(part[metric]).all())):
            continue
        where = f"{run.name}, seed {run.seed}, {decoding}, {prompts}"
        uids = part["uid"]
        if (twice := uids[1:] == uids[:-1]).any():
            raise ValueError(f"{where}: the prompt {str(uids[1:][twice][0])!r} is scored twice")
        if found and not np.array_equal(uids, found[0]["uid"]):
            sizes = f"{len(uids)}, {len(found[0]['uid'])}"
            raise ValueError(f"{where}: other prompts than with seed {seeds[0]} ({sizes})")
        for name in ("tokens", "nll", metric or "nll"):
            if missing := int(np.isnan(part[name]).sum()):
                raise ValueError(f"{where}: {name} is NaN for {missing} of {len(uids)} replies")
        seeds.append(run.seed)
        found.append(part)
        generated = run.kind in MODELS and not (metric is not None and metric in METRICS and METRICS[metric].of_gold)
    return Replies(tuple(seeds), tuple(found), generated) if found else None


def human_range(gold: Sequence[RunScores], prompts: str) -> HumanRange | None:
    """The nll a token between which 95 % of human replies lie: those to these prompts, else those to all others.

    None where either are fewer than `LEAST_HUMAN`: the range of a handful says more of them than of people.
    """
    sets = [prompts, *sorted({str(name) for run in gold for name in run.scores["prompts"]} - {prompts})]
    for chosen in ([sets[0]], sets[1:]):
        found = {name: replies for name in chosen if (replies := collect(gold, ANY_DECODING, name)) is not None}
        if sum(len(replies.uids) for replies in found.values()) >= LEAST_HUMAN:
            rates = np.concatenate([(part.matrix("nll") / part.matrix("tokens")).ravel() for part in found.values()])
            low, high = np.quantile(rates, HUMAN_RANGE)
            return HumanRange(float(low), float(high), tuple(found))
    return None


def with_fluency(run: RunScores, metric: str, human: HumanRange) -> RunScores:
    """The same run with a further score: does the judge like the reply, and is it as likely as human replies are?"""
    if metric not in run.scores:
        return run

    def fluent(scores: Columns | DataFrame) -> Any:  # noqa: ANN401 - an array, or a column of a frame
        rate = scores["nll"] / scores["tokens"]
        return scores[metric] * ((rate >= human.low) & (rate <= human.high)).astype(float)

    return run.with_score(metric + AND_FLUENT, fluent)


def mean_cell(replies: Replies | None, metric: str) -> Cell:
    """The mean of a score in [0, 1], times 100."""
    if replies is None:
        return Cell()
    proportion = metric not in METRICS or METRICS[metric].proportion
    found = mean_interval(replies.matrix(metric), replies.groups, proportion=proportion, replies=replies.texts)
    cell = _cell(found, scale=100)
    if proportion or cell.low is None or cell.high is None:
        return cell
    return replace(cell, low=max(0.0, cell.low), high=min(100.0, cell.high))


def average_cell(parts: Sequence[Replies | None], weights: Sequence[float], metric: str) -> Cell:
    """The average of a score over several sets of prompts, each with its weight, times 100."""
    there = [part for part in parts if part is not None]
    if len(there) < len(parts):
        return Cell()
    seeds = set(there[0].seeds).intersection(*(part.seeds for part in there))
    if any(set(part.seeds) != seeds for part in there):
        return Cell()
    pairs = [(part.matrix(metric), part.groups, part.texts) for part in there]
    shares = [weight / sum(weights) for weight in weights]
    return _cell(weighted_mean_interval(pairs, shares, proportion=True), scale=100)


def rate_cell(replies: Replies | None, top: str, bottom: str, *, of_replies: bool = True) -> Cell:
    """A sum over a sum, such as nats a token: of the replies, or of the prompts' gold replies."""
    if replies is None:
        return Cell()
    said = replies.texts if of_replies else None
    found = ratio_interval(replies.matrix(top), replies.matrix(bottom), replies.groups, replies=said)
    # A logarithm may be below zero; what a perplexity is made of is left as it is.
    return _not_below_zero(_cell(found, scale=1)) if of_replies else _cell(found, scale=1)


def perplexity_cell(replies: Replies | None) -> Cell:
    """Exp of the summed nll of the gold replies under the model, over their summed tokens.

    Over seeds it is the geometric mean, and so are the limits of its interval.
    """
    cell = rate_cell(replies, "gold_nll", "gold_tokens", of_replies=False)
    value, low, high = (
        None if rate is None else math.exp(min(rate, LARGEST_EXPONENT)) for rate in (cell.value, cell.low, cell.high)
    )
    return replace(cell, value=value, low=low, high=high)


def length_cell(replies: Replies | None) -> Cell:
    """Mean number of tokens."""
    if replies is None:
        return Cell()
    found = mean_interval(replies.matrix("tokens"), replies.groups, proportion=False, replies=replies.texts)
    return _not_below_zero(_cell(found, scale=1))


def distinct_cell(replies: Replies | None) -> Cell:
    """Share of different replies in percent, averaged over seeds."""
    if replies is None:
        return Cell()
    share = float(np.mean([distinct_share(part["reply_id"].tolist()) for part in replies.columns]))
    return Cell(value=100 * share, n=len(replies.groups), seeds=len(replies.seeds))


def corpus_cell(runs: Sequence[RunScores], decoding: str, prompts: str, metric: str) -> Cell:
    """A number of all replies together, times 100: its mean over seeds, and t limits where there are several."""
    found = []
    for run in runs:
        wanted = decoding if (run.scores["decoding"] == decoding).any() else ANY_DECODING
        found += [
            float(entry[metric])
            for entry in run.corpus
            if (entry["row"] in ("", run.name), entry["decoding"], entry["prompts"]) == (True, wanted, prompts)
            and entry.get(metric) is not None
        ]
    if not found:
        return Cell()
    mean, low, high = float(np.mean(found)), None, None
    if len(found) > 1:
        half = float(t_quantile(len(found) - 1)) * float(np.std(found, ddof=1)) / math.sqrt(len(found))
        low, high = 100 * max(0.0, mean - half), 100 * min(1.0, mean + half)
    replies = collect(runs, decoding, prompts)
    return Cell(value=100 * mean, low=low, high=high, n=len(replies.groups) if replies else 0, seeds=len(found))


def corrected_cell(cell: Cell, judge: JudgeReport) -> Cell:
    """A judged share with the judge's error rates on human replies taken out (Rogan & Gladen 1978)."""
    if cell.value is None or cell.low is None or cell.high is None:
        return Cell()
    shares = Interval(cell.value / 100, cell.low / 100, cell.high / 100, cell.n, cell.seeds)
    corrected = corrected_share(
        shares,
        # The share is of replies that are called positive: of those the judge's specificity is the rate found.
        sensitivity=judge["specificity"],
        specificity=judge["sensitivity"],
        positives=judge["n"] - judge["negatives"],
        negatives=judge["negatives"],
    )
    if corrected is None:
        return Cell()
    cut_off = corrected.low == corrected.high and corrected.low in (0.0, 1.0)
    return replace(_cell(corrected, scale=100), marks=(MISFIT,) * cut_off)


class Part(NamedTuple):
    """One of the sets of prompts that a column is measured on."""

    prompts: str
    replies: Replies
    weight: float
    """Of the set in the column's average; they sum to 1."""


def weighted_parts(runs: Sequence[RunScores], decoding: str, key: str, meta: TableMeta) -> list[Part] | None:
    """The replies behind a row's cell in the column ``key``, one part for each of its sets of prompts.

    None where a set lacks scores, or the sets have other seeds than each other.
    """
    metric, prompts = key.split("@", 1)
    column = next((entry for entry in meta.columns if (entry.metric, entry.prompts) == (metric, prompts)), None)
    over = column.over if column is not None and column.over else (prompts,)
    found = [replies for name in over if (replies := collect(runs, decoding, name, metric)) is not None]
    if len(found) < len(over) or any(replies.seeds != found[0].seeds for replies in found):
        return None
    weights = weights_of(meta.counts, meta.task, over)
    shares = [weight / sum(weights) for weight in weights]
    return [Part(*part) for part in zip(over, found, shares, strict=True)]


def _not_below_zero(cell: Cell) -> Cell:
    """Of a handful of different replies the interval is wide; it says nothing of what cannot be."""
    return cell if cell.low is None else replace(cell, low=max(0.0, cell.low))


def weights_of(counts: Mapping[str, int], task: str, over: Sequence[str]) -> list[float]:
    """The number of examples that each set of prompts has in the data; equal weights where they were not counted."""
    sizes = [counts.get(f"{task} {name} examples", 0) for name in over]
    return [float(size) for size in sizes] if all(sizes) else [1.0] * len(over)


def _cell(interval: Interval, *, scale: float) -> Cell:
    low = None if interval.low is None else scale * interval.low
    high = None if interval.high is None else scale * interval.high
    return Cell(value=scale * interval.mean, low=low, high=high, n=interval.n, seeds=interval.seeds)
