"""Unigram F1 against cases worked by hand: 2 · common / (predicted + gold)."""

import pytest

from evaluators.f1 import f1_words, unigram_f1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't!", ["don", "t"]),
        ("The cat, an owl & a dog", ["cat", "owl", "dog"]),
        ("another theatre in Athens", ["another", "theatre", "in", "athens"]),
        ("the-end a_b", ["end", "b"]),  # punctuation goes first, so that articles come free
        ("  many \t blanks\n", ["many", "blanks"]),
        ("!\"#$%&()*+,-./:;<=>?@[]\\^`{|}~_'", []),
        ("a… naïve", ["…", "naïve"]),
        ("", []),
    ],
)
def test_words(text, words):
    assert f1_words(text) == words


@pytest.mark.parametrize(
    ("prediction", "references", "expected"),
    [
        ("i like cats", ["i like cats"], 1.0),
        ("I LIKE the cats!", ["i like cats"], 1.0),
        ("don't", ["don t"], 1.0),
        ("don't", ["dont"], 0.0),
        ("don't go", ["do not go"], 2 * 1 / (3 + 3)),
        ("yes yes yes", ["yes yes no no"], 2 * 2 / (3 + 4)),  # multiset: the third yes finds no partner
        ("yes", ["yes yes yes"], 2 * 1 / (1 + 3)),
        ("i like dogs", ["we hate rain", "i like big cats"], 2 * 2 / (3 + 4)),  # the best reference counts
        ("", ["hello"], 0.0),
        ("hello", [""], 0.0),
        ("", [""], 0.0),
        ("the", ["a"], 0.0),  # nothing is left of either
    ],
)
def test_f1(prediction, references, expected):
    assert unigram_f1(prediction, references) == pytest.approx(expected, abs=1e-15)


def test_one_string_is_no_list_of_references():
    with pytest.raises(TypeError, match="not one string"):
        unigram_f1("hello", "hello")


def test_no_reference_is_an_error():
    with pytest.raises(ValueError, match="at least one reference"):
        unigram_f1("hello", [])
