"""Limits: settings at which a method must be another one, token for token and score for score.

On both families, greedy, sampling from a nucleus with the same uniforms, and with beams; every decoding bans tokens
(n-grams, an early end), so that -inf is among the scores that methods are handed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, LogitsProcessor

from cringe.backbones import HEAD, Backbone, build_backbone, load_backbone
from cringe.data import Example, Feedback
from cringe.generation import Reply, SeededSampler, Steering, generate
from cringe.guidance import Fudge, Pacer, Reranking
from cringe.heads import DirectorHead
from cringe.methods.base import Method
from cringe.methods.director import Director
from cringe.methods.director_shared import DirectorShared
from cringe.methods.transformer import Transformer
from cringe.prefix_guide import PrefixGuide
from cringe.seeding import stream
from cringe.specs import DecodingSpec, PrefixGuideSpec, ScratchBackbone, TrainingSettings
from cringe.trainer import Trainer

WORDS = ["i", "do", "not", "like", "pizza", "dogs", "cats", "work", "you", "have", "two", "a", "no", "never"]
BLOCKS = {"min_new_tokens": 5, "max_new_tokens": 12, "no_repeat_ngram": 3, "no_context_ngram": 3, "batch_size": 5}
DECODINGS = {
    "greedy": DecodingSpec(strategy="greedy", **BLOCKS),  # type: ignore[arg-type]
    "nucleus": DecodingSpec(strategy="nucleus", top_p=0.9, **BLOCKS),  # type: ignore[arg-type]
    "beam": DecodingSpec(strategy="beam", beams=4, **BLOCKS),  # type: ignore[arg-type]
}
TOP = 6
Fresh = Callable[[], Backbone]


def babble(count: int, purpose: str, feedbacks: Sequence[Feedback]) -> list[Example]:
    """Random words in answer to none to two turns of random words."""
    draws = stream(0, purpose)

    def text() -> str:
        return " ".join(draws.choice(WORDS, size=int(draws.integers(1, 7))))

    examples = []
    for index in range(count):
        turns = tuple(text() for _ in range(int(draws.integers(3))))
        own = tuple((len(turns) - place) % 2 == 0 for place in range(len(turns)))
        feedback = feedbacks[index % len(feedbacks)]
        uid = f"{purpose}-{index}"
        examples.append(Example(uid=uid, context=turns, response=text(), feedback=feedback, group=uid, own=own))
    return examples


PROMPTS = babble(11, "prompts", [Feedback.UNLABELLED])


class Stepwise:
    """A sampler that cuts its examples into batches of 16."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = examples

    def batch(self, step: int) -> list[Example]:
        return [self._examples[(16 * step + index) % len(self._examples)] for index in range(16)]


def train(backbone: Backbone, method: Method, examples: Sequence[Example] | None = None, *, updates: int = 40) -> None:
    """The same steps for every method, on examples of all feedbacks when none are given."""
    sampler = Stepwise(examples or babble(200, "train", list(Feedback)))
    settings = TrainingSettings(updates=updates, batch_size=16, learning_rate=1e-2, warmup_updates=4)
    Trainer(backbone, method, sampler, settings, seed=0).train()


@pytest.fixture(scope="module", params=["seq2seq", "causal"])
def fresh(request: pytest.FixtureRequest, scratch: ScratchBackbone, tokenizer: Any) -> Fresh:
    """Makes models of a family, always the same one; with a constant added to its logits, where the family has one."""
    spec = scratch.model_copy(update={"family": request.param, "width": 32})

    def make() -> Backbone:
        backbone = build_backbone(spec, tokenizer, seed=0)
        if request.param == "seq2seq":
            generator = torch.Generator().manual_seed(0)
            bias = backbone.model.final_logits_bias
            backbone.model.final_logits_bias = torch.randn(bias.shape, generator=generator)
        backbone.model.eval()
        return backbone

    return make


class Setting(NamedTuple):
    backbone: Backbone
    guide: PrefixGuide
    constant: PrefixGuide
    """A guide that is of the same opinion about everything."""


