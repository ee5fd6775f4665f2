"""``--executor ray`` without a cluster: what is refused and how, what a machine must have, what a stage asks for."""

from __future__ import annotations

import io
import os
import socket
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import run
from benchmarks.carry_out import device_kind
from benchmarks.config import resolve
from benchmarks.errors import UsageError
from benchmarks.executors import ray_address, ray_cluster, ray_worker
from benchmarks.executors.ray_address import require_reachable
from benchmarks.executors.ray_cluster import RETRIES, Cluster, Need
from benchmarks.executors.ray_pool import RayPool, _by_value
from benchmarks.executors.ray_worker import Command, appears, complaint, source, versions
from benchmarks.progress import Message, Reporter

COMMAND = ("--task", "decode", "--methods", "transformer", "--data", "synthetic", "--executor", "ray")


@pytest.fixture(autouse=True)
def _environment_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray is told some things by the environment; they shall not outlive the test."""
    for name in (
        *("RAY_USAGE_STATS_ENABLED", "RAY_DEDUP_LOGS_SKIP_REGEX", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"),
        *("RAY_task_oom_retries", "RAY_NUM_REDIS_GET_RETRIES", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"),
    ):
        monkeypatch.setenv(name, "1")
        monkeypatch.delenv(name)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    def call(*words: str) -> tuple[int, str, str]:
        code = run.main([*COMMAND, "--out", str(tmp_path / "runs"), *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


Call = Callable[..., tuple[int, str, str]]


# The command line


def test_without_ray_the_line_that_installs_it_is_said(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    for more in ((), ("--check",), ("--dry-run",)):
        code, _, err = call(*more)
        assert code == 2
        assert "Ray is not installed" in err
        assert "pip install -c constraints.txt 'cringe-benchmarks[ray]'" in err


def test_an_address_needs_the_executor(call: Call) -> None:
    code, _, err = call("--executor", "local", "--ray-address", "auto")
    assert code == 2
    assert "--ray-address auto: needs --executor ray" in err


def test_a_dry_run_starts_nothing(call: Call, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    code, out, _ = call("--dry-run", "--ray-address", "127.0.0.1:1", "--device", "cpu")
    assert code == 0
    assert "to do  decode-warmup" in out
    code, out, _ = call("--check")
    assert code == 0
    assert "ray: ok; one of this machine alone is started when the run begins" in out
    assert not (tmp_path / "runs").exists()


def test_a_stage_of_many_processes_finds_room_on_one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it does among processes of this machine, however few cores that has."""
    pytest.importorskip("ray")
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    made: list[int] = []
    monkeypatch.setattr(ray_cluster, "Cluster", lambda address, *, threads, cpus: made.append(cpus))
    configs = [
        resolve(task="decode", method_names=["transformer"], preset="tiny", overrides=overrides)
        for overrides in (("threads=2",), ("threads=2", "processes=3"))
    ]
    for jobs in (None, 4):
        run._cluster(Namespace(executor="ray", ray_address=None, jobs=jobs), configs)
    run._cluster(Namespace(executor="ray", ray_address=None, jobs=None), configs[:1])
    assert made == [6, 24, 2]


