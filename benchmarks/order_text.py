"""What a table says of the paper's order, as sentences and tables to read."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence

from benchmarks.order import FIGURE_ERROR, STRICTER, Claim, Claims, Order, Ordered
from benchmarks.order_rounds import Step
from benchmarks.published import LETTERS, Published
from benchmarks.rebuild import Built
from benchmarks.table_model import EXPLAINED
from benchmarks.table_text import escape, grid, number, p_text
from evaluators.agreement import HARDLY_APART, Agreement

SPECIAL = ("cringe", "cringe_single")
"""The methods whose pairs are listed one by one: the paper's own."""
NOTHING = "No scores here speak of the paper's order."
NO_TABLE = "The paper has no table for this task."


def title(built: Built) -> str:
    """Of the part of a report that is about one table."""
    return f"Does the paper's order hold? {built.inputs.meta.title}{' (generated data)' * built.table.synthetic}"


def special(claims: Iterable[Claims]) -> list[Claim]:
    """The pairs that are listed one by one."""
    return [pair for part in claims for pair in part.pairs if {pair.first, pair.second} & set(SPECIAL)]


def sentences(order: Order) -> list[str]:
    """What was found, in short: one sentence for each column, each comparison of rounds, and each pair of judges."""
    if not any(order):
        return [NOTHING]
    said = [_rank_sentence(one, order) for one in order.ordered if not one.marked_out]
    steps: dict[tuple[str, str, str], list[Step]] = {}
    for step in order.steps:
        steps.setdefault((step.decoding, step.first, step.second), []).append(step)
    said += [_step_sentence(decoding, first, second, found) for (decoding, first, second), found in steps.items()]
    said += [_judge_sentence(one, order.judges) for one in order.judges if not one.marked_out]
    return said


def _rank_sentence(one: Ordered, order: Order) -> str:
    where = f"{one.decoding}, {one.column.title}: "
    if one.found is None:
        return f"{where}no tau, for all methods are equal."
    text = f"{where}{_tau(one.found)} between the order of {len(one.names)} methods and the paper's"
    text += _less_marked(one, order.ordered)
    claims = next((part for part in order.claims if (part.decoding, part.column) == (one.decoding, one.column)), None)
    if claims is None or not claims.pairs:
        return f"{text}."
    counts = claims.counts(marked=True)
    text += f". The {len(claims.pairs)} pairs that the paper orders: {_counted(counts)}"
    text += f" (each by itself: {_counted(claims.uncorrected(marked=True))})"
    if any(pair.marks for pair in claims.pairs):
        text += f"; without marked methods: {_counted(claims.counts(marked=False))}"
    return f"{text}."


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{verdict} {count}" for verdict, count in counts.items())


def _less_marked(one: Ordered, all_of_them: Sequence[Ordered]) -> str:
    """What is left of it without the methods whose numbers are marked."""
    if not one.marked:
        return ""
    where = (one.decoding, one.column, one.against)
    same = next(other for other in all_of_them if other.marked_out and other[:3] == where)
    kept = "fewer than three are left" if same.found is None else f"{_tau(same.found)} for the {len(same.names)} others"
    return f" (no evidence: {len(one.marked)} of them are marked; {kept})"


def _step_sentence(decoding: str, first: str, second: str, found: Sequence[Step]) -> str:
    changes = [f"{step.title} {_signed(step)}, {step.verdict}" for step in found]
    marked = list(dict.fromkeys(mark for step in found for mark in step.marks))
    doubt = f" (no evidence: {', '.join(marked)})" if marked else ""
    return f"{decoding}, {first} − {second}: {'; '.join(changes)}{doubt}."


def _judge_sentence(one: Ordered, judges: Sequence[Ordered]) -> str:
    where = f"{one.decoding}, {one.column.title} and {one.against}: "
    if one.found is None:
        return f"{where}no tau, for all methods are equal."
    return f"{where}{_tau(one.found)} between the two orders of {len(one.names)} methods{_less_marked(one, judges)}."


def _tau(found: Agreement) -> str:
    return f"tau {tau_text(found)}, p {p_text(found.p)}"


def tau_text(found: Agreement | None) -> str:
    """Tau and its interval; a star where the interval is too short."""
    if found is None:
        return "n/a"
    star = "*" if found.apart is not None and found.apart < HARDLY_APART else ""
    return f"{number(found.tau, 2)} {limits_text(found.low, found.high, 2)}{star}"


