"""Losses against what others wrote: ParlAI's unlikelihood, and formulas in float64, a token at a time.

Ours go through the methods, on batches with padding and all three kinds of feedback, and are reduced as the trainer
reduces them. The wheel of ParlAI lacks `projects.cringe` and `projects.director`, so those are written out from their
formulas here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from types import ModuleType, SimpleNamespace
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cringe.batch import Batch
from cringe.data import Feedback
from cringe.heads import DirectorHead, SigmoidHead
from cringe.iterate import repeated_places
from cringe.losses import contrastive_token_loss, cringe_loss, unlikelihood_loss, unlikelihood_set_loss
from cringe.methods.base import Method
from cringe.methods.contrastive_token import ContrastiveToken
from cringe.methods.cringe_single import CringeSingle
from cringe.methods.director import Director
from cringe.methods.sigmoid_only import SigmoidOnly
from cringe.methods.unlikelihood import Unlikelihood
from cringe.methods.unlikelihood_token import UnlikelihoodToken

pytestmark = pytest.mark.oracle

PAD = 0
V = 23
REWARD = {Feedback.POSITIVE: 1.0, Feedback.UNLABELLED: 0.0, Feedback.NEGATIVE: -1.0}
MIXTURES = {
    "all three": (Feedback.NEGATIVE, Feedback.POSITIVE, Feedback.UNLABELLED, Feedback.NEGATIVE, Feedback.POSITIVE),
    "no negative": (Feedback.POSITIVE, Feedback.UNLABELLED, Feedback.UNLABELLED),
    "negatives alone": (Feedback.NEGATIVE, Feedback.NEGATIVE, Feedback.NEGATIVE),
}

ParlAI = Callable[[str], ModuleType]
Loss = Callable[[Tensor], Tensor]
SetFormula = Callable[[Tensor, int, set[int]], Tensor]

SEEDS = pytest.mark.parametrize("seed", range(4))


class Case(NamedTuple):
    """A batch of responses with padding, and logits for every place of it."""

    labels: Tensor
    """(B, T), PAD behind the end of a response."""
    feedback: tuple[Feedback, ...]
    logits: Tensor
    """(B, T, width) float64, each a number that float32 holds too."""

    @property
    def batch(self) -> Batch:
        """As a method is given it: the places that hold a token, lined up by feedback."""
        rows, length = self.labels.shape
        order = (Feedback.UNLABELLED, Feedback.POSITIVE, Feedback.NEGATIVE)
        places = [
            [row * length + t for row in range(rows) if self.feedback[row] == kind for t in self.positions(row)]
            for kind in order
        ]
        return Batch(
            source=torch.zeros(rows, 1, dtype=torch.long),
            source_mask=torch.ones(rows, 1, dtype=torch.bool),
            responses=self.labels,
            tokens=torch.tensor([place for part in places for place in part]),
            unlabelled=len(places[0]),
            liked=len(places[0]) + len(places[1]),
            examples=tuple(range(100, 100 + rows)),
            lengths=tuple(len(self.positions(row)) for row in range(rows)),
            source_tokens=rows,
            seed=5,
            step=3,
        )

    def positions(self, row: int) -> list[int]:
        return [t for t, token in enumerate(self.labels[row].tolist()) if token != PAD]

    def tokens(self) -> Iterable[tuple[int, int, int, Feedback]]:
        """Row, position, token and feedback of every target."""
        for row, kind in enumerate(self.feedback):
            for t in self.positions(row):
                yield row, t, int(self.labels[row, t]), kind

    def count(self, *kinds: Feedback) -> int:
        return sum(kind in kinds for *_, kind in self.tokens())


def make_case(seed: int, mixture: str = "all three", *, width: int = V, spread: float = 2.5) -> Case:
    """Responses of 1 to 7 tokens; some end in padding, some logits of padding are huge: nothing may come of them."""
    draw = torch.Generator().manual_seed(seed)
    feedback = MIXTURES[mixture]
    lengths = [7, *torch.randint(1, 7, (len(feedback) - 1,), generator=draw).tolist()]
    labels = torch.randint(1, V, (len(feedback), 7), generator=draw)
    logits = spread * torch.randn(len(feedback), 7, width, generator=draw)
    for row, length in enumerate(lengths):
        labels[row, length:] = PAD
        logits[row, length:] *= 30
    return Case(labels, feedback, logits.double())


def joint(method: Method, case: Case) -> Loss:
    """Our loss, all tokens over one denominator: Σ / N."""

    def loss(logits: Tensor) -> Tensor:
        batch = case.batch
        rows = logits.reshape(-1, logits.shape[-1]).index_select(0, batch.tokens)
        return method.loss(rows, batch).values.sum() / len(batch.tokens)

    return loss


def separate(method: Method, case: Case) -> Loss:
    """Our loss, negatives over a denominator of their own: Σ₊ / N₊ + Σ₋ / N₋."""

    def loss(logits: Tensor) -> Tensor:
        batch = case.batch
        rows = logits.reshape(-1, logits.shape[-1]).index_select(0, batch.tokens)
        values, negative = method.loss(rows, batch).values, len(batch.tokens) - batch.liked
        return values[: batch.liked].sum() / max(1, batch.liked) + values[batch.liked :].sum() / max(1, negative)

    return loss


def value_and_gradient(loss: Loss, logits: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    leaf = logits.to(dtype).requires_grad_()
    value = loss(leaf)
    (gradient,) = torch.autograd.grad(value, leaf)
    return value.detach().double(), gradient.double()


def assert_equal(ours: Loss, theirs: Loss, logits: Tensor) -> None:
    """Value and gradient of ours, in float32, are those of theirs, in float64; where theirs has none, ours has none."""
    value, gradient = value_and_gradient(ours, logits, torch.float32)
    expected, expected_gradient = value_and_gradient(theirs, logits, torch.float64)
    torch.testing.assert_close(value, expected, rtol=2e-6, atol=5e-7)
    torch.testing.assert_close(gradient, expected_gradient, rtol=2e-5, atol=5e-7)
    assert not gradient[expected_gradient == 0].any()
    assert expected_gradient.abs().max() > 1e-4


# CRINGE ---------------------------------------------------------------------------------------------------------------


def candidates(scores: Tensor, negative: int, k: int) -> Tensor:
    """(k,) logits: of the k + 1 highest all but the negative's, or all but the lowest where it is not among them."""
    values, ids = scores.topk(k + 1)
    kept = ids != negative
    return values[kept] if not kept.all() else values[:k]


