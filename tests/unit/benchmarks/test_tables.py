"""Tables from made-up scores: right numbers, honest gaps, stable bytes."""

import csv
import io
import json
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmarks.published import load_paper
from benchmarks.table_model import NO_DATA, number
from benchmarks.tables import ANY_DECODING, RunScores, TableMeta, build_table
from benchmarks.tasks.base import Column

N = 20
JUDGE = {
    "name": "small judge",
    "accuracy": 0.8123,
    "auc": {"value": 0.85, "low": 0.8, "high": 0.89, "n": 400},
    "last_turn_auc": 0.55,
    "threshold": 0.5,
    "n": 400,
    "weak": False,
}


def frame(*, decodings=("beam", "greedy"), f1=0.2, coherent=0.5, nll=3.0, distinct=N, n=N):
    """Replies to two sets of prompts, two to a dialogue; every second scores double, every other nothing."""
    rows = []
    for decoding in decodings:
        for prompts in ("chat", "decode"):
            for index in range(n):
                alternating = 2 * (index % 2)
                rows.append(
                    {
                        "decoding": decoding,
                        "prompts": prompts,
                        "uid": f"{prompts}-{index:03}",
                        "group": f"{prompts}-{index // 2}",
                        "reply_id": f"r{index % distinct}",
                        "tokens": 10,
                        "nll": 10 * (nll + (alternating - 1) * 0.5),
                        "f1": f1 if prompts == "chat" else math.nan,
                        "coherent": coherent * alternating if prompts == "decode" else math.nan,
                    }
                )
    return pd.DataFrame(rows)


def run(name, kind="method", seed=1, ledger=None, **scores):
    return RunScores(name=name, kind=kind, seed=seed, scores=frame(**scores), ledger=ledger or {})


def gold(seed=1):
    return run("gold", "ceiling", seed, decodings=(ANY_DECODING,), f1=1.0)


def meta(*methods, seeds=(1,), **other):
    values = {
        "title": "contradiction avoidance",
        "columns": (
            Column(metric="f1", prompts="chat", title="F1"),
            Column(metric="coherent", prompts="decode", title="coherent"),
        ),
        "expected": {"gold": "ceiling"} | dict.fromkeys(methods, "method"),
        "seeds": seeds,
        "decodings": {"beam": "10 beams, score / length^0.65", "greedy": "the likeliest token"},
        "paper": load_paper("contradiction"),
        "synthetic": False,
        "preset": "tiny",
    }
    return TableMeta(**(values | other))


def build(*runs, judge=None, **other):
    names = [entry.name for entry in runs if entry.kind == "method"]
    return build_table([*runs, gold()], {"coherent": JUDGE | (judge or {})}, meta(*dict.fromkeys(names), **other))


def row(table, name, section=0):
    return next(entry for entry in table.sections[section].rows if entry.name == name)


def line(table, name):
    return next(text for text in table.to_markdown().splitlines() if text.startswith(f"| {name} "))


def test_values_are_means_in_the_unit_of_the_title():
    f1, coherent, nll, distinct, length = row(build(run("cringe", coherent=0.5)), "cringe").cells
    assert f1.value == pytest.approx(20)
    assert coherent.value == pytest.approx(50)
    assert 0 < coherent.low < 50 < coherent.high < 100
    assert (nll.value, distinct.value, length.value) == pytest.approx((3.0, 100.0, 10.0))
    assert (coherent.n, coherent.seeds) == (N, 1)


def test_rows_stand_from_floor_to_ceiling_whatever_the_order_of_runs():
    runs = [run("cringe"), run("warm", "backbone"), run("fudge"), run("constant", "floor")]
    expected = {"fudge": "method", "cringe": "method", "gold": "ceiling", "constant": "floor", "warm": "backbone"}
    first = build_table([*runs, gold()], {"coherent": JUDGE}, meta(expected=expected))
    again = build_table([gold(), *reversed(runs)], {"coherent": JUDGE}, meta(expected=expected))
    assert [entry.name for entry in first.sections[0].rows] == ["constant", "warm", "fudge", "cringe", "gold"]
    assert first == again


def test_bytes_do_not_depend_on_the_order_of_rows():
    shuffled = run("cringe")
    shuffled = replace(shuffled, scores=shuffled.scores.sample(frac=1, random_state=0))
    second = run("cringe", seed=2, coherent=0.4)
    one, two = build(run("cringe"), second), build(shuffled, second)
    assert one.to_markdown() == two.to_markdown()
    assert one.to_csv() == two.to_csv()
    assert one.to_json() == two.to_json()


def test_the_paper_stands_beside_beam_only():
    table = build(run("cringe"), run("pacer"), run("mine"))
    assert "18.4 (S)" in line(table, "cringe")
    assert "96.5 (S)" in line(table, "cringe")
    assert "90.3 (F)" in line(table, "pacer")
    assert line(table, "mine").count(" – ") == 2
    assert all(cell.paper is None for cell in row(table, "cringe", 1).cells)


