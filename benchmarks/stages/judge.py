"""The judge: trained on a half of the labelled data that trains nothing else, tested on human replies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.stages.context import Context, write_json
from cringe.classifier import Classifier
from cringe.data import Example, Feedback
from cringe.specs import ClassifierSpec
from evaluators.classifier import best_threshold, quality
from evaluators.stats import auc


def run(settings: Mapping[str, Any], context: Context) -> None:
    """Train the judge, and one of the same kind that sees the response alone; report how both do on human replies.

    The threshold is the one of the highest balanced accuracy on validation; everything else is measured on test.
    """
    _, data = context.load(settings)
    spec = ClassifierSpec.model_validate(settings["judge"])
    labelled = data.classification
    judge = _train(labelled.judge_train, spec, settings, context)
    judge.save(context.out)
    valid = judge.probabilities(labelled.valid)
    threshold = best_threshold(_negative(labelled.valid), valid)
    test = judge.probabilities(labelled.test)
    report = {
        "name": f"{spec.layers}-layer transformer from scratch on {spec.reads.replace('_', ' ')}",
        "parameters": judge.parameters,
        "trained_on": len(labelled.judge_train),
        **quality(_negative(labelled.test), test, threshold),
    }
    if spec.reads != "response":
        alone = _train(labelled.judge_train, spec.model_copy(update={"reads": "response"}), settings, context)
        report["last_turn_auc"] = auc(_negative(labelled.test), alone.probabilities(labelled.test)).value
        report["other_history_auc"] = _other_history_auc(judge, labelled.test)
    write_json(context.out / "report.json", report)
    write_json(context.out / "counts.json", dict(data.counts))


def _train(
    examples: Sequence[Example], spec: ClassifierSpec, settings: Mapping[str, Any], context: Context
) -> Classifier:
    return Classifier.train(examples, spec, seed=settings["seed"], device=context.device, progress=context.progress)


def _negative(examples: Sequence[Example]) -> list[bool]:
    return [example.feedback == Feedback.NEGATIVE for example in examples]


def _other_history_auc(judge: Classifier, examples: Sequence[Example]) -> float:
    """AUC between negative responses in their own dialogues and the same responses in each other's.

    A judge that reads the response alone is at 0.5 here, whatever it makes of the wording.
    """
    own = [example for example in examples if example.feedback == Feedback.NEGATIVE]
    others = [
        replace(example, context=other.context, own=other.own, evidence=())
        for example, other in zip(own, np.roll(np.array(own, dtype=object), 1), strict=True)
    ]
    labels = [True] * len(own) + [False] * len(others)
    return auc(labels, judge.probabilities([*own, *others])).value
