"""Does the paper's order hold: which values count, which pairs are ordered, verdicts, rounds, and what is written."""

import csv
import io
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats as reference

from benchmarks.assemble import Inputs
from benchmarks.comparisons import Scores
from benchmarks.comparisons import difference as table_difference
from benchmarks.measures import weighted_parts
from benchmarks.order import analyse
from benchmarks.order_csv import HEADER, to_csv
from benchmarks.order_scores import Scored, difference, shared
from benchmarks.order_text import NO_TABLE, NOTHING, sentences, to_markdown
from benchmarks.published import load_paper
from benchmarks.rebuild import Built
from benchmarks.table_inputs import RunScores, TableMeta
from benchmarks.table_model import COLLAPSED, ONE_SEED, UNLIKE_HUMAN
from benchmarks.tables import build_table
from benchmarks.tasks.base import Column
from evaluators.paired import holm
from tests.unit.benchmarks.test_page import JUDGE

N = 120
SECOND = {"second_name": "linear judge", "second_auc": 0.9}
COLUMNS = (Column(metric="f1", prompts="chat", title="F1"), Column(metric="safe", prompts="toxic", title="Safe"))
SAFE = {"transformer": 0.3, "unlikelihood": 0.6, "director": 0.75, "cringe_single": 0.8, "cringe": 0.95}
"""Share of safe replies: nearly the paper's order, in which DIRECTOR is safer than CRINGE with a single iteration."""


def frame(share, *, seed=0, n=N, decodings=("beam",), rate=2.5, same=False, prompts=("chat", "toxic"), f1=0.3):
    """Replies of one run; ``same``: one reply to all prompts; ``rate``: nats a token."""
    rng = np.random.default_rng([round(1000 * share), seed])
    parts = []
    for decoding in decodings:
        for name in prompts:
            judged = name == "toxic"
            verdict = (rng.random(n) < share).astype(float)
            parts.append(
                pd.DataFrame(
                    {
                        "row": "",
                        "decoding": decoding,
                        "prompts": name,
                        "uid": [f"{name}-{place:03}" for place in range(n)],
                        "group": [f"{name}-{place // 2}" for place in range(n)],
                        "reply_id": ["r" if same else f"{seed}-{share}-{place}" for place in range(n)],
                        "tokens": rng.integers(5, 20, n),
                        "f1": math.nan if judged else np.clip(rng.normal(f1, 0.05, n), 0, 1),
                        "safe": verdict if judged else math.nan,
                        "safe_by_guide": verdict if judged else math.nan,
                        "safe_by_second": 1 - verdict if judged else math.nan,
                    }
                ).assign(nll=lambda part: rate * part["tokens"] * rng.uniform(0.8, 1.2, n))
            )
    return pd.concat(parts, ignore_index=True)


def run(name, share, seed=0, after=None, kind="method", **other):
    return RunScores(name=name, kind=kind, seed=seed, round=after, scores=frame(share, seed=seed, **other), ledger={})


def gold():
    """Human replies, between 1.5 and 3.5 nats a token."""
    scores = frame(0.5, decodings=("*",), seed=9, prompts=("chat", "toxic"))
    scores["nll"] = scores["tokens"] * np.tile(np.linspace(1.5, 3.5, N), 2)
    return RunScores(name="gold", kind="ceiling", seed=0, scores=scores.assign(row="gold", safe=math.nan), ledger={})


def made(runs, *, judge=JUDGE, columns=COLUMNS, **other):
    """A table of these runs."""
    runs = [*runs, gold()]
    expected = {entry.name: entry.kind for entry in runs}
    meta = TableMeta(
        **{
            "task": "made-up",
            "title": "safety: made up",
            "columns": columns,
            "expected": expected,
            "seeds": tuple(sorted({entry.seed for entry in runs})),
            "decodings": {"beam": "as one does"},
            "paper": load_paper("safety"),
            "synthetic": False,
            "preset": "tiny",
            "judged": frozenset({"safe"}),
        }
        | other
    )
    judges = {"safe": judge} if judge else {}
    table = build_table([entry for entry in runs if entry.round is None], judges, meta)
    return Built("table", {"rows": []}, Inputs(runs, judges, meta), table, Path())


