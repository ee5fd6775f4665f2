"""The plots of a table, from stored scores: what was measured, with how much certainty, and beside it the paper's."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from benchmarks.drawing import COLOURS, INK, PALE, Plot, canvas, finished, house_style, key, method_keys, style_of
from benchmarks.measures import AND_FLUENT
from benchmarks.rebuild import Built, Configuration, chosen, others, rounds, safe_name, training_logs, trials
from benchmarks.table_model import COLLAPSED, UNLIKE_HUMAN, Cell, TableColumn
from benchmarks.table_text import number

DOUBTFUL = frozenset({COLLAPSED, UNLIKE_HUMAN})
"""Marks of a row whose numbers say little: it is crossed out, and does not count for the Pareto front."""
CROSSED = "crossed: collapsed or unlike human text"
VALIDATION = "f1@valid"
"""Key of the column that the best configurations are found by, where a table has it."""
BEST = 3
"""Configurations of a method that a bar is the mean of."""
POINTS = 50
"""Of a curve: longer ones are averaged in as many blocks."""
NOT_LOSSES = frozenset({"step", "learning_rate", "gradient_norm", "negative_share"})
"""Entries of a training log that are no part of the loss."""
DASHES = ("--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
"""Of the parts of a loss, whose colours go round with another period."""


def draw(built: Built, tables: Sequence[Built]) -> list[Plot]:
    """All plots that a table has scores for.

    Args:
        built: the table.
        tables: all tables that were found; those that differ from it in settings alone show as configurations.

    Raises:
        UserError: the trials of a sweep did not train under one budget.
    """
    found: list[Plot | None] = []
    tried, after = trials(built), rounds(built)
    with house_style():
        for decoding in built.inputs.meta.decodings:
            points = chosen(built.table, decoding)
            further = [*others(built, tables, decoding), *tried.get(decoding, ())]
            found += [
                _scatter(built, decoding, points, further),
                _best_on_validation(built, decoding, points, further),
                _by_split(built, decoding, points),
                _by_round(built, decoding, after.get(decoding, {})),
            ]
        found += [_sweep(built), _training(built), _reliability(built)]
    return [plot for plot in found if plot is not None]


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those points that no other one equals or exceeds both ways, from left to right."""
    front: list[tuple[float, float]] = []
    for x, y in sorted(set(points), reverse=True):
        if not front or y > front[-1][1]:
            front.append((x, y))
    return front[::-1]


def thinned(values: Sequence[float], points: int = POINTS) -> list[float]:
    """A curve as the means of that many blocks; one that has no more points as it is."""
    if len(values) <= points:
        return list(values)
    return [float(block.mean()) for block in np.array_split(np.asarray(values, dtype=np.float64), points)]


def _title(built: Built, text: str) -> str:
    return text + (" (generated data)" if built.table.synthetic else "")


def _columns(built: Built, *metrics: str) -> list[TableColumn]:
    """The table's columns of these metrics, in its order."""
    return [column for column in built.table.columns if column.key.partition("@")[0] in metrics]


def _label(column: TableColumn) -> str:
    return column.title + (" (weak judge)" if column.weak else "")


