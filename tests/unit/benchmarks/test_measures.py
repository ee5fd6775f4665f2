"""From the stored scores of a row to a number: every kind of cell, by hand."""

import math
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy import stats as reference

from benchmarks.measures import (
    AND_FLUENT,
    HumanRange,
    average_cell,
    collect,
    corpus_cell,
    corrected_cell,
    distinct_cell,
    human_range,
    length_cell,
    mean_cell,
    perplexity_cell,
    rate_cell,
    weights_of,
    with_fluency,
)
from benchmarks.table_inputs import ANY_DECODING, RunScores
from benchmarks.table_model import MISFIT, Cell
from evaluators.prevalence import corrected_share
from evaluators.stats import Interval

JUDGE = {"sensitivity": 0.8, "specificity": 0.9, "n": 400, "negatives": 150}


def run(seed=1, *, name="cringe", kind="method", corpus=(), decoding="beam", prompts="chat", **columns):
    """Replies to as many prompts as the longest column has; two prompts to a dialogue."""
    columns = {"tokens": 10, "nll": 30.0} | columns
    size = max(len(values) for values in columns.values() if isinstance(values, list | tuple | np.ndarray))
    index = range(size)
    scores = pd.DataFrame(
        {
            "decoding": decoding,
            "prompts": prompts,
            "uid": [f"{prompts}-{place:03}" for place in index],
            "group": [f"{prompts}-{place // 2}" for place in index],
            "reply_id": [f"r{place}" for place in index],
            **columns,
        }
    )
    return RunScores(name=name, kind=kind, seed=seed, scores=scores, ledger={}, corpus=corpus)


def joined(*runs):
    """One run with the replies of several."""
    scores = pd.concat([part.scores for part in runs])
    first = runs[0]
    return RunScores(name=first.name, kind=first.kind, seed=first.seed, scores=scores, ledger={})


def replies(*rows, **columns):
    """Replies of one seed for each of ``rows``, the values of f1."""
    return collect([run(seed, f1=row, **columns) for seed, row in enumerate(rows)], "beam", "chat", "f1")


def test_replies_are_in_the_order_of_their_prompts():
    shuffled = run(2, f1=[0.1, 0.2, 0.3])
    shuffled = RunScores(name="cringe", kind="method", seed=2, scores=shuffled.scores.iloc[[2, 0, 1]], ledger={})
    found = collect([run(1, f1=[0.4, 0.5, 0.6]), shuffled], "beam", "chat", "f1")
    assert found.seeds == (1, 2)
    assert found.uids == ["chat-000", "chat-001", "chat-002"]
    assert found.groups == ["chat-0", "chat-0", "chat-1"]
    assert found.matrix("f1").tolist() == [[0.4, 0.5, 0.6], [0.1, 0.2, 0.3]]
    assert found.texts.tolist() == [["r0", "r1", "r2"]] * 2


def test_replies_that_were_not_decoded_stand_in_for_every_decoding():
    gold = run(decoding=ANY_DECODING, f1=[1.0])
    assert collect([gold], "beam", "chat", "f1").matrix("f1").tolist() == [[1.0]]
    both = joined(gold, run(f1=[0.5]))
    assert collect([both], "beam", "chat", "f1").matrix("f1").tolist() == [[0.5]]
    assert collect([both], "greedy", "chat", "f1").matrix("f1").tolist() == [[1.0]]


def test_nothing_there_is_none():
    empty = RunScores(name="cringe", kind="method", seed=1, scores=run(f1=[0.5]).scores.iloc[:0], ledger={})
    assert collect([], "beam", "chat") is None
    assert collect([empty], "beam", "chat") is None
    assert collect([run(f1=[0.5])], "greedy", "chat") is None
    assert collect([run(f1=[0.5])], "beam", "decode") is None
    assert collect([run(f1=[0.5])], "beam", "chat", "coherent") is None
    assert collect([run(f1=[math.nan])], "beam", "chat", "f1") is None


def test_a_seed_without_the_metric_is_left_out():
    found = collect(
        [run(1, f1=[0.5, 0.5]), run(2, f1=[math.nan, math.nan]), run(3, f1=[0.1, 0.1])], "beam", "chat", "f1"
    )
    assert found.seeds == (1, 3)


@pytest.mark.parametrize("metric", ["f1", "nll", "tokens"])
def test_nan_is_refused_and_named(metric):
    broken = run(7, f1=[0.5, 0.5, 0.5], nll=[30.0, 30.0, 30.0], tokens=[3.0, 3.0, 3.0])
    broken.scores.loc[1, metric] = math.nan
    with pytest.raises(ValueError, match=rf"^cringe, seed 7, beam, chat: {metric} is NaN for 1 of 3 replies$"):
        collect([broken], "beam", "chat", "f1")