def safety(seeds=(0, 1, 2), shares=SAFE, **other):
    return [run(name, share, seed, **other) for name, share in shares.items() for seed in seeds]


def one_of(entries, **where):
    """The one entry that fits."""
    (found,) = [entry for entry in entries if all(getattr(entry, key) == value for key, value in where.items())]
    return found


def ordered(found, key, *, marked_out=False):
    (one,) = [entry for entry in found.ordered if entry.column.key == key and entry.marked_out is marked_out]
    return one


def claims(found, key):
    return next(part for part in found.claims if part.column.key == key)


def pair(found, key, first, second):
    return one_of(claims(found, key).pairs, first=first, second=second)


@pytest.fixture(scope="module")
def built():
    return made(safety(), judge=JUDGE | SECOND)


@pytest.fixture(scope="module")
def found(built):
    return analyse(built)


def test_tau_is_of_the_tables_means_against_the_papers_values(built, found):
    column = next(place for place, column in enumerate(built.table.columns) if column.key == "safe@toxic")
    ours = [row.cells[column].value for row in built.table.sections[0].rows if row.name in SAFE]
    paper = [built.inputs.meta.paper.lookup(name, "safe", "toxic").value for name in SAFE]
    one = ordered(found, "safe@toxic")
    assert one.names == tuple(SAFE)
    assert one.found.tau == pytest.approx(reference.kendalltau(ours, paper).statistic)
    assert one.found.tau == pytest.approx(0.8)
    assert one.found.low <= one.found.tau <= one.found.high
    assert one.sure == ("second_hand",) * 5
    assert (one.found.seeds, one.found.n, one.marked, one.unknown, one.without) == (3, N, (), (), ())


def test_stricter_columns_are_held_against_the_papers_judged_values(found):
    keys = [one.column.key for one in found.ordered]
    assert keys == ["f1@chat", *(f"safe{end}@toxic" for end in ("", "_and_fluent", "_by_guide", "_by_second"))]
    assert ordered(found, "safe_by_guide@toxic").found.tau == ordered(found, "safe@toxic").found.tau
    assert ordered(found, "safe_by_second@toxic").found.tau == -ordered(found, "safe@toxic").found.tau
    assert [part.column.key for part in found.claims] == ["f1@chat", "safe@toxic", "safe_and_fluent@toxic"]


def test_a_pairs_verdict(found):
    held = pair(found, "safe@toxic", "cringe", "transformer")
    assert held.paper[0].value - held.paper[1].value == pytest.approx(99.9 - 59.4)
    assert held.value > 40
    assert held.low > 0
    assert held.verdict == "holds"
    turned = pair(found, "safe@toxic", "director", "cringe_single")  # 95.2 and 94.5 in the paper
    assert turned.value < 0
    assert turned.verdict == "undecided"
    assert sum(claims(found, "safe@toxic").counts(marked=True).values()) == 10


def test_pairs_by_themselves_are_counted_before_the_correction(found):
    part = claims(found, "safe@toxic")
    near = part.pairs[0]._replace(value=5.0, p=0.01, p_holm=0.3)
    back = part.pairs[1]._replace(value=-5.0, p=0.02, p_holm=0.4, marks=("collapsed",))
    some = part._replace(pairs=(near, back))
    assert some.counts(marked=True) == {"holds": 0, "reversed": 0, "undecided": 2}
    assert some.uncorrected(marked=True) == {"holds": 1, "reversed": 1}
    assert some.uncorrected(marked=False) == {"holds": 1, "reversed": 0}


def test_a_pair_is_reversed_where_ours_says_so():
    found = analyse(made(safety(shares=SAFE | {"transformer": 0.95, "cringe": 0.4})))
    assert pair(found, "safe@toxic", "cringe", "transformer").verdict == "reversed"


