"""ParlAI as a peer of the speed command: the same shape, the same tokens, replies of the same length."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

from benchmarks.speed import decoding, training
from benchmarks.speed.rows import MET, MISSED
from benchmarks.speed.setting import BATCH, ONE, Setting, build

pytestmark = [pytest.mark.oracle, pytest.mark.usefixtures("parlai")]

BRIEF = Setting(device="cpu", threads=1, data=None, against_parlai=True, brief=True)


def test_same_shape_and_tokens(parlai: Callable[[str], ModuleType]) -> None:
    from benchmarks.speed.parlai_peer import Peer

    backbone, examples = build(BRIEF, ONE), BRIEF.examples()[:BATCH]
    peer = Peer(BRIEF, ONE, backbone, examples)
    assert peer.parameters == backbone.parameters
    # A batch of all examples holds all their target tokens, their ends among them.
    targets = backbone.collate(examples, seed=0, step=0).lengths
    assert peer.training(1).run() == sum(targets)


def test_replies_have_the_same_length() -> None:
    from benchmarks.speed.parlai_peer import Peer

    spec = decoding.beam(ONE)
    backbone, examples = build(BRIEF, ONE), BRIEF.examples()[:5]
    peer = Peer(BRIEF, ONE, backbone, examples, spec)
    assert peer.reply_lengths() == {spec.max_new_tokens}
    assert peer.decoding(2).run() == len(examples)


@pytest.mark.parametrize("measure", [training.measure_training, decoding.measure_beam])
def test_measures(measure: Callable[[Setting], object]) -> None:
    (row,) = measure(BRIEF)  # type: ignore[misc]
    assert row.verdict in (MET, MISSED)
    assert set(row.raw) >= {"ours", "ParlAI"}