def test_likelihood_is_never_missing():
    with pytest.raises(ValueError, match="nll is NaN for 2 of 2"):
        collect([run(f1=[0.5, 0.5], nll=math.nan)], "beam", "chat")


def test_prompts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"seed 2, beam, chat: other prompts than with seed 1 \(3, 2\)"):
        collect([run(1, f1=[0.5] * 2), run(2, f1=[0.5] * 3)], "beam", "chat", "f1")
    with pytest.raises(ValueError, match="the prompt 'chat-000' is scored twice"):
        collect([joined(run(f1=[0.5]), run(f1=[0.5]))], "beam", "chat", "f1")


def gold(prompts, rates, tokens=10):
    return run(
        0,
        name="gold",
        kind="ceiling",
        decoding=ANY_DECODING,
        prompts=prompts,
        tokens=tokens,
        nll=np.asarray(rates, dtype=float) * tokens,
    )


def test_human_range_is_of_the_likelihood_a_token_of_replies_to_the_same_prompts():
    found = human_range([joined(gold("decode", np.arange(101), tokens=4), gold("chat", [900.0] * 50))], "decode")
    assert found == HumanRange(pytest.approx(2.5), pytest.approx(97.5), ("decode",))


def test_human_range_falls_back_on_all_other_prompts():
    both = joined(gold("chat", np.arange(0, 101, 2)), gold("stories", np.arange(1, 101, 2)))
    assert human_range([both], "decode") == HumanRange(pytest.approx(2.5), pytest.approx(97.5), ("chat", "stories"))
    assert human_range([], "decode") is None
    empty = RunScores(name="gold", kind="ceiling", seed=0, scores=both.scores.iloc[:0], ledger={})
    assert human_range([empty], "decode") is None


def test_fluent_is_within_the_human_range_and_liked_by_the_judge():
    before = run(
        coherent=[1.0, 1.0, 1.0, 1.0, 0.0, math.nan],
        nll=[20.0, 40.0, 19.9, 40.1, 30.0, 30.0],
    )
    after = with_fluency(before, "coherent", HumanRange(2.0, 4.0, ("chat",)))
    found = after.scores["coherent" + AND_FLUENT].tolist()
    assert found[:5] == [1.0, 1.0, 0.0, 0.0, 0.0]
    assert math.isnan(found[5])
    assert "coherent" + AND_FLUENT not in before.scores
    assert with_fluency(before, "safe", HumanRange(2.0, 4.0, ("chat",))) is before


def test_mean_in_percent():
    cell = mean_cell(replies([0.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]), "f1")
    assert cell.value == pytest.approx(37.5)
    assert 0 < cell.low < 37.5 < cell.high < 100
    assert (cell.n, cell.seeds) == (4, 2)
    assert mean_cell(None, "f1") == Cell()


def test_equal_replies_are_one_draw():
    values = [float(index % 4 < 2) for index in range(60)]
    apart = mean_cell(replies(values), "f1")
    same = mean_cell(replies(values, reply_id=["good" if value else "bad" for value in values]), "f1")
    assert same.value == apart.value
    assert same.high - same.low > 2 * (apart.high - apart.low)


def test_equal_replies_are_one_draw_of_likelihood_and_length_too():
    tokens, nats = [5, 5, 9, 9] * 15, [10.0, 10.0, 27.0, 27.0] * 15
    apart = collect([run(tokens=tokens, nll=nats)], "beam", "chat")
    same = collect([run(tokens=tokens, nll=nats, reply_id=[f"of {size}" for size in tokens])], "beam", "chat")
    for cell in (lambda found: rate_cell(found, "nll", "tokens"), length_cell):
        one, other = cell(apart), cell(same)
        assert one.value == other.value
        assert other.high - other.low > 2 * (one.high - one.low)
        assert one.low < one.value < one.high


def test_the_gold_replies_likelihood_does_not_depend_on_what_was_replied():
    gold = {"gold_nll": [10.0, 10.0, 27.0, 27.0] * 15, "gold_tokens": [5, 5, 9, 9] * 15}
    apart = collect([run(**gold)], "beam", "chat", "gold_nll")
    same = collect([run(**gold, reply_id=["good", "good", "bad", "bad"] * 15)], "beam", "chat", "gold_nll")
    assert perplexity_cell(apart) == perplexity_cell(same)


def test_average_is_weighted():
    small = collect([run(prompts="a", f1=[1.0] * 4)], "beam", "a", "f1")
    large = collect([run(prompts="b", f1=[0.0, 1.0] * 8)], "beam", "b", "f1")
    cell = average_cell([small, large], [300.0, 100.0], "f1")
    assert cell.value == pytest.approx(100 * (0.75 * 1 + 0.25 * 0.5))
    assert (cell.n, cell.seeds) == (20, 1)
    assert cell.low < cell.value < cell.high <= 100


