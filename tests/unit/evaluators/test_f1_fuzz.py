"""Unigram F1 of any texts: bounds, symmetry, and the number that its definition gives."""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluators.f1 import f1_words, unigram_f1

PUNCTUATION = "!\"#$%&()*+,-./:;<=>?@[]\\^`{|}~_'"
characters = st.characters() | st.sampled_from([*PUNCTUATION, " ", "\t", "\n", "a", "İ", "ß", "ﬁ", "\u2028", "\ud800"])
word = st.sampled_from(["the", "A", "an", "don't", "cat", "Cat", "naïve", "a…", "...", "dog", "猫"])
texts = st.text(characters, max_size=20) | st.lists(word, max_size=8).map(" ".join)


def words(text: str) -> list[str]:
    """The paper's normalisation, a step at a time: lower case, signs to blanks, articles out, blanks joined."""
    plain = "".join(" " if character in PUNCTUATION else character for character in text.lower())
    return re.sub(r"\b(a|an|the)\b", " ", plain).split()


def defined(prediction: str, reference: str) -> Fraction:
    """The harmonic mean of precision and recall, in whole numbers."""
    ours, gold = Counter(words(prediction)), Counter(words(reference))
    common = sum(min(count, gold[one]) for one, count in ours.items())
    if not common:
        return Fraction(0)
    precision, recall = Fraction(common, sum(ours.values())), Fraction(common, sum(gold.values()))
    return 2 * precision * recall / (precision + recall)


@given(prediction=texts, references=st.lists(texts, min_size=1, max_size=4))
def test_the_definition(prediction: str, references: list[str]) -> None:
    assert f1_words(prediction) == words(prediction)
    value = unigram_f1(prediction, references)
    assert 0 <= value <= 1
    assert value == pytest.approx(float(max(defined(prediction, one) for one in references)), abs=1e-15)


@given(first=texts, second=texts, more=st.lists(texts, max_size=2))
def test_what_it_does_not_depend_on(first: str, second: str, more: list[str]) -> None:
    """Who is compared with whom, the order of references, copies of them, case, signs and the order of words."""
    value = unigram_f1(first, [second])
    assert value == unigram_f1(second, [first])
    assert unigram_f1(first, [second, *more]) == unigram_f1(first, [*more, second, second]) >= value
    assert value == unigram_f1(f" {first} .", [f"the {second}!"])
    # Again with the bare words, which hold no sign and no article any more, backwards.
    assert value == unigram_f1(" ".join(f1_words(first)[::-1]), [second]) or "…" in first or not first.isascii()


@given(text=texts, rest=texts)
def test_a_text_and_itself(text: str, rest: str) -> None:
    """All of a text that holds a word is in itself; without a word nothing is in common with anything."""
    assert unigram_f1(text, [text]) == float(bool(f1_words(text)))
    assert (unigram_f1(text, [rest]) == 0) == (not set(f1_words(text)) & set(f1_words(rest)))
