"""A model's own generations as training data: generate → label → balance → add (Algorithm 2 of Adolphs et al. 2023)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from cringe.backbones import Backbone, pad
from cringe.batch import Batch
from cringe.classifier import Classifier
from cringe.counts import Counts
from cringe.data import Example, Feedback, normalised
from cringe.generation import Reply
from cringe.repetition import repeated_places, repeated_spans
from cringe.seeding import stream

SMALLEST_CLASS = 16
"""With fewer examples of a class nothing is added: a few texts, seen over and over, would be learnt by heart."""
COPIES = 2
"""Of one text, as in the released code."""


class Additions(NamedTuple):
    """What a round adds to the training data."""

    examples: list[Example]
    """As many positive as negative ones; none where a class is too small."""
    labelled: int
    """Generations that were labelled, copies beyond `COPIES` aside."""
    positive_share: float
    """Share of these that are labelled positive; 0 where none was labelled."""

    def sentence(self) -> str:
        """What was added, for the log and the table's notes."""
        found = f"{self.labelled} generations, {100 * self.positive_share:.0f} % of them positive"
        if not self.examples:
            return f"{found}: nothing added, for a class has fewer than {SMALLEST_CLASS}"
        return f"{found}: {len(self.examples)} added, half of them positive"


def own_replies(prompts: Sequence[Example], replies: Sequence[Reply], *, round_: int) -> list[Example]:
    """Replies as examples without a label, empty ones and copies of a text beyond `COPIES` left out.

    Args:
        prompts: what was replied to.
        replies: in the order of the prompts.
        round_: goes into the uids.
    """
    seen: Counter[str] = Counter()
    kept: list[Example] = []
    for prompt, reply in zip(prompts, replies, strict=True):
        text = normalised(reply.text)
        seen[text] += 1
        if text and seen[text] <= COPIES:
            uid = f"own-{round_}-{prompt.uid}"
            unlabelled = replace(prompt, feedback=Feedback.UNLABELLED, evidence=(), negative_spans=())
            kept.append(replace(unlabelled, uid=uid, response=reply.text))
    return kept


def label_by_guide(replies: Sequence[Example], guide: Classifier, *, threshold: float) -> list[Example]:
    """Label each reply in its context; one is negative from a probability of ``threshold`` on."""
    probabilities = guide.probabilities(replies) if replies else []
    return [
        replace(reply, feedback=Feedback.NEGATIVE if probability >= threshold else Feedback.POSITIVE)
        for reply, probability in zip(replies, probabilities, strict=True)
    ]


def label_by_repetition(replies: Sequence[Example], ngram: int) -> list[Example]:
    """Label the words of n-grams that came before, in the reply or its context, as negative; other words not at all.

    A reply without any is positive.
    """
    spans = [repeated_spans(reply.response, reply.context, ngram) for reply in replies]
    return [
        replace(reply, feedback=Feedback.NEGATIVE if found else Feedback.POSITIVE, negative_spans=found)
        for reply, found in zip(replies, spans, strict=True)
    ]


def balanced(replies: Sequence[Example], *, seed: int, round_: int) -> Additions:
    """As many positive as negative replies, the larger class cut down by a draw that depends on the seed and round."""
    classes = {
        feedback: [reply for reply in replies if reply.feedback == feedback]
        for feedback in (Feedback.POSITIVE, Feedback.NEGATIVE)
    }
    size = min(len(members) for members in classes.values())
    chosen: list[Example] = []
    if size >= SMALLEST_CLASS:
        for feedback, members in classes.items():
            order = stream(seed, "balance", round_, feedback).permutation(len(members))[:size]
            chosen += [members[int(index)] for index in sorted(order)]
    share = len(classes[Feedback.POSITIVE]) / len(replies) if replies else 0.0
    return Additions(chosen, len(replies), share)


def greedy_replies(backbone: Backbone, batch: Batch, ngram: int, counts: Counts) -> Batch:
    """The model's greedy replies to a batch's contexts; tokens of repeated n-grams are negative, the others unscored.

    Args:
        backbone: the model as it is now, in training.
        batch: gives the contexts, (B, S).
        ngram: length of the n-grams.
        counts: a ledger to add the generated tokens to.
    """
    training = backbone.model.training
    backbone.model.eval()
    with torch.no_grad():
        sequences = backbone.model.generate(
            **backbone.inputs(batch.sources),
            do_sample=False,
            num_beams=1,
            max_new_tokens=backbone.spec.max_target,
        )
    backbone.model.train(training)
    made = sequences[:, backbone.prompt_length(batch.source) :]
    replies = [backbone.until_end(ids) for ids in made.tolist()]
    responses, _ = pad(replies, backbone.pad)
    length = responses.shape[1]
    repeated = [
        row * length + place for row, ids in enumerate(replies) for place in sorted(repeated_places(ids, ngram))
    ]
    counts.generated_tokens += sum(map(len, replies))
    counts.forward_passes += len(replies) * length
    counts.flops += backbone.forward_flops(batch.source_tokens, len(replies) * length)
    return replace(
        batch,
        responses=responses.to(batch.source.device),
        tokens=torch.tensor(repeated, dtype=torch.long, device=batch.source.device),
        unlabelled=0,
        liked=0,
        lengths=tuple(map(len, replies)),
        generated=True,
    )
