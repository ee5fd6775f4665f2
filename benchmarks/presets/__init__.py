"""Presets that come with the package, one YAML file each; the comment in its first line says what it is for."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
_BY_SIZE = ("tiny", "cpu", "small", "small_pretrained", "paper")


def preset_entries() -> dict[str, str]:
    """Name and sentence of every preset, from small to large."""
    found = {}
    for path in FOLDER.glob("*.yaml"):
        with path.open(encoding="utf-8") as file:
            found[path.stem] = file.readline().removeprefix("#").strip()
    return {name: found[name] for name in (*_BY_SIZE, *sorted(found.keys() - set(_BY_SIZE))) if name in found}
