"""Keys: what changes an output changes the key, nothing else does; shared work is planned once, parents first."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from benchmarks import keys as keying
from benchmarks import plan as planning
from benchmarks.config import resolve, with_lm_data
from benchmarks.datafolder import choose_sources
from benchmarks.keys import canonical, package_versions, source_digest
from benchmarks.plan import Plan, Row, Stage, make_plan
from benchmarks.tasks import registry as tasks
from benchmarks.tasks.base import LM_DATA, Column

DATA = {"ConvAI2/train_self_original_no_cands.txt": "ab" * 32, "decode/decode_v0.1/train.jsonl": "cd" * 32}


def planned(
    *overrides: str,
    fingerprint: Mapping[str, str] | None = DATA,
    device: str = "cpu",
    methods: tuple[str, ...] = ("transformer", "unlikelihood", "cringe_single"),
    **options,
) -> Plan:
    config = resolve(**{"task": "decode", "method_names": methods, "overrides": overrides} | options)
    sources = with_lm_data(choose_sources(tasks.load(config.task), None, config.sources), config.lm_data)
    return make_plan(config, sources=sources, fingerprint=fingerprint, device=device)


def keys(plan: Plan) -> dict[str, str]:
    """Key by label."""
    labels = {stage.label.removeprefix(f"{plan.config.task}-"): stage.key for stage in plan.stages}
    assert len(labels) == len(plan.stages), "labels tell the stages of a plan apart"
    return labels


def changed(before: Plan, after: Plan) -> set[str]:
    """Labels of the stages of both plans whose keys differ."""
    old, new = keys(before), keys(after)
    return {label for label in old.keys() & new.keys() if old[label] != new[label]}


def of_methods(*methods: str, seed: int = 0) -> set[str]:
    """All that comes after the training of these methods, training included."""
    return {f"{name}-s{seed}-{what}" for name in methods for what in ("train", "beam", "nucleus", "scores")}


METHODS = ("transformer", "unlikelihood", "cringe_single")
SCORES = {f"{row}-s0-scores" for row in ("backbone", *METHODS)} | {"references-scores"}
BACKBONE = {"backbone-beam", "backbone-s0-nucleus", "backbone-s0-scores"}
JUDGES = {"judge", "guide"}
"""Who gives the verdicts, and whose are shown beside them."""


# The graph


def test_the_stages_of_a_plan() -> None:
    expected = {"warmup", "reference", *JUDGES, "references", "references-scores"} | BACKBONE | of_methods(*METHODS)
    assert set(keys(planned())) == expected
    assert set(keys(planned(fingerprint=None))) == expected | {"data"}


def test_parents_come_before_children_and_every_stage_once() -> None:
    for plan in (planned(), planned(fingerprint=None, seeds=[0, 1, 2])):
        done: set[str] = set()
        for stage in plan.stages:
            assert {parent.key for parent in stage.parents.values()} <= done, stage.label
            assert stage.key not in done
            done.add(stage.key)
        assert {row.scores.key for row in plan.rows} | {plan.judge.key} <= done


def test_rows_stand_in_the_order_of_the_table() -> None:
    plan = planned(seeds=[3, 1], methods=("cringe_single", "transformer"))
    assert [(row.name, row.kind, row.seed) for row in plan.rows] == [
        ("constant", "floor", 0),
        ("random", "floor", 0),
        ("backbone", "backbone", 3),
        ("backbone", "backbone", 1),
        ("cringe_single", "method", 3),
        ("cringe_single", "method", 1),
        ("transformer", "method", 3),
        ("transformer", "method", 1),
        ("gold", "ceiling", 0),
    ]


@pytest.mark.parametrize("kind", ["warmup", "reference", "judge", "guide", "references", "synthesize"])
def test_what_is_shared_is_done_once(kind: str) -> None:
    plan = planned(fingerprint=None, seeds=[0, 1, 2])
    assert [stage.kind for stage in plan.stages].count(kind) == 1


def test_every_method_starts_from_the_warmup_and_is_scored_by_the_same_models() -> None:
    plan = planned(seeds=[0, 1])
    warmup, reference, guide = (kinds(plan, kind)[0] for kind in ("warmup", "reference", "guide"))
    for stage in plan.stages:
        if stage.kind == "train":
            assert stage.parents == {"model": warmup}
        if stage.kind == "score":
            shared = {"model": warmup, "reference": reference, "judge": plan.judge, "guide": guide}
            assert shared.items() <= stage.parents.items()
    for row in plan.rows:
        if row.kind == "method":
            trained = row.scores.parents["training"]
            assert (trained.settings["method"], trained.settings["seed"]) == (row.name, row.seed)
            assert all(
                row.scores.parents[f"replies-{name}"].parents["model"] is trained for name in ("beam", "nucleus")
            )


def test_the_backbone_is_decoded_by_beam_once_and_sampled_for_every_seed() -> None:
    labels = keys(planned(seeds=[0, 1, 2]))
    assert [label for label in labels if re.fullmatch("backbone.*beam", label)] == ["backbone-beam"]
    sampled = [f"backbone-s{seed}-nucleus" for seed in (0, 1, 2)]
    assert [label for label in labels if re.fullmatch("backbone.*nucleus", label)] == sampled
    assert len({labels[label] for label in sampled}) == 3


def test_methods_are_sampled_with_the_seed_that_they_were_trained_with() -> None:
    plan = planned(seeds=[0, 1])
    for stage in plan.stages:
        if stage.kind == "generate" and "model" in stage.parents and stage.parents["model"].kind == "train":
            sampled = stage.settings["decoding"]["strategy"] == "nucleus"
            expected = stage.parents["model"].settings["seed"] if sampled else None
            assert stage.settings.get("seed") == expected


def test_generated_files_in_a_folder_are_named_and_not_made_again() -> None:
    config = resolve(task="decode", method_names=["transformer"])
    sources = tasks.load("decode").sources
    plan = make_plan(config, sources=sources, fingerprint=DATA, device="cpu", generated=True)
    assert plan.synthetic
    assert plan.name == "decode-tiny-synthetic"
    assert not kinds(plan, "synthesize")
    assert keys(plan) == keys(planned(methods=("transformer",)))


def test_generated_data_are_a_parent_of_everything_and_named() -> None:
    plan = planned(fingerprint=None)
    assert plan.synthetic
    assert plan.name == "decode-tiny-synthetic"
    assert all("data" in stage.parents for stage in plan.stages if stage.kind != "synthesize")
    real = planned()
    assert not real.synthetic
    assert real.name == "decode-tiny"
    assert real.fingerprint == DATA
    assert all("data" not in stage.parents for stage in real.stages)


# Keys


def test_equal_configurations_have_equal_keys() -> None:
    assert keys(planned()) == keys(planned())
    assert planned().key == planned().key
    assert keys(planned()) == keys(planned(fingerprint=dict(reversed(DATA.items()))))
    assert keys(planned("training.learning_rate=0.0005")) == keys(planned("training.learning_rate=5.0e-4"))


def test_a_key_does_not_depend_on_what_else_is_in_the_table() -> None:
    alone, among = keys(planned(methods=("cringe_single",), seeds=[1])), keys(planned(seeds=[0, 1, 2]))
    assert alone.items() <= among.items()


def test_the_name_of_a_preset_is_in_no_key(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("extends: tiny\n")
    plan = planned(preset=str(tmp_path / "other.yaml"))
    assert keys(plan) == keys(planned())
    assert plan.name == "decode-other"


@pytest.mark.parametrize(
    "override",
    [
        "training.updates=7",
        "training.batch_size=16",
        "training.micro_batch_size=4",
        "training.length_groups=2",
        "training.length_window=4",
        "training.learning_rate=0.1",
        "training.warmup_updates=1",
        "training.schedule=constant",
        "training.clip_norm=2",
        "training.weight_decay=0.1",
        "training.reduction=separate",
        "training.precision=bf16",
    ],
)
def test_training_settings_change_training_and_what_follows(override: str) -> None:
    assert changed(planned(), planned(override)) == of_methods(*METHODS)


def test_every_training_setting_is_covered_above() -> None:
    from cringe.specs import TrainingSettings

    (parameters,) = (
        mark.args[1]
        for mark in test_training_settings_change_training_and_what_follows.pytestmark
        if mark.name == "parametrize"
    )
    assert {text.split("=")[0].removeprefix("training.") for text in parameters} == set(TrainingSettings.model_fields)


@pytest.mark.parametrize(
    ("override", "method"),
    [
        ("cringe_single.alpha=7", "cringe_single"),
        ("cringe_single.k=2", "cringe_single"),
        ("cringe_single.detach_positive=true", "cringe_single"),
        ("unlikelihood.alpha=7", "unlikelihood"),
    ],
)
def test_hyperparameters_change_their_method_alone(override: str, method: str) -> None:
    assert changed(planned(), planned(override)) == of_methods(method)


@pytest.mark.parametrize("override", ["warmup.updates=7", "backbone.width=88", "backbone.lowercase=false"])
def test_the_backbone_changes_all_but_judges_and_references(override: str) -> None:
    everything = set(keys(planned()))
    assert changed(planned(), planned(override)) == everything - {*JUDGES, "references"}


@pytest.mark.parametrize(
    ("override", "decoding"),
    [
        ("decoding.beam.beams=4", "beam"),
        ("decoding.beam.length_penalty=1", "beam"),
        ("decoding.beam.no_context_ngram=0", "beam"),
        ("decoding.nucleus.top_p=0.8", "nucleus"),
        ("decoding.nucleus.max_new_tokens=9", "nucleus"),
    ],
)
def test_a_decoding_changes_its_replies_and_their_scores(override: str, decoding: str) -> None:
    replies = {f"{name}-s0-{decoding}" for name in METHODS}
    replies |= {"backbone-beam" if decoding == "beam" else "backbone-s0-nucleus"}
    assert changed(planned(), planned(override)) == replies | (SCORES - {"references-scores"})


@pytest.mark.parametrize(
    ("override", "role"),
    [
        ("judge.C=2", "judge"),
        ("judge.kind=scratch", "judge"),
        ("judge.reads=response", "judge"),
        ("second_judge.epochs=9", "judge"),
        ("second_judge=null", "judge"),
        ("guide.epochs=9", "guide"),
        ("guide.kind=linear", "guide"),
    ],
)
def test_a_judge_changes_scores(override: str, role: str) -> None:
    assert changed(planned(), planned(override)) == {role} | SCORES


def test_prompts_change_replies_and_scores() -> None:
    everything = set(keys(planned()))
    kept = {"warmup", "reference", *JUDGES} | {f"{name}-s0-train" for name in METHODS}
    assert changed(planned(), planned("prompts=9")) == everything - kept


def test_another_seed_is_another_training_from_the_same_start() -> None:
    zero, one = keys(planned(seeds=[0])), keys(planned(seeds=[1]))
    shared = {"warmup", "reference", *JUDGES, "references", "references-scores", "backbone-beam"}
    assert {label for label in zero if zero.get(label) == one.get(label)} == shared
    assert not set(zero.values()) & {key for label, key in one.items() if label not in shared}


def test_threads_change_all_that_computes() -> None:
    everything = set(keys(planned(fingerprint=None)))
    same = {"data", "references"}  # text alone
    assert changed(planned(fingerprint=None), planned("threads=2", fingerprint=None)) == everything - same


def test_processes_change_what_trains_a_language_model() -> None:
    """And what comes of it; judge and guide are trained by one. One process is what it was before there were more."""
    assert changed(planned(), planned("processes=1")) == set()
    for device in ("cpu", "cuda"):
        alone, together = planned(device=device), planned("processes=2", device=device)
        assert changed(alone, together) == set(keys(alone)) - {"judge", "guide", "references"}
        assert {stage.kind for stage in together.stages if stage.processes == 2} == {"warmup", "reference", "train"}
        assert all("processes" not in stage.identity for stage in together.stages if stage.processes == 1)
        assert {stage.processes for stage in alone.stages} == {1}
    rounds = kinds(planned("processes=4", methods=["cringe"]), "train")
    assert [stage.processes for stage in rounds] == [4, 4]


def test_what_has_no_updates_needs_no_processes() -> None:
    plan = planned("processes=2", "warmup.updates=0", "reference_training.updates=9")
    assert [kinds(plan, kind)[0].processes for kind in ("warmup", "reference", "train")] == [1, 2, 2]


def test_the_device_changes_all_that_computes() -> None:
    everything = set(keys(planned(fingerprint=None)))
    after = planned(fingerprint=None, device="cuda")
    assert changed(planned(fingerprint=None), after) == everything - {"data", "references"}
    assert changed(after, planned("threads=2", fingerprint=None, device="cuda")) == set()


@pytest.mark.parametrize(
    "other",
    [
        {**DATA, "decode/decode_v0.1/train.jsonl": "ce" * 32},
        {**DATA, "decode/decode_v0.1/rct.jsonl": "ef" * 32},
        {"elsewhere.txt": "ab" * 32, "decode/decode_v0.1/train.jsonl": "cd" * 32},
        None,
    ],
)
def test_the_data_change_everything(other: dict[str, str] | None) -> None:
    assert changed(planned(), planned(fingerprint=other)) == set(keys(planned()))


def test_the_key_of_a_plan_follows_its_rows() -> None:
    assert planned().key != planned("prompts=9").key
    assert planned().key != planned(methods=("transformer",)).key
    assert planned().key != planned(seeds=[0, 1]).key


def test_versions_are_in_every_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = planned()
    assert {"python", "torch", "transformers", "tokenizers"} <= package_versions().keys()
    assert all(stage.identity["versions"] == package_versions() for stage in before.stages)
    for package in ("torch", "transformers", "tokenizers"):
        monkeypatch.setattr(
            planning, "package_versions", lambda package=package: {**package_versions(), package: "0.0.0"}
        )
        assert changed(before, planned()) == set(keys(before))


def test_package_versions_asks_for_each_package(monkeypatch: pytest.MonkeyPatch) -> None:
    package_versions.cache_clear()
    monkeypatch.setattr(keying, "version", lambda package: f"version of {package}")
    try:
        assert package_versions()["torch"] == "version of torch"
        assert set(package_versions()) == {"python", *keying.KEYED_PACKAGES}
    finally:
        package_versions.cache_clear()


def test_an_identity_is_json_and_names_what_was_asked() -> None:
    for stage in planned(fingerprint=None).stages:
        assert canonical(stage.identity)
        assert re.fullmatch("[0-9a-f]{64}", stage.key)
        assert stage.folder == f"{stage.label}-{stage.key[:12]}"
        assert stage.identity["parents"] == {name: parent.key for name, parent in stage.parents.items()}


def test_canonical_json_knows_no_nan() -> None:
    assert canonical({"b": 1, "a": [0.5, None, "é"]}) == b'{"a":[0.5,null,"\\u00e9"],"b":1}'
    with pytest.raises(ValueError, match="not JSON"):
        canonical(float("nan"))


def test_the_settings_of_a_training_hold_the_whole_specs() -> None:
    """What is left at its default is in the key, too: a default that changes must not find old results."""
    plan = planned()
    train = next(stage for stage in plan.stages if stage.label.endswith("cringe_single-s0-train"))
    assert train.settings["training"] == plan.config.training.model_dump()
    assert train.settings["hyperparameters"] == plan.config.settings["cringe_single"].model_dump()
    assert train.settings["task"] == "decode"


# Source

Digest = Callable[..., str]


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Writes modules of a package ``ours``; ``digest()`` sees them as they are on disk."""
    monkeypatch.setattr(keying, "OUR_PACKAGES", ("ours",))
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "ours" / "inner").mkdir(parents=True)
    for folder in ("ours", "ours/inner"):
        (tmp_path / folder / "__init__.py").write_text("")

    def write(name: str, code: str) -> None:
        (tmp_path / "ours" / f"{name}.py").write_text(code, encoding="utf-8")

    yield write
    for name in [name for name in sys.modules if name.split(".")[0] == "ours"]:
        del sys.modules[name]
    keying._parse.cache_clear()
    source_digest.cache_clear()


