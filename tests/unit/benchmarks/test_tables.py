"""Tables from made-up scores: right numbers, honest gaps, stable bytes."""

import csv
import io
import json
import math
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmarks.latex import to_latex
from benchmarks.published import load_paper
from benchmarks.table_model import EXPLAINED, MISFIT
from benchmarks.table_text import NO_DATA, number, to_csv, to_json, to_markdown
from benchmarks.tables import ANY_DECODING, RunScores, TableMeta, build_table
from benchmarks.tasks.base import Column

N = 40
JUDGE = {
    "name": "small judge",
    "accuracy": 0.8123,
    "sensitivity": 0.8,
    "specificity": 0.9,
    "brier": 0.1416,
    "auc": {"value": 0.85, "low": 0.8, "high": 0.89, "n": 400},
    "reads": "own_turns",
    "other_view": "response",
    "other_view_auc": 0.75,
    "second_name": "bag of words",
    "second_auc": 0.72,
    "threshold": 0.5,
    "n": 400,
    "negatives": 180,
    "weak": False,
}
F1 = (Column(metric="f1", prompts="chat", title="F1"),)
FLUENT, GUIDE = "coherent_and_fluent@decode", "coherent_by_guide@decode"
AND_FLUENT = "Coherent and fluent %"
SCORES = ["F1 ×100", "coherent %", AND_FLUENT, "nll/token", "distinct %"]
JUDGES = ["by guide %", "corrected %", "other view %", "second judge %"]
QUALITY = ["tokens", "Rep-4 %", "Context rep-4 %", "Distinct-1 ×100", "Distinct-2 ×100", "Perplexity"]
CSV_HEADER = (
    "table,decoding,row,kind,column,value,low,high,n,seeds,paper,certainty,marks,generated_data,"
    "baseline,p,p_holm,rank,ties_with_best"
)


def frame(*, decodings=("beam", "greedy"), f1=0.2, coherent=0.5, nll=3.0, distinct=N, n=N, perplexity=20.0):
    """Replies to two sets of prompts, two to a dialogue; every second scores double, every other nothing."""
    rows = []
    for decoding in decodings:
        for prompts in ("chat", "decode"):
            for index in range(n):
                alternating = 2 * (index % 2)
                chat = prompts == "chat"
                rows.append(
                    {
                        "decoding": decoding,
                        "prompts": prompts,
                        "uid": f"{prompts}-{index:03}",
                        "group": f"{prompts}-{index // 2}",
                        "reply_id": f"r{index % distinct}",
                        "tokens": 10,
                        "nll": 10 * (nll + (alternating - 1) * 0.5),
                        "f1": f1 if chat else math.nan,
                        "coherent": math.nan if chat else coherent * alternating,
                        "coherent_by_guide": math.nan if chat else 1.0,
                        "coherent_other_view": math.nan if chat else float(index % 4 > 0),
                        "coherent_by_second": math.nan if chat else 0.0,
                        "repetition_4": 0.1,
                        "context_repetition_4": 0.3 * alternating,
                        "gold_nll": 10 * math.log(perplexity) if chat else math.nan,
                        "gold_tokens": 10.0 if chat else math.nan,
                    }
                )
    return pd.DataFrame(rows)


def run(name, kind="method", seed=1, ledger=None, **scores):
    found = frame(**scores)
    trained = kind in ("backbone", "method")
    corpus = [
        {"row": "" if trained else name, "decoding": decoding, "prompts": prompts, "distinct_1": 0.3, "distinct_2": 0.6}
        for decoding, prompts in sorted(set(zip(found["decoding"], found["prompts"], strict=True)))
    ]
    if not trained:
        found[["gold_nll", "gold_tokens"]] = math.nan
    return RunScores(name=name, kind=kind, seed=seed, scores=found, ledger=ledger or {}, corpus=corpus)


def gold(seed=1, **other):
    return run("gold", "ceiling", seed, **({"decodings": (ANY_DECODING,), "f1": 1.0} | other))


def meta(*methods, seeds=(1,), **other):
    values = {
        "task": "decode",
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
        "judged": frozenset({"coherent"}),
    }
    return TableMeta(**(values | other))


def build(*runs, judge=None, ceiling=None, **other):
    names = [entry.name for entry in runs if entry.kind == "method"]
    judges = {"coherent": JUDGE | (judge or {})}
    return build_table([*runs, ceiling or gold()], judges, meta(*dict.fromkeys(names), **other))


def row(table, name, section=0):
    return next(entry for entry in table.sections[section].rows if entry.name == name)


def cell(table, name, key, section=0):
    place = next(place for place, column in enumerate(table.columns) if column.key == key)
    return row(table, name, section).cells[place]


def column(table, key):
    return next(entry for entry in table.columns if entry.key == key)


def line(table, name):
    return next(text for text in to_markdown(table).splitlines() if text.startswith(f"| {name} "))


def flat(table):
    """The Markdown without its line breaks."""
    return " ".join(to_markdown(table).split())


def grids(table):
    """The Markdown's grids: texts by row, then by column. The paper's column is named after the one beside it."""
    found = []
    for part in to_markdown(table).split("\n\n"):
        if part.startswith("|"):
            head, _, *lines = [
                [text.strip() for text in re.split(r"(?<!\\)\|", entry)[1:-1]] for entry in part.splitlines()
            ]
            head = [f"{head[place - 1]} paper" if title == "paper" else title for place, title in enumerate(head)]
            found.append({texts[0]: dict(zip(head[1:], texts[1:], strict=True)) for texts in lines})
    return found


def difference_lines(table):
    return [entry for entry in csv.DictReader(io.StringIO(to_csv(table))) if entry["table"] == "differences"]


def csv_lines(table, title):
    entries = csv.DictReader(io.StringIO(to_csv(table)))
    return (entry for entry in entries if entry["column"] == title and entry["table"] == "scores")


