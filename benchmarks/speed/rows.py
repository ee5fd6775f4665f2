"""What is measured, and how it is told: sides that take turns, the ratio of each pair, and what a row says of it."""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

MET, MISSED, REPORTED, UNMEASURED = "met", "missed", "reported", "not measured"
_COLUMNS = ("measure", "what", "setting", "figure", "10–90 %", "n", "target", "")


class Target(NamedTuple):
    """What a median is held to."""

    limit: float
    at_most: bool = True
    """False: at least."""

    def holds(self, value: float) -> bool:
        """Is a figure good enough?"""
        return value <= self.limit if self.at_most else value >= self.limit


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A figure, or why there is none."""

    measure: str
    """As ``--only`` names it."""
    what: str
    """What is divided by what, or what took so long."""
    setting: str
    """Shape, type of numbers, share of padding, threads."""
    values: tuple[float, ...] = ()
    """One figure a repetition: a ratio of neighbours in time, or seconds."""
    unit: str = "×"
    target: Target | None = None
    """None where nothing is promised."""
    raw: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """What each side was measured at, in the order of the repetitions; seconds where the name does not say."""
    missing: str = ""
    """Why it could not be measured here."""

    @property
    def median(self) -> float:
        """Of the repetitions."""
        return statistics.median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """The range that holds the repetitions between the 10th and the 90th percentile."""
        return percentile(self.values, 0.1), percentile(self.values, 0.9)

    @property
    def verdict(self) -> str:
        """What the row ends in."""
        if self.missing or not self.values:
            return UNMEASURED
        if self.target is None:
            return REPORTED
        return MET if self.target.holds(self.median) else MISSED

    def cells(self) -> list[str]:
        """The row as text, in the order of the columns."""
        if self.verdict == UNMEASURED:
            return [
                self.measure,
                self.what,
                self.setting,
                "–",
                "–",
                "0",
                self._promise(),
                f"{UNMEASURED}: {self.missing}",
            ]
        low, high = self.spread
        figure, span = f"{_number(self.median)} {self.unit}", f"{_number(low)} – {_number(high)}"
        repeats = str(len(self.values))
        return [self.measure, self.what, self.setting, figure, span, repeats, self._promise(), self.verdict]

    def _promise(self) -> str:
        if self.target is None:
            return "–"
        return f"{'≤' if self.target.at_most else '≥'} {self.target.limit:g} {self.unit}"

    def to_json(self) -> dict[str, Any]:
        """Everything, with median, spread and verdict."""
        measured = self.verdict != UNMEASURED
        return asdict(self) | {
            "target": None if self.target is None else self.target._asdict(),
            "median": self.median if measured else None,
            "spread": self.spread if measured else None,
            "repetitions": len(self.values),
            "verdict": self.verdict,
        }


class Side(NamedTuple):
    """One of those that take turns."""

    run: Callable[[], float]
    """Does the work that is timed, and says how many units of it were done."""
    prepare: Callable[[], object] = lambda: None
    """Done before each run, and not timed."""


def once(run: Callable[[], object]) -> Side:
    """A side that is measured in runs."""

    def counted() -> float:
        run()
        return 1.0

    return Side(counted)


class Turns(NamedTuple):
    """Seconds and units of each side, one of each a repetition."""

    seconds: Mapping[str, tuple[float, ...]]
    units: Mapping[str, tuple[float, ...]]

    def times(self, side: str, other: str) -> tuple[float, ...]:
        """Seconds a unit of one side as multiples of another's, pair by pair: below 1 it is faster."""
        mine, theirs = (self._pace(name) for name in (side, other))
        return tuple(a / b for a, b in zip(mine, theirs, strict=True))

    def speeds(self, side: str, other: str) -> tuple[float, ...]:
        """Units a second of one side as multiples of another's, pair by pair: above 1 it is faster."""
        return self.times(other, side)

    def raw(self) -> dict[str, tuple[float, ...]]:
        """All that was measured; units are left out where each run is one."""
        counted = {f"{name}, units": values for name, values in self.units.items() if set(values) != {1.0}}
        return {**self.seconds, **counted}

    def _pace(self, side: str) -> list[float]:
        return [a / b for a, b in zip(self.seconds[side], self.units[side], strict=True)]


def take_turns(
    sides: Mapping[str, Side],
    repeats: int,
    *,
    warm_up: int = 1,
    synchronize: Callable[[], object] = lambda: None,
) -> Turns:
    """Time the sides one after the other, again and again, every other time in reverse order.

    So whatever else the machine does meets all of them, and neighbours can be compared.

    Args:
        sides: by name.
        repeats: how often each is timed.
        warm_up: rounds before that are thrown away.
        synchronize: waits for what a device was told to do.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    units: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    gc.collect()
    gc.freeze()  # each collection below would look through all that torch is made of, which takes longer than many runs
    try:
        for turn in range(-warm_up, repeats):
            for name in names if turn % 2 == 0 else reversed(names):
                sides[name].prepare()
                gc.collect()
                synchronize()
                start = time.perf_counter()
                done = sides[name].run()
                synchronize()
                spent = time.perf_counter() - start
                if turn >= 0:
                    seconds[name].append(spent)
                    units[name].append(done)
    finally:
        gc.unfreeze()
    return Turns(*({name: tuple(values) for name, values in found.items()} for found in (seconds, units)))


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which a share of the others lies, with straight lines between neighbours."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def tally(rows: Iterable[Row]) -> str:
    """The last line: how many rows met what was promised, and how many did not."""
    counts = Counter(row.verdict for row in rows)
    words = [f"{counts[word]} {word}" for word in (MET, MISSED, REPORTED)]
    return ", ".join([*words, *[f"{counts[UNMEASURED]} {UNMEASURED}"] * bool(counts[UNMEASURED])])


def to_markdown(rows: Sequence[Row], header: Mapping[str, str]) -> str:
    """Machine and versions, the rows as a table, and the last line."""
    about = [f"{name}: {value}" for name, value in header.items()]
    return "\n".join([*about, "", table(_COLUMNS, [row.cells() for row in rows]), "", tally(rows)]) + "\n"


def to_json(rows: Sequence[Row], header: Mapping[str, str]) -> str:
    """The same, with everything that was measured."""
    found = {"machine": dict(header), "rows": [row.to_json() for row in rows], "verdicts": tally(rows)}
    return json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write(path: Path, rows: Sequence[Row], header: Mapping[str, str]) -> None:
    """Write the table: as Markdown where the name says so, else as JSON."""
    text = to_markdown(rows, header) if path.suffix == ".md" else to_json(rows, header)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns are as wide as what stands in them."""
    safe = [[cell.replace("|", "\\|") for cell in line] for line in (columns, *lines)]
    widths = [max(3, *(len(line[place]) for line in safe)) for place in range(len(columns))]
    safe.insert(1, ["-" * width for width in widths])
    padded = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in safe)
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def _number(value: float) -> str:
    """Three digits that say something."""
    if 0 < value < 0.001:
        return "< 0.001"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
