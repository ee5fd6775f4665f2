"""What a table is made from: a manifest of the rows' directories, and the scores that are found there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.assemble import MANIFEST, SCHEMA, VERSION, Inputs, inputs, manifest, read_manifest
from benchmarks.budget import IncomparableError
from benchmarks.config import resolve, with_lm_data
from benchmarks.datafolder import choose_sources
from benchmarks.errors import DataError
from benchmarks.plan import Plan, make_plan
from benchmarks.tasks import registry as tasks

DATA = {"decode/decode_v0.1/train.jsonl": "cd" * 32}
OFFICIAL = {file.name: file.official_rows for file in tasks.load("decode").files if file.official_rows}
HEADER = "row,decoding,prompts,uid,group,reply_id,f1,tokens,nll,gold_nll,gold_tokens,coherent"
GUIDE = {
    "name": "transformer on response",
    "reads": "response",
    "accuracy": 0.8,
    "sensitivity": 0.8,
    "specificity": 0.8,
    "brier": 0.1,
    "auc": {"value": 0.9, "low": 0.8, "high": 0.95, "n": 9},
    "threshold": 0.5,
    "n": 9,
    "negatives": 4,
    "weak": False,
}


def planned(*overrides: str, methods: tuple[str, ...] = ("transformer", "cringe"), **options: Any) -> Plan:
    fingerprint = options.pop("fingerprint", DATA)
    config = resolve(**{"task": "decode", "method_names": methods, "overrides": overrides} | options)
    sources = with_lm_data(choose_sources(tasks.load(config.task), None, config.sources), config.lm_data)
    return make_plan(config, sources=sources, fingerprint=fingerprint, device="cpu")


def ledger(name: str) -> dict[str, Any]:
    training = {
        "updates": 200,
        "examples": 6400,
        "source_tokens": 9,
        "target_tokens": {"negative": 1},
        "order_digest": "o",
    }
    own = {"rounds": [{"round": 1, "sentence": "9 generations"}]} if name == "cringe" else {}
    return {"start": "warmup", "training": training, **own}


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


def fill(plan: Plan, results: Path, *, counts: Mapping[str, int] | None = None) -> None:
    """A made-up result for every stage that a table reads."""
    for row in plan.rows:
        folder = results / row.scores.folder
        names = ("constant", "random", "gold") if row.kind in ("floor", "ceiling") else ("",)
        lines = [f"{name},beam,decode,NA,null,007,0.5,3,2.5,,,1.0" for name in names]
        write(folder / "scores.csv", "\n".join([HEADER, *lines]) + "\n")
        write(folder / "ledger.json", ledger(row.name) if row.kind == "method" else {})
        write(folder / "corpus.json", [{"row": names[0], "decoding": "beam", "prompts": "decode", "distinct_1": 0.5}])
        write(folder / "DONE", {})
    if plan.judge is not None:
        write(results / plan.judge.folder / "report.json", {"name": "a judge"})
    if counts is not None:
        write(results / plan.references.folder / "counts.json", counts)


def read(plan: Plan, results: Path) -> Inputs:
    """As another process does: from a written manifest."""
    path = results / MANIFEST
    write(path, manifest(plan))
    return inputs(read_manifest(path), results)


# The manifest


def test_a_manifest_names_what_a_table_is_made_from() -> None:
    plan = planned("prompts=9", seeds=[2, 1], lm_data="hf:some/chat")
    found = manifest(plan)
    assert json.dumps(found, allow_nan=False)
    assert (found["schema"], found["version"]) == (SCHEMA, VERSION)
    assert (found["task"], found["preset"], found["seeds"]) == ("decode", "tiny", [2, 1])
    assert found["changes"] == ["prompts=9", "lm_data=hf:some/chat"]
    assert found["sources"] == ["lm_data", "decode"]
    assert (found["data"], found["generated_data"]) == (DATA, False)
    assert found["settings"] == plan.config.model_dump(mode="json")
    assert set(found["decodings"]) == {"beam", "nucleus"}
    assert found["judge"] == plan.judge.folder
    assert found["guide"] == plan.rows[0].scores.parents["guide"].folder
    assert [(row["name"], row["seed"], row["round"], row["scores"]) for row in found["rows"]] == [
        (row.name, row.seed, row.round, row.scores.folder) for row in plan.rows
    ]
    assert {row["round"] for row in found["rows"] if row["name"] == "cringe"} == {None, 1}


def test_manifests_of_generated_data_and_of_tasks_without_a_judge() -> None:
    found = manifest(planned(task="convai2", methods=("transformer",), fingerprint=None))
    assert (found["judge"], found["guide"], found["data"], found["generated_data"]) == (None, None, None, True)
    assert manifest(planned(shared_judge=True))["guide"] is None, "it is the judge"


def test_footnotes_are_of_methods_in_the_table() -> None:
    assert manifest(planned())["footnotes"] == []
    (note,) = manifest(planned(methods=("transformer", "fudge")))["footnotes"]
    assert note.startswith("fudge: ")


def test_a_manifest_comes_back(tmp_path: Path) -> None:
    found = json.loads(json.dumps(manifest(planned())))
    write(tmp_path / MANIFEST, found)
    assert read_manifest(tmp_path / MANIFEST) == found
    assert found["columns"][0]["metric"] == tasks.load("decode").columns[0].metric


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("", "cannot be read as JSON"),
        ("[" * 200_000, "cannot be read as JSON"),
        ('{"seeds": NaN}', "cannot be read as JSON"),
        (r'{"task": "\ud83d"}', "cannot be read as JSON .*surrogates"),
        ("[1, 2]", "is no manifest of version 1"),
        ("{}", r"is no manifest of version 1 \(found \(None, None\)\)"),
        (json.dumps({"schema": SCHEMA, "version": VERSION + 1}), r"is no manifest of version 1 \(found .*, 2\)\)"),
        (json.dumps({"schema": SCHEMA, "version": str(VERSION)}), "is no manifest of version 1"),
        (
            json.dumps({"schema": "cringe.table", "version": VERSION}),
            r"is no manifest of version 1 \(found \('cringe.t",
        ),
    ],
)
def test_what_is_no_manifest_is_refused(content: str, message: str, tmp_path: Path) -> None:
    write(tmp_path / "old" / MANIFEST, content)
    with pytest.raises(DataError, match=message) as caught:
        read_manifest(tmp_path / "old" / MANIFEST)
    assert str(caught.value).startswith(str(tmp_path / "old" / MANIFEST))
    assert "next step: " in str(caught.value)


def test_a_manifest_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read as JSON"):
        read_manifest(tmp_path / "gone.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(DataError, match="cannot be read as JSON"):
        read_manifest(tmp_path / "bytes.json")


# What a table is made from


def test_every_row_has_its_scores(results: Path) -> None:
    plan = planned(seeds=[0, 1])
    fill(plan, results, counts=OFFICIAL)
    found = read(plan, results)
    assert [(run.name, run.kind, run.seed, run.round) for run in found.runs] == [
        (row.name, row.kind, row.seed, row.round) for row in plan.rows
    ]
    for run in found.runs:
        (name,) = set(run.scores["row"].fillna(""))
        assert name == (run.name if run.kind in ("floor", "ceiling") else "")
        (record,) = run.scores.to_dict("records")
        assert (record["uid"], record["group"], record["reply_id"]) == ("NA", "null", "007"), "text stays text"
        assert record["gold_nll"] != record["gold_nll"], "nothing is no number"
        assert record["f1"] == 0.5
    assert found.judges == {"coherent": {"name": "a judge"}}
    meta = found.meta
    assert (meta.task, meta.seeds, meta.judged, meta.shared_judge) == ("decode", (0, 1), {"coherent"}, False)
    assert dict(meta.expected) == {
        "constant": "floor",
        "random": "floor",
        "backbone": "backbone",
        "transformer": "method",
        "cringe": "method",
        "gold": "ceiling",
    }
    assert meta.counts == OFFICIAL
    assert meta.columns == tasks.load("decode").columns
    assert meta.paper is not None


def test_a_row_that_is_not_finished_is_left_out(results: Path) -> None:
    plan = planned()
    fill(plan, results)
    (scores,) = (row.scores for row in plan.rows if row.name == "transformer")
    (results / scores.folder / "DONE").unlink()
    found = read(plan, results)
    assert [run.name for run in found.runs] == ["constant", "random", "backbone", "cringe", "cringe", "gold"]
    assert "transformer" in found.meta.expected
    empty = read(plan, results / "elsewhere")
    assert (empty.runs, empty.judges, empty.meta.counts) == ([], {}, {})


def test_rounds_are_neither_rows_nor_compared(results: Path) -> None:
    """An unfinished round has had a part of the budget."""
    plan = planned()
    fill(plan, results)
    (unfinished,) = (row.scores.folder for row in plan.rows if row.round == 1)
    part = ledger("half")
    part["training"]["updates"] = 100
    write(results / unfinished / "ledger.json", part)
    found = read(plan, results)
    assert [run.round for run in found.runs if run.name == "cringe"] == [None, 1]
    assert list(found.meta.expected).count("cringe") == 1
    assert [note for note in found.meta.notes if "own replies" in note] == [
        "cringe, seed 0: 200 updates, after the first round also on own replies (round 1: 9 generations)."
    ]


def test_methods_with_other_budgets_are_refused(results: Path) -> None:
    plan = planned(methods=("transformer", "unlikelihood"))
    fill(plan, results)
    (scores,) = (row.scores.folder for row in plan.rows if row.name == "unlikelihood")
    other = ledger("unlikelihood")
    other["training"]["updates"] = 100
    write(results / scores / "ledger.json", other)
    with pytest.raises(IncomparableError, match="seed 0, updates: transformer 200, unlikelihood 100"):
        read(plan, results)


def test_a_task_without_verdicts_has_no_judges(results: Path) -> None:
    plan = planned(task="convai2", methods=("transformer",))
    fill(plan, results)
    found = read(plan, results)
    assert (found.judges, found.meta.judged, found.meta.paper) == ({}, frozenset(), None)


def test_the_guides_report_comes_along_where_it_can_be_used(results: Path) -> None:
    plan = planned()
    fill(plan, results)
    assert read(plan, results).meta.guide is None
    path = results / manifest(plan)["guide"] / "report.json"
    write(path, GUIDE)
    assert read(plan, results).meta.guide == GUIDE
    for spoilt in (GUIDE | {"accuracy": 2.0}, "{", GUIDE | {"negatives": 9}):
        write(path, spoilt)
        assert read(plan, results).meta.guide is None
    made_from = {name: entry for name, entry in manifest(plan).items() if name != "guide"}
    write(results / "old" / MANIFEST, made_from)
    assert inputs(read_manifest(results / "old" / MANIFEST), results).meta.guide is None


def test_ledgers_of_trials_come_along(results: Path) -> None:
    plan = planned()
    trial = {"method": "cringe", "settings": {"alpha": 2}, "value": 1.0, "chosen": False, "seed": 0}
    folders = ("there", "gone", "spoilt", "../elsewhere")
    plan = replace(plan, trials=tuple({**trial, "scores": folder} for folder in folders))
    fill(plan, results)
    spent = ledger("cringe")
    for folder, content in (("there", spent), ("spoilt", {"training": {"updates": -1}}), ("../elsewhere", spent)):
        write(results / folder / "ledger.json", content)
    assert read(plan, results).meta.trials == {"cringe": [spent, {}, {}, {}]}


def test_a_shared_judge_is_said(results: Path) -> None:
    plan = planned(methods=("transformer",), shared_judge=True)
    fill(plan, results)
    found = read(plan, results)
    assert found.meta.shared_judge
    assert found.judges == {"coherent": {"name": "a judge"}}
    assert found.meta.preset == "tiny with a shared judge"


def test_paths_of_this_machine_do_not_stand_in_the_title(results: Path) -> None:
    """Published or shown to others, they say who ran it and nothing of what was compared."""
    model = "kind: pretrained, name: /home/me/models/a, max_source: 64, max_target: 32"
    plan = planned(
        "judge.kind=pretrained",
        "judge.name=/home/me/models/judge",
        f"reference={{{model}}}",
        "training.updates=3",
        methods=("transformer",),
    )
    fill(plan, results)
    assert read(plan, results).meta.preset == (
        "tiny with judge.kind=pretrained, judge.name=judge, "
        "reference={kind: pretrained, name: a, max_source: 64, max_target: 32}, training.updates=3"
    )


@pytest.mark.parametrize("content", ["", 'a,b\n"1,2\n', b"\xff\xfe\x00"])
def test_scores_that_cannot_be_read(content: str | bytes, results: Path) -> None:
    plan = planned(methods=("transformer",))
    fill(plan, results)
    path = results / plan.rows[-2].scores.folder / "scores.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError, match=r"scores\.csv: cannot be read \((.*\n?)*.*--force"):
        read(plan, results)


# Notes


def notes(results: Path, *overrides: str, counts: Mapping[str, int], **options: Any) -> tuple[str, ...]:
    plan = planned(*overrides, methods=("transformer",), **options)
    fill(plan, results, counts=counts)
    return tuple(note for note in read(plan, results).meta.notes if not note.startswith("Backbone: "))


@pytest.mark.parametrize(
    ("overrides", "ours"),
    [
        ((), "an encoder-decoder trained from scratch (layers 1 + 1, width 80, vocabulary 2,000)"),
        (
            ("backbone.family=causal",),
            "a decoder-only model trained from scratch (layers 1, width 80, vocabulary 2,000)",
        ),
        (("pretrained", "name: /home/me/a"), "a"),
        (("pretrained", "name: some/model"), "some/model"),
        (("pretrained", "name: /home/me/package, gguf_file: b.gguf"), "b.gguf"),
    ],
)
def test_the_backbone_stands_beside_the_papers(results: Path, overrides: tuple[str, ...], ours: str) -> None:
    if overrides[:1] == ("pretrained",):
        limits = "max_source: 64, max_target: 32"
        overrides = (
            f"backbone={{kind: pretrained, {overrides[1]}, {limits}}}",
            f"reference={{kind: pretrained, name: other/model, {limits}}}",
        )
    plan = planned(*overrides, methods=("transformer",))
    fill(plan, results, counts=OFFICIAL)
    (note,) = (note for note in read(plan, results).meta.notes if note.startswith("Backbone: "))
    assert note.startswith(f"Backbone: {ours}. The paper's is BlenderBot 400M")


def test_what_was_trained_on_is_noted(results: Path) -> None:
    assert notes(results, counts=OFFICIAL) == ("Trained on convai2, decode.",)
    assert notes(results, "sources=[decode]", counts=OFFICIAL) == ("Trained on decode.",)
    assert notes(results, counts=OFFICIAL, lm_data="hf:some/chat") == (
        "Trained on lm_data, decode; lm_data is hf:some/chat.",
    )


def test_data_that_are_not_the_official_release_are_noted(results: Path) -> None:
    _, note = notes(results, counts=OFFICIAL | {"decode train": 1234, "decode rct": 5})
    assert note == (
        "The data are not the official release, so the paper's numbers are not like ours: "
        "decode train 1,234 of 27,184 dialogues."
    )
    assert len(notes(results, counts={"decode train": 9}, fingerprint=None)) == 1, "generated data are none at all"


def test_sizes_of_sources_that_were_not_used_are_not_noted(results: Path) -> None:
    without = {name: size for name, size in OFFICIAL.items() if name != "convai2 train"}
    assert notes(results, "sources=[decode]", counts=without) == ("Trained on decode.",)