def digest(*modules: str) -> str:
    keying._parse.cache_clear()
    source_digest.cache_clear()
    importlib.invalidate_caches()
    return source_digest(*modules)


@pytest.mark.parametrize(
    "statement",
    [
        "import ours.far",
        "from ours import far",
        "from ours.far import VALUE",
        "import ours.far as other, os",
        "def late():\n    from ours.far import VALUE\n    return VALUE",
        "import typing\nif typing.TYPE_CHECKING:\n    from ours.far import VALUE",
        "from ours.near import something",
        "from ours.inner.middle import something",
    ],
)
def test_code_of_what_is_imported_however_far_is_in_the_digest(statement: str, sources) -> None:
    sources("top", f"{statement}\n")
    sources("near", "import ours.far\nsomething = 1\n")
    sources("inner/middle", "def f():\n    import ours.near\nsomething = 1\n")
    sources("far", "VALUE = 1\n")
    before = digest("ours.top")
    assert digest("ours.top") == before
    sources("far", "VALUE = 2\n")
    assert digest("ours.top") != before
    sources("far", "VALUE = 1\n")
    assert digest("ours.top") == before


def test_code_that_is_not_imported_is_not(sources) -> None:
    sources("top", "import json\nVALUE = 'import ours.far'\n")
    sources("far", "VALUE = 1\n")
    before = digest("ours.top")
    sources("far", "VALUE = 2\n")
    assert digest("ours.top") == before


