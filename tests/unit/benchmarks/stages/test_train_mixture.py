"""Who has which share of a batch: the sources of a task by one rule, and beside them the model's own replies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.stages import iterate, train
from benchmarks.stages.context import (
    Context,
    example_from_json,
    example_to_json,
    read_json,
    read_lines,
    write_json,
    write_lines,
)
from benchmarks.tasks.base import OWN, Source, mixture, with_own
from cringe.counts import Counts
from cringe.data import Example, Feedback, StratifiedSampler, Stratum, batch_shares
from cringe.generation import Reply

MakeContext = Callable[..., Context]


def chat(*names: str) -> list[Source]:
    return [Source(name=name, labelled=False) for name in names]


def marked(*names: str) -> list[Source]:
    return [Source(name=name, labelled=True) for name in names]


def weights(strata: Sequence[Stratum]) -> list[tuple[str, int]]:
    return [(stratum.name, stratum.weight) for stratum in strata]


def shares(strata: Sequence[Stratum]) -> dict[Feedback, Fraction]:
    total = sum(stratum.weight for stratum in strata)
    return {kind: Fraction(sum(s.weight for s in strata if s.feedback == kind), total) for kind in Feedback}


# The rule


def test_one_labelled_source_has_half_of_a_batch() -> None:
    assert weights(mixture([*chat("talk"), *marked("task")])) == [
        ("talk/unlabelled", 2),
        ("task/positive", 1),
        ("task/negative", 1),
    ]


def test_five_labelled_sources_are_the_paper_s_mixture() -> None:
    """Its released code mixes unlabelled dialogue and five labelled sets 5 : 1 : 1 : 1 : 1 : 1."""
    strata = mixture([*chat("talk"), *marked(*"abcde")])
    assert [weight for _, weight in weights(strata)] == [10] + [1] * 10
    by_source = Counter[str]()
    for stratum in strata:
        by_source[stratum.source] += stratum.weight
    assert [by_source[name] // 2 for name in ("talk", *"abcde")] == [5, 1, 1, 1, 1, 1]


def test_without_labels_or_without_anything_else() -> None:
    assert batch_shares(mixture(chat("talk")), 7) == [7]
    assert batch_shares(mixture(chat("talk", "more")), 8) == [4, 4]
    assert weights(mixture(marked("task"))) == [("task/positive", 1), ("task/negative", 1)]
    assert batch_shares(mixture(marked("a", "b")), 8) == [2, 2, 2, 2]


@given(st.integers(0, 4), st.integers(0, 6))
def test_a_quarter_of_every_batch_is_negative(unlabelled: int, labelled: int) -> None:
    """Whatever the sources, so that α means the same; and sources of a kind have equal shares."""
    strata = mixture([*chat(*"uvwx"[:unlabelled]), *marked(*"abcdef"[:labelled])])
    assert len(strata) == unlabelled + 2 * labelled
    if not strata:
        return
    expected = {
        (True, True): (Fraction(1, 4), Fraction(1, 4), Fraction(1, 2)),
        (False, True): (Fraction(1, 2), Fraction(1, 2), Fraction(0)),
        (True, False): (Fraction(0), Fraction(0), Fraction(1)),
    }[bool(unlabelled), bool(labelled)]
    assert tuple(shares(strata).values()) == expected
    for kind in Feedback:
        assert len({stratum.weight for stratum in strata if stratum.feedback == kind}) <= 1


def test_the_order_of_sources_is_that_of_the_strata() -> None:
    assert [s.source for s in mixture([*marked("b"), *chat("z"), *marked("a"), *chat("y")])] == [
        *("z", "y"),
        *("b", "b", "a", "a"),
    ]


# With the model's own replies

MIXTURE = mixture([*chat("talk"), *marked("task")])


@pytest.mark.parametrize(
    "strata",
    [
        MIXTURE,
        mixture([*chat("talk"), *marked(*"abcde")]),
        mixture([*chat("talk", "more"), *marked("a", "b", "c")]),
        mixture(marked("a", "b")),
        (
            Stratum(source="talk", feedback=Feedback.UNLABELLED, weight=3),
            Stratum(source="a", feedback=Feedback.POSITIVE, weight=2),
            Stratum(source="b", feedback=Feedback.POSITIVE, weight=1),
            Stratum(source="a", feedback=Feedback.NEGATIVE, weight=2),
        ),
    ],
    ids=["one", "five", "two-chats", "no-chat", "unequal"],
)
def test_own_examples_keep_the_shares(strata: tuple[Stratum, ...]) -> None:
    """Of each feedback as much as before, so α means the same; half of what is labelled is the model's own."""
    mixed = with_own(strata)
    assert shares(mixed) == shares(strata)
    for kind in (Feedback.POSITIVE, Feedback.NEGATIVE):
        own = sum(stratum.weight for stratum in mixed if (stratum.source, stratum.feedback) == (OWN, kind))
        assert own == sum(s.weight for s in mixed if s.feedback == kind and s.source != OWN)
    assert not [s for s in mixed if s.source == OWN and s.feedback == Feedback.UNLABELLED]
    divided = {s.name: s.weight for s in mixed if s.source != OWN and s.feedback != Feedback.UNLABELLED}
    assert divided == {s.name: s.weight for s in strata if s.feedback != Feedback.UNLABELLED}