@pytest.fixture(scope="module")
def setting(fresh: Fresh) -> Setting:
    """A language model that half remembers a reply to each prompt, and guides."""
    backbone = fresh()
    train(backbone, Transformer(), PROMPTS, updates=100)
    spec = PrefixGuideSpec(width=16, heads=2, layers=2, feedforward=16, epochs=1)
    labelled = babble(64, "guide", [Feedback.POSITIVE, Feedback.NEGATIVE])
    guides = [PrefixGuide.train(labelled, backbone, spec, seed=0) for _ in range(2)]
    torch.nn.init.zeros_(guides[1]._model["head"].weight)
    return Setting(backbone, *guides)


@pytest.fixture(params=list(DECODINGS))
def decoding(request: pytest.FixtureRequest) -> DecodingSpec:
    return DECODINGS[request.param]


class Found(NamedTuple):
    """What a decoding came to."""

    replies: list[Reply]
    ids: list[Tensor]
    """Token ids of each batch."""
    scores: list[Tensor]
    """Of each step of each batch, (rows, V) log-probabilities, before sampling; and of finished beams, their scores."""


def decode(
    backbone: Backbone, spec: DecodingSpec, steering: Steering | None = None, prompts: Sequence[Example] = PROMPTS
) -> Found:
    """`generate`, with a look at ids and scores on the way."""
    found = Found([], [], [])
    plain, sample = backbone.model.generate, SeededSampler.__call__

    def watched(**inputs: object) -> Tensor:
        output = plain(**inputs, return_dict_in_generate=True, output_scores=True)
        ids: Tensor = output.sequences
        found.ids.append(ids)
        if spec.beams > 1:
            found.scores.extend([*output.scores, output.sequences_scores])
        elif not spec.sampled:
            # A row that has ended is fed padding: its scores are nobody's.
            new = ids[:, ids.shape[1] - len(output.scores) :]
            running = [(new[:, :step] != backbone.eos).all(dim=1) for step in range(len(output.scores))]
            found.scores.extend(scores[rows] for scores, rows in zip(output.scores, running, strict=True))
        return ids

    def sampled(self: SeededSampler, input_ids: Tensor, scores: Tensor) -> Tensor:
        chosen: Tensor = sample(self, input_ids, scores)
        start = self._start or 0
        running = (input_ids[:, start:] != backbone.eos).all(dim=1)
        found.scores.append(scores.log_softmax(dim=-1)[running])
        return chosen

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SeededSampler, "__call__", sampled)
        backbone.model.generate = watched
        try:
            found.replies.extend(generate(backbone, prompts, spec, seed=0, steering=steering))
        finally:
            del backbone.model.generate
    return found


