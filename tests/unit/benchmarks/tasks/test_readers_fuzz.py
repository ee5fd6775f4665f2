"""Damaged files: every record becomes an example, or a `DataError` names the file; nothing is lost on the way.

Valid files are generated, or made up here for sets that nobody generates. What a damaged file holds is counted from its
bytes, apart from the readers: lines that are not blank, records of CSV by their quotation marks, JSON by what
`json.loads` makes of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.errors import DataError
from benchmarks.stages.given import read_given
from benchmarks.tasks import convai2, fits, registry, synthetic, wikitoxic
from benchmarks.tasks import decode as decode_task
from benchmarks.tasks.sets import bad, bbf, bst, diasafety, jsonl_files
from cringe.data import Example

FEWER = settings(max_examples=max(1, settings.default.max_examples // 4))
Counts = tuple[int, ...]


class Reader(NamedTuple):
    """How one kind of file is read, and how its records are counted without it."""

    path: str
    read: Callable[[Path], Counts]
    """Takes the data folder."""
    count: Callable[[bytes], Counts]


# Counting ------------------------------------------------------------------------------------------------------------


def lines_of(content: bytes) -> list[str]:
    """The lines that are not blank."""
    text = content.removeprefix(b"\xef\xbb\xbf").decode()
    return [line for line in text.split("\n") if line.strip()]


def count_lines(content: bytes) -> Counts:
    return (len(lines_of(content)),)


def count_csv(content: bytes) -> Counts:
    """Records below the header: line ends outside of quotation marks, which open where a field begins."""
    records, fields, blank, quoted, fresh, closed = 0, 1, True, False, True, False
    for character in content.removeprefix(b"\xef\xbb\xbf").decode().replace("\r\n", "\n") + "\n":
        if quoted:
            quoted = character != '"'
            closed = not quoted
            blank &= character.isspace() or closed
            continue
        if character == "\n":
            records += not blank or fields > 1
            fields, blank, fresh = 1, True, True
        elif character == '"':
            # Behind a closing mark the next one is a mark of the text, and the field goes on.
            quoted, fresh, blank = fresh or closed, False, blank and fresh
        else:
            fields, fresh = fields + (character == ","), character == ","
            blank &= character.isspace()
        closed = False
    return (records - 1,)


def count_chat(content: bytes) -> Counts:
    """Lines, replies and dialogues: a reply stands behind a tab, a dialogue begins with number 1."""
    lines = lines_of(content)
    return len(lines), sum("\t" in line for line in lines), sum(line.startswith("1 ") for line in lines)


def count_fits(content: bytes) -> Counts:
    dialogues = [json.loads(line)["dialog"] for line in lines_of(content)]
    return len(dialogues), sum(len(acts) // 2 for acts in dialogues)


def count_bst(content: bytes) -> Counts:
    dialogues = json.loads(content.removeprefix(b"\xef\xbb\xbf"))
    return len(dialogues), sum(speaker == 1 for dialogue in dialogues for speaker, _ in dialogue["dialog"])


def count_multi(content: bytes) -> Counts:
    return (sum(len(messages) for messages in json.loads(content.removeprefix(b"\xef\xbb\xbf")).values()),)


def count_single(content: bytes) -> Counts:
    splits = json.loads(content.removeprefix(b"\xef\xbb\xbf"))["standard"].values()
    kinds = [kind for rounds in splits for kinds in rounds.values() for kind in kinds.values()]
    return (sum(map(len, kinds)),)


# Reading -------------------------------------------------------------------------------------------------------------


def read_chat(folder: Path) -> Counts:
    dialogues = list(convai2.read_dialogues(folder / convai2.FILES["valid"].path))
    loaded = convai2.load_split(folder, "valid")
    assert loaded.dialogues == len(dialogues)
    _require_whole(loaded.examples)
    lines = sum(len(dialogue.persona) + len(dialogue.exchanges) for dialogue in dialogues)
    return lines, len(loaded.examples), loaded.dialogues


def read_fits(folder: Path) -> Counts:
    found = fits.load_file(folder, fits.HELD_OUT["valid"])
    counts = {name.removeprefix("fits valid").strip(): number for name, number in found.counts.items()}
    assert len(found.examples) == counts["good"] + counts["bad"] - counts["empty"] - counts["repeated"]
    assert len(found.gold) == counts["gold"]
    _require_whole(found.examples)
    return counts[""], counts["good"] + counts["bad"]


def read_bst(folder: Path) -> Counts:
    examples, counts = bst.load(folder)
    _require_whole(examples)
    assert counts["bst train examples"] == len(examples)
    return counts["bst train"], len(examples) + counts["bst empty"]


def read_set(folder: Path, source: str) -> Counts:
    found = bbf.load(folder, source)
    _require_whole([*found.train, *found.valid, *found.test])
    return (len(found.train) + len(found.valid) + len(found.test),)


def streamed(path: str, read: Callable[[Path], Any]) -> Callable[[Path], Counts]:
    def counted(folder: Path) -> Counts:
        examples = list(read(folder / path))
        _require_whole(examples)
        return (len(examples),)

    return counted


def _require_whole(examples: Sequence[Example]) -> None:
    """Each has a uid of its own, texts that can be written, and a mark of the speaker for every turn."""
    assert len({one.uid for one in examples}) == len(examples)
    for one in examples:
        assert len(one.own) == len(one.context)
        "".join((*one.context, one.response, one.uid, one.group, *one.documents)).encode()


DECODE = "decode/decode_v0.1/dev.jsonl"
BAD = bad.FILES["valid"].path
DIASAFETY = diasafety.FILES["val"].path
READERS = {
    "convai2": Reader(convai2.FILES["valid"].path, read_chat, count_chat),
    "wikitoxic": Reader("wikitoxic/train.csv", streamed("wikitoxic/train.csv", wikitoxic.read_comments), count_csv),
    "decode": Reader(DECODE, streamed(DECODE, decode_task.read_records), count_lines),
    "fits": Reader(fits.HELD_OUT["valid"].path, read_fits, count_fits),
    "jsonl": Reader("train.jsonl", streamed("train.jsonl", jsonl_files.read_records), count_lines),
    "bad": Reader(BAD, streamed(BAD, bad.read_turns), count_lines),
    "diasafety": Reader(
        DIASAFETY,
        streamed(DIASAFETY, diasafety.read_records),
        lambda content: (len(json.loads(content.removeprefix(b"\xef\xbb\xbf"))),),
    ),
    "bst": Reader(bst.FILES["train"].path, read_bst, count_bst),
    "bbf_multi": Reader(bbf.FILES["bbf_multi"].path, lambda folder: read_set(folder, "bbf_multi"), count_multi),
    "bbf_standard": Reader(
        bbf.FILES["bbf_standard"].path, lambda folder: read_set(folder, "bbf_standard"), count_single
    ),
}


# Valid files ---------------------------------------------------------------------------------------------------------


def _message(text: str, label: str = "__ok__") -> dict[str, object]:
    return {"text": text, "labels": [label], "episode_done": True}


def _made_up() -> dict[str, bytes]:
    kinds = {"good": [_message("hi there")], "bad": [_message("go away", "__notok__")]}
    rounds = dict.fromkeys("123", kinds)
    multi = [_message("hi\nhello\ngo away", "__notok__"), _message("hi")]
    dialogue = {
        "personas": [["i sing."], ["i have a cat.", "i swim."]],
        "context_dataset": "wizard_of_wikipedia",
        "additional_context": "Cats",
        "free_turker_utterance": "hi",
        "guided_turker_utterance": "hello",
        "dialog": [[0, "how are you?"], [1, "fine"], [0, "good"], [1, "what do you do?"]],
    }
    turns = [f"text:hi\\nhello {n}\\nwho?\tlabels:__{'not' * (n % 2)}ok__\tepisode_done:True" for n in range(4)]
    replies = [
        {"context": "hi", "response": f"no {n}", "category": "x", "label": ("Safe", "Unsafe")[n % 2]} for n in range(4)
    ]
    own = [
        {"context": ["hi", f"hello {n}"], "response": f"so {n}", "label": (True, False, None)[n % 3], "id": f"r{n}"}
        for n in range(3)
    ] + [
        {"prompt": [{"role": "user", "content": f"hi {n}"}], "completion": f"yes, {n}", "label": bool(n % 2)}
        for n in range(3)
    ]
    found: dict[str, object] = {
        "bbf_standard": {"standard": dict.fromkeys(("train", "valid", "test"), rounds)},
        "bbf_multi": dict.fromkeys(("train", "valid", "test"), multi),
        "bst": [dialogue, {**dialogue, "context_dataset": "convai2"}],
        "diasafety": replies,
    }
    return {name: json.dumps(value, indent=1).encode() for name, value in found.items()} | {
        "bad": "\n".join(turns).encode(),
        "jsonl": "\n".join(map(json.dumps, own)).encode(),
    }


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The content of a valid file of every kind."""
    folder = tmp_path_factory.mktemp("valid")
    synthetic.write_convai2(folder, seed=3, train_dialogues=1, valid_dialogues=4)
    synthetic.write_decode(folder, seed=3, train=1, dev=6, test=1)
    synthetic.write_fits(folder, seed=3, train=1, valid=4, test=1, unseen=1)
    synthetic.write_wikitoxic(folder, seed=3, comments=12)
    made_up = _made_up()
    return {
        name: made_up[name] if name in made_up else (folder / reader.path).read_bytes()
        for name, reader in READERS.items()
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged")


def outcome(folder: Path, name: str, content: bytes) -> Counts | str:
    """What was read, which is what there is; or the message of the error, which says where."""
    reader = READERS[name]
    path = folder / reader.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    try:
        found = reader.read(folder)
    except DataError as error:
        message = str(error)
    else:
        assert found == reader.count(content)
        return found
    assert message.startswith(f"{path}:")
    assert "next step: " in message
    assert len(message) < len(str(path)) + 1_000
    # What is in the file does not reach the terminal as it is.
    assert all(character.isprintable() or character == "\n" for character in message), message
    return message


# Damage --------------------------------------------------------------------------------------------------------------

FRAGMENTS = [
    b"\0",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",  # half of a surrogate pair, as UTF-8 must not have it
    b"\\ud83d",
    b"\\ud83d\\ude00",
    b"\\u0000",
    b"\r",
    b"\r\n",
    b"\n",
    b"\n\n",
    b"\t",
    b" ",
    b'"',
    b'""',
    b'",\n"',
    b",",
    b",,",
    b"{",
    b"}\n{",
    b"]",
    b"[" * 3_000,
    b"NaN",
    b"Infinity",
    b"-1e999",
    b"9" * 5_000,
    b"null",
    b"true",
    b"[]",
    b"{}",
    b'"x": 1, "x": 2, ',
    b"x" * 140_000,
    "\u2028".encode(),
    "\u0085".encode(),
    b"\x0b",
    b"\x0c",
    b"\x1c",
    b"\x1b[31m",
    "é\u202e".encode(),
    b"\n1 ",
    b"\\n",
]
Damage = Callable[[bytes], bytes]


@st.composite
def damages(draw: st.DrawFn) -> Damage:
    """One change to the bytes, the lines, the columns or a value of JSON."""
    how = draw(st.sampled_from(["byte", "cut", "insert", "end", "lines", "columns", "value", "ends", "token"]))
    where, other = draw(st.floats(0, 1)), draw(st.floats(0, 1))
    fragment = draw(st.sampled_from(FRAGMENTS) | st.binary(max_size=4))
    value: Any = draw(
        st.sampled_from(
            [None, True, 0, -1, 1.5, 10**30, "", " ", "x", [], {}, [[]], ["x"], {"text": 1}, "\ud83d", "\0"]
        )
        | st.text(max_size=4)
    )
    action = draw(st.sampled_from(["twice", "out", "swap", "join", "reverse"]))

    def change(content: bytes) -> bytes:
        at, to = sorted((int(where * len(content)), int(other * len(content))))
        lines = content.split(b"\n")
        row, second = int(where * (len(lines) - 1)), int(other * (len(lines) - 1))
        if how == "byte":
            return content[:at] + (fragment or b"?")[:1] + content[at + 1 :]
        if how == "cut":
            return content[:at] + content[at + min(to - at, 40) :]
        if how == "insert":
            return content[:at] + fragment + content[at:]
        if how == "end":
            return content[:to]
        if how == "ends":
            return content.replace(b"\n", b"\r\n") if action == "twice" else b"\xef\xbb\xbf" + content
        if how == "columns":
            sign = b"\t" if b"\t" in lines[row] else b","
            lines[row] = sign.join(_moved(lines[row].split(sign), action, where))
        elif how == "lines":
            lines = _moved(lines, action, where) if action != "swap" else _swapped(lines, row, second)
        elif how == "token":  # a value of JSON, whatever it is, in the place of another
            lines[row] = re.sub(rb'(?<=": )(true|false|null|\d+|"[^"]*"|\[\])', lambda _: fragment, lines[row], count=1)
        else:
            return _with_value(content, value, where, other)
        return b"\n".join(lines)

    return change


def _moved(parts: list[bytes], action: str, where: float) -> list[bytes]:
    at = int(where * (len(parts) - 1))
    if action == "twice":
        return [*parts[: at + 1], *parts[at:]]
    if action == "out":
        return parts[:at] + parts[at + 1 :]
    if action == "join":
        return [*parts[:at], b"".join(parts[at : at + 2]), *parts[at + 2 :]]
    return parts[::-1]


def _swapped(parts: list[bytes], one: int, other: int) -> list[bytes]:
    parts[one], parts[other] = parts[other], parts[one]
    return parts


def _with_value(content: bytes, value: object, where: float, other: float) -> bytes:
    """Another value somewhere in a line of JSON, or in a file that is JSON as a whole."""
    lines = content.split(b"\n")
    row = int(where * (len(lines) - 1))
    for text, put in ((lines[row], row), (content, None)):
        try:
            tree = json.loads(text)
        except (ValueError, RecursionError):
            continue
        places = _places(tree)
        if not places:
            continue
        holder, key = places[int(other * (len(places) - 1))]
        holder[key] = value
        changed = json.dumps(tree).encode()
        return changed if put is None else b"\n".join([*lines[:put], changed, *lines[put + 1 :]])
    return content


def _places(tree: Any) -> list[tuple[Any, Any]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [place for key, value in items for place in [(tree, key), *_places(value)]]


# Tests ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", READERS)
def test_valid_files_are_read_whole(folder: Path, valid: dict[str, bytes], name: str) -> None:
    """So that damage is what the other tests are about; line ends and a byte order mark are none."""
    found = outcome(folder, name, valid[name])
    assert not isinstance(found, str)
    assert min(found) >= 2
    assert outcome(folder, name, valid[name].replace(b"\n", b"\r\n")) == found
    assert outcome(folder, name, b"\xef\xbb\xbf" + valid[name]) == found
    assert outcome(folder, name, valid[name].rstrip(b"\n")) == found


@pytest.mark.parametrize("name", READERS)
@given(damage=st.lists(damages(), min_size=1, max_size=3))
def test_damaged_files(folder: Path, valid: dict[str, bytes], name: str, damage: list[Damage]) -> None:
    content = valid[name]
    for change in damage:
        content = change(content)
    outcome(folder, name, content)


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=FEWER.max_examples)
@example(content=b"")
@example(content=b"\xef\xbb\xbf")
@example(content=b"\n \n\t\n")
@example(content=b"[" * 100_000)
@example(content=b'{"a": ' * 100_000)
@example(content=b"\xff\xfe{\0}\0")  # UTF-16
@given(content=st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_random_bytes(folder: Path, name: str, content: bytes) -> None:
    assert isinstance(outcome(folder, name, content), str)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("fragment", FRAGMENTS, ids=lambda fragment: repr(fragment[:12]))
def test_every_fragment_once(folder: Path, valid: dict[str, bytes], name: str, fragment: bytes) -> None:
    """In the middle of the file, and in the place of the first value of JSON."""
    content = valid[name]
    middle = len(content) // 2
    outcome(folder, name, content[:middle] + fragment + content[middle:])
    outcome(folder, name, re.sub(rb'(?<=": )("[^"]*"|\w+)', lambda _: fragment, content, count=1))


@pytest.mark.parametrize("name", [name for name in READERS if name not in ("convai2", "wikitoxic", "bad")])
def test_of_two_equal_fields_neither_is_taken(folder: Path, valid: dict[str, bytes], name: str) -> None:
    """JSON's reader would keep the last, and a value would be lost though its record is not."""
    found = outcome(folder, name, valid[name].replace(b"{", b'{"x": 1, "x": 2, ', 1))
    assert isinstance(found, str)
    assert "the field 'x' is there twice" in found


# Replies of one's own ------------------------------------------------------------------------------------------------

PROMPTS = {
    "test": tuple(Example(uid=f"p{n}", context=(f"hi {n}",), response="", group="g", own=(False,)) for n in range(4))
}
ANSWERS = "\n".join(json.dumps({"uid": f"p{n}", "reply": f"so {n}", "decoding": "beam"}) for n in range(4)).encode()
OWN = "\n".join(
    json.dumps({"context": [f"hi {n}", "yes"], "reply": f"no {n}", "gold": "oh"}) for n in range(4)
).encode()


@pytest.mark.parametrize("content", [ANSWERS, OWN], ids=["the task's prompts", "own prompts"])
@given(damage=st.lists(damages(), min_size=1, max_size=3))
def test_damaged_replies(folder: Path, content: bytes, damage: list[Damage]) -> None:
    """Each record is a reply that is judged, in a set or two, or one to a prompt that nobody asked for."""
    for change in damage:
        content = change(content)
    path = folder / "replies.jsonl"
    path.write_bytes(content)
    try:
        found = read_given(path, PROMPTS, PROMPTS)
    except DataError as error:
        message = str(error)
    else:
        judged = sum(len({record["uid"] for record in records}) for records in found.replies.values())
        assert judged + found.not_asked == len(lines_of(content))
        return
    assert message.startswith(f"{path}:")
    assert all(character.isprintable() or character == "\n" for character in message)


# Whole tasks ---------------------------------------------------------------------------------------------------------


def write_decode(folder: Path) -> None:
    synthetic.write_convai2(folder, seed=2, train_dialogues=4, valid_dialogues=2)
    synthetic.write_decode(folder, seed=2, train=60, dev=12, test=12)


def write_wikitoxic(folder: Path) -> None:
    synthetic.write_convai2(folder, seed=2, train_dialogues=12, valid_dialogues=6)
    synthetic.write_wikitoxic(folder, seed=2, comments=150)


SIZES: dict[str, Callable[[Path], None]] = {
    "convai2": lambda folder: synthetic.write_convai2(folder, seed=2, train_dialogues=30, valid_dialogues=4),
    "decode": write_decode,
    "fits": lambda folder: synthetic.write_fits(folder, seed=2, train=20, valid=8, test=8, unseen=8),
    "wikitoxic": write_wikitoxic,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of each task."""
    found = {name: tmp_path_factory.mktemp(name) for name in SIZES}
    for name, write in SIZES.items():
        write(found[name])
        task = registry.load(name)
        task.load(found[name], task.usual_sources(found[name]))
    return found


@pytest.mark.parametrize("name", SIZES)
@FEWER
@given(which=st.integers(0, 9), damage=damages())
def test_tasks_with_a_damaged_file(data: dict[str, Path], name: str, which: int, damage: Damage) -> None:
    """A task counts the rows of its files; here those of lines."""
    folder, task = data[name], registry.load(name)
    files = [file for file in task.files if (folder / file.path).is_file()]
    file = files[which % len(files)]
    path = folder / file.path
    before = path.read_bytes()
    try:
        path.write_bytes(damage(before))
        found = task.load(folder, task.usual_sources(folder))
        if path.suffix == ".jsonl" or "human_model_chats" in file.path:
            assert found.counts[file.name] == len(lines_of(path.read_bytes()))
        elif path.suffix == ".csv":
            assert (found.counts[file.name],) == count_csv(path.read_bytes())
        else:
            assert found.counts[f"{file.name} examples"] == count_chat(path.read_bytes())[1]
    except DataError as error:
        assert file.path in str(error) or str(folder) in str(error)  # noqa: PT017 - the message of any of its errors
    finally:
        path.write_bytes(before)