def test_values_are_means_in_the_unit_of_the_title():
    table = build(run("cringe"))
    values = {entry.key: cell(table, "cringe", entry.key).value for entry in table.columns}
    assert values == pytest.approx(
        {
            "f1@chat": 20.0,
            "coherent@decode": 50.0,
            FLUENT: 50.0,
            # (0.5 + specificity of a coherent reply's opposite, 0.8, − 1) / (0.8 + 0.9 − 1)
            "coherent_corrected@decode": 100 * 0.3 / 0.7,
            GUIDE: 100.0,
            "coherent_other_view@decode": 75.0,
            "coherent_by_second@decode": 0.0,
            "nll": 3.0,
            "distinct": 100.0,
            "length": 10.0,
            "repetition_4@decode": 10.0,
            "context_repetition_4@decode": 30.0,
            "distinct_1@decode": 30.0,
            "distinct_2@decode": 60.0,
            "perplexity@chat": 20.0,
        }
    )
    coherent = cell(table, "cringe", "coherent@decode")
    assert 0 < coherent.low < 50 < coherent.high < 100
    assert (coherent.n, coherent.seeds) == (N, 1)


def test_a_section_has_three_grids_and_the_differences():
    table = build(run("transformer"), run("cringe"))
    found = grids(table)
    assert len(found) == 2 * 4
    scores, judges, quality, differences = found[:4]
    assert list(scores["cringe"]) == [
        "F1 ×100",
        "F1 ×100 paper",
        "coherent %",
        "coherent % paper",
        *SCORES[2:],
        "marks",
    ]
    assert list(judges["cringe"]) == ["coherent %", *JUDGES], "the judge's own verdict stands beside the guide's"
    assert judges["cringe"]["coherent %"] == scores["cringe"]["coherent %"]
    assert list(quality["cringe"]) == QUALITY
    assert list(scores) == list(judges) == list(quality) == ["transformer", "cringe", "gold"]
    assert list(differences) == ["transformer", "cringe"]
    assert list(differences["cringe"]) == [f"{AND_FLUENT} − transformer", "p", "p (Holm)", "rank"]
    # The paper decodes with beam search alone.
    assert list(found[4]["cringe"]) == [*SCORES, "marks"]
    groups = {group: [entry.title for entry in table.columns if entry.group == group] for group in ("scores", "judges")}
    assert groups == {"scores": SCORES, "judges": JUDGES}


def test_without_a_judge_there_is_no_grid_of_judges():
    table = build_table([run("transformer"), run("cringe")], {}, meta("transformer", "cringe", columns=F1, paper=None))
    scores, quality, differences = grids(table)[:3]
    assert list(scores["cringe"]) == ["F1 ×100", "nll/token", "distinct %", "marks"]
    assert list(quality["cringe"]) == QUALITY
    assert list(differences["cringe"]) == ["F1 ×100 − transformer", "p", "p (Holm)", "rank"]


@pytest.mark.parametrize(("metric", "title"), [("coherent", "Coherent"), ("safe", "Safe"), ("liked", "Liked")])
def test_what_ranks_is_called_by_what_it_is_a_share_of(metric, title):
    """Whatever the task calls its column: in the grid, in the legend and over the differences."""
    runs = [run("transformer"), run("cringe"), gold()]
    runs = [
        replace(entry, scores=entry.scores.rename(columns=lambda name: name.replace("coherent", metric)))
        for entry in runs
    ]
    columns = (Column(metric=metric, prompts="decode", title="own title"),)
    table = build_table(runs, {metric: JUDGE}, meta("transformer", "cringe", columns=columns, paper=None))
    assert column(table, f"{metric}@decode").title == "own title %"
    assert column(table, f"{metric}_and_fluent@decode").title == f"{title} and fluent %"
    assert f"- {title} and fluent %: the judge's verdict, and the nll a token under the reference model is one" in flat(
        table
    )
    assert {entry.ranking for entry in table.sections} == {f"{metric}_and_fluent@decode"}
    assert {entry.ranked_by for entry in table.sections} == {f"{title} and fluent %"}


def test_what_stands_beside_a_judged_column():
    table = build(run("cringe"))
    text = flat(table)
    assert "- other view %: by a judge of the same kind that sees the reply alone." in text
    assert "- second judge %: by a bag of words." in text
    assert "- corrected %: after Rogan & Gladen 1978; assumes the judge's error rates of human text." in text
    assert "- Perplexity: Of the gold replies" in text
    assert "They are those to chat." in text
    plain = {key: value for key, value in JUDGE.items() if not key.startswith(("other", "second"))}
    table = build_table([run("cringe"), gold()], {"coherent": plain}, meta("cringe"))
    titles = [entry.title for entry in table.columns]
    assert titles == [*SCORES[:3], *JUDGES[:2], *SCORES[3:], *QUALITY]
    assert list(grids(table)[1]["cringe"]) == ["coherent %", *JUDGES[:2]]


def test_fluent_means_within_what_human_replies_are():
    # Human replies have 2.5 and 3.5 nats a token in equal numbers; these 2.7, which are not liked, and 3.7, which are.
    table = build(run("cringe", nll=3.2))
    assert cell(table, "cringe", "coherent@decode").value == 50
    assert cell(table, "cringe", FLUENT).value == 0
    assert "unlike human text" not in row(table, "cringe").marks


def test_human_replies_to_other_prompts_stand_in():
    chat = gold()
    chat = replace(chat, scores=chat.scores[chat.scores["prompts"] == "chat"])
    table = build(run("cringe"), run("other", nll=5.0), ceiling=chat)
    assert "human replies to chat have 2.50 to 3.50 nll/token; to decode there are none, or fewer than 40." in flat(
        table
    )
    assert "unlike human text" in row(table, "other").marks
    assert cell(table, "cringe", FLUENT).value == 50
    # Nothing is made up for the gold row.
    assert cell(table, "gold", "coherent@decode").value is None
    assert cell(table, "gold", "f1@chat").value == 100