def test_no_average_where_a_set_or_a_seed_is_missing():
    sets = {name: [run(seed, prompts=name, f1=[0.5, 0.6]) for seed in (1, 2)] for name in ("a", "b")}
    whole = [collect(sets[name], "beam", name, "f1") for name in ("a", "b")]
    assert average_cell(whole, [1.0, 1.0], "f1").seeds == 2
    assert average_cell([whole[0], None], [1.0, 1.0], "f1") == Cell()
    fewer = collect(sets["b"][:1], "beam", "b", "f1")
    assert average_cell([whole[0], fewer], [1.0, 1.0], "f1") == Cell()


def test_weights_are_the_sizes_in_the_data():
    counts = {"fits valid examples": 30, "fits test examples": 50, "fits valid": 700}
    assert weights_of(counts, "fits", ("valid", "test")) == [30.0, 50.0]
    assert weights_of(counts, "fits", ("valid", "unseen")) == [1.0, 1.0]
    assert weights_of({}, "fits", ("valid",)) == [1.0]


def test_rate_is_a_sum_over_a_sum():
    found = collect([run(tokens=[1, 9], nll=[5.0, 9.0]), run(2, tokens=[1, 4], nll=[4.0, 6.0])], "beam", "chat")
    assert rate_cell(found, "nll", "tokens").value == pytest.approx((14 / 10 + 10 / 5) / 2)
    assert rate_cell(None, "nll", "tokens") == Cell()


def perplexity(*seeds):
    """Of gold replies with (nll, tokens), a list of them for each seed."""
    runs = [
        run(seed, gold_nll=[nll for nll, _ in pairs], gold_tokens=[tokens for _, tokens in pairs])
        for seed, pairs in enumerate(seeds)
    ]
    return perplexity_cell(collect(runs, "beam", "chat", "gold_nll"))


def test_perplexity_is_exp_of_the_ratio():
    one = perplexity([(2.0, 1), (4.0, 2), (12.0, 6), (3.0, 2)])
    assert one.value == pytest.approx(math.exp(21 / 11))
    assert 1 < one.low < one.value < one.high
    two = perplexity([(2.0, 1), (2.0, 1), (2.0, 1)], [(4.0, 1), (4.0, 1), (4.0, 1)])
    assert two.value == pytest.approx(math.exp(3))
    assert two.value / two.low == pytest.approx(two.high / two.value)
    assert perplexity_cell(None) == Cell()


def test_perplexity_of_a_model_that_went_astray_is_a_number():
    cell = perplexity([(1e7, 1), (1e7, 1), (2e7, 1)])
    assert all(math.isfinite(value) for value in (cell.value, cell.low, cell.high))
    assert cell.value > 1e300


def test_perplexity_of_one_reply_has_no_interval():
    cell = perplexity([(2.0, 1)])
    assert (cell.value, cell.low, cell.high) == (pytest.approx(math.exp(2)), None, None)


def test_length_is_in_tokens():
    cell = length_cell(collect([run(tokens=[4, 6, 20])], "beam", "chat"))
    assert cell.value == pytest.approx(10)
    assert length_cell(None) == Cell()


def test_distinct_replies_are_counted_within_a_seed():
    # The same words of two seeds are no repetition: 2 of 4 and 4 of 4.
    runs = [run(1, reply_id=["a", "b", "a", "b"]), run(2, reply_id=["a", "b", "c", "d"])]
    cell = distinct_cell(collect(runs, "beam", "chat"))
    assert (cell.value, cell.low, cell.n, cell.seeds) == (75.0, None, 4, 2)
    assert distinct_cell(None) == Cell()


def entry(value, *, row="", decoding="beam", prompts="chat"):
    return {"row": row, "decoding": decoding, "prompts": prompts, "distinct_1": value, "distinct_2": 0.0}


def test_corpus_numbers_are_averaged_over_seeds():
    values = (0.2, 0.3, 0.5)
    others = [entry(0.9, decoding="greedy"), entry(0.9, prompts="decode"), entry(0.9, row="gold")]
    runs = [run(seed, f1=[0.5] * 4, corpus=[*others, entry(value)]) for seed, value in enumerate(values)]
    cell = corpus_cell(runs, "beam", "chat", "distinct_1")
    low, high = reference.t.interval(0.95, 2, np.mean(values), np.std(values, ddof=1) / math.sqrt(3))
    assert (cell.value, cell.low, cell.high) == pytest.approx((100 * np.mean(values), 100 * max(0, low), 100 * high))
    assert (cell.n, cell.seeds) == (4, 3)


