"""The beam search finds what transformers' ``generate`` finds: the same ids, and scores within rounding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
import transformers
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedModel

from cringe.backbones import Backbone
from cringe.beam import _MODELS, BeamSearch, supports
from cringe.beam_tree import BeamTree
from cringe.blocks import ContextBlock, RepeatBlock, RowProcessor
from cringe.counts import Counts
from cringe.data import Example
from cringe.generation import Steering, generate
from cringe.guidance import Fudge, Pacer
from cringe.heads import DirectorHead
from cringe.losses import largest
from cringe.prefix_guide import PrefixGuide, _build
from cringe.seeding import torch_seed
from cringe.specs import DecodingSpec, PrefixGuideSpec

MakeBackbone = Callable[..., Backbone]
MakeExample = Callable[..., Example]

PAD, END = 1, 2
_COMMON = {"vocab_size": 60, "pad_token_id": PAD, "bos_token_id": 3, "eos_token_id": END}
_CODER = {
    **_COMMON,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 64,
    "decoder_start_token_id": 3,
    "forced_eos_token_id": None,
}
_GROUPED = {
    **_COMMON,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "bart": ("Bart", {**_CODER, "forced_bos_token_id": 7, "forced_eos_token_id": END}),
    "blenderbot": ("Blenderbot", _CODER),
    "blenderbot-small": ("BlenderbotSmall", _CODER),
    "mbart": ("MBart", _CODER),
    "pegasus": ("Pegasus", _CODER),
    "llama": ("Llama", _GROUPED),
    "qwen2": ("Qwen2", _GROUPED),
    "gpt2": ("GPT2", {**_COMMON, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}),
}


def build(name: str, seed: int = 0) -> PreTrainedModel:
    """A tiny model with decided opinions, which ends now and then."""
    family, settings = SHAPES[name]
    config = getattr(transformers, f"{family}Config")(**settings)
    kinds = {True: "ForConditionalGeneration", False: "LMHeadModel" if name == "gpt2" else "ForCausalLM"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = getattr(transformers, family + kinds[config.is_encoder_decoder])(config).eval()
        for weight in model.parameters():
            weight.data.mul_(20.0 if weight.dim() == 2 else 1.0)
    model.generation_config.encoder_no_repeat_ngram_size = 0  # BlenderBot's own, which `Backbone` takes away as well
    model.generation_config.forced_bos_token_id = getattr(config, "forced_bos_token_id", None)
    return model


def prompts(model: PreTrainedModel, count: int = 5, seed: int = 0) -> dict[str, Tensor]:
    """Contexts of 3 to 9 tokens, padded on the family's side; few different tokens, so that blocks bite."""
    draws = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 10, (count, 1), generator=draws)
    ids = torch.randint(4, 12, (count, 9), generator=draws)
    mask = torch.arange(9) < lengths
    if not model.config.is_encoder_decoder:
        mask = mask.flip(1)
    return {"input_ids": ids.masked_fill(~mask, PAD), "attention_mask": mask.long()}


class Found(NamedTuple):
    ids: Tensor
    scores: Tensor


def theirs(
    model: PreTrainedModel, inputs: dict[str, Tensor], *, beams: int, penalty: float, returned: int, **rest: Any
) -> Found:
    """The reference."""
    words = {"num_beams": beams, "length_penalty": penalty, "num_return_sequences": returned, "early_stopping": False}
    with torch.inference_mode():
        output = model.generate(
            **inputs, **words, **rest, renormalize_logits=True, output_scores=True, return_dict_in_generate=True
        )
    return Found(output.sequences, output.sequences_scores)


def ours(
    model: PreTrainedModel,
    inputs: dict[str, Tensor],
    *,
    beams: int,
    penalty: float,
    returned: int,
    no_repeat_ngram_size: int = 0,
    encoder_no_repeat_ngram_size: int = 0,
    logits_processor: LogitsProcessorList | None = None,
    **rest: Any,
) -> Found:
    """The same settings."""
    search = BeamSearch(beams=beams, length_penalty=penalty, returned=returned)
    steps: list[LogitsProcessor] = []
    if no_repeat_ngram_size:
        steps.append(RepeatBlock(no_repeat_ngram_size))
    if encoder_no_repeat_ngram_size:
        steps.append(ContextBlock(encoder_no_repeat_ngram_size, inputs["input_ids"]))
    steps += logits_processor or []
    with torch.inference_mode():
        output = model.generate(
            **inputs,
            **rest,
            custom_generate=search,
            logits_processor=LogitsProcessorList(steps),
            renormalize_logits=True,
            return_dict_in_generate=True,
        )
    return Found(output.sequences, output.sequences_scores)


