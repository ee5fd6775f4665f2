"""Where published numbers come from: the command, the commits, the machines, and the settings of every stage."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.errors import DataError
from benchmarks.stored import read_json

FILE = "provenance.md"
_RELEASE = re.compile(r"^(?P<system>[A-Za-z]+)-.*-(?P<machine>x86_64|amd64|arm64|aarch64)\b.*$")
"""What `platform.platform` gives; the release of the kernel and what else stands between says nothing of a result."""
_PATH = re.compile(r"(?<![^\s=,:'\"\[(])/(?:[^\s,'\"\])/]+/)*([^\s,'\"\])/]+)/?")
"""An absolute path in a sentence or a setting; its last part is kept."""
SWEEP, LM_ENTRY, SHARED_JUDGE = "a sweep of ", "lm_data=", "a shared judge"
"""How entries begin among the changes of a preset that are options of their own, and not settings."""


class Provenance(NamedTuple):
    """What is known of how a table was made."""

    specs: dict[str, Any]
    """Of every stage that the table rests on, by its label."""
    environments: list[dict[str, Any]]
    """Machine, packages and commit; equal ones once, each with the number of its stages."""


def gather(folders: Iterable[Path]) -> Provenance:
    """Collect what the stages of a table were made with, and those that they start from.

    Args:
        folders: directories of stages, all in one results folder.

    Raises:
        DataError: a file of a stage cannot be read.
    """
    specs: dict[str, Any] = {}
    counted: dict[str, int] = {}
    for folder, spec in _with_parents(folders):
        specs[f"{spec['label']} {spec['key'][:12]}"] = without_paths(spec)
        if (folder / "environment.json").exists():
            made_on = json.dumps(_shortened(read_json(folder / "environment.json")), sort_keys=True)
            counted[made_on] = counted.get(made_on, 0) + 1
    environments = [{**json.loads(text), "stages": count} for text, count in sorted(counted.items())]
    return Provenance(dict(sorted(specs.items())), environments)


def _with_parents(folders: Iterable[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Directories of stages, and of all that they start from, each once and with its specification."""
    todo, seen = sorted(set(folders)), set[Path]()
    known = {path.name.rpartition("-")[2]: path for folder in todo[:1] for path in sorted(folder.parent.iterdir())}
    while todo:
        folder = todo.pop(0)
        if folder in seen:
            continue
        seen.add(folder)
        if not (folder / "spec.json").is_file():
            raise DataError("has no spec.json", path=folder, hint="run the command that made it again")
        spec = read_json(folder / "spec.json")
        yield folder, spec
        todo += sorted(known[key[:12]] for key in spec["parents"].values() if key[:12] in known)


def _shortened(environment: Mapping[str, Any]) -> dict[str, Any]:
    """What a machine was, without the release of its kernel."""
    found = _RELEASE.match(str(environment.get("platform", "")))
    platform = f"{found['system']}-{found['machine']}" if found else ""
    return {**without_paths(environment), "platform": platform}


def without_paths(value: Any) -> Any:  # noqa: ANN401 - JSON is of any type
    """JSON with the last part of every absolute path in the path's place."""
    if isinstance(value, Mapping):
        return {name: without_paths(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [without_paths(entry) for entry in value]
    return _PATH.sub(r"\1", value) if isinstance(value, str) else value


def command(made_from: Mapping[str, Any], device: str) -> str:
    """The command that makes a table again, with DIR for the folder of the data.

    Args:
        made_from: the table's manifest.
        device: kind of device of its runs.
    """
    words = ["--task", made_from["task"], "--methods", *made_from["settings"]["methods"]]
    words += ["--preset", made_from["preset"], "--seeds", *map(str, made_from["seeds"])]
    changes: Sequence[str] = made_from["changes"]
    sweeps = [change.removeprefix(SWEEP) for change in changes if change.startswith(SWEEP)]
    lm_data = [change.removeprefix(LM_ENTRY) for change in changes if change.startswith(LM_ENTRY)]
    settings = [change for change in changes if not change.startswith((SWEEP, LM_ENTRY, SHARED_JUDGE))]
    for option, values in (("--set", settings), ("--sweep", sweeps), ("--lm-data", lm_data)):
        words += [option, *values] if values else []
    words += ["--judge", "shared"] if made_from["settings"]["shared_judge"] else []
    words += ["--device", device] if device else []
    words += ["--data", "synthetic" if made_from["generated_data"] else "DIR"]
    return "python -m benchmarks.run " + " ".join(map(shlex.quote, words))


def to_markdown(made_from: Mapping[str, Any]) -> str:
    """A page on how a published table was made.

    Args:
        made_from: its manifest, as `benchmarks.publish` writes it.
    """
    recorded = made_from["recorded"]
    made = [
        "| stages | commit | Python | processor | device | threads a stage |",
        "| ---: | :--- | :--- | :--- | :--- | ---: |",
        *(
            f"| {one['stages']} | {one.get('commit') or 'not recorded'} | {one['python']} "
            f"| {one['processor']}, {one['platform']} | {one['device']} | {one['threads']} |"
            for one in recorded["environments"]
        ),
    ]
    versions = ", ".join(f"{name} {version}" for name, version in recorded["versions"].items())
    data = [f"| `{name}` | `{digest}` |" for name, digest in sorted((made_from["data"] or {}).items())]
    lines = [
        f"# How {made_from['task']}-{made_from['preset']} was made",
        "",
        f"    {recorded['command']}",
        "",
        *made,
        "",
        f"Packages: {versions}.",
        "",
    ]
    if data:
        lines += ["| file of the data | SHA-256 |", "| :--- | :--- |", *data, ""]
    return "\n".join(lines)
