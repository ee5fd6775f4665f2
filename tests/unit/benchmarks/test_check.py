"""``--check`` on models: whether they are there, how large they are, and whether disk and memory will do."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from benchmarks import check
from benchmarks.config import resolve, with_lm_data
from benchmarks.datafolder import DataSource, choose_sources
from benchmarks.plan import Plan, make_plan
from benchmarks.tasks import registry as tasks
from cringe.backbones import build_backbone, train_tokenizer
from cringe.specs import ScratchBackbone

WEIGHTS = 30_000


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({"w": np.zeros(WEIGHTS, np.float16)}, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    return folder


def pretrained(folder: object) -> str:
    return f"{{kind: pretrained, family: causal, name: {folder}, max_source: 64, max_target: 32}}"


def planned(*overrides: str, preset: str = "tiny") -> Plan:
    config = resolve(task="decode", method_names=["transformer", "fudge"], preset=preset, overrides=overrides)
    sources = with_lm_data(choose_sources(tasks.load("decode"), None, None), None)
    return make_plan(config, sources=sources, fingerprint=None, device="cpu")


def checked(plan: Plan, out: Path, device: str = "cpu") -> tuple[list[str], int]:
    return check.report(plan, DataSource(folder=None, origin="generated"), out, device)


def line(lines: list[str], name: str) -> str:
    (found,) = (line for line in lines if line.startswith(f"{name}: "))
    return found


def test_without_pretrained_models_there_is_none_to_find(tmp_path: Path) -> None:
    lines, code = checked(planned(), tmp_path / "runs")
    assert code == 0
    assert not any(line.startswith("models: ") for line in lines)
    assert lines[-1] == f"device: cpu, {os.cpu_count()} cores, 1 thread(s) a stage"


def test_processes_need_a_gpu_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together = planned("processes=2")
    lines, code = checked(together, tmp_path / "runs")
    assert (line(lines, "processes"), code) == ("processes: ok; 2 train a language model together", 0)
    assert "Adam's moments, and more for a batch, in each of 2 processes, the machine has" in line(lines, "memory")
    for count, said in ((3, "processes: ok; 2 train a language model together, each with one of 3 GPUs"), (1, None)):
        monkeypatch.setattr(check, "gpu_names", lambda count=count: [str(index) for index in range(count)])
        monkeypatch.setattr(check, "_memory_of", lambda device: 10**12)
        lines, code = checked(together, tmp_path / "runs", "cuda")
        assert code == (0 if said else 2)
        assert lines[-1] == (said or check.too_few(["0"], 2))
        assert "in each of" not in line(lines, "memory")
    assert not any(entry.startswith("processes") for entry in checked(planned(), tmp_path / "runs", "cuda")[0])


def test_damage_is_named(tmp_path: Path) -> None:
    """A finished run that the command would refuse is not "done"."""
    plan, out = planned(), tmp_path / "runs"
    first, second = (out / stage.folder for stage in plan.stages[:2])
    for folder in (first, second):
        folder.mkdir(parents=True)
        (folder / "file").write_text("what was written")
        digest = hashlib.sha256(b"what was written").hexdigest()
        (folder / "DONE").write_text(json.dumps({"file": digest}))
    count = len(plan.stages)
    lines, code = checked(plan, out)
    assert (line(lines, "stages"), code) == (f"stages: {count}, done 2", 0)
    (first / "file").write_text("something else")
    lines, code = checked(plan, out)
    assert (line(lines, "stages"), code) == (f"stages: {count}, done 1, damaged 1", 1)
    assert f"  {first.name}: file" in lines
    assert "  next step: the same command with --repair does these again" in lines
    again, code = check.report(plan, DataSource(folder=None, origin="generated"), out, "cpu", again=True)
    assert (line(again, "stages"), code) == (f"stages: {count}, done 1, damaged 1", 0)


def test_models_that_are_there_are_counted_and_weighed(model: Path, tmp_path: Path) -> None:
    """On disk: warm-up and one method of the backbone's size, the reference, and the judge; the guide is small."""
    shape = ScratchBackbone(
        family="causal",
        vocabulary=400,
        width=16,
        encoder_layers=0,
        decoder_layers=2,
        heads=2,
        feedforward=32,
        max_source=32,
        max_target=16,
    )
    judge = ("judge.kind=pretrained", f"judge.name={model}")
    plan = planned(f"backbone={pretrained(model)}", f"reference={shape.model_dump()}", *judge)
    lines, code = checked(plan, tmp_path / "runs")
    assert code == 0
    start = lines.index("models: ok")
    assert lines[start + 1 : start + 3] == [
        f"  {role}: {model}: there, 30,000 parameters" for role in ("backbone", "judge")
    ]
    trained = sum(stage.kind == "train" for stage in plan.stages)
    size = 4 * ((1 + trained + 1) * WEIGHTS + check.estimated_parameters(shape)) / 1e6
    assert line(lines, "disk").startswith(f"disk: ok; about {size:,.0f} MB for {trained + 3} models, ")
    assert line(lines, "memory").startswith("memory: ok; training holds about 0 MB for 0.0 M parameters, ")


