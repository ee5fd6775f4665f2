"""How plots look: axes laid out by hand, colours and markers of methods, and SVG that is the same for the same scores.

Colours are those of Okabe and Ito (2008), which people who are colour-blind can tell apart; a method has a marker, too,
and both are the same in every plot.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cringe.methods import registry as methods

INK, PALE = "#222222", "#808080"
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#7f6d00")
MARKERS = ("p", "s", "^", "D", "v", "P", "X", "<", ">", "h")
STYLE = {
    "svg.fonttype": "none",  # text as text: small, and it can be searched and read aloud
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that sizes are the same everywhere
    "font.size": 9.0,
    "text.color": INK,
    "text.parse_math": False,  # a name may hold a dollar sign
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlesize": 9.0,
    "axes.titley": 1.0,  # where it would be anyway; looking for a better place takes longer than drawing
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": PALE,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "lines.linewidth": 1.2,
}
PLAIN = {"backbone": (INK, "*"), "transformer": (PALE, "o")}
NOT_XML = r"[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
"""A character that XML cannot hold, escaped or not (XML 1.0, section 2.2); a name may."""
GAP, TOP = 0.6, 0.6
"""Inches: between panels side by side, and above all of them."""


class Canvas(NamedTuple):
    """A figure and its axes, with room on the right for a legend."""

    figure: Figure
    axes: list[Axes]


class Plot(NamedTuple):
    """A drawing."""

    name: str
    """Of its file, without ending."""
    title: str
    svg: str


@contextmanager
def house_style() -> Iterator[None]:
    """Our settings of matplotlib, whatever the reader's own are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


@cache
def style_of(name: str) -> tuple[str, str]:
    """The colour and the marker of a method; what the others are compared to has no colour."""
    if name in PLAIN:
        return PLAIN[name]
    known = sorted(methods.entries())
    place = known.index(name) if name in known else sum(map(ord, name))
    return COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]


def canvas(
    panels: int,
    *,
    columns: int = 0,
    size: tuple[float, float] = (3.0, 2.7),
    left: float = 0.65,
    legend: float = 1.9,
    between: float = 0.5,
    bottom: float = 0.5,
) -> Canvas:
    """Panels of equal size, in inches; laid out by hand, which is quick and the same everywhere."""
    columns = min(columns or panels, panels)
    rows = -(-panels // columns)
    width = left + columns * (size[0] + GAP) - GAP + 0.15 + legend
    height = bottom + rows * (size[1] + between) - between + TOP
    figure = Figure(figsize=(width, height))
    axes = []
    for index in range(panels):
        row, column = divmod(index, columns)
        x, y = left + column * (size[0] + GAP), height - TOP - size[1] - row * (size[1] + between)
        axes.append(figure.add_axes((x / width, y / height, size[0] / width, size[1] / height)))
    return Canvas(figure, axes)


def finished(place: Canvas, name: str, title: str, keys: Sequence[Line2D] = (), *, salt: str) -> Plot:
    """The drawing with its title and legend, as text.

    Args:
        place: what was drawn on.
        name: of the file, without ending.
        title: above the panels.
        keys: of the legend.
        salt: what the names of the drawing's parts are made from, beside what they are.
    """
    figure = place.figure
    width, height = figure.get_figwidth(), figure.get_figheight()
    figure.text(0.1 / width, 1 - 0.12 / height, title, va="top", fontweight="bold", fontsize=10)
    if keys:
        right = max(ax.get_position().x1 for ax in place.axes)
        corner = (right + 0.12 / width, place.axes[0].get_position().y1)
        figure.legend(handles=list(keys), loc="upper left", bbox_to_anchor=corner, borderaxespad=0, handlelength=1.6)
    out = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": f"{salt} {name}"}):
        FigureCanvasSVG(figure).print_svg(out, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    svg = re.sub(NOT_XML, "\ufffd", out.getvalue())
    svg = re.sub(r'<g id="[A-Za-z0-9]+_\d+">', "<g>", svg[svg.index("<svg") :])  # names that nothing refers to
    return Plot(name, title, re.sub(r' (?:d|x|y)="[^"]*"', _rounded, svg))


def _rounded(attribute: re.Match[str]) -> str:
    """Coordinates to a hundredth of a point, which is a third of the bytes."""
    return re.sub(r"(\.\d\d)\d+", r"\1", attribute[0])


def key(label: str, **style: Any) -> Line2D:
    """An entry of a legend."""
    return Line2D([], [], label=label, **{"linestyle": "none", "markersize": 6, **style})


def method_keys(names: Iterable[str], **style: Any) -> list[Line2D]:
    """An entry of a legend for each method."""
    return [key(name, color=style_of(name)[0], marker=style_of(name)[1], **style) for name in names]
