"""Files that are whole or absent, locks that end with their process, and claims on stages."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import benchmarks
from benchmarks.claims import FOLDER, Claims
from benchmarks.ending import exit_code
from benchmarks.locks import alone, lock, try_lock, unlock
from benchmarks.runner import damage
from benchmarks.writing import DONE, write_folder, write_whole

# Files


def test_a_file_is_replaced_when_it_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last thing that happens is that it gets its name; until then what was there is there."""
    path = tmp_path / "new" / "file.txt"
    write_whole(path, "old")
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(path.read_text()))
    write_whole(path, b"new")
    assert (path.read_text(), synced) == ("new", ["old"])
    assert list(path.parent.iterdir()) == [path]


def test_equal_bytes_are_left_alone(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", "text")
    before = (tmp_path / "file").stat()
    write_whole(tmp_path / "file", "text")
    assert (tmp_path / "file").stat() == before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_refuses(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the file, and what was there stays."""
    path = tmp_path / "file"
    write_whole(path, "old")

    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        write_whole(path, "new")
    assert caught.value.filename == str(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / ".file.unfinished").write_text("a longer text that was never finished")
    write_whole(tmp_path / "file", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "text"


def test_a_link_that_was_laid_down_leads_nowhere(tmp_path: Path) -> None:
    """Results that somebody else packed may hold one in the place of an unfinished file, or of a lock."""
    (others := tmp_path / "others").write_text("precious")
    folder = tmp_path / "results"
    folder.mkdir()
    for target in (others, Path("nowhere")):
        (folder / ".file.unfinished").symlink_to(target)
        write_whole(folder / "file", f"text {target}")
        assert (folder / "file").read_text() == f"text {target}"
        assert not (folder / "file").is_symlink()
    assert others.read_text() == "precious"
    assert [path.name for path in folder.iterdir()] == ["file"]


def test_what_an_earlier_table_held_is_never_nested_too_deeply(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": "a"})
    (tmp_path / DONE).write_text("[" * 200_000)
    assert write_folder(tmp_path, {"a": "a"}) == [DONE]
    assert damage(tmp_path) == []


def test_many_write_one_file(tmp_path: Path) -> None:
    texts = [str(number) * 50_000 for number in range(8)]
    threads = [threading.Thread(target=write_whole, args=(tmp_path / "file", text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "file").read_text() in texts
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_with_its_hashes(tmp_path: Path) -> None:
    folder = tmp_path / "table"
    assert write_folder(folder, {"a.md": "a", "b.csv": "b"}) == []
    assert {path.name for path in folder.iterdir()} == {"a.md", "b.csv", DONE}
    assert damage(folder) == []
    (folder / "a.md").write_text("other")
    (folder / "note.txt").write_text("of somebody")
    assert write_folder(folder, {"a.md": "a", "b.csv": "b"}) == ["a.md"]
    assert write_folder(folder, {"a.md": "a", "b.csv": "b"}) == []
    (folder / DONE).unlink()
    assert write_folder(folder, {"a.md": "a", "b.csv": "b"}) == [DONE]


def test_files_of_an_earlier_table_do_not_stay(tmp_path: Path) -> None:
    """Those that `DONE` names; what somebody else put there does, and nothing outside of the folder is touched."""
    folder = tmp_path / "table"
    write_folder(folder, {"a.md": "a", "b.csv": "b"})
    (tmp_path / "outside").write_text("")
    (folder / "note.txt").write_text("of somebody")
    done = (folder / DONE).read_text().replace("{", '{"../outside": "0",', 1)
    (folder / DONE).write_text(done)
    write_folder(folder, {"a.md": "new"})
    assert {path.name for path in folder.iterdir()} == {"a.md", "note.txt", DONE}
    assert (tmp_path / "outside").exists()


# Locks


def holding(path: Path) -> subprocess.Popen[str]:
    """A process that holds a lock until it is killed."""
    code = "import sys, time; from benchmarks.locks import lock; from pathlib import Path; lock(Path(sys.argv[1])); "
    process = subprocess.Popen(
        [sys.executable, "-c", code + "print('held', flush=True); time.sleep(100)", str(path)],
        env=os.environ | {"PYTHONPATH": str(Path(benchmarks.__file__).parents[1])},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "lock"
    with holding(path) as other:
        assert try_lock(path) is None
        other.kill()
        other.wait()
        descriptor = lock(path)
    assert try_lock(path) is None
    unlock(path, descriptor)
    assert not path.exists()


def test_a_deleted_lock_is_no_lock(tmp_path: Path) -> None:
    """Whoever waited for it until it was deleted must not hold a file that nobody else can see."""
    path, order = tmp_path / "lock", []
    first = lock(path)

    def wait() -> None:
        with alone(path):
            order.append(try_lock(path))

    thread = threading.Thread(target=wait)
    thread.start()
    while not order and thread.is_alive() and path.exists():
        unlock(path, first)
    thread.join(10)
    assert order == [None]
    assert not path.exists()


def test_where_there_are_no_locks_nobody_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def refuse(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    first, second = try_lock(tmp_path / "lock"), try_lock(tmp_path / "lock")
    assert first is not None
    assert second is not None
    for descriptor in (first, second):
        unlock(tmp_path / "lock", descriptor)


# Claims


def test_a_stage_is_claimed_once(tmp_path: Path) -> None:
    with Claims(tmp_path) as first, Claims(tmp_path) as second:
        assert first.take("a")
        assert not second.take("a")
        assert second.take("b")
        first.release("a")
        assert second.take("a")
    assert not list((tmp_path / FOLDER).iterdir())


def test_claims_of_a_killed_command_are_free_and_swept(tmp_path: Path) -> None:
    with holding(tmp_path / FOLDER / "a") as killed, holding(tmp_path / FOLDER / "b") as living:
        killed.kill()
        killed.wait()
        with Claims(tmp_path) as claims:
            assert [path.name for path in (tmp_path / FOLDER).iterdir()] == ["b"]
            assert not claims.take("b")
            assert claims.take("a")
        living.kill()


# Signals


@pytest.mark.parametrize(("number", "word"), [(signal.SIGTERM, "terminated"), (signal.SIGINT, "interrupted")])
def test_signals_end_a_command_with_a_sentence(
    number: signal.Signals, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    closed = []

    def command() -> int:
        try:
            signal.raise_signal(number)
            time.sleep(10)
        except Exception:  # noqa: BLE001 - what swallows errors must not swallow this
            return 0
        finally:
            closed.append(True)
        return 0

    assert exit_code(command) == 128 + number
    assert capsys.readouterr().err == f"{word}; the same command goes on from here\n"
    assert closed
    assert signal.getsignal(signal.SIGTERM) is before


def test_in_another_thread_signals_are_left_alone() -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(exit_code(lambda: 3)))
    thread.start()
    thread.join()
    assert codes == [3]


# What stops a command otherwise


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENAMETOOLONG, "File name too long", "a\x1bb"), r"error: a\x1bb: File name too long"),
        (OSError("the network is gone"), "error: the network is gone"),
        (MemoryError(), "error: out of memory"),
    ],
)
def test_what_the_system_refuses_ends_a_command_with_a_sentence(
    error: Exception, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> int:
        raise error

    assert exit_code(command) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first == said
    assert second.startswith("  next step: ")


def test_a_terminal_without_a_character_gets_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii", write_through=True))

    def command() -> int:
        print("Σ é")
        return 0

    assert exit_code(command) == 0
    assert written.getvalue() == rb"\u03a3 \xe9" + b"\n"