def test_without_gold_replies_nothing_is_said_of_fluency():
    table = build_table([run("cringe", nll=9.0)], {"coherent": JUDGE}, meta("cringe"))
    assert "unlike human text" not in row(table, "cringe").marks
    assert cell(table, "cringe", FLUENT).value is None
    assert grids(table)[0]["cringe"][AND_FLUENT] == NO_DATA
    assert "likeness to human text is not checked, and no reply counts as fluent" in flat(table)
    assert "no scores for" not in flat(table)
    # The judge's verdict ranks in its place.
    assert table.sections[0].ranking == "coherent@decode"


def test_a_handful_of_gold_replies_says_nothing_of_what_is_human():
    """Of 39 the outermost two would be the range; 40 to other prompts stand in where these are too few."""
    table = build(run("cringe", nll=9.0), ceiling=gold(n=39))
    assert "unlike human text" not in row(table, "cringe").marks
    assert table.sections[0].ranking == "coherent@decode"
    assert "Fewer than 40 gold replies among the scores: likeness to human text is not checked" in flat(table)
    assert "unlike human text" in row(build(run("cringe", nll=9.0), ceiling=gold(n=40)), "cringe").marks
    few = gold()
    few = replace(few, scores=few.scores[few.scores["uid"] != "decode-007"])
    assert "human replies to chat have 2.50 to 3.50" in flat(build(run("cringe"), ceiling=few))


def test_a_table_has_a_column():
    with pytest.raises(ValueError, match="a table needs a column"):
        build_table([run("cringe")], {}, meta("cringe", columns=()))


def test_no_correction_for_a_judge_near_chance():
    table = build(run("cringe"), judge={"sensitivity": 0.6, "specificity": 0.69})
    assert grids(table)[1]["cringe"]["corrected %"] == NO_DATA
    text = flat(table)
    assert "n/a where sensitivity and specificity add to less than 1.3" in text
    assert "no scores for corrected" not in text
    assert cell(
        build(run("cringe"), judge={"sensitivity": 0.61, "specificity": 0.69}), "cringe", "coherent_corrected@decode"
    ).value


def test_a_corrected_share_that_is_cut_off_is_marked():
    """The judge passes every reply, though it fails 1 in 5 coherent ones of human beings."""
    table = build(run("cringe"), judge={"sensitivity": 0.9, "specificity": 0.8, "n": 4000, "negatives": 2000})
    every = run("cringe", n=400)
    every.scores["coherent"] = np.where(every.scores["prompts"] == "decode", 1.0, math.nan)
    misfit = build(every, judge={"sensitivity": 0.9, "specificity": 0.8, "n": 4000, "negatives": 2000})
    found = cell(misfit, "cringe", "coherent_corrected@decode")
    assert (found.value, found.low, found.high) == (100.0, 100.0, 100.0)
    assert MISFIT in found.marks
    marked = {entry.key for entry in misfit.columns if MISFIT in cell(misfit, "cringe", entry.key).marks}
    assert marked == {"coherent_corrected@decode"}
    assert "- rates do not fit †: the judge passes more replies, or fewer, than its error rates" in flat(misfit)
    # It says something of the correction, which does not rank, and nothing of the row.
    assert "rates do not fit" not in row(misfit, "cringe").marks
    assert "rates do not fit" not in flat(table)


def test_rows_stand_from_floor_to_ceiling_whatever_the_order_of_runs():
    runs = [run("cringe"), run("warm", "backbone"), run("fudge"), run("constant", "floor")]
    expected = {"fudge": "method", "cringe": "method", "gold": "ceiling", "constant": "floor", "warm": "backbone"}
    first = build_table([*runs, gold()], {"coherent": JUDGE}, meta(expected=expected))
    again = build_table([gold(), *reversed(runs)], {"coherent": JUDGE}, meta(expected=expected))
    assert [entry.name for entry in first.sections[0].rows] == ["constant", "warm", "fudge", "cringe", "gold"]
    assert first == again


@pytest.mark.parametrize("state", range(3))
def test_bytes_do_not_depend_on_the_order_of_rows(state):
    rng = np.random.default_rng(state)

    def noisy(name, seed):
        found = run(name, seed=seed)
        draws = np.random.default_rng([len(name), seed])
        for score in ("f1", "nll", "repetition_4", "gold_nll"):
            found.scores[score] *= 0.5 + draws.random(len(found.scores))
        return found

    runs = [noisy(name, seed) for name in ("transformer", "director", "cringe") for seed in (1, 2, 3)]
    shuffled = [
        replace(
            runs[place],
            scores=runs[place].scores.sample(frac=1, random_state=state),
            corpus=list(rng.permutation(np.array(runs[place].corpus, dtype=object))),
        )
        for place in rng.permutation(len(runs))
    ]
    expected = dict.fromkeys(("transformer", "director", "cringe"), "method") | {"gold": "ceiling"}
    one, two = (build(*rows, seeds=(1, 2, 3), expected=expected) for rows in (runs, shuffled))
    assert to_markdown(one) == to_markdown(two)
    assert to_csv(one) == to_csv(two)
    assert to_json(one) == to_json(two)


def test_the_paper_stands_beside_beam_only():
    table = build(run("cringe"), run("pacer"), run("mine"))
    assert "18.4 (S)" in line(table, "cringe")
    assert "96.5 (S)" in line(table, "cringe")
    assert "90.3 (F)" in line(table, "pacer")
    assert line(table, "mine").count(" – ") == 2
    assert all(entry.paper is None for entry in row(table, "cringe", 1).cells)
    # Neither is what the paper did not measure beside its numbers.
    assert [entry.key for entry in table.columns if entry.with_paper] == ["f1@chat", "coherent@decode"]


