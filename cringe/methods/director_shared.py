"""DIRECTOR whose classifier is two scalars on the language model's own logits."""

from __future__ import annotations

from typing import ClassVar

from cringe.methods.director import Director


class DirectorShared(Director):
    """Class logits are ``a · LM logits + b``, with (a, b) from (1, 0) on, as in the released code."""

    shared: ClassVar[bool] = True


METHOD = DirectorShared
