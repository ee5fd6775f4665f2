"""Decoding: beam search against ParlAI's, methods against plain beam search, and the prefix guide's cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from benchmarks.speed.rows import Row, Side, Target, Turns, take_turns
from benchmarks.speed.setting import FIVE, ONE, PAPERS, TWENTY, Setting, Shape, build, mixed, say
from cringe.backbones import Backbone
from cringe.classifier import Classifier
from cringe.data import Example
from cringe.generation import generate
from cringe.guide_cache import GuideCache
from cringe.methods.base import Guides, Method
from cringe.methods.director import Director
from cringe.methods.fudge import Fudge
from cringe.methods.pacer import Pacer
from cringe.prefix_guide import PrefixGuide
from cringe.specs import DecodingSpec, PrefixGuideSpec, ScratchClassifier

PEER = {ONE.name: Target(3.0, at_most=False)}
"""Against ParlAI, by shape; larger ones are reported."""
DIRECTOR = {ONE.name: 1.4, PAPERS.name: 1.1}
PACER, FUDGE, CACHE = 1.25, 2.0, 5.0
SMALL_GUIDE = 0.1
"""The guide's work a token, relative to the model's, up to which FUDGE's cost is promised."""
LENGTH = 24
"""Tokens of every reply: a model with random weights may never end, so it may not end earlier and must end here."""
EXAMPLES = {ONE.name: 32, FIVE.name: 16, TWENTY.name: 8, PAPERS.name: 1}
"""Replies made at once, by shape."""
PREFIX = 64
PLAIN = "plain"


def beam(shape: Shape, *, length: int = LENGTH) -> DecodingSpec:
    """The evaluation's beam search, all of whose replies have the same length."""
    return DecodingSpec(
        strategy="beam",
        beams=10,
        min_new_tokens=length,
        max_new_tokens=length,
        no_repeat_ngram=3,
        no_context_ngram=3,
        batch_size=EXAMPLES[shape.name],
    )


def measure_beam(setting: Setting) -> Iterator[Row]:
    """Examples a second of our beam search and of ParlAI's."""
    for shape in (ONE, FIVE, TWENTY)[: 1 if setting.brief else None]:
        spec = beam(shape)
        row = Row(
            measure="beam",
            what="examples a second, against ParlAI's beam search",
            setting=_about(shape, spec, setting),
            target=PEER.get(shape.name),
        )
        if not setting.against_parlai:
            yield replace(row, missing="give --against parlai")
            continue
        from benchmarks.speed.parlai_peer import Peer

        say(f"beam: {shape.name}")
        examples = setting.examples()[: EXAMPLES[shape.name]]
        backbone = build(setting, shape)
        peer = Peer(setting, shape, backbone, examples, spec)
        if peer.reply_lengths() != {spec.max_new_tokens}:
            raise RuntimeError(f"ParlAI's replies have {peer.reply_lengths()} tokens, ours {spec.max_new_tokens}")
        sides = {"ours": _replies(backbone, None, examples, spec, Guides()), "ParlAI": peer.decoding(spec.batch_size)}
        turns = take_turns(sides, setting.repeats(7), synchronize=setting.synchronize)
        yield replace(row, values=turns.speeds("ours", "ParlAI"), raw=turns.raw())