def test_what_the_paper_leaves_unknown_is_a_question_mark():
    paper = load_paper("contradiction")
    rows = {
        "pacer": {key: entry._replace(value=None, certainty="unknown") for key, entry in paper.rows["pacer"].items()}
    }
    assert line(build(run("pacer"), paper=replace(paper, rows=rows)), "pacer").count(" ? ") == 2


def test_a_missing_method_is_named_and_never_zero():
    table = build_table([run("cringe"), gold()], {"coherent": JUDGE}, meta("cringe", "fudge"))
    assert all(entry.value is None for entry in row(table, "fudge").cells)
    assert [grids(table)[0]["fudge"][title] for title in SCORES] == [NO_DATA] * 5
    assert list(grids(table)[1]["fudge"].values()) == [NO_DATA] * (1 + len(JUDGES))
    assert list(grids(table)[2]["fudge"].values()) == [NO_DATA] * len(QUALITY)
    assert "- fudge: no run." in to_markdown(table)


def test_a_missing_seed_is_named():
    runs = [run("cringe", seed=seed) for seed in (1, 2, 3)] + [run("fudge", seed=2)]
    table = build_table([*runs, gold()], {"coherent": JUDGE}, meta("cringe", "fudge", seeds=(1, 2, 3)))
    assert "- fudge: no run with seed 1, 3." in to_markdown(table)
    assert "one seed" in line(table, "fudge")
    assert "one seed" not in line(table, "cringe")
    assert row(table, "cringe").cells[0].seeds == 3


def test_one_seed_everywhere_is_said_once():
    text = to_markdown(build(run("cringe"), run("fudge")))
    assert text.count("one seed") == 1
    assert "one seed in every row: not ranked: a claim about this model only" in text


def test_a_decoding_without_scores_is_named():
    table = build(run("cringe", decodings=("beam",)))
    assert row(table, "cringe", 1).cells[0].value is None
    assert "- cringe, greedy: no scores for F1 ×100, coherent %, by guide %" in to_markdown(table)
    # Likelihood of the gold replies does not wait for a decoding, but it is stored with one.
    assert cell(table, "cringe", "perplexity@chat", 1).value is None


def test_a_seed_without_one_metric_is_named():
    second = run("cringe", seed=2)
    second.scores["f1"] = math.nan
    table = build(run("cringe"), second, seeds=(1, 2))
    assert row(table, "cringe").cells[0].seeds == 1
    assert "- cringe, beam: F1 ×100 rests on 1 of 2 seeds." in to_markdown(table)


def test_no_replies_are_no_data():
    empty = run("fudge")
    empty = replace(empty, scores=empty.scores.iloc[:0], corpus=[])
    table = build(run("cringe"), empty)
    assert all(entry.value is None and entry.n == 0 for entry in row(table, "fudge").cells)
    assert "- fudge, beam: no scores for F1 ×100" in to_markdown(table)
    assert row(table, "cringe") == row(build(run("cringe")), "cringe")


def test_a_table_of_nothing():
    table = build_table([], {}, meta("cringe"))
    assert "No scores; seeds: 0." in to_markdown(table)
    assert "- cringe: no run." in to_markdown(table)
    assert json.loads(to_json(table))["sections"][0]["differences"] == []


@pytest.mark.parametrize("metric", ["f1", "coherent", "coherent_by_guide", "nll", "tokens", "gold_nll", "repetition_4"])
def test_nan_among_scores_is_refused_and_named(metric):
    broken = run("cringe", seed=3)
    prompts = "chat" if metric in ("f1", "gold_nll") else "decode"
    broken.scores[metric] = broken.scores[metric].astype(float)
    broken.scores.loc[broken.scores["uid"] == f"{prompts}-004", metric] = math.nan
    with pytest.raises(ValueError, match=f"cringe, seed 3, beam, {prompts}: {metric} is NaN for 1 of {N}"):
        build(broken)


def test_nan_likelihood_is_refused():
    broken = run("cringe")
    broken.scores.loc[broken.scores["prompts"] == "decode", "nll"] = math.nan
    with pytest.raises(ValueError, match=f"decode: nll is NaN for {N} of {N}"):
        build(broken)
    human = gold()
    human.scores.loc[3, "nll"] = math.nan
    chat = replace(human, scores=human.scores[human.scores["prompts"] == "chat"])
    with pytest.raises(ValueError, match=r"gold, seed 1, .*, chat: nll is NaN for 1 of 40"):
        build(run("cringe"), ceiling=chat)


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
    table = build(run("cringe", n=1, coherent=0.0))
    coherent, nll = cell(table, "cringe", "coherent@decode"), cell(table, "cringe", "nll")
    assert (coherent.value, coherent.low) == (0.0, 0.0)
    assert 0 < coherent.high < 100
    assert (nll.low, nll.high) == (None, None)
    assert grids(table)[0]["cringe"]["nll/token"] == f"2.50 [{NO_DATA}] n=1"
    equal = row(build(run("cringe", f1=1.0)), "cringe").cells[0]
    assert 0 < equal.low < equal.high == 100


def test_the_number_of_prompts_stands_where_it_is_another():
    chat = gold()
    some = chat.scores["prompts"].eq("decode") | (chat.scores["uid"] < "chat-015")
    table = build(run("cringe"), ceiling=replace(chat, scores=chat.scores[some]))
    found = grids(table)[:3]
    assert found[0]["gold"]["F1 ×100"].endswith("] n=15")
    assert "n=" not in found[0]["gold"]["coherent %"]
    assert not any("n=" in text for grid in found for text in grid["cringe"].values())
    assert "Prompts: chat 15–40, decode 40; seeds: 1." in flat(table)


