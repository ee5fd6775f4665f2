"""Decoding: the sampler's distribution, independence of batches, and the rules of a specification."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import stats
from torch import Tensor
from transformers import LogitsProcessor

from cringe.backbones import Backbone, Seq2SeqBackbone
from cringe.counts import Counts
from cringe.data import Example
from cringe.generation import SeededSampler, Steering, generate
from cringe.seeding import stable_hash, uniforms
from cringe.specs import DecodingSpec

MakeBackbone = Callable[..., Seq2SeqBackbone]
MakeExample = Callable[..., Example]
FixedModel = Callable[[Mapping[str, float]], Seq2SeqBackbone]
END = "</s>"


@pytest.fixture(scope="module")
def fixed_model(make_backbone: MakeBackbone) -> FixedModel:
    """A model that gives every token the same probability at every position, whatever it reads; others about 0."""

    def make(probabilities: Mapping[str, float]) -> Seq2SeqBackbone:
        backbone = make_backbone()
        with torch.no_grad():
            backbone.model.model.shared.weight.zero_()
            bias = backbone.model.final_logits_bias.fill_(-200.0)
            for token, probability in probabilities.items():
                bias[0, backbone.tokenizer.convert_tokens_to_ids(token)] = math.log(probability)
        return backbone

    return make


@pytest.fixture(scope="module")
def sharp(make_backbone: MakeBackbone) -> Seq2SeqBackbone:
    """A random model whose replies vary with the context and the position."""
    backbone = make_backbone(seed=2)
    with torch.no_grad():
        for weight in backbone.model.parameters():
            if weight.dim() == 2:
                weight.mul_(20)
        backbone.model.final_logits_bias[0, :5] = -9.0
        backbone.model.final_logits_bias[0, 2] = 5.0  # it ends now and then
    return backbone


@pytest.fixture(scope="module")
def prompts(make_example: MakeExample) -> list[Example]:
    """Contexts of many lengths, some of them equal."""
    turns = ["do you like it ?", "i have two dogs and a cat .", "hi", "what do you do for work ? no , i never do ."]
    contexts = [turns[index % 4 : index % 4 + index % 3] for index in range(17)]
    return [make_example(f"{index}", "x", "positive", *context) for index, context in enumerate(contexts)]


NUCLEUS = DecodingSpec(strategy="nucleus", top_p=0.9, max_new_tokens=12)
BEAM = DecodingSpec(
    strategy="beam", beams=4, min_new_tokens=3, max_new_tokens=12, no_repeat_ngram=3, no_context_ngram=3
)
GREEDY = DecodingSpec(strategy="greedy", max_new_tokens=12)


# --- the sampler


def chosen(scores: Tensor) -> list[int]:
    """The only token that is left in each row."""
    assert (scores.isfinite().sum(dim=-1) == 1).all()
    tokens: list[int] = scores.argmax(dim=-1).tolist()
    return tokens


def chi_square(tokens: Sequence[object], probabilities: Mapping[object, float]) -> float:
    """The p-value; a token without a probability gives 0."""
    counts = Counter(tokens)
    if not set(counts) <= set(probabilities):
        return 0.0
    observed = [counts[token] for token in probabilities]
    expected = np.array(list(probabilities.values()))
    return float(stats.chisquare(observed, len(tokens) * expected / expected.sum()).pvalue)


def test_sampler_draws_from_the_softmax() -> None:
    """20,000 rows of the same logits, at two positions; -inf is never drawn, and what is left keeps its score."""
    logits = torch.tensor([-math.inf, 1.0, 0.0, -math.inf, 2.0, -1.0, 0.5, -math.inf])
    rows = logits.repeat(20_000, 1)
    sampler = SeededSampler(seed=1, examples=[stable_hash(str(index)) for index in range(20_000)])
    weights = logits.exp()
    probabilities = {index: float(weights[index] / weights.sum()) for index in (1, 2, 4, 5, 6)}
    draws = []
    for position in range(2):
        scores = sampler(torch.zeros(20_000, 7 + position, dtype=torch.long), rows)
        draws.append(chosen(scores))
        assert chi_square(draws[-1], probabilities) > 1e-3
        assert torch.equal(scores.max(dim=-1).values, logits[draws[-1]])
    pairs = {(a, b): p * q for a, p in probabilities.items() for b, q in probabilities.items()}
    assert chi_square(list(zip(*draws, strict=True)), pairs) > 1e-3


def test_sampler_inverts_the_distribution() -> None:
    """Token j of p = (1/4, 1/4, 1/2) where the draw lies in [0, 1/4), [1/4, 1/2), [1/2, 1), at each row's position."""
    examples = [stable_hash(str(index)) for index in range(300)]
    sampler = SeededSampler(seed=5, examples=examples)
    logits = torch.tensor([1.0, 1.0, 2.0]).log().repeat(300, 1)
    for position in range(3):
        draws = uniforms(5, "sample", step=0, examples=examples, positions=[position])[:, 0]
        expected = np.searchsorted([0.25, 0.5], draws, side="right").tolist()
        assert chosen(sampler(torch.zeros(300, 4 + position, dtype=torch.long), logits)) == expected


