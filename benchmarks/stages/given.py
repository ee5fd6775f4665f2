"""Replies that were brought along, in the place of a model's: read from a file, checked, and put where scores look.

One JSON object a line, with the reply to a prompt of the task, named by its ``uid``, or to a prompt of one's own, whose
``context`` (and ``gold`` reply, if there is one) it brings; `predictions.jsonl` of a run is such a file:

    {"uid": "decode-human-7", "reply": "i do not know , do you ?"}
    {"context": ["hi", "hello , how are you ?"], "reply": "fine", "gold": "i am fine"}

Optional are ``prompts`` (the name of the set; without it the reply counts in every set that holds the uid),
``decoding`` (the table has a section for each) and ``row`` (one and the same in all records). Other fields are read
over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.errors import DataError, did_you_mean
from benchmarks.stages.context import Context, choose_prompts, example_to_json, write_lines
from benchmarks.tasks._records import Record, Turns
from benchmarks.tasks.reading import json_rows, sha256
from cringe.data import Example, normalised
from cringe.seeding import stable_hash

OWN_PROMPTS = "own"
"""Name of the set of prompts that a file brings along."""
OWN_GOLD = "own_gold"
"""Those of them that have a gold reply."""
UNKNOWN = "given"
"""Decoding of replies of which nobody says how they were decoded."""
PROMPTS_FILE = "prompts.jsonl"
"""Own prompts, as examples."""
ANY = "*"
"""In a run's predictions: a reply that was not decoded."""
_FORMAT_HINT = (
    'a record looks like {"uid": "a prompt of the task", "reply": "…"}, or {"context": ["hi", "hello"], "reply": "…"} '
    "with a prompt of your own; correct the line, or take it out"
)
_MISSING_HINT = "name a file with one JSON object a line, such as predictions.jsonl of a run"


@dataclass(kw_only=True)
class Given:
    """What a file of replies holds."""

    replies: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    """By decoding: ``prompts``, ``uid`` and ``reply``, each prompt once."""
    own: dict[str, Example] = field(default_factory=dict)
    """Prompts that the file brings along, by uid; empty where it replies to the task's."""
    not_asked: int = 0
    """Records that reply to prompts of the task which the table is not measured on."""

    def count(self, decoding: str, prompts: str) -> int:
        """How many prompts of a set have a reply."""
        return sum(record["prompts"] == prompts for record in self.replies.get(decoding, ()))


def run(settings: Mapping[str, Any], context: Context) -> None:
    """Write the replies of one decoding, and the prompts that the file brings along.

    Raises:
        DataError: the file is not the one that the settings are about, or it is not in the format.
    """
    _, data = context.load(settings)
    path = Path(settings["file"])
    if sha256(path) != settings["sha256"]:
        raise DataError("the file has changed since the command began", path=path, hint="give the command again")
    asked = {name: choose_prompts(data.prompts[name], settings["prompts"]) for name in settings["prompt_sets"]}
    given = read_given(path, data.prompts, asked, decoding=settings["decoding"])
    write_lines(context.out / "replies.jsonl", given.replies[settings["decoding"]])
    if given.own:
        write_lines(context.out / PROMPTS_FILE, map(example_to_json, given.own.values()))


def read_given(
    path: Path,
    known: Mapping[str, Sequence[Example]],
    asked: Mapping[str, Sequence[Example]],
    *,
    decoding: str | None = None,
) -> Given:
    """Read a file of replies.

    Args:
        path: the file.
        known: all prompts of the task, by the name of their set.
        asked: those that the table is measured on.
        decoding: take the replies of this decoding alone.

    Raises:
        DataError: the file is missing or not in the format; a prompt is unknown, or has two replies; or no record
            replies to a prompt that is asked.
    """
    return _Reader(path, known, asked).read(decoding)