def contrast(scores: Tensor, negative: int, positive: Tensor) -> Tensor:
    """Cross-entropy over two logits, the positive's being right: -s⁺ + log(e^{s⁺} + e^{s⁻})."""
    return torch.logsumexp(torch.stack([scores[negative], positive]), dim=0) - positive


def released_cringe(case: Case, *, alpha: float, k: int, detach: bool = False) -> Loss:
    """(Σ CE over liked tokens + α Σ contrast over negative ones) / number of all tokens that are not padding.

    Of k candidates the one is taken in whose share of the softmax our uniform draw lies, so that ours takes the same.
    """
    batch = case.batch
    draws = batch.uniforms("cringe", slice(0, None)).tolist()
    uniform = dict(zip(batch.tokens.tolist(), draws, strict=True))

    def loss(logits: Tensor) -> Tensor:
        total = logits.new_zeros(())
        for row, t, token, kind in case.tokens():
            scores = logits[row, t]
            if kind != Feedback.NEGATIVE:
                total = total - torch.log_softmax(scores, dim=0)[token]
                continue
            choice = candidates(scores, token, k)
            shares = torch.softmax(choice.detach(), dim=0).cumsum(dim=0)
            below = int((shares <= uniform[row * case.labels.shape[1] + t]).sum())
            positive = choice[min(below, k - 1)]
            total = total + alpha * contrast(scores, token, positive.detach() if detach else positive)
        return total / sum(1 for _ in case.tokens())

    return loss