def test_differences_are_those_of_the_table_and_holm_goes_over_a_column(built, found):
    meta, scored = built.inputs.meta, Scored(built)
    by_name = {name: [run for run in built.inputs.runs if run.name == name] for name in SAFE}
    parts = {name: weighted_parts(runs, "beam", "safe@toxic", meta) for name, runs in by_name.items()}
    sides = {name: Scores("safe", (part[0].replies,), (1.0,), True) for name, part in parts.items()}
    ours = claims(found, "safe@toxic").pairs
    for entry in ours:
        want = table_difference(sides[entry.first], sides[entry.second])
        got = difference(
            shared([scored.answers((name, None), "beam", "safe@toxic") for name in (entry.first, entry.second)]),
            proportion=True,
        )
        assert got == pytest.approx(want)
        assert (entry.value, entry.p) == pytest.approx((100 * want.mean, want.p))
    adjusted = holm({str(place): entry.p for place, entry in enumerate(ours)})
    assert [entry.p_holm for entry in ours] == pytest.approx(list(adjusted.values()))


def test_values_read_off_a_figure_order_only_what_is_further_apart():
    # F1: director 16.4 (S), cringe 16.6 (S), cringe_single 16.5 (S); sigmoid_only 16.5 (F), director_shared 16.2 (F).
    names = ("director", "cringe_single", "cringe", "sigmoid_only", "director_shared", "reranker")
    found = analyse(made(safety(shares=dict.fromkeys(names, 0.5) | {"reranker": 0.7})))
    kept = {frozenset((entry.first, entry.second)) for entry in claims(found, "f1@chat").pairs}
    assert frozenset(("director", "cringe")) in kept  # 0.2 apart, both from the table
    assert frozenset(("cringe", "director_shared")) in kept  # 0.4 apart, one from a figure
    assert frozenset(("cringe", "sigmoid_only")) not in kept  # 0.1
    assert frozenset(("cringe_single", "sigmoid_only")) not in kept  # equal
    assert frozenset(("sigmoid_only", "director_shared")) not in kept  # 0.3
    assert frozenset(("director", "reranker")) in kept  # 1.1
    assert claims(found, "f1@chat").unordered == 15 - len(kept) == 6


def test_what_the_paper_does_not_have_and_what_has_no_scores_is_left_out_and_named():
    runs = [*safety(), *(run("cringe_extra", 0.9, seed) for seed in (0, 1, 2))]
    runs.append(run("backbone", 0.2, 0, kind="backbone"))
    expected = dict.fromkeys((*SAFE, "reranker", "cringe_extra"), "method") | {"backbone": "backbone"}
    one = ordered(analyse(made(runs, expected=expected | {"gold": "ceiling"})), "safe@toxic")
    assert one.names == tuple(SAFE)
    assert one.unknown == ("cringe_extra",)
    assert one.without == ("reranker",)


def test_two_methods_are_a_pair_and_no_order():
    found = analyse(made(safety(shares={"transformer": 0.3, "cringe": 0.95})))
    assert (found.ordered, found.judges) == ((), ())
    assert pair(found, "safe@toxic", "cringe", "transformer").verdict == "holds"


def test_marked_methods_are_no_evidence():
    runs = [entry for entry in safety() if entry.name != "cringe"]
    runs += [run("cringe", 0.95, seed, same=True) for seed in (0, 1, 2)]
    built = made(runs)
    found = analyse(built)
    everything, sound = (ordered(found, "safe@toxic", marked_out=out) for out in (False, True))
    assert everything.marked == sound.marked == ("cringe",)
    assert "cringe" in everything.names
    assert "cringe" not in sound.names
    assert pair(found, "safe@toxic", "cringe", "transformer").marks == (COLLAPSED,)
    counts = claims(found, "safe@toxic")
    assert sum(counts.counts(marked=True).values()) - sum(counts.counts(marked=False).values()) == 4
    text = to_markdown(built, found)
    assert "5, 1 marked: no evidence" in text
    assert "4, unmarked" in text
    assert "no evidence: 1 of them are marked" in " ".join(text.split())


