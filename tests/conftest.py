"""What every test may rely on: no hub, no ambient data, one quiet thread, draws that can be repeated."""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

# Before anything imports torch or a library of the hub.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

# A job in a shell's background ignores Ctrl-C, and so does all that it starts; tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Under CI the same examples every time; elsewhere new ones, to find what nobody thought of. No deadlines: the first
# call of a function may import torch.
settings.register_profile("ci", deadline=None, derandomize=True)
settings.register_profile("local", deadline=None)
# For hours, not seconds: pytest --hypothesis-profile=deep tests/unit -k fuzz
settings.register_profile("deep", deadline=None, max_examples=5_000)
settings.load_profile("ci" if os.environ.get("CI") else "local")

NAMED_DATA = os.environ.get("CRINGE_DATA")


@pytest.fixture(scope="session", autouse=True)
def _no_ambient_data() -> Iterator[None]:
    """Hides ``$CRINGE_DATA``: a test that wants real data asks for ``real_data``; no other depends on the machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CRINGE_DATA", raising=False)
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; where ``$CRINGE_DATA`` names none, the test is skipped."""
    if not NAMED_DATA:
        pytest.skip("needs real data: set CRINGE_DATA to a folder that holds ConvAI2/, decode/, …")
    folder = Path(NAMED_DATA).expanduser().resolve()
    if not folder.is_dir():
        pytest.fail(f"CRINGE_DATA={NAMED_DATA} is not a folder", pytrace=False)
    return folder


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """A test's name holds no bytes: those of an archive hold the time, and the processes of one run must agree."""
    return argname if isinstance(val, bytes) else None


FAULTS: dict[str, Counter[str]] = {}
"""Faults by kind: how many were tried, survived and refused, told by ``tests/integration/faults`` (its conftest.py)."""


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collects the faults that a test tried, from whatever process ran it."""
    for name, value in report.user_properties if report.when == "teardown" else ():
        if name == "fault":
            kind, what, count = value
            FAULTS.setdefault(kind, Counter())[what] += count


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of `results/README.md`: what became of the faults that were tried."""
    if not FAULTS:
        return
    terminalreporter.section("faults")
    lines = ["| fault | tried | survived, byte for byte | clearly refused | lost |", "|---|---:|---:|---:|---:|"]
    total = sum(FAULTS.values(), Counter())
    for kind, counts in [*sorted(FAULTS.items()), ("all", total)]:
        tried, survived, refused = (counts[what] for what in ("tried", "survived", "refused"))
        lines.append(f"| {kind} | {tried} | {survived} | {refused} | {tried - survived - refused} |")
    terminalreporter.write_line("\n".join(lines))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever asks for ``real_data`` is marked ``realdata``, so that ``-m realdata`` finds it."""
    for item in items:
        if "real_data" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.realdata)
