"""What is compared and how it is said: scores behind each kind of column, differences between two sides, text."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import benchmarks
from benchmarks.assemble import Inputs
from benchmarks.compare import main, parser
from benchmarks.compare_checks import compare_tables
from benchmarks.compare_replies import printable
from benchmarks.errors import UsageError
from benchmarks.rebuild import Built
from benchmarks.reference import match, surroundings, unlike
from benchmarks.table_inputs import RunScores, TableMeta
from benchmarks.tables import build_table
from benchmarks.tasks.base import Column
from benchmarks.textless import short_hash
from evaluators.stats import ratio_interval
from tests.unit.benchmarks.test_report import fake_runs

N = 24
F1 = Column(metric="f1", prompts="chat", title="F1")
SETTINGS = {
    "prompts": N,
    "training": {"updates": 200},
    "seeds": [0],
    "methods": ["transformer", "cringe"],
    "settings": {"cringe": {"alpha": 1.0}, "fudge": {"weight": 1.0}},
}


def run(name, seed, *, kind="method", prompts=("chat",), corpus=(), **other):
    """Scores that are the same for the same arguments, with the digits that are compared."""
    rng = np.random.default_rng([seed, len(name)])
    frames = [
        {
            "decoding": "*" if kind == "ceiling" else "beam",
            "prompts": part,
            "uid": [f"{part}-{place:02}" for place in range(N)],
            "group": [f"{part}-{place // 2}" for place in range(N)],
            "reply_id": [f"{kind}-{place}" for place in range(N)],
            "tokens": rng.integers(5, 20, N),
            "nll": rng.uniform(20, 40, N).round(4),
            "gold_nll": rng.uniform(20, 40, N).round(4),
            "gold_tokens": rng.integers(5, 20, N),
            "f1": rng.random(N).round(6),
        }
        | other
        for part in prompts
    ]
    scores = pd.concat([pd.DataFrame(frame) for frame in frames], ignore_index=True)
    return RunScores(name=name, kind=kind, seed=seed, scores=scores, ledger={}, corpus=corpus)


def built(*runs, columns=(F1,), counts=None, name="decode-tiny", results=Path("nowhere"), **manifest):
    meta = TableMeta(
        task="decode",
        title="contradiction avoidance",
        columns=columns,
        expected={one.name: one.kind for one in runs},
        seeds=tuple(sorted({one.seed for one in runs if one.kind == "method"})),
        decodings={"beam": "10 beams"},
        paper=None,
        synthetic=True,
        preset="tiny",
        counts=counts or {},
    )
    made_from = {
        "task": "decode",
        "preset": "tiny",
        "generated_data": True,
        "data": None,
        "sources": ["convai2", "decode"],
        "settings": SETTINGS,
        "rows": [
            {"name": one.name, "kind": one.kind, "seed": one.seed, "round": None, "scores": one.name} for one in runs
        ],
    }
    return Built(name, made_from | manifest, Inputs(list(runs), {}, meta), build_table(runs, {}, meta), results)


def two_sides(old=(0, 1, 2, 3, 4), new=(5,), **other):
    return [
        built(
            *(run(name, seed, **other.get("runs", {})) for name in ("transformer", "cringe") for seed in seeds),
            **other.get("table", {}),
        )
        for seeds in (old, new)
    ]


def compared(old, new):
    return compare_tables("decode-tiny", old, new)


def checks(one, row="cringe"):
    return {check.key: check for check in one.checks if check.row == row}


# What is compared


def test_a_mean_of_scores():
    old, new = two_sides()
    one = checks(compared(old, new))["f1@chat"]
    means = [
        [100 * made.scores["f1"].mean() for made in side.inputs.runs if made.name == "cringe"] for side in (old, new)
    ]
    assert (one.old, one.new) == pytest.approx([np.mean(side) for side in means])
    assert one.found.mean == pytest.approx(one.new - one.old)
    assert one.between == pytest.approx(np.std(means[0], ddof=1))
    assert one.margin == pytest.approx(max(2 * one.between, 2))
    assert (one.better, one.gated) == (1, True)


def test_what_was_recorded_with_fewer_digits_does_not_differ_from_what_was_not():
    whole = run("cringe", 0, nll=np.linspace(20, 4000, N))
    digits = {name: [float(f"{value:.6g}") for value in whole.scores[name]] for name in ("f1", "nll", "gold_nll")}
    rounded = replace(whole, scores=whole.scores.assign(**digits))
    found = checks(compared(built(rounded), built(replace(whole, seed=5))))
    assert {key: check.found.mean for key, check in found.items()} == {"f1@chat": 0, "nll": 0, "distinct": 0}


def test_a_rate_is_a_ratio_of_sums():
    old, new = two_sides()
    one = checks(compared(old, new))["nll"]
    assert one.found.mean == pytest.approx(one.new - one.old)
    assert one.better == 0
    assert one.least == 0.02
    # Against a side with 2 nats for every token, all spread is the new side's.
    made = run("cringe", 5)
    tokens = made.scores["tokens"].to_numpy()
    steady = run("cringe", 0, tokens=tokens, nll=2.0 * tokens)
    one = checks(compared(built(steady), built(made)))["nll"]
    alone = ratio_interval(made.scores[["nll"]].T, tokens[None], list(made.scores["group"]))
    assert (one.found.low, one.found.high) == pytest.approx((alone.low - 2, alone.high - 2))


def test_a_perplexity_is_compared_by_its_logarithm():
    column = Column(metric="perplexity", prompts="chat", title="Perplexity")
    old, new = two_sides(table={"columns": (F1, column)})
    one = checks(compared(old, new))["perplexity@chat"]
    assert one.found.mean == pytest.approx(100 * (np.log(one.new) - np.log(one.old)))
    assert one.better == -1


def test_a_number_of_all_replies_together():
    column = Column(metric="distinct_1", prompts="chat", title="Distinct-1")

    def runs(seeds):
        for name in ("transformer", "cringe"):
            for seed in seeds:
                entry = {
                    "row": "",
                    "decoding": "beam",
                    "prompts": "chat",
                    "distinct_1": 0.2 + seed / 100,
                    "distinct_2": None,
                }
                yield run(name, seed, corpus=[entry, entry | {"decoding": "nucleus", "distinct_1": 0.9}])

    old, new = (built(*runs(seeds), columns=(F1, column)) for seeds in (range(5), [7]))
    one = checks(compared(old, new))["distinct_1@chat"]
    assert (one.old, one.new, one.found.mean) == pytest.approx((22.0, 27.0, 5.0))
    assert one.between == pytest.approx(np.std(range(5), ddof=1))
    assert one.found.prompts is None


def test_an_average_is_weighted_as_in_the_table():
    column = Column(metric="f1", prompts="average", over=("valid", "test"), title="F1, average")
    counts = {"decode valid examples": 300, "decode test examples": 100}
    made = {"prompts": ("valid", "test")}
    old, new = two_sides(runs=made, table={"columns": (column,), "counts": counts})
    one = checks(compared(old, new))["f1@average"]
    assert one.found.mean == pytest.approx(one.new - one.old)
    assert one.found.prompts == 2 * N


def test_collapse_is_a_mark_that_only_the_new_row_has():
    old, new = two_sides()
    same = built(*(run(name, 5, reply_id=["hi"] * N) for name in ("transformer", "cringe")))
    one = checks(compared(old, same))["distinct"]
    assert (one.mark, one.newly, one.gated) == ("collapsed", True, True)
    assert checks(compared(old, new))["distinct"].newly is False
    # Where the reference is collapsed, too, nothing is new.
    before = built(*(run("cringe", seed, reply_id=["hi"] * N) for seed in range(5)))
    one = checks(compared(before, same))["distinct"]
    assert (one.newly, one.gated) == (False, False)


def test_the_backbone_is_compared_and_not_gated():
    old, new = (built(*(run("backbone", seed, kind="backbone") for seed in seeds)) for seeds in (range(5), [5]))
    assert {check.gated for check in compared(old, new).checks} == {False}


def test_no_number_where_there_was_one_is_a_problem():
    old, _ = two_sides()
    found = compared(old, built(run("transformer", 5)))
    assert found.problems == ["cringe, beam: NEW has no F1 ×100, nll/token, distinct %"]
    # Nor is it one where there was none.
    assert compared(built(run("transformer", 5)), old).problems == []
    assert "Only NEW has cringe." in compared(built(run("transformer", 5)), old).notes


def test_a_missing_seed_is_a_problem():
    old, _ = two_sides()
    new = built(run("transformer", 5), run("transformer", 6), run("cringe", 5))
    assert compared(old, new).problems == ["cringe: NEW has no run with seed 6"]


# What the sides have in common


def test_tables_match_by_task_preset_and_kind_of_data():
    old, new = two_sides()
    real = new._replace(manifest={**new.manifest, "generated_data": False})
    small = new._replace(manifest={**new.manifest, "preset": "small"})
    found = match([old, real], [small, real, new], print)
    assert [str(pair[0]) for pair in found.pairs] == ["decode-tiny", "decode-tiny-synthetic"]
    assert (found.only_old, found.only_new) == ([], ["decode-small-synthetic"])
    with pytest.raises(UsageError, match="OLD has decode-tiny-synthetic; NEW has decode-small-synthetic"):
        match([old], [small], print)
    with pytest.raises(UsageError, match="NEW has several tables of decode-tiny-synthetic: one, two"):
        match([old], [new._replace(name="one"), new._replace(name="two")], print)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"settings": SETTINGS | {"seeds": [5], "methods": ["cringe"]}}, []),
        # A setting that came later and is not set.
        ({"settings": SETTINGS | {"reference_training": None, "processes": 1}}, []),
        ({"settings": SETTINGS | {"processes": 2}}, ["The settings differ: processes 1 → 2."]),
        # Of a method that only one side has, settings do not matter.
        ({"settings": SETTINGS | {"settings": {"cringe": {"alpha": 1.0}, "fudge": {"weight": 9.0}}}}, []),
        (
            {
                "settings": SETTINGS
                | {"settings": {"cringe": {"alpha": 2.0}}, "training": {"updates": 100, "new": True}}
            },
            ["The settings differ: cringe.alpha 1.0 → 2.0; training.new (none) → true; training.updates 200 → 100."],
        ),
        ({"data": {"decode/train.jsonl": "ab"}}, ["The data differ: decode/train.jsonl."]),
        ({"sources": ["decode"]}, ["Trained on other sources: convai2, decode → decode."]),
    ],
)
def test_what_is_unlike(changes, said):
    old, new = two_sides()
    assert unlike(old, new._replace(manifest={**new.manifest, **changes})) == said


def test_gold_replies_tell_whether_generated_data_are_the_same():
    old, new = (built(run("cringe", seed), run("gold", 0, kind="ceiling")) for seed in (0, 5))
    assert unlike(old, new) == []
    gold = run("gold", 0, kind="ceiling", reply_id=[f"ceiling-{place}" if place else "other" for place in range(N)])
    assert unlike(old, built(run("cringe", 5), gold)) == ["The gold replies to 1 prompts of chat differ."]


def test_other_packages_are_said(tmp_path):
    sides = []
    for name, version in (("old", "2.11.0"), ("new", "2.12.0")):
        (tmp_path / name / "cringe").mkdir(parents=True)
        spec = {"device": "cpu", "versions": {"torch": version, "numpy": "2.4"}}
        (tmp_path / name / "cringe" / "spec.json").write_text(json.dumps(spec))
        sides.append(built(run("cringe", 0), results=tmp_path / name))
    assert surroundings(*sides) == 'Made with other packages or on another device: versions.torch "2.11.0" → "2.12.0".'
    assert surroundings(sides[0], sides[0]) == ""


# What is said


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcode 🙂", "plain ünïcode 🙂"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("two\nlines\r\ttab", r"two\nlines\r\ttab"),
        ("\u202eback\u2066", r"\u202eback\u2066"),
        ("half \ud800 sign", r"half \ud800 sign"),
        ("no-break\u00a0blank\u2028line", r"no-break\xa0blank\u2028line"),
    ],
)
def test_what_does_not_print_is_escaped(text, shown):
    assert printable(text) == shown
    shown.encode()


def test_hashes_are_short_and_do_not_tell():
    assert short_hash("decode-test-17") == short_hash("decode-test-17")
    assert len(short_hash("x")) == 12
    assert short_hash("x") != short_hash("y")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A results folder, and the reference recorded from it."""
    folder = tmp_path_factory.mktemp("compare")
    fake_runs(folder / "runs", seeds=(0, 1, 2, 3), overrides=("cringe.iterations=1",))
    assert main([str(folder / "runs"), "--record", str(folder / "reference")]) == 0
    return folder


