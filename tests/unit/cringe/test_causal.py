"""Decoder-only backbones: contexts on the left of their responses, nothing between them, and padding unseen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cringe.backbones import CausalBackbone, Seq2SeqBackbone, load_backbone, pad, positions, pretrained_backbone
from cringe.data import Example
from cringe.generation import generate
from cringe.specs import DecodingSpec, PretrainedBackbone

MakeBackbone = Callable[..., CausalBackbone]
MakeExample = Callable[..., Example]
PAD, BOS, EOS, OWN, OTHER = range(5)


@pytest.fixture(scope="module")
def make_causal(make_backbone: MakeBackbone) -> Callable[..., CausalBackbone]:
    """Random models whose replies vary with the context."""

    def make(**changes: object) -> CausalBackbone:
        backbone = make_backbone(family="causal", seed=2, **changes)
        with torch.no_grad():
            for name, weight in backbone.model.named_parameters():
                if weight.dim() == 2 and "embed" not in name:
                    weight.mul_(10)
            backbone.model.get_output_embeddings().weight.mul_(10)
        return backbone

    return make


@pytest.fixture(scope="module")
def backbone(make_causal: Callable[..., CausalBackbone]) -> CausalBackbone:
    return make_causal()


@pytest.fixture(scope="module")
def prompts(make_example: MakeExample) -> list[Example]:
    turns = ["do you like it ?", "i have two dogs and a cat .", "hi", "what do you do for work ? no , i never do ."]
    contexts = [turns[index % 4 : index % 4 + index % 3] for index in range(13)]
    return [make_example(f"{index}", "i do not", "positive", *context) for index, context in enumerate(contexts)]


def encode(backbone: CausalBackbone, text: str) -> list[int]:
    ids: list[int] = backbone.tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def test_the_family_is_built_saved_and_loaded(
    make_backbone: MakeBackbone, mixed: list[Example], tmp_path: Path
) -> None:
    """By its specification; a folder says what it is; with the same logits to the bit."""
    backbone = make_backbone(family="causal")
    assert isinstance(backbone, CausalBackbone)
    assert isinstance(make_backbone(), Seq2SeqBackbone)
    backbone.save(tmp_path)
    loaded = load_backbone(tmp_path).to("cpu")
    assert isinstance(loaded, CausalBackbone)
    assert loaded.spec == backbone.spec
    spec = PretrainedBackbone(kind="pretrained", family="causal", name=str(tmp_path), max_source=32, max_target=16)
    checkpoint = pretrained_backbone(spec).to("cpu")
    assert isinstance(checkpoint, CausalBackbone)
    with torch.no_grad():
        first = backbone.logits(backbone.collate(mixed, seed=0, step=0))
        assert torch.equal(loaded.logits(loaded.collate(mixed, seed=0, step=0)), first)
    newline = encode(backbone, "\n")
    assert checkpoint.encode_contexts(mixed[:1]) == [[*newline, *encode(backbone, "do you like it ?"), *newline]]


def test_contexts_end_in_the_mark(backbone: CausalBackbone, make_example: MakeExample) -> None:
    """Turns after their marks, then the mark of who speaks next; an empty context begins with BOS."""
    examples = [make_example("a", "x", "positive", "i do .", "a dog ?"), make_example("b"), make_example("c", "x")]
    first, second, _ = backbone.encode_contexts(examples)
    assert first == [OWN, *encode(backbone, "i do ."), OTHER, *encode(backbone, "a dog ?"), OWN]
    assert second == [BOS, OWN]
    assert backbone.context_lengths(examples) == [len(first), 2, 2]
    batch = backbone.collate(examples, seed=0, step=0)
    assert batch.source[1].tolist() == [*[PAD] * (len(first) - 2), BOS, OWN]
    assert batch.source_mask[1].tolist() == [*[False] * (len(first) - 2), True, True]


@pytest.mark.parametrize("length", [1, 28, 29, 30, 31, 32, 33, 60])
def test_truncation_keeps_the_mark(length: int, backbone: CausalBackbone, make_example: MakeExample) -> None:
    """At most 32 tokens, of which the last is the mark and the others are the newest of the context."""
    text = "z" * length
    full = [OTHER, *encode(backbone, text)]
    (ids,) = backbone.encode_contexts([make_example("a", "x", "positive", text)])
    assert ids == [*full[-31:], OWN]
    assert len(ids) == min(32, len(full) + 1)


def test_positions_by_hand() -> None:
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]).bool()
    assert positions(mask).tolist() == [[0, 0, 0, 1, 2], [0, 1, 2, 3, 4]]
    ids, marks = pad([[5], [6, 7]], 9, left=True)
    assert (ids.tolist(), marks.tolist()) == ([[9, 5], [6, 7]], [[False, True], [True, True]])


def test_logits_do_not_see_padding(make_causal: Callable[..., CausalBackbone], mixed: list[Example]) -> None:
    """Each example alone, without any padding, gives its rows of the batch; so does what padding holds."""
    backbone = make_causal(double=True)
    with torch.no_grad():
        batch = backbone.collate(mixed, seed=0, step=0)
        logits = backbone.logits(batch)
        owners = batch.tokens // batch.responses.shape[1]
        for row, example in enumerate(mixed):
            alone = backbone.collate([example], seed=0, step=0)
            assert alone.source_mask.all()
            # Llama's norms and rotations are in float32 in any model.
            torch.testing.assert_close(backbone.logits(alone), logits[owners == row], rtol=1e-4, atol=1e-4)
        batch.source[~batch.source_mask] = 77
        assert torch.equal(backbone.logits(batch), logits)


def test_logits_are_the_model_s_own(make_causal: Callable[..., CausalBackbone], make_example: MakeExample) -> None:
    """Of one sequence, context and response without a gap: the prediction of each response token, no other."""
    backbone = make_causal()
    example = make_example("a", "no , never .", "positive", "do you like it ?")
    batch = backbone.collate([example], seed=0, step=0)
    ids = torch.cat([batch.source, batch.responses], dim=1)
    with torch.no_grad():
        expected = backbone.model(input_ids=ids).logits[0, batch.source.shape[1] - 1 : -1]
        torch.testing.assert_close(backbone.logits(batch), expected, rtol=1e-4, atol=1e-4)
    assert len(expected) == batch.lengths[0]


def greedy_by_hand(backbone: CausalBackbone, context: list[int], most: int) -> list[int]:
    """Token by token, everything computed anew, without a batch, a mask or a cache."""
    ids = list(context)
    with torch.no_grad():
        while len(ids) < len(context) + most:
            scores = backbone.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].clone()
            if len(ids) == len(context):
                scores[EOS] = -torch.inf  # min_new_tokens is 1
            ids.append(int(scores.argmax()))
            if ids[-1] == EOS:
                break
    return ids[len(context) :]


def test_generation_is_the_greedy_loop(backbone: CausalBackbone, prompts: list[Example]) -> None:
    spec = DecodingSpec(strategy="greedy", max_new_tokens=10)
    replies = generate(backbone, prompts, spec, seed=0)
    for prompt, reply in zip(prompts, replies, strict=True):
        ids = greedy_by_hand(backbone, backbone.encode_contexts([prompt])[0], 10)
        assert (reply.text, reply.tokens) == backbone.decode(torch.tensor([ids]))[0]
    assert len({reply.text for reply in replies}) > 4


@pytest.mark.parametrize(
    "how", [{"strategy": "greedy"}, {"strategy": "beam", "beams": 4}, {"strategy": "nucleus", "top_p": 0.9}], ids=str
)
def test_replies_do_not_depend_on_batches(
    how: dict[str, object], backbone: CausalBackbone, prompts: list[Example]
) -> None:
    """One at a time, without padding, in fives or all at once, in any order."""
    blocks = {"no_repeat_ngram": 3, "no_context_ngram": 2}
    spec = DecodingSpec.model_validate({**how, **blocks, "max_new_tokens": 10})
    expected = generate(backbone, prompts, spec, seed=0)
    for size in (1, 5):
        assert generate(backbone, prompts, spec.model_copy(update={"batch_size": size}), seed=0) == expected
    assert generate(backbone, prompts[::-1], spec, seed=0) == expected[::-1]


def grams(ids: list[int], size: int) -> list[tuple[int, ...]]:
    return [tuple(ids[index : index + size]) for index in range(len(ids) - size + 1)]


@pytest.mark.parametrize(
    "how", [{"strategy": "greedy"}, {"strategy": "beam", "beams": 4}, {"strategy": "nucleus", "top_p": 0.9}], ids=str
)
def test_blocks_hold(
    how: dict[str, object], make_backbone: MakeBackbone, make_example: MakeExample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No 2-gram twice in a reply, none of the context's; what the context repeats within itself does no harm.

    Without the blocks the same model breaks both.
    """
    backbone = make_backbone(family="causal")
    letters = [backbone.tokenizer.convert_tokens_to_ids(letter) for letter in "zqw"]
    weight = backbone.model.get_output_embeddings().weight

    class Three(torch.nn.Module):
        """Gives three letters alone, whatever it reads: z before q before w."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = weight

        def forward(self, hidden: Tensor) -> Tensor:
            scores = torch.full((*hidden.shape[:-1], len(weight)), -1e4)
            scores[..., letters] = torch.tensor([1.0, 0.5, 0.0])
            return scores

    backbone.model.set_output_embeddings(Three())
    made: list[list[int]] = []
    decode = backbone.decode

    def watch(generated: Tensor) -> list[tuple[str, int]]:
        made.extend(generated.tolist())
        return decode(generated)

    monkeypatch.setattr(backbone, "decode", watch)
    examples = [make_example(str(index), "x", "positive", "qzqz") for index in range(8)]
    context = grams(backbone.encode_contexts(examples[:1])[0], 2)
    z, q, _ = letters
    assert (z, q) in context
    free = DecodingSpec.model_validate({**how, "max_new_tokens": 6})
    generate(backbone, examples, free, seed=0)
    assert any(len(set(grams(ids, 2))) < 5 for ids in made)
    made.clear()
    generate(backbone, examples, free.model_copy(update={"no_repeat_ngram": 2, "no_context_ngram": 2}), seed=0)
    assert len(made) == 8
    for ids in made:
        found = grams(ids[:5], 2)  # z, q and w have seven pairs that are free; a walk through them may end early
        assert len(set(found)) == len(found)
        assert not set(found) & set(context)


def test_a_block_begins_with_the_reply(backbone: CausalBackbone, prompts: list[Example]) -> None:
    """``no_repeat_ngram: 1`` bans what was said in the reply, not the context's words: those are another rule's."""
    spec = DecodingSpec(strategy="greedy", min_new_tokens=6, max_new_tokens=6, no_repeat_ngram=1)
    for prompt, reply in zip(prompts, generate(backbone, prompts, spec, seed=0), strict=True):
        context = backbone.encode_contexts([prompt])[0]
        ids = list(context)
        with torch.no_grad():
            for _ in range(6):
                scores = backbone.model(input_ids=torch.tensor([ids])).logits[0, -1].clone()
                scores[[EOS, *ids[len(context) :]]] = -torch.inf
                ids.append(int(scores.argmax()))
        assert reply.text == backbone.decode(torch.tensor([ids[len(context) :]]))[0][0]


def test_generated_tokens_are_counted_without_the_prompt(backbone: CausalBackbone, prompts: list[Example]) -> None:
    from cringe.counts import Counts

    counts = Counts()
    replies = generate(backbone, prompts, DecodingSpec(strategy="greedy", max_new_tokens=7), seed=0, counts=counts)
    assert counts.generated_tokens == sum(reply.tokens for reply in replies) <= 7 * len(prompts)
    assert counts.source_tokens == sum(backbone.context_lengths(prompts))


def test_parameters_and_operations(backbone: CausalBackbone) -> None:
    """Width 16, feed-forward 32, one layer, 310 tokens: attention 4·16², feed-forward 3·16·32, norms 3·16."""
    layers = 4 * 256 + 3 * 512 + 3 * 16
    assert backbone.parameters == layers + 310 * 16
    assert backbone.forward_flops(1, 0) == 2 * layers
    assert backbone.forward_flops(0, 1) == 2 * (layers + 310 * 16)
