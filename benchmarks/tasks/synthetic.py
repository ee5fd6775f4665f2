"""Generated dialogue in the official formats of ConvAI2 and DECODE, with an exact judge of its contradictions.

A speaker has facts, one value a slot: a city, a job, pets, whether they like hiking. A statement gives a slot a value;
to give a slot another value later is a contradiction, and nothing else is. Replies wrap statements into openers, tails
and questions, none of which states anything, so that few replies are alike.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from benchmarks.errors import DataError
from cringe.seeding import stream

T = TypeVar("T")

Fact = tuple[str, str]
"""A slot and its value."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Something that a speaker has one value for; all statements of a slot have a word in common."""

    questions: tuple[str, ...]
    statements: dict[str, tuple[str, ...]]
    """For each value, the ways to state it."""


def _choice(questions: Sequence[str], templates: Sequence[str], values: str) -> Slot:
    """A slot whose values exclude each other."""
    names = values.split(", ")
    return Slot(tuple(questions), {name: tuple(template.format(name) for template in templates) for name in names})


def _opinion(thing: str, *, hobby: bool) -> Slot:
    """A slot for what a speaker likes or not."""
    likes = ("i love {}", "i really like {}", "i enjoy {} a lot", "{} is so much fun" if hobby else "{} is so tasty")
    hates = ("i hate {}", "i do not like {} at all", "i can not stand {}", "{} is so dull" if hobby else "{} is awful")
    questions = (f"do you like {thing} ?", f"how do you feel about {thing} ?", f"what do you think of {thing} ?")
    sides = {"yes": likes, "no": hates}
    return Slot(questions, {side: tuple(way.format(thing) for way in ways) for side, ways in sides.items()})


SLOTS: dict[str, Slot] = {
    "city": _choice(
        ("where do you live ?", "what city are you in ?", "where is your home ?"),
        ("i live in {}", "these days i live in {}", "i live right in the middle of {}", "i live close to {}"),
        "boston, denver, seattle, chicago, austin, miami, portland, dallas",
    ),
    "job": _choice(
        ("what do you do for work ?", "what is your job ?", "how do you earn your money ?"),
        ("i have a job as a {}", "for my job i am a {}", "my job is that of a {}", "i found a job as a {}"),
        "nurse, teacher, cook, farmer, driver, painter, lawyer, singer",
    ),
    "pets": _choice(
        ("do you have any pets ?", "what pets do you have ?", "are there any animals in your home ?"),
        ("for pets i have {}", "my pets are {}", "as pets go i have {}"),
        "none at all, two dogs, a cat, three cats, a parrot, one old dog, some fish",
    ),
    "siblings": _choice(
        ("do you have brothers or sisters ?", "how big is your family ?", "any brothers or sisters ?"),
        ("for siblings i have {}", "my siblings are {}", "as siblings go i have {}"),
        "one sister, two sisters, one brother, two brothers, five brothers, none at all",
    ),
    "kids": _choice(
        ("do you have kids ?", "are you a parent ?", "any kids at home ?"),
        ("for kids i have {}", "my kids are {}", "as kids go i have {}"),
        "one son, one daughter, twin girls, three boys, none at all",
    ),
    "music": _choice(
        ("what music do you like ?", "what do you listen to ?", "what is your favorite music ?"),
        ("my favorite music is {}", "for music i mostly pick {}", "the music i like best is {}"),
        "jazz, rock, country, rap, metal, folk",
    ),
    "color": _choice(
        ("what is your favorite color ?", "which color do you like best ?"),
        ("my favorite color is {}", "the color i like best is {}", "for a color i pick {}"),
        "blue, red, green, purple, orange, yellow, black",
    ),
    "car": _choice(
        ("what car do you have ?", "what do you drive ?", "how do you get around ?"),
        ("my car is {}", "the car i drive is {}", "for a car i have {}"),
        "a red truck, a white van, a blue jeep, an old taxi, a fast sports car",
    ),
    "drink": _choice(
        ("what do you drink in the morning ?", "what is your favorite drink ?"),
        ("i drink {} every morning", "my favorite drink is {}", "at breakfast i drink {}"),
        "coffee, green tea, cold milk, apple juice, plain water",
    ),
    "birthday": _choice(
        ("when is your birthday ?", "what month were you born in ?"),
        ("my birthday is in {}", "i have my birthday in {}", "my next birthday comes in {}"),
        "january, march, april, june, august, october, december",
    ),
    "meat": Slot(
        ("do you eat meat ?", "what do you like to eat ?", "are you a vegetarian ?"),
        {
            "yes": ("i eat meat every day", "i love to eat meat", "meat is my favorite meal"),
            "no": ("i never eat meat", "meat is not for me", "i gave up meat years ago"),
        },
    ),
    **{hobby: _opinion(hobby, hobby=True) for hobby in ("hiking", "fishing", "dancing", "swimming", "running")},
    **{food: _opinion(food, hobby=False) for food in ("pizza", "spicy food", "cheese", "chocolate", "pasta")},
}
_NAMES = tuple(SLOTS)
_DENIALS: tuple[Fact, ...] = tuple(
    (name, value) for name, slot in SLOTS.items() for value in slot.statements if value.startswith("no")
)
"""Facts that deny something: pets "none at all", and "no" to what one likes."""
DENIED = 0.65
"""Share of contradictions whose last line is a denial; of the other last lines as many are not."""
_OPENERS = (
    "oh nice .", "that is cool !", "wow .", "well ,", "haha ,", "i see .", "to be honest ,", "good question .", "oh ,",
    "that is great .", "interesting .", "sounds fun !", "let me think .", "hmm ,", "you know ,", "lucky you !", "ok ,",
)  # fmt: skip
_TAILS = (
    ", believe it or not .", "and it makes me happy .", ", as you may guess .", ", that is just me .", "these days .",
    ", what can i say .", ", my friends laugh about it .", ", it is true .", "and i think about it often .", ", lol .",
    "and my mother knows it .", ", no joke .", "and that will never change .", ", everyone knows .", ".", ".", ".",
)  # fmt: skip
_REMARKS = (
    "tell me more about it", "i would love to hear more", "that made me smile", "you seem like a nice person",
    "i did not expect that", "i wish i had more time", "it has been a long day here", "the weather is lovely today",
    "i am glad we can chat", "life is full of surprises", "that must keep you busy", "i was just about to ask",
)  # fmt: skip


