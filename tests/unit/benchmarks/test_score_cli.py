"""Judging what was given: files of replies and all that is wrong with them, models, and the plan that they become."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import score
from benchmarks.assemble import inputs
from benchmarks.config import RunConfig, resolve
from benchmarks.errors import DataError, UserError
from benchmarks.keys import folder_digest
from benchmarks.plan import Plan, make_plan
from benchmarks.pretrained import pretrained_model
from benchmarks.scoring import (
    GivenModel,
    GivenPlanner,
    GivenReplies,
    given_manifest,
    given_replies,
    own_columns,
    trained_model,
)
from benchmarks.stages.given import OWN_GOLD, OWN_PROMPTS, UNKNOWN, Given, read_given
from benchmarks.tasks import registry as tasks
from benchmarks.tasks import synthetic
from benchmarks.tasks.base import Column
from benchmarks.tasks.decode import TASK
from cringe.data import Example

DATA = {"decode/decode_v0.1/train.jsonl": "cd" * 32}


def prompt(uid: str, *context: str) -> Example:
    return Example(uid=uid, context=context, response="gold", group=uid, own=(False,) * len(context))


KNOWN = {
    "decode": [prompt("d1", "hi", "hello"), prompt("d2", "you ?"), prompt("d3", "why ?")],
    "convai2": [prompt("c1", "yes ?"), prompt("both", "so ?")],
    "valid": [prompt("v1", "what ?")],
    "more": [prompt("both", "so ?")],
}
ASKED = {"decode": KNOWN["decode"][:2], "convai2": KNOWN["convai2"], "more": KNOWN["more"]}
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(*records: Mapping[str, Any] | str) -> Path:
        path = tmp_path / "replies.jsonl"
        lines = (record if isinstance(record, str) else json.dumps(record) for record in records)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path

    return write


def read(path: Path, **options: str) -> Given:
    return read_given(path, KNOWN, ASKED, **options)


# Files of replies


def test_replies_to_prompts_of_the_task(write: Write) -> None:
    given = read(write({"uid": "d1", "reply": " fine ,\n thanks "}, {"uid": "c1", "reply": "no"}))
    assert given.replies == {
        UNKNOWN: [
            {"prompts": "decode", "uid": "d1", "reply": "fine , thanks"},
            {"prompts": "convai2", "uid": "c1", "reply": "no"},
        ]
    }
    assert (given.count(UNKNOWN, "decode"), given.count(UNKNOWN, "more"), given.own) == (1, 0, {})


def test_a_uid_of_several_sets_counts_in_each_unless_one_is_named(write: Write) -> None:
    everywhere = read(write({"uid": "both", "reply": "no"})).replies[UNKNOWN]
    assert [record["prompts"] for record in everywhere] == ["convai2", "more"]
    one = read(write({"uid": "both", "reply": "no", "prompts": "more"})).replies[UNKNOWN]
    assert [record["prompts"] for record in one] == ["more"]


def test_predictions_of_a_run_are_read_as_they_are(write: Write) -> None:
    line = {"row": "", "prompts": "decode", "tokens": 3, "context": ["hi", "hello"], "gold": "gold", "uid": "d1"}
    path = write(
        {**line, "decoding": "beam", "reply": "a"},
        {**line, "decoding": "nucleus", "reply": "b"},
        {**line, "decoding": "*", "reply": "c"},
    )
    given = read(path)
    assert {name: records[0]["reply"] for name, records in given.replies.items()} == {
        "beam": "a",
        "nucleus": "b",
        UNKNOWN: "c",
    }
    assert read(path, decoding="nucleus").replies.keys() == {"nucleus"}


def test_replies_to_what_is_not_asked_are_counted(write: Write) -> None:
    given = read(write({"uid": "d1", "reply": "a"}, {"uid": "d3", "reply": "b"}, {"uid": "v1", "reply": "c"}))
    assert (given.count(UNKNOWN, "decode"), given.not_asked) == (1, 2)


def test_prompts_of_ones_own(write: Write) -> None:
    given = read(
        write(
            {"context": ["hi", "hello"], "reply": "a", "gold": "b"},
            {"context": "what ?", "reply": "c", "gold": None},
            {
                "uid": "q",
                "context": [{"role": "assistant", "content": "x"}, {"role": "user", "content": "y"}],
                "reply": "d",
            },
        )
    )
    first, second, third = given.own.values()
    assert (first.context, first.own, first.response) == (("hi", "hello"), (True, False), "b")
    assert (second.context, second.own, second.response) == (("what ?",), (False,), "")
    assert (third.uid, third.own) == ("q", (True, False))
    assert (given.count(UNKNOWN, OWN_PROMPTS), given.count(UNKNOWN, OWN_GOLD)) == (3, 1)


GOOD = {"uid": "d1", "reply": "yes"}


@pytest.mark.parametrize(
    ("records", "line", "problem"),
    [
        ([GOOD, {"uid": "nobody", "reply": "a"}], 2, "no prompt of the task has this uid (found 'nobody')"),
        ([GOOD, GOOD], 2, "a second reply to the same prompt, the first being on line 1 (found 'd1')"),
        ([GOOD, {"uid": "d2", "reply": " \n"}], 2, "the field 'reply' is empty"),
        ([GOOD, {"uid": "d2"}], 2, "the field 'reply' is missing; the record holds 'uid'"),
        ([{"reply": "a"}], 1, "needs the field 'uid' or 'context'; the record holds 'reply'"),
        ([{"uid": "d1", "reply": 3}], 1, "the field 'reply' must be a string (found 3)"),
        ([{"uid": 7, "reply": "a"}], 1, "the field 'uid' must be a string (found 7)"),
        ([{**GOOD, "prompts": "convai2"}], 1, "the prompt 'd1' is in decode, not in this set (found 'convai2')"),
        (
            [{**GOOD, "context": ["other"]}],
            1,
            "the context is not that of the task's prompt with this uid (found 'd1')",
        ),
        ([{**GOOD, "decoding": "a/b"}], 1, "the field 'decoding' must be a name of up to 64 letters"),
        ([{**GOOD, "decoding": "a" * 65}], 1, "the field 'decoding' must be a name of up to 64 letters"),
        (
            [GOOD, {"context": ["x"], "reply": "a"}],
            2,
            "another kind of prompt than on line 1 (the task's) (found 'own')",
        ),
        (
            [{**GOOD, "row": "a"}, {"uid": "d2", "reply": "b", "row": "b"}],
            2,
            "another row than on line 1 (a) (found 'b')",
        ),
        ([{"context": [], "reply": "a"}], 1, "the field 'context' is empty"),
        ([{"context": ["x"], "reply": "a"}] * 2, 2, "a second reply to the same prompt"),
        (
            [{"uid": "q", "context": [text], "reply": "a", "decoding": text} for text in "xy"],
            2,
            "another context or gold reply than before under the same uid (found 'q')",
        ),
        (["no json"], 1, "not valid JSON"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(write: Write, records: list[Any], line: int, problem: str) -> None:
    path = write(*records)
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert problem in str(caught.value)
    assert "next step: " in str(caught.value)


def test_files_without_a_reply_that_counts(write: Write, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of its 1 records replies to a prompt that the table is measured on"):
        read(write({"uid": "v1", "reply": "a"}))
    with pytest.raises(DataError, match="no reply is of decoding 'beam'"):
        read(write(GOOD), decoding="beam")
    with pytest.raises(DataError, match="the file is missing"):
        read(tmp_path / "none.jsonl")


# Rows


def configured(**options: Any) -> RunConfig:
    return resolve(**{"task": "decode", "method_names": (), "seeds": (0,)} | options)


def row_of(path: Path, only: str | None = None) -> GivenReplies:
    return given_replies(read(path), path, name="mine", config=configured(), asked=ASKED, only=only)


def test_prompts_without_a_reply_are_said(write: Write) -> None:
    notes = row_of(write(GOOD, {"uid": "both", "reply": "a"}, {"uid": "v1", "reply": "b"})).notes
    assert notes[1:] == (
        "mine, given: 1 of 2 prompts of decode have a reply, and are scored.",
        "mine, given: 1 of 2 prompts of convai2 have a reply, and are scored.",
        "mine: not scored are replies to prompts that the table does not ask (1).",
    )
    assert len(row_of(write(*({"uid": uid, "reply": uid} for uid in ("d1", "d2", "c1", "both")))).notes) == 1


def test_a_decoding_is_the_files_or_a_claim(write: Write) -> None:
    named = row_of(write({**GOOD, "decoding": "beam"}, {**GOOD, "decoding": "wide"}))
    assert named.decodings == {"beam": "beam", "wide": "wide"}
    assert row_of(named.path, "wide").decodings == {"wide": "wide"}
    with pytest.raises(UserError, match="no replies of this decoding; did you mean 'wide'"):
        row_of(named.path, "wid")
    silent = write(GOOD)
    assert row_of(silent).decodings == {UNKNOWN: UNKNOWN}
    claimed = row_of(silent, "beam")
    assert claimed.decodings == {"beam": UNKNOWN}
    assert claimed.descriptions["beam"].startswith("replies as given, said to be decoded so: beam 10, ")
    with pytest.raises(UserError, match="known: beam, nucleus"):
        row_of(silent, "wide")


def test_columns_of_ones_own_prompts() -> None:
    assert [(column.metric, column.prompts) for column in own_columns(TASK, with_gold=True)] == [
        ("f1", OWN_GOLD),
        ("coherent", OWN_PROMPTS),
    ]
    assert [column.metric for column in own_columns(TASK, with_gold=False)] == ["coherent"]
    without_judge = own_columns(tasks.load("convai2"), with_gold=False)
    assert not {"f1", "perplexity"} & {column.metric for column in without_judge}


# Plans


def plan_of(given: GivenReplies | GivenModel, config: RunConfig | None = None) -> Plan:
    sources = tuple(source for source in TASK.sources if source.name in TASK.usual_sources(None))
    return GivenPlanner(config or configured(), sources, DATA, "cpu", given).plan(generated=False)


def run_plan() -> Plan:
    sources = tuple(source for source in TASK.sources if source.name in TASK.usual_sources(None))
    return make_plan(configured(method_names=("cringe_single",)), sources=sources, fingerprint=DATA, device="cpu")


def by_kind(plan: Plan) -> dict[str, str]:
    return {stage.kind: stage.key for stage in plan.stages}


def test_judges_are_those_of_a_run_and_nothing_else_is_trained(write: Write) -> None:
    ours, theirs = by_kind(plan_of(row_of(write(GOOD)))), by_kind(run_plan())
    assert set(ours) == {"given", "judge", "guide", "reference", "references", "score"}
    for kind in ("judge", "guide", "reference", "references"):
        assert ours[kind] == theirs[kind]


def test_the_row_stands_between_floor_and_ceiling(write: Write) -> None:
    given = row_of(write({**GOOD, "decoding": "beam"}))
    plan = plan_of(given)
    assert [(row.name, row.kind) for row in plan.rows] == [
        ("constant", "floor"),
        ("random", "floor"),
        ("mine", "method"),
        ("gold", "ceiling"),
    ]
    made_from = given_manifest(plan, given)
    assert made_from["decodings"] == {"beam": "replies as given; their file calls the decoding beam"}
    assert made_from["footnotes"] == list(given.notes)


def test_the_key_holds_what_the_file_holds(write: Write) -> None:
    before = plan_of(row_of(write(GOOD)))
    assert by_kind(before) == by_kind(plan_of(row_of(write(GOOD))))
    after = plan_of(row_of(write({**GOOD, "reply": "no"})))
    changed = {kind for kind, key in by_kind(after).items() if by_kind(before)[kind] != key}
    assert changed == {"given", "score"}
    assert before.key != after.key


def test_own_prompts_are_scored_apart(write: Write, tmp_path: Path) -> None:
    given = row_of(write({"context": ["x"], "reply": "a"}))
    plan = plan_of(given)
    assert [(row.name, row.scores.kind) for row in plan.rows] == [("mine", "given_score"), ("gold", "score")]
    assert plan.rows[0].scores.settings["judged"] == {"coherent": [OWN_PROMPTS]}
    assert [(column.metric, column.prompts) for column in plan.columns] == [("coherent", OWN_PROMPTS)]
    assert inputs(given_manifest(plan, given), tmp_path).meta.columns == plan.columns
    assert {stage.kind for stage in plan.stages} >= {"given_score", "judge", "guide", "reference"}
    gold = plan_of(row_of(write({"context": ["x"], "reply": "a", "gold": "b"})))
    assert Column(metric="f1", prompts=OWN_GOLD, title="F1") in gold.columns


# Models


def test_a_model_replies_under_every_decoding_and_starts_from_nothing() -> None:
    given = GivenModel(name="m", seed=3, settings={"folder": "x", "contents": "y"}, method=None, notes=())
    plan = plan_of(given, configured(seeds=(3,)))
    kinds = [stage.kind for stage in plan.stages]
    assert kinds.count("generate") == 2
    assert not {"warmup", "train"} & set(kinds)
    (row,) = (row for row in plan.rows if row.kind == "method")
    assert row.scores.parents["tested"] is row.scores.parents["model"]
    seeds = {stage.label: stage.settings.get("seed") for stage in plan.stages if stage.kind == "generate"}
    assert seeds == {"decode-m-beam": None, "decode-m-s3-nucleus": 3}


def stored(folder: Path, **spec: Any) -> Path:
    folder.mkdir()
    (folder / "backbone.json").write_text("{}", encoding="utf-8")
    if spec:
        (folder / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
    return folder


def test_a_model_of_a_run_brings_its_method_along(tmp_path: Path) -> None:
    settings = {"method": "director", "hyperparameters": {"gamma": 0.5}, "seed": 4}
    folder = stored(tmp_path / "a", kind="train", settings=settings)
    found = trained_model(folder, name=None, config=configured(overrides=["director.decoding_gamma=2"]))
    assert (found.name, found.seed, found.settings["folder"]) == ("director", 4, str(folder))
    assert found.method is not None
    assert found.method.model_dump()["decoding_gamma"] == 2, "what changes decoding alone is the configuration's to say"
    other = trained_model(folder, name="x", config=configured(overrides=["director.gamma=0.1"]))
    assert other.name == "x"
    assert other.method is not None
    assert other.method.model_dump()["gamma"] == 0.5, "what was trained stays what it was"
    export = stored(tmp_path / "b")
    (export / "export.json").write_text(json.dumps({"run": {"kind": "train", "settings": settings}}), encoding="utf-8")
    assert trained_model(export, name=None, config=configured()).method == replace_gamma(found, 0.5)
    warmup = trained_model(stored(tmp_path / "c", kind="warmup", settings={"seed": 0}), name=None, config=configured())
    assert (warmup.name, warmup.method) == ("backbone", None)


def replace_gamma(model: GivenModel, value: float) -> object:
    assert model.method is not None
    return replace(model, method=model.method.model_copy(update={"decoding_gamma": value})).method


def test_models_of_runs_that_cannot_be_judged(tmp_path: Path) -> None:
    headed = stored(tmp_path / "a")
    (headed / "head.safetensors").touch()
    with pytest.raises(UserError, match="holds a model with a head, and does not say of which method"):
        trained_model(headed, name=None, config=configured())
    settings = {"method": "gone", "hyperparameters": {}, "seed": 0}
    with pytest.raises(UserError, match="the method 'gone' is not known with these settings"):
        trained_model(stored(tmp_path / "b", kind="train", settings=settings), name=None, config=configured())
    damaged = stored(tmp_path / "c")
    (damaged / "DONE").write_text(json.dumps({"backbone.json": "00"}), encoding="utf-8")
    with pytest.raises(UserError, match=r"is damaged \(backbone.json missing"):
        trained_model(damaged, name=None, config=configured())


def pretrained(folder: Path, **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "model.safetensors").touch()
    return folder


def spec_of(folder: Path, *words: str, **options: Any) -> dict[str, Any]:
    found = pretrained_model(str(folder), words, name=None, config=configured(**options))
    return dict(found.settings["backbone"])


def test_a_pretrained_model_says_itself_how_it_is_read(tmp_path: Path) -> None:
    blenderbot = pretrained(
        tmp_path / "b", model_type="blenderbot", is_encoder_decoder=True, max_position_embeddings=128
    )
    spec = spec_of(blenderbot)
    assert (spec["family"], spec["turn_separator"], spec["max_source"], spec["max_target"]) == (
        "seq2seq",
        "  ",
        128,
        128,
    )
    assert spec_of(blenderbot, "turn_separator=' | '", "max_source=64")["turn_separator"] == " | "
    gpt2 = pretrained(tmp_path / "g", model_type="gpt2", n_positions=256)
    spec = spec_of(gpt2)
    assert (spec["family"], spec["turn_separator"]) == ("causal", "\n")
    assert spec["max_source"] + spec["max_target"] <= 256
    contents = plan_of(pretrained_model(str(gpt2), [], name=None, config=configured()))
    pretrained(tmp_path / "g", model_type="gpt2", n_positions=256, n_head=1)
    folder_digest.cache_clear()
    assert plan_of(pretrained_model(str(gpt2), [], name=None, config=configured())).key != contents.key


def test_a_model_is_not_measured_by_itself(tmp_path: Path) -> None:
    one, other = (pretrained(tmp_path / name, model_type="gpt2", n_positions=256) for name in "ab")
    reference = f"reference={{kind: pretrained, family: causal, name: {one}, max_source: 64, max_target: 64}}"
    config = configured(overrides=[reference])
    with pytest.raises(UserError, match="is the reference model, too") as caught:
        pretrained_model(str(one), [], name=None, config=config)
    assert "reference.name" in str(caught.value)
    assert pretrained_model(str(other), [], name=None, config=config).name == "b"


@pytest.mark.parametrize(
    ("what", "words", "problem"),
    [
        ("none/of/these", [], "no such file or folder, and no hub id"),
        ("empty", [], "there is no config.json"),
        ("pickled", [], "holds no weights in safetensors"),
        ("weights.gguf", [], "the file is missing"),
        ("strange", [], "cannot be read as a model of transformers"),
        ("small", [], "has 16 positions, and a decoding asks for 28 new tokens"),
        ("fine", ["max_source=2"], "max_source: Input should be greater than or equal to 8"),
        ("fine", ["max_sauce=9"], "did you mean 'max_source'"),
        ("fine", ["name=x"], "not of the form KEY=VALUE"),
        ("fine", ["max_source"], "not of the form KEY=VALUE"),
    ],
)
def test_models_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, words: list[str], problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    (pretrained(Path("pickled"), model_type="gpt2") / "model.safetensors").rename("pickled/pytorch_model.bin")
    pretrained(Path("strange"), model_type="no such thing")
    pretrained(Path("small"), model_type="gpt2", n_positions=16)
    pretrained(Path("fine"), model_type="gpt2")
    with pytest.raises(UserError) as caught:
        pretrained_model(what, words, name=None, config=configured())
    assert problem in str(caught.value)


# The command line


def test_judges_that_do_not_fit_are_told_before_others_are_trained(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_of(row_of(write({"uid": "d1", "reply": "y"})))
    needed = [stage for stage in plan.stages if stage.kind in score.JUDGES]
    assert {stage.kind for stage in needed} == {"judge", "guide", "reference"}
    score._announce_training(plan, tmp_path)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"note: trained first, for {tmp_path} has none that fits: ")
    assert all(stage.folder in line for stage in needed)
    assert "other code" not in line
    (tmp_path / "decode-judge-0123456789ab").mkdir()
    (tmp_path / "decode-guide-report").write_text("no directory of a stage", encoding="utf-8")
    score._announce_training(plan, tmp_path)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("; decode-judge-0123456789ab there came of other code, packages, settings or data")
    for stage in needed:
        (tmp_path / stage.folder).mkdir()
    score._announce_training(plan, tmp_path)
    assert capsys.readouterr().err == ""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    synthetic.write_convai2(folder, seed=0, train_dialogues=8, valid_dialogues=4)
    synthetic.write_decode(folder, seed=0, train=24, dev=8, test=8)
    return folder


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        (["r.jsonl", "--name", "gold"], 2, "'gold' is the name of another row"),
        (["r.jsonl", "--name", "a b"], 2, "--name: takes up to 64 letters"),
        (["r.jsonl", "--name", "a" * 65], 2, "--name: takes up to 64 letters"),
        (["gold.jsonl"], 2, "give this one a name with --name"),
        (["r.jsonl", "--model", "max_source=9"], 2, "--model: says how a model is read"),
        (["r.jsonl", "--task", "nothing"], 2, "no task 'nothing'"),
        (["r.jsonl", "--task", "decode:DIR"], 2, "only jsonl takes a folder"),
        (["r.jsonl", "--set", "nonsense=1"], 2, "nonsense: no such setting"),
        (["r.jsonl", "--data", "nowhere"], 3, "the data folder that --data names does not exist"),
        (["none.jsonl"], 3, "none.jsonl: the file is missing"),
        (["empty.jsonl"], 3, "empty.jsonl: the file is empty\n  next step: write a record a line into it"),
        (["r.jsonl"], 3, "r.jsonl:1: no prompt of the task has this uid (found 'x')"),
        (["run", "--model", "max_source=9"], 2, "that of a run brings its settings along"),
        (["run", "--decoding", "bea"], 2, "--decoding bea: not in the preset; did you mean 'beam'?"),
        (["no/such/model"], 3, "no such file or folder, and no hub id"),
    ],
)
def test_errors_before_anything_is_done(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    data: Path,
    words: list[str],
    code: int,
    problem: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    stored(Path("run"))
    for name in ("r.jsonl", "gold.jsonl"):
        Path(name).write_text('{"uid": "x", "reply": "y"}\n', encoding="utf-8")
    Path("empty.jsonl").write_text("\n \n", encoding="utf-8")
    usual = ["--task", "decode", "--data", str(data), "--device", "cpu"]
    assert score.main([words[0], *usual, *words[1:]]) == code
    said = capsys.readouterr()
    assert said.err.startswith("error: ") or "\nerror: " in said.err
    assert problem in said.err
    assert said.out == ""
    assert not Path("results").exists(), "nothing was begun"


def test_help_says_what_can_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        score.main(["--help"])
    said = capsys.readouterr().out
    assert "PREDICTIONS.jsonl|MODEL" in said
    assert "exit codes" in said
