"""Does a model find good human replies likelier than bad ones? What bad examples teach, before any decoding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def preference_values(rates: ArrayLike, negative: ArrayLike) -> NDArray[np.float64]:
    """One value a reply, whose mean is the area under the ROC curve, and whose variance is that of the area.

    The area is the share of pairs of a good and a bad reply in which the bad one has the higher rate; of equals half.
    A reply's placement V is its share of won pairs. The values are ``area + N / N_class · (V − area)`` with N_class the
    replies of its class: the mean over all N is the area, and their sample variance over N, that of DeLong et al. 1988,
    "Comparing the areas under two or more correlated ROC curves", to first order. So areas of models that read the same
    replies can be compared like other means over prompts. A single value may lie outside [0, 1].

    Args:
        rates: (N,), such as nats a token of each reply; NaN where nothing was measured.
        negative: (N,), 1 for a bad reply, 0 for a good one, NaN for one without a label.

    Returns:
        (N,) float64; all NaN where a class is missing or a rate of a labelled reply is NaN, and NaN for replies without
        a label.

    Raises:
        ValueError: the shapes are not one and the same (N,).
    """
    rate, label = np.asarray(rates, dtype=np.float64), np.asarray(negative, dtype=np.float64)
    if rate.ndim != 1 or rate.shape != label.shape:
        raise ValueError(f"rates {rate.shape} and labels {label.shape} must both be (N,)")
    values = np.full(rate.shape, np.nan)
    bad, good = np.flatnonzero(label == 1), np.flatnonzero(label == 0)
    labelled = np.concatenate([bad, good])
    if not len(bad) or not len(good) or np.isnan(rate[labelled]).any():
        return values
    placed = np.empty(rate.shape)
    placed[bad] = _share_below(np.sort(rate[good]), rate[bad])
    placed[good] = 1 - _share_below(np.sort(rate[bad]), rate[good])
    area = placed[bad].mean()
    for part in (bad, good):
        values[part] = area + len(labelled) / len(part) * (placed[part] - area)
    return values


def _share_below(ordered: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each value, the share of the ordered ones that are below it; equal ones count half."""
    below, up_to = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    share: NDArray[np.float64] = (below + up_to) / (2 * len(ordered))
    return share
