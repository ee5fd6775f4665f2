"""Plots: the numbers are drawn where they belong, bytes repeat, hostile names stay text."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import pytest

from benchmarks.assemble import Inputs
from benchmarks.drawing import COLOURS, style_of
from benchmarks.plots import draw, pareto_front, thinned
from benchmarks.published import Published
from benchmarks.rebuild import Built
from benchmarks.table_inputs import TableMeta
from benchmarks.table_model import COLLAPSED, Cell, Row, Section, Table, TableColumn

BINS = [{"n": 10, "predicted": 0.2, "observed": 0.1, "low": 0.0, "high": 0.3}]
SCORED = {"f1@convai2": "F1 ×100", "safe@toxic": "Safe %", "safe_and_fluent@toxic": "and fluent %"}
SPLITS = {"f1@valid": "F1, valid ×100", "f1@test": "F1, test ×100", "f1@average": "F1, weighted average ×100"}
MANIFEST = {"task": "t", "preset": "tiny", "data": None, "generated_data": False, "sources": ["chat"], "rows": []}


def cell(value, paper=None):
    spread = None if value is None else 2.0
    low, high = (None, None) if value is None else (value - spread, value + spread)
    return Cell(value=value, low=low, high=high, n=9, seeds=2, paper=paper)


def row(name, *values, kind="method", marks=(), paper=None):
    return Row(name=name, kind=kind, cells=tuple(cell(value, paper) for value in values), marks=marks)


def made(*rows, titles=SCORED, judged=True, name="table", synthetic=False, results=Path(), decoding="beam", **manifest):
    columns = tuple(
        TableColumn(key=key, title=title, digits=1, higher_is_better=True, judged="safe" in key)
        for key, title in titles.items()
    )
    section = Section(decoding=decoding, description="10 beams", rows=rows)
    table = Table(
        title="t",
        synthetic=synthetic,
        preset="tiny",
        columns=columns,
        sections=(section,),
        judges=(),
        notes=(),
        ledger=(),
    )
    meta = TableMeta(
        task="t",
        title="t",
        columns=(),
        expected={one.name: one.kind for one in rows},
        seeds=(0,),
        decodings={decoding: "10 beams"},
        paper=None,
        synthetic=synthetic,
        preset="tiny",
    )
    judges = {"safe": {"reliability": BINS, "threshold": 0.5, "auc": {"value": 0.876}}} if judged else {}
    return Built(name, MANIFEST | manifest, Inputs([], judges, meta), table, results)


def plots(built, tables=()):
    return {plot.name: plot for plot in draw(built, tables)}


def texts(svg):
    """What can be read in a plot."""
    return ["".join(one.itertext()) for one in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_what_there_is_nothing_to_draw_of_is_not_drawn():
    assert plots(made(row("cringe", 20.0, 90.0, 80.0), judged=False)) == {}
    assert plots(made(row("cringe", None, None, None))).keys() == {"judge"}
    assert plots(made(row("gold", 100.0, 90.0, 80.0, kind="ceiling"))).keys() == {"judge"}


def test_a_scatter_names_every_method_and_both_verdicts():
    found = plots(made(row("cringe", 20.0, 90.0, 80.0), row("fudge", 18.0, 70.0, 60.0)))
    said = texts(found["scatter-beam"].svg)
    assert {"cringe", "fudge", "Safe %", "and fluent %", "F1 ×100", "Pareto front"} <= set(said)
    assert "hollow: the paper's" not in said
    assert not any("faint" in text for text in said)
    for name in ("cringe", "fudge"):
        assert found["scatter-beam"].svg.count(style_of(name)[0]) > 2


def test_the_papers_values_are_hollow_and_other_configurations_faint():
    paper = row("cringe", 20.0, 90.0, 80.0, paper=Published(18.0, "table"))
    alone = plots(made(paper))["scatter-beam"].svg
    assert "hollow: the paper's" in texts(alone)
    assert "fill: none" in alone
    rows = [{"name": "cringe", "kind": "method", "seed": 0, "round": None, "scores": name} for name in ("one", "two")]
    first, second = (made(paper, name=str(index), rows=[rows[index]]) for index in (0, 1))
    assert "opacity: 0.4" in plots(first, [first, second])["scatter-beam"].svg
    assert "opacity: 0.4" not in plots(first, [first])["scatter-beam"].svg


def test_generated_data_are_said_to_be_in_every_title():
    built = made(row("cringe", 20.0, 90.0, 80.0), synthetic=True)
    assert all(plot.title.endswith("(generated data)") for plot in plots(built).values())
    assert all(any("(generated data)" in text for text in texts(plot.svg)) for plot in plots(built).values())


def test_bytes_repeat_and_do_not_depend_on_the_readers_settings():
    built = made(row("cringe", 20.0, 90.0, 80.0))
    first = plots(built)
    with mpl.rc_context({"font.size": 20, "axes.facecolor": "red", "svg.fonttype": "path"}):
        assert plots(built) == first
    assert not re.search(r"<dc:date>|Matplotlib v|<metadata>", first["scatter-beam"].svg)
    assert mpl.rcParams["svg.fonttype"] != "none"  # ours are not left behind


def test_hostile_names_stay_text():
    name = '<script>alert(1)</script> $x^2$ "&\u202e'
    svg = plots(made(row(name, 20.0, 90.0, 80.0), decoding="../<b>"))
    assert svg.keys() == {"scatter-_b_", "judge"}
    svg = svg["scatter-_b_"].svg
    assert "<script" not in svg
    assert name in texts(svg)
    assert svg.startswith("<svg")


@pytest.mark.filterwarnings("ignore:Glyph")  # no font has them
@pytest.mark.parametrize("sign", ["\0", "\x1b", "\uffff", "\x0b"])
def test_a_sign_that_xml_cannot_hold_is_replaced(sign):
    name = f"a{sign}b"
    assert "a\ufffdb" in texts(plots(made(row(name, 20.0, 90.0, 80.0)))["scatter-beam"].svg)


def test_references_within_a_plot_hold():
    svg = plots(made(row("cringe", 20.0, 90.0, 80.0)))["scatter-beam"].svg
    named = set(re.findall(r' id="([^"]+)"', svg))
    referred = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg))
    assert referred
    assert {first or second for first, second in referred} <= named


def test_the_front_holds_what_nothing_beats_both_ways():
    points = [(1.0, 5.0), (2.0, 4.0), (2.0, 3.0), (3.0, 1.0), (1.5, 2.0), (3.0, 1.0)]
    assert pareto_front(points) == [(1.0, 5.0), (2.0, 4.0), (3.0, 1.0)]
    assert pareto_front([]) == []


def test_a_collapsed_row_is_not_on_the_front():
    corners = []
    for marks in ((), (COLLAPSED,)):
        svg = plots(made(row("cringe", 20.0, 90.0, 80.0), row("fudge", 18.0, 99.0, 97.0, marks=marks)))[
            "scatter-beam"
        ].svg
        dashed = re.findall(r'<path d="([^"]+)"[^>]*style="[^"]*dasharray[^"]*#808080', svg)
        corners.append(max(path.count("L") for path in dashed))
    assert corners == [6, 4]  # two lines a step


def test_bars_are_the_mean_of_the_three_best_on_validation():
    rows = [{"name": "cringe", "kind": "method", "seed": 0, "round": None, "scores": str(index)} for index in range(5)]
    tables = [
        made(row("cringe", value, 9.0, 9.0), titles=SPLITS, judged=False, name=str(index), rows=[rows[index]])
        for index, value in enumerate((10.0, 16.0, 12.0, 14.0, None))
    ]
    found = plots(tables[0], tables)
    assert "14.0 (3)" in texts(found["best-beam"].svg)
    assert "10.0 (1)" in texts(plots(tables[0], tables[:1])["best-beam"].svg)
    assert {"valid", "test", "weighted average"} <= set(texts(found["splits-beam"].svg))


def test_training_has_a_panel_a_method_and_the_parts_of_the_loss(tmp_path):
    rows = []
    for name, part in (("transformer", "nll"), ("cringe", "cringe")):
        folder = tmp_path / name
        folder.mkdir()
        records = [{"step": step, "learning_rate": 1.0, "loss": 2.0, part: 1.0} for step in range(1, 200)]
        (folder / "training_log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        rows.append({"name": name, "kind": "method", "seed": 0, "round": None, "scores": name})
    built = made(row("transformer", 1.0), row("cringe", 1.0), titles={"f1@a": "F1"}, judged=False)
    found = plots(built._replace(manifest=MANIFEST | {"rows": rows}, results=tmp_path))
    assert {"transformer", "cringe", "loss", "nll", "update"} <= set(texts(found["training"].svg))
    assert "learning_rate" not in texts(found["training"].svg)


def test_methods_that_share_a_training_share_its_panel(tmp_path):
    rows = []
    for name, loss in (("transformer", 2.0), ("cringe", 3.0), ("reranker", 2.0), ("fudge", 2.0), ("pacer", 2.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "training_log.jsonl").write_text(json.dumps({"step": 1, "loss": loss}) + "\n")
        rows.append({"name": name, "kind": "method", "seed": 0, "round": None, "scores": name})
    built = made(*(row(one["name"], 1.0) for one in rows), titles={"f1@a": "F1"}, judged=False)
    svg = plots(built._replace(manifest=MANIFEST | {"rows": rows}, results=tmp_path))["training"].svg
    said = " ".join(texts(svg))
    assert "transformer, reranker, fudge, pacer" in said
    assert said.count("cringe") == 1
    assert svg.count("nats a token") == 1


def test_doubtful_rows_are_crossed_out_in_every_plot():
    sound, doubtful = (
        plots(made(row("cringe", 10.0, 9.0, 9.0, marks=marks), titles=SPLITS, judged=False))
        for marks in ((), (COLLAPSED,))
    )
    for name in ("best-beam", "splits-beam"):
        assert "crossed: collapsed or" in " ".join(texts(doubtful[name].svg))
        assert "crossed" not in " ".join(texts(sound[name].svg))
        assert doubtful[name].svg.count("<use") > sound[name].svg.count("<use")


def test_trials_of_a_sweep_show_what_was_chosen():
    trial = {"method": "cringe", "settings": {"alpha": 0.5}, "value": 50.0, "chosen": False, "seed": 0, "scores": "x"}
    chosen = trial | {"settings": {"alpha": 2}, "value": 60.0, "chosen": True}
    found = plots(made(row("cringe", 20.0, 90.0, 80.0), trials=[trial, chosen]))
    assert "alpha 2" in texts(found["sweep"].svg)
    assert "alpha 0.5" not in texts(found["sweep"].svg)


def test_the_judges_curve_says_its_auc():
    assert plots(made(row("cringe", 20.0, 90.0, 80.0)))["judge"].title == "The judge on human replies, AUC 0.88"


@pytest.mark.parametrize(("count", "expected"), [(3, [0, 1, 2]), (100, [0.5, 98.5])])
def test_long_curves_are_thinned_to_means(count, expected):
    found = thinned(range(count))
    assert len(found) == min(count, 50)
    assert (found[0], found[-1]) == (expected[0], expected[-1])


def test_methods_differ_in_colour_or_marker():
    from cringe.methods import registry

    looks = [style_of(name) for name in (*registry.entries(), "backbone")]
    assert len(set(looks)) == len(looks)
    assert {colour for colour, _ in looks} > set(COLOURS)
