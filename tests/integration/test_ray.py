"""Stages on a Ray cluster: two nodes of one machine, one of them killed; real stages, very small."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import benchmarks
from benchmarks.executors.pool import variables
from benchmarks.runner import SCRATCH, damage
from benchmarks.tasks import synthetic
from cringe.processes import host
from tests.integration.micro import outputs, preset

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray")

# Its two warm-ups take some seconds each and can be done side by side: one on each node.
MICRO = preset(updates=4, warmup=150, prompts=4, decoding=["nucleus"])
OBJECT_STORE_BYTES = 80 * 2**20
"""Of each node; Ray takes no less than 75 MiB."""
ENVIRONMENT = os.environ | {
    "PYTHONPATH": str(Path(benchmarks.__file__).parents[1]),
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
}
WARM_UPS = ("decode-warmup-", "decode-reference-")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray")
    (folder / "micro.yaml").write_text(MICRO, encoding="utf-8")
    synthetic.write_convai2(folder / "data", seed=0, train_dialogues=30, valid_dialogues=5)
    synthetic.write_decode(folder / "data", seed=0, train=80, dev=20, test=20)
    return folder


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The command with the local executor; it runs while Ray comes up."""
    process = start(folder, "local")
    yield process
    process.kill()
    process.wait()


class Node(NamedTuple):
    """A node of a cluster, and the process that ends it."""

    process: subprocess.Popen[str]
    raylet: int


@pytest.fixture
def cluster(undisturbed: object) -> Iterator[tuple[str, Node]]:
    """The address of two nodes with one CPU each, and the second, which can be done without."""
    with ExitStack() as nodes:
        # As Ray's own tests have it: half a minute until a lost node is missed would add nothing here.
        quick = {"health_check_period_ms": 500, "health_check_failure_threshold": 4}
        head = ["--head", f"--port={(port := free_port())}", "--include-dashboard=false"]
        node(nodes, *head, f"--system-config={json.dumps(quick)}")
        eventually(lambda: listens(port))
        yield f"127.0.0.1:{port}", node(nodes, f"--address=127.0.0.1:{port}")


def node(nodes: ExitStack, *options: str) -> Node:
    ray = Path(sys.executable).with_name("ray")
    small = [*("--num-cpus=1", f"--object-store-memory={OBJECT_STORE_BYTES}"), "--disable-usage-stats", "--block"]
    process = subprocess.Popen(
        [str(ray), "start", "--node-ip-address=127.0.0.1", *options, *small],
        # The machines may have been told otherwise than the command; its workers have what the command wants.
        env=ENVIRONMENT | {"OMP_NUM_THREADS": "3", "CUBLAS_WORKSPACE_CONFIG": ":16:8"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    nodes.callback(end, process)
    return Node(process, eventually(lambda: next((pid for pid in below(process.pid) if is_raylet(pid)), None)))


def end(process: subprocess.Popen[str]) -> None:
    everything = below(process.pid)
    process.terminate()
    try:
        process.wait(timeout=30)
    finally:
        for pid in everything:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def is_raylet(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].endswith(b"/raylet")
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def start(folder: Path, out: str, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "benchmarks.run", "--task", "decode", "--methods", "transformer", "--device"),
            *("cpu", "--preset", "micro.yaml", "--data", "data", "--out", out, *options),
        ],
        env=ENVIRONMENT,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def parent(pid: int) -> int | None:
    """None of a process that is no more or only waits to be reaped."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[:2]
    except (OSError, IndexError):
        return None
    return None if state in "ZX" else int(parent)


def below(pid: int) -> set[int]:
    parents = {int(path.name): parent(int(path.name)) for path in Path("/proc").glob("[0-9]*")}
    found, new = set[int](), {pid}
    while new:
        new = {child for child, of in parents.items() if of in new} - found
        found |= new
    return found


def eventually(look: Callable[[], Any], *, within: float = 120) -> Any:
    limit = time.monotonic() + within
    while not (found := look()):
        assert time.monotonic() < limit, "did not happen in time"
        time.sleep(0.05)
    return found


def at_work(results: Path) -> dict[int, str]:
    """The stage that each process is at, by what it is writing."""
    names = [path.name for path in (results / SCRATCH).glob(f"decode-*.{host()}-*")]
    return {int(name.rpartition(".")[2].split("-")[1]): name.rpartition(".")[0] for name in names}


def test_a_node_that_is_killed_changes_nothing(
    folder: Path, undisturbed: subprocess.Popen[str], cluster: tuple[str, Node]
) -> None:
    results, (address, (process, raylet)) = folder / "cluster", cluster
    command = start(folder, "cluster", "--executor", "ray", "--ray-address", address)

    def there() -> dict[int, str]:
        """Trainings at work on the second node."""
        inside = below(raylet)
        return {pid: stage for pid, stage in at_work(results).items() if pid in inside and stage.startswith(WARM_UPS)}

    eventually(there)
    time.sleep(0.5)
    lost = there()
    assert lost, "the kill must meet a stage at work"
    for pid in (process.pid, raylet, *below(process.pid), *below(raylet)):
        os.kill(pid, signal.SIGKILL)
    out, err = command.communicate(timeout=400)
    assert command.returncode == 0, err
    wanted, wrong = undisturbed.communicate(timeout=400)
    assert undisturbed.returncode == 0, wrong
    assert out == wanted, "the table, and no word of Ray's"
    (label,) = {stage.rpartition("-")[0] for stage in lost.values()}
    assert f"{label}: its worker was lost; begun again on machine " in err
    assert "raylet" not in err
    assert outputs(results) == outputs(folder / "local")
    assert not any(damage(done.parent) for done in results.glob("*/DONE"))
    assert not at_work(results), "half of a stage was left, and swept at the end"

    again = start(folder, "cluster", "--executor", "ray", "--ray-address", address, "--force")
    eventually(lambda: set(at_work(results)) - set(lost))
    (worker,) = at_work(results)
    environment = Path(f"/proc/{worker}/environ").read_text().split("\0")
    assert {f"{name}={value}" for name, value in variables(1).items()} <= set(environment)
    again.kill()
    again.communicate()
    eventually(lambda: parent(worker) is None, within=30)


def test_ctrl_c_ends_a_ray_that_was_started(folder: Path) -> None:
    results = folder / "interrupted"
    command = start(folder, "interrupted", "--executor", "ray", "--jobs", "1")
    try:
        eventually(lambda: at_work(results))
        processes = below(command.pid)
        assert set(at_work(results)) <= processes
        command.send_signal(signal.SIGINT)
        _, err = command.communicate(timeout=60)
    finally:
        command.kill()
    assert command.returncode == 130, err
    assert err.endswith("interrupted; the same command goes on from here\n")
    eventually(lambda: not [pid for pid in processes if parent(pid)], within=30)