def assert_same(model: PreTrainedModel, inputs: dict[str, Tensor], **settings: Any) -> Found:
    """Returns what both found."""
    expected, found = theirs(model, inputs, **settings), ours(model, inputs, **settings)
    assert found.ids.tolist() == expected.ids.tolist()
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-5, rtol=1e-5)
    return found


def test_every_architecture_is_here() -> None:
    assert set(SHAPES) == _MODELS


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_architecture(name: str, seed: int) -> None:
    """Unequal contexts, padding, a minimum, both blocks, all beams returned; long enough for the tree to be pruned."""
    model = build(name, seed)
    assert supports(model)
    blocks = {"no_repeat_ngram_size": 3, "encoder_no_repeat_ngram_size": 3}
    found = assert_same(
        model,
        prompts(model, seed=seed),
        beams=5,
        penalty=0.65,
        returned=5,
        min_new_tokens=3,
        max_new_tokens=30,
        **blocks,
    )
    assert len(set(map(tuple, found.ids.tolist()))) > 5  # the contexts make a difference


@pytest.mark.parametrize("name", ["blenderbot", "llama"])
@pytest.mark.parametrize("penalty", [0.0, 0.65, 1.0, 2.0, -1.0])
@pytest.mark.parametrize(("beams", "least", "most"), [(2, 0, 1), (3, 0, 10), (7, 4, 10), (10, 10, 10)])
def test_settings(name: str, penalty: float, beams: int, least: int, most: int) -> None:
    model = build(name, seed=3)
    for count in (1, 6):
        inputs = prompts(model, count, seed=count)
        for returned in {1, beams}:
            assert_same(
                model,
                inputs,
                beams=beams,
                penalty=penalty,
                returned=returned,
                min_new_tokens=least,
                max_new_tokens=most,
            )


