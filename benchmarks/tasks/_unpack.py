"""Unpacking an archive that may be hostile: plain files only, inside of one folder, no more than was allowed."""

from __future__ import annotations

import gzip
import hashlib
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Final, NamedTuple, NoReturn

from benchmarks.errors import DataError

MOST_MEMBERS: Final = 10_000
"""Files and folders that no archive may exceed."""
_CHUNK: Final = 2**20
_HINT = "do not use this archive; get it again from its source"


class _Member(NamedTuple):
    name: str
    size: int
    """Bytes that it says it has, unpacked."""
    kind: str
    """``file``, ``folder``, or what else it is."""
    open: Callable[[], IO[bytes] | None]


def unpack(archive: Path, folder: Path, *, limit: int) -> dict[str, str]:
    """Unpack a .zip, .tgz or .tar.gz file into an empty folder.

    Args:
        archive: the file.
        folder: where its content goes; whoever calls takes it away after an error.
        limit: bytes that the content may have.

    Returns:
        The SHA-256 of every file, by its path relative to ``folder``, with forward slashes.

    Raises:
        DataError: the archive is damaged, holds something other than plain files and folders, a name twice or one that
            leaves the folder, or more bytes than ``limit`` or than it says; or the files cannot be written.
    """
    sums: dict[str, str] = {}
    names: set[str] = set()
    left = limit
    try:
        for count, member in enumerate(_members(archive), start=1):
            path = _safe(member, archive)
            if count > MOST_MEMBERS:
                _refuse(archive, f"holds more than {MOST_MEMBERS:,} files and folders")
            if member.kind == "folder":
                folder.joinpath(*path.parts).mkdir(parents=True, exist_ok=True)
                continue
            # Names that differ in case alone are one file on some disks.
            if path.as_posix().casefold() in names:
                _refuse(archive, "holds one name twice", member.name)
            names.add(path.as_posix().casefold())
            if member.size > left:
                _refuse(archive, f"holds more than the {limit:,} bytes that there is room for", member.name)
            left -= member.size
            sums[path.as_posix()] = _write(member, folder.joinpath(*path.parts), archive)
    except OSError as error:
        if isinstance(error, gzip.BadGzipFile):
            raise _damaged(archive, error) from error
        raise DataError(
            f"cannot be unpacked: {error.strerror or error}",
            path=archive,
            hint="check permissions and free space of the folder, and unpack again",
        ) from error
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError) as error:
        raise _damaged(archive, error) from error
    if not sums:
        _refuse(archive, "holds no file")
    return sums


def _damaged(archive: Path, error: Exception) -> DataError:
    return DataError(f"the archive is damaged: {str(error) or type(error).__name__}", path=archive, hint=_HINT)


def _refuse(archive: Path, problem: str, found: str | None = None) -> NoReturn:
    raise DataError(f"the archive {problem}; nothing of it was used", path=archive, found=found, hint=_HINT)


def _safe(member: _Member, archive: Path) -> PurePosixPath:
    """The path of a member, which stays inside of the folder."""
    name = member.name
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", name) or "\\" in name or "\0" in name:
        _refuse(archive, "holds a name that could leave its folder", name)
    if member.kind not in ("file", "folder"):
        _refuse(archive, f"holds {member.kind}", name)
    if not path.parts and member.kind == "file":
        _refuse(archive, "holds a file without a name", name)
    return path


def _write(member: _Member, target: Path, archive: Path) -> str:
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    size = 0
    source = member.open()
    if source is None:
        _refuse(archive, "holds a file without content", member.name)
    with source, target.open("xb") as file:
        while chunk := source.read(_CHUNK):
            size += len(chunk)
            if size > member.size:
                break
            digest.update(chunk)
            file.write(chunk)
    if size != member.size:
        _refuse(archive, f"holds a file that is not as long as it says ({member.size:,} bytes)", member.name)
    return digest.hexdigest()


def _members(archive: Path) -> Iterator[_Member]:
    return _zip_members(archive) if archive.name.endswith(".zip") else _tar_members(archive)


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            # The high half holds the mode where the archive was made under Unix, else 0.
            form = stat.S_IFMT(info.external_attr >> 16)
            if info.flag_bits & 0x1:
                kind = "an encrypted file"
            elif form not in (0, stat.S_IFREG, stat.S_IFDIR):
                kind = "a link or a device"
            else:
                kind = (
                    "folder" if info.filename.endswith("/") else "file"
                )  # `is_dir` wants a name to have a last letter
            yield _Member(info.orig_filename, info.file_size, kind, partial(file.open, info))


def _tar_members(archive: Path) -> Iterator[_Member]:
    with _Headers(archive) as stream, tarfile.open(fileobj=stream, mode="r:") as file:
        for info in file:
            if info.issym() or info.islnk():
                kind = "a link"
            elif info.isdir():
                kind = "folder"
            else:
                kind = "file" if info.isreg() else "a device or a pipe"
            yield _Member(info.name, info.size, kind, partial(file.extractfile, info))


class _Headers(gzip.GzipFile):
    """Reads no more at a time than a file's content needs: `tarfile` reads a header as long as it says it is."""

    def __init__(self, archive: Path) -> None:
        super().__init__(archive, "rb")

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= 2 * _CHUNK:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return super().read(size)
