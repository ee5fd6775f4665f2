"""The way to ParlAI: there in `tox -e oracle`, skipped elsewhere, and never over the network."""

from __future__ import annotations

import socket
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import NoReturn

import pytest


@pytest.fixture(scope="module", autouse=True)
def _offline() -> Iterator[None]:
    """What reaches for the network fails: ParlAI downloads what it does not find."""

    def refuse(*args: object) -> NoReturn:
        raise AssertionError(f"a test reached for the network: {args[-1]}")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        yield


@pytest.fixture(scope="module")
def parlai() -> Callable[[str], ModuleType]:
    """Imports a module of ParlAI. Without ParlAI the test is skipped; a ParlAI that cannot be imported is an error."""
    if find_spec("parlai") is None:
        pytest.skip("needs ParlAI: run `tox -e oracle`")

    def load(name: str) -> ModuleType:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is of 2023
            return import_module(name)

    return load
