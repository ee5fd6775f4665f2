"""Costs: what ledgers say, per method, and which of it repeats."""

import csv
import io
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.assemble import Inputs
from benchmarks.costs import costs, to_csv, to_markdown
from benchmarks.rebuild import Built
from benchmarks.table_inputs import RunScores, TableMeta
from benchmarks.table_model import Row, Section, Table

SPENT = {"updates": 40, "flops": 2e9, "seconds": 3.0, "peak_memory_bytes": 1 << 20, "target_tokens": {"positive": 7}}


def run(name, seed=0, kind="method", after=None, **ledger):
    return RunScores(name=name, kind=kind, seed=seed, round=after, scores=pd.DataFrame(), ledger=ledger)


def made(*runs, synthetic=False, trials=None):
    names = dict.fromkeys(entry.name for entry in runs)
    kinds = {entry.name: entry.kind for entry in runs}
    rows = tuple(Row(name=name, kind=kinds[name], cells=()) for name in names)
    sections = tuple(Section(decoding=name, description="", rows=rows) for name in ("beam", "nucleus"))
    table = Table(
        title="t", synthetic=synthetic, preset="p", columns=(), sections=sections, judges=(), notes=(), ledger=()
    )
    meta = TableMeta(
        task="t",
        title="a task",
        columns=(),
        expected=kinds,
        seeds=(0, 1),
        decodings={"beam": "", "nucleus": ""},
        paper=None,
        synthetic=synthetic,
        preset="p",
        trials=trials or {},
    )
    return Built("table", {}, Inputs(list(runs), {}, meta), table, Path())


def found(built):
    return {(cost.quantity, cost.method): cost for cost in costs(built)}


def beam(seconds):
    return {"generation beam": SPENT | {"seconds": seconds}}


def test_decoding_is_told_relative_to_plain_beam_search_with_the_same_seed():
    runs = [run("transformer", seed, training=SPENT, **beam(2.0 + 2 * seed)) for seed in (0, 1)]
    runs += [run("fudge", seed, training=SPENT, **beam(6.0 + 2 * seed)) for seed in (0, 1)]
    told = "decoding beam, relative to beam of transformer"
    cost = found(made(*runs))[told, "fudge"]
    assert (cost.mean, cost.low, cost.high, cost.seeds) == (2.5, 2.0, 3.0, 2)
    assert found(made(*runs))[told, "transformer"].mean == 1
    assert (told, "fudge") not in found(made(*runs[2:]))  # nothing to be relative to
    slow = run("fudge", 3, training=SPENT, **beam(6.0))
    assert (told, "fudge") not in found(made(*runs[:2], slow))  # no such seed


def test_parts_stand_on_lines_of_their_own():
    ledger = {
        "training": SPENT,
        "auxiliary guide": SPENT | {"flops": 4e9},
        "auxiliary prefix_guide": SPENT | {"flops": 1e9},
        "generation of training data": SPENT | {"flops": 8e9},
        "generation beam": SPENT,
        "steering beam": SPENT | {"flops": 5e9, "seconds": 0.5},
        "parameters": 9,
        "start": "warmup",
    }
    cells = found(made(run("fudge", **ledger)))
    flops = {quantity: cost.mean for (quantity, _), cost in cells.items() if quantity.endswith("FLOPs")}
    assert flops == {
        "training, FLOPs": 2,
        "making training data, FLOPs": 8,
        "auxiliary training, FLOPs": 5,
        "decoding beam, FLOPs": 7,
    }
    assert cells["decoding beam, time", "fudge"].mean == 3.5
    assert cells["training, positive target tokens", "fudge"].mean == 7
    assert cells["peak memory", "fudge"].mean == 1


def test_trials_of_a_sweep_are_counted():
    trial = {"training": SPENT, "generation beam": SPENT | {"flops": 1e9}, "auxiliary guide": SPENT}
    runs = [run("cringe", training=SPENT), run("unlikelihood", training=SPENT)]
    built = made(*runs, trials={"cringe": [trial, trial, trial], "unlikelihood": [trial, {}]})
    swept = {key: cost.mean for key, cost in found(built).items() if key[0].startswith("sweep")}
    assert swept == {
        ("sweep, trials", "cringe"): 3,
        ("sweep, trials", "unlikelihood"): 2,  # what the one that is gone spent is not known
        ("sweep, updates", "cringe"): 120,
        ("sweep, FLOPs", "cringe"): 9,
    }
    text = to_markdown(built, costs(built))
    assert text.startswith("## What was spent: a task\n")
    assert "A sweep's are those of all its trials" in text
    assert "sweep" not in to_markdown(made(*runs), costs(made(*runs)))


def test_rounds_and_references_are_no_methods():
    cells = found(
        made(run("cringe", training=SPENT), run("cringe", after=1, training=SPENT), run("gold", kind="ceiling"))
    )
    assert {method for _, method in cells} == {"cringe"}
    assert {cost.seeds for cost in cells.values()} == {1}


def test_what_nobody_spent_has_no_line_and_what_one_lacks_is_a_dash():
    built = made(
        run("backbone", kind="backbone", **beam(1.0)), run("cringe", training=SPENT | {"updates": 0}, **beam(1.0))
    )
    text = to_markdown(built, costs(built))
    assert "training, updates" not in text
    line = next(line for line in text.splitlines() if line.startswith("| training, positive"))
    assert [part.strip() for part in line.split("|")[2:4]] == ["–", "7"]


def test_the_tables_say_what_varies_and_what_is_generated():
    runs = [run("transformer", seed, training=SPENT | {"seconds": 3.0 + seed}, **beam(1.0)) for seed in (0, 1)]
    built = made(*runs, synthetic=True)
    text = to_markdown(built, costs(built))
    assert "(generated data)" in text.splitlines()[0]
    assert "vary from run to run" in text
    starred = {
        line.split("|")[1].strip().removesuffix(r" \*") for line in text.splitlines() if r" \* " in line and "|" in line
    }
    lines = list(csv.DictReader(io.StringIO(to_csv(built, costs(built)))))
    varying = {f"{line['quantity']}, {line['unit']}" for line in lines if line["varies"] == "true"}
    assert starred == varying
    assert varying == {"training, time, s", "decoding beam, time, s", "peak memory, MiB"} | {
        "decoding beam, relative to beam of transformer, × seconds"
    }
    assert {line["generated_data"] for line in lines} == {"true"}
    assert "3.5 [3.0–4.0]" in text


@pytest.mark.parametrize("ledger", [{}, {"training": {}}, {"training": {"target_tokens": {}}}])
def test_a_ledger_that_says_nothing_gives_nothing(ledger):
    assert costs(made(run("cringe", **ledger))) == []
    assert to_csv(made(), []).count("\n") == 1