def test_one_seed_in_every_row_marks_no_row_by_itself():
    built = made(safety(seeds=(0,)))
    found = analyse(built)
    one = ordered(found, "safe@toxic")
    assert (one.marked, one.found.seeds) == ((), 1)
    assert "covers no other seeds" in to_markdown(built, found)
    mixed = analyse(made([entry for entry in safety(seeds=(0, 1)) if (entry.name, entry.seed) != ("director", 1)]))
    assert ordered(mixed, "safe@toxic").marked == ("director",)
    assert ordered(mixed, "safe@toxic").found.seeds == 1
    assert ordered(mixed, "safe@toxic", marked_out=True).found.seeds == 2
    assert pair(mixed, "safe@toxic", "director", "transformer").marks == (ONE_SEED,)


def test_a_weighted_average_of_several_sets_of_prompts():
    names = ("transformer", "reranker", "director", "cringe")
    sets = ("valid", "test", "test_unseen")
    splits = (Column(metric="f1", prompts=name, title=f"F1 ({name})") for name in sets)
    columns = (*splits, Column(metric="f1", prompts="average", title="F1 average", over=sets))
    runs = [
        run(name, 0.5, seed, prompts=sets, f1=0.2 + 0.1 * place) for place, name in enumerate(names) for seed in (0, 1)
    ]
    counts = {"made-up valid examples": 100, "made-up test examples": 300, "made-up test_unseen examples": 600}
    built = made(runs, judge=None, columns=columns, paper=load_paper("fits"), counts=counts, judged=frozenset())
    one = ordered(analyse(built), "f1@average")
    assert (one.found.tau, one.found.n) == (1, 3 * N)
    assert one.sure == ("table",) * 4
    entry = pair(analyse(built), "f1@average", "cringe", "transformer")
    cells = {row.name: row.cells[3].value for row in built.table.sections[0].rows}
    assert entry.value == pytest.approx(cells["cringe"] - cells["transformer"])


def rounds(seeds=(0, 1, 2), **last):
    """CRINGE, whose second round is safer, less likely and less diverse than its first."""
    for seed in seeds:
        yield run("cringe", 0.4, seed, 1, rate=2.0)
        yield run("cringe", 0.9, seed, **{"rate": 3.0} | last)
        yield run("cringe_single", 0.6, seed)


def test_the_last_round_against_the_one_before():
    built = made(rounds())
    steps = [step for step in analyse(built).steps if step.second == "cringe round 1"]
    assert [step.key for step in steps] == ["f1@chat", "safe@toxic", "safe_and_fluent@toxic", "nll@toxic", "distinct"]
    assert {step.first for step in steps} == {"cringe round 2"}
    safe, nll = one_of(steps, key="safe@toxic"), one_of(steps, key="nll@toxic")
    assert safe.verdict == nll.verdict == "more"
    assert safe.value == pytest.approx(safe.after - safe.before)
    frames = [entry.scores for entry in built.inputs.runs if entry.name == "cringe" and entry.round is None]
    toxic = [part[part["prompts"] == "toxic"] for part in frames]
    assert nll.after == pytest.approx(np.mean([part["nll"].sum() / part["tokens"].sum() for part in toxic]))
    assert one_of(steps, key="distinct")[6:11] == (100.0, 100.0, 0.0, None, None)
    adjusted = holm({step.key: step.p for step in steps if step.p is not None})
    assert {step.key: step.p_holm for step in steps if step.p is not None} == pytest.approx(adjusted)


def test_less_distinct_replies_are_a_t_interval_over_seeds_and_mark_the_comparison():
    runs = list(rounds())
    for place, entry in enumerate(entry for entry in runs if entry.name == "cringe" and entry.round is None):
        entry.scores.loc[: 2 * N - 40 + place, "reply_id"] = "again"
    steps = [step for step in analyse(made(runs)).steps if step.second == "cringe round 1"]
    distinct = one_of(steps, key="distinct")
    changes = [100 * (40 - place) / N - 100 for place in range(3)]
    want = reference.t.interval(0.95, 2, np.mean(changes), np.std(changes, ddof=1) / math.sqrt(3))
    assert (distinct.value, distinct.low, distinct.high) == pytest.approx((np.mean(changes), *want))
    assert distinct.p == pytest.approx(reference.ttest_1samp(changes, 0).pvalue)
    assert distinct.verdict == "less"
    assert all(step.marks == (COLLAPSED,) for step in steps)


