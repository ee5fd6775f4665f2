"""The descriptions of metrics hold together, and can be had without torch."""

import dataclasses
import subprocess
import sys

import pytest

from evaluators.diversity import DISTINCT_TOKENS
from evaluators.metrics import METRICS


def test_the_names():
    assert set(METRICS) == {
        *("f1", "safe", "coherent", "liked", "preference"),
        *("repetition_4", "context_repetition_4", "perplexity", "distinct_1", "distinct_2"),
    }
    assert all(metric.name == name for name, metric in METRICS.items())
    titles = [metric.title for metric in METRICS.values()]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))
def test_one_metric(metric):
    """Judged ones are shares of replies in percent; shares are shown times 100, others as they are."""
    assert metric.sentence.endswith(".")
    assert metric.sentence[0].isupper()
    assert metric.scale == (1 if metric.aggregate == "perplexity" else 100)
    assert metric.digits == 1
    assert metric.proportion != metric.of_gold
    if metric.judged:
        assert (metric.unit, metric.aggregate, metric.higher_is_better) == ("%", "mean", True)


def test_which_are_special():
    def having(**fields):
        return {name for name, m in METRICS.items() if all(getattr(m, key) == value for key, value in fields.items())}

    assert having(judged=True) == {"safe", "coherent", "liked"}
    assert having(higher_is_better=False) == {"repetition_4", "context_repetition_4", "perplexity"}
    assert having(aggregate="perplexity") == {"perplexity"}
    assert having(aggregate="corpus") == {"distinct_1", "distinct_2"}
    assert having(of_gold=True) == {"perplexity", "preference"}
    assert having(unit="×100") == {"f1", "preference", "distinct_1", "distinct_2"}
    assert all(f"{DISTINCT_TOKENS:,}" in METRICS[name].sentence for name in ("distinct_1", "distinct_2"))


def test_nobody_changes_them():
    with pytest.raises(TypeError):
        METRICS["f1"] = METRICS["safe"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        METRICS["f1"].digits = 2


def test_no_torch():
    """A report is written without it."""
    code = "import sys\nimport evaluators.metrics, evaluators.repetition\nprint('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"