def test_the_number_of_prompts_is_said_once_a_set():
    columns = (
        *(Column(metric=metric, prompts="chat", title=metric) for metric in ("f1", "repetition_4", "perplexity")),
        Column(metric="coherent", prompts="decode", title="coherent"),
    )
    found = run("cringe")
    found = replace(found, scores=found.scores[~found.scores["uid"].isin([f"decode-{place:03}" for place in range(8)])])
    table = build_table([found], {"coherent": JUDGE}, meta("cringe", columns=columns, paper=None))
    assert "Preset: tiny. Prompts: chat 40, decode 32; seeds: 1. In brackets: 95 % intervals." in flat(table)
    # What nobody scored has no number of prompts.
    chat = replace(found, scores=found.scores[found.scores["prompts"] == "chat"])
    table = build_table([chat], {"coherent": JUDGE}, meta("cringe", columns=columns, paper=None))
    assert "Prompts: chat 40; seeds: 1." in flat(table)


def test_numbers_of_all_replies_have_no_interval():
    found = grids(build(run("cringe")))
    assert found[0]["cringe"]["distinct %"] == "100.0"
    assert (found[2]["cringe"]["Distinct-1 ×100"], found[2]["cringe"]["Distinct-2 ×100"]) == ("30.0", "60.0")


def test_a_model_that_went_astray_still_fits_its_column():
    table = build(run("cringe", perplexity=1e30))
    assert grids(table)[2]["cringe"]["Perplexity"].startswith("1.0e+30 [")
    assert float(next(csv_lines(table, "Perplexity"))["value"]) == pytest.approx(1e30)


@pytest.mark.parametrize(("distinct", "marked"), [(19, True), (20, False)])
def test_collapse_below_half(distinct, marked):
    table = build(run("cringe", distinct=distinct))
    for key in ("coherent@decode", FLUENT, "coherent_corrected@decode", GUIDE):
        assert ("collapsed" in cell(table, "cringe", key).marks) == marked
    assert "collapsed" not in cell(table, "cringe", "f1@chat").marks
    assert ("collapsed" in line(table, "cringe")) == marked


@pytest.mark.parametrize(("nll", "marked"), [(3.4, False), (3.6, True), (2.4, True)])
def test_unlike_human_text(nll, marked):
    # Human replies have 2.5 and 3.5 nats a token, in equal numbers.
    table = build(run("cringe", nll=nll), run("constant", "floor", decodings=(ANY_DECODING,), nll=1.0))
    assert ("unlike human" in line(table, "cringe")) == marked
    assert ("unlike human text" in cell(table, "cringe", FLUENT).marks) == marked
    assert "human replies to decode have 2.50 to 3.50 nll/token." in flat(table)


WEAK_AREA = {"value": 0.69, "low": 0.6, "high": 0.8, "n": 400}


@pytest.mark.parametrize("judge", [{"weak": True}, {"auc": WEAK_AREA}])
def test_a_weak_judge_marks_its_columns(judge):
    table = build(run("cringe"), judge=judge)
    marked = {entry.key for entry in table.columns if "weak judge" in cell(table, "cringe", entry.key).marks}
    # The guide is another classifier, and so are the others that say something of the same replies.
    assert marked == {"coherent@decode", FLUENT, "coherent_corrected@decode"}
    assert {entry.key for entry in table.columns if entry.weak} == marked
    assert "coherent % (weak)" in grids(table)[0]["cringe"]
    assert f"{AND_FLUENT} (weak)" in grids(table)[0]["cringe"]
    assert list(grids(table)[1]["cringe"]) == ["coherent % (weak)", JUDGES[0], "corrected % (weak)", *JUDGES[2:]]
    assert "- weak judge: not ranked" in to_markdown(table)
    assert "It is weak: what it says is not ranked." in flat(table)


@pytest.mark.parametrize(
    ("judge", "key"),
    [({"other_view_auc": 0.55}, "coherent_other_view@decode"), ({"second_auc": 0.6}, "coherent_by_second@decode")],
)
def test_another_judge_may_be_weak_alone(judge, key):
    table = build(run("cringe"), judge=judge)
    assert [entry.key for entry in table.columns if entry.weak] == [key]
    assert "It is weak" not in flat(table)


def test_a_shared_judge_marks_its_columns_and_rows():
    table = build(run("cringe"), shared_judge=True)
    assert "shared judge" in cell(table, "cringe", "coherent@decode").marks
    assert "shared judge" in cell(table, "cringe", FLUENT).marks
    assert "shared judge" not in cell(table, "cringe", "f1@chat").marks
    assert "shared judge" in line(table, "cringe")
    assert "- shared judge: not ranked" in to_markdown(table)
    assert "shared judge" not in to_markdown(build(run("cringe")))
    # The guide would say the same once more.
    assert GUIDE in {entry.key for entry in build(run("cringe")).columns}
    assert GUIDE not in {entry.key for entry in table.columns}


def test_the_judge_is_described_once():
    text = flat(build(run("cringe")))
    said = (
        "Judge of coherent: small judge; on 400 held-out human replies accuracy 81.2 % at threshold 0.50, "
        "Brier score 0.142, AUC 0.85 [0.80, 0.89]. One that sees the reply alone has AUC 0.75. "
        "A second opinion (bag of words) has AUC 0.72."
    )
    assert text.count(said) == 1
    assert "(weak)" not in text


def test_how_far_the_guide_can_be_believed():
    guide = JUDGE | {"name": "transformer on own turns", "accuracy": 0.7}
    said = "transformer on the speaker's earlier turns and the reply; on 400 held-out human replies accuracy 70.0 %"
    assert f"- Guide, which labels, steers and re-ranks: {said}" in flat(build(run("cringe"), guide=guide))
    assert "Guide, which" not in flat(build(run("cringe")))