@pytest.mark.parametrize("names", [("talk",), ("talk", "more")])
def test_where_nothing_is_labelled_half_is_the_model_s_own(names: tuple[str, ...]) -> None:
    """As half is labelled elsewhere: a quarter of it negative."""
    mixed = with_own(mixture(chat(*names)))
    assert shares(mixed) == {
        Feedback.POSITIVE: Fraction(1, 4),
        Feedback.NEGATIVE: Fraction(1, 4),
        Feedback.UNLABELLED: Fraction(1, 2),
    }
    assert {stratum.source for stratum in mixed if stratum.feedback != Feedback.UNLABELLED} == {OWN}
    assert batch_shares(mixed, 8)[-2:] == [2, 2]


def some(source: str, *kinds: Feedback) -> list[Example]:
    return [
        Example(uid=f"{source}-{kind}-{n}", context=(), own=(), response="x", feedback=kind, group="g")
        for kind in kinds
        for n in range(20)
    ]


def test_batches_with_own_examples() -> None:
    """16 of a batch: 8 unlabelled, and of each label 2 of the data and 2 of the model's own."""
    mixed = with_own(MIXTURE)
    assert batch_shares(mixed, 16) == [8, 2, 2, 2, 2]
    both = (Feedback.POSITIVE, Feedback.NEGATIVE)
    sources = {"talk": some("talk", Feedback.UNLABELLED), "task": some("task", *both), OWN: some(OWN, *both)}
    sampler = StratifiedSampler(sources, mixed, batch_size=16, seed=0)
    for step in range(5):
        negative = [example for example in sampler.batch(step) if example.feedback == Feedback.NEGATIVE]
        assert Counter(example.uid.split("-")[0] for example in negative) == {"task": 2, OWN: 2}


# The stages that make and use them

