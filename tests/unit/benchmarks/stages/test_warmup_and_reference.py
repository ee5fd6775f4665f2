"""What the shared backbone and the reference model are trained on: bad as well as good, and not the same half."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.stages import reference, warmup
from benchmarks.stages.context import Context, read_json, read_lines
from cringe.backbones import load_backbone
from cringe.data import Example, Feedback
from cringe.methods.transformer import Transformer

MakeContext = Callable[..., Context]
BACKBONE = {
    "kind": "scratch",
    "vocabulary": 300,
    "width": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "heads": 2,
    "feedforward": 16,
    "max_source": 16,
    "max_target": 8,
}
PRETRAINED = {"kind": "pretrained", "name": "some/model", "max_source": 16, "max_target": 8}


def settings(**changes: Any) -> dict[str, Any]:
    training = {"updates": 2, "batch_size": 8, "learning_rate": 0.01}
    return {
        "task": "made_up",
        "sources": ["talk", "marked"],
        "backbone": BACKBONE,
        "training": training,
        "seed": 0,
    } | changes


class Seen(SimpleNamespace):
    """What a stage was about to train, and on what."""

    def batches(self, steps: int = 12) -> list[list[Example]]:
        return [self.sampler.batch(step) for step in range(steps)]

    def names(self) -> set[str]:
        """Of the examples that turn up, by their uids without a number."""
        return {example.uid.rpartition("-")[0] for batch in self.batches() for example in batch}

    def shares(self) -> Counter[str]:
        (batch, *_) = self.batches()
        return Counter(example.uid.rpartition("-")[0] for example in batch)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Stages stop before they train, and what they would have trained on is here."""
    found = Seen()

    class StopError(Exception):
        pass

    class Trainer:
        def __init__(self, backbone: Any, method: Any, sampler: Any, training: Any, **options: Any) -> None:
            vars(found).update(backbone=backbone, method=method, sampler=sampler, training=training, options=options)
            raise StopError

    def run(stage: Any, settings: Mapping[str, Any], context: Context) -> None:
        with pytest.raises(StopError):
            stage.run(settings, context)

    monkeypatch.setattr(warmup, "Trainer", Trainer)
    found.run = run
    return found


# The warm-up


def test_the_warm_up_sees_everything_as_if_nobody_had_said_what_is_bad(seen: Seen, make_context: MakeContext) -> None:
    """Each stratum with its share of a batch, labels and spans struck out, as the task shows it."""
    seen.run(warmup, settings(), make_context())
    assert seen.shares() == {"talk-unlabelled": 4, "guide-positive": 2, "guide-negative": 2}
    assert seen.names() == set(seen.shares())
    for batch in seen.batches():
        assert {example.feedback for example in batch} == {Feedback.UNLABELLED}
        assert not any(example.negative_spans for example in batch)
        assert all(example.response.endswith(" !") for example in batch), "the task was not asked how they look"
    assert type(seen.method) is Transformer
    assert seen.options["seed"] == 0


def test_the_warm_up_keeps_to_its_sources(seen: Seen, make_context: MakeContext) -> None:
    seen.run(warmup, settings(sources=["marked"]), make_context())
    assert seen.shares() == {"guide-positive": 4, "guide-negative": 4}


def test_the_warm_up_deals_by_length_where_it_was_asked_to(
    seen: Seen, make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, Any] = {}
    monkeypatch.setattr(warmup, "StratifiedSampler", lambda *_, **words: told.update(words))
    asked = settings()
    for stage in (warmup, reference):
        seen.run(stage, asked | {"training": asked["training"] | {"length_window": 3}}, make_context())
        assert (told["window"], told["lengths"]) == (3, seen.backbone.lengths)


def test_a_pretrained_model_brings_its_own_tokenizer(
    seen: Seen, make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = SimpleNamespace(lengths=len)
    monkeypatch.setattr(warmup, "pretrained_backbone", lambda spec: made)
    monkeypatch.setattr(warmup, "train_tokenizer", None)
    monkeypatch.setattr(warmup.TokenCache, "open", lambda *_: None)
    for stage in (warmup, reference):
        seen.run(stage, settings(backbone=PRETRAINED), make_context())
        assert seen.backbone is made


# The reference model


def test_the_reference_sees_the_judge_s_half_and_never_the_methods(seen: Seen, make_context: MakeContext) -> None:
    """The bad as well as the good of it, beside the unlabelled dialogue; labels struck out."""
    seen.run(reference, settings(seed=4), make_context())
    assert seen.shares() == {"talk-unlabelled": 4, "judge-positive": 2, "judge-negative": 2}
    assert seen.names() == set(seen.shares())
    assert {example.feedback for batch in seen.batches() for example in batch} == {Feedback.UNLABELLED}
    assert seen.options["seed"] == 4


def test_a_reference_without_unlabelled_dialogue(seen: Seen, make_context: MakeContext) -> None:
    seen.run(reference, settings(sources=["marked"]), make_context())
    assert seen.shares() == {"judge-positive": 4, "judge-negative": 4}


def test_the_reference_of_a_task_without_labels(seen: Seen, make_context: MakeContext, task: Any) -> None:
    task.labelled = False
    seen.run(reference, settings(sources=["talk"]), make_context())
    assert seen.shares() == {"talk-unlabelled": 8}


def test_the_reference_shares_no_tokenizer_with_the_warm_up(
    seen: Seen, make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has in common with a method would count for the method."""
    read: list[set[str]] = []
    real = warmup.train_tokenizer

    def train_tokenizer(texts: Any, spec: Any) -> Any:
        kept = list(texts)
        read.append({text.split(" of ")[-1].removesuffix(" !") for text in kept if " of " in text})
        return real(kept, spec)

    monkeypatch.setattr(warmup, "train_tokenizer", train_tokenizer)
    seen.run(warmup, settings(), make_context())
    seen.run(reference, settings(), make_context())
    assert read == [{"guide", "talk"}, {"judge", "talk"}]


# Both


@pytest.mark.parametrize("stage", [warmup, reference])
def test_what_is_left_behind(stage: Any, make_context: MakeContext) -> None:
    """A model that loads, a ledger and a log."""
    context = make_context()
    stage.run(settings(), context)
    backbone = load_backbone(context.out)
    ledger = read_json(context.out / "ledger.json")
    assert ledger["parameters"] == backbone.parameters > 0
    assert (ledger["training"]["updates"], ledger["training"]["examples"]) == (2, 16)
    assert set(ledger["training"]["target_tokens"]) == {"unlabelled"}
    assert read_lines(context.out / "training_log.jsonl")


def test_no_updates_leave_a_model_as_it_was(make_context: MakeContext) -> None:
    """A pretrained reference is taken as it is; it is still kept, so that scores can load it."""
    context = make_context()
    stage_settings = settings(training={"updates": 0, "batch_size": 8, "learning_rate": 0.01})
    reference.run(stage_settings, context)
    assert read_json(context.out / "ledger.json")["training"]["updates"] == 0
    assert load_backbone(context.out).parameters > 0
