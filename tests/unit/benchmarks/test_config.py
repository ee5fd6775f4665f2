"""From a command line to one configuration: presets, overrides, and every error at once, each with its next step."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from benchmarks.config import RunConfig, resolve, with_lm_data
from benchmarks.errors import UsageError
from benchmarks.presets import FOLDER, preset_entries
from benchmarks.tasks import registry as tasks
from benchmarks.tasks.base import LM_DATA
from cringe.methods import registry as methods
from cringe.specs import (
    LinearClassifier,
    PretrainedBackbone,
    PretrainedClassifier,
    ScratchBackbone,
    ScratchClassifier,
)


def configure(
    *overrides: str, preset: str | Path = "tiny", methods: tuple[str, ...] = ("all",), **options
) -> RunConfig:
    return resolve(
        **{"task": "decode", "method_names": methods, "preset": str(preset), "overrides": overrides} | options
    )


def problems(*overrides: str, **options) -> list[str]:
    """The lines of the one error that these settings end in."""
    with pytest.raises(UsageError) as caught:
        configure(*overrides, **options)
    lines = str(caught.value).split("\n")
    assert all(line.strip() for line in lines), "an error must say something"
    return lines


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


class StubTokenizer:
    """As many tokens as a spec asks for; a trained one may have fewer."""

    pad_token_id, eos_token_id = 0, 2

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size

    def convert_tokens_to_ids(self, tokens: str | list[str]) -> int | list[int]:
        return 3 if isinstance(tokens, str) else list(range(len(tokens)))


# Presets


@pytest.mark.parametrize("task", tasks.entries())
@pytest.mark.parametrize("preset", ["tiny", "cpu", "small", "small_pretrained", "paper"])
def test_every_preset_is_valid_for_every_task(preset: str, task: str) -> None:
    config = configure(preset=preset, task=task)
    assert config.preset == preset
    assert config.task == task
    assert config.methods == tasks.load(task).methods
    assert set(config.decoding) == {"greedy" if task == "convai2" else "beam", "nucleus"}


@pytest.mark.parametrize("preset", ["small", "small_pretrained", "paper"])
def test_presets_for_a_gpu_train_in_bfloat16_and_in_one_group(preset: str) -> None:
    config = configure(preset=preset)
    for settings in (config.warmup, config.training, config.training_of_reference):
        assert (settings.precision, settings.length_groups) == ("bf16", 1)


def test_presets_are_listed_by_size_each_with_a_sentence() -> None:
    entries = preset_entries()
    assert list(entries) == ["tiny", "cpu", "small", "small_pretrained", "paper"]
    assert all(sentence.endswith(".") and len(sentence) > 20 for sentence in entries.values())
    assert set(entries) == {path.stem for path in FOLDER.glob("*.yaml")}


def test_prompts_and_seeds_are_the_ones_of_the_design() -> None:
    sizes = {name: (configure(preset=name).prompts, len(configure(preset=name).seeds)) for name in preset_entries()}
    small = dict.fromkeys(("cpu", "small", "small_pretrained"), (500, 3))
    assert sizes == {"tiny": (250, 1), **small, "paper": (None, 3)}
    assert isinstance(configure(preset="paper").backbone, PretrainedBackbone)
    assert configure(preset="paper").backbone.name == "facebook/blenderbot-400M-distill"


def test_a_pretrained_backbone_is_measured_by_what_is_trained_here_and_judged_by_another_kind_than_guides() -> None:
    config = configure(preset="small_pretrained")
    assert isinstance(config.backbone, PretrainedBackbone)
    assert isinstance(config.judge, PretrainedClassifier)
    assert {type(spec) for spec in (config.guide, config.second_judge)} == {ScratchClassifier}
    assert isinstance(config.reference, ScratchBackbone)
    assert config.reference.family == config.backbone.family == "causal"
    assert config.training_of_reference.updates > config.warmup.updates
    files = configure("backbone.name=some/folder", "backbone.gguf_file=a.gguf", preset="small_pretrained").backbone
    assert files == config.backbone.model_copy(update={"name": "some/folder", "gguf_file": "a.gguf"})


@pytest.mark.parametrize(("preset", "low", "high"), [("tiny", 0.2e6, 0.5e6), ("cpu", 1e6, 2e6)])
def test_parameter_counts(preset: str, low: float, high: float) -> None:
    """Issue 2: tiny has 0.2 to 0.5 million weights, cpu 1 to 2 million, BlenderBot's architecture."""
    from cringe.backbones import Seq2SeqBackbone

    spec = configure(preset=preset).backbone
    assert isinstance(spec, ScratchBackbone)
    backbone = Seq2SeqBackbone.build(spec, StubTokenizer(spec.vocabulary), seed=0)
    assert backbone.model.config.model_type == "blenderbot"
    assert low <= backbone.parameters <= high


@pytest.mark.parametrize("preset", ["tiny", "cpu", "small", "small_pretrained", "paper"])
def test_decodings_follow_the_released_evaluation(preset: str) -> None:
    beam, nucleus = (configure(preset=preset).decoding[name] for name in ("beam", "nucleus"))
    assert (beam.beams, beam.min_new_tokens, beam.no_repeat_ngram, beam.no_context_ngram) == (10, 20, 3, 3)
    assert (nucleus.strategy, nucleus.top_p) == ("nucleus", 0.9)