def test_what_is_damaged_is_not_said_to_be_done(call: Call, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    _, out, _ = call("--dry-run", "--device", "cpu")
    name = out.splitlines()[-1].split()[-1]
    (tmp_path / "runs" / name).mkdir(parents=True)
    code, out, _ = call("--dry-run", "--device", "cpu")
    assert code == 0
    assert f"damaged {name}" in out
    assert "next step: the same command with --repair does these again" in out
    assert f"to do  {name}" in call("--dry-run", "--device", "cpu", "--repair")[1]
    assert f"to do  {name}" in call("--dry-run", "--device", "cpu", "--force")[1]


@pytest.mark.parametrize("more", [("--check", "--device", "cpu"), ("--dry-run", "--device", "auto"), ()])
def test_where_nobody_answers_it_is_said_soon(more: tuple[str, ...], call: Call, tmp_path: Path) -> None:
    """A dry run needs the cluster to know whether it has GPUs, for the kind of device is in every key."""
    pytest.importorskip("ray")
    begun = time.monotonic()
    code, _, err = call("--ray-address", "127.0.0.1:1", *more)
    assert code == 2
    assert "no Ray cluster answers at 127.0.0.1:1: " in err
    assert "next step: start its head with `ray start --head --port=6379`" in err
    assert time.monotonic() - begun < 60
    assert not list((tmp_path / "runs").glob("decode-*"))


@pytest.mark.parametrize("address", ["", "nonsense", "host:", ":6379", "host:x", "host:123456", "a b:1", "host:٣"])
def test_what_is_no_address_is_named(address: str) -> None:
    with pytest.raises(UsageError, match=r"must be auto, or HOST:PORT .*found"):
        require_reachable(address)


def test_the_client_of_ray_is_refused() -> None:
    with pytest.raises(UsageError, match="run it on a machine of the cluster, with --ray-address auto"):
        require_reachable("ray://head:10001")


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_where_something_listens_ray_is_left_to_try(host: str) -> None:
    kind = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(kind) as server:
        try:
            server.bind((host.strip("[]"), 0))
        except OSError:
            pytest.skip(f"this machine has no {host}")
        server.listen()
        require_reachable(f"{host}:{server.getsockname()[1]}")


def test_one_that_keeps_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(address: tuple[str, int], timeout: float) -> socket.socket:
        assert timeout == ray_address.ANSWER_SECONDS
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", never)
    with pytest.raises(UsageError, match=r"no Ray cluster answers at 10\.0\.0\.1:6379: timed out"):
        require_reachable("10.0.0.1:6379")


def test_what_is_started_here_asks_for_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of its own, unless there is one."""
    pytest.importorskip("ray")
    Cluster(None, threads=1, cpus=1)
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "token")
    Cluster(None, threads=1, cpus=1)
    assert "RAY_AUTH_TOKEN" not in os.environ


def test_ray_does_not_call_home_and_does_not_try_for_ever() -> None:
    pytest.importorskip("ray")
    Cluster("auto", threads=1, cpus=1)
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert os.environ["RAY_task_oom_retries"] == str(RETRIES)  # noqa: SIM112 - Ray's spelling
    assert "RAY_AUTH_TOKEN" not in os.environ, "the cluster's is the user's to name"


# What a machine must have


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Command]:
    (tmp_path / "token").mkdir()
    (tmp_path / "data").mkdir()
    complaint.cache_clear()
    yield Command(
        results=str(tmp_path),
        token=str(tmp_path / "token"),
        data=str(tmp_path / "data"),
        folder=str(tmp_path),
        versions=versions(),
        source=source(),
        threads=1,
    )
    complaint.cache_clear()


def test_a_machine_that_has_everything_fits(told: Command) -> None:
    assert complaint(told, seconds=0) is None
    assert complaint(replace(told, data=None), seconds=0) is None
    assert _by_value()(asdict(told)) is None, "and says so as Ray asks it"


def test_other_versions_are_named(told: Command) -> None:
    other = dict(versions()) | {"torch": "1.0", "python": "3.7"}
    said = complaint(replace(told, versions=tuple(sorted(other.items()))), seconds=0)
    assert said
    assert f"torch {dict(versions())['torch']}, not 1.0" in said
    assert ", not 3.7" in said
    assert socket.gethostname() in said
    assert "numpy" not in said
    assert "next step: install the same packages on every machine" in said


def test_other_code_is_noticed(told: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    said = complaint(replace(told, source="0" * 64), seconds=0)
    assert said
    assert "has other code of ours" in said
    # A method of one's own that no module imports belongs to it, too.
    named: list[str] = []
    monkeypatch.setattr(ray_worker, "source_digest", lambda *names: named.extend(names))
    source.__wrapped__()
    assert {"cringe.methods.cringe", "benchmarks.stages.train", "evaluators", "benchmarks.runner"} <= set(named)


def test_a_machine_without_our_code_is_named(told: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "benchmarks.executors.ray_worker", None)
    said = _by_value()(asdict(told))
    assert said
    assert f"machine {socket.gethostname()} has not this code" in said
    assert "install the same version on every machine" in said


def test_folders_that_are_not_shared_are_named(told: Command, tmp_path: Path) -> None:
    (tmp_path / "token").rmdir()
    said = complaint(told, seconds=0.3)
    assert said
    assert f"machine {socket.gethostname()} does not see the folder of results, {tmp_path}\n" in said
    assert "next step: name folders on storage that every machine of the cluster has" in said
    (tmp_path / "token").mkdir()
    said = complaint(replace(told, data=str(tmp_path / "gone")), seconds=0)
    assert said
    assert f"does not see the folder of data, {tmp_path / 'gone'}\n" in said


def test_what_another_machine_wrote_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Storage may show it late."""
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            (tmp_path / "late").touch()

    monkeypatch.setattr("benchmarks.executors.ray_worker.time.sleep", sleep)
    assert appears(tmp_path / "late", 60)
    assert len(waits) == 3
    assert not appears(tmp_path / "none" / "never", 0)


# What a stage asks for


def test_a_stage_asks_for_its_threads_and_a_gpu() -> None:
    assert Need(threads=2, gpu=False).resources == {"CPU": 2}
    assert Need(threads=2, gpu=True).resources == {"CPU": 2, "GPU": 1}
    several = Need(threads=2, gpu=True, processes=4)
    assert several.resources == {"CPU": 8, "GPU": 4}
    assert str(several) == "8 CPUs and 4 GPUs"
    assert str(Need(threads=1, gpu=True)) == "1 CPU and 1 GPU"


class Machines(Cluster):
    """A cluster that was joined, with machines that are made up."""

    def __init__(self, *machines: Mapping[str, float], address: str | None = "auto") -> None:
        self._address = address
        self._list = machines

    def _machines(self) -> dict[str, Mapping[str, float]]:
        return {str(index): machine for index, machine in enumerate(self._list)}


@pytest.mark.parametrize(
    ("need", "room"),
    [
        (Need(threads=1, gpu=False), 23),
        (Need(threads=4, gpu=False), 4),
        (Need(threads=1, gpu=True), 8),
        (Need(threads=4, gpu=True), 4),
        (Need(threads=1, gpu=True, processes=3), 2),
        (Need(threads=32, gpu=False), 0),
    ],
)
def test_a_stage_is_done_on_one_machine(need: Need, room: int) -> None:
    """What two machines have left over together is room for none."""
    cluster = Machines({"CPU": 16.0, "GPU": 8.0}, {"CPU": 3.0}, {"CPU": 3.0}, {"CPU": 1.0}, {"memory": 9.0})
    assert cluster.room(need) == room


def test_where_no_machine_has_room_it_is_said(tmp_path: Path) -> None:
    cluster = Machines({"CPU": 2.0}, {"CPU": 2.0})
    with pytest.raises(UsageError, match="has 1 CPU and 1 GPU for a stage; it has 2 machines, 4 CPUs, 0 GPUs"):
        cluster.workers(Need(threads=1, gpu=True), None, None, tmp_path, Reporter(0, io.StringIO()))
    with pytest.raises(UsageError, match="has 3 CPUs for a stage"):
        cluster.describe(Need(threads=3, gpu=False))
    assert cluster.describe(Need(threads=1, gpu=False)) == (
        "ray: ok; 2 machines, 4 CPUs, 0 GPUs; 4 stages of 1 CPU side by side"
    )


def test_the_device_is_that_of_the_cluster() -> None:
    """Whatever the command's own machine has."""
    with_gpus, without = Machines({"CPU": 2.0}, {"CPU": 2.0, "GPU": 1.0}), Machines({"CPU": 2.0})
    assert device_kind("auto", with_gpus) == "cuda"
    assert device_kind("cuda", with_gpus) == "cuda"
    assert device_kind("cpu", with_gpus) == "cpu"
    assert device_kind("auto", without) == "cpu"
    with pytest.raises(UsageError, match="no machine of the Ray cluster has a GPU"):
        device_kind("cuda", without)


def test_of_one_machine_alone_it_is_that_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda _: "2.0+cpu")
    assert device_kind("auto", Machines({"GPU": 1.0}, address=None)) == "cpu"


