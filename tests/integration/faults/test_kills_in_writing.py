"""Commands that are killed while they write tables, reports, published results and models: all is whole or absent."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from tests.integration.faults.conftest import Faults
from tests.integration.faults.scene import CODES, Scene, contents, stages
from tests.integration.faults.test_kills_in_stages import SEED, STAGES

WRITING = "benchmarks.writing:write_whole"
TABLES = {
    "run: the first file of a table": ("run", "KILL", {"at": WRITING, "call": 1}),
    "run: between two files": ("run", "TERM", {"at": WRITING, "call": 3}),
    "run: before a file gets its name": ("run", "KILL", {"at": "file", "match": r"^os.rename .*\.json", "call": 1}),
    "run: before the manifest": ("run", "KILL", {"at": WRITING, "call": 4}),
    "run: before the hashes": ("run", "TERM", {"at": WRITING, "call": 5}),
    "run: the hashes": ("run", "KILL", {"at": "file", "match": r"^os.rename .*/DONE$"}),
    "run: while it counts": ("run", "INT", {"at": "benchmarks.tables:build_table"}),
    "score: between two files": ("score", "KILL", {"at": WRITING, "call": 3}),
    "score: the first file of a table": ("score", "TERM", {"at": WRITING, "call": 1}),
    "report: while it draws": ("report", "TERM", {"at": "benchmarks.plots:draw"}),
    "report: a plot": ("report", "KILL", {"at": "file", "match": r"^open .*\.svg\.unfinished", "call": 2}),
    "report: the page": ("report", "KILL", {"at": "file", "match": r"^os.rename .*/index\.html"}),
    "report: interrupted": ("report", "INT", {"at": WRITING, "call": 4}),
    "compare: what it says": ("compare", "KILL", {"at": "file", "match": r"^os.rename .*\.json$"}),
    "compare: before its file gets its name": (
        "compare",
        "TERM",
        {"at": "file", "match": r"^os.rename .*\.json$"},
    ),
    "publish: scores": ("publish", "KILL", {"at": "file", "match": r"^open .*/scores\.csv", "call": 2}),
    "publish: taking its place": (
        "publish",
        "TERM",
        {"at": "file", "match": r"^os.rename .*/\.unfinished/", "call": 2},
    ),
    "publish: the table at last": ("publish", "KILL", {"at": "file", "match": r"^os.rename .*/\.unfinished/tables"}),
    "export: the card": ("export", "KILL", {"at": "file", "match": r"^open .*/README\.md"}),
    "export: taking its place": ("export", "TERM", {"at": "file", "match": r"^os.rename .*\.unfinished ", "call": 1}),
}


@pytest.mark.parametrize("name", TABLES)
def test_while_results_are_written(
    name: str, scene: Scene, results: Path, tmp_path: Path, faults: Faults, made: dict[str, Path]
) -> None:
    """What has its name is whole, whether nothing was there before or it takes the place of something."""
    what, signal, point = TABLES[name]
    arguments, out = writing(what, scene, results, tmp_path / "out" / "it")
    if what in made and what != "score":  # whose table names the place of the replies
        shutil.copytree(made[what], out, dirs_exist_ok=True)
    else:
        assert scene.here(*arguments).code == 0
        made[what] = tmp_path / "made"
        shutil.copytree(out, made[what])
    expected = contents(out)
    faults.tried(f"SIG{signal} while {what} writes")
    old = age(what, out, random.Random(f"{SEED} {name}"))
    ended = scene.command(*arguments, rules=[point | {"do": signal}])
    assert (ended.code, ended.fired) == (CODES[signal], {0}), ended.err
    assert ("the same command" in ended.err) == (signal != "KILL")
    # A file that has its name is whole.
    torn = {file for file, found in visible(out).items() if found not in (expected.get(file), old.get(file))}
    assert not torn
    assert scene.here(*arguments).code == 0
    assert contents(out) == expected
    assert not list(out.parent.glob(f".{out.name}*"))
    faults.survived(f"SIG{signal} while {what} writes")


@pytest.fixture(scope="module")
def made() -> dict[str, Path]:
    """By command, what it writes when nothing happens to it."""
    return {}


def writing(what: str, scene: Scene, results: Path, out: Path) -> tuple[tuple[str, ...], Path]:
    """A command, and the folder that it writes to."""
    if what == "run":
        return scene.run_arguments(results), results / "tables"
    if what == "compare":
        return ("benchmarks.compare", str(results), str(results), "--json", str(out / "said.json")), out
    if what == "score":
        replies = stages(results)["decode-transformer-s0-scores"] / "predictions.jsonl"
        same = ("--task", "decode", "--preset", "micro.yaml", "--data", "data", "--device", "cpu", "--jobs", "1")
        command = ("benchmarks.score", str(replies), *same, "--decoding", "beam", "--name", "given")
        return (*command, "--out", str(results)), results / "tables"
    if what == "export":
        return ("benchmarks.export", str(stages(results)["decode-transformer-s0-train"]), str(out)), out
    return (f"benchmarks.{what}", str(results), "--out", str(out)), out


def age(what: str, out: Path, draws: random.Random) -> dict[str, bytes]:
    """Let there be nothing, or older files, which are to be written anew; returns these."""
    if what in ("publish", "export"):  # always write everything anew
        return {}
    if what != "score" and draws.random() < 0.5:
        shutil.rmtree(out)
        return {}
    for path in out.rglob("*"):
        if path.is_file() and (what != "score" or "given" in path.parent.name):
            path.write_bytes(path.read_bytes() + b"old")
    return contents(out)


def visible(folder: Path) -> dict[str, bytes]:
    """Files but for those of hidden folders and names: what is in the making."""
    if not folder.exists():
        return {}
    return {name: found for name, found in contents(folder).items() if not any(map(is_hidden, name.split("/")))}


def is_hidden(part: str) -> bool:
    return part.startswith(".")


def test_thirty_are_sigkill_or_sigterm() -> None:
    signals = [kill.signal for kill in STAGES] + [signal for _, signal, _ in TABLES.values()]
    assert sum(signal in ("KILL", "TERM") for signal in signals) >= 30