# --set, methods, seeds


def test_set_reaches_into_nested_settings_and_leaves_the_rest() -> None:
    plain, changed = configure(), configure("training.updates=7", "decoding.beam.beams=4", "prompts=null")
    assert changed.training == plain.training.model_copy(update={"updates": 7})
    assert changed.decoding["beam"] == plain.decoding["beam"].model_copy(update={"beams": 4})
    assert changed.decoding["nucleus"] == plain.decoding["nucleus"]
    assert changed.prompts is None
    assert (changed.warmup, changed.judge, changed.settings) == (plain.warmup, plain.judge, plain.settings)


def test_the_last_of_two_settings_counts() -> None:
    assert configure("training.updates=7", "training.updates=9").training.updates == 9


def test_a_method_is_set_with_and_without_the_prefix() -> None:
    plain = configure().settings
    for key in ("cringe_single.alpha", "methods.cringe_single.alpha"):
        settings = configure(f"{key}=2.5", f"{key.replace('alpha', 'k')}=3").settings
        assert settings["cringe_single"] == plain["cringe_single"].model_copy(update={"alpha": 2.5, "k": 3})
        assert settings["unlikelihood"] == plain["unlikelihood"]


def test_methods_not_asked_for_may_be_set_too() -> None:
    assert configure("cringe_single.alpha=2", methods=("transformer",)).methods == ("transformer",)


def test_tasks_and_methods_go_by_alias(monkeypatch: pytest.MonkeyPatch) -> None:
    assert configure(task="contradiction").task == "decode"
    from cringe.methods import registry

    known = registry.entries()
    known["cringe_single"] = known["cringe_single"]._replace(aliases=("contrast",))
    monkeypatch.setattr(registry, "entries", lambda: known)
    config = configure("contrast.alpha=3", "methods.contrast.k=2", methods=("contrast",))
    assert config.methods == ("cringe_single",)
    assert (config.settings["cringe_single"].alpha, config.settings["cringe_single"].k) == (3, 2)


def test_methods_keep_their_order_and_come_once() -> None:
    config = configure(methods=("cringe_single", "transformer", "cringe_single"))
    assert config.methods == ("cringe_single", "transformer")
    both = configure(methods=("unlikelihood", "all")).methods
    assert both[:2] == ("unlikelihood", "transformer")
    assert sorted(both) == sorted(configure(methods=("all",)).methods)


def test_seeds() -> None:
    assert configure().seeds == (0,)
    assert configure(seeds=[3, 1, 3]).seeds == (3, 1)
    assert configure("seeds=[4, 5]").seeds == (4, 5)
    assert configure("seeds=[4, 5]", seeds=[6]).seeds == (6,)
    assert problems("seeds=[]")[0].startswith("seeds: ")
    assert problems("seeds=[one]")[0].startswith("seeds.0: ")


def test_a_seed_named_twice_in_a_preset_is_not_two_seeds() -> None:
    """Two equal rows would pass for two seeds and narrow the intervals."""
    try:
        assert configure("seeds=[0, 0]").seeds == (0,)
    except UsageError as error:
        assert "seeds" in str(error)  # noqa: PT017 - refusing is as good


def test_a_negative_seed_is_refused_wherever_it_is_named() -> None:
    assert problems("seeds=[-1]")[0].startswith("seeds")


def test_a_configuration_is_frozen_and_goes_through_json() -> None:
    config = configure("cringe_single.alpha=2")
    with pytest.raises(ValueError, match="frozen"):
        config.threads = 2
    assert config.model_dump(mode="json")["training"]["updates"] == config.training.updates


# What is wrong


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "decod"}, "no task 'decod'; did you mean 'decode'? known: contradiction, convai2, decode, "),
        ({"methods": ("transfomer",)}, "no method 'transfomer'; did you mean 'transformer'? known: "),
        ({"methods": ("cringe_sngle",)}, "no method 'cringe_sngle'; did you mean 'cringe_single'? known: "),
        (
            {"preset": "tinny"},
            "no preset 'tinny'; did you mean 'tiny'? known: cpu, paper, small, small_pretrained, tiny, or a YAML file",
        ),
        ({"preset": "zzzzzz"}, "no preset 'zzzzzz'; known: cpu, paper, small, small_pretrained, tiny, or a YAML file"),
    ],
)
def test_wrong_names_get_a_suggestion(options: dict[str, object], message: str) -> None:
    (line,) = problems(**options)
    assert line.startswith(message)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.updaets=3", "training.updaets: no such setting; did you mean 'updates'? known: batch_size, "),
        ("warmup.lr=3", "warmup.lr: no such setting; "),
        ("backbone.widht=3", "backbone.widht: no such setting; did you mean 'width'? known: decoder_layers, "),
        ("decoding.beam.beems=3", "decoding.beam.beems: no such setting; did you mean 'beams'? known: "),
        ("judge.mismached=3", "judge.mismached: no such setting; did you mean 'mismatched'? known: C, columns, "),
        ("guide.epoch=3", "guide.epoch: no such setting; did you mean 'epochs'? known: batch_size, "),
        ("second_judge.epoch=3", "second_judge.epoch: no such setting; did you mean 'epochs'? known: batch_size, "),
        ("prefix_guide.epoch=3", "prefix_guide.epoch: no such setting; did you mean 'epochs'? known: batch_size, "),
        (
            "reference={kind: pretrained, name: x, max_source: 9, max_target: 9, revison: y}",
            "reference.revison: no such setting; did you mean 'revision'? known: ",
        ),
        ("cringe_single.alhpa=3", "cringe_single.alhpa: no such setting; did you mean 'alpha'? known: alpha, "),
        ("methods.cringle_single.k=3", "no method 'cringle_single'; did you mean 'cringe_single'? known: "),
        ("trainig.updates=3", "trainig: no such setting; did you mean 'training'? known: backbone, decoding, "),
    ],
)
def test_wrong_keys_get_a_suggestion_from_where_they_stand(override: str, message: str) -> None:
    (line,) = problems(override)
    assert line.startswith(message)


