"""The sequence guide: labels and re-ranks. Trained on the half of the labelled data that methods train on, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.stages.context import Context, write_json
from cringe.classifier import Classifier
from cringe.counts import Counts
from cringe.data import Feedback
from cringe.specs import ClassifierSpec
from evaluators.classifier import best_threshold, quality


def run(settings: Mapping[str, Any], context: Context) -> None:
    """Train the guide; its threshold has the highest balanced accuracy on validation."""
    _, data = context.load(settings)
    spec = ClassifierSpec.model_validate(settings["guide"])
    labelled = data.classification
    counts = Counts()
    with counts.timed():
        guide = Classifier.train(
            labelled.guide_train,
            spec,
            seed=settings["seed"],
            device=context.device,
            progress=context.progress,
            counts=counts,
        )
    guide.save(context.out)
    threshold, report = 0.0, {}
    for name, examples in (("valid", labelled.valid), ("test", labelled.test)):
        negative = [example.feedback == Feedback.NEGATIVE for example in examples]
        probabilities = guide.probabilities(examples)
        threshold = best_threshold(negative, probabilities) if name == "valid" else threshold
        report = quality(negative, probabilities, threshold)
    write_json(context.out / "report.json", report | {"parameters": guide.parameters})
    write_json(context.out / "ledger.json", {"training": counts.to_dict(), "parameters": guide.parameters})