def test_sampler_rows_are_their_examples() -> None:
    """A row draws by its example and position alone: not by its neighbours, nor by the prompt's length."""
    examples = [stable_hash(str(index)) for index in range(50)]
    logits = torch.zeros(50, 9)
    whole = chosen(SeededSampler(seed=0, examples=examples)(torch.zeros(50, 1, dtype=torch.long), logits))
    part = SeededSampler(seed=0, examples=examples[20:10:-1])(torch.zeros(10, 6, dtype=torch.long), logits[:10])
    assert chosen(part) == whole[20:10:-1]
    other = SeededSampler(seed=1, examples=examples)(torch.zeros(50, 1, dtype=torch.long), logits)
    assert chosen(other) != whole


def test_nucleus_of_a_whole_model(fixed_model: FixedModel, make_example: MakeExample) -> None:
    """p = (0.5, 0.3, 0.15, 0.05), nucleus 0.9: the first three, renormalised; each position and example afresh."""
    backbone = fixed_model({"x": 0.15, "y": 0.5, "z": 0.3, "w": 0.05})
    examples = [make_example(f"e{index}", "x", "positive", "hi") for index in range(300)]
    spec = DecodingSpec(strategy="nucleus", top_p=0.9, max_new_tokens=10, batch_size=100)
    replies = generate(backbone, examples, spec, seed=0)
    letters = "".join(reply.text for reply in replies)
    assert len(letters) == 3_000
    probabilities = {"y": 0.5 / 0.95, "z": 0.3 / 0.95, "x": 0.15 / 0.95}
    assert chi_square(letters, probabilities) > 1e-3
    pairs = [reply.text[index : index + 2] for reply in replies for index in range(0, 10, 2)]
    assert chi_square(pairs, {a + b: p * q for a, p in probabilities.items() for b, q in probabilities.items()}) > 1e-3


def test_a_small_nucleus_is_greedy(sharp: Seq2SeqBackbone, prompts: list[Example]) -> None:
    spec = DecodingSpec(strategy="nucleus", top_p=1e-6, max_new_tokens=12)
    assert generate(sharp, prompts, spec, seed=4) == generate(sharp, prompts, GREEDY, seed=0)


# --- independence


@pytest.mark.parametrize("spec", [NUCLEUS, BEAM, GREEDY], ids=lambda spec: spec.strategy)
def test_replies_do_not_depend_on_batches(spec: DecodingSpec, sharp: Seq2SeqBackbone, prompts: list[Example]) -> None:
    """One at a time, five, or all; in any order; in any company. They come back in the order asked."""
    expected = generate(sharp, prompts, spec, seed=0)
    assert [reply.uid for reply in expected] == [example.uid for example in prompts]
    assert len({reply.text for reply in expected}) > 5
    assert len({reply.tokens for reply in expected}) > 1 or spec.strategy == "beam"
    for size in (1, 5):
        assert generate(sharp, prompts, spec.model_copy(update={"batch_size": size}), seed=0) == expected
    small = spec.model_copy(update={"batch_size": 4})
    assert generate(sharp, prompts[::-1], small, seed=0) == expected[::-1]
    assert generate(sharp, prompts[3:9], small, seed=0) == expected[3:9]
    assert generate(sharp, [], spec, seed=0) == []