def assert_same(first: Found, second: Found) -> None:
    """Equal token ids, and equal scores within 1e-5; what is -inf in one is so in the other."""
    assert first.replies == second.replies
    assert all(torch.equal(one, other) for one, other in zip(first.ids, second.ids, strict=True))
    assert first.scores
    for one, other in zip(first.scores, second.scores, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


class Truncated(Steering):
    """The language model cut to its most probable tokens: the n-th largest score is the threshold."""

    def processors(self, *args: object) -> list[LogitsProcessor]:
        class Cut(LogitsProcessor):
            def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
                least = scores.sort(dim=-1, descending=True).values[:, TOP - 1 : TOP]
                return scores.masked_fill(scores < least, -math.inf)

        return [Cut()]


def test_models_are_not_degenerate(setting: Setting, decoding: DecodingSpec) -> None:
    """Or else equal replies would mean little: they differ from each other, and the guide changes them."""
    plain = decode(setting.backbone, decoding)
    assert len({reply.text for reply in plain.replies}) > len(PROMPTS) / 2
    steered = decode(setting.backbone, decoding, Fudge(setting.guide, weight=20.0, top=TOP))
    assert steered.replies != plain.replies


def test_fudge_without_weight_is_plain(setting: Setting, decoding: DecodingSpec) -> None:
    plain = decode(setting.backbone, decoding)
    assert_same(decode(setting.backbone, decoding, Fudge(setting.guide, weight=0.0, top=0)), plain)


def test_fudge_with_a_constant_guide_is_plain(setting: Setting, decoding: DecodingSpec) -> None:
    plain = decode(setting.backbone, decoding)
    assert_same(decode(setting.backbone, decoding, Fudge(setting.constant, weight=2.0, top=0)), plain)


def test_fudge_over_the_top_without_weight_is_the_truncated_model(setting: Setting, decoding: DecodingSpec) -> None:
    truncated = decode(setting.backbone, decoding, Truncated())
    assert_same(decode(setting.backbone, decoding, Fudge(setting.guide, weight=0.0, top=TOP)), truncated)
    assert_same(decode(setting.backbone, decoding, Fudge(setting.constant, weight=2.0, top=TOP)), truncated)


def test_pacer_at_rate_zero_is_plain(setting: Setting, decoding: DecodingSpec) -> None:
    steering = Pacer(setting.guide, weight=3.0, top=TOP, rate=0.0, seed=0, reranking=None)
    assert_same(decode(setting.backbone, decoding, steering), decode(setting.backbone, decoding))


def test_pacer_at_rate_one_is_fudge(setting: Setting, decoding: DecodingSpec) -> None:
    fudge = Fudge(setting.guide, weight=3.0, top=TOP)
    pacer = Pacer(setting.guide, weight=3.0, top=TOP, rate=1.0, seed=0, reranking=None)
    assert_same(decode(setting.backbone, decoding, pacer), decode(setting.backbone, decoding, fudge))


class Indifferent:
    """A sequence guide to which all replies are equal."""

    def probabilities(self, examples: Sequence[Example]) -> list[float]:
        return [0.5] * len(examples)


def test_reranker_with_equal_scores_keeps_the_order(setting: Setting, decoding: DecodingSpec) -> None:
    """So the best beam stays the reply, and of samples the first, which is the plain one."""
    plain = decode(setting.backbone, decoding)
    found = decode(setting.backbone, decoding, Reranking(Indifferent(), candidates=4))  # type: ignore[arg-type]
    assert found.replies == plain.replies
    rows = 1 if decoding.strategy == "greedy" else 4
    for one, other in zip(found.ids, plain.ids, strict=True):
        assert len(one) == rows * len(other)
        width = min(one.shape[1], other.shape[1])
        assert torch.equal(one[::rows, :width], other[:, :width])


@pytest.mark.parametrize("cls", [Director, DirectorShared])
def test_director_with_both_gammas_zero_is_plain(fresh: Fresh, cls: type[Director], decoding: DecodingSpec) -> None:
    """Trained from the same weights on the same batches; the constant of BART's family is trained around, too."""
    plain, director = fresh(), fresh()
    method = cls(gamma=0.0, decoding_gamma=0.0)
    method.wrap(director, seed=0)
    train(plain, Transformer())
    train(director, method)
    assert_same(decode(director, decoding), decode(plain, decoding))


def hidden_states(backbone: Backbone) -> Tensor:
    """(200, d) of the size that the model's own have."""
    width = backbone.model.get_input_embeddings().weight.shape[1]
    return 4 * torch.randn(200, width, generator=torch.Generator().manual_seed(1))


def trained_head(backbone: Backbone, cls: type[Director], **settings: float) -> DirectorHead:
    """DIRECTOR's head after some training."""
    method = cls(**settings)
    method.wrap(backbone, seed=0)
    train(backbone, method)
    assert isinstance(backbone.head, DirectorHead)
    return backbone.head


@pytest.mark.parametrize("cls", [Director, DirectorShared])
@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 20.0])
def test_director_is_normalised(fresh: Fresh, cls: type[Director], gamma: float) -> None:
    backbone = fresh()
    head = trained_head(backbone, cls, decoding_gamma=gamma)
    with torch.inference_mode():
        scores = head(hidden_states(backbone))
    torch.testing.assert_close(scores.logsumexp(dim=-1), torch.zeros(len(scores)), atol=1e-5, rtol=0)


