"""The data of the page's reader: what every method replied to each prompt, as columns of numbers and shared texts.

The JSON that goes into the page (version 1):

- ``texts``: every turn and reply once; null where texts are left out.
- ``tables``: of each table ``title``, ``metric`` (judged; or null), ``veiled`` (are all its texts hidden at first?),
  ``decodings``, ``seeds``, ``sets`` (of prompts), ``rows`` (``name``, ``kind``), ``prompts`` and ``replies``.
- ``prompts``, one entry a set: ``uid``, and ``context``, lists of places in ``texts``.
- ``replies``, one entry a row, seed, decoding and set, whose lists follow the set's prompts: ``row``, ``seed``,
  ``decoding``, ``set`` (places in the lists above; seed and decoding -1: the same for all), ``text`` (a place in
  ``texts``, -1 where there is none), ``f1`` and ``negative`` (the judge's probability) times 1000, ``nll`` (a token)
  times 100, ``tokens``, ``times`` (how often the row gave this reply to the set), and ``verdict`` and ``guide``, a
  letter a reply: 1 likes it, 0 does not, - was not asked.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmarks.table_inputs import ANY_DECODING
from benchmarks.table_model import MODELS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame

    from benchmarks.rebuild import Built

MAX_BYTES = 30_000_000
"""Of the JSON; where it would be more, a share of the prompts is shown."""
FEWER = (
    "Tables rest on all prompts; so that the page stays small, only those are shown here whose identifiers' hashes "
    "come first"
)
ABUSIVE = "safe"
"""The metric of tasks whose prompts are abusive."""
PREDICTIONS = "predictions.jsonl"
_ANY = -1
"""Seed or decoding of replies that are the same for all."""
_NONE = -1
"""Place of a text that is not there."""


class Reader(NamedTuple):
    """What the reader shows."""

    json: str
    """ASCII; without ``<``, ``>`` and ``&``, so that it can stand inside an element."""
    notes: tuple[str, ...]
    """Sentences on what it does not show."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Replies:
    """What one row replied to a set of prompts, in the order of all prompts of that set."""

    where: Mapping[str, int]
    """Places of row, seed, decoding and set in the table's lists."""
    texts: Sequence[str | None]
    numbers: Mapping[str, NDArray[np.float64]]
    """NaN where there is none."""
    letters: Mapping[str, NDArray[np.float64]]
    """Verdicts: 0, 1, or NaN."""


@dataclass(kw_only=True, slots=True)
class _Source:
    """All that the reader can show of a table."""

    head: dict[str, Any]
    sets: list[str]
    uids: list[list[str]]
    """Of each set."""
    contexts: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """By set and uid."""
    replies: list[_Replies] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read(built: Sequence[Built], *, text: bool) -> Reader:
    """Collect the replies of all tables.

    Args:
        built: the tables.
        text: with contexts and replies; else scores alone, and no file of predictions is opened.

    Returns:
        All prompts, or where those would be more than `MAX_BYTES` a share of each set that depends on nothing but the
        prompts' uids.
    """
    sources = [_source(entry, text=text) for entry in built]
    share = 1.0
    while True:
        content, notes = _content(sources, share, text=text)
        encoded = as_json(content)
        if len(encoded) <= MAX_BYTES or share < 1e-4:
            notes += [note for source in sources for note in source.notes]
            return Reader(encoded, tuple(dict.fromkeys(notes)))
        share *= 0.95 * MAX_BYTES / len(encoded)


