"""Damaged files of unlabelled dialogue, which the `datasets` library reads: all records, or a message."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from benchmarks.errors import DataError
from benchmarks.lm_datasets import data_set_examples
from tests.unit.benchmarks.tasks.test_readers_fuzz import Damage, damages

FEWER = settings(max_examples=max(1, settings.default.max_examples // 2))
VALID = "".join(json.dumps({"context": ["hi", "yes"], "response": f"so {n}"}) + "\n" for n in range(5)).encode()


def count(content: bytes) -> int:
    """Objects one behind the other, as JSON has them; a line may hold two, and an object may take two lines."""
    text, found, at = content.decode("utf-8", "replace").lstrip("\ufeff"), 0, 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        _, at = json.JSONDecoder(strict=False).raw_decode(text, at)
        found += 1
    return found


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lm") / "chat.jsonl"


@FEWER
@given(damage=st.lists(damages(), max_size=2))
def test_damaged_dialogue(path: Path, damage: list[Damage]) -> None:
    content = VALID
    for change in damage:
        content = change(content)
    note(content[:1_000])
    path.write_bytes(content)
    counts: Counter[str] = Counter()
    message = ""
    try:
        found = list(data_set_examples(str(path), counts))
    except DataError as error:
        message = str(error)
    else:
        assert counts["dialogues"] == count(content)
        assert len(found) + counts["blank"] >= counts["dialogues"]
        return
    assert str(path) in message
    assert all(character.isprintable() or character == "\n" for character in message)