def limits_text(low: float | None, high: float | None, digits: int) -> str:
    """An interval."""
    return "[n/a]" if low is None or high is None else f"[{number(low, digits)}, {number(high, digits)}]"


def _signed(entry: Step | Claim) -> str:
    digits = entry.digits if isinstance(entry, Step) else 1
    sign = "+" * (entry.value > 0 and float(number(entry.value, digits).replace(",", "")) != 0)
    return f"{sign}{number(entry.value, digits)} {limits_text(entry.low, entry.high, digits)}"


def paper_text(value: Published) -> str:
    """A value of the paper, with how sure it is."""
    return f"{value.value} ({LETTERS[value.certainty]})"


def certainties(one: Ordered) -> str:
    """How many of the paper's values are how sure."""
    counts = {letter: one.sure.count(key) for key, letter in LETTERS.items()}
    return ", ".join(f"{count} {letter}" for letter, count in counts.items() if count) or "–"


def notes(built: Built, order: Order) -> list[str]:
    """How to read it all."""
    found = [NO_TABLE] if built.inputs.meta.paper is None else []
    if order.ordered or order.judges:
        found.append(
            "tau: Kendall's tau-b between two orders of the methods: 1 the same, 0 unrelated, -1 reversed. p: the "
            "chance of a tau as far from 0 with the methods in a random order."
        )
        found.append(
            "In brackets: 95 % intervals. That of tau is over other dialogues like these and, with several seeds, "
            "other seeds, drawn at once for all methods; it does not cover how far the paper's values may be off."
        )
    if any(one.found and one.found.apart is not None and one.found.apart < HARDLY_APART for one in _all(order)):
        found.append(
            f"*: the methods lie less than {HARDLY_APART:g} standard errors apart, so that their order is hardly "
            "measured; the interval then is too short, and one that leaves out 1 does not show that the paper's "
            "order fails."
        )
    if order.ordered and built.inputs.meta.paper is not None:
        paper = built.inputs.meta.paper
        degrees = [key for key in LETTERS if any(key in one.sure for one in order.ordered)]
        said = "; ".join(f"({LETTERS[key]}) {paper.certainty.get(key, key)}" for key in degrees)
        found.append(f"The paper's values are those of {paper.decoding}, whatever the decoding here: {said}.")
        if any(one.column.key.split("@")[0].endswith(STRICTER) for one in order.ordered):
            found.append("And fluent, by guide and by a second judge are held against the paper's judged values.")
    if order.claims:
        found.append(
            "A pair holds or is reversed where our paired difference has p < 0.05 after Holm's correction over the "
            "pairs of one decoding and column; else it is undecided. Each by itself: p < 0.05 without the correction; "
            "one in twenty is so by chance. Not ordered by the paper: equal values, and "
            f"values less than {2 * FIGURE_ERROR:g} points apart of which one is read off a figure."
        )
    if order.steps:
        found.append(
            "More or less: p < 0.05 after Holm's correction over the numbers of one comparison and decoding. Distinct "
            "replies are one share a seed: their interval is t over seeds, and there is none with one seed. More "
            "nll/token (nats) is less likely under the reference model; more of all else is better."
        )
    marks = {mark for step in order.steps for mark in step.marks}
    marks |= {mark for part in order.claims for pair in part.pairs for mark in pair.marks}
    found += [f"{mark}: {text}." for mark, text in EXPLAINED.items() if mark in marks]
    if any(one.marked for one in _all(order)):
        found.append("marked: a method whose number carries such a mark in the table. It is no evidence of an order.")
    if any(one.found and one.found.seeds == 1 for one in _all(order)) or any(s.seeds == 1 for s in order.steps):
        found.append("Where there is one seed, a claim is about these models; it covers no other seeds.")
    return found


def _all(order: Order) -> tuple[Ordered, ...]:
    return order.ordered + order.judges


def to_markdown(built: Built, order: Order) -> str:
    """The analysis of one table."""
    parts = [f"## {escape(title(built))}"]
    parts.append(f"Preset: {built.table.preset}. Seeds: {', '.join(map(str, built.inputs.meta.seeds))}.")
    if built.table.synthetic:
        parts.append("**The data are generated: these numbers say nothing about human dialogue.**")
    parts.append(_bullets(sentences(order)))
    for heading, header, lines in grids(order):
        parts += [f"### {heading}", grid([escape(head) for head in header], [[*map(_plain, line)] for line in lines])]
    parts.append(_bullets(notes(built, order)))
    return "\n\n".join(part for part in parts if part) + "\n"