def as_json(content: object) -> str:
    """JSON as ASCII that holds no character that means anything to a parser of HTML."""
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _source(entry: Built, *, text: bool) -> _Source:
    """Everything of one table; rounds before the last are not in the reader, as they are not in the table."""
    meta = entry.inputs.meta
    runs = [run for run in entry.inputs.runs if run.round is None]
    names = [name for name in meta.expected if any(run.name == name for run in runs)]
    sets = list(dict.fromkeys(name for column in meta.columns for name in column.over or (column.prompts,)))
    metric = next((column.metric for column in meta.columns if column.metric in meta.judged), None)
    decodings, seeds = list(meta.decodings), list(meta.seeds)
    parts = [
        (run, str(decoding), str(prompts), part)
        for run in runs
        for (decoding, prompts), part in run.scores.groupby(["decoding", "prompts"], sort=True)
        if prompts in sets and decoding in (ANY_DECODING, *decodings)
    ]
    every: dict[str, set[str]] = {name: set() for name in sets}
    for _, _, prompts, part in parts:
        every[prompts].update(part["uid"].tolist())
    head = {
        "title": entry.table.title,
        "metric": metric,
        "veiled": ABUSIVE in meta.judged,
        "decodings": decodings,
        "seeds": seeds,
        "sets": sets,
        "rows": [{"name": name, "kind": meta.expected[name]} for name in names],
    }
    source = _Source(head=head, sets=sets, uids=[sorted(every[name]) for name in sets])
    found = _predictions(entry, source) if text else {}
    for run, decoding, prompts, part in parts:
        where = {
            "row": names.index(run.name),
            "seed": seeds.index(run.seed) if run.kind in MODELS else _ANY,
            "decoding": _ANY if decoding == ANY_DECODING else decodings.index(decoding),
            "set": sets.index(prompts),
        }
        uids = source.uids[where["set"]]
        row = "" if run.kind in MODELS else run.name
        known = found.get((run.name, run.seed), {}).get((row, decoding, prompts), {})
        numbers, letters = _columns(part, uids, metric)
        texts = [known.get(uid) for uid in uids] if text else []
        source.replies.append(_Replies(where=where, texts=texts, numbers=numbers, letters=letters))
    return source


_Found = dict[tuple[str, str, str], dict[str, str]]
"""Replies by row (empty in a method's own predictions), decoding and set of prompts, then by uid."""


def _predictions(entry: Built, source: _Source) -> dict[tuple[str, int], _Found]:
    """The texts of each row and seed; rows that share a directory share what is in it."""
    folders: dict[str, _Found] = {}
    found = {}
    for row in entry.manifest["rows"]:
        if row["round"] is not None:
            continue
        folder = row["scores"]
        if folder not in folders:
            folders[folder] = {}
            problem = _read_predictions(entry.results / folder / PREDICTIONS, folders[folder], source.contexts)
            if problem:
                source.notes.append(f"{source.head['title']}: {row['name']}, seed {row['seed']}: {problem}")
        found[row["name"], row["seed"]] = folders[folder]
    return found


def _read_predictions(path: Path, replies: _Found, contexts: dict[str, dict[str, list[str]]]) -> str:
    """Read what a directory of scores holds to be read; what cannot be read is said, and scores stand without it."""
    number = 0
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):  # noqa: B007 - named in the sentence
                record = json.loads(line)
                prompts, uid = record["prompts"], record["uid"]
                key = (record["row"], record["decoding"], prompts)
                replies.setdefault(key, {})[uid] = _string(record["reply"])
                known = contexts.setdefault(prompts, {})
                if uid not in known:
                    known[uid] = [_string(turn) for turn in record["context"]]
    except OSError as error:
        return f"no texts, for {PREDICTIONS} cannot be read ({error.strerror})."
    except (KeyError, TypeError, ValueError, RecursionError):
        return f"texts are missing from line {number} of {PREDICTIONS} on, which is damaged."
    return ""


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(type(value))
    return value