PLAIN = "class A:\n    x: int = 1\n    def f(self):\n        return 1\nasync def g():\n    pass\n"
DRESSED = '''"""A module."""
# A comment.
class A:
    """A class."""

    x: int = 1  # why
    """An attribute."""

    def f(self):
        """A method."""
        return (1)


async def g():
    """A coroutine."""
    pass
'''


def test_comments_docstrings_and_layout_are_not_code(sources) -> None:
    sources("top", PLAIN)
    before = digest("ours.top")
    sources("top", DRESSED)
    assert digest("ours.top") == before


@pytest.mark.parametrize(
    ("old", "new"),
    [("return 1", "return 2"), ("x: int = 1", "x: int = 2"), ("self", "this"), ("pass", "return 'text'")],
)
def test_a_small_change_of_code_is_noticed(old: str, new: str, sources) -> None:
    sources("top", PLAIN)
    before = digest("ours.top")
    sources("top", PLAIN.replace(old, new))
    assert digest("ours.top") != before


def test_modules_that_import_each_other(sources) -> None:
    sources("top", "import ours.far\n")
    sources("far", "import ours.top\nVALUE = 1\n")
    before = digest("ours.top")
    assert digest("ours.far") == before
    sources("far", "import ours.top\nVALUE = 2\n")
    assert digest("ours.top") != before


