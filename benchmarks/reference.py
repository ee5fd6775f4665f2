"""Scores to compare: tables as they were made, or a reference; which tables match, and what else differs in them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.errors import DataError, UsageError
from benchmarks.rebuild import TABLES, Built, rebuild
from benchmarks.table_inputs import RunScores
from benchmarks.textless import RECORDED, hashed

_OWN = frozenset({"seeds", "methods", "settings", "changes", "preset", "task", "sweeps"})
"""Settings that may differ, or that are compared in another way."""
_LATER = {"processes": 1}
"""What older tables were made with, of settings that they do not know."""


class Key(NamedTuple):
    """What two tables must have in common to be compared."""

    task: str
    preset: str
    generated: bool

    def __str__(self) -> str:
        return f"{self.task}-{self.preset}{'-synthetic' if self.generated else ''}"


class Match(NamedTuple):
    """Tables that can be compared, and tables that only one side has."""

    pairs: list[tuple[Key, Built, Built]]
    only_old: list[str]
    only_new: list[str]


def load(folder: Path, warn: Callable[[str], None]) -> list[Built]:
    """The tables of a results folder, of a table or of a reference; prompts, dialogues and replies as hashes.

    Raises:
        UsageError: there is none.
        DataError: none can be read.
    """
    found = rebuild(folder, warn)
    if not found:
        raise DataError("holds no table that can be read", path=folder, hint="run the command that made it again")
    return [built._replace(inputs=built.inputs._replace(runs=_final(built))) for built in found]


def _final(built: Built) -> list[RunScores]:
    """The runs of the table's rows, hashed."""
    return [run for run in hashed(built) if run.round is None]


def match(old: Sequence[Built], new: Sequence[Built], warn: Callable[[str], None]) -> Match:
    """Pair the tables of two sides by task, preset and whether data are generated.

    Args:
        old: the tables of one side.
        new: those of the other.
        warn: is told of tables that are left aside.

    Raises:
        UsageError: a side has two tables of one kind, or no table has a counterpart.
    """
    ours, theirs = (by_key(side, name, warn) for side, name in ((old, "OLD"), (new, "NEW")))
    pairs = [(key, ours[key], theirs[key]) for key in sorted(ours.keys() & theirs.keys())]
    if not pairs:
        known = "; ".join(
            f"{name} has {', '.join(str(key) for key in sorted(side))}"
            for name, side in (("OLD", ours), ("NEW", theirs))
        )
        raise UsageError(
            f"no table of OLD has a counterpart in NEW: {known}\n  next step: run the same task and preset"
        )
    return Match(
        pairs, *([str(key) for key in sorted(one.keys() - other)] for one, other in ((ours, theirs), (theirs, ours)))
    )


def by_key(tables: Sequence[Built], side: str, warn: Callable[[str], None]) -> dict[Key, Built]:
    """The tables of one side by what they must have in common with those of another.

    Beside the table of a run, those of the same kind that `benchmarks.score` made are left aside.

    Args:
        tables: of the side.
        side: what sentences call their folder.
        warn: is told of tables that are left aside.

    Raises:
        UsageError: two are of one kind.
    """
    alike: dict[Key, list[Built]] = {}
    for built in tables:
        manifest = built.manifest
        key = Key(manifest["task"], manifest["preset"], manifest["generated_data"])
        alike.setdefault(key, []).append(built)
    found: dict[Key, Built] = {}
    for key, same in alike.items():
        chosen = [built for built in same if built.manifest["settings"]["methods"]] or same
        if len(chosen) > 1:
            raise UsageError(
                f"{side} has several tables of {key}: {', '.join(built.name for built in chosen)}\n"
                f"  next step: name the folder of one of them, such as {TABLES}/{chosen[-1].name}"
            )
        found[key] = chosen[0]
        for built in same:
            if built is not chosen[0]:
                warn(f"{side}: {built.name} is left aside: it has no method of a run, and {chosen[0].name} has.")
    return found