class _Reader:
    """Reads one file, record by record."""

    def __init__(
        self, path: Path, known: Mapping[str, Sequence[Example]], asked: Mapping[str, Sequence[Example]]
    ) -> None:
        self._path = path
        self._known = {name: {example.uid: example for example in examples} for name, examples in known.items()}
        self._asked = {name: {example.uid for example in examples} for name, examples in asked.items()}
        self._given = Given()
        self._seen: dict[tuple[str, str, str], int] = {}
        self._first: dict[str, tuple[object, int]] = {}

    def read(self, decoding: str | None) -> Given:
        found = set()
        for row in json_rows(self._path, hint=_MISSING_HINT):
            record = Record(values=row.values, path=self._path, line=row.line, hint=_FORMAT_HINT)
            how = self._decoding(record)
            found.add(how)
            if decoding is None or how == decoding:
                self._take(record, row.line, how)
        if decoding is not None and decoding not in found:
            raise DataError(
                f"no reply is of decoding '{decoding}'", path=self._path, hint=did_you_mean(decoding, found)
            )
        if not self._given.replies:
            sets = ", ".join(self._asked)
            raise DataError(
                f"none of its {self._given.not_asked} records replies to a prompt that the table is measured on",
                path=self._path,
                hint=f"reply to prompts of {sets}; with --set prompts=null all of them are asked",
            )
        return self._given

    def _take(self, record: Record, line: int, decoding: str) -> None:
        """One record: to whom it replies, and what."""
        if record.has("row"):
            self._same(record, line, "row", record.text("row", record.values["row"]), "keep the records of one row")
        if not record.has("reply"):
            record.fail(f"the field 'reply' is missing; the record holds {record.fields()}")
        reply = " ".join(record.text("reply", record.values["reply"]).split())
        if not reply:
            hint = "leave the record out: prompts without a reply are counted, and not scored"
            record.fail("the field 'reply' is empty", found=record.values["reply"], hint=hint)
        uid = record.text("uid", record.values["uid"]) if record.has("uid") else ""
        sets = [name for name, examples in self._known.items() if uid in examples]
        own = not sets and record.has("context")
        self._same(
            record, line, "kind of prompt", "own" if own else "the task's", "judge the two in commands of their own"
        )
        if own:
            uid, places = self._own(record, uid)
        else:
            places = self._task(record, uid, sets)
        for prompts in places:
            if first := self._seen.get((decoding, prompts, uid)):
                hint = "keep one reply to each prompt; prompts of your own with equal contexts need a uid each"
                record.fail(f"a second reply to the same prompt, the first being on line {first}", found=uid, hint=hint)
            self._seen[decoding, prompts, uid] = line
            self._given.replies.setdefault(decoding, []).append({"prompts": prompts, "uid": uid, "reply": reply})

    def _same(self, record: Record, line: int, what: str, value: object, hint: str) -> None:
        """All records of a file must agree on something."""
        other, first = self._first.setdefault(what, (value, line))
        if value != other:
            record.fail(f"another {what} than on line {first} ({other})", found=value, hint=hint)

    def _decoding(self, record: Record) -> str:
        """The name of the record's decoding, which becomes a part of names of files."""
        if not record.has("decoding"):
            return UNKNOWN
        name = record.text("decoding", record.values["decoding"])
        if name == ANY:
            return UNKNOWN
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
            record.mistyped("decoding", "a name of up to 64 letters, digits, - and _", name)
        return name

    def _task(self, record: Record, uid: str, sets: Sequence[str]) -> list[str]:
        """The sets that the reply counts in, of those that the table is measured on."""
        if not uid:
            record.fail(f"needs the field 'uid' or 'context'; the record holds {record.fields()}")
        if not sets:
            record.fail(
                "no prompt of the task has this uid",
                found=uid,
                hint="take uids from predictions.jsonl of a run on the same data; or give 'context', for a prompt of "
                "your own",
            )
        if record.has("prompts"):
            name = record.text("prompts", record.values["prompts"])
            if name not in sets:
                record.fail(f"the prompt {uid!r} is in {', '.join(sets)}, not in this set", found=name)
            sets = [name]
        if record.has("context"):
            said, prompt = record.turns("context").texts, self._known[sets[0]][uid].context
            if normalised(" ".join(said)) != normalised(" ".join(prompt)):
                record.fail(
                    "the context is not that of the task's prompt with this uid",
                    found=uid,
                    hint="the replies are to other data, or to another release of these; name the right folder with "
                    "--data, or leave out the uid to judge them as replies to prompts of your own",
                )
        places = [name for name in sets if uid in self._asked.get(name, ())]
        self._given.not_asked += not places
        return places

    def _own(self, record: Record, uid: str) -> tuple[str, list[str]]:
        """A prompt that the record brings along: its uid, and the sets that it is in."""
        context = record.turns("context")
        if not context.texts or not all(text.strip() for text in context.texts):
            record.fail("the field 'context' is empty, or has an empty turn", found=record.values["context"])
        own = record.own(context, Turns())
        said = [f"{mine:d} {text}" for mine, text in zip(own, context.texts, strict=True)]
        prompt = Example(
            uid=uid or f"own-{stable_hash('own prompt', *said):016x}",
            context=context.texts,
            response=record.text("gold", record.values["gold"]).strip() if record.has("gold") else "",
            group=f"own-{stable_hash('own group', *map(normalised, context.texts)):016x}",
            own=own,
        )
        if self._given.own.setdefault(prompt.uid, prompt) != prompt:
            hint = "give different prompts different uids, and a prompt one gold reply"
            record.fail("another context or gold reply than before under the same uid", found=prompt.uid, hint=hint)
        return prompt.uid, [OWN_PROMPTS, *[OWN_GOLD] * bool(prompt.response)]
