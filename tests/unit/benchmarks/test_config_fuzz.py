"""Random settings: one configuration, or one `UserError` that names all that is wrong; never another exception."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.config import RunConfig, resolve
from benchmarks.errors import UserError
from benchmarks.presets import FOLDER
from benchmarks.yaml_text import MOST_VALUES, read_yaml

FEWER = settings(max_examples=max(1, settings.default.max_examples // 2))
PRESETS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yaml"))}
ODD = [
    "2024-99-99",  # a date that is none
    "2024-01-01",
    "!!int x",
    "!!float x",
    "!!timestamp x",
    "!!binary x",
    "!!python/object/apply:os.system [id]",
    "!!python/name:os.system",
    "9" * 5000,
    "[" * 400 + "]" * 400,
    "{a: " * 400,
    "*a",
    "&a [*a]",
    "&a {b: *a}",
    "<<: 1",
    "{<<: [1]}",
    "{<<: {kind: linear}, <<: {kind: scratch}}",
    "1e400",
    "1.0e+400",
    ".inf",
    "-.inf",
    ".nan",
    "0o9",
    "010",
    "0x",
    "0b_",
    "190:20:30",
    "yes",
    "{1: 2, 1: 3}",
    "{alpha: 1, alpha: 2}",
    "!!set {a, b}",
    "? [a]\n: b",
    "{[a]: b}",
    "=",
    "~",
    "[[a]]",
    "[{a: 1}]",
    "\0",
    "\ufeff1",
    "é",
    "",
]
BOMB = "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9) if before else '1'}]\n"
    for before, name in zip(" abcdefghi".replace(" ", "-"), "abcdefghij", strict=True)
).replace("*-, " * 8 + "*-", "1")
"""Ten lines that mean 9⁹ values."""
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["scratch", "linear", "pretrained", "beam", "all", "decode", "cringe", "nucleus", 10**400, -1])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6) | st.integers(), inner, max_size=4),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("presets")


def outcome(**asked: Any) -> RunConfig | str:
    """A configuration, which can be stored and read again, or the message of a `UserError`, which is not endless."""
    try:
        config = resolve(**{"task": "decode", "method_names": ["cringe"], **asked})
    except UserError as error:
        message = str(error)
        assert message.strip()
        assert all(character.isprintable() or character == "\n" for character in message)
        return message
    json.dumps(config.model_dump(mode="json"), allow_nan=False)
    assert config.training.batch_size >= 1
    assert config.decoding
    return config


def places(tree: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all values of a preset."""
    found = [path] if path else []
    if isinstance(tree, dict):
        for key, value in tree.items():
            found += places(value, (*path, key))
    return found


@st.composite
def presets(draw: st.DrawFn) -> dict[str, Any]:
    """A preset of ours with up to three values replaced, taken out, added or misspelt."""
    tree: dict[str, Any] = json.loads(json.dumps(PRESETS[draw(st.sampled_from(sorted(PRESETS)))]))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(places(tree)))
        above: Any = tree
        for part in path[:-1]:
            above = above[part]
        how = draw(st.sampled_from(["replace", "take out", "add", "misspell"]))
        if how == "replace":
            above[path[-1]] = draw(values)
        elif how == "add":
            above[draw(st.text(max_size=6) | st.sampled_from([*tree, "sweeps", "methods", "sources", "extends"]))] = (
                draw(values)
            )
        else:
            value = above.pop(path[-1])
            if how == "misspell":
                above[f"{path[-1]}{draw(st.sampled_from(['s', '_', 'x']))}"] = value
        if not tree:
            break
    return tree


@example(tree={"sources": [["a"]], **PRESETS["tiny"]}, task="decode")
@example(tree={**PRESETS["tiny"], "sources": [{"a": 1}]}, task="decode")
@example(tree={**PRESETS["tiny"], "\x1b[31m": None}, task="decode")
@given(tree=presets(), task=st.sampled_from(["decode", "convai2", "fits", "wikitoxic", "jsonl"]))
def test_presets_that_were_changed(folder: Path, tree: dict[str, Any], task: str) -> None:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
    outcome(preset=str(path), task=task)


@FEWER
@example(content=BOMB.encode())
@example(content=b"extends: mine.yaml")
@example(content=b"extends: {a: 1}")
@example(content=b"extends: " + b"x" * 5000)
@example(content=b"tasks: {decode: {decode: 1}, contradiction: {a: 1}}")
@example(content=b"\xff\xfe")
@given(
    content=st.binary(max_size=60)
    | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.lists(st.sampled_from([*"{}[],:&*!?|>-'\"#%@` \n\t", "a", "1", "<<", "---", "..."]), max_size=30).map(
        lambda parts: "".join(parts).encode()
    )
    | values.map(lambda value: yaml.safe_dump(value).encode())
)
def test_files_of_anything(folder: Path, content: bytes) -> None:
    path = folder / "mine.yaml"
    path.write_bytes(content)
    outcome(preset=str(path))