@pytest.mark.parametrize("beams", [2, 7])
def test_the_cache_changes_nothing(beams: int, sharp: Seq2SeqBackbone, prompts: list[Example]) -> None:
    """Beams that change places keep what they have read: every token computed anew gives the same replies."""
    spec = BEAM.model_copy(update={"beams": beams})
    with torch.inference_mode():
        inputs = {name: value for name, value in sharp.generation_inputs(prompts).items() if name != "past_key_values"}
        sequences = sharp.model.generate(
            **inputs,
            num_beams=beams,
            length_penalty=spec.length_penalty,
            no_repeat_ngram_size=spec.no_repeat_ngram,
            encoder_no_repeat_ngram_size=spec.no_context_ngram,
            min_new_tokens=spec.min_new_tokens,
            max_new_tokens=spec.max_new_tokens,
            renormalize_logits=True,
            use_cache=False,
        )
    found = [(reply.text, reply.tokens) for reply in generate(sharp, prompts, spec, seed=0)]
    assert found == sharp.decode(sequences[:, 1:])


def test_only_sampling_depends_on_the_seed(sharp: Seq2SeqBackbone, prompts: list[Example]) -> None:
    for spec in (NUCLEUS, BEAM, GREEDY):
        first, second = (generate(sharp, prompts, spec, seed=seed) for seed in (0, 1))
        assert (first != second) == spec.sampled
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(99)
            before = torch.random.get_rng_state()
            assert generate(sharp, prompts, spec, seed=0) == first
            assert torch.equal(torch.random.get_rng_state(), before)


def test_sampling_depends_on_the_example(sharp: Seq2SeqBackbone, make_example: MakeExample) -> None:
    """The same context under twelve names: a dozen samples by nucleus, one reply by beam."""
    twins = [make_example(f"twin{index}", "x", "positive", "do you ?") for index in range(12)]
    assert len({reply.text for reply in generate(sharp, twins, NUCLEUS, seed=0)}) > 6
    assert len({reply.text for reply in generate(sharp, twins, BEAM, seed=0)}) == 1


# --- rules


@pytest.mark.parametrize(
    "how", [{"strategy": "beam", "beams": 3}, {"strategy": "nucleus", "top_p": 0.9}, {"strategy": "greedy"}]
)
def test_lengths(how: dict[str, object], fixed_model: FixedModel, prompts: list[Example]) -> None:
    """A model that would end at once writes the minimum and ends; one that never would is cut at the maximum."""
    spec = DecodingSpec.model_validate({**how, "min_new_tokens": 5, "max_new_tokens": 9, "length_penalty": 0.0})
    eager = generate(fixed_model({END: 0.98, "x": 0.01, "y": 0.01}), prompts, spec, seed=0)
    assert {(len(reply.text), reply.tokens) for reply in eager} == {(5, 6)}
    endless = generate(fixed_model({"x": 0.5, "y": 0.5}), prompts, spec, seed=0)
    assert {(len(reply.text), reply.tokens) for reply in endless} == {(9, 9)}
    free = spec.model_copy(update={"min_new_tokens": 0})
    assert {
        (reply.text, reply.tokens) for reply in generate(fixed_model({END: 0.999, "x": 0.001}), prompts, free, seed=3)
    } == {("", 1)}


def test_repetition_block_by_hand(fixed_model: FixedModel, prompts: list[Example]) -> None:
    """Greedy with z > q > w > v, no 2-gram twice: z, z (zz is new), q (zz is not), z, w (zz, zq are not), z, v."""
    backbone = fixed_model({"z": 0.5, "q": 0.3, "w": 0.15, "v": 0.05})
    spec = DecodingSpec(strategy="greedy", max_new_tokens=7)
    assert {reply.text for reply in generate(backbone, prompts, spec, seed=0)} == {"zzzzzzz"}
    spec = spec.model_copy(update={"no_repeat_ngram": 2})
    assert {reply.text for reply in generate(backbone, prompts, spec, seed=0)} == {"zzqzwzv"}


def test_context_block_by_hand(fixed_model: FixedModel, make_example: MakeExample) -> None:
    """Greedy with z > q: the context says "zz", so after z comes q; its neighbour in the batch says nothing of it."""
    backbone = fixed_model({"z": 0.6, "q": 0.4})
    pair = [make_example("a", "x", "positive", "zzz"), make_example("b", "x", "positive", "qxq or zq or so")]
    ids = backbone.collate(pair, seed=0, step=0).source
    z, q = backbone.tokenizer.convert_tokens_to_ids(["z", "q"])
    assert [z, z] in ids[0].unfold(0, 2, 1).tolist()
    assert [z, q] in ids[1].unfold(0, 2, 1).tolist()
    spec = DecodingSpec(strategy="greedy", max_new_tokens=6, no_context_ngram=2)
    assert [reply.text for reply in generate(backbone, pair, spec, seed=0)] == ["zqzqzq", "zzzzzz"]
    assert [
        reply.text for reply in generate(backbone, pair, spec.model_copy(update={"no_context_ngram": 0}), seed=0)
    ] == [
        "zzzzzz",
        "zzzzzz",
    ]


