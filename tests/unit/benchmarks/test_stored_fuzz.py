"""Damaged results: what cannot be used is named, and no number changes without a word; never another exception."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from benchmarks import compare, publish, report
from benchmarks.errors import UserError
from benchmarks.rebuild import rebuild, safe_name
from benchmarks.stored import is_name
from tests.unit.benchmarks.test_report import JUDGE, fake_runs

FEWER = settings(max_examples=max(1, settings.default.max_examples // 5))
FEWEST = settings(max_examples=max(1, settings.default.max_examples // 20))
Damage = Callable[[bytes], bytes]
VALUES = [
    None,
    True,
    -1,
    0,
    1.5,
    1e308,
    10**400,
    "",
    "x",
    "..",
    "../..",
    "/",
    "a/b",
    [],
    {},
    [[]],
    {"a": []},
    "\ud800",
    "\0",
]
FRAGMENTS = [
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"\n",
    b",",
    b'"',
    b"{",
    b"}",
    b"[" * 3_000,
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of made-up runs with a judge and a method in rounds."""
    folder = tmp_path_factory.mktemp("stored") / "runs"
    fake_runs(folder, names=("transformer", "cringe"), seeds=(0,), n=4, overrides=("cringe.iterations=2",))
    return folder


@st.composite
def damages(draw: st.DrawFn) -> Damage:
    """One change to bytes, lines or a value of JSON."""
    how = draw(st.sampled_from(["byte", "cut", "insert", "end", "line", "value", "value", "value", "key"]))
    where, other = draw(st.floats(0, 1)), draw(st.floats(0, 1))
    fragment = draw(st.sampled_from(FRAGMENTS) | st.binary(max_size=3))
    value: Any = draw(st.sampled_from(VALUES) | st.floats() | st.text(max_size=4))

    def change(content: bytes) -> bytes:
        at, to = sorted((int(where * len(content)), int(other * len(content))))
        if how == "byte":
            return content[:at] + (fragment or b"7")[:1] + content[at + 1 :]
        if how == "cut":
            return content[:at] + content[min(to, at + 30) :]
        if how == "insert":
            return content[:at] + fragment + content[at:]
        if how == "end":
            return content[:at]
        lines = content.split(b"\n")
        row = int(where * (len(lines) - 1))
        if how == "line":
            return b"\n".join([*lines[:row], lines[row], *lines[row:]])
        try:
            tree = json.loads(content)
            holder, key = _places(tree)[int(other * (len(_places(tree)) - 1))]
        except (ValueError, IndexError):
            fields = lines[row].split(b",")
            fields[int(other * (len(fields) - 1))] = str(value).encode("utf-8", "replace")
            return b"\n".join([*lines[:row], b",".join(fields), *lines[row + 1 :]])
        if how == "key":
            del holder[key]
        else:
            holder[key] = value
        return json.dumps(tree).encode()

    return change