def test_a_package_counts_with_its_own_code(sources) -> None:
    sources("top", "from ours.inner import VALUE\n")
    sources("inner/__init__", "VALUE = 1\n")
    before = digest("ours.top")
    sources("inner/__init__", "VALUE = 2\n")
    assert digest("ours.top") != before


def test_a_module_that_is_not_there_is_an_error(sources) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"no source for ours\.gone"):
        digest("ours.gone")


def stage_sources(kind: str, *modules: str) -> set[str]:
    """Names of our modules that a kind of stage depends on."""
    waiting, seen = [f"benchmarks.stages.{kind}", *modules], set()
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += keying._parse(module)[1]
    return seen


def test_stages_depend_on_the_code_that_they_run() -> None:
    train = stage_sources("train")
    assert {"cringe.trainer", "cringe.backbones", "cringe.data", "cringe.seeding", "cringe.checkpoint"} <= train
    assert {"cringe.generation", "cringe.seeding", "cringe.backbones"} <= stage_sources("generate")
    assert {"evaluators.f1", "evaluators.perplexity", "cringe.classifier"} <= stage_sources("score")
    assert {"cringe.classifier", "evaluators.stats"} <= stage_sources("judge")
    assert "benchmarks.tasks.synthetic" in stage_sources("synthesize", "benchmarks.tasks.decode")


def test_a_method_depends_on_no_other_method_and_nothing_on_the_table() -> None:
    """A new method, or another layout of the table, makes nothing old undone."""
    kinds_ = [path.stem for path in Path(planning.__file__).with_name("stages").glob("[a-z]*.py")]
    for kind in sorted(set(kinds_) - {"context", "model"}):
        found = stage_sources(kind)
        assert not {"cringe.methods.cringe_single", "cringe.methods.unlikelihood"} & found, kind
        assert not {"benchmarks.tables", "benchmarks.runner", "benchmarks.run", "benchmarks.plan"} & found, kind
    assert "cringe.losses" in stage_sources("train", "cringe.methods.cringe_single")


