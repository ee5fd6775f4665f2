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
    """Share of these that the guide calls positive; 0 where none was labelled."""

    def sentence(self) -> str:
        """What was added, for the log and the table's notes."""
        found = f"{self.labelled} generations, {100 * self.positive_share:.0f} % of them positive"
        if not self.examples:
            return f"{found}: nothing added, for a class has fewer than {SMALLEST_CLASS}"
        return f"{found}: {len(self.examples)} added, half of them positive"


def additions(
    prompts: Sequence[Example], replies: Sequence[Reply], guide: Classifier, *, threshold: float, seed: int, round_: int
) -> Additions:
    """Label replies, keep at most two copies of a text and as many positive as negative ones.

    Args:
        prompts: what was replied to.
        replies: in the order of the prompts.
        guide: labels each reply in its context.
        threshold: probability of being negative from which on a reply is.
        seed: of the draw among the larger class.
        round_: goes into the uids.
    """
    seen: Counter[str] = Counter()
    kept: list[Example] = []
    for prompt, reply in zip(prompts, replies, strict=True):
        text = normalised(reply.text)
        seen[text] += 1
        if text and seen[text] <= COPIES:
            uid = f"own-{round_}-{prompt.uid}"
            kept.append(replace(prompt, uid=uid, response=reply.text, evidence=(), negative_spans=()))
    labelled: dict[Feedback, list[Example]] = {Feedback.POSITIVE: [], Feedback.NEGATIVE: []}
    for example, probability in zip(kept, guide.probabilities(kept) if kept else [], strict=True):
        feedback = Feedback.NEGATIVE if probability >= threshold else Feedback.POSITIVE
        labelled[feedback].append(replace(example, feedback=feedback))
    size = min(len(examples) for examples in labelled.values())
    chosen: list[Example] = []
    if size >= SMALLEST_CLASS:
        for feedback, examples in labelled.items():
            order = stream(seed, "balance", round_, feedback).permutation(len(examples))[:size]
            chosen += [examples[int(index)] for index in sorted(order)]
    share = len(labelled[Feedback.POSITIVE]) / len(kept) if kept else 0.0
    return Additions(chosen, len(kept), share)


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
            input_ids=batch.source,
            attention_mask=batch.source_mask.long(),
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
    counts.flops += backbone.forward_flops(int(batch.source_mask.sum()), len(replies) * length)
    return replace(
        batch,
        responses=responses.to(batch.source.device),
        tokens=torch.tensor(repeated, dtype=torch.long, device=batch.source.device),
        unlabelled=0,
        liked=0,
        lengths=tuple(map(len, replies)),
        generated=True,
    )


def repeated_places(ids: Sequence[int], ngram: int) -> set[int]:
    """Places of the tokens that belong to an n-gram which occurred before (Welleck et al. 2020, eq. 7)."""
    seen: set[tuple[int, ...]] = set()
    found: set[int] = set()
    for start in range(len(ids) - ngram + 1):
        gram = tuple(ids[start : start + ngram])
        if gram in seen:
            found.update(range(start, start + ngram))
        seen.add(gram)
    return found