@pytest.mark.parametrize(
    ("override", "key", "found"),
    [
        ("training.updates=many", "training.updates: ", "(found 'many')"),
        ("training.updates=-1", "training.updates: ", "(found -1)"),
        ("training.updates=1.5", "training.updates: ", "(found 1.5)"),
        ("training.updates=true", "training: true and false are no values of updates ", "(found {'updates': True"),
        ("seeds=[true]", "settings: true and false are no values of seeds ", "(found {'seeds': [True]"),
        ("training.learning_rate=0", "training.learning_rate: ", "(found 0)"),
        ("training.schedule=cosine", "training.schedule: Input should be 'linear' or 'constant' ", "(found 'cosine')"),
        ("training=5", "training: ", "(found 5)"),
        ("training.updates.deep=5", "training.updates: ", "(found {'deep': 5})"),
        ("backbone=null", "backbone: ", "(found None)"),
        ("backbone.kind=foo", "backbone: kind should be 'scratch' or 'pretrained', ", "(found {'kind': 'foo'})"),
        ("reference.updates=20", "reference: kind should be 'scratch' or 'pretrained', ", "(found {'updates': 20})"),
        ("backbone.width=81", "backbone: width 81 is not a multiple of heads 4 ", "(found {"),
        ("decoding.nucleus.beams=3", "decoding.nucleus: strategy nucleus does not go with beams 3 ", "(found {"),
        ("decoding.beam.max_new_tokens=5", "decoding.beam: min_new_tokens 20 is above max_new_tokens 5 ", "(found {"),
        ("threads=0", "threads: ", "(found 0)"),
        ("processes=0", "processes: ", "(found 0)"),
        ("prompts=0", "prompts: ", "(found 0)"),
        ("cringe_single.k=0", "cringe_single.k: ", "(found 0)"),
        ("cringe_single.alpha=-1", "cringe_single.alpha: ", "(found -1)"),
        ("cringe_single=3", "cringe_single", "(found 3)"),
        ("methods=5", "methods: holds 5", "hyper-parameters by method"),
        ("training.updates=[", "--set training.updates=[: the value is not YAML", ""),
        ("training.updates", "--set training.updates: not of the form key=value", "training.updates=100"),
        ("=3", "--set =3: not of the form key=value", ""),
        ("a..b=3", "--set a..b=3: not of the form key=value", ""),
    ],
)
def test_wrong_values_are_named_with_what_was_found(override: str, key: str, found: str) -> None:
    (line,) = problems(override)
    assert line.startswith(key)
    assert found in line


@pytest.mark.parametrize(
    "override",
    [
        "training.learning_rate=.inf",
        "training.weight_decay=.inf",
        "training.clip_norm=.nan",
        "decoding.beam.length_penalty=.nan",
        "cringe_single.alpha=.inf",
        "unlikelihood.alpha=.nan",
    ],
)
def test_numbers_must_be_finite(override: str) -> None:
    """They go into a key as JSON, which knows neither infinity nor NaN."""
    assert problems(override)[0].startswith(override.split("=")[0])


@pytest.mark.parametrize(
    "override",
    [
        "task=fits",
        "preset=cpu",
        "settings.cringe_single.alpha=2",
        "changes=[]",
        "lm_data=hf:some/chat",
        "shared_judge=true",
    ],
)
def test_what_has_an_option_of_its_own_is_not_ignored_in_set(override: str) -> None:
    """A setting that has no effect must not be taken in silence."""
    assert override.split("=")[0].split(".")[0] in problems(override)[0]


@pytest.mark.parametrize("name", ["a/b", "../up", "*", ""])
def test_the_name_of_a_decoding_goes_into_file_names(name: str, tmp_path: Path) -> None:
    """The star is taken, too: it stands for replies that were not decoded."""
    preset = write(
        tmp_path / "mine.yaml",
        f'extends: tiny\ndecoding:\n  "{name}": {{strategy: greedy, max_new_tokens: 4}}\n',
    )
    assert any(line.startswith("decoding") for line in problems(preset=preset))


