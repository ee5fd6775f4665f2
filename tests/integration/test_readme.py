"""The README is run: its two commands stand at the top, and every example of the command line works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from benchmarks import run

README = Path(__file__).parents[2] / "README.md"
TEXT = README.read_text(encoding="utf-8")
BLOCKS = [block.strip("\n") for block in re.findall(r"^```[a-z]*\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)]
COMMAND = re.compile(r"python3? -m benchmarks\.run\b([^\n`&|;#]*)")


def examples() -> list[str]:
    """What follows ``python -m benchmarks.run`` wherever it is written with options, each once."""
    text = TEXT.replace("\\\n", " ")
    found = [" ".join(arguments.split()) for arguments in COMMAND.findall(text)]
    return list(dict.fromkeys(arguments for arguments in found if arguments))


def test_two_commands_open_the_readme_one_line_each() -> None:
    first, second = BLOCKS[:2]
    assert "\n" not in first + second
    assert re.match(r"# [^\n]+\n\n```[a-z]*\n[^\n]+\n```\n\n```[a-z]*\n[^\n]+\n```\n", TEXT), (
        "they come before any text"
    )
    assert "-c constraints.txt" in first
    assert first.endswith("-m benchmarks.run --task decode --methods all")
    assert "-c constraints.txt tox" in second
    assert second.endswith("tox")
    for command in (first, second):
        assert command.startswith("python3 -m venv "), "a fresh machine has nothing else"


def test_ci_runs_the_second_command() -> None:
    script = README.parent / ".ci" / "run"
    if not script.exists():
        pytest.skip("no .ci/run beside the README")
    assert BLOCKS[1] in script.read_text(encoding="utf-8")


def test_there_are_examples() -> None:
    assert "--task decode --methods all" in examples()


@pytest.mark.parametrize("arguments", examples())
def test_every_example_can_be_run(
    arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Planned on generated data, whatever data the example names; nothing is trained."""
    monkeypatch.chdir(tmp_path)
    words = shlex.split(arguments)
    instead = [] if {"--list", "--check"} & set(words) else ["--dry-run"]
    code = run.main([*words, *instead, "--data", "synthetic", "--device", "cpu", "--out", str(tmp_path / "runs")])
    said = capsys.readouterr()
    assert code == 0, said.err
    assert said.out
    assert not (tmp_path / "runs").exists()
