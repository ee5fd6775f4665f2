"""The command line for data: what it says of files, what it writes, exit codes; never a traceback, never a network."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

import benchmarks
from benchmarks import data, inventory
from benchmarks.datafolder import GENERATED
from benchmarks.errors import DataError
from benchmarks.tasks import convai2, decode, download, registry, synthetic
from benchmarks.tasks.download import Archive
from cringe.processes import mark

SOURCE = str(Path(benchmarks.__file__).parents[1])
VALID = "ConvAI2/valid_self_original_no_cands.txt"
DEV = "decode/decode_v0.1/dev.jsonl"
A2T = "decode/decode_v0.1/a2t.jsonl"


class Answer(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        return self.out.splitlines()[-1]


Command = Callable[..., Answer]


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder, with no data folder named, and with nobody to ask."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("PARLAI_DATAPATH", raising=False)

    def refuse(archive: Archive, folder: Path, **options: object) -> Mapping[str, str]:
        raise DataError(f"{archive.address} cannot be fetched: no network", hint="put it there by hand")

    monkeypatch.setattr(download, "fetch", refuse)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command in this process; argparse's own exits count as exit codes."""

    def call(*arguments: str | Path) -> Answer:
        try:
            code = data.main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Answer(code, captured.out, captured.err)

    return call


def small(folder: Path) -> Path:
    """A small data folder in the official formats, DECODE's files for further tests left out."""
    synthetic.write_convai2(folder, seed=0, train_dialogues=6, valid_dialogues=3)
    synthetic.write_decode(folder, seed=0, train=60, dev=10, test=8)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small(tmp_path / "data")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Every file of every task


def all_files() -> Iterator[tuple[str, str]]:
    for name in registry.entries():
        for file in registry.load(name).files:
            yield file.name, file.path


@pytest.mark.parametrize(("name", "path"), dict.fromkeys(all_files()))
def test_every_file_has_a_reader_and_a_place_to_come_from(name: str, path: str) -> None:
    files = {(file.name, file.path): file for task in registry.entries() for file in registry.load(task).files}
    assert callable(inventory.reader(files[name, path]))
    own = name.startswith("jsonl") or path == "dialogue_safety/wiki-toxic-comments/train.csv"
    assert (download.origin(path) is None) == own


@pytest.mark.parametrize("name", registry.entries())
def test_records_are_counted_as_a_run_counts_them(name: str, tmp_path: Path) -> None:
    """On generated data of every task; the unit of the official number is the one that the task's counts have."""
    task = registry.load(name)
    task.synthesize(tmp_path, seed=0)
    report = inventory.Inspector(tmp_path).task(task)
    assert report.runs
    counted = {found.file.name: found.records for found in report.files if found.usable}
    loaded = task.load(tmp_path, task.usual_sources(tmp_path)).counts
    assert counted == {name: loaded[name] for name in counted}
    assert all(counted.values())


# status


def test_status(command: Command, folder: Path) -> None:
    answer = command("status", "--task", "contradiction", "--data", folder)
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0] == f"data: {folder} (--data)"
    assert lines[2] == "decode: contradiction avoidance"
    rows = {line.split()[0]: line.split(maxsplit=1)[1].split() for line in lines if "/" in line.split(" ")[0]}
    assert rows[VALID] == ["evaluation", "3", "dialogues", "1,000", "differs", "from", "the", "official", "release"]
    assert rows["decode/decode_v0.1/test.jsonl"][1:4] == ["8", "dialogues", "4,216"]
    assert rows[A2T] == ["evaluation", "2,079", "missing,", "not", "needed"]
    assert "training sources: convai2 (complete), decode (complete)" in lines
    fetching = f"python -m benchmarks.data fetch --task decode --data {folder}"
    assert f"next step for what is missing below decode: {fetching}" in lines
    assert answer.last == (
        "decode: can run; 3 of 8 files missing, none needed; 5 of 8 files differ from the official release"
    )
    assert answer.err == ""


def official(monkeypatch: pytest.MonkeyPatch, sizes: Mapping[str, int]) -> None:
    """Make ConvAI2's task believe in other official sizes."""
    files = tuple(
        inventory.DataFile(name=file.name, path=file.path, source=file.source, official_rows=sizes[split])
        for split, file in convai2.FILES.items()
    )
    monkeypatch.setattr(convai2.ConvAI2, "files", files)