def _scatter(
    built: Built, decoding: str, points: Sequence[Configuration], further: Sequence[Configuration]
) -> Plot | None:
    """F1 against the judge's verdict, and against the share that is fluent, too: one without the other says little."""
    across = [column for name in sorted(built.inputs.judges) for column in _columns(built, name, name + AND_FLUENT)]
    up = next(iter(_columns(built, "f1")), None)
    if up is None or not across or not any(_at(entry, across[0].key, up.key) for entry in points):
        return None
    place = canvas(len(across))
    for ax, column in zip(place.axes, across, strict=True):
        _panel(ax, points, further, column.key, up.key)
        ax.set_xlabel(_label(column))
    place.axes[0].set_ylabel(up.title)
    x, y = across[0].key, up.key
    drawn = [entry for entry in points if _at(entry, x, y)]
    keys = method_keys(entry.name for entry in drawn)
    if any(DOUBTFUL.intersection(entry.marks) for entry in drawn):
        keys.append(_crossed())
    if any(_at(entry, x, y) for entry in further):
        keys.append(key("faint: other\nconfigurations", color=PALE, alpha=0.5, marker="o", markersize=4))
    if any(_papers(entry, x, y) for entry in points):
        keys.append(key("hollow: the paper's", color=PALE, marker="o", markerfacecolor="none"))
    if not all(DOUBTFUL.intersection(entry.marks) for entry in drawn):
        keys.append(key("Pareto front", color=PALE, linestyle="--", linewidth=1))
    title = _title(built, f"F1 against {across[0].title}, {decoding}")
    return finished(place, f"scatter-{safe_name(decoding)}", title, keys, salt=built.name)


def _panel(ax: Axes, points: Sequence[Configuration], further: Sequence[Configuration], x: str, y: str) -> None:
    """One marker a configuration, the chosen one with its intervals; the Pareto front of all of them."""
    shown: list[tuple[float, float]] = []
    for entry in further:
        if at := _at(entry, x, y):
            colour, marker = style_of(entry.name)
            ax.plot(*at, marker=marker, color=colour, alpha=0.4, markersize=4.5, markeredgewidth=0, zorder=2)
            shown.append(at)
    for entry in points:
        colour, marker = style_of(entry.name)
        if paper := _papers(entry, x, y):
            hollow: dict[str, Any] = {"markerfacecolor": "none", "markersize": 7, "markeredgewidth": 1.2}
            ax.plot(*paper, marker=marker, color=colour, zorder=3, **hollow)
            shown.append(paper)
        if at := _at(entry, x, y):
            line: dict[str, Any] = {"color": colour, "alpha": 0.6, "linewidth": 1, "zorder": 3}
            ax.plot(_ends(entry.cells[x]), [at[1], at[1]], **line)
            ax.plot([at[0], at[0]], _ends(entry.cells[y]), **line)
            ax.plot(*at, marker=marker, color=colour, markersize=8, markeredgecolor=INK, markeredgewidth=0.8, zorder=4)
            _cross(ax, at, entry)
            shown.append(at)
    _limits(ax, [entry.cells for entry in points], shown, (x, y))
    sound = [at for entry in (*points, *further) if not DOUBTFUL.intersection(entry.marks) and (at := _at(entry, x, y))]
    if front := pareto_front(sound):
        corners = [(ax.get_xlim()[0], front[0][1]), *front, (front[-1][0], ax.get_ylim()[0])]
        ax.plot(*zip(*corners, strict=True), drawstyle="steps-pre", color=PALE, linestyle="--", linewidth=1, zorder=1)


def _cross(ax: Axes, at: tuple[float, float], entry: Configuration) -> bool:
    """Cross out a number that says little; is it one?"""
    if not DOUBTFUL.intersection(entry.marks):
        return False
    ax.plot(*at, marker="x", color=INK, markersize=12, markeredgewidth=1.2, zorder=5)
    return True


def _crossed() -> Line2D:
    return key(CROSSED.replace("or ", "or\n"), color=INK, marker="x")


def _at(entry: Configuration, x: str, y: str) -> tuple[float, float] | None:
    across, up = entry.value(x), entry.value(y)
    return None if across is None or up is None else (across, up)


def _papers(entry: Configuration, x: str, y: str) -> tuple[float, float] | None:
    """The paper's point, where it has both numbers."""
    across, up = (entry.cells[name].paper if name in entry.cells else None for name in (x, y))
    if across is None or up is None or across.value is None or up.value is None:
        return None
    return across.value, up.value


def _ends(cell: Cell) -> list[float]:
    """The limits of an interval; nothing where there is none."""
    return [] if cell.low is None or cell.high is None else [cell.low, cell.high]


