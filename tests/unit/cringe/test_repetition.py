"""Against repetition: tokens before a token, repeated n-grams, own generations; and feedback on parts of a response."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cringe.backbones import Backbone
from cringe.batch import Batch
from cringe.counts import Counts
from cringe.data import Example, Feedback
from cringe.generation import generate
from cringe.iterate import greedy_replies
from cringe.losses import contrastive_token_loss, token_nll, unlikelihood_loss, unlikelihood_set_loss
from cringe.methods.base import Method
from cringe.methods.contrastive_token import ContrastiveToken
from cringe.methods.transformer import Transformer
from cringe.methods.unlikelihood_sequence import UnlikelihoodSequence
from cringe.methods.unlikelihood_token import UnlikelihoodToken
from cringe.repetition import repeated_places
from cringe.specs import DecodingSpec, TrainingSettings
from cringe.trainer import UNSCORED, Trainer

MakeBackbone = Callable[..., Backbone]
MakeExample = Callable[..., Example]
MakeSettings = Callable[..., TrainingSettings]


@pytest.fixture(params=["seq2seq", "causal"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def batch_of(rows: list[list[int]], unlabelled: int, liked: int) -> Batch:
    """Responses of these tokens, lined up in their order; the first are unlabelled, and so on."""
    width = max(map(len, rows))
    return Batch(
        source=torch.zeros(len(rows), 1, dtype=torch.long),
        source_mask=torch.ones(len(rows), 1, dtype=torch.bool),
        responses=torch.tensor([[*row, *[0] * (width - len(row))] for row in rows]),
        tokens=torch.tensor([width * index + place for index, row in enumerate(rows) for place in range(len(row))]),
        unlabelled=unlabelled,
        liked=liked,
        examples=tuple(range(len(rows))),
        lengths=tuple(map(len, rows)),
        source_tokens=len(rows),
        seed=0,
        step=0,
    )


ROWS = [[7, 8, 7, 9], [5, 6]]
TWO = batch_of(ROWS, 4, 6)


# --- by hand


def test_preceding_by_hand() -> None:
    """Of (7, 8, 7, 9) and (5, 6): what stood before in the same response, to the beginning or two places back."""
    assert TWO.preceding(slice(None)).tolist() == [
        [-1, -1, -1, -1],
        [7, -1, -1, -1],
        [7, 8, -1, -1],
        [7, 8, 7, -1],
        [-1, -1, -1, -1],
        [5, -1, -1, -1],
    ]
    assert TWO.preceding(slice(2, 6), 2).tolist() == [
        [7, 8, -1, -1],
        [-1, 8, 7, -1],
        [-1, -1, -1, -1],
        [5, -1, -1, -1],
    ]
    assert TWO.preceding(slice(3, 4), 1).tolist() == [[-1, -1, 7, -1]]
    assert TWO.preceding(slice(0, 0)).shape == (0, 4)
    assert TWO.preceding(slice(None), 99).tolist() == TWO.preceding(slice(None)).tolist()


@pytest.mark.parametrize(
    ("ids", "ngram", "places"),
    [
        ([], 2, set()),
        ([1], 2, set()),
        ([1, 2, 3, 4], 2, set()),
        ([1, 2, 3, 1, 2], 2, {3, 4}),
        ([1, 2, 3, 1, 2], 3, set()),
        ([1, 2, 1, 2, 1], 2, {2, 3, 4}),
        ([1, 1, 1], 1, {1, 2}),
        ([1, 1, 1], 2, {1, 2}),
        ([1, 2, 3, 4, 1, 2, 3, 4], 4, {4, 5, 6, 7}),
        ([1, 2, 3, 4, 9, 1, 2, 3, 8], 4, set()),
        ([1, 2, 3, 9, 1, 2, 3, 4], 3, {4, 5, 6}),
    ],
)
def test_repeated_places_by_hand(ids: list[int], ngram: int, places: set[int]) -> None:
    """All tokens of an n-gram that was there before; of its first occurrence none, but where the two overlap."""
    assert repeated_places(ids, ngram) == places


@pytest.mark.parametrize(
    ("method", "loss", "most"),
    [
        (UnlikelihoodToken(alpha=3.0), unlikelihood_set_loss, None),
        (ContrastiveToken(alpha=3.0), contrastive_token_loss, None),
        (ContrastiveToken(alpha=3.0, preceding=1), contrastive_token_loss, 1),
    ],
    ids=["unlikelihood", "contrastive", "contrastive-1"],
)
def test_tokens_against_those_before(method: Method, loss: Callable[..., Tensor], most: int | None) -> None:
    """Cross-entropy plus α times the loss against earlier tokens, on liked ones; negatives have none."""
    batch = batch_of([[7, 8, 7, 9], [5, 6], [3, 3]], 4, 6)
    logits = torch.randn(8, 10, generator=torch.Generator().manual_seed(0))
    found = method.loss(logits, batch)
    before = {None: [(), (7,), (7, 8), (7, 8), (), (5,)], 1: [(), (7,), (8,), (7,), (), (5,)]}[most]
    targets = batch.targets[:6]
    negatives = torch.tensor([[*seen, *[-1] * (2 - len(seen))] for seen in before])
    penalties = loss(logits[:6], targets, negatives)
    torch.testing.assert_close(found.values[:6], token_nll(logits[:6], targets) + 3 * penalties)
    assert found.values[6:].tolist() == [0, 0]
    (name,) = set(found.components) - {"nll"}
    torch.testing.assert_close(found.components[name], penalties)
    assert penalties[0] == penalties[4] == 0
    assert penalties[3] > 0


# --- own generations


def test_a_coin_a_step(family: str, make_backbone: MakeBackbone, mixed: list[Example]) -> None:
    """The same for every part of a step, whoever is in it; heads at the rate; another at other steps and seeds."""
    method, backbone = UnlikelihoodSequence(rate=0.5), make_backbone(family=family, max_target=4)

    def generated(examples: list[Example], step: int, seed: int = 0) -> bool:
        batch = backbone.collate(examples, seed=seed, step=step)
        return method.prepare_batch(backbone, batch, Counts()).generated

    coins = [generated(mixed[:1], step) for step in range(60)]
    assert 15 < sum(coins) < 45
    for part in (mixed[1:2], mixed[2:], mixed):
        assert [generated(part, step) for step in range(12)] == coins[:12]
    assert [generated(mixed[:1], step, seed=1) for step in range(60)] != coins
    batch = backbone.collate(mixed, seed=0, step=0)
    assert UnlikelihoodSequence(rate=0).prepare_batch(backbone, batch, Counts()) is batch
    assert UnlikelihoodSequence(rate=1).prepare_batch(backbone, batch, Counts()).generated


def test_greedy_replies(family: str, make_backbone: MakeBackbone, mixed: list[Example]) -> None:
    """What greedy decoding says; repeated tokens are negative and the only targets; the ledger has the rest."""
    backbone = make_backbone(family=family, seed=3)
    backbone.model.train()
    counts = Counts()
    data = backbone.collate(mixed, seed=2, step=7)
    batch = greedy_replies(backbone, data, 1, counts)
    assert backbone.model.training
    assert (batch.generated, batch.unlabelled, batch.liked) == (True, 0, 0)
    assert (batch.seed, batch.step, batch.examples) == (2, 7, data.examples)
    assert torch.equal(batch.source, data.source)

    backbone.model.eval()
    spec = DecodingSpec(strategy="greedy", min_new_tokens=0, max_new_tokens=backbone.spec.max_target)
    replies = generate(backbone, mixed, spec, seed=0)
    assert batch.lengths == tuple(reply.tokens for reply in replies)
    assert batch.lengths != data.lengths
    rows = [row[:length].tolist() for row, length in zip(batch.responses, batch.lengths, strict=True)]
    assert [text for text, _ in backbone.decode(batch.responses)] == [reply.text for reply in replies]
    width = batch.responses.shape[1]
    repeated = [width * index + place for index, row in enumerate(rows) for place in sorted(repeated_places(row, 1))]
    assert batch.tokens.tolist() == repeated
    assert len(repeated) > 0
    assert counts.generated_tokens == sum(batch.lengths)
    assert counts.forward_passes == width * len(mixed)
    source = int(data.source_mask.sum())
    assert counts.flops == pytest.approx(backbone.forward_flops(source, width * len(mixed)))
    assert (counts.updates, counts.examples, counts.target_tokens) == (0, 0, {})

    # Under teacher forcing each of them is the favourite: the logits stand where the tokens were generated.
    logits = backbone.logits(batch)
    assert logits.argmax(dim=-1).tolist() == batch.targets.tolist()
    found = UnlikelihoodSequence(alpha=2.0).loss(logits, batch)
    torch.testing.assert_close(found.values, 2 * unlikelihood_loss(logits, batch.targets))


def test_unscored_tokens_are_divided_by(
    family: str, make_backbone: MakeBackbone, make_settings: MakeSettings, mixed: list[Example]
) -> None:
    """The step's loss is the sum over repeated tokens by the number of all generated tokens, in any cut."""
    backbone = make_backbone(family=family, seed=3)
    batch = greedy_replies(backbone, backbone.collate(mixed, seed=0, step=0), 1, Counts())
    with torch.no_grad():
        values = unlikelihood_loss(backbone.logits(batch), batch.targets)
    for size in (None, 1, 4):

        class Same:
            def batch(self, step: int) -> list[Example]:
                return mixed

        trainer = Trainer(
            make_backbone(family=family, seed=3),
            UnlikelihoodSequence(rate=1.0, ngram=1),
            Same(),
            make_settings(updates=1, micro_batch_size=size),
            seed=0,
            log_every=1,
        )
        counts = trainer.train()
        assert counts.target_tokens == {"negative": len(values), UNSCORED: sum(batch.lengths) - len(values)}
        assert counts.generated_tokens == sum(batch.lengths)
        assert trainer.records[0]["loss"] == pytest.approx(float(values.sum()) / sum(batch.lengths), rel=1e-4)
        assert trainer.records[0]["negative_share"] == pytest.approx(len(values) / sum(batch.lengths))