def test_a_classifier_is_named_with_what_it_reads_in_words():
    names = {"name": "small transformer on last turn", "second_name": "linear n-gram model on response"}
    text = flat(build(run("cringe"), judge=names))
    assert "Judge of coherent: small transformer on the last turn and the reply; on 400" in text
    assert "A second opinion (linear n-gram model on the reply alone) has" in text
    assert "- second judge %: by a linear n-gram model on the reply alone." in text


def test_latex_says_nothing_of_columns_that_it_does_not_show():
    table = build(run("cringe"))
    assert "- nll/token: of the replies to decode, as are distinct, tokens and what follows them; under" in flat(table)
    assert "as are distinct" not in to_latex(table, "t")


def test_one_prompt_is_one():
    assert "F1 ×100: on 1 prompt only" in flat(build(run("cringe", n=1), ceiling=gold(n=1)))
    assert "F1 ×100: on 2 prompts only" in flat(build(run("cringe", n=2), ceiling=gold(n=2)))


def test_of_the_paper_only_what_stands_in_the_table_is_explained():
    text = flat(build(run("cringe")))
    assert "How sure the paper's value is: (T) " in text or "How sure the paper's value is: (S) " in text
    letters = set(re.findall(r"\d \(([TSFC])\)", text))
    assert letters
    assert {
        letter for letter in "TSFC" if f"({letter}) " in text.split("How sure the paper's value is: ")[1]
    } == letters
    assert "How sure" not in flat(build(run("nobody")))
    assert "paper: " not in flat(build(run("nobody")))


def test_differences_in_the_files():
    shares = {"transformer": 0.45, "cringe": 0.5}
    runs = [run(name, seed=seed, coherent=share) for name, share in shares.items() for seed in (1, 2)]
    table = build(*runs, run("fudge"), seeds=(1, 2))
    grid = grids(table)[3]
    content = json.loads(to_json(table))["sections"][0]
    lines = {entry["row"]: entry for entry in difference_lines(table) if entry["decoding"] == "beam"}
    assert (content["baseline"], content["ranked_by"], content["ranking"]) == ("transformer", AND_FLUENT, FLUENT)
    assert {name: texts["rank"] for name, texts in grid.items()} == {
        "transformer": "2 (tie)",
        "cringe": "1",
        "fudge": "–",
    }
    for entry in content["differences"]:
        texts, written = grid[entry["name"]], lines[entry["name"]]
        value = texts[f"{AND_FLUENT} − transformer"]
        assert value.split(" [")[0] == ("–" if entry["value"] is None else number(entry["value"], 1))
        assert texts["p (Holm)"] == ("–" if entry["p_holm"] is None else number(entry["p_holm"], 3))
        assert (written["baseline"], written["column"]) == ("transformer", AND_FLUENT)
        for key in ("value", "low", "high"):
            assert written[key] == number(entry[key], 4, "")
        for key in ("p", "p_holm"):
            assert written[key] == number(entry[key], 6, "")
        assert written["rank"] == ("" if entry["rank"] is None else str(entry["rank"]))
        assert written["ties_with_best"] == ("true" if entry["ties_with_best"] else "false")
        assert not any(written[key] for key in ("kind", "n", "seeds", "paper", "certainty", "marks"))
    assert float(lines["cringe"]["value"]) > 0
    assert 0 < float(lines["cringe"]["p"]) <= float(lines["cringe"]["p_holm"]) <= 1
    assert [lines[name]["rank"] for name in ("transformer", "cringe", "fudge")] == ["2", "1", ""]
    assert [name for name, entry in lines.items() if entry["ties_with_best"] == "true"] == ["transformer"]


def test_without_a_baseline_only_the_ranks_are_shown():
    shares = {"director": 0.4, "cringe": 0.5}
    runs = [run(name, seed=seed, coherent=share) for name, share in shares.items() for seed in (1, 2)]
    table = build(*runs, run("fudge"), seeds=(1, 2))
    ranks = {"director": "2 (tie)", "cringe": "1", "fudge": "–"}
    assert grids(table)[3] == {name: {f"rank by {AND_FLUENT}": rank} for name, rank in ranks.items()}
    assert json.loads(to_json(table))["sections"][0]["baseline"] == ""
    assert "no baseline" not in to_markdown(table) + to_csv(table) + to_json(table)
    for written in difference_lines(table):
        assert not any(written[key] for key in ("baseline", "value", "low", "high", "p", "p_holm"))
        assert written["column"] == AND_FLUENT
        assert written["rank"] == ranks[written["row"]].removesuffix(" (tie)").replace("–", "")
        assert written["ties_with_best"] == str(written["row"] == "director").lower()


def test_every_line_of_the_csv_has_every_field():
    spent = {"updates": 5}
    table = build(run("transformer", ledger=spent), run("cringe", ledger=spent), synthetic=True)
    head, *lines = list(csv.reader(io.StringIO(to_csv(table))))
    assert ",".join(head) == CSV_HEADER
    assert {entry[0] for entry in lines} == {"scores", "differences", "ledger"}
    assert {len(entry) for entry in lines} == {len(head)}
    assert {entry[head.index("generated_data")] for entry in lines} == {"true"}
    last = len(head) - head.index("baseline")
    assert all(entry[-last:] == [""] * last for entry in lines if entry[0] != "differences")


def test_generated_data_are_said_aloud():
    table = build(run("cringe"), synthetic=True)
    assert to_markdown(table).startswith("## contradiction avoidance (generated data)\n")
    assert json.loads(to_json(table))["synthetic"] is True
    assert {entry["generated_data"] for entry in csv.DictReader(io.StringIO(to_csv(table)))} == {"true"}
    assert "generated data" not in to_markdown(build(run("cringe")))


