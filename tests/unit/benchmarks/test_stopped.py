"""What stopped a stage, in words: from the tracebacks that the libraries leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.stopped import explained, is_full
from cringe.specs import DecodingSpec, PrefixGuideSpec, ScratchClassifier, TrainingSettings

RESULTS = Path("runs")
TRACE = 'Traceback (most recent call last):\n  File "stage.py", line 3, in run\n    save()  # not out of memory\n{}\n'
TRAINING = TrainingSettings(updates=1, batch_size=32, learning_rate=0.1).model_dump()
DECODING = DecodingSpec(strategy="beam", beams=10, max_new_tokens=5).model_dump()
GPU = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79 GiB"
CPU = "RuntimeError: [enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory"


@pytest.mark.parametrize(
    "line",
    [
        "OSError: [Errno 28] No space left on device",
        "OSError: [Errno 122] Disk quota exceeded: 'runs/.unfinished/a/b'",
        "OSError: [Errno 27] File too large",
        "safetensors_rust.SafetensorError: Error while serializing: I/O error: No space left on device (os error 28)",
        "Exception: No space left on device (os error 28)",
    ],
)
def test_no_space(line: str) -> None:
    trace = TRACE.format(line) + "\nDuring handling of the above exception, another exception:\n\nValueError: x"
    assert is_full(trace)
    said = explained(trace, "score", {}, RESULTS)
    assert said == (f"no space left for results in runs ({line}); free some, and the same command goes on from here")


@pytest.mark.parametrize("line", [GPU, CPU, "MemoryError", "RuntimeError: std::bad_alloc", "OSError: [Errno 12]"])
def test_no_memory_in_training(line: str) -> None:
    said = explained(TRACE.format(line), "train", {"training": TRAINING}, RESULTS)
    assert said == (
        "out of memory with 32 examples at once in training; lower it, such as --set training.micro_batch_size=16; "
        "the mathematics stay the same, and what was trained with another is trained again, or work at less side by "
        "side with --jobs 1"
    )
    assert not is_full(TRACE.format(line))


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        ("train", {"training": {**TRAINING, "micro_batch_size": 8}}, "8 examples at once in training (of 32 a step)"),
        ("train", {"training": {**TRAINING, "micro_batch_size": 8}}, "--set training.micro_batch_size=4;"),
        ("train", {"training": {**TRAINING, "micro_batch_size": 1}}, "the least there is; take a machine"),
        ("warmup", {"training": TRAINING}, "--set warmup.micro_batch_size=16;"),
        ("reference", {"training": TRAINING}, "--set reference_training.micro_batch_size=16;"),
        ("generate", {"decoding": DECODING}, "replying to 32 prompts at once, with 10 beam(s) each"),
        ("iterate", {"decoding": DECODING}, "--set decoding.NAME.batch_size=16"),
        ("guide", {"guide": ScratchClassifier().model_dump()}, "--set guide.batch_size=32"),
        ("prefix_guide", {"guide": PrefixGuideSpec().model_dump()}, "--set prefix_guide.batch_size=32"),
        ("judge", {"judge": {"kind": "linear"}}, "take a machine or device with more"),
        ("judge", {"judge": {"kind": "pretrained", "batch_size": 32}}, "--set judge.batch_size=16"),
        ("score", {}, "while scoring, whose batches no setting makes smaller; take a machine or device with more"),
    ],
)
def test_the_setting_to_lower(kind: str, settings: dict[str, Any], words: str) -> None:
    said = explained(TRACE.format(GPU), kind, settings, RESULTS)
    assert said.startswith("out of memory")
    assert words in said
    assert "--jobs 1" in said


@pytest.mark.parametrize("line", ["ValueError: the loss is not finite by step 10", "KeyError: 28"])
def test_other_errors_are_told_as_they_are(line: str) -> None:
    """Code that a traceback quotes is no error."""
    assert explained(TRACE.format(line), "train", {"training": TRAINING}, RESULTS) == ""
    assert not is_full(TRACE.format(line))
