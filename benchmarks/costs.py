"""What each method cost, from the ledgers of its runs: seconds and memory too, which differ between equal runs."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.rebuild import Built
from benchmarks.table_inputs import RunScores
from benchmarks.table_model import MODELS
from benchmarks.table_text import escape, number

CSV_HEADER = ("table", "method", "quantity", "unit", "mean", "low", "high", "seeds", "varies", "generated_data")
PLAIN = ("transformer", "beam")
"""Method and decoding whose seconds the others' are measured by: nothing steers it."""
FEEDBACK = ("positive", "negative", "unlabelled", "unscored")
AUXILIARY = ("auxiliary guide", "auxiliary prefix_guide")
"""Parts of a ledger: the training of what labels or steers. It is shared by all methods that use it."""
DECODING = ("generation", "steering")
"""Parts of a ledger, each before the name of a decoding."""
MADE = "generation of training data"
SWEPT_NOTE = "A sweep's are those of all its trials, the chosen one included, whose training is also the row's own."


class Cost(NamedTuple):
    """What a method spent of something: the mean over its seeds, and the range."""

    method: str
    quantity: str
    unit: str
    mean: float
    low: float
    high: float
    seeds: int
    digits: int
    varies: bool
    """Does it differ between equal runs?"""


class _Quantity(NamedTuple):
    name: str
    unit: str
    digits: int
    of: Callable[[Mapping[str, Any]], float | None]
    """From a ledger; None where it says nothing."""
    varies: bool = False


def costs(built: Built) -> list[Cost]:
    """What the backbone and each method spent, row by row, each quantity that any of them has.

    Decoding is told relative to plain beam search of `PLAIN` with the same seed, in seconds.
    """
    runs = [run for run in built.inputs.runs if run.round is None and run.kind in MODELS]
    plain = {run.seed: _seconds(run.ledger, f"generation {PLAIN[1]}") for run in runs if run.name == PLAIN[0]}
    by_name: dict[str, list[RunScores]] = {}
    for run in runs:
        by_name.setdefault(run.name, []).append(run)
    order = [name for name in _order(built) if name in by_name]
    found = []
    for quantity in _quantities(built.inputs.meta.decodings):
        found += [cost for name in order if (cost := _cost(name, quantity, by_name[name])) is not None]
    found += _sweeps(built, order)
    for decoding in built.inputs.meta.decodings:
        for name in order:
            ratios = {
                run.seed: spent / base
                for run in by_name[name]
                if (spent := _seconds(run.ledger, f"generation {decoding}")) and (base := plain.get(run.seed))
            }
            if ratios:
                told = f"decoding {decoding}, relative to {PLAIN[1]} of {PLAIN[0]}"
                found.append(_summed(name, told, "× seconds", list(ratios.values()), digits=2, varies=True))
    return [cost for cost in found if any(other.high for other in found if other.quantity == cost.quantity)]


def _sweeps(built: Built, order: Sequence[str]) -> Iterator[Cost]:
    """What sweeps tried, and what that cost in training and in decoding on validation prompts."""
    tried = {name: built.inputs.meta.trials[name] for name in order if name in built.inputs.meta.trials}
    parts = ("training", MADE, *(f"{part} {name}" for name in built.inputs.meta.decodings for part in DECODING))
    flops = _sum_of(parts, "flops", 1e9)
    for quantity, unit, digits, of in (
        ("sweep, trials", "", 0, lambda _: 1.0),
        ("sweep, updates", "", 0, lambda ledger: _entry(ledger, "training", "updates")),
        ("sweep, FLOPs", "10⁹", 2, flops),
    ):
        for name, ledgers in tried.items():
            values = [of(ledger) for ledger in ledgers]
            if None not in values:  # else a trial is not there any more, and the sum is not known
                total = sum(value for value in values if value is not None)
                yield _summed(name, quantity, unit, [total], digits=digits, varies=False)


