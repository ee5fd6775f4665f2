"""The speed command: how figures are made and told, that its slow forms equal the fast ones, and that it runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib import util
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.speed import commands, decoding, gpu, losses, profile, training
from benchmarks.speed.__main__ import MEASURES, main
from benchmarks.speed.published import published_loss
from benchmarks.speed.rows import (
    MET,
    MISSED,
    REPORTED,
    UNMEASURED,
    Row,
    Side,
    Target,
    percentile,
    take_turns,
    tally,
    to_json,
    to_markdown,
    write,
)
from benchmarks.speed.setting import ONE, Setting, build, mixed
from cringe.data import Feedback
from cringe.methods import registry
from cringe.methods.cringe_single import CringeSingle
from cringe.prefix_guide import PrefixGuide
from cringe.specs import PrefixGuideSpec

BRIEF = Setting(device="cpu", threads=1, data=None, against_parlai=False, brief=True)


def row(*values: float, target: Target | None = None, missing: str = "") -> Row:
    return Row(measure="loss", what="a | b", setting="small", values=values, target=target, missing=missing)


ROWS = [
    row(0.4, 0.5, 0.9, target=Target(0.5)),
    row(0.4, 0.6, 0.9, target=Target(0.5)),
    row(2.0, target=Target(2.0, at_most=False)),
    row(1.9, target=Target(2.0, at_most=False)),
    row(1.0),
    row(missing="no GPU", target=Target(1.0)),
]


def test_verdicts() -> None:
    """The median decides; what is not promised is reported, what cannot be measured says why."""
    assert [found.verdict for found in ROWS] == [MET, MISSED, MET, MISSED, REPORTED, UNMEASURED]
    assert tally(ROWS) == "2 met, 2 missed, 1 reported, 1 not measured"
    assert tally(ROWS[:1]) == "1 met, 0 missed, 0 reported"


def test_table() -> None:
    """Machine, a line for each row that ends in its verdict, and the tally last."""
    text = to_markdown(ROWS, {"processor": "abacus"})
    assert text.startswith("processor: abacus\n")
    lines = text.splitlines()
    assert lines[-1] == tally(ROWS)
    verdicts = [re.split(r"(?<!\\)\|", line)[-2].strip() for line in lines if line.startswith("| loss")]
    assert verdicts == [MET, MISSED, MET, MISSED, REPORTED, "not measured: no GPU"]
    assert "0.5 ×" in lines[4]
    assert "0.42 – 0.82" in lines[4]
    assert "≤ 0.5 ×" in lines[4]
    assert len({len(line) for line in lines if line.startswith("|")}) == 1


def test_json_keeps_everything(tmp_path: Path) -> None:
    found = Row(
        measure="step",
        what="w",
        setting="s",
        values=(1.0, 3.0),
        target=Target(2.0),
        raw={"ours": (1.0, 3.0), "theirs": (1.0, 1.0)},
    )
    write(tmp_path / "new" / "speed.json", [found, ROWS[-1]], {"GPU": "none"})
    stored = json.loads((tmp_path / "new" / "speed.json").read_text(encoding="utf-8"))
    assert stored == json.loads(to_json([found, ROWS[-1]], {"GPU": "none"}))
    assert stored["machine"] == {"GPU": "none"}
    first, second = stored["rows"]
    assert first["raw"] == {"ours": [1.0, 3.0], "theirs": [1.0, 1.0]}
    assert (first["median"], first["repetitions"], first["verdict"]) == (2.0, 2, MET)
    assert first["target"] == {"limit": 2.0, "at_most": True}
    assert (second["median"], second["verdict"], second["missing"]) == (None, UNMEASURED, "no GPU")
    write(tmp_path / "speed.md", [found], {})
    assert (tmp_path / "speed.md").read_text(encoding="utf-8") == to_markdown([found], {})


def test_percentiles() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([0.0, 10.0], 0.1) == pytest.approx(1.0)
    assert percentile([7.0], 0.9) == 7.0


class Hands:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    found = Hands()
    for module in ("rows", "profile"):
        monkeypatch.setattr(f"benchmarks.speed.{module}.time", found)
    return found


def test_sides_take_turns(hands: Hands) -> None:
    """Warm-up first and thrown away, the order turned every other time, preparing not timed."""
    log: list[str] = []

    def side(name: str, seconds: float, units: float) -> Side:
        def run() -> float:
            log.append(name)
            hands.wait(seconds * len(log))
            return units

        def prepare() -> None:
            log.append(f"({name})")
            hands.wait(5.0)

        return Side(run, prepare)

    turns = take_turns({"a": side("a", 1.0, 2.0), "b": side("b", 2.0, 1.0)}, 3, warm_up=2)
    once, turned = ["(a)", "a", "(b)", "b"], ["(b)", "b", "(a)", "a"]
    assert log == [*once, *turned, *once, *turned, *once]
    assert turns.seconds == {"a": (10.0, 16.0, 18.0), "b": (24.0, 28.0, 40.0)}
    assert turns.times("a", "b") == pytest.approx((5 / 24, 8 / 28, 9 / 40))
    assert turns.speeds("a", "b") == pytest.approx((24 / 5, 28 / 8, 40 / 9))
    assert turns.raw() == {**turns.seconds, "a, units": (2.0, 2.0, 2.0)}


def cases() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits (4, 6, 50), targets, padding and which responses are negative."""
    draw = torch.Generator().manual_seed(3)
    padding = torch.arange(6) >= torch.tensor([6, 3, 5, 1])[:, None]
    return (
        2 * torch.randn(4, 6, 50, generator=draw),
        torch.randint(50, (4, 6), generator=draw),
        padding,
        torch.tensor([False, True, False, True]),
    )