def measure_decoding(setting: Setting) -> Iterator[Row]:
    """What each method's decoding costs beside plain beam search of a model of the same shape."""
    sizes = {ONE: (Director(), Pacer(), Fudge()), TWENTY: (Director(), Pacer(), Fudge())}
    for shape, methods in list(sizes.items())[: 1 if setting.brief else None]:
        say(f"decoding: {shape.name}")
        yield from _against_plain(setting, shape, methods, setting.tokens(LENGTH), repeats=7)
    if not setting.brief:
        say(f"decoding: {PAPERS.name}")
        yield from _against_plain(setting, PAPERS, (Director(),), LENGTH // 2, repeats=5)


def _against_plain(
    setting: Setting, shape: Shape, methods: Sequence[Method], length: int, *, repeats: int
) -> Iterator[Row]:
    spec = beam(shape, length=length)
    examples = setting.examples()[: EXAMPLES[shape.name]]
    plain = build(setting, shape)
    guides = make_guides(setting, plain) if any(method.needs for method in methods) else Guides()
    sides = {PLAIN: _replies(plain, None, examples, spec, guides)}
    for method in methods:
        backbone = plain
        if type(method).wrap is not Method.wrap:
            backbone = build(setting, shape)
            method.wrap(backbone, seed=0)
            backbone.to(setting.device)
        sides[type(method).__name__] = _replies(backbone, method, examples, spec, guides)
    turns = take_turns(sides, setting.repeats(repeats), synchronize=setting.synchronize)
    for method in methods:
        yield _decoding_row(method, turns, shape, _about(shape, spec, setting), guides.prefix, plain)


def _decoding_row(
    method: Method, turns: Turns, shape: Shape, about: str, guide: PrefixGuide | None, backbone: Backbone
) -> Row:
    """What one method's decoding costs, and what is promised of it."""
    name = type(method).__name__
    limits = {"Director": DIRECTOR.get(shape.name), "Pacer": PACER, "Fudge": FUDGE}
    limit, note = limits[name], ""
    if guide is not None and isinstance(method, Fudge | Pacer):
        share = guide_share(guide, backbone, method.top)
        note = f"; the guide's work is {share:.0%} of the model's a token"
        if isinstance(method, Fudge) and share > SMALL_GUIDE:
            limit = None
    return Row(
        measure="decoding",
        what=f"{name.upper()}, against plain beam search",
        setting=about + note,
        values=turns.times(name, PLAIN),
        target=None if limit is None else Target(limit),
        raw={side: values for side, values in turns.raw().items() if side.split(",")[0] in (name, PLAIN)},
    )


def guide_share(guide: PrefixGuide, backbone: Backbone, top: int) -> float:
    """Work of the guide at a token of a beam, its candidates included, relative to the model's."""
    return guide.forward_flops(1 + top) / backbone.forward_flops(0, 1)


def make_guides(setting: Setting, backbone: Backbone) -> Guides:
    """Guides of the default sizes that have learnt next to nothing, which costs as much."""
    labelled = mixed(setting.examples()[:64], negatives=0.5)
    prefix = PrefixGuide.train(labelled, backbone, PrefixGuideSpec(epochs=1), seed=0, device=setting.device)
    spec = ScratchClassifier(reads="last_turn", epochs=1)
    return Guides(sequence=Classifier.train(labelled, spec, seed=0).to(setting.device), prefix=prefix)


def _replies(
    backbone: Backbone, method: Method | None, examples: Sequence[Example], spec: DecodingSpec, guides: Guides
) -> Side:
    """Reply to all examples, in units of examples."""

    def run() -> float:
        steering = None if method is None else method.steering(guides, seed=0)
        return float(len(generate(backbone, examples, spec, seed=0, steering=steering)))

    return Side(run)


def measure_guide(setting: Setting) -> Iterator[Row]:
    """A step of a beam with the guide's states kept, and with all tokens read again."""
    say("guide")
    prompts, beams, top = 4, 10, 10
    backbone = build(setting, ONE)
    guide = make_guides(setting, backbone).prefix
    if guide is None:
        raise RuntimeError("no guide was trained")
    contexts = backbone.encode_contexts(setting.examples()[:prompts])
    draw = torch.Generator().manual_seed(0)
    rows = torch.arange(prompts * beams, device=setting.device)
    prefixes = torch.randint(5, ONE.vocabulary, (len(rows), PREFIX), generator=draw).to(setting.device)
    candidates = torch.randint(5, ONE.vocabulary, (len(rows), top), generator=draw).to(setting.device)
    kept = GuideCache(guide, contexts, beams=beams, capacity=PREFIX + 1)

    def with_cache() -> float:
        return float(len(kept.log_probabilities(rows, prefixes, candidates)))

    def before() -> None:
        kept.log_probabilities(rows, prefixes[:, :-1], candidates)

    def again() -> float:
        fresh = GuideCache(guide, contexts, beams=beams, capacity=PREFIX + 1)
        return float(len(fresh.log_probabilities(rows, prefixes, candidates)))

    def each() -> float:
        repeated = [context for context in contexts for _ in range(beams * top)]
        wholes = torch.cat([prefixes.repeat_interleave(top, dim=0), candidates.reshape(-1, 1)], dim=1)
        return float(len(guide.log_odds(repeated, wholes)) // top)

    with torch.inference_mode():
        sides = {"cache": Side(with_cache, before), "again": Side(again), "each": Side(each)}
        turns = take_turns(sides, setting.repeats(9), warm_up=2, synchronize=setting.synchronize)
    about = (
        f"{PREFIX} tokens, context of {guide.spec.max_context}, {prompts} prompts, beam {beams}, top {top}, "
        f"{guide.spec.layers} layer, d {guide.spec.width}, fp32, {setting.where}"
    )
    whats = {
        "each": ("encoding all of each candidate's beginning again", Target(CACHE, at_most=False)),
        "again": ("an empty cache, whose candidates stand side by side too", None),
    }
    for side, (what, target) in whats.items():
        yield Row(
            measure="guide",
            what=f"speed of the prefix guide with its cache, against {what}",
            setting=about,
            values=turns.speeds("cache", side),
            target=target,
            raw={name: values for name, values in turns.raw().items() if name.split(",")[0] in ("cache", side)},
        )


def _about(shape: Shape, spec: DecodingSpec, setting: Setting) -> str:
    blocks = f"both {spec.no_repeat_ngram}-gram blocks"
    return (
        f"{shape.sentence()}, beam {spec.beams}, {spec.batch_size} prompts, {spec.max_new_tokens} tokens each "
        f"(forced), {blocks}, fp32, {setting.dialogue}, {setting.where}"
    )
