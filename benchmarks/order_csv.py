"""What a table says of the paper's order, for programs: one line a statement."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping

from benchmarks.order import Claim, Claims, Order, Ordered
from benchmarks.order_rounds import Step
from benchmarks.rebuild import Built
from benchmarks.table_text import number

HEADER = (
    *("part", "table", "decoding", "column", "key", "against", "marked_left_out", "first", "second"),
    *("paper_first", "certainty_first", "paper_second", "certainty_second", "paper_difference", "before", "after"),
    *("value", "low", "high", "p", "p_holm", "verdict", "methods", "n", "seeds", "names", "certainties"),
    *("unknown_in_paper", "without_scores", "marked", "apart", "generated_data"),
)
"""``part``: ``order`` and ``judges`` (a tau), ``pair`` (two methods that the paper orders), ``pairs`` (how many have a
verdict), ``rounds``. Differences are in points, but for nats a token. ``apart``: how many standard errors the methods'
true means seem to lie apart."""


def to_csv(built: Built, order: Order) -> str:
    """All statements; empty fields where something does not apply or is not known."""
    out = io.StringIO()
    writer = csv.DictWriter(out, HEADER, restval="", lineterminator="\n")
    writer.writeheader()
    common = {"table": built.name, "generated_data": str(built.table.synthetic).lower()}
    for line in _lines(order):
        writer.writerow({**common, **line})
    return out.getvalue()


def _lines(order: Order) -> Iterator[Mapping[str, object]]:
    for one in order.ordered:
        yield _agreement("order", one, "paper")
    for part in order.claims:
        yield from _counts(part)
        yield from map(_claim, part.pairs)
    yield from map(_step, order.steps)
    for one in order.judges:
        yield _agreement("judges", one, one.against)


def _agreement(part: str, one: Ordered, against: str) -> Mapping[str, object]:
    line: dict[str, object] = {
        "part": part,
        "decoding": one.decoding,
        "column": one.column.title,
        "key": one.column.key,
        "against": against,
        "marked_left_out": str(one.marked_out).lower(),
        "methods": len(one.names),
        "names": " ".join(one.names),
        "certainties": " ".join(one.sure),
        "unknown_in_paper": " ".join(one.unknown),
        "without_scores": " ".join(one.without),
        "marked": " ".join(one.marked),
    }
    if one.found is None:
        return line
    found = one.found
    numbers = {"value": found.tau, "low": found.low, "high": found.high, "p": found.p, "apart": found.apart}
    return line | _numbers(numbers) | {"n": found.n, "seeds": found.seeds}


def _counts(part: Claims) -> Iterator[Mapping[str, object]]:
    common = {"part": "pairs", "decoding": part.decoding, "column": part.column.title, "key": part.column.key}
    for marked in (True, False) if any(pair.marks for pair in part.pairs) else (True,):
        alone = {f"{verdict}, by itself": count for verdict, count in part.uncorrected(marked=marked).items()}
        for verdict, count in (part.counts(marked=marked) | alone).items():
            yield common | {"marked_left_out": str(not marked).lower(), "verdict": verdict, "value": count}
    yield common | {"marked_left_out": "false", "verdict": "not ordered by the paper", "value": part.unordered}


def _claim(pair: Claim) -> Mapping[str, object]:
    first, second = pair.paper
    apart = None if first.value is None or second.value is None else first.value - second.value
    return {
        "part": "pair",
        "decoding": pair.decoding,
        "column": pair.column.title,
        "key": pair.column.key,
        "against": "paper",
        "paper_first": first.value,
        "certainty_first": first.certainty,
        "paper_second": second.value,
        "certainty_second": second.certainty,
        "paper_difference": number(apart, 2, ""),
    } | _compared(pair)


def _step(step: Step) -> Mapping[str, object]:
    line = {"part": "rounds", "decoding": step.decoding, "column": step.title, "key": step.key}
    return line | _numbers({"before": step.before, "after": step.after}) | _compared(step)


def _compared(entry: Claim | Step) -> dict[str, object]:
    """What is said of two rows."""
    numbers = {"value": entry.value, "low": entry.low, "high": entry.high, "p": entry.p, "p_holm": entry.p_holm}
    names = {"first": entry.first, "second": entry.second, "verdict": entry.verdict}
    return names | _numbers(numbers) | {"n": entry.n, "seeds": entry.seeds, "marked": "; ".join(entry.marks)}


def _numbers(values: Mapping[str, float | None]) -> dict[str, object]:
    return {name: number(value, 6, "") for name, value in values.items()}
