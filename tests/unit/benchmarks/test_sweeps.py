"""Sweeps: what is tried, on which prompts, and which trial is chosen."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import sweeps
from benchmarks.config import RunConfig, resolve, sweep_points
from benchmarks.errors import UsageError, UserError
from benchmarks.plan import make_plan
from benchmarks.table_model import COLLAPSED, Cell, Row, Section, TableColumn
from benchmarks.tasks import registry as tasks

TASK = tasks.load("decode")


def config(*words: str, methods: tuple[str, ...] = ("transformer", "cringe_single"), **other: Any) -> RunConfig:
    return resolve(task="decode", method_names=methods, sweeps=words, **other)


def trials_of(chosen: RunConfig) -> list[sweeps.Trial]:
    sources = [source for source in TASK.sources if source.usual]
    make = partial(make_plan, sources=sources, fingerprint=None, device="cpu", columns=(TASK.selection,))
    return sweeps.trials(chosen, make)


def test_points_are_all_combinations_the_last_varying_fastest() -> None:
    assert sweep_points({"alpha": [1, 2], "k": [5, 6]}) == [
        {"alpha": 1, "k": 5},
        {"alpha": 1, "k": 6},
        {"alpha": 2, "k": 5},
        {"alpha": 2, "k": 6},
    ]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("cringe_single.alpha", "not of the form"),
        ("cringe_single.alpha=", "not of the form"),
        ("alpha=1,2", "not of the form"),
        ("cringe_single.=1", "not of the form"),
        ("cringe_singl.alpha=1", "no method 'cringe_singl'; did you mean 'cringe_single'?"),
        ("cringe_single.alpha=[", "not YAML"),
        ("cringe_single.alfa=1", "cringe_single.alfa: no such setting; did you mean 'alpha'?"),
        ("cringe_single.alpha=-1", "cringe_single.alpha: Input should be greater than or equal to 0"),
        ("cringe_single.alpha=much", "cringe_single.alpha"),
        ("unlikelihood.alpha=1,2", "is not among the methods of the table"),
        ("cringe_single.alpha=1", "alpha: a choice needs two values or more (found 1); --set sets one"),
        ("cringe_single.alpha=1,2,1", "--sweep cringe_single.alpha: 1 is there twice"),
        (f"cringe_single.alpha={','.join(map(str, range(1001)))}", "asks for 1,001 trials, and 1,000 is the most"),
    ],
)
def test_bad_sweeps_end_in_a_sentence(word: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        config(word)
    assert message in str(caught.value)


def test_the_paper_preset_has_its_grids_for_methods_of_the_table_alone() -> None:
    found = config(methods=("transformer", "unlikelihood"), preset="paper").sweeps
    assert {name: dict(grid) for name, grid in found.items()} == {"unlikelihood": {"alpha": (0.1, 0.5, 1, 5)}}


def test_what_is_asked_for_replaces_the_grid_of_the_preset() -> None:
    found = config("unlikelihood.alpha=3,4", methods=("unlikelihood",), preset="paper").sweeps
    assert {name: dict(grid) for name, grid in found.items()} == {"unlikelihood": {"alpha": (3, 4)}}


def test_a_trial_trains_with_its_value_and_replies_to_validation_prompts_alone() -> None:
    found = trials_of(config("cringe_single.alpha=0.5,2", seeds=[3, 4]))
    assert [dict(trial.values) for trial in found] == [{"alpha": 0.5}, {"alpha": 2}]
    for trial in found:
        stages = sweeps.stages([trial])
        training = [stage for stage in stages if stage.kind == "train"]
        assert [stage.settings["hyperparameters"]["alpha"] for stage in training] == [trial.values["alpha"]]
        assert [stage.settings["seed"] for stage in training] == [3]
        for stage in stages:
            if stage.kind == "generate":
                assert stage.settings["prompt_sets"] == ["decode_valid"]


def test_the_chosen_model_is_not_trained_again() -> None:
    chosen = config("cringe_single.alpha=0.5,2", seeds=[3, 4])
    found = trials_of(chosen)
    tried = {stage.key for stage in sweeps.stages(found[1:]) if stage.kind == "train"}
    final = make_plan(
        chosen.model_copy(update={"settings": found[1].plan.config.settings}),
        sources=[source for source in TASK.sources if source.usual],
        fingerprint=None,
        device="cpu",
    )
    assert tried <= {stage.key for stage in final.stages}


def choice(monkeypatch: pytest.MonkeyPatch, values: list[float | None]) -> sweeps.Choice:
    chosen = config(f"cringe_single.alpha={','.join(str(index + 1) for index in range(len(values)))}")
    left = iter(values)
    monkeypatch.setattr(sweeps, "_value", lambda trial, results: next(left))
    return sweeps.choose(chosen, trials_of(chosen), Path("nowhere"))


def test_the_highest_value_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    found = choice(monkeypatch, [50.0, 70.0, 60.0])
    assert found.config.settings["cringe_single"].model_dump()["alpha"] == 2
    assert [record["chosen"] for record in found.records] == [False, True, False]
    assert [record["value"] for record in found.records] == [50.0, 70.0, 60.0]
    assert "alpha = 2, chosen from alpha of 1, 2, 3 in 3 trials" in found.sentences[0]
    assert "decode_valid" in found.sentences[0]


def test_of_equals_the_first_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choice(monkeypatch, [50.0, 70.0, 70.0]).config.settings["cringe_single"].model_dump()["alpha"] == 2


def test_trials_that_failed_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    found = choice(monkeypatch, [None, 10.0])
    assert found.config.settings["cringe_single"].model_dump()["alpha"] == 2
    assert len(found.records) == 1


def test_without_any_result_nothing_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no trial of cringe_single has a result"):
        choice(monkeypatch, [None, None])


@pytest.mark.parametrize(
    ("trial_marks", "backbone_marks", "value"),
    [
        ({}, {}, 65.0),
        ({"beam": (COLLAPSED,)}, {}, 20.0),
        ({"beam": (COLLAPSED,)}, {"beam": (COLLAPSED,)}, 40.0),
        ({}, {"beam": (COLLAPSED,)}, 40.0),
        ({}, {"beam": (COLLAPSED,), "nucleus": (COLLAPSED,)}, 65.0),
        ({"nucleus": (COLLAPSED,)}, {"beam": (COLLAPSED,)}, 0.0),
    ],
)
def test_decodings_that_collapsed(
    monkeypatch: pytest.MonkeyPatch,
    trial_marks: dict[str, tuple[str, ...]],
    backbone_marks: dict[str, tuple[str, ...]],
    value: float,
) -> None:
    """Beam 90, nucleus 40: a trial's own collapse counts 0 there, the backbone's leaves the decoding out."""
    trial, _ = trials_of(config("cringe_single.alpha=1,2"))
    column = TableColumn(key="coherent_and_fluent@decode_valid", title="and fluent", digits=1, higher_is_better=True)
    sections = tuple(
        Section(
            decoding=name,
            description="",
            rows=(
                Row(name="backbone", kind="backbone", cells=(Cell(value=3.0),), marks=backbone_marks.get(name, ())),
                Row(name="cringe_single", kind="method", cells=(Cell(value=cell),), marks=trial_marks.get(name, ())),
            ),
            ranking=column.key,
        )
        for name, cell in {"beam": 90.0, "nucleus": 40.0}.items()
    )
    table = SimpleNamespace(columns=(column,), sections=sections)
    run = SimpleNamespace(name="cringe_single", round=None)
    monkeypatch.setattr(sweeps, "inputs", lambda *_: ([run], {}, None))
    monkeypatch.setattr(sweeps, "build_table", lambda *_: table)
    assert sweeps._value(trial, Path("nowhere")) == value