def test_methods_and_task_are_found_at_run_time_and_named_for_the_digest() -> None:
    plan = planned()
    for stage in plan.stages:
        assert "benchmarks.tasks.decode" in stage.modules
        expected = {f"cringe.methods.{stage.settings['method']}"} if stage.kind == "train" else set()
        assert set(stage.modules) - {"benchmarks.tasks.decode"} == expected


def test_the_source_is_in_every_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = planned()
    real = source_digest

    def edited(*modules: str) -> str:
        return real(*modules) + (" edited" if "cringe.methods.unlikelihood" in modules else "")

    monkeypatch.setattr(planning, "source_digest", edited)
    assert changed(before, planned()) == of_methods("unlikelihood")


def test_in_order_takes_each_key_once() -> None:
    def stage(label: str, **parents: Stage) -> Stage:
        return Stage(
            kind="references", label=label, settings={"label": label}, parents=parents, modules=(), surroundings={}
        )

    root = stage("root")
    left, right = stage("left", root=root), stage("right", root=stage("root"))
    top = stage("top", left=left, right=right)
    assert [item.label for item in planning.in_order([right, top, left])] == ["root", "right", "left", "top"]


# Rounds, guides and what methods share

PAPER = (
    "transformer",
    "reranker",
    "fudge",
    "pacer",
    "unlikelihood",
    "sigmoid_only",
    "director",
    "director_shared",
    "cringe_single",
    "cringe",
)


def kinds(plan: Plan, kind: str) -> list[Stage]:
    return [stage for stage in plan.stages if stage.kind == kind]


def rows_of(plan: Plan, name: str) -> dict[int | None, Row]:
    """By round, None being the last."""
    rows = [row for row in plan.rows if row.name == name]
    found = {row.round: row for row in rows}
    assert len(found) == len(rows)
    return found


def scores_of(plan: Plan, name: str) -> Stage:
    return rows_of(plan, name)[None].scores


def test_all_methods_are_the_ten_rows_of_the_paper() -> None:
    plan = planned(methods=("all",))
    assert [row.name for row in plan.rows if row.kind == "method" and row.round is None] == list(PAPER)
    assert [(row.name, row.kind) for row in plan.rows if row.kind != "method"] == [
        ("constant", "floor"),
        ("random", "floor"),
        ("backbone", "backbone"),
        ("gold", "ceiling"),
    ]


def test_every_method_of_the_registry_can_be_planned() -> None:
    from cringe.methods.registry import entries

    plan = planned(methods=tuple(entries()))
    keys(plan)
    assert {row.name for row in plan.rows if row.kind == "method"} == set(entries())


def test_iterative_with_one_iteration_is_the_single_one() -> None:
    """The very stages: training, replies and, but for their name, scores; whatever rounds are."""
    for rounds in ("split", "extra"):
        both = planned("cringe.iterations=1", f"cringe.rounds={rounds}", methods=("cringe_single", "cringe"))
        single, iterative = scores_of(both, "cringe_single"), scores_of(both, "cringe")
        assert iterative.parents["training"].key == single.parents["training"].key
        assert iterative.parents["replies-beam"].key == single.parents["replies-beam"].key
        assert iterative.key == single.key
        assert len(kinds(both, "train")) == 1
        assert not kinds(both, "iterate")
        assert set(rows_of(both, "cringe")) == {None}
    other = planned("cringe.iterations=1", "cringe.alpha=7", methods=("cringe_single", "cringe"))
    assert len(kinds(other, "train")) == 2


@pytest.mark.parametrize(
    ("rounds", "iterations", "spans"),
    [
        ("split", 2, [[0, 100, 0], [100, 200, 0]]),
        ("split", 3, [[0, 66, 0], [66, 133, 0], [133, 200, 0]]),
        ("extra", 2, [None, [200, 400, 200]]),
        ("extra", 3, [None, [200, 400, 200], [400, 600, 400]]),
    ],
)
def test_rounds(rounds: str, iterations: int, spans: list[list[int] | None]) -> None:
    """Split: one schedule of 200 updates. Extra: 200 each, of which the first are the single method's own stage."""
    overrides = (f"cringe.rounds={rounds}", f"cringe.iterations={iterations}", "training.updates=200")
    plan = planned(*overrides, methods=("cringe",))
    trainings, data = kinds(plan, "train"), kinds(plan, "iterate")
    assert [stage.settings.get("span") for stage in trainings] == spans
    assert [stage.settings["round"] for stage in data] == list(range(1, iterations))
    assert {stage.settings["method"] for stage in trainings} == {"cringe_single"}
    warmup, (guide,) = kinds(plan, "warmup")[0], kinds(plan, "guide")
    for index, training in enumerate(trainings):
        made = {f"additions-{n + 1}": data[n] for n in range(index)}
        assert training.parents == {"model": trainings[index - 1] if index else warmup, **made}
    for index, stage in enumerate(data):
        assert stage.parents == {"model": trainings[index], "guide": guide}
    rows = rows_of(plan, "cringe")
    assert list(rows) == [None, *range(1, iterations)]
    for index, row in rows.items():
        model = trainings[-1 if index is None else index - 1]
        assert (row.kind, row.seed) == ("method", 0)
        assert row.scores.parents["training"] is row.scores.parents["tested"] is model
        assert all(row.scores.parents[f"replies-{name}"].parents["model"] is model for name in plan.config.decoding)