def test_a_run_without_any_decoding_is_refused() -> None:
    assert any(line.startswith("decoding") for line in problems("decoding={}"))


PLAIN = ("transformer",)
"""Without rounds, whose batches need more shares."""


def test_a_batch_must_hold_whole_shares() -> None:
    """DECODE's mixture is 2 : 1 : 1, with or without labels."""
    assert problems("training.batch_size=6", "warmup.batch_size=5", methods=PLAIN) == [
        "training.batch_size: a batch of 6 cannot be cut 2 : 1 : 1; take a multiple of 4",
        "warmup.batch_size: a batch of 5 cannot be cut 2 : 1 : 1; take a multiple of 4",
    ]
    assert configure("training.batch_size=4", "warmup.batch_size=4", methods=PLAIN).training.batch_size == 4


def test_shares_are_of_the_sources_that_were_asked_for() -> None:
    assert configure("sources=[decode]", "training.batch_size=6", "warmup.batch_size=2", methods=PLAIN).sources == (
        "decode",
    )
    assert problems("sources=[decode]", "training.batch_size=5", methods=PLAIN) == [
        "training.batch_size: a batch of 5 cannot be cut 1 : 1; take a multiple of 2"
    ]
    declared = {source.name for source in tasks.load("wikitoxic").sources}
    five = declared - {"convai2", "bst", "diasafety"}
    assert len(five) == 5
    overrides = (f"sources=[convai2, {', '.join(five)}]", "warmup.batch_size=20")
    assert problems(*overrides, "training.batch_size=16", task="wikitoxic", methods=PLAIN) == [
        f"training.batch_size: a batch of 16 cannot be cut 10{' : 1' * 10}; take a multiple of 20"
    ]
    assert configure(*overrides, "training.batch_size=40", task="wikitoxic").training.batch_size == 40


def test_dialogue_from_elsewhere_takes_the_share_of_the_task_s_own() -> None:
    config = configure(lm_data="hf:some/chat")
    assert config.lm_data == "hf:some/chat"
    assert config.changes == ("lm_data=hf:some/chat",)
    assert problems("sources=[decode]", "training.batch_size=6", lm_data="hf:some/chat", methods=PLAIN) == [
        "training.batch_size: a batch of 6 cannot be cut 2 : 1 : 1; take a multiple of 4"
    ]
    for name in ("some/chat", "hf:", "csv:some/chat", "HF:some"):
        (line,) = problems(lm_data=name)
        assert line.startswith("lm_data: ")
        assert name in line


def test_what_dialogue_from_elsewhere_replaces() -> None:
    declared = tasks.load("decode").sources
    assert with_lm_data(declared, None) == tuple(declared)
    replaced = with_lm_data(declared, "hf:some/chat")
    assert replaced == (LM_DATA, *(source for source in declared if source.labelled))
    assert [source.name for source in replaced] == ["lm_data", "decode"]


def test_all_errors_come_at_once() -> None:
    lines = problems(
        "training.updaets=3",
        "threads=0",
        "cringe_single.k=0",
        "unlikelihood.gamma=1",
        "decoding.beam.strategy=best",
        "nonsense",
        task="decod",
        methods=("transformr", "unlikelihod"),
    )
    starts = (
        "no task 'decod'",
        "no method 'transformr'",
        "no method 'unlikelihod'",
        "--set nonsense",
        "cringe_single.k",
        "unlikelihood.gamma",
        "threads",
        "training.updaets",
        "decoding.beam.strategy",
    )
    for start in starts:
        assert sum(line.startswith(start) for line in lines) == 1, start
    assert len(lines) == len(starts)


def test_a_bad_batch_is_told_together_with_what_else_is_wrong() -> None:
    lines = problems("threads=0", "training.batch_size=6")
    assert [line.split(":")[0] for line in lines] == ["threads", "training.batch_size"]


def test_an_error_of_a_preset_does_not_hide_those_of_names() -> None:
    lines = problems(preset="tinny", task="decod", methods=("transfomer",))
    assert [line.split("'")[0] for line in lines] == ["no task ", "no preset ", "no method "]


def test_long_values_are_cut_short_in_messages() -> None:
    (line,) = problems(f"training.updates={'x' * 5000}")
    assert len(line) < 400


# Presets of one's own


def test_a_file_extends_a_preset_by_name(tmp_path: Path) -> None:
    text = "extends: cpu\nseeds: [7]\ntraining: {updates: 3}\nmethods: {cringe_single: {k: 2}}\n"
    config = configure(preset=write(tmp_path / "mine.yaml", text))
    base = configure(preset="cpu")
    assert config.preset == "mine"
    assert config.seeds == (7,)
    assert config.training == base.training.model_copy(update={"updates": 3})
    assert config.settings["cringe_single"] == base.settings["cringe_single"].model_copy(update={"k": 2})
    assert (config.backbone, config.decoding, config.judge) == (base.backbone, base.decoding, base.judge)


def test_set_goes_over_a_file(tmp_path: Path) -> None:
    preset = write(tmp_path / "mine.yml", "extends: tiny\nmethods: {cringe_single: {k: 2, alpha: 3}}\n")
    config = configure("cringe_single.k=4", preset=preset)
    assert (config.settings["cringe_single"].alpha, config.settings["cringe_single"].k) == (3, 4)


