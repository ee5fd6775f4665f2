"""Dialogue from elsewhere: what becomes of a data set's records, and what is said of one that is not there."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any, NoReturn

import pytest

from benchmarks.errors import DataError, UsageError
from benchmarks.lm_data import dialogue, fingerprint
from benchmarks.stages import lm_data
from benchmarks.stages.context import Context, example_from_json, read_json, read_lines
from cringe.data import Example, Feedback


def write(path: Path, records: Sequence[Mapping[str, Any]]) -> str:
    """A file of JSON lines; returns its name for ``--lm-data``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")
    return f"hf:{path}"


def read(name: str) -> list[Example]:
    return list(dialogue(name, Counter()))


def said(name: str) -> list[tuple[tuple[str, ...], tuple[bool, ...], str]]:
    return [(example.context, example.own, example.response) for example in read(name)]


HI, YOU = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "you"}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"dialog": ["a", "b", "c"]}, [(("a",), (False,), "b"), (("a", "b"), (True, False), "c")]),
        ({"dialogue": ["a", " ", "b"]}, [(("a",), (False,), "b")]),
        ({"utterances": [{"text": "a"}, {"text": "b"}], "id": 1}, [(("a",), (False,), "b")]),
        ({"turns": [{"utterance": "a"}, {"utterance": "b"}], "text": "x"}, [(("a",), (False,), "b")]),
        (
            {"turns": [{"utterance": text, "speaker": text.upper()} for text in "aba"]},
            [(("a",), (False,), "b"), (("a", "b"), (True, False), "a")],
        ),
        # Where turns have roles only the assistant replies.
        ({"messages": [HI, YOU, HI]}, [(("hi",), (False,), "you")]),
        (
            {"messages": [{"role": "system", "content": "be kind"}, HI, YOU]},
            [(("be kind", "hi"), (False, False), "you")],
        ),
        # Columns, as `datasets` stores a list of objects.
        ({"dialog": {"text": ["a", "b"], "speaker": ["A", "A"]}}, [(("a",), (True,), "b")]),
        ({"context": "a", "response": "b", "label": False}, [(("a",), (False,), "b")]),
        ({"context": ["a", "", "b"], "response": "c"}, [(("a", "b"), (True, False), "c")]),
        ({"context": None, "response": "c", "turns": 4}, [((), (), "c")]),
        ({"prompt": "a", "completion": "b"}, [(("a",), (False,), "b")]),
        ({"prompt": [HI], "completion": [YOU]}, [(("hi",), (False,), "you")]),
        ({"text": "a\nb"}, [((), (), "a\nb")]),
    ],
)
def test_known_forms(tmp_path: Path, record: dict[str, Any], expected: list[Any]) -> None:
    assert said(write(tmp_path / "x.jsonl", [record])) == expected


@pytest.mark.parametrize(
    "record",
    [
        {"dialog": ["a", "", "b"]},
        {"dialog": None},
        {"context": "a", "response": " "},
        {"context": "a", "response": None},
        {"context": ["a", " "], "response": "b"},
        {"prompt": None, "completion": None},
        {"text": ""},
        {"text": None},
    ],
)
def test_what_is_blank_is_left_out_and_counted(tmp_path: Path, record: dict[str, Any]) -> None:
    counts: Counter[str] = Counter()
    # All records of a file have the same columns, so in these the first one's are null.
    others = [{"text": "x"}, {"dialog": ["y", "z"]}, {"context": "c", "response": "r"}]
    examples = list(dialogue(write(tmp_path / "x.jsonl", [record, *others]), counts))
    assert [example.response for example in examples[-3:]] == ["x", "z", "r"]
    assert counts == {"dialogues": 4, "examples": len(examples), "blank": 1}


def test_uids_are_unique_and_the_replies_of_a_dialogue_a_group(tmp_path: Path) -> None:
    examples = read(write(tmp_path / "x.jsonl", [{"dialog": ["a", "b", "c"]}] * 2 + [{"dialog": ["a", "b", "d"]}]))
    assert len({example.uid for example in examples}) == len(examples) == 6
    assert [len({example.group for example in examples[start : start + 2]}) for start in (0, 2, 4)] == [1, 1, 1]
    assert len({example.group for example in examples}) == 3
    assert {example.feedback for example in examples} == {Feedback.UNLABELLED}


def _json(folder: Path) -> Path:
    (folder / "x.json").write_text(json.dumps([{"context": "a", "response": "b"}]), encoding="utf-8")
    return folder / "x.json"