def test_what_the_paper_leaves_unknown_is_a_question_mark():
    paper = load_paper("contradiction")
    rows = {
        "pacer": {key: entry._replace(value=None, certainty="unknown") for key, entry in paper.rows["pacer"].items()}
    }
    assert line(build(run("pacer"), paper=replace(paper, rows=rows)), "pacer").count(" ? ") == 2


def test_a_missing_method_is_named_and_never_zero():
    table = build_table([run("cringe"), gold()], {"coherent": JUDGE}, meta("cringe", "fudge"))
    assert all(cell.value is None for cell in row(table, "fudge").cells)
    assert line(table, "fudge").count(NO_DATA) == 5
    assert "- fudge: no run." in table.to_markdown()


def test_a_missing_seed_is_named():
    runs = [run("cringe", seed=seed) for seed in (1, 2, 3)] + [run("fudge", seed=2)]
    table = build_table([*runs, gold()], {"coherent": JUDGE}, meta("cringe", "fudge", seeds=(1, 2, 3)))
    assert "- fudge: no run with seed 1, 3." in table.to_markdown()
    assert "one seed" in line(table, "fudge")
    assert "one seed" not in line(table, "cringe")
    assert row(table, "cringe").cells[0].seeds == 3


def test_one_seed_everywhere_is_said_once():
    text = build(run("cringe"), run("fudge")).to_markdown()
    assert text.count("one seed") == 1
    assert "one seed in every row: a claim about this model only" in text


def test_a_decoding_without_scores_is_named():
    table = build(run("cringe", decodings=("beam",)))
    assert row(table, "cringe", 1).cells[0].value is None
    assert "- cringe, greedy: no scores for F1 ×100" in table.to_markdown()


def test_a_seed_without_one_metric_is_named():
    second = run("cringe", seed=2)
    second.scores["f1"] = math.nan
    table = build(run("cringe"), second, seeds=(1, 2))
    assert row(table, "cringe").cells[0].seeds == 1
    assert "- cringe, beam: F1 ×100 rests on 1 of 2 seeds." in table.to_markdown()


def test_nan_among_scores_is_refused():
    broken = run("cringe")
    broken.scores.loc[0, "f1"] = math.nan
    with pytest.raises(ValueError, match="cringe, seed 1, beam, chat: f1 is NaN for 1 of 20"):
        build(broken)


def test_nan_likelihood_is_refused():
    broken = run("cringe")
    broken.scores.loc[broken.scores["prompts"] == "decode", "nll"] = math.nan
    with pytest.raises(ValueError, match="NaN"):
        build(broken)


def test_runs_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="two runs of cringe with seed 1"):
        build(run("cringe"), run("cringe"))
    with pytest.raises(ValueError, match="other prompts than with seed 1"):
        build(run("cringe"), run("cringe", seed=2, n=N - 2))
    twice = run("cringe")
    twice = replace(twice, scores=pd.concat([twice.scores, twice.scores]))
    with pytest.raises(ValueError, match="scored twice"):
        build(twice)
    with pytest.raises(ValueError, match="calls it a floor"):
        build_table([run("cringe", "floor")], {}, meta("cringe"))


def test_one_example_and_equal_scores():
    single = row(build(run("cringe", n=1, coherent=0.0), judge={}), "cringe").cells
    assert (single[1].value, single[1].low) == (0.0, 0.0)
    assert 0 < single[1].high < 100
    assert (single[2].low, single[2].high) == (None, None)
    assert f"[{NO_DATA}]" in line(build(run("cringe", n=1)), "cringe")
    equal = row(build(run("cringe", f1=1.0)), "cringe").cells[0]
    assert 0 < equal.low < equal.high == 100


@pytest.mark.parametrize(("distinct", "marked"), [(9, True), (10, False)])
def test_collapse_below_half(distinct, marked):
    table = build(run("cringe", distinct=distinct))
    assert ("collapsed" in row(table, "cringe").cells[1].marks) == marked
    assert "collapsed" not in row(table, "cringe").cells[0].marks
    assert ("collapsed" in line(table, "cringe")) == marked


@pytest.mark.parametrize(("nll", "marked"), [(3.4, False), (3.6, True), (2.4, True)])
def test_unlike_human_text(nll, marked):
    # Human replies have 2.5 and 3.5 nats a token, in equal numbers.
    table = build(run("cringe", nll=nll))
    assert ("unlike human" in line(table, "cringe")) == marked
    assert "have 2.50 to 3.50 nll/token" in table.to_markdown()


def test_without_gold_replies_likeness_is_not_claimed():
    table = build_table([run("cringe", nll=9.0)], {"coherent": JUDGE}, meta("cringe"))
    assert "unlike human text" not in row(table, "cringe").marks
    assert "not checked" in table.to_markdown()