def repetition(backbone: Backbone, examples: list[Example]) -> float:
    """Share of generated tokens that were there before."""
    spec = DecodingSpec(strategy="greedy", max_new_tokens=backbone.spec.max_target)
    replies = [backbone.tokenizer(reply.text)["input_ids"] for reply in generate(backbone, examples, spec, seed=0)]
    return sum(len(ids) - len(set(ids)) for ids in replies) / sum(map(len, replies))


def mass_on_earlier(backbone: Backbone, examples: list[Example]) -> float:
    """Mean probability that the model gives to tokens that were there before and are not to come."""
    batch = backbone.collate(examples, seed=0, step=0)
    with torch.no_grad():
        probabilities = backbone.logits(batch).softmax(dim=-1)
    mass = [
        sum(row[token].item() for token in set(before) - {-1, target})
        for row, before, target in zip(
            probabilities, batch.preceding(slice(None)).tolist(), batch.targets.tolist(), strict=True
        )
    ]
    return sum(mass) / len(mass)


@pytest.mark.parametrize(
    ("method", "measure"),
    [
        (UnlikelihoodToken(alpha=20.0), mass_on_earlier),
        (ContrastiveToken(alpha=5.0), mass_on_earlier),
        (UnlikelihoodSequence(rate=0.5, ngram=2), repetition),
    ],
    ids=["unlikelihood_token", "contrastive_token", "unlikelihood_sequence"],
)
def test_repetition_is_unlearnt(
    method: Method,
    measure: Callable[[Backbone, list[Example]], float],
    family: str,
    make_backbone: MakeBackbone,
    make_settings: MakeSettings,
    make_example: MakeExample,
) -> None:
    """A model taught to say "no no no no …" is trained on: by the method it repeats a fifth less than by likelihood.

    For what looks at data it is measured there, as what the model expects to come again; for what looks at generations
    as what it says again in answer to the prompts that it repeated itself at.
    """

    def talk(purpose: str, *pairs: tuple[str, str]) -> list[Example]:
        return [make_example(f"{purpose}{index}", text, "unlabelled", turn) for index, (text, turn) in enumerate(pairs)]

    dull = talk(
        "d", ("dog a dog a dog a dog a dog", "you ?"), ("no no no no no no no", "do you ?"), ("i do i do i do", "hi")
    )
    fresh = talk("f", ("i like pizza .", "work ?"), ("have two cats", "at all ?"), ("never work", "dogs ?"))

    class Given:
        def __init__(self, examples: list[Example]) -> None:
            self._examples = examples

        def batch(self, step: int) -> list[Example]:
            return self._examples

    found = {}
    for how in (method, Transformer()):
        backbone = make_backbone(family=family)
        Trainer(backbone, Transformer(), Given(dull), make_settings(updates=60, batch_size=3), seed=0).train()
        assert repetition(backbone, dull) > 0.4
        settings = make_settings(updates=40, batch_size=3, learning_rate=3e-3)
        Trainer(backbone, how, Given(fresh), settings, seed=0).train()
        found[type(how)] = measure(backbone, dull if measure is repetition else fresh)
    assert found[type(method)] < 0.8 * found[Transformer]


