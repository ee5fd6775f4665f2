"""Unigram F1, the generation metric of the paper's tables."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_PUNCTUATION = str.maketrans(dict.fromkeys("!\"#$%&()*+,-./:;<=>?@[]\\^`{|}~_'", " "))
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def f1_words(text: str) -> list[str]:
    """The words that F1 compares.

    Lower-case; every ASCII punctuation character becomes a space, so that "don't" is the two words "don" and "t";
    then "a", "an" and "the" are dropped. A word boundary is a regular expression's, as in the original: the "a" of
    "a…" is an article although the ellipsis is no ASCII punctuation, and the "a" of "naïve" is none.
    """
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def unigram_f1(prediction: str, references: Sequence[str]) -> float:
    """Harmonic mean of the precision and recall of words, with multiplicity, against the nearest reference.

    With c common words among p predicted and g gold ones it is 2c / (p + g). Without a common word it is 0, also
    when prediction and reference are both empty: that is what the original does.

    Args:
        prediction: the reply.
        references: one or more gold replies; the best match counts.

    Returns:
        A number in [0, 1]. Tables show it times 100.

    Raises:
        TypeError: ``references`` is one string; its characters would silently be taken for references.
        ValueError: ``references`` is empty.

    Source: `normalize_answer` and `F1Metric` of ParlAI's `parlai/core/metrics.py`, whose numbers the paper reports.
    """
    if isinstance(references, str):
        raise TypeError(f"references must be a sequence of strings, not one string; write [{references[:40]!r}]")
    if not references:
        raise ValueError("F1 needs at least one reference")
    predicted = Counter(f1_words(prediction))
    return max(_overlap(predicted, Counter(f1_words(reference))) for reference in references)


def _overlap(predicted: Counter[str], gold: Counter[str]) -> float:
    common = (predicted & gold).total()
    return 2 * common / (predicted.total() + gold.total()) if common else 0.0