def test_an_extra_round_begins_with_the_single_method() -> None:
    plan = planned("cringe.rounds=extra", methods=("cringe_single", "cringe"))
    single = scores_of(plan, "cringe_single").parents["training"]
    last = scores_of(plan, "cringe").parents["training"]
    assert last.parents["model"].key == single.key
    assert len(kinds(plan, "train")) == 2
    split = planned("cringe.rounds=split", methods=("cringe_single", "cringe"))
    assert len(kinds(split, "train")) == 3


def test_what_generates_between_rounds() -> None:
    """The decoding that is named, or the table's first; so many prompts, drawn by the seed."""
    plan = planned("cringe.decoding=nucleus", "cringe.generations=9", methods=("cringe",), seeds=[4])
    (stage,) = kinds(plan, "iterate")
    assert stage.settings["decoding"] == plan.config.decoding["nucleus"].model_dump()
    assert (stage.settings["generations"], stage.settings["seed"], stage.settings["round"]) == (9, 4, 1)
    first = planned("cringe.decoding=null", methods=("cringe",))
    assert kinds(first, "iterate")[0].settings["decoding"] == next(iter(first.config.decoding.values())).model_dump()


def test_rounds_change_no_other_method() -> None:
    before, after = (planned(f"cringe.rounds={how}", methods=PAPER) for how in ("split", "extra"))
    assert changed(before, after) == {"cringe-s0-round2", "cringe-s0-round1-data"} | {
        f"cringe-s0-{what}" for what in ("beam", "nucleus", "scores")
    }


def test_methods_that_steer_share_one_training() -> None:
    """Re-ranker, FUDGE and PACER are the baseline's weights; their replies are their own."""
    steering = ("transformer", "reranker", "fudge", "pacer")
    plan = planned(methods=steering)
    (training,) = kinds(plan, "train")
    assert training.settings["method"] == "transformer"
    for decoding in ("beam", "nucleus"):
        replies = [scores_of(plan, name).parents[f"replies-{decoding}"] for name in steering]
        assert len({stage.key for stage in replies}) == 4
        assert {stage.parents["model"].key for stage in replies} == {training.key}
    alone = planned(methods=("fudge",))
    assert kinds(alone, "train")[0].key == training.key


def test_a_steering_method_s_settings_are_in_its_replies_alone() -> None:
    for override in ("fudge.weight=7", "fudge.top=3"):
        before, after = planned(methods=PAPER), planned(override, methods=PAPER)
        assert changed(before, after) == {f"fudge-s0-{what}" for what in ("beam", "nucleus", "scores")}


@pytest.mark.parametrize("name", ["director", "director_shared"])
def test_the_weight_in_decoding_changes_no_training(name: str) -> None:
    before, after = planned(methods=PAPER), planned(f"{name}.decoding_gamma=7", methods=PAPER)
    assert changed(before, after) == {f"{name}-s0-{what}" for what in ("beam", "nucleus", "scores")}
    assert changed(before, planned(f"{name}.gamma=7", methods=PAPER)) == of_methods(name)


def test_guides_are_trained_once_and_only_where_needed() -> None:
    """The sequence guide gives a verdict beside the judge's wherever there is one; the prefix guide steers alone."""
    with_prefix = {"fudge", "pacer"}
    for name in PAPER:
        found = [stage.kind for stage in planned(methods=(name,), seeds=[0, 1]).stages]
        expected = {"guide", "prefix_guide"} if name in with_prefix else {"guide"}
        assert {kind for kind in found if "guide" in kind} == expected, name
    found = [stage.kind for stage in planned(methods=PAPER, seeds=[0, 1, 2]).stages]
    assert found.count("guide") == found.count("prefix_guide") == 1


def test_guides_have_their_roles_and_are_not_the_judge() -> None:
    plan = planned(methods=PAPER)
    (guide,), (prefix,) = kinds(plan, "guide"), kinds(plan, "prefix_guide")
    assert prefix.parents == {"model": kinds(plan, "warmup")[0]}
    roles = {
        name: set(scores_of(plan, name).parents["replies-beam"].parents) - {"model"}
        for name in ("transformer", "reranker", "fudge", "pacer", "director", "cringe")
    }
    assert roles == {
        "transformer": set(),
        "reranker": {"guide"},
        "fudge": {"prefix_guide"},
        "pacer": {"guide", "prefix_guide"},
        "director": set(),
        "cringe": set(),
    }
    replies = {"reranker-s0-beam", "reranker-s0-nucleus", "pacer-s0-beam", "pacer-s0-nucleus"}
    after = planned("guide.epochs=9", methods=PAPER)
    rounds = {"cringe-s0-round1-data", "cringe-s0-round2", "cringe-s0-beam", "cringe-s0-nucleus"}
    touched = {label for label in changed(plan, after) if not label.endswith("scores")}
    assert touched == {"guide"} | replies | rounds
    assert len({stage.settings["seed"] for stage in (guide, prefix, plan.judge)}) == 3


# Judges