def _normal(sentence: str) -> str:
    return " ".join(re.findall(r"[a-z']+", sentence.lower()))


_STATEMENTS: dict[str, Fact] = {
    _normal(way): (name, value)
    for name, slot in SLOTS.items()
    for value, ways in slot.statements.items()
    for way in ways
}
_LENGTHS = sorted({len(statement.split()) for statement in _STATEMENTS}, reverse=True)
_FIRST_WORDS = frozenset(statement.split()[0] for statement in _STATEMENTS)


def facts(text: str) -> Iterator[Fact]:
    """The facts that ``text`` states, in order; questions of the language state none."""
    for part in re.split("[.,!?]", text):
        words = _normal(part).split()
        start = 0
        while start < len(words):
            step = 1
            for length in _LENGTHS if words[start] in _FIRST_WORDS else ():
                fact = _STATEMENTS.get(" ".join(words[start : start + length]))
                if fact is not None:
                    yield fact
                    step = length
                    break
            start += step


def contradicts(own_earlier_turns: Sequence[str], reply: str) -> bool:
    """Does ``reply`` contradict a fact that its speaker stated?

    Exact for generated dialogues, and for whatever a model says in their language: it does if it states a value for a
    slot that already has another one, from an earlier turn or persona line of the same speaker or from the reply
    itself. Text outside of the language states nothing.
    """
    stated: dict[str, set[str]] = {}
    for turn in own_earlier_turns:
        for slot, value in facts(turn):
            stated.setdefault(slot, set()).add(value)
    return any(stated.setdefault(slot, {value}) != {value} for slot, value in facts(reply))


class Draws:
    """Cheap draws, one after the other, from one stream: a call of numpy for each would take most of the time."""

    def __init__(self, seed: int, *purpose: str) -> None:
        self._stream = stream(seed, "synthetic", *purpose)
        self._uniforms: Iterator[float] = iter(())

    def uniform(self) -> float:
        """From [0, 1)."""
        value = next(self._uniforms, None)
        if value is None:
            self._uniforms = iter(self._stream.random(4096).tolist())
            value = next(self._uniforms)
        return value

    def below(self, stop: int) -> int:
        """An integer from 0 to ``stop - 1``."""
        return int(self.uniform() * stop)

    def pick(self, options: Sequence[T]) -> T:
        """One of ``options``."""
        return options[self.below(len(options))]

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.uniform() < probability


@dataclass(slots=True)
class _Speaker:
    known: dict[str, str] = field(default_factory=dict)
    avoid: str | None = None
    """A slot that this speaker says nothing about unless told to."""

    def state(self, draws: Draws, name: str) -> str:
        """State the fact of a slot, choosing its value the first time."""
        statements = SLOTS[name].statements
        if name not in self.known:
            self.known[name] = draws.pick(tuple(statements))
        return draws.pick(statements[self.known[name]])

    def answer(self, draws: Draws, asked: str | None) -> str | None:
        """The answer to what was asked; else, mostly, a fact of the speaker's own choice."""
        name = None if asked == self.avoid else asked
        if name is None and draws.chance(0.7):
            name = draws.pick(tuple(self.known) if self.known and draws.chance(0.5) else _NAMES)
        return None if name is None or name == self.avoid else self.state(draws, name)


def _turn(draws: Draws, statement: str | None, asks: str | None) -> str:
    """Dress a statement, or a remark if there is none, with an opener, a tail and a question."""
    parts = [draws.pick(_OPENERS)] if statement is None or draws.chance(0.6) else []
    parts += [draws.pick(_REMARKS), "."] if statement is None else [statement, draws.pick(_TAILS)]
    if asks is not None:
        parts.append(draws.pick(SLOTS[asks].questions))
    return " ".join(parts)