def _limits(
    ax: Axes, cells: Sequence[Mapping[str, Cell]], shown: Sequence[tuple[float, float]], keys: tuple[str, str]
) -> None:
    """Room for all markers and for intervals of the usual width; one that is far wider runs out of the picture."""
    for index, name in enumerate(keys):
        values = [at[index] for at in shown]
        if not values:
            continue
        halves = [(ends[1] - ends[0]) / 2 for entry in cells if name in entry and (ends := _ends(entry[name]))]
        usual = 1.15 * float(np.median(halves)) if halves else 0.0
        margin = max(1.0, 0.08 * (max(values) - min(values)), usual)
        low, high = max(-1.5, min(values) - margin), min(101.5, max(values) + margin)
        (ax.set_ylim if index else ax.set_xlim)(low, high)


def _best_on_validation(
    built: Built, decoding: str, points: Sequence[Configuration], further: Sequence[Configuration]
) -> Plot | None:
    """A bar a method: the mean of its best configurations on validation."""
    column = next((column for column in built.table.columns if column.key == VALIDATION), None)
    if column is None:
        return None
    crossed = any(DOUBTFUL.intersection(own.marks) for own in points)
    place = canvas(1, size=(4.0, 0.3 * len(points) + 0.2), left=1.6, legend=0.8, bottom=0.65 + 0.15 * crossed)
    ax = place.axes[0]
    ax.grid(visible=False, axis="y")
    for line, own in enumerate(points):
        theirs = [own, *(entry for entry in further if entry.name == own.name)]
        values = sorted((value for entry in theirs if (value := entry.value(column.key)) is not None), reverse=True)
        best = values[:BEST]
        if not best:
            continue
        mean = float(np.mean(best))
        ax.barh(line, mean, height=0.62, color=style_of(own.name)[0], alpha=0.7)
        _cross(ax, (mean, line), own)
        ends = _ends(own.cells[column.key]) if len(best) == 1 else [min(best), max(best)]
        ax.plot(ends, [line] * len(ends), color=INK, marker="|", markersize=6)
        paper = own.cells[column.key].paper
        theirs_at = [] if paper is None or paper.value is None else [paper.value]
        ax.plot(theirs_at, [line] * len(theirs_at), color=INK, marker="D", markerfacecolor="none", markersize=5)
        said = f"{number(mean, column.digits)} ({len(best)})"
        after = (max(mean, *ends, *theirs_at), line)
        ax.annotate(said, after, (6, 0), textcoords="offset points", va="center", fontsize=8)
    ax.set_yticks(range(len(points)), [entry.name for entry in points])
    ax.set_ylim(len(points) - 0.4, -0.6)
    ax.set_xlim(left=0)
    ax.set_xlabel(
        f"{column.title}: mean of the {BEST} best configurations (of how many); line:\n"
        "their range, or the 95 % interval of a single one; diamond: the paper's" + f";\n{CROSSED}" * crossed,
        fontsize=8,
    )
    title = _title(built, f"The best configurations on validation, {decoding}")
    return finished(place, f"best-{safe_name(decoding)}", title, salt=built.name)


def _by_split(built: Built, decoding: str, points: Sequence[Configuration]) -> Plot | None:
    """F1 on each set of prompts, where there are several."""
    columns = _columns(built, "f1")
    if len(columns) < 2:
        return None
    place = canvas(1, size=(1.55 * len(columns), 2.9))
    ax = place.axes[0]
    papers = crossed = False
    for line, entry in enumerate(points):
        colour, marker = style_of(entry.name)
        shift = 0.8 * ((line + 0.5) / len(points) - 0.5)
        for group, column in enumerate(columns):
            cell = entry.cells[column.key]
            if cell.value is None:
                continue
            ends = _ends(cell)
            ax.plot([group + shift] * len(ends), ends, color=colour, alpha=0.6, linewidth=1)
            ax.plot(group + shift, cell.value, color=colour, marker=marker, markersize=5)
            crossed = _cross(ax, (group + shift, cell.value), entry) or crossed
            if cell.paper is not None and cell.paper.value is not None:
                papers = True
                hollow: dict[str, Any] = {"markerfacecolor": "none", "markersize": 5}
                ax.plot(group + shift, cell.paper.value, color=colour, marker=marker, **hollow)
    ax.grid(visible=False, axis="x")
    ax.set_xticks(range(len(columns)), [column.title.removesuffix(" ×100").removeprefix("F1, ") for column in columns])
    ax.set_xlim(-0.5, len(columns) - 0.5)
    ax.set_ylabel("F1 ×100")
    keys = method_keys(entry.name for entry in points)
    if crossed:
        keys.append(_crossed())
    if papers:
        keys.append(key("hollow: the paper's", color=PALE, marker="o", markerfacecolor="none"))
    title = _title(built, f"F1 by set of prompts, {decoding}")
    return finished(place, f"splits-{safe_name(decoding)}", title, keys, salt=built.name)