# --- feedback on parts


def coded(backbone: Backbone, example: Example) -> list[tuple[str, str]]:
    """Each token of the response and its feedback, in their order."""
    batch = backbone.collate([example], seed=0, step=0)
    kinds = ["unlabelled"] * batch.unlabelled + ["positive"] * (batch.liked - batch.unlabelled)
    kinds += ["negative"] * (len(batch.tokens) - batch.liked)
    of_place = dict(zip(batch.tokens.tolist(), kinds, strict=True))
    return [
        (backbone.tokenizer.decode([token]), of_place.get(place, "unscored"))
        for place, token in enumerate(batch.responses[0].tolist())
    ]


def with_spans(example: Example, *spans: tuple[int, int]) -> Example:
    return dataclasses.replace(example, negative_spans=spans)


@pytest.mark.parametrize("kind", list(Feedback))
def test_spans_are_negative(
    kind: Feedback, family: str, make_backbone: MakeBackbone, make_example: MakeExample
) -> None:
    """Tokens with a character inside are negative, whatever the response is; the rest and the end are as it is.

    Of a negative response the rest and the end are not scored; without spans all of it is negative.
    """
    backbone = make_backbone(family=family)
    text = "i have zzz dogs ."
    found = coded(backbone, with_spans(make_example("a", text, kind), (7, 10)))
    assert "".join(token for token, _ in found) == f" {text}</s>"
    inside = [token for token, code in found if code == "negative"]
    assert "".join(inside).strip() == "zzz"
    rest = "unscored" if kind == Feedback.NEGATIVE else kind.value
    assert {code for token, code in found if token.strip(" z")} == {rest}
    assert found[-1] == ("</s>", rest)
    assert {code for _, code in coded(backbone, make_example("a", text, kind))} == {kind.value}