KEYS = [
    "training.updates",
    "training.batch_size",
    "training",
    "seeds",
    "prompts",
    "cringe.alpha",
    "cringe.k",
    "cringe.decoding",
    "cringe",
    "contradiction.x",
    "methods",
    "methods.cringe.alpha",
    "tasks",
    "tasks.decode",
    "sources",
    "decoding",
    "decoding.beam",
    "decoding.beam.max_new_tokens",
    "judge",
    "judge.kind",
    "guide.reads",
    "backbone",
    "backbone.kind",
    "backbone.vocabulary",
    "reference",
    "reference_training",
    "sweeps",
    "sweeps.cringe",
    "sweeps.cringe.alpha",
    "extends",
    "lm_data",
    "a..b",
    ".",
    "",
]
overrides = st.builds(
    "{}{}{}".format,
    st.sampled_from(KEYS) | st.text(max_size=8),
    st.sampled_from(["=", "=", "=", "", "=="]),
    st.sampled_from(ODD)
    | st.text(max_size=8)
    | values.map(lambda value: yaml.safe_dump(value, default_flow_style=True)),
)


@given(asked=st.lists(overrides, max_size=4), sweeps=st.lists(overrides, max_size=2))
def test_settings_of_the_command_line(asked: list[str], sweeps: list[str]) -> None:
    outcome(overrides=asked, sweeps=sweeps)


@pytest.mark.parametrize("key", ["training.updates", "cringe.alpha", "sources", "sweeps.cringe.alpha", "judge"])
@pytest.mark.parametrize("value", ODD, ids=lambda value: repr(value[:24]))
def test_every_odd_value(key: str, value: str) -> None:
    """Each of these once ended, or might, in an error of the reader or of those who took what it had read."""
    outcome(overrides=[f"{key}={value}"], sweeps=[f"cringe.alpha={value}"])


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan", "1.0e+400", "2024-01-01", "yes", "[]", "{}"])
def test_no_hyper_parameter_is_out_of_this_world(value: str) -> None:
    message = outcome(overrides=[f"training.learning_rate={value}", f"cringe.alpha={value}"])
    if value != "yes":  # YAML's word for true, which counts as 1
        assert isinstance(message, str)
        assert "training.learning_rate: " in message
        assert "cringe.alpha: " in message


WRONG = {
    "training.batch_size=0": "training.batch_size: ",
    "warmup.learning_rate=-1": "warmup.learning_rate: ",
    "decoding.beam.beam=3": "decoding.beam.beam: no such setting",
    "cringe.alpha=x": "cringe.alpha: ",
    "pacer.k=2": "pacer.k: no such setting",
    "judge.kinds=linear": "judge.kinds: no such setting",
    "seeds=[-1]": "seeds.0: ",
    "sources=[nowhere]": "no source 'nowhere'",
    "prompts=2024-13-01": "--set prompts=2024-13-01: the value is not YAML",
    "sweep": "--set sweep: not of the form",
    "sweeps={nothing: {alpha: [1]}}": "sweeps: no method 'nothing'",
}


@FEWER
@given(wrong=st.sets(st.sampled_from(sorted(WRONG)), min_size=1), method=st.sampled_from(["cringe", "nobody"]))
def test_all_that_is_wrong_is_said_at_once(wrong: set[str], method: str) -> None:
    message = outcome(overrides=sorted(wrong), method_names=[method])
    assert isinstance(message, str)
    for word in wrong:
        assert WRONG[word] in message, word
    assert ("no method 'nobody'" in message) == (method == "nobody")


def test_a_task_has_one_section(folder: Path) -> None:
    path = folder / "twice.yaml"
    path.write_text("extends: tiny\ntasks: {decode: {prompts: 3}, contradiction: {prompts: 4}}")
    assert "tasks.contradiction: task 'decode' has a section already" in str(outcome(preset=str(path)))


def test_a_sweep_over_what_is_wrong_already() -> None:
    """It was a KeyError: the trials start from settings that there are none of."""
    message = outcome(overrides=["cringe.alpha=x"], sweeps=["cringe.alpha=1,2"])
    assert isinstance(message, str)
    assert message.startswith("cringe.alpha: ")


# The reader by itself ------------------------------------------------------------------------------------------------


@given(value=values)
def test_what_was_written_is_read(value: object) -> None:
    """Plain values come back; NaN is the one that is not itself."""
    text = yaml.safe_dump(value)
    assert yaml.safe_dump(read_yaml(text)) == text


@given(text=st.text(max_size=40) | st.sampled_from(ODD))
def test_it_reads_or_says_why_not(text: str) -> None:
    reason = "read"
    try:
        read_yaml(text)
    except ValueError as error:
        reason = str(error)
    assert 0 < len(reason) <= 160
    assert "\n" not in reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: 1\nb: 2\na: 3", "the key 'a' is there twice, line 3"),
        ("x: {1: a, 0x1: b}", "the key 1 is there twice, line 1"),
        ("&a [*a]", "holds itself"),
        (BOMB, f"more than {MOST_VALUES:,} values"),
        ("[" * 500 + "]" * 500, "nested too deeply"),
        ("2024-13-01", "month must be in 1..12"),
        ("!!python/object/apply:os.system [id]", "could not determine a constructor"),
    ],
    ids=["key", "number", "itself", "bomb", "depth", "date", "object"],
)
def test_what_it_refuses(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason.replace(".", r"\.")):
        read_yaml(text)


def test_an_alias_may_repeat_what_is_small() -> None:
    assert read_yaml("a: &x {b: 1}\nc: {<<: *x, d: 2}\ne: [*x, *x]") == {
        "a": {"b": 1},
        "c": {"b": 1, "d": 2},
        "e": [{"b": 1}, {"b": 1}],
    }