def test_director_shared_keeps_the_ranks(fresh: Fresh) -> None:
    """log p + γ log σ(a s + b) rises with s while a > 0, so the order of tokens is the language model's."""
    backbone = fresh()
    head = trained_head(backbone, DirectorShared, gamma=1.0, decoding_gamma=3.0)
    assert head.scale is not None
    assert head.scale > 0
    assert head.scale != 1
    with torch.inference_mode():
        hidden = hidden_states(backbone)
        lm, order = head.lm_logits(hidden).sort(dim=-1)
        steered = head(hidden).gather(-1, order)
    steps = steered.diff(dim=-1)
    assert steps.min() >= -1e-5
    assert (steps[lm.diff(dim=-1) > 1e-3] > 0).all()
    assert (steered - lm.log_softmax(dim=-1)).abs().max() > 0.1
    with_head = decode(backbone, DECODINGS["greedy"])
    head.gamma = 0.0
    assert all(map(torch.equal, decode(backbone, DECODINGS["greedy"]).ids, with_head.ids))


@pytest.mark.parametrize("cls", [Director, DirectorShared])
def test_director_survives_its_folder(fresh: Fresh, cls: type[Director], tmp_path: Path) -> None:
    """Saved and loaded it decodes as before; what transformers loads from there is the language model alone."""
    backbone = fresh()
    head = trained_head(backbone, cls)
    before = decode(backbone, DECODINGS["beam"])
    backbone.save(tmp_path)
    assert_same(decode(backbone, DECODINGS["beam"]), before)  # saving takes the head off and puts it on again
    assert not [path for path in tmp_path.iterdir() if path.suffix in {".bin", ".pt", ".pkl"}]

    loaded = load_backbone(tmp_path)
    cls().wrap(loaded, seed=1)
    assert isinstance(loaded.head, DirectorHead)
    loaded.head.load(tmp_path / HEAD)
    loaded.model.eval()
    assert {name: weight.tolist() for name, weight in loaded.head.own_weights().items()} == {
        name: weight.tolist() for name, weight in head.own_weights().items()
    }
    assert_same(decode(loaded, DECODINGS["beam"]), before)

    auto = AutoModelForCausalLM if backbone.spec.family == "causal" else AutoModelForSeq2SeqLM
    theirs = auto.from_pretrained(tmp_path, use_safetensors=True, local_files_only=True)
    ids = torch.tensor([[10, 11, 12]])
    head.gamma = 0.0  # log-softmax of the language model
    with torch.inference_mode():
        inputs = {"input_ids": ids} | ({} if backbone.spec.family == "causal" else {"decoder_input_ids": ids})
        expected = backbone.model(**inputs).logits
        torch.testing.assert_close(theirs(**inputs).logits.log_softmax(dim=-1), expected, atol=1e-5, rtol=0)


def test_embeddings_stay_tied(fresh: Fresh, tmp_path: Path) -> None:
    """Through attaching, a training step, saving and loading there is one matrix."""

    def tied(backbone: Backbone) -> bool:
        projection = backbone.model.get_output_embeddings()
        return projection.weight is backbone.model.get_input_embeddings().weight

    backbone = fresh()
    weights = backbone.parameters
    assert tied(backbone)
    head = trained_head(backbone, Director)
    assert tied(backbone)
    own = sum(weight.numel() for weight in head.own_weights().values())
    assert backbone.parameters == weights + own
    backbone.save(tmp_path)
    assert tied(backbone)
    loaded = load_backbone(tmp_path)
    assert tied(loaded)
    Director().wrap(loaded, seed=0)
    assert tied(loaded)
    assert loaded.parameters == weights + own


def test_constant_of_the_logits_is_kept(fresh: Fresh, tmp_path: Path) -> None:
    """BlenderBot's ``final_logits_bias`` moves into the head and back into the files; it is added once."""
    backbone = fresh()
    if backbone.spec.family == "causal":  # has none
        Director().wrap(backbone, seed=0)
        assert backbone.head is not None
        assert backbone.head.constant is None
        return
    bias = backbone.model.final_logits_bias.clone()
    assert bias.abs().max() > 1
    plain = decode(fresh(), DECODINGS["beam"])
    Director(decoding_gamma=0.0).wrap(backbone, seed=0)
    backbone.model.eval()
    assert_same(decode(backbone, DECODINGS["beam"]), plain)
    batch = backbone.collate(PROMPTS, seed=0, step=0)
    with torch.inference_mode():
        torch.testing.assert_close(backbone.logits(batch), fresh().logits(batch).log_softmax(dim=-1))
    backbone.save(tmp_path)
    assert torch.equal(load_backbone(tmp_path).model.final_logits_bias, bias)