def test_judge_and_guide_of_one_kind_are_still_two() -> None:
    """Another half of the data, another seed, another stage."""
    plan = planned("judge.kind=scratch", "second_judge=null")
    (guide,) = kinds(plan, "guide")
    assert plan.judge.kind == "judge"
    assert plan.judge.settings["judge"] == guide.settings["guide"]
    assert plan.judge.settings["second"] is None
    assert plan.judge.settings["seed"] != guide.settings["seed"]
    assert plan.judge.key != guide.key


def test_a_shared_judge_is_the_guide() -> None:
    plan = planned(methods=PAPER, shared_judge=True)
    assert not kinds(plan, "judge")
    assert [plan.judge] == kinds(plan, "guide")
    assert all(stage.parents["judge"] is stage.parents["guide"] is plan.judge for stage in kinds(plan, "score"))
    own = planned(methods=PAPER)
    assert plan.judge.key == kinds(own, "guide")[0].key
    assert {label for label in changed(own, plan) if not label.endswith("scores")} == set()
    assert all(label.endswith("scores") for label in changed(own, plan))


def test_verdicts_are_asked_for_where_a_column_is_one() -> None:
    """By metric, the sets of prompts that it is measured on."""
    for task, judged in (("decode", {"coherent": ["decode"]}), ("wikitoxic", {"safe": ["wikitoxic"]}), ("convai2", {})):
        plan = planned(task=task, methods=("transformer",))
        assert all(stage.settings["judged"] == judged for stage in kinds(plan, "score"))
        assert (plan.judge is None) == (not judged)


def test_a_task_without_verdicts_has_no_judge() -> None:
    for shared in (False, True):
        plan = planned(task="convai2", methods=("all",), shared_judge=shared)
        assert plan.judge is None
        assert not {"judge", "guide", "prefix_guide"} & {stage.kind for stage in plan.stages}
        assert all(not {"judge", "guide"} & set(stage.parents) for stage in plan.stages)


# The reference model


def test_the_reference_is_trained_as_the_warmup_is_and_apart_from_it() -> None:
    plan = planned()
    (warmup,), (reference,) = kinds(plan, "warmup"), kinds(plan, "reference")
    assert reference.parents == {}
    for name in ("backbone", "training", "sources"):
        assert reference.settings[name] == warmup.settings[name]
    assert (reference.settings["seed"], warmup.settings["seed"]) == (4, 0)


PRETRAINED = "{kind: pretrained, name: some/model, max_source: 64, max_target: 32}"


def test_a_pretrained_reference_is_taken_as_it_is() -> None:
    plan = planned(f"reference={PRETRAINED}")
    (reference,) = kinds(plan, "reference")
    assert reference.settings["backbone"] == plan.config.reference.model_dump()
    assert reference.settings["training"]["updates"] == 0
    assert changed(planned(), plan) == {"reference"} | SCORES
    assert kinds(plan, "warmup")[0].settings["training"]["updates"] > 0


def test_a_reference_from_scratch_is_trained() -> None:
    """Random weights measure nothing."""
    shape = planned().config.backbone.model_dump() | {"width": 88}
    (reference,) = kinds(planned(f"reference={shape}"), "reference")
    assert reference.settings["backbone"]["width"] == 88
    assert reference.settings["training"]["updates"] == planned().config.warmup.updates


def test_a_training_of_its_own_changes_the_reference_alone() -> None:
    plan = planned("reference_training.updates=7")
    (reference,) = kinds(plan, "reference")
    assert reference.settings["training"] == plan.config.warmup.model_dump() | {"updates": 7}
    assert changed(planned(), plan) == {"reference"} | SCORES
    same = planned(f"reference_training.updates={plan.config.warmup.updates}")
    assert not changed(planned(), same)


def test_contents_of_a_pretrained_folder_are_in_the_key(tmp_path: Path) -> None:
    """Another model may come to lie under the same name; of a model on the hub its name is all there is."""
    folder = tmp_path / "model"
    (folder / "deep").mkdir(parents=True)

    def plan_of(**files: str) -> Plan:
        keying.folder_digest.cache_clear()
        for name, text in files.items():
            (folder / name.replace("__", "/")).write_text(text)
        model = f"{{kind: pretrained, name: {folder}, max_source: 64, max_target: 32}}"
        return planned(
            *(f"reference={model}", "judge.kind=pretrained", f"judge.name={folder}"),
            *("second_judge.kind=pretrained", f"second_judge.name={folder}"),
        )

    before = plan_of(weights="1", deep__config="2")
    assert not changed(before, plan_of(weights="1"))
    for files in ({"weights": "3"}, {"deep__config": "3"}, {"more": ""}):
        after = plan_of(**files)
        assert changed(before, after) == {"reference", "judge"} | SCORES
        before = after
    (reference,) = kinds(before, "reference")
    assert set(reference.settings) - set(kinds(planned(), "reference")[0].settings) == {"backbone contents"}
    assert {"judge contents", "second contents"} <= set(before.judge.settings)
    assert reference.settings["backbone contents"] == before.judge.settings["second contents"]
    hub = planned(f"reference={PRETRAINED}")
    assert "backbone contents" not in kinds(hub, "reference")[0].settings


# Scores