def _convai2_dialogue(draws: Draws) -> Iterator[str]:
    """The lines of a dialogue, without their numbers."""
    me, partner = _Speaker(), _Speaker()
    for _ in range(4 + draws.below(2)):
        statement = me.state(draws, draws.pick([name for name in _NAMES if name not in me.known]))
        yield f"your persona: {statement}."
    persona = tuple(me.known)
    asked: str | None = None
    for index in range(6 + draws.below(3)):
        if index == 0 and draws.chance(0.2):
            text = "__SILENCE__"
        else:
            # Half of the partner's questions are about the persona: their answers must be taken from the context.
            asks = draws.pick(persona if draws.chance(0.5) else _NAMES) if draws.chance(0.7) else None
            text = _turn(draws, partner.answer(draws, asked), asks)
            asked = asks
        statement_or_none = me.answer(draws, asked)
        asked = draws.pick(_NAMES) if draws.chance(0.5) else None
        yield f"{text}\t{_turn(draws, statement_or_none, asked)}"


def _last_fact(draws: Draws, contradiction: bool) -> Fact:
    """What the last line states: a denial more often where it contradicts.

    So it is in human data: who is asked to contradict themselves writes "I don't" and "I hate". It is what a small
    model can learn and unlearn; whether a denial is a contradiction still depends on what was said before.
    """
    if draws.chance(DENIED if contradiction else 1 - DENIED):
        return draws.pick(_DENIALS)
    name = draws.pick(_NAMES)
    return name, draws.pick([value for value in SLOTS[name].statements if (name, value) not in _DENIALS])


def _decode_record(draws: Draws, record: str) -> dict[str, object]:
    """A dialogue of DECODE. The last line is drawn first, and the history so that the label is true."""
    contradiction = draws.chance(0.5)
    name, value = _last_fact(draws, contradiction)
    statements = SLOTS[name].statements
    last = _turn(draws, draws.pick(statements[value]), draws.pick(_NAMES) if draws.chance(0.4) else None)
    count = 4 + draws.below(6)
    # Most histories of both labels hold an earlier statement about the last line's slot: its mere presence says little.
    place = draws.pick(range(count % 2, count, 2)) if contradiction or draws.chance(0.7) else None
    stated = draws.pick([other for other in statements if other != value]) if contradiction else value
    me, partner = _Speaker(avoid=name), _Speaker()
    texts: list[str] = []
    asked: str | None = None
    for index in range(count):
        mine = (count - index) % 2 == 0
        asks = draws.pick(_NAMES) if draws.chance(0.6) else None
        if not mine and index + 1 in (place, count):
            asks = name
        if index == place:
            statement: str | None = draws.pick(statements[stated])
        elif index == count - 1 and draws.chance(0.3):
            # The partner's value of the slot, which a judge must not take for the speaker's.
            statement = partner.state(draws, name)
        else:
            statement = (me if mine else partner).answer(draws, asked)
        texts.append(_turn(draws, statement, asks))
        asked = asks
    return {
        "record_id": record,
        "conversation_id": record,
        "turns": [
            {"turn_id": index, "agent_id": index % 2, "text": text, "context": "", "auxiliary": {}}
            for index, text in enumerate([*texts, last])
        ],
        "is_contradiction": contradiction,
        "aggregated_contradiction_indices": [place, count] if contradiction else [],
        "auxiliary": {"source": "synthetic"},
    }


def _write(path: Path, lines: Iterable[str]) -> None:
    """Write whole files only: what is cut off must not look like data."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{line}\n" for line in lines)
        unfinished.replace(path)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DataError(f"cannot write generated data: {reason}", path=path, hint="choose another folder") from error


def write_convai2(folder: Path, *, seed: int, train_dialogues: int, valid_dialogues: int) -> None:
    """Write the files of ConvAI2 below ``folder``, a function of ``seed`` and the sizes alone.

    Raises:
        DataError: the files cannot be written.
    """
    for split, dialogues in (("train", train_dialogues), ("valid", valid_dialogues)):
        draws = Draws(seed, "convai2", split)
        numbered = (
            f"{number} {line}"
            for _ in range(dialogues)
            for number, line in enumerate(_convai2_dialogue(draws), start=1)
        )
        _write(folder / "ConvAI2" / f"{split}_self_original_no_cands.txt", numbered)


def write_decode(folder: Path, *, seed: int, train: int, dev: int, test: int) -> None:
    """Write the files of DECODE below ``folder``, a function of ``seed`` and the sizes (in dialogues) alone.

    Raises:
        DataError: the files cannot be written.
    """
    for split, size in (("train", train), ("dev", dev), ("test", test)):
        draws = Draws(seed, "decode", split)
        records = (_decode_record(draws, f"synthetic-{split}-{index:06d}") for index in range(size))
        _write(folder / "decode" / "decode_v0.1" / f"{split}.jsonl", map(json.dumps, records))
