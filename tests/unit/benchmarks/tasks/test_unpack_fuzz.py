"""Damaged and hostile archives: what is unpacked lies in the folder, as plain files, or nothing is said to be."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.errors import DataError
from benchmarks.tasks._unpack import unpack

FEWER = settings(max_examples=max(1, settings.default.max_examples // 2))
LIMIT = 10_000
NAMES = [
    "a.txt",
    "b/c.txt",
    "../x",
    "/x",
    "b/../../x",
    "C:/x",
    "a\\..\\x",
    ".",
    "..",
    "",
    "é",
    "b/c.txt/d",
    "A.TXT",
    "x" * 300,
]
kinds = st.sampled_from(
    [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
members = st.lists(
    st.tuples(st.sampled_from(NAMES) | st.text(max_size=6), st.binary(max_size=20), kinds), min_size=1, max_size=4
)


def tar(contents: list[tuple[str, bytes, bytes]]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:") as file:
        for name, content, kind in contents:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, "../../x", len(content)
            file.addfile(info, io.BytesIO(content))
    return raw.getvalue()


def zipped(contents: list[tuple[str, bytes, bytes]]) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content, _ in contents:
            file.writestr(zipfile.ZipInfo(name), content)
    return raw.getvalue()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("archives")


@FEWER
@pytest.mark.parametrize("ending", [".zip", ".tar.gz"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
@given(contents=members, where=st.floats(0, 1), change=st.binary(max_size=3), whole=st.booleans())
def test_archives_of_anything(
    place: Path,
    ending: str,
    contents: list[tuple[str, bytes, bytes]],
    where: float,
    change: bytes,
    whole: bool,
) -> None:
    """A tar is damaged before it is compressed, or the checksum would be all that is tested."""
    try:
        raw = zipped(contents) if ending == ".zip" else tar(contents)
    except (ValueError, UnicodeEncodeError):
        return
    if not whole:
        at = int(where * len(raw))
        raw = raw[:at] + change + raw[at + len(change) :]
    with TemporaryDirectory(dir=place) as name:
        check(Path(name), raw if ending == ".zip" else gzip.compress(raw), ending)
    assert not list(place.iterdir())


def check(inside: Path, content: bytes, ending: str) -> None:
    archive, folder = inside / f"data{ending}", inside / "in" / "out"
    folder.mkdir(parents=True)
    archive.write_bytes(content)
    try:
        sums = unpack(archive, folder, limit=LIMIT)
    except DataError as error:
        assert str(archive) in str(error)  # noqa: PT017 - of any of its errors
        sums = None
    found = [path for path in inside.rglob("*") if not path.is_dir() or path.is_symlink()]
    assert all(path == archive or folder in path.parents for path in found)
    assert not any(path.is_symlink() for path in found)
    assert sum(path.stat().st_size for path in found if path != archive) <= LIMIT
    if sums is not None:
        assert {path.relative_to(folder).as_posix() for path in found if path != archive} == set(sums)