def test_what_is_tested_is_the_model_behind_the_replies() -> None:
    """So that it says how likely it finds the gold replies; constant, random and gold have no model."""
    plan = planned(methods=("transformer", "fudge", "director"), seeds=[0, 1])
    for row in plan.rows:
        parents = row.scores.parents
        if row.kind in ("floor", "ceiling"):
            assert not {"tested", "training"} & set(parents)
        elif row.kind == "backbone":
            assert parents["tested"] is kinds(plan, "warmup")[0]
            assert "training" not in parents
        else:
            assert parents["tested"] is parents["training"]
            assert parents["tested"].kind == "train"


def test_scores_know_the_head_of_a_method_that_has_one() -> None:
    """Without it the model's own likelihood would be that of the language model under the head."""
    plan = planned("director.decoding_gamma=3", methods=PAPER, seeds=[2])
    headed = {"sigmoid_only", "director", "director_shared"}
    for name in PAPER:
        stage = scores_of(plan, name)
        head = {key: stage.settings[key] for key in ("method", "hyperparameters", "seed") if key in stage.settings}
        if name in headed:
            assert head == {
                "method": name,
                "hyperparameters": plan.config.settings[name].model_dump(),
                "seed": 2,
            }
            assert f"cringe.methods.{name}" in stage.modules
        else:
            assert head == {}, name
            assert stage.modules == ("benchmarks.tasks.decode",)


def test_models_reply_to_the_prompts_of_what_is_measured() -> None:
    """And people to those of the task's own columns, too: where some prompts have no gold reply, others have."""
    plan = planned(methods=("transformer",))
    sets = [stage.settings["prompt_sets"] for stage in (*kinds(plan, "generate"), plan.references)]
    assert sets == [["convai2", "decode"]] * 5
    column = Column(metric="coherent", prompts="decode_valid", title="Coherent")
    sources = tasks.load("decode").sources
    other = make_plan(plan.config, sources=sources, fingerprint=DATA, device="cpu", columns=[column])
    assert {tuple(stage.settings["prompt_sets"]) for stage in kinds(other, "generate")} == {("decode_valid",)}
    assert other.references.settings["prompt_sets"] == ["decode_valid", "convai2", "decode"]
    assert {str(stage.settings["judged"]) for stage in kinds(other, "score")} == {"{'coherent': ['decode_valid']}"}
    fluency = make_plan(plan.config, sources=sources, fingerprint=DATA, device="cpu", columns=plan.columns[:1])
    assert fluency.judge is None


# Sources


def test_sources_are_in_the_key_of_all_that_reads_data() -> None:
    both, one = planned(fingerprint=None), planned("sources=[decode]", fingerprint=None)
    assert changed(both, one) == set(keys(both)) - {"data"}
    assert [source.name for source in one.sources] == ["decode"]
    for plan in (both, one):
        names = [source.name for source in plan.sources]
        assert all(stage.settings["sources"] == names for stage in plan.stages if stage.kind != "synthesize")
    assert keys(planned("sources=[decode, convai2]", fingerprint=None)) == keys(both)


def test_dialogue_from_elsewhere_is_a_parent_of_all_that_reads_data() -> None:
    for fingerprint in (DATA, None):
        plan = planned(lm_data="hf:some/chat", fingerprint=fingerprint)
        (made,) = kinds(plan, "lm_data")
        assert made.settings["lm_data"] == "hf:some/chat"
        assert made.parents == {}
        assert [source.name for source in plan.sources] == [LM_DATA.name, "decode"]
        for stage in plan.stages:
            if stage.kind not in ("lm_data", "synthesize"):
                assert stage.parents["lm_data"] is made
                assert stage.settings["sources"] == ["lm_data", "decode"]
        other = planned(lm_data="hf:other/chat", fingerprint=fingerprint)
        assert changed(plan, other) == set(keys(plan)) - {"data"}
        assert not kinds(planned(fingerprint=fingerprint), "lm_data")


# Repetition


def test_rounds_label_by_repetition_where_the_task_says_so() -> None:
    plan = planned("cringe.generations=9", task="convai2", methods=("transformer", "cringe"))
    (data,) = kinds(plan, "iterate")
    assert data.settings["repeated_ngram"] == tasks.load("convai2").repeated_ngram == 4
    assert data.settings["generations"] == 9
    assert data.parents == {"model": rows_of(plan, "cringe")[1].scores.parents["training"]}
    (by_guide,) = kinds(planned(methods=("cringe",)), "iterate")
    assert "repeated_ngram" not in by_guide.settings


# Rows that are the same work


@pytest.mark.parametrize(
    ("methods", "override"),
    [
        (("cringe_single", "cringe"), "cringe.iterations=1"),
        (("cringe", "cringe_single"), "cringe.iterations=1"),
        (("cringe_single", "cringe_extra"), "prompts=250"),
        (("cringe_extra", "cringe_single"), "prompts=250"),
    ],
)
def test_every_row_names_a_directory_that_will_be_there(methods: tuple[str, ...], override: str) -> None:
    """Rows that are the same work under two names: it is done once, and both must find it."""
    plan = planned(override, methods=methods)
    made = {stage.folder for stage in plan.stages}
    assert {row.scores.folder for row in plan.rows} <= made
    for stage in plan.stages:
        assert {parent.folder for parent in stage.parents.values()} <= made, stage.label