@pytest.mark.parametrize("how", [{"strategy": "beam", "beams": 5}, {"strategy": "nucleus", "top_p": 0.9}])
def test_blocks_hold_in_every_strategy(
    how: dict[str, object], fixed_model: FixedModel, make_example: MakeExample
) -> None:
    """No 2-gram twice and none of the context's, in beams and in samples; the sampler comes after the blocks."""
    backbone = fixed_model({"z": 0.4, "q": 0.3, "w": 0.2, "v": 0.1})
    examples = [make_example(str(index), "x", "positive", "zqw") for index in range(20)]
    spec = DecodingSpec.model_validate({**how, "max_new_tokens": 6, "no_repeat_ngram": 2, "no_context_ngram": 2})
    for reply in generate(backbone, examples, spec, seed=0):
        pairs = [reply.text[index : index + 2] for index in range(5)]
        assert len(reply.text) == 6
        assert len(set(pairs)) == 5
        assert not {"zq", "qw"} & set(pairs)


@pytest.mark.parametrize(("alpha", "text"), [(0.0, ""), (0.45, ""), (0.49, "xxx"), (1.0, "xxx")])
def test_length_penalty_by_hand(alpha: float, text: str, fixed_model: FixedModel, prompts: list[Example]) -> None:
    """p(end) = 0.4, p(x) = 0.6, three tokens at most; scores are Σ log p / length^α, the end token counted.

    Ending at once: log 0.4 = -0.916 over 1. Three x: 3 log 0.6 = -1.532 over 3^α. Equal at α = log(1.672) / log 3 =
    0.468; one or two x and the end are never best.
    """
    backbone = fixed_model({END: 0.4, "x": 0.6})
    spec = DecodingSpec(strategy="beam", beams=3, min_new_tokens=0, max_new_tokens=3, length_penalty=alpha)
    assert {reply.text for reply in generate(backbone, prompts[:3], spec, seed=0)} == {text}


def test_beam_finds_what_greedy_misses(make_backbone: MakeBackbone, prompts: list[Example]) -> None:
    """Under the model itself, in double, beams are never much less likely than greedy and sometimes more."""
    backbone = make_backbone(seed=2, double=True)
    with torch.no_grad():
        for weight in backbone.model.parameters():
            if weight.dim() == 2:
                weight.mul_(20)
        backbone.model.final_logits_bias[0, :5] = -1e4
    gains = []
    inputs = {name: value for name, value in backbone.generation_inputs(prompts).items() if name != "past_key_values"}
    for how in ({"strategy": "greedy"}, {"strategy": "beam", "beams": 8, "length_penalty": 0.0}):
        spec = DecodingSpec.model_validate({**how, "max_new_tokens": 4})
        sequences = backbone.model.generate(
            **inputs,
            num_beams=spec.beams,
            max_new_tokens=4,
            min_new_tokens=4,
            do_sample=False,
        )
        replies = [reply.text for reply in generate(backbone, prompts, spec, seed=0)]
        assert replies == [text for text, _ in backbone.decode(sequences[:, 1:])]
        with torch.no_grad():
            logits = backbone.model(**inputs, decoder_input_ids=sequences[:, :-1]).logits
        gains.append(logits.log_softmax(dim=-1).gather(-1, sequences[:, 1:, None]).sum(dim=(1, 2)))
    assert (gains[1] - gains[0]).sum() > 0


