"""The replies behind a difference: those whose score changed most, as text that cannot harm a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import errors, measures
from benchmarks.compare_checks import of_gold
from benchmarks.errors import clip
from benchmarks.table_text import escape, number
from benchmarks.textless import short_hash
from evaluators.metrics import METRICS

if TYPE_CHECKING:
    from benchmarks.compare_checks import Compared, Side
    from benchmarks.gate import Check


class Change(NamedTuple):
    """How the score of a reply changed."""

    check: Check
    """Where."""
    prompts: str
    uid: str
    old: dict[int, float]
    """Scores by seed."""
    new: dict[int, float]

    @property
    def means(self) -> tuple[float, float]:
        """Over seeds, old and new."""
        return sum(self.old.values()) / len(self.old), sum(self.new.values()) / len(self.new)

    @property
    def size(self) -> float:
        """Rounded, so that sums in another order tie."""
        return round(abs(self.means[1] - self.means[0]), 9)


def changed_most(one: Compared, count: int, *, text: bool) -> Iterator[str]:
    """For each column with a score a reply: the prompts whose score changed most, with a reply of either side."""
    before, after = _Replies(one.old), _Replies(one.new)
    if not count or not (before.there or after.there):
        return
    for key, column in {check.key: check.column for check in one.checks}.items():
        if of_gold(key):
            continue
        changes = _largest(one, key, count)
        lines = [f"Changed most in {escape(column)}, a prompt once:"]
        for change in changes:
            name = before.uid(change) or after.uid(change) or change.uid
            old, new = change.means
            values = " → ".join(number(100 * value, change.check.digits) for value in (old, new))
            where = f"{change.check.row}, {change.check.decoding}, {change.prompts}, {printable(name)}"
            lines.append(f"  {where}: {values}")
            if text:
                lines.append(f"    OLD: {before.reply(change, change.old, lowest=new > old)}")
                lines.append(f"    NEW: {after.reply(change, change.new, lowest=new < old)}")
        if changes:
            yield "\n".join(lines)


def _largest(one: Compared, key: str, count: int) -> list[Change]:
    """Of each prompt the largest change, and of these the largest ones."""
    metric = METRICS.get(key.split("@", 1)[0].removesuffix(measures.AND_FLUENT))
    if metric is None or metric.aggregate != "mean":
        return []
    found: dict[tuple[str, str], Change] = {}
    for check, (new, old) in zip(one.checks, one.samples, strict=True):
        for ours, theirs in zip(new.sets, old.sets, strict=True) if check.key == key else ():
            after, before = (dict(zip(side.uids, side.values.T.tolist(), strict=True)) for side in (ours, theirs))
            for uid in before.keys() & after.keys():
                scores = (dict(zip(side.seeds, row[uid], strict=True)) for side, row in ((old, before), (new, after)))
                change = Change(check, theirs.name, uid, *scores)
                largest = found.get((theirs.name, uid))
                if change.size and (largest is None or change.size > largest.size):
                    found[theirs.name, uid] = change
    return sorted(found.values(), key=lambda change: (-change.size, change.prompts, change.uid))[:count]


class _Replies:
    """What one side's models said; read when first asked for."""

    def __init__(self, side: Side) -> None:
        self._side = side
        rows = side.built.manifest["rows"]
        self._files = {
            (row["name"], row["seed"]): side.built.results / row["scores"] / "predictions.jsonl"
            for row in rows
            if row["round"] is None
        }
        self._read: dict[Path, dict[tuple[str, str, str], tuple[str, str]]] = {}

    @property
    def there(self) -> bool:
        """Is there any text?"""
        return any(path.is_file() for path in self._files.values())

    def uid(self, change: Change) -> str:
        """The prompt's name in the data; empty where it is not known."""
        return next((self._of(change, run.seed)[0] for run in self._side.runs[change.check.row]), "")

    def reply(self, change: Change, scores: dict[int, float], *, lowest: bool) -> str:
        """The reply of the seed with the lowest score, or the highest, on one line, with that score."""
        seed = (min if lowest else max)(scores, key=lambda seed: scores[seed])
        uid, reply = self._of(change, seed)
        said = f"(seed {seed}, {number(100 * scores[seed], change.check.digits)})"
        return f"{said} {clip(printable(reply), 300)}" if uid else f"{said} its text is not kept"

    def _of(self, change: Change, seed: int) -> tuple[str, str]:
        path = self._files.get((change.check.row, seed))
        if path is None:
            return "", ""
        if path not in self._read:
            self._read[path] = dict(_predictions(path))
        return self._read[path].get((change.check.decoding, change.prompts, change.uid), ("", ""))


def _predictions(path: Path) -> Iterator[tuple[tuple[str, str, str], tuple[str, str]]]:
    """Decoding, prompts and hash of the prompt; its name and the reply. A line that cannot be read is left out."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError):
        return
    for line in lines:
        try:
            record = json.loads(line)
            where = (str(record["decoding"]), str(record["prompts"]), short_hash(record["uid"]))
            yield where, (str(record["uid"]), str(record["reply"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            continue


def printable(text: str) -> str:
    """A text of one line that cannot move the cursor, hide or turn around what follows."""
    return errors.printable(text).replace("\n", r"\n")