def test_a_part_of_a_token_is_enough(make_backbone: MakeBackbone, make_example: MakeExample) -> None:
    """Spans end before their last number: (2, 3) touches the token of character 2 and not its neighbours'."""
    backbone = make_backbone()
    example = make_example("a", "zqxw", "positive")
    for start in range(4):
        found = coded(backbone, with_spans(example, (start, start + 1)))
        assert "".join(token for token, code in found if code == "negative").strip() == "zqxw"[start]
    both = coded(backbone, with_spans(example, (0, 1), (2, 4)))
    assert [token.strip() for token, code in both if code == "positive"] in (["q", "</s>"], ["", "q", "</s>"])


def test_spans_are_of_characters(make_backbone: MakeBackbone, make_example: MakeExample) -> None:
    """Not bytes, and of the text as it was given: before lower-casing, curly quotes and signs of many bytes."""
    backbone = make_backbone()
    for text, part in (
        ("Ärger “is” BAD here", "BAD"),
        ("🎉🎉 zq 🎉 xw", "zq"),
        ("zq 👩🏽‍🚀 xw", "👩🏽‍🚀"),
        ("naïve ß größe zz", "größe"),
        ("漢字 zz 文", "文"),
        ("İİİ zq İ", "zq"),
    ):
        start = text.index(part)
        example = with_spans(make_example("a", text, "positive"), (start, start + len(part)))
        wide = make_backbone(max_target=200)
        batch = wide.collate([example], seed=0, step=0)
        negative = batch.responses.flatten()[batch.tokens[batch.liked :].sort().values]
        positive = batch.responses.flatten()[batch.tokens[: batch.liked].sort().values]
        normal = backbone.tokenizer.backend_tokenizer.normalizer.normalize_str(part)
        assert backbone.tokenizer.decode(negative).strip() == normal, text
        assert normal not in backbone.tokenizer.decode(positive), text


def test_the_end_is_never_inside(make_backbone: MakeBackbone, make_example: MakeExample) -> None:
    """A span over all of a response leaves its end token; what is cut off takes its feedback with it."""
    backbone = make_backbone()
    found = coded(backbone, with_spans(make_example("a", "zq xw", "positive"), (0, 5)))
    assert [code for _, code in found[:-1]] == ["negative"] * (len(found) - 1)
    assert found[-1] == ("</s>", "positive")
    late = with_spans(make_example("a", "z" * 40, "positive"), (30, 40))
    assert {code for _, code in coded(backbone, late)} == {"positive"}


def test_a_batch_with_spans_lines_up(make_backbone: MakeBackbone, mixed: list[Example]) -> None:
    """Each token once; the negative part of a liked response is among the negatives, at its own place."""
    backbone = make_backbone()
    plain = backbone.collate(mixed, seed=0, step=0)
    marked = [with_spans(mixed[0], (2, 6)), *mixed[1:]]  # "have" of "i have two dogs ."
    batch = backbone.collate(marked, seed=0, step=0)
    assert sorted(batch.tokens.tolist()) == sorted(plain.tokens.tolist())
    assert batch.unlabelled == plain.unlabelled
    moved = set(batch.tokens[batch.liked :].tolist()) - set(plain.tokens[plain.liked :].tolist())
    assert plain.liked - batch.liked == len(moved) > 0
    width = batch.responses.shape[1]
    assert {place // width for place in moved} == {0}
    assert backbone.tokenizer.decode(batch.responses.flatten()[sorted(moved)]).strip() == "have"
    loss = Transformer().loss(torch.randn(len(batch.tokens), 310), batch)
    assert not loss.values[batch.liked :].any()


@pytest.mark.parametrize("span", [(0, 0), (3, 2), (-1, 2), (0, 9)])
def test_spans_outside_are_refused(span: tuple[int, int], make_example: MakeExample) -> None:
    with pytest.raises(ValueError, match="outside of 6 characters"):
        with_spans(make_example("a", "zq xwv", "positive"), span)