@pytest.mark.parametrize("what", ["scores.csv of cringe-s3", "report.json of judge", "counts.json of data"])
@pytest.mark.parametrize("how", ["changed", "gone"])
def test_the_gate_refuses_a_reference_that_is_not_whole(recorded, tmp_path, capsys, what, how):
    name, folder = what.split(" of ")
    shutil.copytree(recorded / "reference", tmp_path / "reference")
    assert main([str(tmp_path / "reference"), str(recorded / "runs"), "--gate"]) == 0
    path = tmp_path / "reference" / f"decode-tiny-synthetic-{folder}" / name
    if how == "gone":
        shutil.rmtree(path.parent)
    else:
        path.write_text(path.read_text() + " ")
    assert main([str(tmp_path / "reference"), str(recorded / "runs")]) == 0
    capsys.readouterr()
    code = main([str(tmp_path / "reference"), str(recorded / "runs"), "--gate"])
    said = capsys.readouterr().err
    if name == "counts.json" and how == "gone":  # nothing of this table is weighed by them
        assert (code, said) == (0, "")
    else:
        assert code == 3
        assert "must be whole for the gate" in said
        assert path.parent.name in said or "The judge's report" in said
        assert "next step" in said


def test_a_reference_is_not_recorded_into_runs(recorded, tmp_path, capsys):
    shutil.copytree(recorded / "runs", tmp_path / "runs")
    before = sorted(tmp_path.rglob("*"))
    assert main([str(tmp_path / "runs"), "--record", str(tmp_path / "runs")]) == 2
    assert "holds runs, with text in them" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
    assert main([str(tmp_path / "runs"), "--record", str(recorded / "reference")]) == 0


def test_help_names_everything(capsys):
    with pytest.raises(SystemExit) as end:
        parser().parse_args(["--help"])
    shown = capsys.readouterr().out
    assert end.value.code == 0
    for option in ("--gate", "--json", "--samples", "--no-text", "--record", "exit codes: 0 done, 1 the gate failed"):
        assert option in shown


def test_help_answers_without_torch_or_pandas():
    code = "import sys, benchmarks.compare as c; c.parser(); print('torch' in sys.modules, 'pandas' in sys.modules)"
    cwd = Path(benchmarks.__file__).parents[1]
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd).stdout == "False False\n"
    )