class Ending(RowProcessor):
    """Makes the end likely, from another step on for each prompt."""

    def __init__(self, count: int) -> None:
        self._start = 0
        self._when = torch.arange(count) * 4 % 13

    def keep(self, prompts: Tensor) -> None:
        self._when = self._when[prompts]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self._start = self._start or input_ids.shape[1]
        likely = 25.0 * (input_ids.shape[1] - self._start >= self._when)
        rows = likely.repeat_interleave(len(scores) // len(likely))
        return scores.index_add(1, torch.tensor([END]), rows[:, None])


@pytest.mark.parametrize("name", ["blenderbot", "gpt2"])
def test_prompts_that_are_done_leave(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replies that end at different times: rows leave, and nothing changes for those that stay."""
    left: list[int] = []
    keep = BeamTree.keep

    def watched(self: BeamTree, prompts: Tensor) -> None:
        left.append(len(prompts))
        keep(self, prompts)

    monkeypatch.setattr(BeamTree, "keep", watched)
    model = build(name, seed=5)
    for seed in range(4):
        settings: dict[str, Any] = {"beams": 3, "penalty": 0.0, "returned": 3, "max_new_tokens": 30}
        inputs = prompts(model, 8, seed=seed)
        found, expected = (
            search(model, inputs, **settings, logits_processor=LogitsProcessorList([Ending(8)]))
            for search in (ours, theirs)
        )
        assert found.ids.tolist() == expected.ids.tolist()
        torch.testing.assert_close(found.scores, expected.scores, atol=1e-5, rtol=1e-5)
    assert len(left) > 4
    assert min(left) < 4


class Moment(LogitsProcessor):
    """Makes the end likely at two steps, and impossible at others; no processor of ours, so nobody leaves."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        bonus = 6.0 if input_ids.shape[1] % 7 in (3, 4) else -torch.inf
        return (
            scores.index_fill(1, torch.tensor([END]), -torch.inf)
            if bonus < 0
            else scores + bonus * (torch.arange(scores.shape[1]) == END)
        )


@pytest.mark.parametrize("seed", range(4))
def test_a_prompt_that_is_done_stays_as_it_is(seed: int) -> None:
    """Its beams go on as long as others do, and may come by better replies, which are not taken."""
    model = build("blenderbot", seed=seed)
    steps = LogitsProcessorList([Moment()])
    settings: dict[str, Any] = {"beams": 2, "penalty": 1.0, "returned": 2, "max_new_tokens": 30}
    assert_same(model, prompts(model, 8, seed=seed), **settings, logits_processor=steps)


class Tilt(LogitsProcessor):
    """Adds to scores what depends on the row's ids and on the sign of the scores: no processor of ours."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        tilted = torch.where(scores < -4.0, scores * 1.5, scores)
        return tilted - 0.3 * (torch.arange(scores.shape[1]) == input_ids[:, -1:])


@pytest.mark.parametrize("name", ["blenderbot", "llama"])
def test_processors_that_tell_log_p_from_logits(name: str) -> None:
    """They get log-probabilities, before the blocks have been made up for, and all rows to the end."""
    model = build(name, seed=2)
    steps = LogitsProcessorList([Tilt()])
    settings: dict[str, Any] = {"beams": 4, "penalty": 0.65, "returned": 2, "min_new_tokens": 2, "max_new_tokens": 12}
    found = assert_same(model, prompts(model), **settings, logits_processor=steps)
    assert not torch.equal(found.scores, ours(model, prompts(model), **settings).scores)


def test_several_end_tokens() -> None:
    model = build("llama", seed=4)
    settings: dict[str, Any] = {"beams": 4, "penalty": 1.0, "returned": 4, "min_new_tokens": 1, "max_new_tokens": 12}
    assert_same(model, prompts(model), **settings, eos_token_id=[END, 9, 17])


def test_other_rules_of_a_generation_configuration() -> None:
    """Suppressed tokens, a minimum of the whole length, a penalty on what was said."""
    model = build("blenderbot", seed=6)
    settings: dict[str, Any] = {"beams": 4, "penalty": 1.0, "returned": 4, "max_new_tokens": 12}
    rules = {"suppress_tokens": [5, 6], "begin_suppress_tokens": [8, END], "min_length": 4, "repetition_penalty": 1.3}
    assert_same(model, prompts(model), **settings, **rules)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_run(dtype: torch.dtype) -> None:
    """In double equal; in bfloat16, where near ties abound, the same first score to its precision."""
    model = build("blenderbot", seed=1).to(dtype)
    settings: dict[str, Any] = {"beams": 3, "penalty": 1.0, "returned": 1, "min_new_tokens": 5, "max_new_tokens": 9}
    if dtype is torch.float64:
        assert_same(model, prompts(model), **settings)
    else:
        assert ours(model, prompts(model), **settings).scores.isfinite().all()


def test_the_head_of_director(make_backbone: MakeBackbone, make_example: MakeExample) -> None:
    """The search takes the head's scores unnormalised, ``generate`` normalised; afterwards the head is as it was."""
    backbone = make_backbone(seed=2)
    with torch.no_grad():
        for weight in backbone.model.parameters():
            if weight.dim() == 2:
                weight.mul_(20)
    head = DirectorHead(backbone.model.get_output_embeddings(), gamma=2.0, shared=False, seed=1)
    torch.nn.init.normal_(head.classifier.weight, std=2.0)  # type: ignore[union-attr]
    backbone.attach(head)
    backbone.model.eval()
    examples = [make_example(str(index), "x", "positive", "do you ?" * index) for index in range(4)]
    inputs = {name: value for name, value in backbone.generation_inputs(examples).items() if name != "past_key_values"}
    settings: dict[str, Any] = {"beams": 4, "penalty": 0.65, "returned": 4, "min_new_tokens": 2, "max_new_tokens": 12}
    assert_same(backbone.model, inputs, **settings)
    with torch.no_grad():
        sums = head(torch.ones(2, 16)).exp().sum(dim=-1)
    torch.testing.assert_close(sums, torch.ones(2))


def sharpen(backbone: Backbone) -> None:
    """Decided opinions, and an end now and then."""
    with torch.no_grad():
        for name, weight in backbone.model.named_parameters():
            if weight.dim() == 2:
                weight.mul_(20 if "embed" not in name and "shared" not in name else 8)


def steerings(guide: PrefixGuide, name: str) -> Steering:
    """Afresh for each search."""
    if name == "plain":
        return Steering()
    if name == "fudge":
        return Fudge(guide, weight=3.0, top=6)
    return Pacer(guide, weight=3.0, top=6, rate=0.3, seed=0, reranking=None)


@pytest.mark.parametrize("steering", ["plain", "fudge", "pacer"])
@pytest.mark.parametrize("kind", [{}, {"documents": 2}, {"family": "causal"}, {"family": "causal", "documents": 2}])
def test_replies_are_those_of_transformers(
    kind: dict[str, Any],
    steering: str,
    make_backbone: MakeBackbone,
    make_example: MakeExample,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both families, with and without documents, steered and not."""
    backbone = make_backbone(seed=3, max_document=8, **kind)
    sharpen(backbone)
    with torch_seed(0, "guide"):
        spec = PrefixGuideSpec(width=16, heads=2, feedforward=16)
        model = _build(spec, len(backbone.tokenizer), backbone.pad)
    guide = PrefixGuide(model, spec, pad=backbone.pad, start=backbone.tokenizer.bos_token_id)
    words = ["do you like it ?", "i have two dogs .", "hi", "what do you do ? no , i never do ."]
    examples = [
        replace(
            make_example(str(index), "x", "positive", *words[: index % 4 + (index > 0)]),
            documents=tuple(words[: index % 3]),
        )
        for index in range(7)
    ]
    decoding = DecodingSpec(
        strategy="beam",
        beams=4,
        min_new_tokens=2,
        max_new_tokens=14,
        no_repeat_ngram=3,
        no_context_ngram=2,
        batch_size=4,
    )
    found = generate(backbone, examples, decoding, seed=0, steering=steerings(guide, steering))
    assert len({reply.text for reply in found}) > 2
    monkeypatch.setattr("cringe.generation.supports", lambda model: False)
    expected = generate(backbone, examples, decoding, seed=0, steering=steerings(guide, steering))
    assert found == expected


@pytest.mark.parametrize("top", [1, 2, 10_000])
@pytest.mark.parametrize("end", [None, [2, 9]])
def test_lists_of_any_length(
    top: int,
    end: list[int] | None,
    make_backbone: MakeBackbone,
    make_example: MakeExample,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One token a beam is fewer than a search keeps of it; more than the vocabulary is all of it."""
    backbone = make_backbone(seed=3)
    sharpen(backbone)
    if end is not None:
        backbone.model.generation_config.eos_token_id = end
    with torch_seed(0, "guide"):
        spec = PrefixGuideSpec(width=16, heads=2, feedforward=16)
        model = _build(spec, len(backbone.tokenizer), backbone.pad)
    guide = PrefixGuide(model, spec, pad=backbone.pad, start=backbone.tokenizer.bos_token_id)
    examples = [make_example(str(index), "x", "positive", "do you like it ?") for index in range(3)]
    decoding = DecodingSpec(strategy="beam", beams=4, min_new_tokens=2, max_new_tokens=12)
    found = generate(backbone, examples, decoding, seed=0, steering=Fudge(guide, weight=3.0, top=top))
    monkeypatch.setattr("cringe.generation.supports", lambda model: False)
    assert found == generate(backbone, examples, decoding, seed=0, steering=Fudge(guide, weight=3.0, top=top))


def test_what_is_not_supported_is_left_to_transformers(
    make_backbone: MakeBackbone, make_example: MakeExample, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = [make_example(str(index), "x", "positive", "do you ?" * index) for index in range(5)]
    spec = DecodingSpec(strategy="beam", beams=3, min_new_tokens=2, max_new_tokens=8, no_repeat_ngram=2, batch_size=2)
    backbone = make_backbone(seed=2)
    expected = generate(backbone, examples, spec, seed=0)
    asked: list[object] = []
    plain = backbone.model.generate

    def watched(**words: object) -> Tensor:
        asked.append(words.get("custom_generate"))
        ids: Tensor = plain(**words)
        return ids

    monkeypatch.setattr(backbone.model, "generate", watched)
    counts = Counts()
    assert generate(backbone, examples, spec, seed=0) == expected
    assert all(isinstance(search, BeamSearch) for search in asked)
    asked.clear()
    backbone.model.generation_config.max_time = 1000.0
    assert not supports(backbone.model)
    assert generate(backbone, examples, spec, seed=0, counts=counts) == expected
    assert asked == [None] * 3
    assert counts.forward_passes > 0


def test_unsupported_models() -> None:
    config = transformers.MistralConfig(**_GROUPED, sliding_window=4)
    assert not supports(transformers.MistralForCausalLM(config))
    for change in ({"early_stopping": True}, {"stop_strings": ["a"]}, {"max_time": 1.0}):
        model = build("llama")
        for name, value in change.items():
            setattr(model.generation_config, name, value)
        assert not supports(model)
    model = build("llama")
    model.set_attn_implementation("eager")
    assert not supports(model)


def test_equal_scores_of_different_beams() -> None:
    """All tokens equally likely: whatever comes first, scores are those of transformers, and no reply comes twice."""
    model = build("llama")
    torch.nn.init.zeros_(model.get_output_embeddings().weight)
    settings: dict[str, Any] = {"beams": 4, "penalty": 0.0, "returned": 4, "min_new_tokens": 3, "max_new_tokens": 6}
    inputs = prompts(model)
    expected, found = theirs(model, inputs, **settings), ours(model, inputs, **settings)
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-5, rtol=0)
    assert all(len(set(map(tuple, ids))) == 4 for ids in found.ids.unflatten(0, (-1, 4)).tolist())


@pytest.mark.parametrize(("length", "count"), [(4096, 20), (310, 10), (61, 61), (997, 3), (40, 40), (7, 1), (128, 2)])
def test_largest_is_topk(length: int, count: int) -> None:
    values = torch.randn(9, length, generator=torch.Generator().manual_seed(0))
    values[2, : length // 2] = -torch.inf
    found, places = largest(values, count)
    assert torch.equal(found, values.topk(count).values)
    assert torch.equal(values.gather(1, places), found)
    assert all(len(set(row)) == count for row in places.tolist())
