"""Finds the methods: every file of this folder that is not a part of the machinery is one."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from cringe.discovery import Entry, discover

if TYPE_CHECKING:
    from cringe.methods.base import Method

_MACHINERY = frozenset({"base", "registry"})


def entries() -> dict[str, Entry]:
    """Name and sentence of every method, without importing any."""
    return discover("cringe.methods", exclude=_MACHINERY)


def load(name: str) -> type[Method]:
    """The class of a method; its fields are the hyper-parameters.

    Raises:
        KeyError: no method has this name.
    """
    method: type[Method] = import_module(entries()[name].module).METHOD
    return method
