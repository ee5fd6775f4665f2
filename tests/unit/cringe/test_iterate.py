"""A model's own generations as training data: labelled, at most two of a text, balanced, seeded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from benchmarks.stages.train import OWN, with_own
from cringe.data import Example, Feedback, StratifiedSampler, Stratum, batch_shares
from cringe.generation import Reply
from cringe.iterate import COPIES, SMALLEST_CLASS, Additions, additions

MakeExample = Callable[..., Example]


class Guide:
    """Finds the word "bad" a fault; says how sure by the number behind it."""

    def __init__(self) -> None:
        self.asked: list[Example] = []

    def probabilities(self, examples: Sequence[Example]) -> list[float]:
        self.asked += examples
        return [0.9 if "bad" in example.response else 0.2 for example in examples]


def make(make_example: MakeExample, texts: Sequence[str], guide: Any = None, **options: Any) -> Additions:
    prompts = [make_example(f"p{index}", "gold", "unlabelled", "hi", "you ?") for index in range(len(texts))]
    replies = [Reply(prompt.uid, text, 3) for prompt, text in zip(prompts, texts, strict=True)]
    return additions(prompts, replies, guide or Guide(), **{"threshold": 0.5, "seed": 0, "round_": 1} | options)


def texts(good: int, bad: int) -> list[str]:
    return [f"good {index}" for index in range(good)] + [f"bad {index}" for index in range(bad)]


def test_labels_and_identity(make_example: MakeExample) -> None:
    """A reply in its prompt's dialogue, labelled by the guide, under a uid that tells round and prompt."""
    found = make(make_example, texts(20, 20), round_=3)
    assert found.labelled == len(found.examples) == 40
    assert found.positive_share == 0.5
    assert len({example.uid for example in found.examples}) == 40
    for example in found.examples:
        prompt = int(example.uid.removeprefix("own-3-p"))
        assert example.response == texts(20, 20)[prompt]
        assert example.feedback == (Feedback.NEGATIVE if "bad" in example.response else Feedback.POSITIVE)
        assert (example.context, example.own, example.group) == (("hi", "you ?"), (True, False), f"g-p{prompt}")
        assert example.evidence == ()


def test_feedback_on_parts_is_of_the_old_response(make_example: MakeExample) -> None:
    """Evidence and spans of a prompt's own response say nothing of the reply, which may be shorter than they are."""
    prompt = Example(
        uid="p",
        context=("hi",),
        own=(True,),
        response="a long and bad reply",
        feedback=Feedback.NEGATIVE,
        group="g",
        evidence=(0,),
        negative_spans=((11, 14),),
    )
    prompts = [prompt] * 40
    replies = [Reply("p", text, 2) for text in ([f"x{n}" for n in range(20)] + [f"bad{n}" for n in range(20)])]
    found = additions(prompts, replies, Guide(), threshold=0.5, seed=0, round_=1)  # type: ignore[arg-type]
    assert len(found.examples) == 40
    assert all(example.negative_spans == () and example.evidence == () for example in found.examples)


@pytest.mark.parametrize(("threshold", "positive"), [(0.2, 0), (0.21, 1), (0.9, 1), (0.91, 2)])
def test_threshold_belongs_to_negatives(threshold: float, positive: int, make_example: MakeExample) -> None:
    """0.2 and 0.9 are said: from the threshold on a reply is negative."""
    found = make(make_example, texts(1, 1), threshold=threshold)
    assert found.positive_share == positive / 2


def test_at_most_two_copies(make_example: MakeExample) -> None:
    """Of a text, case and blanks aside, the first two; empty replies never. Copies do not count as labelled."""
    guide = Guide()
    words = ["Same thing", "same  thing", "SAME THING", "", "  ", *texts(20, 20), "same thing "]
    found = make(make_example, words, guide)
    assert COPIES == 2
    assert found.labelled == len(guide.asked) == 42
    assert [example.response for example in guide.asked[:2]] == ["Same thing", "same  thing"]
    counts = Counter(" ".join(example.response.casefold().split()) for example in guide.asked)
    assert counts["same thing"] == 2
    assert max(counts.values()) == 2
    assert found.positive_share == pytest.approx(22 / 42)


@pytest.mark.parametrize(("good", "bad"), [(50, 20), (20, 50), (16, 90), (16, 16)])
def test_balance(good: int, bad: int, make_example: MakeExample) -> None:
    """As many of each as the smaller class has; all of the smaller; the share is that before balancing."""
    found = make(make_example, texts(good, bad))
    kinds = Counter(example.feedback for example in found.examples)
    assert kinds == {Feedback.POSITIVE: min(good, bad), Feedback.NEGATIVE: min(good, bad)}
    assert len({example.uid for example in found.examples}) == 2 * min(good, bad)
    assert found.positive_share == pytest.approx(good / (good + bad))
    assert found.sentence() == (
        f"{good + bad} generations, {100 * good / (good + bad):.0f} % of them positive: "
        f"{2 * min(good, bad)} added, half of them positive"
    )