def _places(tree: Any) -> list[tuple[Any, Any]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [place for key, value in items for place in [(tree, key), *_places(value)]]


def files(runs: Path) -> list[Path]:
    """What a table is made again from, the manifest several times, for it holds most."""
    manifest = next(runs.glob("tables/*/manifest.json"))
    rows = {row["scores"] for row in json.loads(manifest.read_bytes())["rows"]}
    found = [path for row in sorted(rows) for path in sorted((runs / row).iterdir()) if path.is_file()]
    others = sorted({*runs.glob("*/report.json"), *runs.glob("*/counts.json")})
    return [*[manifest] * (len(found) // 2), *others, *found]


class Damaged:
    """A file that is another while the block lasts; with ``honest``, the hash in `DONE` is, too."""

    def __init__(self, path: Path, damage: Damage, *, honest: bool) -> None:
        self._path, self._damage = path, damage
        self._done = path.with_name("DONE") if honest and path.name != "DONE" else None

    def __enter__(self) -> bool:
        self._before = {path: path.read_bytes() for path in (self._path, self._done) if path and path.is_file()}
        self._path.write_bytes(self._damage(self._before[self._path]))
        if self._done in self._before:
            sums = json.loads(self._before[self._done])
            sums[self._path.name] = hashlib.sha256(self._path.read_bytes()).hexdigest()
            self._done.write_text(json.dumps(sums))
        return self._path.read_bytes() != self._before[self._path]

    def __exit__(self, *_: object) -> None:
        for path, content in self._before.items():
            path.write_bytes(content)


def made(runs: Path) -> tuple[list[Any], list[str]]:
    """The tables, and what was said of them."""
    said: list[str] = []
    try:
        return [entry.table for entry in rebuild(runs, said.append)], said
    except UserError as error:
        return [], [str(error)]


@pytest.fixture(scope="module")
def undamaged(runs: Path) -> list[Any]:
    tables, said = made(runs)
    assert tables
    assert not said
    return tables


@FEWER
@given(which=st.floats(0, 1), damage=damages(), honest=st.booleans())
def test_tables_of_damaged_results(
    runs: Path, undamaged: list[Any], which: float, damage: Damage, honest: bool
) -> None:
    """A file that is not what a run wrote shows by its hash: then a table that is another one says so."""
    before = undamaged
    known = files(runs)
    path = known[int(which * (len(known) - 1))]
    note(str(path))
    with Damaged(path, damage, honest=honest) as changed:
        after, said = made(runs)
    assert all(sentence.strip() for sentence in said)
    if changed and not honest and path.name != "manifest.json" and path.with_name("DONE").is_file():
        assert after == before or said
    assert after or said


def test_a_guides_report_that_was_changed(runs: Path) -> None:
    """Its hash says so, as for every other file: its numbers are not shown as if nothing had happened."""
    manifest = next(runs.glob("tables/*/manifest.json"))
    guide = runs / json.loads(manifest.read_bytes())["guide"]
    guide.mkdir()
    (guide / "report.json").write_text(json.dumps({**JUDGE, "accuracy": 0.5}))
    (guide / "DONE").write_text(json.dumps({"report.json": hashlib.sha256(b"as it was").hexdigest()}))
    tables, said = made(runs)
    shutil.rmtree(guide)
    assert tables
    assert any("The guide's report cannot be used" in sentence for sentence in said)


@FEWEST
@given(
    which=st.floats(0, 1),
    damage=damages(),
    honest=st.booleans(),
    command=st.sampled_from(["report", "compare", "publish"]),
)
def test_commands_on_damaged_results(
    runs: Path, tmp_path_factory: pytest.TempPathFactory, which: float, damage: Damage, honest: bool, command: str
) -> None:
    """An exit code that is documented, whatever the damage."""
    out = tmp_path_factory.mktemp("out")
    known = files(runs)
    with Damaged(known[int(which * (len(known) - 1))], damage, honest=honest):
        if command == "report":
            assert report.main([str(runs), "--out", str(out / "report")]) in (0, 1, 2, 3)
        elif command == "compare":
            assert compare.main([str(runs), str(runs), "--samples", "1"]) in (0, 1, 2, 3)
        else:
            assert publish.main([str(runs), "--out", str(out / "published")]) in (0, 1, 2, 3)


@pytest.mark.parametrize("place", ["scores", "judge", "references"])
def test_a_manifest_leads_nowhere_else(runs: Path, place: str, tmp_path: Path) -> None:
    """Names of directories are names: a path in their place is taken as missing, though what it leads to is there."""
    runs = shutil.copytree(runs, tmp_path / "runs")
    manifest = next(runs.glob("tables/*/manifest.json"))
    manifest.with_name("DONE").unlink(missing_ok=True)  # whoever changes a name can change a hash, too
    content = json.loads(manifest.read_bytes())
    index, row = next((index, row) for index, row in enumerate(content["rows"]) if row["name"] == "cringe")
    decoy = tmp_path / "decoy"
    shutil.copytree(runs / (row["scores"] if place == "scores" else content[place]), decoy)
    for name in (str(decoy), os.path.relpath(decoy, runs), "..", ".", "", "\0", "x" * 5_000, "\ud800"):
        other = json.loads(json.dumps(content))
        if place == "scores":
            other["rows"][index]["scores"] = name
        else:
            other[place] = name

        with Damaged(manifest, lambda _, other=other: json.dumps(other).encode(), honest=False):
            tables, said = made(runs)
        assert tables or said
        if place == "scores":
            taken_as = "cannot be read as JSON" if name == "\ud800" else "is missing"
            assert any(taken_as in sentence for sentence in said), ascii(name)
        elif place == "judge" and tables:
            assert not tables[0].judges


@given(text=st.text(max_size=20) | st.sampled_from(["..", ".", "", "../x", "/", "CON", "a\0b", "\ud800", "-rf"]))
def test_names_of_files_are_one_part_of_a_path(text: str) -> None:
    """Whatever a table's folder or a manifest says."""
    taken = {safe_name(text)}
    for name in (safe_name(text), safe_name(text, taken)):
        assert is_name(name)
        assert name.isascii()
        assert Path("/results", name).resolve().parent == Path("/results")
    assert safe_name(text, taken) not in taken
    if is_name(text):
        assert Path("/results").joinpath(text).parent == Path("/results")
