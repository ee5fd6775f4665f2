"""Unigram F1 against ParlAI's `F1Metric`, whose numbers the paper reports."""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from types import ModuleType

import pytest

from evaluators.f1 import f1_words, unigram_f1

pytestmark = pytest.mark.oracle

PAIRS = 5_000
EXACT = 1e-12
_TEXT = (
    "i you we like love cats dog rain no yes 2 42 3.14 another theatre Athens "
    "a an the A An THE The a's the-end an_a (the) a… «the» thé aa "
    "don't don’t I'm y'all 'tis o'clock dogs' rock'n'roll won`t ... ?! - ' _ "
    "naïve nai\u0308ve CAFÉ Straße STRASSE İstanbul ΣΑΣ дом 猫が好き नमस्ते 🙂 👩\u200d👧 a\u0301 "
    "a\u200bthe \ufeffthe a\u00adn ¿qué? “the” the\uff01 \uff21 \ufb01n x² ½"
)
WORDS = _TEXT.split()
GAPS = (
    *([" "] * 6),
    *("", "  ", "\t", "\n", " \r\n", "\x0b", "\x1c", "\x85", "\u00a0", "\u2003", "\u2028", "\u3000", "\u200b"),
    *(", ", ". ", "; ", "'", "-", "_", "—", "/", "\\"),
)
CHARACTERS = string.printable + "aAnNtThHeE '’…éßİſ\u0130\u0301\u00a0\u2028\u200d🙂猫ก"


def text(draw: random.Random) -> str:
    """Nothing, words with odd gaps between them, or characters at random."""
    kind = draw.random()
    if kind < 0.05:
        return draw.choice(("", " ", "\n", "the", "...", "a an the"))
    if kind < 0.2:
        return "".join(draw.choices(CHARACTERS, k=draw.randint(1, 40)))
    return "".join(draw.choice(WORDS) + draw.choice(GAPS) for _ in range(draw.randint(1, 14)))


def changed(original: str, draw: random.Random) -> str:
    """The same text with some of its words dropped, doubled, replaced, or in another case."""
    words: list[str] = []
    for word in original.split(" "):
        kept, title = [word], f"{word.title()}."
        variants = (kept, kept, kept, [], [word, word], [draw.choice(WORDS)], [word.upper()], [title])
        words += draw.choice(variants)
    if draw.random() < 0.3:
        draw.shuffle(words)
    return " ".join(words)


def pairs() -> list[tuple[str, list[str]]]:
    """Predictions, each with one to four references, most of which have something in common with it."""
    draw = random.Random(20221111)
    found: list[tuple[str, list[str]]] = []
    for _ in range(PAIRS):
        prediction = text(draw)
        count = draw.choice((1, 1, 2, 3, 4))
        references = [changed(prediction, draw) if draw.random() < 0.6 else text(draw) for _ in range(count)]
        found.append((prediction, references))
    return found


def test_f1_is_parlais(parlai: Callable[[str], ModuleType]) -> None:
    """F1 = 2PR / (P + R) there, 2c / (p + g) here, each the best over the references: one number for every pair."""
    metric = parlai("parlai.core.metrics").F1Metric
    cases = pairs()
    ours = [unigram_f1(prediction, references) for prediction, references in cases]
    theirs = [metric.compute(prediction, references) for prediction, references in cases]
    wrong = [
        (case, mine, other.value())
        for case, mine, other in zip(cases, ours, theirs, strict=True)
        if abs(mine - other.value()) > EXACT
    ]
    assert wrong == []
    # ParlAI's mean over examples is the sum of its metrics.
    assert sum(ours) / len(ours) == pytest.approx(sum(theirs[1:], theirs[0]).value(), abs=EXACT)


def test_pairs_tell_apart() -> None:
    """The pairs hold what they are there for: hits, misses, all between, and every kind of string."""
    cases = pairs()
    scores = [unigram_f1(prediction, references) for prediction, references in cases]
    assert sum(score == 0 for score in scores) > 500
    assert sum(score == 1 for score in scores) > 100
    assert sum(0 < score < 1 for score in scores) > 2_000
    assert len(set(scores)) > 100
    texts = [part for prediction, references in cases for part in (prediction, *references)]
    assert sum(part == "" for part in texts) > 20
    assert sum("'" in part for part in texts) > 1_000
    assert sum(not part.isascii() for part in texts) > 1_000
    assert set(string.punctuation) <= set("".join(texts))
    assert sum(len(references) > 1 for _, references in cases) > 1_000


def test_words_are_parlais(parlai: Callable[[str], ModuleType]) -> None:
    """Each word, gap and character beside articles and letters: ParlAI's normal form, split, is our list of words."""
    normal = parlai("parlai.core.metrics").normalize_answer
    for part in (*WORDS, *GAPS, *CHARACTERS):
        for whole in (part, f"a{part}the", f"an {part} b", f"{part}{part}"):
            assert f1_words(whole) == normal(whole).split(), repr(whole)