@SEEDS
@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.parametrize("alpha", [0.5, 2.0])
@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("detach", [False, True])
def test_cringe_is_the_released_formula(seed: int, mixture: str, alpha: float, k: int, detach: bool) -> None:
    """L = (Σ₊ -log p(x) + α Σ₋ softplus(s⁻ - s⁺)) / (N₊ + N₋): k = 1 as it is, k = 5 with the same draws."""
    case = make_case(seed, mixture)
    ours = joint(CringeSingle(alpha=alpha, k=k, detach_positive=detach), case)
    assert_equal(ours, released_cringe(case, alpha=alpha, k=k, detach=detach), case.logits)


def best_token(place: int) -> tuple[Tensor, int]:
    """Logits (12,), and the token that is in this place of their order."""
    scores = torch.tensor([0.3, 1.9, -0.4, 2.6, 1.1, -2.0, 0.8, 2.1, -1.2, 1.5, 0.1, -0.7], dtype=torch.float64)
    return scores, int(scores.argsort(descending=True)[place])


def expectation(scores: Tensor, negative: int, k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean and variance of the loss and of each entry of its gradient, over the draw, by enumeration.

    Candidate j has share q_j; with it the loss is softplus(s⁻ - s_j), the gradient σ(s⁻ - s_j) at s⁻ and minus that at
    s_j. The draw itself has no gradient.
    """
    order = [int(token) for token in scores.argsort(descending=True) if token != negative][:k]
    shares = torch.softmax(scores[order], dim=0)
    losses = F.softplus(scores[negative] - scores[order])
    slopes = torch.sigmoid(scores[negative] - scores[order])
    gradients = torch.zeros(k, len(scores), dtype=torch.float64)
    gradients[:, negative] = slopes
    gradients[range(k), order] = -slopes
    mean, gradient = shares @ losses, shares @ gradients
    return mean, shares @ (losses - mean) ** 2, gradient, shares @ (gradients - gradient) ** 2


@pytest.mark.parametrize("place", [0, 2, 4, 5, 6, 11])
def test_cringe_of_five_candidates_in_expectation(place: int) -> None:
    """Over 200,000 draws with a generator of each side's own, both have the mean that enumeration gives.

    Loss and every entry of the gradient lie within 5 standard errors; where nothing varies, within 1e-5.
    """
    scores, negative = best_token(place)
    mean, variance, gradient, gradient_variance = expectation(scores, negative, 5)
    draws = 200_000

    def ours(logits: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        rows = logits.expand(draws, -1)
        return cringe_loss(rows, torch.full((draws,), negative), k=5, generator=generator).mean()

    def released(logits: Tensor) -> Tensor:
        choice = candidates(logits, negative, 5)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            positive = choice[torch.distributions.Categorical(logits=choice).sample((draws,))]
        pair = torch.stack([logits[negative].expand(draws), positive], dim=-1)
        return F.cross_entropy(pair, torch.ones(draws, dtype=torch.long))

    for loss, dtype in ((ours, torch.float32), (released, torch.float64)):
        value, slope = value_and_gradient(loss, scores, dtype)
        assert (value - mean).abs() < 5 * (variance / draws).sqrt() + 1e-6
        assert ((slope - gradient).abs() < 5 * (gradient_variance / draws).sqrt() + 1e-5).all()


@pytest.mark.parametrize("place", [0, 2, 4, 5, 6, 11])
def test_cringe_draws_with_the_released_shares(place: int) -> None:
    """A grid of a million draws gives the expectation itself, to the width of its cells: no statistics needed."""
    scores, negative = best_token(place)
    mean, _, gradient, _ = expectation(scores, negative, 5)
    draws = 1_000_000
    noise = (torch.arange(draws, dtype=torch.float64) + 0.5) / draws

    def ours(logits: Tensor) -> Tensor:
        values = cringe_loss(logits.expand(draws, -1), torch.full((draws,), negative), k=5, noise=noise)
        return values.double().mean()

    value, slope = value_and_gradient(ours, scores, torch.float32)
    torch.testing.assert_close(value, mean, rtol=0, atol=2e-5)
    torch.testing.assert_close(slope, gradient, rtol=0, atol=1e-4)


# Unlikelihood, against ParlAI -----------------------------------------------------------------------------------------


def parlai_unlikelihood(parlai: ParlAI, case: Case, *, alpha: float, fp16: bool = False) -> Loss:
    """`RewardUnlikelihoodAgentTrait.compute_loss` on an agent whose model returns the logits that it is given."""
    trait = parlai("projects.dialogue_unlikelihood.agents").RewardUnlikelihoodAgentTrait
    metrics = parlai("parlai.core.metrics").Metrics()
    rewards = torch.tensor([REWARD[kind] for kind in case.feedback])

    def loss(logits: Tensor) -> Tensor:
        agent = trait()
        agent.opt = {"alpha": alpha, "fp16": fp16}
        agent.NULL_IDX = PAD
        agent.is_training = True
        agent.global_metrics = metrics
        agent.model = lambda *, ys: (logits, logits.argmax(dim=-1), None)
        agent._model_input = lambda batch: ()
        value: Tensor = agent.compute_loss(SimpleNamespace(label_vec=case.labels, rewards=rewards))
        return value

    return loss


@SEEDS
@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.parametrize("alpha", [0.1, 1.0, 5.0])
def test_unlikelihood_is_parlais(parlai: ParlAI, seed: int, mixture: str, alpha: float) -> None:
    """ParlAI's reduction is our separate one: Σ₊ -log p(x) / N₊ + α Σ₋ -log(1 - p(x⁻)) / N₋.

    A response counts as liked where its reward is at least 0; padding counts nowhere; an empty class gives 0.
    """
    case = make_case(seed, mixture)
    ours = separate(Unlikelihood(alpha=alpha), case)
    assert_equal(ours, parlai_unlikelihood(parlai, case, alpha=alpha), case.logits)


@SEEDS
@pytest.mark.parametrize("mixture", MIXTURES)
def test_unlikelihood_is_parlais_over_one_denominator(parlai: ParlAI, seed: int, mixture: str) -> None:
    """Our joint reduction, from ParlAI's parts: its loss at α = 0 is M₊ and at α = 1 it is M₊ + M₋, two means.

    So (Σ₊ + α Σ₋) / (N₊ + N₋) = (N₊ M₊ + α N₋ M₋) / (N₊ + N₋): ParlAI's α is ours times N₋ / N₊, up to a factor of all.
    """
    alpha = 0.5
    case = make_case(seed, mixture)
    liked, negative = case.count(Feedback.POSITIVE, Feedback.UNLABELLED), case.count(Feedback.NEGATIVE)
    likelihood = parlai_unlikelihood(parlai, case, alpha=0.0)
    both = parlai_unlikelihood(parlai, case, alpha=1.0)

    def theirs(logits: Tensor) -> Tensor:
        mean = likelihood(logits)
        penalty = both(logits) - mean
        return (liked * mean + alpha * negative * penalty) / (liked + negative)

    assert_equal(joint(Unlikelihood(alpha=alpha), case), theirs, case.logits)


@pytest.mark.parametrize(
    ("dtype", "fp16", "margin", "floor"),
    [
        (torch.float32, False, 20.0, 1e-20),  # 1 - p is 0 in float32
        (torch.float32, True, 15.0, 1e-6),
        (torch.float64, False, 40.0, 1e-20),  # 1 - p is 0 in float64
    ],
    ids=["float32", "fp16", "float64"],
)
def test_unlikelihood_where_parlai_clamps(
    parlai: ParlAI, dtype: torch.dtype, fp16: bool, margin: float, floor: float
) -> None:
    """Where they part, on purpose: a model that is certain of a bad token.

    s = (0, 0, m), x⁻ = 2: -log(1 - p) = log(2 + e^m) - log 2, slope p at x⁻, -1/2 + (1 - p)/2 elsewhere. ParlAI takes
    1 - p from p and clamps it at 1e-20, or at 1e-6 with its fp16 option: the loss is -log of that, and its gradient 0.
    """
    logits = torch.tensor([[[0.0, 0.0, margin]]], dtype=torch.float64)
    case = Case(torch.tensor([[2]]), (Feedback.NEGATIVE,), logits)
    value, gradient = value_and_gradient(parlai_unlikelihood(parlai, case, alpha=1.0, fp16=fp16), logits, dtype)
    assert value.item() == pytest.approx(-math.log(floor), rel=1e-5)
    assert not gradient.any()
    value, gradient = value_and_gradient(separate(Unlikelihood(alpha=1.0), case), logits, torch.float32)
    assert value.item() == pytest.approx(math.log(2 + math.exp(margin)) - math.log(2), rel=1e-6)
    assert gradient.flatten().tolist() == pytest.approx([-0.5, -0.5, 1.0], abs=1e-6)


def test_repetition_unlikelihood_is_parlais(parlai: ParlAI) -> None:
    """`RepetitionUnlikelihoodAgentTrait` on fixed generations, its weight of copies from the context (β) 0.

    It marks the tokens of an n-gram that the reply holds already, as we do, and divides by their number R:
    Σ_marked -log(1 - p(x)) / R. (The trainer divides by all generated tokens, as Welleck et al.'s code.)
    """
    ngram, draw = 3, torch.Generator().manual_seed(7)
    replies = [torch.randint(1, 4, (length,), generator=draw) for length in (19, 12, 30, 2)]
    labels = torch.nn.utils.rnn.pad_sequence(replies, batch_first=True)
    logits = torch.randn(*labels.shape, V, generator=draw).double()
    marked = [(row, t) for row, reply in enumerate(replies) for t in sorted(repeated_places(reply.tolist(), ngram))]
    assert 10 < len(marked) < sum(map(len, replies)) - 10
    rows, places = (torch.tensor(part) for part in zip(*marked, strict=True))
    start = torch.tensor([V])

    class Agent(parlai("projects.dialogue_unlikelihood.agents").RepetitionUnlikelihoodAgentTrait):
        def __init__(self, scores: Tensor) -> None:
            self.opt = {"seq_ul_ratio": 1.0, "seq_ul_n": ngram, "ctxt_beta": 0.0, "fp16": False}
            self.pred_logsoftmax = torch.nn.LogSoftmax(dim=2)
            self.is_training = True
            self.label_truncate, self.beam_size = 32, 1
            self.model = lambda *, ys: (scores, scores.argmax(dim=-1), None)

        def _generate(self, batch: object, beam_size: int, most: int) -> tuple[list[tuple[Tensor, None, None]], None]:
            return [(torch.cat([start, reply]), None, None) for reply in replies], None

        def _model_input(self, batch: object) -> tuple[()]:
            return ()

        def record_local_metric(self, *args: object) -> None:
            pass

    def theirs(scores: Tensor) -> Tensor:
        value: Tensor = Agent(scores).compute_loss(SimpleNamespace(text_vec=torch.zeros(len(replies), 5).long()))
        return value

    def ours(scores: Tensor) -> Tensor:
        return unlikelihood_loss(scores[rows, places], labels[rows, places]).sum() / len(marked)

    assert_equal(ours, theirs, logits)


# The others, against their formulas -----------------------------------------------------------------------------------


def sigmoid(value: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-value))


def probability(scores: Tensor) -> Tensor:
    return torch.exp(scores) / torch.exp(scores).sum()


@SEEDS
@pytest.mark.parametrize("lm_on_positives", [True, False])
def test_director_is_its_formula(seed: int, lm_on_positives: bool) -> None:
    """L = (Σ -log p(x) + γ Σ -[y log σ(c_x) + (1 - y) log(1 - σ(c_x))]) / N.

    The first sum runs over unlabelled tokens and, where they train that head, positive ones; the second over labelled
    ones, y being 1 for each token of a positive response and 0 for each of a negative one.
    """
    gamma = 0.3
    case = make_case(seed, width=2 * V)

    def theirs(logits: Tensor) -> Tensor:
        total = logits.new_zeros(())
        for row, t, token, kind in case.tokens():
            lm, classes = logits[row, t, :V], logits[row, t, V:]
            if kind == Feedback.UNLABELLED or (kind == Feedback.POSITIVE and lm_on_positives):
                total = total - torch.log(probability(lm)[token])
            if kind != Feedback.UNLABELLED:
                good = sigmoid(classes[token])
                total = total - gamma * torch.log(good if kind == Feedback.POSITIVE else 1 - good)
        return total / sum(1 for _ in case.tokens())

    assert_equal(joint(Director(gamma=gamma, lm_on_positives=lm_on_positives), case), theirs, case.logits)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("shared", [False, True])
def test_director_decodes_by_its_formula(gamma: float, shared: bool) -> None:
    """A step's distribution is p_LM(v) · σ(c_v)^γ over its sum; c = Wh + b, or a · s + b with two scalars."""
    draw = torch.Generator().manual_seed(11)
    width, rows = 6, 9
    projection = torch.nn.Linear(width, V, bias=False)
    head = DirectorHead(projection, gamma=gamma, shared=shared, seed=0).eval()
    with torch.no_grad():
        for weight in head.parameters():
            weight.copy_(torch.randn(weight.shape, generator=draw))
    constant = torch.randn(1, V, generator=draw)
    head.take_constant(constant)
    hidden = torch.randn(rows, width, generator=draw)
    scores = hidden.double() @ projection.weight.double().T + constant.double()
    if shared:
        classes = head.scale.double() * scores + head.shift.double()
    else:
        classes = hidden.double() @ head.classifier.weight.double().T + head.classifier.bias.double()
    product = torch.stack([probability(row) for row in scores]) * sigmoid(classes) ** gamma
    expected = torch.log(product / product.sum(dim=-1, keepdim=True))
    torch.testing.assert_close(head(hidden).double(), expected, rtol=1e-5, atol=1e-5)


@SEEDS
@pytest.mark.parametrize(("rest", "negative"), [(0.5, 2.0), (1.0, 1.0), (0.0, 0.3)])
def test_sigmoid_only_is_its_formula(seed: int, rest: float, negative: float) -> None:
    """Liked x: -log σ(s_x) - α± Σ_{v ≠ x} log(1 - σ(s_v)). Negative x⁻: -α₋ log(1 - σ(s_{x⁻})). All over N."""
    case = make_case(seed)

    def theirs(logits: Tensor) -> Tensor:
        total = logits.new_zeros(())
        for row, t, token, kind in case.tokens():
            each = sigmoid(logits[row, t])
            if kind == Feedback.NEGATIVE:
                total = total - negative * torch.log(1 - each[token])
                continue
            total = total - torch.log(each[token])
            for other in range(V):
                if other != token:
                    total = total - rest * torch.log(1 - each[other])
        return total / sum(1 for _ in case.tokens())

    assert_equal(joint(SigmoidOnly(alpha_rest=rest, alpha_negative=negative), case), theirs, case.logits)


def test_sigmoid_only_decodes_by_its_formula() -> None:
    """A token's score is log σ(s)."""
    hidden = torch.randn(9, 6, generator=torch.Generator().manual_seed(13))
    projection = torch.nn.Linear(6, V, bias=False)
    with torch.no_grad():
        projection.weight.copy_(torch.randn(V, 6, generator=torch.Generator().manual_seed(17)))
    expected = torch.log(sigmoid(hidden.double() @ projection.weight.double().T))
    torch.testing.assert_close(SigmoidHead(projection).eval()(hidden).double(), expected, rtol=1e-5, atol=1e-6)


def contrast_with(scores: Tensor, target: int, tokens: set[int]) -> Tensor:
    """log(1 + Σ_{v ∈ S} e^{s_v - s_x})."""
    total = scores.new_ones(())
    for token in sorted(tokens):
        total = total + torch.exp(scores[token] - scores[target])
    return torch.log(total)


def unlikelihood_of(scores: Tensor, target: int, tokens: set[int]) -> Tensor:
    """Σ_{c ∈ C} -log(1 - p(c))."""
    total = scores.new_zeros(())
    for token in sorted(tokens):
        total = total - torch.log(1 - probability(scores)[token])
    return total


@SEEDS
@pytest.mark.parametrize(
    ("loss", "formula"), [(contrastive_token_loss, contrast_with), (unlikelihood_set_loss, unlikelihood_of)]
)
def test_losses_of_sets_are_their_formulas(
    seed: int, loss: Callable[[Tensor, Tensor, Tensor], Tensor], formula: SetFormula
) -> None:
    """Lists of tokens with repeats, gaps (−1) and the target among them are the sets that they stand for."""
    draw = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(40, 8, generator=draw).double()
    targets = torch.randint(0, 8, (40,), generator=draw)
    negatives = torch.randint(-1, 8, (40, 6), generator=draw)
    negatives[:5] = -1
    negatives[5:10] = targets[5:10, None]

    def ours(scores: Tensor) -> Tensor:
        return loss(scores, targets, negatives).sum() / 40

    def theirs(scores: Tensor) -> Tensor:
        lists = zip(scores, targets.tolist(), negatives.tolist(), strict=True)
        return torch.stack([formula(row, x, set(tokens) - {-1, x}) for row, x, tokens in lists]).sum() / 40

    assert_equal(ours, theirs, logits)


@SEEDS
@pytest.mark.parametrize("preceding", [1, 3, 60])
def test_contrastive_token_is_its_formula(seed: int, preceding: int) -> None:
    """L = (Σ₊ -log p(x_t) + α log(1 + Σ_{v ∈ S_t} e^{s_v - s_x})) / N, S_t the M tokens before t without x_t."""
    case = with_repeats(seed)
    theirs = against_preceding(case, contrast_with, weight=0.7, most=preceding)
    assert_equal(joint(ContrastiveToken(alpha=0.7, preceding=preceding), case), theirs, case.logits)


@SEEDS
def test_unlikelihood_token_is_its_formula(seed: int) -> None:
    """L = (Σ₊ -log p(x_t) + α Σ_{c ∈ C_t} -log(1 - p(c))) / N, C_t all tokens before t without x_t."""
    case = with_repeats(seed)
    theirs = against_preceding(case, unlikelihood_of, weight=0.7, most=60)
    assert_equal(joint(UnlikelihoodToken(alpha=0.7), case), theirs, case.logits)


def with_repeats(seed: int) -> Case:
    """Responses of 6 different tokens, so that some come again."""
    case = make_case(seed)
    few = torch.where(case.labels == PAD, PAD, (case.labels - 1) % 6 + 1)
    return case._replace(labels=few)


def against_preceding(case: Case, formula: SetFormula, *, weight: float, most: int) -> Loss:
    """Cross-entropy and a loss of the set of preceding tokens, on liked tokens; negatives count in N alone."""

    def loss(logits: Tensor) -> Tensor:
        total = logits.new_zeros(())
        for row, t, token, kind in case.tokens():
            if kind != Feedback.NEGATIVE:
                before = set(case.labels[row, max(0, t - most) : t].tolist()) - {token}
                scores = logits[row, t]
                total = total - torch.log(probability(scores)[token]) + weight * formula(scores, token, before)
        return total / sum(1 for _ in case.tokens())

    return loss