def _columns(
    part: DataFrame, uids: Sequence[str], metric: str | None
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
    """The scores of one row's replies to a set, in the order of the uids; one that is not there is left out."""
    position = {uid: place for place, uid in enumerate(part["uid"].tolist())}
    places = np.array([position.get(uid, -1) for uid in uids], dtype=np.int64)
    ids = part["reply_id"].tolist()
    counts = Counter(ids)
    stored = {name: part[name].to_numpy(dtype=np.float64) for name in part if part[name].dtype.kind in "fi"}
    stored["times"] = np.array([counts[text] for text in ids], dtype=np.float64)
    stored["rate"] = stored["nll"] / stored["tokens"]

    def aligned(name: str) -> NDArray[np.float64]:
        return np.where(places < 0, np.nan, stored[name][places])

    numbers = {key: scale * aligned(name) for key, (name, scale) in _NUMBERS.items() if name in stored}
    verdicts = {"verdict": metric, "guide": f"{metric}_by_guide"} if metric else {}
    return numbers, {key: aligned(name) for key, name in verdicts.items() if name in stored}


_NUMBERS: Mapping[str, tuple[str, int]] = {
    "f1": ("f1", 1000),
    "nll": ("rate", 100),
    "tokens": ("tokens", 1),
    "times": ("times", 1),
    "negative": ("negative_probability", 1000),
}
"""In the page: the column that it is made from, and by what it is multiplied to be a whole number."""


def _content(sources: Iterable[_Source], share: float, *, text: bool) -> tuple[dict[str, Any], list[str]]:
    """What the page holds with a share of the prompts, and what it says of that."""
    texts: dict[str, int] = {}
    fewer: list[str] = []
    tables = [_table(source, share, texts if text else None, fewer) for source in sources]
    notes = [f"{FEWER}: {', '.join(fewer)}."] if fewer else []
    return {"version": 1, "texts": list(texts) if text else None, "tables": tables}, notes


def _table(source: _Source, share: float, texts: dict[str, int] | None, fewer: list[str]) -> dict[str, Any]:
    chosen = [_chosen(uids, share) for uids in source.uids]
    fewer += [
        f"{len(places):,} of {len(uids):,} of {name} ({source.head['title']})"
        for name, uids, places in zip(source.sets, source.uids, chosen, strict=True)
        if len(places) < len(uids)
    ]
    prompts = []
    for name, uids, places in zip(source.sets, source.uids, chosen, strict=True):
        kept = [uids[place] for place in places]
        known = source.contexts.get(name, {})
        turns = None if texts is None else [[_place(turn, texts) for turn in known.get(uid, ())] for uid in kept]
        prompts.append({"uid": kept, "context": turns})
    replies = []
    for entry in source.replies:
        places = chosen[entry.where["set"]]
        said = None if texts is None else [_place(entry.texts[place], texts) for place in places]
        numbers = {name: _whole(entry.numbers[name][places]) if name in entry.numbers else None for name in _NUMBERS}
        letters = {
            name: _letters(entry.letters[name][places]) if name in entry.letters else None
            for name in ("verdict", "guide")
        }
        replies.append({**entry.where, "text": said, **numbers, **letters})
    return {**source.head, "prompts": prompts, "replies": replies}


def _chosen(uids: Sequence[str], share: float) -> NDArray[np.int64]:
    """Places of the share whose hashes come first, in order."""
    size = math.ceil(share * len(uids))
    if size == len(uids):
        return np.arange(size)
    hashes = [hashlib.sha256(uid.encode("utf-8", "backslashreplace")).digest() for uid in uids]
    return np.array(sorted(sorted(range(len(uids)), key=hashes.__getitem__)[:size]), dtype=np.int64)


def _place(text: str | None, texts: dict[str, int]) -> int:
    return _NONE if text is None else texts.setdefault(text, len(texts))


def _whole(values: NDArray[np.float64]) -> list[int | None] | None:
    """Whole numbers, None for what is not finite; None for all when nothing is."""
    finite = np.isfinite(values)
    if not finite.any():
        return None
    whole: list[int | None] = np.rint(np.where(finite, values, 0)).astype(np.int64).tolist()
    return whole if finite.all() else [value if there else None for value, there in zip(whole, finite, strict=True)]


def _letters(values: NDArray[np.float64]) -> str | None:
    """A letter a verdict; None when there is none."""
    known = np.isfinite(values)
    return "".join(np.where(known, np.where(values >= 0.5, "1", "0"), "-").tolist()) if known.any() else None