def test_published_form_by_its_formula() -> None:
    """k = 1 leaves nothing to chance: (Σ -log p(x) + α Σ softplus(s⁻ - s⁺)) / N, padding nowhere."""
    logits, targets, padding, negative = cases()
    total, count = 0.0, 0
    for b, t in (~padding).nonzero().tolist():
        scores, x = logits[b, t].double(), int(targets[b, t])
        others = [float(s) for v, s in enumerate(scores) if v != x]
        contrast = torch.nn.functional.softplus(scores[x] - max(others))
        total += float(0.7 * contrast if negative[b] else scores.logsumexp(0) - scores[x])
        count += 1
    found = published_loss(logits, targets, padding, negative, k=1, alpha=0.7)
    assert found.item() == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize("share", losses.LIMITS)
def test_published_form_equals_ours(share: float) -> None:
    """What the loss is timed against: the same value and gradient, where nothing is drawn."""
    case = losses.make_case(50, (4, 6), share, "cpu")
    method = CringeSingle(k=1, alpha=0.7)
    assert len(case.batch.tokens) - case.batch.liked == share * 24
    torch.testing.assert_close(
        losses.ours(case, method), losses.published(case, method).flatten(0, 1), rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize("copies", [0, 1, 3])
def test_memory_is_counted(copies: int) -> None:
    """Copies that are there at the same time count, and those that were freed before do not."""
    logits = torch.zeros(100, 1_000)

    def run() -> Tensor:
        for _ in range(5):
            logits + 1
        kept = [logits + 1 for _ in range(copies)]
        gradient = torch.zeros_like(logits)
        del kept
        return gradient

    assert losses.extra_memory(run, logits) == pytest.approx(4 * logits.numel() * copies, abs=2_000)


def measured(rows: Callable[[Setting], object]) -> list[Row]:
    found = list(rows(BRIEF))  # type: ignore[call-overload]
    assert found
    assert all(isinstance(each, Row) for each in found)
    return found


@pytest.mark.parametrize(
    "measure",
    [
        losses.measure,
        training.measure_step,
        pytest.param(decoding.measure_decoding, marks=pytest.mark.slow),
        decoding.measure_guide,
    ],
    ids=["loss", "step", "decoding", "guide"],
)
def test_measures(measure: Callable[[Setting], object]) -> None:
    """They run, and say what they have measured and on what."""
    for found in measured(measure):
        assert found.verdict in (MET, MISSED, REPORTED)
        assert all(value >= 0 for value in found.values)
        assert found.raw
        assert "1 thread" in found.setting
        assert "fp32" in found.setting


@pytest.mark.parametrize("measure", [training.measure_training, decoding.measure_beam, gpu.measure])
def test_what_is_not_there_is_told(measure: Callable[[Setting], object]) -> None:
    """Without ParlAI, or without a GPU, there are rows that say so."""
    for found in measured(measure):
        assert found.verdict == UNMEASURED
        assert re.search(r"--against parlai|--device cuda", found.missing)


def test_shares_of_feedback() -> None:
    found = mixed(BRIEF.examples()[:32])
    assert sum(example.feedback == Feedback.NEGATIVE for example in found) == 8
    assert sum(example.feedback == Feedback.POSITIVE for example in found) == 8
    assert sum(example.feedback == Feedback.NEGATIVE for example in mixed(found, negatives=0.5)) == 16


def test_shape_of_the_models() -> None:
    """As large as its name says; equal weights each time."""
    first, second = build(BRIEF, ONE), build(BRIEF, ONE)
    assert f"{first.parameters / 1e6:.1f} M" == ONE.name
    assert len(first.tokenizer) == ONE.vocabulary == first.model.config.vocab_size
    for one, other in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_work_of_a_guide() -> None:
    """At a token of a beam the guide reads the row's newest token and each candidate."""
    backbone = build(BRIEF, ONE)
    guide = PrefixGuide.train(
        mixed(BRIEF.examples()[:16], negatives=0.5), backbone, PrefixGuideSpec(epochs=1, width=16, heads=2), seed=0
    )
    layers = guide.parameters - ONE.vocabulary * 16
    decoder = sum(weight.numel() for weight in backbone.model.get_decoder().layers.parameters())
    output = ONE.vocabulary * ONE.width
    assert decoding.guide_share(guide, backbone, 10) == pytest.approx(11 * layers / (decoder + output), rel=0.01)


def test_each_stage_counts_once() -> None:
    """A second training of one model, be it under another method's name, is no distinct stage."""
    stages = [
        commands.Stage("decode-warmup", 4.0),
        commands.Stage("decode-transformer-s0-train", 2.0),
        commands.Stage("decode-transformer-s1-train", 2.0),
        commands.Stage("decode-cringe_single-s0-train", 3.0),
        commands.Stage("decode-fudge-s0-beam", 1.0),
    ]
    assert commands.distinct_seconds(stages) == 12.0
    again = [commands.Stage("decode-warmup", 4.0), commands.Stage("decode-fudge-s0-train", 2.0)]
    assert commands.distinct_seconds([*stages, *again]) == 12.0


def test_parts_of_time(hands: Hands) -> None:
    """What a part calls that is a part itself counts there alone; afterwards nothing is watched."""

    class Work:
        def outer(self) -> str:
            hands.wait(2.0)
            found = self.inner()
            hands.wait(3.0)
            return found

        def inner(self) -> str:
            hands.wait(7.0)
            return "done"

    work, clock = Work(), profile.Clock(lambda: None)
    with (
        clock.watching([profile.Watched(work, "outer", "a"), profile.Watched(Work, "inner", "b")]),
        clock.timing(profile.REST),
    ):
        hands.wait(1.0)
        assert work.outer() == "done"
        hands.wait(10.0)
    assert clock.seconds == {"a": 5.0, "b": 7.0, profile.REST: 11.0}
    work.outer()
    assert sum(clock.seconds.values()) == 23.0
    assert "outer" not in vars(work)


@pytest.mark.slow
def test_profile() -> None:
    """Each method has a decoding step, each that trains on its own a training step; shares are of the whole."""
    text = profile.profile(BRIEF)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "1.3 M" in line]
    names = [line[0] for line in lines]
    for name in registry.entries():
        method = registry.load(name)()
        assert names.count(name) == 1 + (method.trained_as() == method)
    for line in lines:
        shares = [float(cell.removesuffix("%")) for cell in line[3:-2]]
        assert sum(shares) == pytest.approx(100, abs=5)
        assert line[-2] in (*profile.TRAINING, *profile.DECODING, profile.REST)
    of = {(line[0], len(line)): line for line in lines}
    training_step, decoding_step = (of["transformer", 3 + len(p) + 3] for p in (profile.TRAINING, profile.DECODING))
    for cell in (*training_step[4:7:2], decoding_step[4]):  # forward, backward; model
        assert cell != "0%"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "los"], "no measure 'los'; did you mean 'loss'"),
        (["--only", ","], "--only: names no measure"),
        (["--only", "gpu", "--out", "."], "--out: . is a folder"),
        (["--profile", "--only", "gpu"], "it takes neither --only nor --out"),
        (["--threads", "0"], "--threads: must be 1 to"),
        (["--threads", "99999"], "the cores of this machine (found 99999)"),
        (["--against", "parlai", "--only", "beam"], "next step: run `tox -e oracle --notest`"),
    ],
)
def test_wrong_usage(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = util.find_spec
    monkeypatch.setattr("benchmarks.speed.parlai_peer.find_spec", lambda name: None if name == "parlai" else find(name))
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missed or not measured fails nothing; the machine and versions are named."""
    monkeypatch.setattr("torch.set_num_threads", lambda count: None)
    out = tmp_path / "speed.json"
    assert main(["--only", "gpu,training", "--device", "cpu", "--data", "synthetic", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == "0 met, 0 missed, 0 reported, 6 not measured"
    assert f"torch {version('torch')}" in said
    assert [found["measure"] for found in json.loads(out.read_text(encoding="utf-8"))["rows"]] == [
        *["training"] * 3,
        *["gpu"] * 3,
    ]


def test_help_names_every_measure(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert all(re.search(rf"^  {name} ", said, re.MULTILINE) for name in MEASURES)
    assert "whatever was missed" in said


@pytest.mark.slow
def test_grid_and_commands() -> None:
    """Real commands, in processes of their own."""
    found = list(commands.measure(BRIEF, ["grid", "jobs", "commands"]))
    assert [each.measure for each in found] == ["grid", "jobs", *["commands"] * 3]
    assert all(each.verdict in (MET, MISSED) for each in found)
    assert found[0].median >= 1, "the whole is no less than its parts"
