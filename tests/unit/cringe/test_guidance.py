"""Guidance: the cached guide against one that re-encodes everything, what it learns, and what steering does with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from cringe.backbones import Backbone, build_backbone, train_tokenizer
from cringe.counts import Counts
from cringe.data import Example, Feedback
from cringe.generation import Reply, Steering, generate
from cringe.guidance import Fudge, FudgeProcessor, Pacer, PacerProcessor, Reranking
from cringe.guide_cache import GuideCache
from cringe.methods import fudge, pacer, reranker
from cringe.methods.base import Guides
from cringe.methods.transformer import Transformer
from cringe.prefix_guide import PrefixGuide
from cringe.seeding import stable_hash, stream
from cringe.specs import DecodingSpec, PrefixGuideSpec, ScratchBackbone, TrainingSettings
from cringe.trainer import Trainer

GOOD = ("da", "mi", "so", "re", "lo", "ta", "ne", "fu")
BAD = ("zuk", "vex")
FAMILIES = ("seq2seq", "causal")
BEAM = DecodingSpec(
    strategy="beam", beams=4, min_new_tokens=7, max_new_tokens=12, no_repeat_ngram=2, no_context_ngram=3, batch_size=8
)
NUCLEUS = DecodingSpec(strategy="nucleus", top_p=0.95, max_new_tokens=10, batch_size=8)


class Setting(NamedTuple):
    """A language model that says bad words as often as others, and a guide that knows them."""

    backbone: Backbone
    guide: PrefixGuide
    prompts: list[Example]


def toy(count: int, purpose: str) -> list[Example]:
    """A language in which a word decides: responses with one of two words are negative, and half of them are."""
    draws = stream(0, purpose)
    examples = []
    for index in range(count):
        words = [str(word) for word in draws.choice(GOOD, size=int(draws.integers(2, 8)))]
        negative = bool(draws.random() < 0.5)
        if negative:
            # Mostly in the first place, where it is then the likeliest word: beams must come upon it.
            words[int(draws.integers(len(words)) * (draws.random() < 0.3))] = str(draws.choice(BAD))
        turns = tuple(" ".join(draws.choice(GOOD, size=int(draws.integers(1, 6)))) for _ in range(draws.integers(3)))
        examples.append(
            Example(
                uid=f"{purpose}-{index}",
                context=turns,
                response=" ".join(words),
                feedback=Feedback.NEGATIVE if negative else Feedback.POSITIVE,
                group=f"g{index}",
                own=tuple((len(turns) - place) % 2 == 0 for place in range(len(turns))),
            )
        )
    return examples


class Shuffled:
    """A sampler of 32 of the examples a step, without their labels."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = examples

    def batch(self, step: int) -> list[Example]:
        rows = stream(0, "batch", step).integers(len(self._examples), size=32)
        return [self._unlabelled(self._examples[row]) for row in rows]

    def _unlabelled(self, example: Example) -> Example:
        return Example(
            uid=example.uid, context=example.context, response=example.response, group=example.group, own=example.own
        )


@pytest.fixture(scope="module", params=FAMILIES)
def setting(request: pytest.FixtureRequest) -> Setting:
    """Both of a family, trained for a second or two; prompts of unequal lengths, some without a context."""
    spec = ScratchBackbone(
        family=request.param,
        vocabulary=330,
        width=32,
        encoder_layers=1,
        decoder_layers=1,
        heads=2,
        feedforward=64,
        max_source=32,
        max_target=16,
    )
    train = toy(1500, "train")
    backbone = build_backbone(spec, train_tokenizer([example.response for example in train], spec), seed=0)
    settings = TrainingSettings(updates=100, batch_size=32, learning_rate=1e-2, warmup_updates=10)
    Trainer(backbone, Transformer(), Shuffled(train), settings, seed=0).train()
    guide = PrefixGuide.train(train, backbone, PrefixGuideSpec(width=32, heads=2, layers=2, feedforward=64), seed=0)
    prompts = toy(12, "prompts")
    assert any(not prompt.context for prompt in prompts)
    assert len(set(backbone.context_lengths(prompts))) > 4
    return Setting(backbone, guide, prompts)