def test_a_round_far_from_human_text_is_marked():
    steps = analyse(made(rounds(rate=6.0))).steps
    assert {step.marks for step in steps if step.first.startswith("cringe")} == {(UNLIKE_HUMAN,)}


def test_rounds_against_none_within_one_budget_and_with_one_seed():
    steps = analyse(made(rounds(seeds=(0,)))).steps
    step = one_of(steps, second="cringe_single, one budget", key="safe@toxic")
    assert (step.first, step.verdict, step.seeds) == ("cringe", "more", 1)
    distinct = one_of(steps, second="cringe_single, one budget", key="distinct")
    assert (distinct.low, distinct.high, distinct.p, distinct.verdict) == (None, None, None, "undecided")


def test_the_judge_and_the_others(found):
    guide, second = found.judges
    assert (guide.against, second.against) == ("by guide %", "second judge %")
    assert (guide.found.tau, guide.found.low, guide.found.high) == (1, 1, 1)  # the same verdicts in every draw
    assert (second.found.tau, second.found.high) == (-1, -1)


@pytest.mark.parametrize("decodings", [("beam",), ("beam", "nucleus")])
def test_without_a_paper_or_a_judge(decodings):
    columns = COLUMNS[:1]
    several = dict.fromkeys(decodings, "as one does")
    runs = [
        run(name, 0.5, 0, prompts=("chat",), decodings=decodings, after=after)
        for name, after in (("transformer", None), ("cringe", None), ("cringe", 1))
    ]
    built = made(runs, judge=None, columns=columns, paper=None, judged=frozenset(), decodings=several)
    found = analyse(built)
    assert (found.ordered, found.claims, found.judges) == ((), (), ())
    assert len(found.steps) == 3 * len(decodings)
    assert NO_TABLE in to_markdown(built, found)
    nothing = made(runs[:1], judge=None, columns=columns, paper=None, judged=frozenset(), decodings=several)
    assert not any(analyse(nothing))
    assert sentences(analyse(nothing)) == [NOTHING]
    assert to_csv(nothing, analyse(nothing)).count("\n") == 1


def test_it_says_that_data_are_generated():
    built = made(safety(), synthetic=True)
    text, lines = to_markdown(built, analyse(built)), to_csv(built, analyse(built))
    assert text.splitlines()[0].endswith("(generated data)")
    assert "say nothing about human dialogue" in text
    assert {line["generated_data"] for line in csv.DictReader(io.StringIO(lines))} == {"true"}


def test_a_line_a_statement(built, found):
    lines = list(csv.DictReader(io.StringIO(to_csv(built, found))))
    assert tuple(lines[0]) == HEADER
    parts = {part: [line for line in lines if line["part"] == part] for part in ("order", "pair", "rounds", "judges")}
    assert len(parts["order"]) == len(found.ordered)
    assert len(parts["pair"]) == sum(len(part.pairs) for part in found.claims)
    assert len(parts["rounds"]) == len(found.steps)
    assert len(parts["judges"]) == len(found.judges)
    counted = {(line["key"], line["verdict"]): int(line["value"]) for line in lines if line["part"] == "pairs"}
    assert counted["safe@toxic", "holds"] == claims(found, "safe@toxic").counts(marked=True)["holds"]
    held = next(line for line in parts["pair"] if (line["first"], line["second"]) == ("cringe", "transformer"))
    assert (held["paper_first"], held["certainty_first"]) == ("16.6", "second_hand")
    assert held["paper_difference"] == "0.70"


def test_every_value_of_the_paper_shows_how_sure_it_is(built, found):
    text = to_markdown(built, found)
    assert "99.9 (S), 59.4 (S)" in text
    assert "| 5 S |" in " ".join(text.split())
    assert "(S) a transcription" in " ".join(text.split())
    assert "nan" not in text.lower()
    assert max(len(line) for line in text.splitlines() if not line.startswith("|")) <= 120


def test_the_same_table_is_analysed_once(built, found):
    once = analyse(built)
    assert analyse(built) is once
    again = analyse(built._replace(table=build_table(built.inputs.runs, built.inputs.judges, built.inputs.meta)))
    assert again is not once
    assert again == once == found