def unlike(old: Built, new: Built) -> list[str]:
    """Sentences on what two tables should have in common and have not: data, prompts, settings.

    The code may differ, for that is what is compared; so may seeds, and the set of methods.
    """
    before, after = old.manifest, new.manifest
    sentences = []
    if before["data"] != after["data"]:
        files = _differing(before["data"] or {}, after["data"] or {})
        sentences.append(f"The data differ: {', '.join(files)}.")
    if before["sources"] != after["sources"]:
        sentences.append(f"Trained on other sources: {', '.join(before['sources'])} → {', '.join(after['sources'])}.")
    sentences += _unlike_prompts(old, new)
    ours, theirs = (
        dict(_leaves({name: value for name, value in (_LATER | side["settings"]).items() if name not in _OWN}))
        for side in (before, after)
    )
    for name in (row for row in _methods(before) if row in _methods(after)):
        for flat, side in ((ours, before), (theirs, after)):
            flat |= _leaves(side["settings"]["settings"].get(name, {}), (name,))
    # Where nothing is set it is as it was before there was anything to set.
    ours, theirs = ({name: value for name, value in flat.items() if value is not None} for flat in (ours, theirs))
    changed = [f"{name} {_said(ours, name)} → {_said(theirs, name)}" for name in _differing(ours, theirs)]
    if changed:
        sentences.append(f"The settings differ: {'; '.join(changed)}.")
    return sentences


def surroundings(old: Built, new: Built) -> str:
    """A sentence on the packages and the device that the two sides ran with, where they are not the same."""
    before, after = (dict(_leaves(made_with(side))) for side in (old, new))
    changed = [f"{name} {_said(before, name)} → {_said(after, name)}" for name in _differing(before, after)]
    return f"Made with other packages or on another device: {'; '.join(changed)}." if changed else ""


def _unlike_prompts(old: Built, new: Built) -> Iterator[str]:
    """Prompts that only one side has, and gold replies that are not the same."""
    before, after = (_prompts(side.inputs.runs) for side in (old, new))
    for name in sorted(before.keys() & after.keys()):
        both = before[name].keys() & after[name].keys()
        most = max(len(before[name]), len(after[name]))
        if len(both) < most:
            then = "only these are compared" if both else "they are compared as two samples of prompts"
            yield f"Of up to {most} prompts of {name}, {len(both)} are the same on both sides: {then}."
        changed = sum(before[name][uid] != after[name][uid] for uid in both if before[name][uid] and after[name][uid])
        if changed:
            yield f"The gold replies to {changed} prompts of {name} differ."


def _prompts(runs: Iterable[RunScores]) -> dict[str, dict[str, str]]:
    """By set of prompts and prompt, the hash of the gold reply; empty where there is none."""
    found: dict[str, dict[str, str]] = {}
    for run in sorted(runs, key=lambda run: run.kind == "ceiling"):
        columns = (run.scores[name] for name in ("prompts", "uid", "reply_id"))
        for prompts, uid, reply in zip(*columns, strict=True):
            found.setdefault(prompts, {})[uid] = reply if run.kind == "ceiling" else ""
    return found


def _methods(manifest: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(row["name"] for row in manifest["rows"] if row["kind"] == "method"))


def _leaves(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, object]]:
    """The values of nested settings, by the names that lead to them."""
    if isinstance(value, Mapping):
        for name, entry in value.items():
            yield from _leaves(entry, (*path, str(name)))
    else:
        yield ".".join(path), value


def _differing(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    missing = object()
    return sorted(
        name for name in before.keys() | after.keys() if before.get(name, missing) != after.get(name, missing)
    )


def _said(flat: Mapping[str, object], name: str) -> str:
    return json.dumps(flat[name], ensure_ascii=False) if name in flat else "(none)"


def made_with(built: Built) -> Mapping[str, Any]:
    """Versions of the packages and kind of device; empty where they are not known."""
    if RECORDED in built.manifest:
        known: Mapping[str, Any] = built.manifest[RECORDED]
        return known
    for row in built.manifest["rows"]:
        path = built.results / row["scores"] / "spec.json"
        try:
            spec = json.loads(path.read_text(encoding="utf-8"))
            return {"device": spec["device"], "versions": spec["versions"]}
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
    return {}