@pytest.mark.parametrize(("good", "bad"), [(15, 90), (90, 15), (90, 0), (0, 90), (15, 15)])
def test_a_class_that_is_too_small_adds_nothing_and_says_so(good: int, bad: int, make_example: MakeExample) -> None:
    assert SMALLEST_CLASS == 16
    found = make(make_example, texts(good, bad))
    assert found.examples == []
    assert found.labelled == good + bad
    assert found.positive_share == pytest.approx(good / (good + bad))
    assert found.sentence().endswith("nothing added, for a class has fewer than 16")
    assert found.sentence().startswith(f"{good + bad} generations, ")


def test_nothing_to_label(make_example: MakeExample) -> None:
    """Not even the guide is asked."""
    guide = Guide()
    for words in ([], ["", " "]):
        assert make(make_example, words, guide) == Additions([], 0, 0.0)
    assert guide.asked == []


def test_the_draw_is_seeded(make_example: MakeExample) -> None:
    """Equal for equal seeds and rounds, another for others; the smaller class is whole whatever is drawn."""

    def drawn(**options: Any) -> set[str]:
        return {example.response for example in make(make_example, texts(80, 20), **options).examples}

    assert drawn() == drawn()
    assert len({frozenset(drawn(seed=seed, round_=round_)) for seed in (0, 1) for round_ in (1, 2)}) == 4
    assert all(set(texts(0, 20)) <= drawn(seed=seed) for seed in range(4))


# --- the mixture


MIXTURE = (
    Stratum(source="talk", feedback=Feedback.UNLABELLED, weight=2),
    Stratum(source="task", feedback=Feedback.POSITIVE, weight=1),
    Stratum(source="task", feedback=Feedback.NEGATIVE, weight=1),
)


@pytest.mark.parametrize(
    "mixture",
    [
        MIXTURE,
        (
            Stratum(source="talk", feedback=Feedback.UNLABELLED, weight=3),
            Stratum(source="a", feedback=Feedback.POSITIVE, weight=2),
            Stratum(source="b", feedback=Feedback.POSITIVE, weight=1),
            Stratum(source="a", feedback=Feedback.NEGATIVE, weight=2),
        ),
    ],
    ids=["one", "two-sources"],
)
def test_own_examples_keep_the_shares(mixture: tuple[Stratum, ...]) -> None:
    """Of each feedback as much as before, so α means the same; half of what is labelled is the model's own."""

    def shares(strata: Sequence[Stratum]) -> dict[Feedback, float]:
        total = sum(stratum.weight for stratum in strata)
        return {kind: sum(s.weight for s in strata if s.feedback == kind) / total for kind in Feedback}

    mixed = with_own(mixture)
    assert shares(mixed) == pytest.approx(shares(mixture))
    for kind in (Feedback.POSITIVE, Feedback.NEGATIVE):
        own = sum(stratum.weight for stratum in mixed if (stratum.source, stratum.feedback) == (OWN, kind))
        assert own == sum(s.weight for s in mixed if s.feedback == kind and s.source != OWN)
    assert not [s for s in mixed if s.source == OWN and s.feedback == Feedback.UNLABELLED]
    divided = {(s.source, s.feedback): s.weight for s in mixed if s.source != OWN and s.feedback != Feedback.UNLABELLED}
    before = {(s.source, s.feedback): s.weight for s in mixture if s.feedback != Feedback.UNLABELLED}
    assert divided == before


def test_batches_with_own_examples(make_example: MakeExample) -> None:
    """16 of a batch: 8 unlabelled, and of each label 2 of the data and 2 of the model's own."""
    mixed = with_own(MIXTURE)
    assert batch_shares(mixed, 16) == [8, 2, 2, 2, 2]
    kinds = {"talk": [Feedback.UNLABELLED], "task": [Feedback.POSITIVE, Feedback.NEGATIVE]}
    kinds[OWN] = kinds["task"]
    sources = {
        source: [make_example(f"{source}-{kind}-{index}", "x", kind) for kind in found for index in range(20)]
        for source, found in kinds.items()
    }
    sampler = StratifiedSampler(sources, mixed, batch_size=16, seed=0)
    for step in range(5):
        negative = [example for example in sampler.batch(step) if example.feedback == Feedback.NEGATIVE]
        assert Counter(example.uid.split("-")[0] for example in negative) == {"task": 2, OWN: 2}
