"""Files of a finished run that are changed, cut off or deleted: noticed by hash, named, and done again on request."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import compare, export, publish, report
from benchmarks.runner import damage
from tests.integration.faults.conftest import Faults
from tests.integration.faults.scene import UPDATES, Scene, assert_same, remove, stages

SEED = 7


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[random.Random(f"{SEED} {path.name}").randrange(len(content))] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


HARM: dict[str, Callable[[Path], None]] = {"flipped": flip, "cut": cut, "deleted": Path.unlink}


@pytest.mark.parametrize("how", HARM)
def test_every_file_of_every_directory(how: str, results: Path, faults: Faults) -> None:
    """Each in turn, and each is the only one that is named."""
    for folder in [*stages(results).values(), *(results / "tables").iterdir()]:
        for path in [path for path in sorted(folder.rglob("*")) if path.is_file()]:
            name = path.relative_to(folder).as_posix()
            content = path.read_bytes()
            if not content and how != "deleted":
                continue  # there is nothing to change
            faults.tried(f"file {how}")
            HARM[how](path)
            found = damage(folder)
            # A changed DONE that can still be read names the file whose entry was changed.
            assert found == [name] or (name == "DONE" and len(found) == 1), (folder, name)
            path.write_bytes(content)
            assert damage(folder) == []
            faults.refused(f"file {how}")


READ = {
    "scores": ("decode-cringe-s0-scores", ["scores.csv", "ledger.json", "corpus.json", "DONE"]),
    "judge": ("decode-judge", ["report.json"]),
    "references": ("decode-references", ["counts.json"]),
    "table": ("", ["manifest.json", "decode-micro.csv", "DONE"]),
}
CASES = [(what, name) for what, (_, names) in READ.items() for name in names]


@pytest.mark.parametrize(("what", "name"), CASES)
def test_commands_that_read_name_it(
    what: str, name: str, results: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A report is made without it, or not at all; nothing is published; a comparison says what it lacks."""
    label, _ = READ[what]
    folder = stages(results)[label] if label else next((results / "tables").iterdir())
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    out = str(tmp_path / "out")
    for command, arguments in (
        (report.main, [str(results), "--out", out]),
        (publish.main, [str(results), "--out", out]),
        (compare.main, [str(results), str(results), "--samples", "0"]),
    ):
        code = command(arguments)
        said = capsys.readouterr()
        assert name in said.err, (command, said.err)
        assert "Traceback" not in said.err
        assert code or command is not publish.main
    assert not (tmp_path / "out" / "tables").exists()


def test_a_table_is_written_again(scene: Scene, results: Path, undisturbed: Path, faults: Faults) -> None:
    """By the same command, which says so; a file that nobody knows is left alone."""
    (folder,) = (results / "tables").iterdir()
    for name in sorted(path.name for path in folder.iterdir()):
        for harm in HARM.values():
            faults.tried("file of a table harmed")
            harm(folder / name)
            ended = scene.run_here(results)
            said = ended.err
            assert ended.code == 0, said
            assert f"note: {folder}: " in said
            assert "written again" in said
            assert name in said or name == "DONE"
            assert_same(results, undisturbed)
            faults.survived("file of a table harmed")


def test_a_model_that_is_damaged_is_not_exported(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = stages(results)["decode-transformer-s0-train"]
    flip(folder / "model.safetensors")
    assert export.main([str(folder), str(results / "model")]) == 1
    assert "model.safetensors missing or not what it was" in capsys.readouterr().err


def test_what_is_damaged_is_done_again_on_request(
    scene: Scene, results: Path, undisturbed: Path, faults: Faults
) -> None:
    """That alone: what was made from it is what would be made from it again."""
    labels = ["decode-judge", "decode-references-scores", "decode-transformer-s0-train"]
    for label, harm in zip(labels, HARM.values(), strict=True):
        folder = stages(results)[label]
        files = sorted(path for path in folder.iterdir() if path.is_file() and path.stat().st_size)
        harm(random.Random(f"{SEED} {label}").choice(files))
        faults.tried("directory damaged")
    refused = scene.run_here(results)
    assert (refused.code, refused.out) == (1, "")
    assert all(f"  {stages(results)[label].name}: " in refused.err for label in labels)
    assert "the same command with --repair does these again" in refused.err
    assert not refused.started
    repaired = scene.run_here(results, "--repair")
    assert repaired.code == 0, repaired.err
    assert sorted(repaired.started) == labels
    assert_same(results, undisturbed)
    faults.survived("directory damaged", len(labels))


def test_what_helps_an_unfinished_training_is_damaged(
    scene: Scene, results: Path, undisturbed: Path, faults: Faults
) -> None:
    """Its tokens, and its state: in the second of two rounds, which goes on from the first and not from nothing."""
    remove(results, ["decode-cringe-s0-round2"])
    rule = {"at": "cringe.trainer:Trainer.step", "call": UPDATES // 4, "do": "KILL", "to": "self"}
    assert scene.run_here(results, rules=[rule], settings=["always_save"]).fired
    (state,) = (results / ".resume").iterdir()
    flip(state)
    faults.tried("state of a training harmed")
    for path in (results / ".tokens").iterdir():
        cut(path)
    faults.tried("tokenised data harmed")
    ended = scene.run_here(results)
    assert ended.code == 0, ended.err
    assert f"the training state {state} is damaged" in ended.err
    assert "the training begins again" in ended.err
    assert_same(results, undisturbed)
    faults.survived("state of a training harmed")
    faults.survived("tokenised data harmed")
