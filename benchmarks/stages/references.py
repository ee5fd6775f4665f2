"""Floor and ceiling: a constant reply, a random training reply, and the gold reply."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from benchmarks.stages.context import Context, choose_prompts, write_lines
from cringe.data import Feedback, normalised
from cringe.seeding import stream


def run(settings: Mapping[str, Any], context: Context) -> None:
    """Write the three replies to each of the prompts that models reply to."""
    task, data = context.load(settings)
    training = sorted(
        (
            example
            for source in {stratum.source for stratum in task.mixture}
            for example in data.sources[source]
            if example.feedback == Feedback.UNLABELLED
        ),
        key=lambda example: example.uid,
    )
    often = Counter(normalised(example.response) for example in training)
    constant = min(often, key=lambda text: (-often[text], text))
    records = []
    for name in task.prompt_sets():
        for prompt in choose_prompts(data.prompts[name], settings["prompts"]):
            drawn = int(stream(settings["seed"], "reference", prompt.uid).integers(len(training)))
            replies = {"constant": constant, "random": training[drawn].response, "gold": prompt.response}
            records += [
                {"prompts": name, "uid": prompt.uid, "row": row, "reply": reply} for row, reply in replies.items()
            ]
    write_lines(context.out / "replies.jsonl", records)