def test_a_file_extends_another_by_a_path_relative_to_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "base.yaml", "extends: tiny\nprompts: 11\nthreads: 2\n")
    write(tmp_path / "deep" / "middle.yaml", "extends: ../base.yaml\nthreads: 3\n")
    top = write(tmp_path / "deep" / "top.yaml", "extends: middle.yaml\nseeds: [5]\n")
    monkeypatch.chdir("/")
    config = configure(preset=top)
    assert (config.prompts, config.threads, config.seeds, config.preset) == (11, 3, (5,), "top")


def test_a_file_of_the_name_of_a_preset_does_not_shadow_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "tiny", "seeds: [9]\n")
    monkeypatch.chdir(tmp_path)
    assert configure().seeds == (0,)


def test_a_whole_file_needs_no_base(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.yaml", (FOLDER / "tiny.yaml").read_text(encoding="utf-8"))
    assert configure(preset=whole) == configure().model_copy(update={"preset": "whole"})


def test_what_a_file_leaves_out_is_named(tmp_path: Path) -> None:
    lines = problems(preset=write(tmp_path / "mine.yaml", "seeds: [0]\n"))
    missing = {"threads", "backbone", "warmup", "training", "decoding"}
    assert set(lines) == {f"{name}: not set, and it has no default" for name in missing}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "holds a list, not settings by name"),
        ("just words", "holds a str, not settings by name"),
        ("", "holds a NoneType, not settings by name"),
        ("a: [1, 2\n", "cannot be read (while parsing a flow sequence"),
        ("a: \x01", "cannot be read ("),
        ("extends: tinny\n", "no preset 'tinny'; did you mean 'tiny'?"),
        ("extends: gone.yaml\n", "gone.yaml: cannot be read ("),
        ("extends: [tiny]\n", "no preset '['tiny']'"),
        ("extends: tiny\nmethods: 5\n", "methods: holds 5, not hyper-parameters by method"),
        ("extends: tiny\nmethods: {cringe_single: 5}\n", "cringe_single"),
    ],
)
def test_bad_files_each_have_their_message(text: str, message: str, tmp_path: Path) -> None:
    (line,) = problems(preset=write(tmp_path / "mine.yaml", text))
    assert message in line


def test_an_empty_mapping_says_what_is_not_set(tmp_path: Path) -> None:
    assert any(
        "training" in line or "mine.yaml" in line for line in problems(preset=write(tmp_path / "mine.yaml", "{}"))
    )


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(b"\xff\xfe\x00seeds")
    (line,) = problems(preset=tmp_path / "mine.yaml")
    assert "cannot be read (" in line


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    assert "cannot be read (" in problems(preset=tmp_path / "gone.yaml")[0]
    assert "cannot be read (" in problems(preset=tmp_path / "folder.yaml")[0]
    assert "or a YAML file" in problems(preset=tmp_path)[0]


@pytest.mark.parametrize(
    "files",
    [
        {"a.yaml": "a.yaml"},
        {"a.yaml": "b.yaml", "b.yaml": "a.yaml"},
        {"a.yaml": "deep/b.yaml", "deep/b.yaml": "../a.yaml"},
    ],
)
def test_cycles_end_and_are_named(files: dict[str, str], tmp_path: Path) -> None:
    for name, base in files.items():
        write(tmp_path / name, f"extends: {base}\nseeds: [1]\n")
    lines = problems(preset=tmp_path / "a.yaml")
    assert any("extends itself" in line and "→" in line for line in lines)
    assert all(len(line) < 1000 for line in lines)


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['TARGET']]\n",
        "seeds: !!python/object/apply:os.system ['touch TARGET']\n",
        "seeds: !!python/name:os.system\n",
    ],
)
def test_no_code_in_a_file_is_run(text: str, tmp_path: Path) -> None:
    target = tmp_path / "touched"
    (line,) = problems(preset=write(tmp_path / "mine.yaml", text.replace("TARGET", str(target))))
    assert "cannot be read (could not determine a constructor for the tag" in line
    (line,) = problems(f"seeds=!!python/object/apply:os.system ['touch {target}']")
    assert "the value is not YAML" in line
    assert not target.exists()


def test_every_error_is_one_of_usage() -> None:
    with pytest.raises(UsageError) as caught:
        configure("training.updates=x")
    assert caught.value.exit_code == 2


# Sources


def test_sources_are_the_task_s() -> None:
    assert configure().sources is None
    assert configure("sources=[decode, convai2]").sources == ("decode", "convai2")
    assert problems("sources=[decod]") == [
        "sources: task 'decode' has no source 'decod'; did you mean 'decode'? known: convai2, decode"
    ]
    assert problems("sources=[decode, bad]") == ["sources: task 'decode' has no source 'bad'; known: convai2, decode"]
    assert problems("sources=[]") == ["sources: names none; known: convai2, decode"]
    for wrong in ("sources=decode", "sources=5", "sources={decode: 1}"):
        (line,) = problems(wrong)
        assert line.startswith("sources: ")