def test_processors_come_before_the_draw(fixed_model: FixedModel, make_example: MakeExample) -> None:
    """A guide that forbids z to the odd examples is given its batch, and obeyed by samples and by beams."""
    backbone = fixed_model({"z": 0.7, "q": 0.3})
    z = backbone.tokenizer.convert_tokens_to_ids("z")
    examples = [make_example(str(index), "x", "positive", *["hi"] * (index % 2)) for index in range(10)]
    given: list[list[str]] = []

    class Forbid(LogitsProcessor):
        def __init__(self, batch: Sequence[Example]) -> None:
            self._rows = [int(example.uid) % 2 == 1 for example in batch]

        def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
            rows = torch.tensor(self._rows).repeat_interleave(len(scores) // len(self._rows))
            scores = scores.clone()
            scores[rows, z] = -math.inf
            return scores

    class Guided(Steering):
        def processors(
            self, backbone: Backbone, examples: Sequence[Example], spec: DecodingSpec
        ) -> list[LogitsProcessor]:
            given.append([example.uid for example in examples])
            return [Forbid(examples)]

    for spec in (NUCLEUS, DecodingSpec(strategy="beam", beams=2, max_new_tokens=12)):
        small = spec.model_copy(update={"batch_size": 4})
        for reply in generate(backbone, examples, small, seed=0, steering=Guided()):
            assert ("z" in reply.text) == (int(reply.uid) % 2 == 0)
    assert sorted(uid for batch in given for uid in batch) == sorted([str(index) for index in range(10)] * 2)
    assert max(len(batch) for batch in given) == 4


def test_ledger_by_hand(fixed_model: FixedModel, make_example: MakeExample) -> None:
    """Five examples in batches of 2, 3 beams, 6 tokens each: the start token once, then 3 beams · 5 steps."""
    backbone = fixed_model({"x": 0.5, "y": 0.5})
    examples = [make_example(str(index), "x", "positive", "hi") for index in range(5)]
    spec = DecodingSpec(strategy="beam", beams=3, max_new_tokens=6, batch_size=2)
    counts, told = Counts(), []
    generate(
        backbone, examples, spec, seed=0, counts=counts, progress=lambda done, total, note: told.append((done, total))
    )
    source = sum(backbone.context_lengths(examples))
    assert (counts.examples, counts.generated_tokens, counts.source_tokens) == (5, 30, source)
    assert counts.forward_passes == 5 * (1 + 3 * 5)
    assert counts.flops == pytest.approx(backbone.forward_flops(source, 5 * (1 + 3 * 5)))
    assert (counts.updates, counts.backward_passes) == (0, 0)
    assert counts.seconds > 0
    assert told == [(2, 5), (4, 5), (5, 5)]


def test_longer_than_the_model_s_positions(make_backbone: MakeBackbone, prompts: list[Example]) -> None:
    """A specification that the model cannot follow is refused in words."""
    spec = DecodingSpec(strategy="greedy", min_new_tokens=40, max_new_tokens=40)
    with pytest.raises(ValueError, match="40"):
        generate(make_backbone(), prompts, spec, seed=0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"strategy": "greedy", "min_new_tokens": 5, "max_new_tokens": 4},
            "min_new_tokens 5 is above max_new_tokens 4",
        ),
        ({"strategy": "beam"}, "strategy beam does not go with beams 1"),
        ({"strategy": "beam", "beams": 1}, "strategy beam does not go with beams 1"),
        ({"strategy": "greedy", "beams": 2}, "strategy greedy does not go with beams 2"),
        ({"strategy": "nucleus", "beams": 10}, "strategy nucleus does not go with beams 10"),
        ({"strategy": "beam", "beams": 2, "top_p": 0.9}, "top_p 0.9 is for strategy nucleus, not beam"),
        ({"strategy": "greedy", "top_p": 0.5}, "top_p 0.5 is for strategy nucleus, not greedy"),
        ({"strategy": "nucleus", "top_p": 0.0}, "greater than 0"),
        ({"strategy": "nucleus", "top_p": 1.1}, "less than or equal to 1"),
        ({"strategy": "greedy", "max_new_tokens": 0}, "greater than or equal to 1"),
        ({"strategy": "greedy", "temperature": 2.0}, "Extra inputs are not permitted"),
        ({"strategy": "contrastive"}, "'beam', 'nucleus' or 'greedy'"),
    ],
)
def test_specifications_that_contradict_themselves(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DecodingSpec.model_validate({"max_new_tokens": 8} | values)


def test_specification_in_words() -> None:
    assert BEAM.sentence() == (
        "beam 4, score Σ log p / length^0.65; 3 to 12 new tokens; no repeated 3-gram; no 3-gram of the context"
    )
    assert NUCLEUS.sentence() == "nucleus 0.9, one sample; 1 to 12 new tokens"
    assert GREEDY.sentence() == "greedy; 1 to 12 new tokens"
    assert [spec.sampled for spec in (BEAM, NUCLEUS, GREEDY)] == [False, True, False]
