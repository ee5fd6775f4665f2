"""Stages on a Ray cluster: two nodes of one machine, one of them killed; real stages, very small."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import benchmarks
from benchmarks.runner import SCRATCH, damage
from benchmarks.tasks import synthetic
from cringe.processes import host

pytest.importorskip("ray")

# Its two warm-ups take some seconds each and can be done side by side: one on each node.
MICRO = """\
seeds: [0]
threads: 1
prompts: 4
backbone:
  {kind: scratch, vocabulary: 320, width: 16, encoder_layers: 1, decoder_layers: 1, heads: 2, feedforward: 16,
   max_source: 24, max_target: 16}
warmup: {updates: 150, batch_size: 8, learning_rate: 0.01, warmup_updates: 2}
training: {updates: 4, batch_size: 8, learning_rate: 0.02, warmup_updates: 2}
decoding:
  nucleus: {strategy: nucleus, top_p: 0.9, max_new_tokens: 6}
judge: {kind: linear}
guide: {epochs: 1, width: 16, heads: 2, feedforward: 16}
"""
OBJECT_STORE_BYTES = 80 * 2**20
"""Of each node; Ray takes no less than 75 MiB."""
WARM_UPS = ("decode-warmup-", "decode-reference-")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray")
    (folder / "micro.yaml").write_text(MICRO, encoding="utf-8")
    synthetic.write_convai2(folder / "data", seed=0, train_dialogues=30, valid_dialogues=5)
    synthetic.write_decode(folder / "data", seed=0, train=80, dev=20, test=20)
    return folder


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> str:
    """What the local executor prints."""
    process = start(folder, "local")
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    return out


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Two nodes with one CPU each."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    # As Ray's own tests have it: half a minute until a lost node is missed would add nothing here.
    quick = {"health_check_period_ms": 500, "health_check_failure_threshold": 4}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "_system_config": quick})
    try:
        cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE_BYTES)
        yield cluster
    finally:
        cluster.shutdown()


def start(folder: Path, out: str, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "benchmarks.run", "--task", "decode", "--methods", "transformer", "--device"),
            *("cpu", "--preset", "micro.yaml", "--data", "data", "--out", out, *options),
        ],
        env=os.environ | {"PYTHONPATH": str(Path(benchmarks.__file__).parents[1])},
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


def outputs(results: Path) -> dict[str, bytes]:
    names = {"predictions.jsonl", "scores.csv", "replies.jsonl", "report.json", "model.safetensors", "tokenizer.json"}
    return {
        path.relative_to(results).as_posix(): path.read_bytes()
        for path in results.rglob("*")
        if path.is_file() and (path.name in names or path.parent.parent.name == "tables")
    }


def test_a_node_that_is_killed_changes_nothing(folder: Path, undisturbed: str, cluster: Any) -> None:
    results = folder / "cluster"
    (node,) = cluster.worker_nodes
    (raylet,) = (process.process.pid for process in node.all_processes["raylet"])
    command = start(folder, "cluster", "--executor", "ray", "--ray-address", cluster.address)

    def there() -> dict[int, str]:
        return {
            pid: stage for pid, stage in at_work(results).items() if pid in below(raylet) and stage.startswith(WARM_UPS)
        }

    eventually(there)
    time.sleep(0.5)
    lost = there()
    assert lost, "the kill must meet a stage at work"
    for pid in (raylet, *below(raylet)):
        os.kill(pid, signal.SIGKILL)
    out, err = command.communicate(timeout=400)
    assert command.returncode == 0, err
    assert out == undisturbed, "the table, and no word of Ray's"
    (label,) = {stage.rpartition("-")[0] for stage in lost.values()}
    assert f"{label}: its worker was lost; begun again on machine " in err
    assert "raylet" not in err
    assert outputs(results) == outputs(folder / "local")
    assert not any(damage(done.parent) for done in results.glob("*/DONE"))
    assert set(at_work(results)) == set(lost), "half of a stage is left"

    again = start(folder, "cluster", "--executor", "ray", "--ray-address", cluster.address, "--force")
    eventually(lambda: at_work(results))
    (worker,) = at_work(results)
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