TRAINING = {"updates": 4, "batch_size": 16, "learning_rate": 0.01}
SETTINGS: Mapping[str, Any] = {
    "task": "made_up",
    "sources": ["talk", "marked"],
    "method": "cringe_single",
    "hyperparameters": {},
    "training": TRAINING,
    "seed": 3,
}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Training stops before it begins; what it would have been is here."""
    found = SimpleNamespace()

    class StopError(Exception):
        pass

    class Trainer:
        def __init__(self, backbone: Any, method: Any, sampler: Any, training: Any, **options: Any) -> None:
            vars(found).update(method=method, sampler=sampler, **options)
            raise StopError

    def run(settings: Mapping[str, Any], context: Context) -> None:
        with pytest.raises(StopError):
            train.run(settings, context)

    monkeypatch.setattr(train, "Trainer", Trainer)
    monkeypatch.setattr(train, "load_backbone", lambda folder: SimpleNamespace(folder=folder, lengths=len))
    monkeypatch.setattr(train.TokenCache, "open", lambda *_: None)
    found.run = run
    return found


def drawn(sampler: StratifiedSampler) -> Counter[str]:
    """Of one batch, what each example is, by its uid without a number."""
    return Counter(example.uid.rpartition("-")[0] for example in sampler.batch(0))


def test_a_training_draws_from_its_sources(seen: SimpleNamespace, make_context: MakeContext, tmp_path: Any) -> None:
    context = make_context(parents={"model": tmp_path})
    seen.run(SETTINGS, context)
    assert drawn(seen.sampler) == {"talk-unlabelled": 8, "guide-positive": 4, "guide-negative": 4}
    assert (seen.seed, seen.span) == (3, (0, 4, 0))
    seen.run({**SETTINGS, "sources": ["marked"]}, context)
    assert drawn(seen.sampler) == {"guide-positive": 8, "guide-negative": 8}


def test_a_training_deals_by_length_where_it_was_asked_to(
    seen: SimpleNamespace, make_context: MakeContext, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what the model reads and writes, which the backbone says."""
    told: dict[str, Any] = {}
    monkeypatch.setattr(train, "StratifiedSampler", lambda *_, **words: told.update(words))
    seen.run({**SETTINGS, "training": TRAINING | {"length_window": 3}}, make_context(parents={"model": tmp_path}))
    assert (told["window"], told["lengths"], told["batch_size"]) == (3, len, 16)


def added(context: Context, own: Sequence[Example]) -> None:
    context.out.mkdir(exist_ok=True)
    write_lines(context.out / "additions.jsonl", map(example_to_json, own))


def test_a_round_draws_from_all_that_was_added_before_it(
    seen: SimpleNamespace, make_context: MakeContext, tmp_path: Any
) -> None:
    rounds = [make_context(), make_context()]
    both = (Feedback.POSITIVE, Feedback.NEGATIVE)
    for index, context in enumerate(rounds, start=1):
        added(context, some(f"own{index}", *both)[::10])
    parents = {"model": tmp_path, "additions-1": rounds[0].out, "additions-2": rounds[1].out}
    seen.run({**SETTINGS, "span": [2, 4, 0]}, make_context(parents=parents))
    assert seen.span == (2, 4, 0)
    batches = [seen.sampler.batch(step) for step in range(4)]
    negative = [example.uid for batch in batches for example in batch if example.feedback == Feedback.NEGATIVE]
    assert Counter(uid.split("-")[0] for uid in negative) == {"guide": 8, "own1": 4, "own2": 4}


def test_a_round_that_added_nothing_changes_no_mixture(
    seen: SimpleNamespace, make_context: MakeContext, tmp_path: Any
) -> None:
    made = make_context()
    added(made, [])
    parents = {"model": tmp_path, "additions-1": made.out}
    seen.run({**SETTINGS, "span": [2, 4, 0]}, make_context(parents=parents))
    assert drawn(seen.sampler) == {"talk-unlabelled": 8, "guide-positive": 4, "guide-negative": 4}


# Between two rounds

ROUND: Mapping[str, Any] = {
    "task": "made_up",
    "sources": ["talk", "marked"],
    "decoding": {"strategy": "greedy", "max_new_tokens": 8},
    "generations": 40,
    "round": 2,
    "seed": 5,
}