def test_what_is_missing_is_named_and_ends_in_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    settings = (f"backbone={pretrained('/none/such')}", f"reference={pretrained('some/model')}")
    lines, code = checked(planned(*settings), tmp_path / "runs")
    assert code == 3
    start = lines.index("models: missing")
    assert lines[start + 1] == "  backbone: /none/such: no such folder, and no hub id"
    assert lines[start + 2] == (
        "  reference: some/model: not in the cache of the hub; will be fetched when the run begins"
    )
    assert ", 3 of them of unknown size, " in line(lines, "disk")
    assert line(lines, "memory") == "memory: not known before the backbone has been fetched"


def test_memory_is_that_of_the_largest_model_in_training(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, gradients and two moments of four bytes each; the reference counts where it is trained."""
    monkeypatch.setattr(check, "_memory_of", lambda device: 4 * 4 * WEIGHTS + 1)
    small = (f"reference={pretrained('other/model')}", f"backbone={pretrained(model)}")
    _, code = check._memory(planned(*small).config, {"backbone": check.look(str(model))}, "cpu")
    assert code == 0
    monkeypatch.setattr(check, "_memory_of", lambda device: 4 * 4 * WEIGHTS)
    said, code = check._memory(planned(*small).config, {"backbone": check.look(str(model))}, "cpu")
    assert (said.split(";")[0], code) == ("memory: too little", 2)
    config = planned().config
    need = 16 * check.estimated_parameters(config.backbone)
    monkeypatch.setattr(check, "_memory_of", lambda device: need)
    said, code = check._memory(config, {}, "cpu")
    assert code == 2
    assert f"about {need / 1e6:,.0f} MB for {need / 16e6:,.1f} M parameters" in said
    assert said.endswith(f", the machine has {need / 1e6:,.0f} MB")
    monkeypatch.setattr(check, "_memory_of", lambda device: None)
    assert check._memory(config, {}, "cpu")[1] == 0


def test_the_smallest_gpu_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    sizes = [8_000, 3_000]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(sizes))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(total_memory=sizes[index]))
    assert check._memory_of("cuda") == 3_000
    assert (check._memory_of("cpu") or 0) > 1e6


def test_a_full_disk_is_told_of(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = (f"backbone={pretrained(model)}", f"reference={pretrained('other/model')}")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=1_000_000_000))
    lines, code = checked(planned(*settings), tmp_path / "runs")
    assert line(lines, "disk").startswith("disk: too little; ")
    assert code >= 2


@pytest.mark.parametrize(
    "changes", [{}, {"family": "causal", "encoder_layers": 0, "decoder_layers": 4}, {"encoder_layers": 3}]
)
def test_the_estimate_is_near_what_is_built(changes: dict[str, Any]) -> None:
    shape = {"vocabulary": 500, "width": 64, "encoder_layers": 2, "decoder_layers": 2, "heads": 4, "feedforward": 128}
    spec = ScratchBackbone.model_validate({**shape, "max_source": 32, "max_target": 16, **changes})
    tokenizer = train_tokenizer([f"{number} is a number and so is {number * 37}" for number in range(400)], spec)
    built = build_backbone(spec.model_copy(update={"vocabulary": len(tokenizer)}), tokenizer, seed=0)
    spec = spec.model_copy(update={"vocabulary": len(tokenizer)})
    assert check.estimated_parameters(spec) == pytest.approx(built.parameters, rel=0.05)