def test_ledgers_without_what_varies():
    spent = {
        "updates": 12000,
        "target_tokens": {"negative": 7},
        "seconds": 1.5,
        "auxiliary": {"seconds": 2.0, "updates": 3},
    }
    runs = [run("cringe", ledger=spent), run("cringe", seed=2, ledger=spent | {"updates": 12001}), run("fudge")]
    table = build(*runs, seeds=(1, 2))
    text = to_markdown(table)
    assert "| updates                 | 12,000–12,001 |   n/a |" in text
    assert text.index("updates") < text.index("target tokens, negative") < text.index("auxiliary, updates")
    assert not any("seconds" in output for output in (text, to_csv(table), to_json(table)))


def test_what_a_method_did_not_spend_is_a_dash_and_a_method_without_ledger_has_no_data():
    spent = {"updates": 5, "auxiliary": {"updates": 3}}
    table = build(run("cringe", ledger=spent), run("fudge", ledger={"updates": 5}), run("pacer"))
    text = to_markdown(table)
    assert "| updates            |      5 |     5 |   n/a |" in text
    assert "| auxiliary, updates |      3 |     – |   n/a |" in text


def test_training_comes_before_decoding_and_nothing_spent_has_no_line():
    decoding = {"updates": 0, "generated_tokens": 90, "seconds": 4.0, "peak_memory_bytes": 5}
    spent = {"generation beam": decoding, "training": {"updates": 8, "examples": 64}, "parameters": 10}
    table = build(run("cringe", ledger=spent))
    quantities = [entry.quantity for entry in table.ledger]
    assert quantities == ["training, updates", "training, examples", "generation beam, generated tokens"]


def test_the_trials_of_a_sweep_stand_in_the_ledger():
    spent = {"training": {"updates": 40, "seconds": 3.5}}
    tried = {"cringe": [spent, spent, {"training": {"updates": 30}}], "fudge": [spent, {}]}
    table = build(
        run("transformer", ledger=spent), run("cringe", ledger=spent), run("fudge", ledger=spent), trials=tried
    )
    rows = {(entry.quantity, entry.name): entry.high for entry in table.ledger if entry.quantity.startswith("sweep")}
    assert rows == {
        ("sweep, trials", "transformer"): None,
        ("sweep, trials", "cringe"): 3,
        ("sweep, trials", "fudge"): 2,
        ("sweep, updates", "transformer"): None,
        ("sweep, updates", "cringe"): 110,
        ("sweep, updates", "fudge"): None,  # one trial is not there any more
    }
    assert re.search(r"\| sweep, updates +\| +– \| +110 \| +– \|", to_markdown(table))
    assert "sweep" not in to_markdown(build(run("cringe", ledger=spent)))


def test_a_ledger_has_whole_numbers_however_large():
    table = build(run("cringe", ledger={"target_tokens": 12_345_678_901}))
    assert "12,345,678,901" in to_markdown(table)
    assert ",target tokens,12345678901,12345678901,12345678901," in to_csv(table)


def test_text_stays_in_its_cell():
    name = "a|b\n<script>*x*"
    table = build(
        run("transformer"),
        run(name),
        title="t|itle\n# no",
        judge={"name": "<b>judge</b>", "second_name": "`bag`"},
        decodings={"beam|": "<i>10</i>\n\n# beams"},
        notes=("<img> | note",),
        preset="tiny with a|b",
    )
    text = to_markdown(table)
    assert text.startswith("## t\\|itle # no\n")
    assert "| a\\|b \\<script\\>\\*x\\* |" in text
    for raw in ("<script>", "<b>", "<i>", "<img>", "`bag`", "\n# beams"):
        assert raw not in text
    for said in ("\\<b\\>judge", "\\`bag\\`", "### Decoding: beam\\|", "\\<img\\> \\| note", "tiny with a\\|b"):
        assert said in text
    # As many cells in each line as the grid has columns.
    assert all(len(texts) == len(grid["gold"]) for grid in grids(table)[:3] for texts in grid.values())
    assert [entry["row"] for entry in csv_lines(table, "F1 ×100")] == ["transformer", name, "gold"]
    assert json.loads(to_json(table))["sections"][0]["rows"][1]["name"] == name


def refuse(constant):
    raise AssertionError(f"{constant} is not JSON")


def test_files_agree_and_are_finite():
    runs = [run("transformer"), run("cringe", seed=2), run("fudge", distinct=2), run("lost", n=1, perplexity=1e300)]
    table = build(*runs, run("cringe"), seeds=(1, 2), expected=dict.fromkeys(("transformer", "nobody"), "method"))
    content = json.loads(to_json(table), parse_constant=refuse)
    assert (content["schema"], content["version"]) == ("cringe.table", 2)
    assert list(content) == sorted(content)
    assert content["marks"] == EXPLAINED
    lines = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert all(value.casefold() not in ("nan", "inf", "-inf", "none") for entry in lines for value in entry.values())
    written = {
        (entry["decoding"], entry["row"], entry["column"]): entry for entry in lines if entry["table"] == "scores"
    }
    assert len(written) == 2 * 6 * 15
    found = grids(table)
    for place, section in enumerate(content["sections"]):
        grid = dict(zip(("scores", "judges", "quality"), found[4 * place :], strict=False))
        for entry in section["rows"]:
            for head, number_of in zip(content["columns"], entry["cells"], strict=True):
                shown = grid[head["group"]][entry["name"]][head["title"]]
                assert shown.split(" ")[0] == number(number_of["value"], head["digits"])
                if head["with_interval"] and number_of["low"] is not None:
                    limits = [number(number_of[limit], head["digits"]) for limit in ("low", "high")]
                    assert f"[{', '.join(limits)}]" in shown
                theirs = written[section["decoding"], entry["name"], head["title"]]
                for key in ("value", "low", "high"):
                    if number_of[key] is None:
                        assert theirs[key] == ""
                    else:
                        assert float(theirs[key]) == pytest.approx(number_of[key], abs=1e-4, rel=1e-4)
                assert (int(theirs["n"]), int(theirs["seeds"])) == (number_of["n"], number_of["seeds"])
                assert theirs["marks"] == "; ".join(number_of["marks"])
                if number_of["paper"]:
                    assert (theirs["paper"], theirs["certainty"]) == (
                        str(number_of["paper"]["value"]),
                        number_of["paper"]["certainty"],
                    )