def test_wrong_sources_are_told_together_with_what_else_is_wrong() -> None:
    lines = problems("sources=[decod, bad]", "threads=0")
    assert [line.split(":")[0] for line in lines] == ["threads", "sources", "sources"]


# Tasks have settings of their own


def test_a_preset_says_more_of_some_tasks(tmp_path: Path) -> None:
    preset = write(
        tmp_path / "mine.yaml",
        """
extends: tiny
prompts: 7
training: {updates: 30}
tasks:
  contradiction:
    prompts: 8
    training: {batch_size: 8}
    methods: {cringe_single: {k: 2}}
  convai2: {prompts: 9}
""",
    )
    plain, decode, convai2 = configure(), configure(preset=preset), configure(preset=preset, task="convai2")
    assert (decode.prompts, decode.training.updates, decode.training.batch_size) == (8, 30, 8)
    assert decode.training == plain.training.model_copy(update={"updates": 30, "batch_size": 8})
    assert decode.settings["cringe_single"] == plain.settings["cringe_single"].model_copy(update={"k": 2})
    assert (convai2.prompts, convai2.training.updates, convai2.training.batch_size) == (9, 30, 32)
    assert configure(preset=preset, task="wikitoxic").prompts == 7
    assert configure("prompts=10", "training.batch_size=16", preset=preset).prompts == 10
    assert configure("training.batch_size=16", preset=preset).training.updates == 30


def test_a_file_s_section_is_merged_with_that_of_what_it_extends(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", "extends: tiny\ntasks: {decode: {prompts: 3, threads: 2}}\n")
    preset = write(tmp_path / "mine.yaml", "extends: base.yaml\nprompts: 9\ntasks: {decode: {threads: 4}}\n")
    assert (configure(preset=preset).prompts, configure(preset=preset).threads) == (3, 4)
    assert configure(preset=preset, task="wikitoxic").prompts == 9


def test_repetition_is_measured_where_decoding_does_not_forbid_it() -> None:
    for preset in preset_entries():
        config = configure(preset=preset, task="convai2")
        assert {(spec.no_repeat_ngram, spec.no_context_ngram) for spec in config.decoding.values()} == {(0, 0)}
        for name in ("cringe", "cringe_extra"):
            assert config.decoding[config.settings[name].decoding].strategy == "greedy"
        assert configure(preset=preset).decoding["beam"].no_repeat_ngram == 3


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("tasks: 5", "tasks: holds 5, not settings by task"),
        ("tasks: [decode]", "tasks: holds ['decode'], not settings by task"),
        ("tasks: {decod: {prompts: 3}}", "no task 'decod'; did you mean 'decode'?"),
        ("tasks: {decode: 5}", "tasks.decode: holds 5, not settings by name"),
        ("tasks: {decode: {promts: 3}}", "promts: no such setting; did you mean 'prompts'?"),
        ("tasks: {decode: {prompts: none}}", "prompts: "),
        ("tasks: {decode: {task: fits}}", "task: is not set in a preset"),
    ],
)
def test_bad_sections_each_have_their_message(section: str, message: str, tmp_path: Path) -> None:
    (line,) = problems(preset=write(tmp_path / "mine.yaml", f"extends: tiny\n{section}\n"))
    assert line.startswith(message)


@pytest.mark.parametrize("section", ["tasks:", "tasks: {}", "tasks: {decode: null}", "tasks: {wikitoxic: {promts: 3}}"])
def test_empty_sections_and_those_of_other_tasks_change_nothing(section: str, tmp_path: Path) -> None:
    config = configure(preset=write(tmp_path / "mine.yaml", f"extends: tiny\n{section}\n"))
    assert config == configure().model_copy(update={"preset": "mine"})


def test_sections_are_for_presets() -> None:
    assert problems("tasks.decode.prompts=3")[0].startswith("tasks: no such setting")


# Guides and judges


@pytest.mark.parametrize("task", tasks.entries())
def test_guide_and_judges_read_what_the_task_says(task: str) -> None:
    reads = tasks.load(task).reads
    config = configure(task=task)
    assert {config.judge.reads, config.second_judge.reads, config.guide.reads} == {reads}


def test_what_a_classifier_reads_can_be_set() -> None:
    config = configure("judge.reads=response", "second_judge.kind=linear", "guide.reads=last_turn")
    assert (config.judge.reads, config.second_judge.reads, config.guide.reads) == ("response", "own_turns", "last_turn")
    assert configure("second_judge=null").second_judge is None
    assert problems("judge.reads=everything")[0].startswith("judge.reads: ")


def test_a_preset_need_not_name_judge_or_guide(tmp_path: Path) -> None:
    values = yaml.safe_load((FOLDER / "tiny.yaml").read_text(encoding="utf-8"))
    for role in ("judge", "second_judge"):
        del values[role]
    config = configure(preset=write(tmp_path / "mine.yaml", yaml.safe_dump(values)))
    assert config.judge == config.guide == ScratchClassifier(reads="own_turns")
    assert config.second_judge is None