@pytest.mark.parametrize("judge", [{"weak": True}, {"auc": {"value": 0.69, "low": 0.6, "high": 0.8, "n": 400}}])
def test_a_weak_judge_marks_its_column(judge):
    table = build(run("cringe"), judge=judge)
    f1, coherent, *_ = row(table, "cringe").cells
    assert "weak judge" in coherent.marks
    assert "weak judge" not in f1.marks
    assert "coherent % (weak)" in table.to_markdown()
    assert "- weak judge: not ranked" in table.to_markdown()


def test_the_judge_stands_under_every_section():
    text = " ".join(build(run("cringe")).to_markdown().split())
    assert text.count("accuracy 81.2 % at threshold 0.50, AUC 0.85 [0.80, 0.89]. Seeing the last turn only") == 2
    assert "(weak)" not in text


def test_generated_data_are_said_aloud():
    table = build(run("cringe"), synthetic=True)
    assert table.to_markdown().startswith("## contradiction avoidance (generated data)\n")
    assert json.loads(table.to_json())["synthetic"] is True
    assert table.to_csv().splitlines()[1].endswith(",true")
    assert "generated data" not in build(run("cringe")).to_markdown()


def test_ledgers_without_what_varies():
    spent = {
        "updates": 12000,
        "target_tokens": {"negative": 7},
        "seconds": 1.5,
        "auxiliary": {"seconds": 2.0, "updates": 3},
    }
    runs = [run("cringe", ledger=spent), run("cringe", seed=2, ledger=spent | {"updates": 12001}), run("fudge")]
    table = build(*runs, seeds=(1, 2))
    text = table.to_markdown()
    assert "| updates                 | 12,000–12,001 |   n/a |" in text
    assert text.index("updates") < text.index("target tokens, negative") < text.index("auxiliary, updates")
    assert not any("seconds" in output for output in (text, table.to_csv(), table.to_json()))


def test_training_comes_before_decoding_and_nothing_spent_has_no_line():
    decoding = {"updates": 0, "generated_tokens": 90, "seconds": 4.0, "peak_memory_bytes": 5}
    spent = {"generation beam": decoding, "training": {"updates": 8, "examples": 64}, "parameters": 10}
    table = build(run("cringe", ledger=spent))
    quantities = [entry.quantity for entry in table.ledger]
    assert quantities == ["training, updates", "training, examples", "generation beam, generated tokens"]


def test_text_stays_in_its_cell():
    table = build(run("a|b\n<script>*x*"), title="t|itle\n# no")
    text = table.to_markdown()
    assert text.startswith("## t\\|itle # no\n")
    assert "| a\\|b \\<script\\>\\*x\\* |" in text
    assert next(csv.DictReader(io.StringIO(table.to_csv())))["row"] == "a|b\n<script>*x*"


def test_files_agree_and_are_finite():
    table = build(run("cringe"), run("fudge", distinct=2))
    content = json.loads(table.to_json())
    assert (content["schema"], content["version"]) == ("cringe.table", 1)
    assert list(content) == sorted(content)
    lines = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert len(lines) == 2 * 3 * 5
    cell = content["sections"][0]["rows"][0]["cells"][1]
    first = next(entry for entry in lines if entry["column"] == "coherent %")
    assert float(first["value"]) == pytest.approx(cell["value"], abs=1e-4)
    assert (first["paper"], first["certainty"]) == (str(cell["paper"]["value"]), cell["paper"]["certainty"])


def test_the_first_column_gives_the_replies_where_no_judge_is():
    columns = (Column(metric="f1", prompts="chat", title="F1"),)
    table = build_table([run("cringe"), gold()], {}, meta("cringe", columns=columns, paper=None))
    assert "of the replies to chat" in table.to_markdown()
    assert "paper" not in table.to_markdown()


def test_three_methods_fit_a_terminal():
    names = ("transformer", "cringe", "director")
    text = build(*(run(name, distinct=3, nll=9.0) for name in names)).to_markdown()
    assert max(map(len, text.splitlines())) <= 180


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(None, 1, "n/a"), (-0.04, 1, "0.0"), (-0.06, 1, "-0.1"), (12.34, 1, "12.3"), (3.0, 0, "3")],
)
def test_numbers(value, digits, text):
    assert number(value, digits) == text


def test_no_torch_and_no_pandas_are_needed_to_import():
    code = (
        "import sys, benchmarks.tables; sys.exit(bool({'torch', 'pandas', 'sklearn', 'tabulate'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_scores_of_integers_and_numpy_strings_do():
    plain = run("cringe")
    plain.scores["coherent"] = np.where(plain.scores["prompts"] == "decode", 1, np.nan)
    assert row(build(plain), "cringe").cells[1].value == 100