# Workers


def pool(told: Command, *machines: Mapping[str, float], jobs: int | None = None) -> RayPool:
    return RayPool(Machines(*machines), told, Need(threads=1, gpu=False), jobs, Reporter(0, io.StringIO()))


def test_as_many_stages_as_there_is_room_for(told: Command) -> None:
    def at_once(workers: RayPool) -> int:
        busy: dict[Any, Any] = workers._busy
        while workers.free:
            busy[object()] = None
        return len(busy)

    assert at_once(pool(told, {"CPU": 2.0}, {"CPU": 3.0})) == 5
    assert at_once(pool(told, {"CPU": 2.0}, {"CPU": 3.0}, jobs=2)) == 2
    assert at_once(pool(told, {"CPU": 2.0}, jobs=9)) == 2
    # All machines lost: one stage waits for another to come; none would be an endless loop.
    assert at_once(pool(told)) == 1


def test_lost_workers_and_lost_machines_are_told_apart_from_what_a_stage_raised(told: Command) -> None:
    errors = pytest.importorskip("ray.exceptions")
    workers = pool(told, {"CPU": 1.0})
    out_of_memory = workers.lost(errors.OutOfMemoryError("killed"))
    assert out_of_memory
    assert f"Ray's memory monitor ended it {RETRIES + 1} times, for its machine ran out of memory" in out_of_memory
    assert "lower training.micro_batch_size or --jobs" in out_of_memory
    for error in (errors.WorkerCrashedError(), errors.NodeDiedError("gone")):
        said = workers.lost(error)
        assert said
        assert f"its worker or its machine was lost {RETRIES + 1} times ({type(error).__name__}" in said
    raised = errors.RayTaskError("stage", "Traceback …", ValueError("bad"))
    assert workers.lost(raised) is None
    assert workers.lost(ValueError("bad")) is None


def test_a_stage_that_is_begun_again_is_told_of() -> None:
    class Told:
        def __init__(self) -> None:
            self.messages: list[Message] = [
                ("train-aa", 0, 0, "machine one"),
                ("warmup-bb", 0, 0, "machine one"),
                ("train-aa", 3, 9, ""),
                ("train-aa", 0, 0, "machine two"),
            ]

        def get(self, *, timeout: float) -> Message:
            from queue import Empty

            if self.messages:
                return self.messages.pop(0)
            time.sleep(timeout)
            raise Empty

    said, told = io.StringIO(), Told()
    reporter = Reporter(2, said)
    reporter.started("train-aa", "train")
    reporter.started("warmup-bb", "warmup")
    reporter.listen(told)
    limit = time.monotonic() + 20
    while "begun again" not in said.getvalue() and time.monotonic() < limit:
        time.sleep(0.01)
    reporter.close()
    assert [line for line in said.getvalue().splitlines() if "started" not in line] == [
        "train: its worker was lost; begun again on machine two"
    ]
