"""DECODE: do not contradict what you said before; fluency is measured on ConvAI2.

Files: `decode/decode_v0.1/*.jsonl` in ParlAI's data folder, one dialogue a line, whose last turn does or does not
contradict an earlier turn of its speaker. Generation view: context → last turn, which is a NEGATIVE if it contradicts.
Classification view: the same examples, for guide and judge, who get different halves of train.
Source: Nie et al. 2021, "I like fish, especially dolphins: Addressing Contradictions in Dialogue Modeling". Licence:
not stated. The mixture of the CRINGE paper was never released; the one here is ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import ClassVar

from benchmarks.errors import DataError
from benchmarks.tasks import convai2, synthetic
from benchmarks.tasks.base import PAPERS_METHODS, ClassificationData, Column, DataFile, Source, Task, TaskData
from benchmarks.tasks.reading import Row, json_rows
from cringe.data import Example, Feedback, halves, normalised
from cringe.specs import Reads

ALIASES = ("contradiction",)
SOURCE = Source(name="decode", labelled=True)
_FOLDER = "decode/decode_v0.1"
_MISSING_HINT = (
    "expected one of the files of decode_v0.1.zip (its address is in ParlAI's parlai/tasks/decode/build.py), unpacked "
    "in the layout of ParlAI's data folder; or take '--data synthetic'"
)
# Sizes: the official release. A checksum is published for the archive, not for its files.
_FILES = {
    name: DataFile(
        name=f"decode {name}",
        path=f"{_FOLDER}/{name}.jsonl",
        official_rows=rows,
        needed=needed,
    )
    for name, rows, needed in (
        ("train", 27_184, True),
        ("dev", 4_026, True),
        ("test", 4_216, True),
        ("human-bot", 764, False),
        ("rct", 2_011, False),
        ("a2t", 2_079, False),
    )
}


def read_records(path: Path) -> Iterator[Example]:
    """Stream the dialogues of a file of DECODE in their generation view.

    The uid is made of the file's name and the record's id, the group is the conversation.

    Raises:
        DataError: the file is missing or unreadable, or a record is not in the documented format.
    """
    seen: dict[str, int] = {}
    for row in json_rows(path, hint=_MISSING_HINT):
        record = row.text("record_id")
        if record in seen:
            row.fail(
                f"record_id {record!r} was used on line {seen[record]} already, and again on line {row.line}",
                hint="keep one of the two records",
            )
        seen[record] = row.line
        yield _example(row, uid=f"decode-{path.stem}-{record}")


def _example(row: Row, *, uid: str) -> Example:
    turns = row.rows("turns")
    if len(turns) < 2:
        row.fail("the field 'turns' must hold at least 2 turns", found=len(turns))
    texts = tuple(turn.text("text") for turn in turns)
    speakers = [turn.integer("agent_id") for turn in turns]
    if not texts[-1].strip():
        row.fail("the text of the last turn is empty")
    contradicts = row.flag("is_contradiction")
    evidence = row.integers("aggregated_contradiction_indices")
    if any(not 0 <= index < len(turns) for index in evidence):
        row.fail(
            f"the field 'aggregated_contradiction_indices' must name turns 0 to {len(turns) - 1}", found=list(evidence)
        )
    return Example(
        uid=uid,
        context=texts[:-1],
        response=texts[-1],
        feedback=Feedback.NEGATIVE if contradicts else Feedback.POSITIVE,
        group=row.text("conversation_id"),
        own=tuple(speaker == speakers[-1] for speaker in speakers[:-1]),
        evidence=tuple(sorted(set(evidence) - {len(turns) - 1})) if contradicts else (),
    )


def _require_both(examples: tuple[Example, ...], path: Path) -> None:
    """Neither training nor judging is possible with dialogues of one kind alone."""
    found = {example.feedback for example in examples}
    if len(found) < 2:
        raise DataError(
            "holds too few dialogues: some must contradict themselves and some must not, in each half of train (train "
            "records whose last line is one of dev or test do not count)",
            path=path,
            found=", ".join(sorted(found)) or "none",
            hint="take the whole file of the release",
        )


class Decode(Task):
    """Contradiction avoidance, with both views of DECODE and ConvAI2 for fluency."""

    name: ClassVar[str] = "decode"
    title: ClassVar[str] = "contradiction avoidance"
    aliases: ClassVar[tuple[str, ...]] = ALIASES
    methods: ClassVar[tuple[str, ...]] = PAPERS_METHODS
    files: ClassVar[tuple[DataFile, ...]] = (*convai2.FILES.values(), *_FILES.values())
    sources: ClassVar[tuple[Source, ...]] = (convai2.SOURCE, SOURCE)
    reads: ClassVar[Reads] = "own_turns"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(metric="f1", prompts="convai2", title="F1 (ConvAI2)"),
        Column(metric="coherent", prompts="decode", title="Coherent (DECODE)"),
        Column(metric="preference", prompts="decode", title="Good over bad (DECODE)"),
    )
    selection: ClassVar[Column] = Column(metric="coherent", prompts="decode_valid", title="Coherent (DECODE dev)")
    judged: ClassVar[frozenset[str]] = frozenset({"coherent"})
    paper_table: ClassVar[str | None] = "contradiction"

    def load(self, folder: Path, sources: Sequence[str]) -> TaskData:
        """Read both data sets.

        Records of train whose last line is one of dev or test, too, are left out: a judge could know them by heart.
        The halves of train are cut by last line. ``counts`` holds the rows of every file as read, dialogues unless it
        says examples, and how many records of train were left out.

        Raises:
            DataError: as `convai2.load_split` and `read_records`, or a part of the labelled data lacks a class.
        """
        chat = convai2.load_chat(folder, sources)
        read = {
            name: tuple(read_records(folder / file.path))
            for name, file in _FILES.items()
            if file.needed or (folder / file.path).exists() or (folder / file.path).is_symlink()
        }
        held_out = {normalised(example.response) for example in chain(read["dev"], read["test"])}
        train = [example for example in read["train"] if normalised(example.response) not in held_out]
        first, second = (tuple(half) for half in halves(train))
        for name, part in (("train", first), ("train", second), ("dev", read["dev"]), ("test", read["test"])):
            _require_both(part, folder / _FILES[name].path)
        return TaskData(
            sources=chat.sources | ({SOURCE.name: first} if SOURCE.name in sources else {}),
            classification=ClassificationData(
                guide_train=first, judge_train=second, valid=read["dev"], test=read["test"]
            ),
            prompts={"convai2": chat.prompts, "decode": read["test"], "decode_valid": read["dev"]},
            training_prompts=first,
            counts={
                **chat.counts,
                **{f"decode {name}": len(examples) for name, examples in read.items()},
                "decode train dropped": len(read["train"]) - len(train),
            },
        )

    def synthesize(self, folder: Path, *, seed: int) -> None:
        """Write both data sets at a size for a small run."""
        synthetic.write_convai2(folder, seed=seed, train_dialogues=2_000, valid_dialogues=200)
        synthetic.write_decode(folder, seed=seed, train=12_000, dev=600, test=600)


TASK = Decode()