@pytest.fixture
def generated(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Replies without a model: negative prompts are answered with something that repeats itself, or is bad."""
    found = SimpleNamespace(prompts=[], seeds=[])

    def generate(backbone: Any, prompts: Sequence[Example], spec: Any, *, seed: int, counts: Counts, **_: Any) -> Any:
        found.prompts.append([prompt.uid for prompt in prompts])
        found.seeds.append(seed)
        counts.generated_tokens += len(prompts)
        said = {Feedback.POSITIVE: "this is {}", Feedback.NEGATIVE: "bad {0} it is bad {0} it is"}
        return [Reply(prompt.uid, said[prompt.feedback].format(index), 3) for index, prompt in enumerate(prompts)]

    monkeypatch.setattr(iterate, "generate", generate)
    monkeypatch.setattr(iterate, "load_backbone", lambda folder: SimpleNamespace(to=lambda device: None))
    return found


def test_repetition_in_own_replies_is_trained_on(
    generated: SimpleNamespace, seen: SimpleNamespace, make_context: MakeContext, tmp_path: Any
) -> None:
    """What is added between rounds is read by the next one word for word: labels, spans and all."""
    made = make_context(parents={"model": tmp_path})
    iterate.run({**ROUND, "repeated_ngram": 4}, made)
    own = [example_from_json(record) for record in read_lines(made.out / "additions.jsonl")]
    assert Counter(example.feedback for example in own) == {Feedback.POSITIVE: 20, Feedback.NEGATIVE: 20}
    for example in own:
        assert example.uid.startswith("own-2-prompt-")
        marked_ = [example.response[start:stop] for start, stop in example.negative_spans]
        repeats = example.response.startswith("bad")
        assert (example.feedback == Feedback.NEGATIVE) == repeats == bool(marked_)
        assert not repeats or marked_ == [example.response[-len(marked_[0]) :]]
    assert read_json(made.out / "round.json") == {
        "round": 2,
        "labelled": 40,
        "added": 40,
        "positive_share": 0.5,
        "sentence": "40 generations, 50 % of them positive: 40 added, half of them positive",
    }
    assert set(read_json(made.out / "ledger.json")) == {"generation"}
    parents = {"model": tmp_path, "additions-1": made.out}
    seen.run({**SETTINGS, "sources": ["talk"], "span": [2, 4, 0]}, make_context(parents=parents))
    batch = seen.sampler.batch(0)
    assert Counter(example.feedback.value for example in batch) == {"unlabelled": 8, "positive": 4, "negative": 4}
    assert {example for example in batch if example.feedback != Feedback.UNLABELLED} <= set(own)


def test_a_guide_labels_own_replies_where_there_is_one(
    generated: SimpleNamespace, make_context: MakeContext, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its own threshold; what it cost to train is in the ledger, and nothing is marked word by word."""
    guide = tmp_path / "guide"
    guide.mkdir()
    write_json(guide / "report.json", {"threshold": 0.3})
    write_json(guide / "ledger.json", {"training": {"seconds": 7}})

    class Guide:
        def to(self, device: str) -> Guide:
            return self

        def probabilities(self, examples: Sequence[Example]) -> list[float]:
            return [0.4 if "bad" in example.response else 0.2 for example in examples]

    monkeypatch.setattr(iterate.Classifier, "load", lambda folder: Guide())
    made = make_context(parents={"model": tmp_path, "guide": guide})
    iterate.run(ROUND, made)
    own = [example_from_json(record) for record in read_lines(made.out / "additions.jsonl")]
    assert Counter(example.feedback for example in own) == {Feedback.POSITIVE: 20, Feedback.NEGATIVE: 20}
    assert all((example.feedback == Feedback.NEGATIVE) == ("bad" in example.response) for example in own)
    assert not any(example.negative_spans for example in own)
    assert read_json(made.out / "ledger.json")["guide"] == {"seconds": 7}


def test_prompts_of_a_round_are_drawn_by_seed_and_round(
    generated: SimpleNamespace, make_context: MakeContext, tmp_path: Any
) -> None:
    for changes in ({}, {}, {"seed": 6}, {"round": 3}):
        settings = {**ROUND, "generations": 9, "repeated_ngram": 4} | changes
        iterate.run(settings, make_context(parents={"model": tmp_path}))
    first, again, *_ = generated.prompts
    assert first == again == sorted(first)
    assert len(first) == 9
    assert len({frozenset(uids) for uids in generated.prompts}) == 3
    assert len(set(generated.seeds)) == 3