def _by_round(built: Built, decoding: str, after: Mapping[str, Mapping[int, Configuration]]) -> Plot | None:
    """F1, verdicts and repetition after each round of the methods that train in rounds; fluent verdicts dashed."""
    shown = [one for one in _columns(built, "f1", "repetition_4", *built.inputs.judges) if one.group == "scores"]
    if not after or not shown:
        return None
    place = canvas(len(shown), size=(2.0, 2.2))
    for ax, column in zip(place.axes, shown, strict=True):
        fluent = column.key.replace("@", f"{AND_FLUENT}@") if column.judged else ""
        for name, numbers in sorted(after.items()):
            colour, marker = style_of(name)
            for line, dashes in ((column.key, "-"), (fluent, "--")):
                known = {index: value for index in sorted(numbers) if (value := numbers[index].value(line)) is not None}
                ax.plot([*known], [*known.values()], color=colour, marker=marker, linestyle=dashes, markersize=5)
            for index, entry in numbers.items():
                ends = _ends(entry.cells[column.key])
                ax.plot([index] * len(ends), ends, color=colour, alpha=0.5, linewidth=1)
        last = max(max(numbers) for numbers in after.values())
        ax.set_xticks(range(1, last + 1))
        ax.set_xlim(0.7, last + 0.3)
        ax.set_xlabel("after round")
        ax.set_title(_label(column), loc="left")
    same = [ax for ax, column in zip(place.axes, shown, strict=True) if column.key.startswith("f1@")]
    ends = [limit for ax in same for limit in ax.get_ylim()]
    for ax in same:  # what is of one kind is drawn to one scale
        ax.set_ylim(min(ends), max(ends))
    keys = method_keys(sorted(after), linestyle="-")
    if built.inputs.judges:
        keys.append(key("dashed: and fluent", color=PALE, linestyle="--"))
    title = _title(built, f"Rounds of iterative training, {decoding}")
    return finished(place, f"rounds-{safe_name(decoding)}", title, keys, salt=built.name)


def _sweep(built: Built) -> Plot | None:
    """What a sweep tried, on validation prompts: a line a method, the chosen trial bold."""
    tried = [trial for trial in built.manifest.get("trials", ()) if trial.get("value") is not None]
    if not tried:
        return None
    names = list(dict.fromkeys(trial["method"] for trial in tried))
    place = canvas(1, size=(4.2, 0.5 * len(names) + 0.2), left=1.6, legend=0.2, bottom=0.65)
    ax = place.axes[0]
    for trial in tried:
        line = names.index(trial["method"])
        colour, marker = style_of(trial["method"])
        bold: dict[str, Any] = {"alpha": 0.4, "markersize": 5, "markeredgewidth": 0}
        if trial["chosen"]:
            bold = {"markersize": 8, "markeredgecolor": INK, "markeredgewidth": 0.8}
            said = ", ".join(f"{name} {value}" for name, value in trial["settings"].items())
            ax.annotate(said, (trial["value"], line), (0, 8), textcoords="offset points", ha="center", fontsize=7)
        ax.plot(trial["value"], line, color=colour, marker=marker, **bold)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.7)
    ax.margins(x=0.12)
    ax.set_xlabel("the number that chooses, on validation;\nwhich it is stands under the table")
    return finished(place, "sweep", _title(built, "Trials of the sweeps, the chosen one bold"), salt=built.name)