def test_corpus_numbers_of_references_are_their_own():
    shared = [entry(0.2, row="constant", decoding=ANY_DECODING), entry(0.6, row="gold", decoding=ANY_DECODING)]
    found = run(name="gold", kind="ceiling", decoding=ANY_DECODING, f1=[0.5] * 3, corpus=shared)
    assert corpus_cell([found], "beam", "chat", "distinct_1") == Cell(value=60.0, n=3, seeds=1)


def test_corpus_numbers_of_too_few_words_are_missing():
    runs = [run(f1=[0.5], corpus=[entry(None)])]
    assert corpus_cell(runs, "beam", "chat", "distinct_1") == Cell()
    assert corpus_cell([], "beam", "chat", "distinct_1") == Cell()
    # A share does not leave 0 to 100.
    wide = corpus_cell([run(seed, f1=[0.5], corpus=[entry(seed)]) for seed in (0, 1)], "beam", "chat", "distinct_1")
    assert (wide.low, wide.high) == (0.0, 100.0)


def share(value, low, high):
    return Cell(value=value, low=low, high=high, n=250, seeds=2)


def test_correction_takes_the_judges_errors_out():
    # A reply is called coherent with 0.9 if it is and with 0.2 if not: 0.9 p + 0.2 (1 − p) = 0.55 where p is a half.
    cell = corrected_cell(share(55.0, 50.0, 60.0), JUDGE)
    assert cell.value == pytest.approx(50.0)
    assert (cell.n, cell.seeds) == (250, 2)
    assert cell.low < 50 - 5 / 0.7 < 50 + 5 / 0.7 < cell.high
    # Coherent texts are 250 of those that the judge was tested on.
    called = Interval(0.55, 0.5, 0.6, 250, 2)
    expected = corrected_share(called, sensitivity=0.9, specificity=0.8, positives=250, negatives=150)
    assert (cell.low, cell.high) == pytest.approx((100 * expected.low, 100 * expected.high))
    assert corrected_cell(share(100.0, 99.0, 100.0), JUDGE).value == 100.0
    assert corrected_cell(share(5.0, 3.0, 8.0), JUDGE).value == 0.0
    vague = corrected_cell(share(55.0, 50.0, 60.0), JUDGE | {"n": 40, "negatives": 15})
    assert vague.low < cell.low < cell.high < vague.high


def test_the_correction_rises_with_the_share():
    values = [corrected_cell(share(value, value - 5, value + 5), JUDGE).value for value in (30.0, 50.0, 70.0)]
    assert all(first < second for first, second in pairwise(values))


@pytest.mark.parametrize(
    ("cell", "texts", "marked"),
    [
        (share(100.0, 99.0, 100.0), (400, 150), True),
        (share(2.0, 0.0, 4.0), (400, 150), True),
        # The value is cut off, one of its limits is not.
        (share(91.0, 85.0, 95.0), (400, 150), False),
        (share(19.0, 14.0, 25.0), (400, 150), False),
        # Rates of so few texts do not exclude it.
        (share(100.0, 99.0, 100.0), (12, 5), False),
        (share(55.0, 50.0, 60.0), (400, 150), False),
    ],
)
def test_what_the_judges_error_rates_cannot_explain_is_marked(cell, texts, marked):
    """It passes no more than 90 % of replies and no fewer than 20 %, if it errs as it did on human text."""
    found = corrected_cell(cell, JUDGE | {"n": texts[0], "negatives": texts[1]})
    assert found.marks == ((MISFIT,) if marked else ())
    assert ((found.low, found.high) in ((0.0, 0.0), (100.0, 100.0))) == marked


@pytest.mark.parametrize(("specificity", "said"), [(0.5, True), (0.49, False)])
def test_no_correction_for_a_judge_near_chance(specificity, said):
    cell = corrected_cell(share(55.0, 50.0, 60.0), JUDGE | {"sensitivity": 0.8, "specificity": specificity})
    assert (cell != Cell()) == said


def test_nothing_to_correct():
    assert corrected_cell(Cell(), JUDGE) == Cell()
    assert corrected_cell(Cell(value=50.0, n=1, seeds=1), JUDGE) == Cell()


def test_what_is_of_gold_replies_is_bounded_and_takes_no_reply_for_a_draw() -> None:
    """Pseudo-values may lie outside [0, 1], their mean may not; all gold replies differ, whatever was replied."""
    values = [1.6, 1.6, 0.4, 0.4] * 15
    cells = [
        mean_cell(collect([run(preference=values, reply_id=ids)], "beam", "chat", "preference"), "preference")
        for ids in ([f"{n}" for n in range(60)], ["one"] * 60)
    ]
    assert cells[0] == cells[1]
    assert (cells[0].value, cells[0].high) == (pytest.approx(100.0), 100.0)
    # 30 dialogues whose means are 0.6 above or below 1; t with 29 degrees of freedom.
    assert cells[0].low == pytest.approx(100 - 2.045 * 60 / math.sqrt(29), abs=0.05)