def test_the_judge_of_a_preset_is_of_another_kind_than_the_guide() -> None:
    """The guide is what some methods learn to please."""
    for preset in preset_entries():
        config = configure(preset=preset)
        assert config.judge.kind != config.guide.kind
        assert config.second_judge.kind != config.judge.kind


def test_another_kind_does_away_with_the_settings_of_the_old_one(tmp_path: Path) -> None:
    """And the order of ``--set`` does not matter."""
    plain = configure()
    assert plain.judge == LinearClassifier(kind="linear", mismatched=0.6, reads="own_turns")
    assert configure("judge.kind=linear").judge == plain.judge
    assert configure("judge.kind=scratch").judge == ScratchClassifier(reads="own_turns")
    for overrides in (("judge.kind=scratch", "judge.epochs=9"), ("judge.epochs=9", "judge.kind=scratch")):
        assert configure(*overrides).judge == ScratchClassifier(epochs=9, reads="own_turns")
    pretrained = configure("judge.name=some/model", "judge.kind=pretrained").judge
    assert pretrained == PretrainedClassifier(kind="pretrained", name="some/model", reads="own_turns")
    assert configure("guide.kind=linear", "guide.C=2").guide == LinearClassifier(kind="linear", C=2, reads="own_turns")
    preset = write(tmp_path / "mine.yaml", "extends: tiny\njudge: {kind: scratch, epochs: 7}\nguide: {epochs: 8}\n")
    assert configure(preset=preset).judge == ScratchClassifier(epochs=7, reads="own_turns")
    assert configure(preset=preset).guide == ScratchClassifier(epochs=8, reads="own_turns")
    linear = write(tmp_path / "more.yaml", "extends: mine.yaml\nguide: {kind: linear}\nbackbone: {width: 88}\n")
    assert configure(preset=linear).guide == LinearClassifier(kind="linear", reads="own_turns")
    assert configure(preset=linear).backbone == plain.backbone.model_copy(update={"width": 88})


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("judge.kind=forest", "judge: kind should be 'scratch', 'linear' or 'pretrained'"),
        ("guide.kind=pretrained", "guide.name: not set, and it has no default"),
        ("judge.epochs=3", "judge.epochs: no such setting; "),
        ("guide.C=3", "guide.C: no such setting; "),
        ("judge.C=0", "judge.C: "),
        ("judge=null", "judge: "),
        ("guide=5", "guide: "),
    ],
)
def test_a_classifier_of_no_such_kind_or_setting(override: str, message: str) -> None:
    (line,) = problems(override)
    assert line.startswith(message)


def test_a_shared_judge_is_asked_for_and_said() -> None:
    assert not configure().shared_judge
    config = configure(shared_judge=True)
    assert config.shared_judge
    assert config.changes == ("a shared judge",)
    assert configure("prompts=3", lm_data="hf:x", shared_judge=True).changes == (
        "prompts=3",
        "lm_data=hf:x",
        "a shared judge",
    )


def test_one_pretrained_model_is_not_both_guide_and_judge(tmp_path: Path) -> None:
    """Unless asked: halves of the data and seeds differ, what they start from would not."""
    both = [f"{role}.{setting}" for role in ("guide", "judge") for setting in ("kind=pretrained", "name=some/model")]
    (line,) = problems(*both)
    assert line.startswith("judge.name: 'some/model' is the guide's, too, and a judge that starts from what methods ")
    assert line.endswith("or ask for it with --judge shared")
    assert configure(*both, shared_judge=True).shared_judge
    assert configure(*both[:3], "judge.name=other/model").judge != configure().judge
    (tmp_path / "model").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "model")
    folders = [*both, f"guide.name={tmp_path / 'model'}", f"judge.name={tmp_path / 'link'}"]
    assert len(problems(*folders)) == 1


# Models


PRETRAINED = "{kind: pretrained, name: some/model, max_source: 64, max_target: 32}"


OTHER = PRETRAINED.replace("some/model", "other/model")
SCRATCH = (
    "{kind: scratch, vocabulary: 400, width: 16, encoder_layers: 1, decoder_layers: 1, heads: 2, feedforward: 16, "
    "max_source: 32, max_target: 16}"
)


def test_a_pretrained_backbone_needs_a_reference() -> None:
    """One of its shape from scratch would know less of language than what it is to measure."""
    (line,) = problems(f"backbone={PRETRAINED}")
    assert line == (
        "reference: not set; a pretrained backbone needs another model to measure fluency with: a pretrained one "
        "(reference.kind=pretrained reference.name=…), or the settings of one from scratch"
    )
    config = configure(f"backbone={PRETRAINED}", f"reference={OTHER}")
    assert isinstance(config.reference, PretrainedBackbone)
    assert configure().reference is None
    assert isinstance(configure(preset="paper").reference, PretrainedBackbone)
    assert problems("reference=null", preset="paper")[0].startswith("reference: not set; ")


def test_a_backbone_of_another_kind_in_a_file_drops_the_preset_s(tmp_path: Path) -> None:
    preset = write(tmp_path / "mine.yaml", f"extends: tiny\nbackbone: {PRETRAINED}\nreference: {OTHER}\n")
    assert configure(preset=preset).backbone.name == "some/model"