def slow(guide: PrefixGuide, contexts: Sequence[list[int]], prefixes: Tensor, candidates: Tensor) -> Tensor:
    """(R, n) log P(positive | prefix + candidate): every sequence read from its beginning, no cache, no shared mask."""
    count = candidates.shape[1]
    responses = torch.cat([prefixes.repeat_interleave(count, dim=0), candidates.reshape(-1, 1)], dim=1)
    repeated = [ids for ids in contexts for _ in range(count)]
    with torch.inference_mode():
        return guide.log_odds(repeated, responses)[:, -1].sigmoid().log().reshape(candidates.shape)


class Watched(NamedTuple):
    """What the cache was asked during a search."""

    steps: list[int]
    """Tokens of the prefixes at each call."""
    rows: list[int]
    """Rows of each call."""
    moved: list[bool]
    """Did any row have another parent than itself?"""


def watch(monkeypatch: pytest.MonkeyPatch, setting: Setting, examples_of: dict[int, list[list[int]]]) -> Watched:
    """Compare every answer of every cache with the slow one."""
    watched = Watched([], [], [])
    answer, parents, make = GuideCache.log_probabilities, GuideCache._parents, GuideCache.__init__
    leave = GuideCache.keep

    def made(self: GuideCache, guide: PrefixGuide, contexts: Sequence[list[int]], **rest: object) -> None:
        examples_of[id(self)] = list(contexts)
        make(self, guide, contexts, **rest)  # type: ignore[arg-type]

    def left(self: GuideCache, prompts: Tensor) -> None:
        leave(self, prompts)
        examples_of[id(self)] = [examples_of[id(self)][prompt] for prompt in prompts.tolist()]

    def parented(self: GuideCache, rows: Tensor, prefixes: Tensor) -> tuple[Tensor, int]:
        found = parents(self, rows, prefixes)
        watched.moved.append(not torch.equal(found[0], rows))
        return found

    def answered(self: GuideCache, rows: Tensor, prefixes: Tensor, candidates: Tensor) -> Tensor:
        found = answer(self, rows, prefixes, candidates)
        contexts = [examples_of[id(self)][row // self._beams] for row in rows.tolist()]
        expected = slow(setting.guide, contexts, prefixes, candidates)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
        watched.steps.append(prefixes.shape[1])
        watched.rows.append(len(rows))
        return found

    monkeypatch.setattr(GuideCache, "__init__", made)
    monkeypatch.setattr(GuideCache, "keep", left)
    monkeypatch.setattr(GuideCache, "_parents", parented)
    monkeypatch.setattr(GuideCache, "log_probabilities", answered)
    return watched


@pytest.mark.parametrize("spec", [BEAM, NUCLEUS], ids=["beam", "nucleus"])
def test_cache_is_the_slow_guide_at_every_step(
    setting: Setting, spec: DecodingSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = watch(monkeypatch, setting, {})
    generate(setting.backbone, setting.prompts, spec, seed=0, steering=Fudge(setting.guide, weight=2.0, top=5))
    assert max(watched.steps) >= 5
    if spec.strategy == "beam":
        assert sum(watched.moved) > len(watched.moved) / 2  # beams do change parents here
    else:
        assert min(watched.rows) < max(watched.rows)  # rows that ended are not asked about


@pytest.mark.parametrize("rate", [0.15, 0.6])
def test_cache_catches_up_on_skipped_steps(setting: Setting, rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = watch(monkeypatch, setting, {})
    steering = Pacer(setting.guide, weight=2.0, top=5, rate=rate, seed=0, reranking=None)
    generate(setting.backbone, setting.prompts, BEAM, seed=0, steering=steering)
    assert any(watched.moved)
    assert min(watched.rows) < BEAM.beams * BEAM.batch_size  # some prompts of a batch and not others
    if rate < 0.5:
        gaps = np.diff(watched.steps)
        assert gaps.max() > 1  # steps at which nobody was asked about


def test_cache_answers_anything(setting: Setting) -> None:
    """No search behind it: any rows, prefixes that share much or nothing, longer or shorter ones, many candidates."""
    contexts = setting.backbone.encode_contexts(setting.prompts[:4])
    cache = GuideCache(setting.guide, contexts, beams=3, capacity=9)
    draws, size = stream(0, "anything"), len(setting.backbone.tokenizer)
    story = torch.from_numpy(draws.integers(5, size, size=(4, 9))).repeat_interleave(3, dim=0)
    for _ in range(25):
        rows = torch.from_numpy(np.flatnonzero(draws.random(12) < draws.choice([0.3, 1.0])))
        if not len(rows):
            continue
        length = int(draws.integers(0, 10))
        prefixes = story[rows, :length].clone()
        for index in range(len(rows)):
            kept = int(draws.integers(0, length + 1))
            prefixes[index, kept:] = torch.from_numpy(draws.integers(5, size, size=length - kept))
        count = int(draws.choice([1, 4, 70, 130]))
        candidates = torch.from_numpy(draws.integers(0, size, size=(len(rows), count)))
        with torch.inference_mode():
            found = cache.log_probabilities(rows, prefixes, candidates)
        expected = slow(setting.guide, [contexts[row // 3] for row in rows.tolist()], prefixes, candidates)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_candidates_of_another_length(setting: Setting) -> None:
    """A row that was asked about after three tokens is asked about after two: the states lie elsewhere."""
    contexts = setting.backbone.encode_contexts(setting.prompts[:1])
    cache = GuideCache(setting.guide, contexts, beams=1, capacity=9)
    row, next_one = torch.tensor([0]), torch.tensor([[30]])
    with torch.inference_mode():
        cache.log_probabilities(row, torch.tensor([[10, 11, 12]]), torch.tensor([[20, 21]]))
        found = cache.log_probabilities(row, torch.tensor([[10, 20]]), next_one)
    torch.testing.assert_close(
        found, slow(setting.guide, contexts, torch.tensor([[10, 20]]), next_one), atol=1e-5, rtol=0
    )


def test_prompts_leave_the_cache(setting: Setting) -> None:
    """Those that stay are numbered anew, answered as before, and not read again: a step is a token a candidate."""
    contexts = setting.backbone.encode_contexts(setting.prompts[:4])
    counts = Counts()
    cache = GuideCache(setting.guide, contexts, beams=2, capacity=9, counts=counts)
    prefixes = torch.tensor([[10 + row, 30] for row in range(8)])
    with torch.inference_mode():
        cache.log_probabilities(torch.arange(8), prefixes, torch.tensor([[40, 41, 42]]).expand(8, -1))
        cache.keep(torch.tensor([1, 3]))
        before = counts.forward_passes
        longer = torch.cat([prefixes[[2, 3, 6, 7]], torch.tensor([[41], [42], [40], [40]])], dim=1)
        candidates = torch.tensor([[50, 51]]).expand(4, -1)
        found = cache.log_probabilities(torch.arange(4), longer, candidates)
    assert counts.forward_passes - before == 4 * 2
    expected = slow(setting.guide, [contexts[index] for index in (1, 1, 3, 3)], longer, candidates)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_step_costs_one_token_a_candidate(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = watch(monkeypatch, setting, {})
    spec = BEAM.model_copy(update={"batch_size": len(setting.prompts)})
    steering = Fudge(setting.guide, weight=1.0, top=5)
    generate(setting.backbone, setting.prompts, spec, seed=0, steering=steering)
    prompts = sum(setting.guide.prompts(setting.backbone.encode_contexts(setting.prompts))[1].flatten().tolist())
    rows = len(setting.prompts) * spec.beams
    assert watched.steps == list(range(len(watched.steps)))
    assert steering.counts.forward_passes == prompts + rows * 5 * len(watched.steps)
    assert steering.counts.flops > 0
    idle = Pacer(setting.guide, weight=1.0, top=5, rate=0.0, seed=0, reranking=None)
    generate(setting.backbone, setting.prompts, spec, seed=0, steering=idle)
    assert idle.counts.forward_passes == 0


@pytest.mark.parametrize("spec", [BEAM, NUCLEUS], ids=["beam", "nucleus"])
def test_pacer_does_not_depend_on_the_batch(setting: Setting, spec: DecodingSpec) -> None:
    """A coin is the example's: neither its neighbours nor its place in the batch matter."""

    def replies(prompts: Sequence[Example], size: int, seed: int = 0) -> dict[str, Reply]:
        steering = Pacer(setting.guide, weight=4.0, top=5, rate=0.4, seed=seed, reranking=None)
        decoding = spec.model_copy(update={"batch_size": size})
        found = generate(setting.backbone, prompts, decoding, seed=0, steering=steering)
        return {reply.uid: reply for reply in found}

    together = replies(setting.prompts, 12)
    assert replies(setting.prompts[::-1], 5) == together
    assert replies(setting.prompts, 1) == together
    assert any(replies(setting.prompts, 12, seed=seed) != together for seed in (1, 2, 3))


class Constant:
    """A cache that says the same of everything, and counts its rows."""

    def __init__(self, *values: float) -> None:
        self.values = torch.tensor(values)
        self.rows: list[list[int]] = []

    def log_probabilities(self, rows: Tensor, prefixes: Tensor, candidates: Tensor) -> Tensor:
        self.rows.append(rows.tolist())
        return self.values[candidates]


def test_product_rule_by_hand() -> None:
    """p = (.5, .3, .2), c = (.1, .5, .9), λ = 2: of the top two .5·.01 = .005 and .3·.25 = .075, so 1/16 and 15/16."""
    cache = Constant(*(math.log(value) for value in (0.1, 0.5, 0.9)))
    processor = FudgeProcessor(cache, weight=2.0, top=2, end=9)  # type: ignore[arg-type]
    prompt = torch.tensor([[7, 9, 7]])
    scores = torch.tensor([[0.5, 0.3, 0.2]]).log()
    expected = torch.tensor([[1 / 16, 15 / 16, 0.0]]).log()
    torch.testing.assert_close(processor(prompt, scores), expected)
    torch.testing.assert_close(processor(prompt, scores + 3.0), expected)  # logits do as well as log-probabilities


def test_banned_tokens_stay_banned() -> None:
    """Also where fewer than the top n are left."""
    cache = Constant(-5.0, -0.1, -1.0, -2.0)
    scores = torch.tensor([[1.0, -math.inf, 0.5, -math.inf]])
    for top in (0, 1, 3, 4):
        processor = FudgeProcessor(cache, weight=1.0, top=top, end=9)  # type: ignore[arg-type]
        found = processor(torch.tensor([[0]]), scores)
        assert not found.isnan().any()
        torch.testing.assert_close(found.logsumexp(dim=-1), torch.zeros(1))
        assert found[0, [1, 3]].tolist() == [-math.inf, -math.inf]


def test_rows_that_ended_are_left_alone() -> None:
    cache = Constant(-5.0, -0.1, -1.0)
    processor = FudgeProcessor(cache, weight=1.0, top=2, end=2)  # type: ignore[arg-type]
    scores = torch.tensor([[1.0, 0.5, 0.1]]).repeat(3, 1)
    prompt = torch.tensor([[2], [2], [2]])  # an end token in the prompt ends nothing
    processor(prompt, scores)
    found = processor(torch.cat([prompt, torch.tensor([[1, 1], [2, 0], [0, 2]])], dim=1), scores)
    assert cache.rows == [[0, 1, 2], [0]]
    assert torch.equal(found[1:], scores[1:])
    assert not torch.equal(found[0], scores[0])
    processor(torch.cat([prompt, torch.full((3, 1), 2)], dim=1), scores)
    assert len(cache.rows) == 2


def test_coins() -> None:
    """One for each seed, example and step, shared by the beams of an example, at the rate that was asked for."""

    def flips(seed: int, rate: float, examples: Sequence[int]) -> Tensor:
        processor = PacerProcessor(
            Constant(),  # type: ignore[arg-type]
            weight=1.0,
            top=2,
            end=9,
            rate=rate,
            seed=seed,
            examples=examples,
            beams=3,
        )
        return torch.stack([processor.guided(torch.zeros(3 * len(examples), step)) for step in range(200)])

    hashes = [stable_hash(f"e{index}") for index in range(20)]
    found = flips(0, 0.25, hashes)
    coins = found[:, ::3]
    assert torch.equal(found, coins.repeat_interleave(3, dim=1))
    assert abs(coins.float().mean().item() - 0.25) < 4 * math.sqrt(0.25 * 0.75 / coins.numel())
    assert torch.equal(flips(0, 0.25, hashes[4:2:-1])[:, ::3], coins[:, [4, 3]])
    assert not torch.equal(flips(1, 0.25, hashes), found)
    assert not flips(0, 0.0, hashes).any()
    assert flips(0, 1.0, hashes).all()


def final_auc(guide: PrefixGuide, backbone: Backbone, examples: Sequence[Example]) -> float:
    """Of the log-odds after the last token of each response."""
    contexts = backbone.encode_contexts(examples)
    ids = backbone.tokenizer([example.response for example in examples], add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        odds = [
            guide.log_odds([context], torch.tensor([[*response, backbone.eos]]))[0, -1].item()
            for context, response in zip(contexts, ids, strict=True)
        ]
    return float(roc_auc_score([example.feedback == Feedback.POSITIVE for example in examples], odds))


def test_guide_learns_which_words_are_bad(setting: Setting) -> None:
    held_out = toy(200, "held out")
    assert final_auc(setting.guide, setting.backbone, held_out) > 0.95


@pytest.mark.parametrize("spec", [BEAM, NUCLEUS], ids=["beam", "nucleus"])
def test_fudge_lowers_the_rate_of_bad_words(setting: Setting, spec: DecodingSpec) -> None:
    prompts = toy(80, "many")

    def bad(steering: Steering | None) -> float:
        replies = generate(setting.backbone, prompts, spec, seed=0, steering=steering)
        return sum(any(word in BAD for word in reply.text.split()) for reply in replies) / len(replies)

    plain, steered = bad(None), bad(Fudge(setting.guide, weight=2.0, top=10))
    assert plain > 0.2
    assert steered < plain / 2


def test_guide_is_a_function_of_its_seed_and_survives_its_folder(setting: Setting, tmp_path: Path) -> None:
    spec = PrefixGuideSpec(width=16, heads=2, feedforward=16, epochs=1)
    examples = toy(100, "few")

    def trained(seed: int) -> PrefixGuide:
        torch.rand(3)  # torch's own state plays no part
        return PrefixGuide.train(examples, setting.backbone, spec, seed=seed)

    first, again, other = trained(0), trained(0), trained(1)
    first.save(tmp_path)
    loaded = PrefixGuide.load(tmp_path)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".safetensors"]
    contexts = setting.backbone.encode_contexts(setting.prompts[:3])
    tokens = torch.arange(10, 25).reshape(3, 5)
    odds = [guide.log_odds(contexts, tokens) for guide in (first, again, loaded, other)]
    assert torch.equal(odds[0], odds[1])
    assert torch.equal(odds[0], odds[2])
    assert not torch.equal(odds[0], odds[3])
    assert loaded.spec == spec
    assert loaded.parameters == first.parameters


def test_guide_counts_what_it_costs(setting: Setting) -> None:
    """Examples without a label cost nothing, for they are not read."""
    few = toy(30, "few")
    counts, spec = Counts(), PrefixGuideSpec(width=16, heads=2, feedforward=16, epochs=2, batch_size=8)
    guide = PrefixGuide.train([*few, *Shuffled(few).batch(0)], setting.backbone, spec, seed=0, counts=counts)
    assert counts.examples == counts.forward_passes == counts.backward_passes == 60
    assert counts.updates == 8
    responses = setting.backbone.collate(few, seed=0, step=0).lengths
    assert counts.target_tokens.total() == 2 * sum(responses)
    layers = 4 * 16 * 16 + 3 * 16 * 16 + 2 * 16 + 16 + 17  # attention, gated layers, three norms, the head
    assert counts.flops == 6 * layers * (counts.source_tokens + counts.target_tokens.total())
    assert guide.forward_flops(1) == 2 * layers


def test_guide_needs_both_classes(setting: Setting) -> None:
    good = [example for example in toy(20, "few") if example.feedback == Feedback.POSITIVE]
    with pytest.raises(ValueError, match="both classes"):
        PrefixGuide.train(good, setting.backbone, PrefixGuideSpec(), seed=0)


class Judged:
    """A sequence guide with a rule of its own, for tests."""

    def __init__(self, rule: Callable[[Example], float]) -> None:
        self.rule = rule
        self.seen: list[Example] = []

    def probabilities(self, examples: Sequence[Example]) -> list[float]:
        self.seen += examples
        return [self.rule(example) for example in examples]


def test_reranking_takes_the_least_negative(setting: Setting) -> None:
    """Of all beams, and of as many samples; the guide reads the context with each."""
    judge = Judged(lambda example: len(example.response))
    steering = Reranking(judge, candidates=10)  # type: ignore[arg-type]
    for spec, count in ((BEAM, 4), (NUCLEUS, 10)):
        judge.seen.clear()
        assert steering.candidates(spec) == count
        replies = generate(setting.backbone, setting.prompts, spec, seed=0, steering=steering)
        contexts = {prompt.uid: prompt.context for prompt in setting.prompts}
        assert len(judge.seen) == count * len(setting.prompts)
        assert all(seen.context == contexts[seen.uid] for seen in judge.seen)
        for reply in replies:
            assert len(reply.text) == min(len(seen.response) for seen in judge.seen if seen.uid == reply.uid)
    assert steering.counts.forward_passes == 14 * len(setting.prompts)
    assert steering.candidates(DecodingSpec(strategy="greedy", max_new_tokens=5)) == 1


def test_methods_ask_for_their_guides(setting: Setting) -> None:
    judge = Judged(lambda example: 0.0)
    both = Guides(sequence=judge, prefix=setting.guide)  # type: ignore[arg-type]
    for method in (reranker.Reranker(), fudge.Fudge(), pacer.Pacer()):
        assert method.trained_as() == Transformer()
        assert method.steers
        needed = Guides(**{name: getattr(both, name) for name in method.needs})
        assert method.steering(needed, seed=0) is not None
        with pytest.raises(ValueError, match="was given none"):
            method.steering(Guides(), seed=0)
    assert pacer.Pacer(candidates=1).steering(Guides(prefix=setting.guide), seed=0).candidates(BEAM) == 1
    assert pacer.Pacer().steering(both, seed=0).candidates(BEAM) == BEAM.beams
    with pytest.raises(ValueError, match="sequence guide"):
        pacer.Pacer().steering(Guides(prefix=setting.guide), seed=0)


def test_pacer_reranks_at_the_end(setting: Setting) -> None:
    judge = Judged(lambda example: -len(example.response))
    guides = Guides(sequence=judge, prefix=setting.guide)  # type: ignore[arg-type]
    steering = pacer.Pacer(rate=0.5, top=5).steering(guides, seed=0)
    replies = generate(setting.backbone, setting.prompts, BEAM, seed=0, steering=steering)
    assert len(judge.seen) == BEAM.beams * len(setting.prompts)
    for reply in replies:
        assert len(reply.text) == max(len(seen.response) for seen in judge.seen if seen.uid == reply.uid)
