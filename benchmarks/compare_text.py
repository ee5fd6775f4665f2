"""What a comparison says of its checks, as text and as JSON; `benchmarks.compare_replies` shows the replies."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.table_text import escape, grid, number, p_text

if TYPE_CHECKING:
    from benchmarks.compare_checks import Compared
    from benchmarks.gate import Check, Verdict

SCHEMA, VERSION = "cringe.compare", 1


def failure(check: Check) -> str:
    """What failed, on one line."""
    values = " → ".join(number(value, check.digits) for value in (check.old, check.new))
    because = f", {check.mark}" if check.mark else ""
    return f"{check.table}: {check.row}, {check.decoding}, {check.column}: {values}{because}"


def paragraphs(one: Compared, verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Paragraphs and grids."""
    yield f"## {escape(one.name)}: OLD → NEW"
    yield "\n".join(f"- {escape(sentence)}" for sentence in (*one.notes, *one.unlike, *one.problems))
    header = ["", "column", "OLD", "NEW", "NEW − OLD", "p", "p (Holm)", "margin", "verdict"]
    for decoding in dict.fromkeys(check.decoding for check in one.checks):
        yield f"### Decoding: {escape(decoding)}"
        pairs = zip(one.checks, verdicts, strict=True)
        yield grid(header, [_line(check, said) for check, said in pairs if check.decoding == decoding])
    tested = sum(said.p_holm is not None for said in verdicts)
    asked = "of no difference, two-sided"
    if any(check.by_seeds is not None for check in one.checks):
        asked = "of no loss on these very prompts, one-sided, where seeds alone may differ"
    yield "\n".join(
        [
            "- In brackets: 95 % intervals. Of a perplexity the difference is that of 100 · its logarithm.",
            f"- p (Holm): {asked}; adjusted for all gated cells, of which this table has {tested}.",
            "- Not gated, and without it: rows that are no methods, and numbers that OLD marks.",
            "- margin: what a loss must exceed: twice the deviation between OLD's seeds, and 2 points.",
            "- nll/token and distinct %: fail only where the row becomes marked by them.",
        ]
    )


def _line(check: Check, said: Verdict) -> list[str]:
    found = check.found
    digits = max(check.digits, 1)
    limits = "" if found.low is None else f" [{number(found.low, digits)}, {number(found.high, digits)}]"
    return [
        escape(check.row),
        escape(check.column),
        number(check.old, check.digits),
        number(check.new, check.digits),
        f"{number(found.mean, digits)}{limits}",
        p_text(found.p),
        p_text(said.p_holm),
        number(check.margin, digits) if check.gated else "–",
        said.word or "–",
    ]


def to_json(
    judged: Iterable[tuple[Compared, Sequence[Verdict]]],
    only_old: Sequence[str],
    only_new: Sequence[str],
    failures: Sequence[str] | None,
) -> str:
    """All that is said, without replies; sorted keys, numbers rounded to six places."""
    tables = [
        {
            "name": one.name,
            "notes": one.notes,
            "unlike": one.unlike,
            "problems": one.problems,
            "cells": [_cell(check, said) for check, said in zip(one.checks, verdicts, strict=True)],
        }
        for one, verdicts in judged
    ]
    gate = None if failures is None else {"passed": not failures, "failures": list(failures)}
    content = {"schema": SCHEMA, "version": VERSION, "tables": tables, "gate": gate}
    content |= {"only_old": list(only_old), "only_new": list(only_new)}
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _cell(check: Check, said: Verdict) -> dict[str, Any]:
    found = check.found._asdict()
    plain = {
        name: getattr(check, name) for name in ("decoding", "row", "column", "old", "new", "gated", "margin", "between")
    }
    content = plain | {"difference": found.pop("mean"), "p_holm": said.p_holm, "verdict": said.word, **found}
    return {name: round(value, 6) + 0.0 if isinstance(value, float) else value for name, value in content.items()}