def test_the_reference_is_no_model_that_methods_start_from(tmp_path: Path) -> None:
    """By hub id, folder or GGUF file, however it is spelt; another revision is the same model at another time."""

    def refused(backbone: str, reference: str) -> bool:
        try:
            configure(f"backbone={backbone}", f"reference={reference}")
        except UsageError as error:
            return str(error).startswith("reference.name: '")
        return False

    (line,) = problems(f"backbone={PRETRAINED}", f"reference={PRETRAINED}")
    assert line == (
        "reference.name: 'some/model' is the backbone's, too, and a model finds fluent what methods that start from "
        "it write; name another, or take one from scratch"
    )
    assert refused(PRETRAINED, PRETRAINED.replace("}", ", revision: abc, turn_separator: ' '}"))
    assert not refused(PRETRAINED, OTHER)
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    for name in ("a.gguf", "b.gguf"):
        (folder / name).touch()
    (folder / "c.gguf").symlink_to(folder / "a.gguf")
    here, there = (PRETRAINED.replace("some/model", str(tmp_path / name)) for name in ("model", "link"))
    assert refused(here, there)
    files = {name: there.replace("}", f", gguf_file: {name}.gguf}}") for name in "abc"}
    assert refused(here, files["a"]), "a folder's weights in another format"
    assert refused(files["a"], files["a"])
    assert refused(files["a"], files["c"])
    assert not refused(files["a"], files["b"])
    hub = [PRETRAINED.replace("}", f", gguf_file: {name}.gguf}}") for name in "aab"]
    assert refused(hub[0], hub[1])
    assert not refused(hub[0], hub[2])


def test_a_reference_from_scratch_has_a_training() -> None:
    """The warm-up's where nothing else is said, and never none at all."""
    config = configure("warmup.updates=9", "warmup.batch_size=16")
    assert config.reference_training is None
    assert config.training_of_reference == config.warmup
    config = configure("reference_training.updates=7", "warmup.updates=0", "warmup.batch_size=16")
    assert config.training_of_reference == config.warmup.model_copy(update={"updates": 7})
    config = configure(f"reference={PRETRAINED}", "reference_training.updates=7", "warmup.updates=0")
    assert config.training_of_reference == config.warmup

    said = (
        "updates: 0 leaves the reference model, which is from scratch, untrained, and it measures no fluency; set "
        "reference_training.updates, or name a pretrained one with reference.kind and reference.name"
    )
    assert problems("warmup.updates=0") == [f"warmup.{said}"]
    assert problems("warmup.updates=0", f"backbone={PRETRAINED}", f"reference={SCRATCH}") == [f"warmup.{said}"]
    assert problems("reference_training.updates=0") == [f"reference_training.{said}"]
    assert configure("warmup.updates=0", f"reference={PRETRAINED}").warmup.updates == 0
    (line,) = problems("reference_training.update=7")
    assert line.startswith("reference_training.update: no such setting; did you mean 'updates'?")


@pytest.mark.parametrize("task", ["decode", "fits"])
def test_batches_of_the_reference_are_cut_whole(task: str) -> None:
    """Also where they are of another size than the warm-up's."""
    lines = problems("reference_training.batch_size=31", task=task)
    assert lines
    assert all(line.startswith("reference_training.batch_size: a batch of 31 cannot be cut ") for line in lines)
    lines = problems("warmup.batch_size=31", "reference_training.batch_size=32", task=task)
    assert {line.split(":")[0] for line in lines} == {"warmup.batch_size"}


# Methods that need a guide


@pytest.mark.parametrize("name", ["reranker", "fudge", "pacer"])
def test_a_method_that_needs_a_guide_needs_labels(name: str) -> None:
    assert problems(task="convai2", methods=("transformer", name)) == [
        f"{name}: needs a guide, and task 'convai2' has no labelled responses to train one on"
    ]
    assert configure(methods=(name,)).methods == (name,)
    assert configure("sources=[convai2]", methods=(name,)).methods == (name,)


def test_every_method_that_needs_no_guide_goes_with_a_task_without_labels() -> None:
    names = [name for name in methods.entries() if not methods.load(name).needs]
    assert {"cringe", "cringe_extra", "transformer"} <= set(names)
    assert configure(task="convai2", methods=tuple(names)).methods == tuple(names)


def test_all_errors_about_models_and_methods_come_at_once() -> None:
    lines = problems(
        f"backbone={PRETRAINED}", "training.updates=1", task="convai2", methods=("fudge", "reranker", "cringe")
    )
    assert [line.split(":")[0] for line in lines] == ["reference", "fudge", "reranker", "cringe.iterations"]


def test_batches_with_own_replies_hold_whole_shares_too() -> None:
    """After a round half of what is labelled is the model's own: 4 : 1 : 1 : 1 : 1."""
    (line,) = problems("training.batch_size=4", methods=("transformer", "cringe"))
    assert line.endswith("take a multiple of 8")
    assert configure("training.batch_size=4", methods=("transformer",)).training.batch_size == 4
    assert configure("training.batch_size=4", "cringe.iterations=1", methods=("cringe",)).methods == ("cringe",)
