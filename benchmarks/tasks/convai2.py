"""ConvAI2: persona-grounded chat between two people, the unlabelled dialogue of the other tasks.

Files: `ConvAI2/{train,valid}_self_original_no_cands.txt` in ParlAI's data folder. Lines are numbered, number 1 begins
a dialogue; ``your persona: …`` lines describe the speaker of the replies, every other line is ``text<TAB>reply``. The
official variants with candidates append the columns reward and candidates, which are read over.
Source: Dinan et al. 2019, "The Second Conversational Intelligence Challenge (ConvAI2)". Licence: CC-BY-4.0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, NoReturn

from benchmarks.errors import DataError
from benchmarks.tasks.base import DataFile
from benchmarks.tasks.reading import text_lines
from cringe.data import Example
from cringe.seeding import stable_hash

Split = Literal["train", "valid"]

FILES: dict[Split, DataFile] = {
    "train": DataFile(name="convai2 train", path="ConvAI2/train_self_original_no_cands.txt", official_rows=17_878),
    "valid": DataFile(name="convai2 valid", path="ConvAI2/valid_self_original_no_cands.txt", official_rows=1_000),
}
PERSONA = "your persona: "
"""How a line that describes the speaker begins; ParlAI leaves it in the text, and so do we."""
SILENCE = "__SILENCE__"
"""Stands for the partner's text where the speaker of the replies begins."""


class Exchange(NamedTuple):
    """One line: what the partner says, if anything, and the reply."""

    text: str | None
    reply: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialogue:
    """A dialogue from the side of the speaker of the replies."""

    persona: tuple[str, ...]
    """Lines about that speaker, each beginning with `PERSONA`."""
    exchanges: tuple[Exchange, ...]


class LoadedSplit(NamedTuple):
    """The examples of a file, one a reply, and how many dialogues they come from."""

    examples: tuple[Example, ...]
    dialogues: int


def read_dialogues(path: Path) -> Iterator[Dialogue]:
    """Stream the dialogues of a file.

    Raises:
        DataError: the file is missing or unreadable, a line is in no known form, or line numbers have a gap.
    """
    persona: list[str] = []
    exchanges: list[Exchange] = []
    expected = 1
    line = 0
    for line, text in text_lines(path):
        number, _, content = text.partition(" ")
        if number == "1" and expected > 1:
            yield _dialogue(persona, exchanges, path=path, line=line - 1)
            persona, exchanges, expected = [], [], 1
        if number != str(expected):
            _fail(
                f"expected a line that begins with number {expected}" + (" or 1" if expected > 1 else ""),
                path=path,
                line=line,
                found=text,
            )
        expected += 1
        if content.startswith(PERSONA.rstrip()) and "\t" not in content and not exchanges:
            persona.append(content)
        else:
            exchanges.append(_exchange(content, path=path, line=line))
    yield _dialogue(persona, exchanges, path=path, line=line)


def _exchange(content: str, *, path: Path, line: int) -> Exchange:
    text, *columns = content.split("\t")
    if not columns:
        _fail(f"expected '{PERSONA}…' or 'text<TAB>reply'", path=path, line=line, found=content)
    if not columns[0].strip():
        _fail("the reply is empty", path=path, line=line, found=content)
    return Exchange(None if text.strip() in ("", SILENCE) else text, columns[0])


def _dialogue(persona: list[str], exchanges: list[Exchange], *, path: Path, line: int) -> Dialogue:
    if not exchanges:
        _fail("the dialogue that ends here holds no reply", path=path, line=line)
    return Dialogue(persona=tuple(persona), exchanges=tuple(exchanges))


def _fail(problem: str, *, path: Path, line: int, found: str | None = None) -> NoReturn:
    hint = "the file may be cut off or in another format; take the official 'self_original' file of ConvAI2"
    raise DataError(problem, path=path, line=line, found=found, hint=hint)


def load_split(folder: Path, split: Split) -> LoadedSplit:
    """Read a split below the data folder ``folder``: one unlabelled example a reply.

    The context is the persona, then every turn before the reply. A uid is made of the split, a hash of the whole
    dialogue and the number of the reply in it (from 1); a dialogue that occurs again counts its copies. Copies stay
    in one group, for they are no further evidence.

    Raises:
        DataError: as `read_dialogues`.
    """
    examples: list[Example] = []
    copies: Counter[str] = Counter()
    for dialogue in read_dialogues(folder / FILES[split].path):
        # "\n" and "\t" cannot occur inside of a turn, so different dialogues never give one text.
        whole = "\n".join(
            (*dialogue.persona, *(f"{text or ''}\t{reply}" for text, reply in dialogue.exchanges)),
        )
        group = f"convai2-{split}-{stable_hash('convai2', whole):016x}"
        copies[group] += 1
        name = group if copies[group] == 1 else f"{group}.{copies[group]}"
        examples.extend(_examples(dialogue, name=name, group=group))
    return LoadedSplit(tuple(examples), copies.total())


def _examples(dialogue: Dialogue, *, name: str, group: str) -> Iterator[Example]:
    context = list(dialogue.persona)
    own = [True] * len(context)
    for turn, (text, reply) in enumerate(dialogue.exchanges, start=1):
        if text is not None:
            context.append(text)
            own.append(False)
        yield Example(uid=f"{name}-{turn:02d}", context=tuple(context), response=reply, group=group, own=tuple(own))
        context.append(reply)
        own.append(True)