def grids(order: Order) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """The tables of the analysis: heading, heads of the columns, and lines; what is empty is left out."""
    if order.ordered:
        header = ["", "column", "methods", "tau with the paper", "p", "seeds", "paper's values", "left out"]
        yield "The order of the methods", header, [_order_line(one) for one in order.ordered]
    if order.claims:
        header = ["", "column", "pairs", "holds", "reversed", "undecided"]
        header += ["holds, by itself", "reversed, by itself", "not ordered by the paper"]
        lines = [line for part in order.claims for line in _count_lines(part)]
        yield "The paper's pairs of methods", header, lines
    if pairs := special(order.claims):
        header = ["", "column", "pair", "paper", "paper's difference", "ours", "p", "p (Holm)", "verdict", "marks"]
        yield f"Pairs with {' or '.join(SPECIAL)}, in points", header, [_claim_line(pair) for pair in pairs]
    if order.steps:
        header = ["", "comparison", "number", "before", "after", "difference", "p", "p (Holm)", "verdict", "marks"]
        yield "The second iteration", header, [_step_line(step) for step in order.steps]
    if order.judges:
        header = ["", "judge", "other", "methods", "tau", "p", "seeds", "left out"]
        yield "The judge and others", header, [_judge_line(one) for one in order.judges]


def _order_line(one: Ordered) -> list[str]:
    p, seeds = _p_and_seeds(one)
    methods = _methods(one)
    return [one.decoding, one.column.title, methods, tau_text(one.found), p, seeds, certainties(one), left_out(one)]


def _judge_line(one: Ordered) -> list[str]:
    p, seeds = _p_and_seeds(one)
    return [one.decoding, one.column.title, one.against, _methods(one), tau_text(one.found), p, seeds, left_out(one)]


def _p_and_seeds(one: Ordered) -> tuple[str, str]:
    return ("–", "–") if one.found is None else (p_text(one.found.p), str(one.found.seeds))


def _methods(one: Ordered) -> str:
    """How many, and whether they can be believed."""
    if one.marked_out:
        return f"{len(one.names)}, unmarked"
    return f"{len(one.names)}, {len(one.marked)} marked: no evidence" if one.marked else str(len(one.names))


def left_out(one: Ordered) -> str:
    """How many methods are not among those compared, and why; the CSV names them."""
    reasons = (
        ("unknown in the paper", one.unknown),
        ("no scores", one.without),
        ("marked", one.marked if one.marked_out else ()),
    )
    return "; ".join(f"{len(names)} {reason}" for reason, names in reasons if names) or "–"


def _count_lines(part: Claims) -> Iterator[list[str]]:
    marked = any(pair.marks for pair in part.pairs)
    for all_of_them in (True, False) if marked else (True,):
        counts = part.counts(marked=all_of_them)
        said = " unmarked" if not all_of_them else ", with marked methods: no evidence" if marked else ""
        unordered = str(part.unordered) if all_of_them else "–"
        total = f"{sum(counts.values())}{said}"
        alone = part.uncorrected(marked=all_of_them)
        yield [part.decoding, part.column.title, total, *map(str, (*counts.values(), *alone.values())), unordered]


def _claim_line(pair: Claim) -> list[str]:
    paper = f"{paper_text(pair.paper[0])}, {paper_text(pair.paper[1])}"
    apart = number((pair.paper[0].value or 0.0) - (pair.paper[1].value or 0.0), 1)
    where = [pair.decoding, pair.column.title, f"{pair.first} − {pair.second}", paper, f"+{apart}"]
    return [*where, _signed(pair), p_text(pair.p), p_text(pair.p_holm), pair.verdict, ", ".join(pair.marks) or "–"]


def _step_line(step: Step) -> list[str]:
    values = [number(value, step.digits) for value in (step.before, step.after)]
    where = [step.decoding, f"{step.first} − {step.second}", step.title, *values]
    return [*where, _signed(step), p_text(step.p), p_text(step.p_holm), step.verdict, ", ".join(step.marks) or "–"]


def _plain(text: str) -> str:
    """A cell's text; a small p may say that it is small."""
    return text if text.startswith("< ") else escape(text)


def _bullets(lines: Iterable[str]) -> str:
    wrapped = (
        textwrap.fill(f"- {line}", 118, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        for line in map(escape, lines)
    )
    return "\n".join(wrapped)