def test_status_of_the_official_sizes(command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    official(monkeypatch, {"train": 6, "valid": 3})
    answer = command("status", "--task", "convai2", "--data", folder)
    assert (answer.code, answer.last) == (0, "convai2: complete")
    assert answer.out.count("  complete") == 2


def test_status_of_what_is_missing(command: Command, tmp_path: Path) -> None:
    empty = tmp_path / "an empty folder"
    empty.mkdir()
    answer = command("status", "--task", "fits", "wikitoxic", "--data", empty)
    assert answer.code == 3
    *_, fits, wikitoxic = answer.out.splitlines()
    # A command that can be copied.
    assert fits == f"fits: 5 of 5 files missing; python -m benchmarks.data fetch --task fits --data '{empty}'"
    assert wikitoxic.startswith("wikitoxic: 12 of 12 files missing; python -m benchmarks.data fetch")
    assert "next step for wikitoxic/train.csv: log in at kaggle.com" in answer.out
    assert "next step for diasafety/train.json, diasafety/val.json and diasafety/test.json: " in answer.out
    assert f"put it there below {empty}" in answer.out
    assert "fits (0 of 1 files)" in answer.out
    assert "bad (0 of 3 files, optional)" in answer.out


def test_status_where_no_folder_is_named(command: Command) -> None:
    answer = command("status", "--task", "decode")
    assert answer.code == 3
    assert answer.out.startswith("data: no folder is named with --data or $CRINGE_DATA\n")
    assert answer.last == "decode: 8 of 8 files missing; python -m benchmarks.data fetch --task decode --data DIR"


def test_status_of_every_task(command: Command, folder: Path) -> None:
    answer = command("status", "--data", folder)
    assert answer.code == 3
    summaries = answer.out.rstrip().split("\n\n")[-1].splitlines()
    assert [line.split(":")[0] for line in summaries] == [name for name in registry.entries() if name != "jsonl"]
    assert answer.out.count("data: ") == 1


def test_status_follows_the_environment(command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRINGE_DATA", str(folder))
    assert command("status", "--task", "decode").out.startswith(f"data: {folder} ($CRINGE_DATA)\n")
    monkeypatch.delenv("CRINGE_DATA")
    monkeypatch.setenv("PARLAI_DATAPATH", str(folder))
    answer = command("status", "--task", "decode", "fits")
    assert answer.out.startswith(f"data: {folder} (ParlAI data folder)\n")
    # What is missing belongs there, too.
    assert answer.last.endswith(f"python -m benchmarks.data fetch --task fits --data {folder}")


def test_a_bad_file_does_not_hide_the_others(command: Command, folder: Path) -> None:
    (folder / DEV).write_bytes(b'{"record_id": \n')
    (folder / A2T).mkdir()
    answer = command("status", "--task", "decode", "--data", folder)
    assert answer.code == 3
    rows = {line.split()[0]: line for line in answer.out.splitlines() if "/" in line.split(" ")[0]}
    assert f"{folder}/{DEV}:1: not valid JSON" in rows[DEV]
    assert "a directory where a file belongs" in rows[A2T]
    assert "8 dialogues" in rows["decode/decode_v0.1/test.jsonl"]
    assert answer.last == (
        "decode: 2 of 8 files missing; 2 of 8 files cannot be used; 4 of 8 files differ from the official release; "
        "see above"
    )
    assert "decode (3 of 4 files)" in answer.out


def test_a_bad_file_that_is_not_needed(command: Command, folder: Path) -> None:
    (folder / A2T).write_bytes(b"")
    answer = command("status", "--task", "decode", "--data", folder)
    assert answer.code == 0
    assert f"{folder}/{A2T}: the file is empty" in answer.out
    assert "1 of 8 files cannot be used" in answer.last


def test_a_broken_link_is_no_missing_file(command: Command, folder: Path) -> None:
    (folder / A2T).symlink_to(A2T)
    assert "1 of 8 files cannot be used" in command("status", "--task", "decode", "--data", folder).last


def test_wikitoxic_where_parlai_keeps_it(command: Command, tmp_path: Path) -> None:
    """One of two places is enough."""
    synthetic.write_wikitoxic(tmp_path, seed=0, comments=10)
    place = tmp_path / "dialogue_safety/wiki-toxic-comments"
    place.mkdir(parents=True)
    (tmp_path / "wikitoxic/train.csv").rename(place / "train.csv")
    out = command("status", "--task", "safety", "--data", tmp_path).out
    assert "10 comments" in out
    assert "kaggle" not in out
    assert "wikitoxic/train.csv" not in out


def test_data_of_ones_own(command: Command, tmp_path: Path) -> None:
    """Named as in a run."""
    own = tmp_path / "own"
    own.mkdir()
    records = [
        {"context": [f"question {number}"], "response": f"reply {number}", "label": (True, False, None)[number % 3]}
        for number in range(300)
    ]
    (own / "train.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    for arguments in (["--task", f"jsonl:{own}"], ["--task", "jsonl", "--data", own]):
        answer = command("status", *arguments)
        assert answer.code == 0
        assert answer.last == "jsonl: can run; 2 of 3 files missing, none needed"
        assert "train.jsonl  evaluation  300 records" in answer.out
        assert "unlabelled (complete), jsonl (complete)" in answer.out
        assert command("verify", *arguments).code == 0
    labelled = [record for record in records if record["label"] is not None]
    (own / "train.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in labelled))
    assert "unlabelled (no records, optional)" in command("status", "--task", f"jsonl:{own}").out
    assert command("verify", "--task", f"jsonl:{own}").code == 0


# fetch


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Archives that can be had, by name, without a network; what is not among them cannot."""
    files: dict[str, bytes] = {}

    def obtain(archive: Archive, downloads: Path, *rest: object) -> Path:
        if archive.name not in files:
            raise DataError(f"{archive.address} cannot be fetched: no network", hint="put it there by hand")
        (downloads / archive.name).write_bytes(files[archive.name])
        return downloads / archive.name

    monkeypatch.undo()
    monkeypatch.delenv("PARLAI_DATAPATH", raising=False)
    monkeypatch.delenv("CRINGE_DATA", raising=False)
    monkeypatch.setattr(download, "_obtain", obtain)
    return files


def packed(folder: Path, prefix: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for path in sorted((folder / prefix).rglob("*")):
            if path.is_file():
                file.write(path, path.relative_to(folder / prefix))
    return stream.getvalue()


def test_fetch_what_is_missing(command: Command, folder: Path, tmp_path: Path, published: dict[str, bytes]) -> None:
    published["decode_v0.1.zip"] = packed(folder, "decode")
    target = tmp_path / "new" / "folder"
    (target / "ConvAI2").mkdir(parents=True)
    for split in convai2.FILES.values():
        (target / split.path).write_bytes((folder / split.path).read_bytes())
    answer = command("fetch", "--task", "decode", "--data", target)
    assert answer.code == 0
    assert f"decode_v0.1.zip: 3 files unpacked into {target}/decode\n" in answer.out
    assert f"decode_v0.1.zip does not hold {A2T}\n" in answer.out
    assert answer.err == "fetching http://parl.ai/downloads/decode/decode_v0.1.zip\n"
    assert (target / DEV).read_bytes() == (folder / DEV).read_bytes()
    # What the archive does not hold is not fetched for again.
    again = command("fetch", "--task", "decode", "--data", target)
    assert (again.code, again.err) == (0, "")
    assert f"decode_v0.1.zip does not hold {A2T}\n" in again.out


def test_fetch_nothing(command: Command, folder: Path) -> None:
    assert command("fetch", "--task", "convai2", "--data", folder) == (
        0,
        f"nothing is missing in {folder}\n",
        "",
    )


def test_one_failed_download_does_not_stop_the_others(
    command: Command, folder: Path, tmp_path: Path, published: dict[str, bytes]
) -> None:
    published["decode_v0.1.zip"] = packed(folder, "decode")
    answer = command("fetch", "--task", "decode", "--data", tmp_path / "new")
    assert answer.code == 3
    assert "error: http://parl.ai/downloads/convai2/convai2_fix_723.tgz cannot be fetched: no network" in answer.err
    assert "next step: put it there by hand" in answer.err
    assert (tmp_path / "new" / DEV).is_file()


def test_fetch_says_what_only_a_person_can_get(command: Command, tmp_path: Path) -> None:
    answer = command("fetch", "--task", "safety", "--data", tmp_path / "new")
    assert answer.code == 3
    assert "next step for wikitoxic/train.csv: log in at kaggle.com" in answer.out
    assert answer.err.count("cannot be fetched") == 5


def test_fetch_fails_for_what_is_not_needed(command: Command, folder: Path) -> None:
    """It was asked for, so its failure is told."""
    answer = command("fetch", "--task", "decode", "--data", folder)
    assert (answer.code, answer.out) == (3, "")
    assert "decode_v0.1.zip cannot be fetched" in answer.err


def test_fetch_what_nobody_publishes(command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All downloads went well, but what the task needs is not there; then it is, and only what is optional is not."""
    monkeypatch.setattr(download, "ARCHIVES", ())
    assert command("fetch", "--task", "safety", "--data", folder).code == 3
    synthetic.write_wikitoxic(folder, seed=0, comments=10)
    answer = command("fetch", "--task", "safety", "--data", folder)
    assert (answer.code, answer.err) == (0, "")
    assert "kaggle" not in answer.out
    assert "DiaSafety" in answer.out


def test_fetch_into_a_folder_that_cannot_be(command: Command, tmp_path: Path, published: dict[str, bytes]) -> None:
    (tmp_path / "file").write_text("")
    answer = command("fetch", "--task", "decode", "--data", tmp_path / "file")
    assert answer.code == 3
    assert "cannot be written: " in answer.err


# verify


def test_verify(command: Command, folder: Path) -> None:
    answer = command("verify", "--task", "decode", "convai2", "--data", folder)
    assert answer.code == 0
    lines = answer.out.splitlines()
    (said,) = (line for line in lines if line.startswith(VALID))
    assert said.startswith(f"{VALID}: differs from the official release (")
    assert said.endswith(" of 7,801 examples): 3 of 1,000 dialogues")
    assert f"{A2T}: missing, not needed" in lines
    assert answer.out.count(VALID) == 1  # once, though two tasks read it
    assert answer.last.startswith("convai2: can run")


def test_verify_the_official_sizes(command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    official(monkeypatch, {"train": 6, "valid": 3})
    answer = command("verify", "--task", "convai2", "--data", folder)
    assert answer.code == 0
    assert f"{VALID}: ok: 3 dialogues\n" in answer.out
    assert answer.last == "convai2: complete"


def test_verify_finds_what_was_changed_after_unpacking(
    command: Command, folder: Path, tmp_path: Path, published: dict[str, bytes]
) -> None:
    published["decode_v0.1.zip"] = packed(folder, "decode")
    other = tmp_path / "other"
    command("fetch", "--task", "decode", "--data", other)
    synthetic.write_convai2(other, seed=0, train_dialogues=6, valid_dialogues=3)
    whole = (other / DEV).read_bytes()
    assert "SHA-256" not in command("verify", "--task", "decode", "--data", other).out
    less = whole[whole.index(b"\n") + 1 :]
    (other / DEV).write_bytes(less)
    answer = command("verify", "--task", "decode", "--data", other)
    sums = f"SHA-256 {hashlib.sha256(less).hexdigest()}, published {hashlib.sha256(whole).hexdigest()}"
    assert f"{DEV}: differs from the official release ({sums}): 9 of 4,026 dialogues" in answer.out
    assert answer.code == 0  # it can be read


def test_verify_a_published_checksum(command: Command, folder: Path) -> None:
    """BBF's files are published with one each. These are made up."""
    message = {"text": "hi\nyou", "labels": ["__ok__"]}
    (folder / "dialogue_safety").mkdir()
    content = json.dumps({split: [message] for split in ("train", "valid", "test")})
    (folder / "dialogue_safety/multi_turn_safety.json").write_text(content)
    answer = command("verify", "--task", "safety", "--data", folder)
    line = next(line for line in answer.out.splitlines() if line.startswith("dialogue_safety/multi_turn_safety.json"))
    assert "published e3e577f456d63d51eb7b5f98ffd251ad695476f186d422fa8de1a177742fa7b6" in line
    assert "3 of 30,000 messages" in line


def test_verify_a_bad_file(command: Command, folder: Path) -> None:
    (folder / A2T).write_bytes(b"\xff\n")
    answer = command("verify", "--task", "decode", "--data", folder)
    assert answer.code == 3  # not needed, but there and of no use
    assert f"{A2T}: cannot be used: {folder}/{A2T}:1: not valid UTF-8 at byte offset 0" in answer.out
    assert "next step: " in answer.out


def test_verify_reads_as_a_run_would(command: Command, folder: Path) -> None:
    """Every record is good, but there is one kind of them alone."""
    records = [json.loads(line) for line in (folder / DEV).read_text().splitlines()]
    good = [json.dumps(record) for record in records if not record["is_contradiction"]]
    (folder / DEV).write_text("\n".join(good))
    answer = command("verify", "--task", "decode", "--data", folder)
    assert answer.code == 3
    assert f"decode: cannot be used: {folder}/{DEV}: holds too few dialogues" in answer.out


def test_verify_a_bad_file_that_no_run_would_read(command: Command, folder: Path) -> None:
    """Part of an optional source, of which more is missing."""
    synthetic.write_wikitoxic(folder, seed=0, comments=400)
    assert command("verify", "--task", "safety", "--data", folder).code == 0
    path = folder / next(file.path for file in registry.load("wikitoxic").files if file.name == "bad train")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    answer = command("verify", "--task", "safety", "--data", folder)
    assert answer.code == 3
    assert f"{path}: the file is empty" in answer.out
    assert command("status", "--task", "safety", "--data", folder).code == 0


def test_verify_archives_that_wait(command: Command, folder: Path) -> None:
    assert command("verify", "--task", "decode", "--data", folder).code == 0
    (folder / "downloads").mkdir()
    (folder / "downloads/decode_v0.1.zip").write_bytes(b"half")
    answer = command("verify", "--task", "decode", "--data", folder)
    assert answer.code == 3
    assert "decode_v0.1.zip: SHA-256 differs from the published one, not unpacked" in answer.out


def test_verify_a_damaged_note(command: Command, folder: Path) -> None:
    (folder / "downloads").mkdir()
    (folder / "downloads/decode_v0.1.zip.json").write_bytes(b"{")
    answer = command("verify", "--task", "decode", "--data", folder)
    assert answer.code == 3
    assert "not a note of what decode_v0.1.zip held\n  next step: remove it" in answer.err


def test_verify_nothing(command: Command, tmp_path: Path) -> None:
    assert command("verify", "--task", "decode", "--data", tmp_path).code == 3
    answer = command("verify", "--task", "decode")
    assert answer.code == 3
    assert "no folder holds data of task 'decode'\n  next step: name one" in answer.err


# synthesize


def test_synthesize_every_task_into_one_folder(command: Command, tmp_path: Path) -> None:
    """Tasks that share files generate the same ones."""
    target = tmp_path / "new/folder"
    answer = command("synthesize", "--data", target)
    assert (answer.code, answer.err) == (0, "")
    first = contents(target)
    assert not list(target.glob(".*"))
    assert command("status", "--data", target).code == 0
    again = command("synthesize", "--data", target)
    assert again.code == 0
    assert "decode: 0 generated files written" in again.out
    assert contents(target) == first


def test_what_a_killed_synthesize_left_is_swept(command: Command, tmp_path: Path) -> None:
    (tmp_path / f".generating-{mark()}-abc").mkdir()
    (tmp_path / ".generating-0badcafe-1-2-abc" / "ConvAI2").mkdir(parents=True)
    dead = tmp_path / f".generating-{mark().rpartition('-')[0]}-1-abc"
    (dead / "ConvAI2").mkdir(parents=True)
    assert command("synthesize", "--task", "convai2", "--data", tmp_path).code == 0
    left = {path.name for path in tmp_path.glob(".generating-*")}
    assert left == {f".generating-{mark()}-abc", ".generating-0badcafe-1-2-abc"}  # at work; perhaps at work elsewhere


def test_synthesize_by_seed(command: Command, tmp_path: Path) -> None:
    command("synthesize", "--task", "convai2", "--data", tmp_path / "a")
    command("synthesize", "--task", "convai2", "--data", tmp_path / "b", "--seed", "0")
    command("synthesize", "--task", "convai2", "--data", tmp_path / "c", "--seed", "1")
    assert contents(tmp_path / "a") == contents(tmp_path / "b") != contents(tmp_path / "c")
    assert set(contents(tmp_path / "a")) == {GENERATED, *(file.path for file in convai2.FILES.values())}


def test_synthesize_overwrites_nothing(command: Command, tmp_path: Path) -> None:
    (tmp_path / "ConvAI2").mkdir()
    (tmp_path / VALID).write_text("mine")
    before = contents(tmp_path)
    answer = command("synthesize", "--task", "decode", "--data", tmp_path)
    assert answer.code == 3
    assert f"such as {VALID}; nothing of this task was written\n  next step: " in answer.err
    assert contents(tmp_path) == before
    assert not list(tmp_path.glob(".*"))


def test_synthesize_needs_a_folder(command: Command, tmp_path: Path) -> None:
    answer = command("synthesize", "--task", "decode")
    assert answer.code == 2
    assert "--data" in answer.err
    (tmp_path / "file").write_text("")
    answer = command("synthesize", "--task", "convai2", "--data", tmp_path / "file")
    assert answer.code == 3
    assert f"{tmp_path}/file: cannot be written: File exists" in answer.err


# Usage


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["statis"], "invalid choice"),
        (["status", "--task", "decod"], "no task is called 'decod'; did you mean 'decode'? known: all, "),
        (["status", "--task", "decode,nothing"], "no task is called 'nothing'; known: "),
        (["status", "--task", ","], "no task is named"),
        (["status", "--task", "decode:DIR"], "only jsonl takes a folder (found 'decode:DIR')"),
        (["status", "--task", "jsonl"], "name their folder: jsonl:DIR"),
        (["status", "--data", "synthetic"], "--data is 'synthetic', data that a run makes for itself"),
        (["verify", "--data", "synthetic"], "--data is 'synthetic'"),
        (["fetch", "--data", "synthetic"], "--data is 'synthetic'"),
        (["synthesize", "--data", "synthetic"], "a folder (one of this name is ./synthetic)"),
        (["fetch", "--task", "decode"], "no folder is named to write to: name one with --data DIR"),
        (["fetch", "--data", ""], "no folder is named to write to"),
        (["synthesize", "--data", ""], "no folder is named to write to"),
        (["synthesize", "--data", "x", "--seed", "-1"], "--seed"),
        (["synthesize", "--data", "x", "--seed", "1.5"], "not a whole number from 0 on (found '1.5')"),
        (["status", "--seed", "1"], "unrecognized arguments"),
    ],
)
def test_wrong_usage(command: Command, tmp_path: Path, arguments: list[str], message: str) -> None:
    answer = command(*arguments)
    assert answer.code == 2
    assert message in answer.err
    assert answer.out == ""
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("name", ["status", "verify"])
def test_a_folder_that_is_not_there(command: Command, name: str) -> None:
    answer = command(name, "--data", "nowhere")
    assert answer.code == 3
    assert "the data folder that --data names does not exist (found 'nowhere')" in answer.err


def test_interrupted(command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(path: Path) -> Iterator[object]:
        raise KeyboardInterrupt

    monkeypatch.setitem(inventory._READERS, "decode", interrupt)  # type: ignore[arg-type]
    answer = command("status", "--task", "decode", "--data", folder)
    assert answer.code == 130
    assert answer.err == "interrupted; the same command goes on from here\n"


@pytest.mark.parametrize("name", ["status", "fetch"])
def test_a_reader_that_has_seen_enough(folder: Path, name: str) -> None:
    """As ``… | head -0``."""
    read, write = os.pipe()
    os.close(read)
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"} | {"PYTHONPATH": SOURCE}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.data", name, "--task", "convai2", "--data", folder],
        env=environ,
        text=True,
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("arguments", [["--help"], ["status", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "benchmarks.data", *arguments],
        env=os.environ | {"PYTHONPATH": SOURCE},
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0
    assert "--data DIR" in done.stdout
    imported = {line.rsplit("|")[-1].strip() for line in done.stderr.splitlines()}
    assert not imported & {"torch", "transformers", "pandas", "rich", "tabulate", "urllib.request"}


def test_decode_reader_is_the_adapters(folder: Path) -> None:
    file = next(file for file in decode.TASK.files if file.path == DEV)
    assert inventory.reader(file) is decode.read_records