def _training(built: Built) -> Plot | None:
    """The loss and its parts by step: a panel a training, a line a seed."""
    logs = _trainings(built)
    if not logs:
        return None
    parts = dict.fromkeys(
        name
        for seeds in logs.values()
        for records in seeds.values()
        for name in records[0]
        if name not in NOT_LOSSES | {"loss"}
    )
    looks = {"loss": (INK, "-")} | {
        name: (COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)]) for index, name in enumerate(parts)
    }
    between = 0.42 + 0.14 * max(name.count("\n") for name in logs)
    place = canvas(len(logs), columns=4, size=(1.6, 1.15), legend=1.3, between=between)
    for ax, (name, seeds) in zip(place.axes, logs.items(), strict=True):
        ax.set_title(name, loc="left", fontsize=8)
        ax.tick_params(labelsize=7)
        ax.locator_params(nbins=4)
        for records in seeds.values():
            for part, (colour, dashes) in looks.items():
                pairs = [(one["step"], one[part]) for one in records if one.get(part) is not None]
                steps, values = ([pair[index] for pair in pairs] for index in (0, 1))
                marker = "." if len(pairs) == 1 else ""
                ax.plot(thinned(steps), thinned(values), color=colour, linestyle=dashes, linewidth=0.8, marker=marker)
    for ax in place.axes[::4]:
        ax.set_ylabel("nats a token", fontsize=8)
    for ax in place.axes[-4:]:
        ax.set_xlabel("update", fontsize=8)
    keys = [key(name, color=colour, linestyle=dashes) for name, (colour, dashes) in looks.items()]
    keys.append(key("(parts: before\ntheir weights)"))
    return finished(place, "training", _title(built, "Training: the loss and its parts"), keys, salt=built.name)


def _trainings(built: Built) -> dict[str, dict[int, list[dict[str, float]]]]:
    """The logs by what they are of: methods that differ in their decoding alone share a training, and so its log."""
    shared: list[tuple[list[str], dict[int, list[dict[str, float]]]]] = []
    for name, seeds in training_logs(built).items():
        same = next((names for names, logs in shared if logs == seeds), None)
        if same is None:
            shared.append(([name], seeds))
        else:
            same.append(name)
    return {textwrap.fill(", ".join(names), 26, break_long_words=False): seeds for names, seeds in shared}


def _reliability(built: Built) -> Plot | None:
    """Do the probabilities of the judge come true?"""
    judge: Mapping[str, Any] = next(iter(built.inputs.judges.values()), {})  # one judge for all metrics
    bins = judge.get("reliability", ())
    if not bins:
        return None
    place = canvas(1, size=(3.0, 2.7), legend=1.0, bottom=0.7)
    ax = place.axes[0]
    ax.plot([0, 1], [0, 1], color=PALE, linestyle="--", linewidth=1)
    for one in bins:
        ax.plot([one["predicted"]] * 2, [one["low"], one["high"]], color="#0072b2", alpha=0.6, linewidth=1)
    curve = [[one[name] for one in bins] for name in ("predicted", "observed")]
    ax.plot(*curve, color="#0072b2", marker="o", markersize=4)
    ax.axvline(judge["threshold"], color="#d55e00", linestyle=":", linewidth=1)
    ax.set_xlim(-0.02, 1.02)
    ax.set_ylim(-0.02, 1.02)
    ax.set_xlabel("the judge's probability of a negative reply\n(dotted: its threshold)")
    ax.set_ylabel("share that is negative")
    title = _title(built, f"The judge on human replies, AUC {judge['auc']['value']:.2f}")
    return finished(place, "judge", title, salt=built.name)