def to_markdown(built: Built, found: Sequence[Cost]) -> str:
    """The costs as a table: quantities down, methods across."""
    spent = {cost.method for cost in found}
    methods = [name for name in _order(built) if name in spent]
    cells = {(cost.quantity, cost.method): _text(cost) for cost in found}
    lines = [["", *(escape(name) for name in methods)]]
    for cost in _first(found):
        title = f"{cost.quantity}{f', {cost.unit}' if cost.unit else ''}{' *' if cost.varies else ''}"
        lines.append([escape(title), *(cells.get((cost.quantity, name), "–") for name in methods)])
    widths = [max(3, *(len(line[place]) for line in lines)) for place in range(len(lines[0]))]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    padded = (
        [line[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(line[1:], widths[1:], strict=True))]
        for line in (lines[0], rule, *lines[1:])
    )
    title = (
        f"## What was spent: {escape(built.inputs.meta.title)}{' (generated data)' if built.table.synthetic else ''}"
    )
    notes = [
        "Means over seeds; in brackets the range, where seeds differ. – : nothing of the kind was counted.",
        "Auxiliary training is that of guides: it is done once and shared by all methods and seeds that use them.",
        "FLOPs are estimated: 2 a weight and token forwards, 4 more backwards.",
        *[SWEPT_NOTE] * any(cost.quantity.startswith("sweep, ") for cost in found),
        "\\* Seconds and memory vary from run to run, with the machine and its load; all else is equal in equal runs.",
    ]
    grid = "\n".join(f"| {' | '.join(line)} |" for line in padded)
    return "\n\n".join([title, grid, "\n".join(f"- {note}" for note in notes)]) + "\n"


def to_csv(built: Built, found: Iterable[Cost]) -> str:
    """One line a method and quantity."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_HEADER)
    for cost in found:
        limits = [number(value, max(cost.digits, 0), "") for value in (cost.mean, cost.low, cost.high)]
        flags = [str(flag).lower() for flag in (cost.varies, built.table.synthetic)]
        writer.writerow([built.name, cost.method, cost.quantity, cost.unit, *limits, cost.seeds, *flags])
    return out.getvalue()


def _order(built: Built) -> list[str]:
    """Names of the rows as the table has them."""
    return [row.name for section in built.table.sections[:1] for row in section.rows]


def _quantities(decodings: Iterable[str]) -> Iterator[_Quantity]:
    """The rows, in order."""
    yield _Quantity("training, updates", "", 0, lambda ledger: _entry(ledger, "training", "updates"))
    for feedback in FEEDBACK:
        yield _Quantity(f"training, {feedback} target tokens", "", 0, _target_tokens(feedback))
    parts = {"training": ("training",), "making training data": (MADE,), "auxiliary training": AUXILIARY}
    parts |= {f"decoding {name}": tuple(f"{part} {name}" for part in DECODING) for name in decodings}
    for title, names in parts.items():
        yield _Quantity(f"{title}, FLOPs", "10⁹", 2, _sum_of(names, "flops", 1e9))
    for title, names in parts.items():
        yield _Quantity(f"{title}, time", "s", 1, _sum_of(names, "seconds", 1), varies=True)
    yield _Quantity("peak memory", "MiB", 0, _peak_memory, varies=True)


def _entry(ledger: Mapping[str, Any], part: str, name: str) -> float | None:
    value = ledger.get(part, {}).get(name)
    return None if value is None else float(value)


def _seconds(ledger: Mapping[str, Any], part: str) -> float | None:
    return _entry(ledger, part, "seconds")


def _target_tokens(feedback: str) -> Callable[[Mapping[str, Any]], float | None]:
    return lambda ledger: ledger.get("training", {}).get("target_tokens", {}).get(feedback)


def _sum_of(parts: Sequence[str], name: str, unit: float) -> Callable[[Mapping[str, Any]], float | None]:
    """The sum over parts of a ledger, in a unit; None where it has none of them."""

    def of(ledger: Mapping[str, Any]) -> float | None:
        values = [value for part in parts if (value := _entry(ledger, part, name)) is not None]
        return sum(values) / unit if values else None

    return of


def _peak_memory(ledger: Mapping[str, Any]) -> float | None:
    """The most that training or decoding held, in memory or on the device."""
    parts = [part for name, part in ledger.items() if name == "training" or name.startswith("generation ")]
    return max((part["peak_memory_bytes"] / 2**20 for part in parts if "peak_memory_bytes" in part), default=None)


def _cost(name: str, quantity: _Quantity, runs: Iterable[RunScores]) -> Cost | None:
    values = [float(value) for run in runs if (value := quantity.of(run.ledger)) is not None]
    if not values:
        return None
    return _summed(name, quantity.name, quantity.unit, values, digits=quantity.digits, varies=quantity.varies)


def _summed(name: str, quantity: str, unit: str, values: Sequence[float], *, digits: int, varies: bool) -> Cost:
    mean = sum(values) / len(values)
    return Cost(name, quantity, unit, mean, min(values), max(values), len(values), digits, varies)


def _first(found: Iterable[Cost]) -> list[Cost]:
    """One of each quantity, in order."""
    return list({cost.quantity: cost for cost in reversed(list(found))}.values())[::-1]


def _text(cost: Cost) -> str:
    mean, low, high = (number(value, cost.digits, grouped=True) for value in (cost.mean, cost.low, cost.high))
    return mean if low == high else f"{mean} [{low}–{high}]"