def test_the_first_column_gives_the_replies_where_no_judge_is():
    table = build_table([run("cringe"), run("transformer"), gold()], {}, meta("cringe", columns=F1, paper=None))
    assert "of the replies to chat" in flat(table)
    assert "paper" not in to_markdown(table)
    assert (table.sections[0].ranked_by, table.sections[0].ranking) == ("F1 ×100", "f1@chat")
    assert not any(entry.judged for entry in table.columns)
    # What human replies are like is said all the same, and who is unlike them.
    assert "human replies to chat have 2.50 to 3.50" in flat(table)


def test_own_columns_are_not_shown_twice():
    """As the task of repetition has them: plain numbers, lower being better, and numbers of all replies together."""
    columns = tuple(
        Column(metric=metric, prompts="chat", title=title)
        for metric, title in [
            ("f1", "F1"),
            ("perplexity", "Perplexity"),
            ("repetition_4", "Rep"),
            ("distinct_1", "Dist"),
        ]
    )
    table = build_table([run("cringe"), gold()], {}, meta("cringe", columns=columns, paper=None))
    scores, quality = grids(table)[:2]
    assert list(scores["cringe"]) == ["F1 ×100", "Perplexity", "Rep %", "Dist ×100", "nll/token", "distinct %", "marks"]
    assert list(quality["cringe"]) == ["tokens", "Context rep-4 %", "Distinct-2 ×100"]
    assert scores["cringe"]["Perplexity"].startswith("20.0 [")
    assert scores["cringe"]["Dist ×100"] == "30.0"
    assert scores["gold"]["Perplexity"] == NO_DATA
    better = {entry.title: entry.higher_is_better for entry in table.columns}
    assert (better["Perplexity"], better["Rep %"], better["Dist ×100"]) == (False, False, True)


def test_an_average_over_sets_is_weighted_by_their_size():
    columns = (
        Column(metric="f1", prompts="chat", title="F1, chat"),
        Column(metric="f1", prompts="decode", title="F1, decode"),
        Column(metric="f1", prompts="average", title="F1, average", over=("chat", "decode")),
    )
    found = run("cringe")
    found.scores["f1"] = np.where(found.scores["prompts"] == "chat", 0.2, 0.6)
    counts = {"fits chat examples": 100, "fits decode examples": 300}
    table = build_table([found], {}, meta("cringe", task="fits", columns=columns, counts=counts, paper=None))
    assert [entry.value for entry in row(table, "cringe").cells[:3]] == pytest.approx([20.0, 60.0, 50.0])
    assert row(table, "cringe").cells[2].n == 2 * N
    uncounted = build_table([found], {}, meta("cringe", task="fits", columns=columns, paper=None))
    assert row(uncounted, "cringe").cells[2].value == pytest.approx(40.0)
    assert "Prompts: chat 40, decode 40, average 80; seeds: 1." in flat(table)


def test_an_average_ranks_before_the_first_column():
    columns = (*F1, Column(metric="f1", prompts="average", title="F1, average", over=("decode", "chat")))
    shares = {"transformer": (0.9, 0.1), "cringe": (0.4, 0.8)}
    runs = [run(name, seed=seed) for name in shares for seed in (1, 2)]
    for entry in runs:
        chat, decode = shares[entry.name]
        entry.scores["f1"] = np.where(entry.scores["prompts"] == "chat", chat, decode)
    table = build_table(runs, {}, meta("transformer", "cringe", seeds=(1, 2), columns=columns, paper=None))
    (section, _) = table.sections
    assert (section.ranking, section.ranked_by) == ("f1@average", "F1, average ×100")
    assert {entry.name: entry.rank for entry in section.differences} == {"transformer": 2, "cringe": 1}
    assert section.differences[1].value == pytest.approx(10.0)
    # The replies that are described are those to its first set.
    assert "of the replies to decode" in flat(table)


def test_a_judged_average_is_refused():
    columns = (*F1, Column(metric="coherent", prompts="average", title="coherent", over=("chat", "decode")))
    with pytest.raises(ValueError, match="a judged column cannot be an average"):
        build_table([run("cringe"), gold()], {"coherent": JUDGE}, meta("cringe", columns=columns, paper=None))


def test_the_main_grid_fits_a_terminal():
    names = ("transformer", "unlikelihood", "cringe_single")
    table = build(*(run(name, seed=seed) for name in names for seed in (1, 2)), seeds=(1, 2))
    main = [part for part in to_markdown(table).split("\n\n") if part.startswith("|") and "marks" in part]
    assert len(main) == 2
    assert max(len(text) for part in main for text in part.splitlines()) <= 160
    prose = [text for text in to_markdown(table).splitlines() if not text.startswith("|")]
    assert max(map(len, prose)) <= 120


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (None, 1, "n/a"),
        (-0.04, 1, "0.0"),
        (-0.06, 1, "-0.1"),
        (12.34, 1, "12.3"),
        (3.0, 0, "3"),
        (999_999_999.0, 1, "999999999.0"),
        (1e9, 1, "1.0e+09"),
        (1e9, 0, "1000000000"),
    ],
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