def _csv(folder: Path) -> Path:
    with (folder / "x.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("context", "response"), ("a", "b")])
    return folder / "x.csv"


def _parquet(folder: Path) -> Path:
    from datasets import Dataset

    Dataset.from_list([{"context": "a", "response": "b"}]).to_parquet(str(folder / "x.parquet"))
    return folder / "x.parquet"


def _saved(folder: Path) -> Path:
    from datasets import Dataset

    Dataset.from_list([{"context": "a", "response": "b"}]).save_to_disk(str(folder / "saved"))
    return folder / "saved"


def _saved_splits(folder: Path) -> Path:
    from datasets import Dataset, DatasetDict

    part, other = (Dataset.from_list([{"context": "a", "response": text}]) for text in "bx")
    DatasetDict({"test": other, "train": part}).save_to_disk(str(folder / "splits"))
    return folder / "splits"


def _folder(folder: Path) -> Path:
    write(folder / "chat-valid" / "test.jsonl", [{"context": "a", "response": "x"}])
    write(folder / "chat-valid" / "train.jsonl", [{"context": "a", "response": "b"}])
    return folder / "chat-valid"


def _training_folder(folder: Path) -> Path:
    """The name of the folder itself says nothing of its files."""
    return _folder(folder).rename(folder / "training")


@pytest.mark.parametrize("make", [_json, _csv, _parquet, _saved, _saved_splits, _folder, _training_folder])
def test_local_data_sets(tmp_path: Path, make: Any) -> None:
    path = make(tmp_path)
    name = f"hf:{path}"
    assert said(name) == [(("a",), (False,), "b")]
    before = fingerprint(name)
    assert len(before) > 1
    assert before == fingerprint(name)
    files = [file for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
    for file in files:
        if file.parent.name not in ("chat-valid", "training") or file.name == "train.jsonl":
            content = file.read_bytes()
            file.write_bytes(content + b"\n")
            assert fingerprint(name) != before
            file.write_bytes(content)
    assert fingerprint(name) == before


def test_the_working_folder_is_read_only_where_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "x.jsonl", [{"text": "a"}])
    assert said("hf:x.jsonl") == said("hf:.") == [((), (), "a")]
    with pytest.raises(UsageError, match="'json' is a format, not a data set"):
        read("hf:json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b'{"text": "a"}\n{"text": "b', "cannot be read as a data set: "),
        (b'{"text": "\xff"}\n', "cannot be read as a data set: UnicodeDecodeError"),
        (b'{"text": " "}\n', "holds no reply"),
        (b'{"dialog": ["a"]}\n', "holds no reply"),
        (
            b'{"label": 1, "words": "a"}\n',
            "record 1: no column holds dialogue; the columns are 'label', 'words'; known",
        ),
        (b'{"dialog": "A: hi B: you"}\n', "record 1: no column holds dialogue; the columns are 'dialog'"),
        (b'{"dialog": [1, 2]}\n', r"record 1: the field 'dialog\[0\]' must be a string, or an object"),
        (b'{"dialog": [{"value": "hi"}]}\n', r"record 1: the field 'dialog\[0\]' holds no text .*; it holds 'value'"),
        (
            b'{"messages": [{"role": "tool", "content": "hi"}]}\n',
            r"record 1: the field 'messages\[0\]\.role' must be one",
        ),
        (b'{"prompt": 1, "completion": "a"}\n', "record 1: the field 'prompt' must be a string or a list of turns"),
        (b'{"prompt": "a", "completion": ["b", "c"]}\n', "record 1: the field 'completion' must hold one turn"),
    ],
)
def test_bad_content(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read(f"hf:{path}")
    assert str(path) in str(caught.value)
    assert "\n  next step: " in str(caught.value)
    assert len(str(caught.value)) < 800


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("daily", r"expected parlai:TEACHER or hf:NAME \(found 'daily'\)"),
        ("hf: ", "expected parlai:TEACHER or hf:NAME"),
        ("hub:x", "expected parlai:TEACHER or hf:NAME"),
        ("hf:/nowhere/x", "the file or folder '/nowhere/x' does not exist"),
        ("hf:nowhere.jsonl", "the file or folder 'nowhere.jsonl' does not exist"),
    ],
)
def test_bad_names(name: str, message: str) -> None:
    for use in (fingerprint, read):
        with pytest.raises(UsageError, match=message):
            use(name)


def test_folders_without_one_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("hi", encoding="utf-8")
    for use in (fingerprint, read):
        with pytest.raises(DataError, match=r"no file of a known kind; known are \.json, (?s:.*)next step"):
            use(f"hf:{tmp_path}")
        with pytest.raises(DataError, match=r"no file of a known kind.*\(found '.txt'\)"):
            use(f"hf:{tmp_path / 'x.txt'}")
    write(tmp_path / "x.jsonl", [{"text": "a"}])
    _csv(tmp_path)
    with pytest.raises(DataError, match=r"files of several kinds; .*\(found '.csv, .jsonl'\)"):
        read(f"hf:{tmp_path}")


def test_saved_splits_without_train(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    part = Dataset.from_list([{"text": "a"}])
    DatasetDict({"valid": part, "test": part}).save_to_disk(str(tmp_path / "x"))
    with pytest.raises(UsageError, match="has no split 'train'; it has valid, test"):
        read(f"hf:{tmp_path / 'x'}")


@pytest.mark.parametrize("name", ["hf:no_such_data_set", "hf:nobody/no_such_data_set/configuration"])
def test_no_hub_in_reach(name: str) -> None:
    assert set(fingerprint(name)) == {"datasets"}
    with pytest.raises(DataError, match=r"cannot be read as a data set: (?s:.*)name a local file"):
        read(name)


def test_without_parlai_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(package: str) -> NoReturn:
        raise PackageNotFoundError(package)

    monkeypatch.setattr("benchmarks.lm_data.version", absent)
    for use in (fingerprint, read):
        with pytest.raises(UsageError, match=r"needs the package 'parlai'(?s:.*)pip install --no-deps parlai==1.7.2"):
            use("parlai:blended_skill_talk")


def test_the_stage_writes_examples_and_counts(tmp_path: Path) -> None:
    name = write(tmp_path / "x.jsonl", [{"dialog": ["a", "b", ""]}, {"dialog": ["ß", "🙂"]}])
    out = tmp_path / "out"
    out.mkdir()
    context = Context(
        out=out,
        parents={},
        data=None,
        hashes={},
        resume=tmp_path / "resume",
        tokens=tmp_path,
        device="cpu",
        progress=lambda *_: None,
    )
    lm_data.run({"lm_data": name, "seed": 0}, context)
    assert [example_from_json(record) for record in read_lines(out / "examples.jsonl")] == read(name)
    assert read_json(out / "counts.json") == {"dialogues": 2, "examples": 2, "blank": 1}
    assert sorted(os.listdir(out)) == ["counts.json", "examples.jsonl"]  # noqa: PTH208 - names are enough
