"""The area under the ROC curve as a mean over replies, against scikit-learn and its own sampling variance."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from evaluators.preference import preference_values


@pytest.mark.parametrize("seed", range(5))
def test_the_mean_is_the_area(seed: int) -> None:
    rng = np.random.default_rng(seed)
    negative = (rng.random(200) < 0.3).astype(float)
    rates = np.round(rng.normal(2 + 0.5 * negative), 1)  # with ties
    assert preference_values(rates, negative).mean() == pytest.approx(roc_auc_score(negative, rates), abs=1e-12)


def test_higher_rates_of_bad_replies_are_a_preference_for_good_ones() -> None:
    assert preference_values([1.0, 2.0, 3.0, 4.0], [0, 0, 1, 1]).tolist() == [1.0] * 4
    assert preference_values([1.0, 2.0, 3.0, 4.0], [1, 1, 0, 0]).tolist() == [0.0] * 4
    assert preference_values([1.0, 1.0, 1.0], [0, 1, 1]).tolist() == [0.5] * 3


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_their_variance_is_that_of_the_area(share: float) -> None:
    """Over 3,000 samples the deviation of the area is what the values of one sample say, to 4 %."""
    rng = np.random.default_rng(0)
    areas, said = [], []
    for _ in range(3000):
        negative = (np.arange(150) < 150 * share).astype(float)
        values = preference_values(rng.normal(0.7 * negative), negative)
        areas.append(values.mean())
        said.append(values.var(ddof=1) / len(values))
    assert np.sqrt(np.mean(said)) == pytest.approx(np.std(areas), rel=0.04)


def test_without_labels_there_is_no_value() -> None:
    found = preference_values([1.0, 2.0, np.nan, 3.0], [1, 0, np.nan, 0])
    assert np.isnan(found).tolist() == [False, False, True, False]
    assert found[[0, 1, 3]].mean() == 0.0
    assert np.isnan(preference_values([1.0, 2.0], [1, 1])).all()
    assert np.isnan(preference_values([1.0, np.nan], [1, 0])).all()
    assert preference_values([], []).size == 0


def test_shapes_must_fit() -> None:
    with pytest.raises(ValueError, match=r"rates \(2,\) and labels \(3,\)"):
        preference_values([1.0, 2.0], [1, 0, 1])
