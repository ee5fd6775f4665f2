"""Plain likelihood training on positive and unlabelled responses: the baseline."""

from cringe.methods.base import Method


class Transformer(Method):
    """Cross-entropy on everything that is not negative; negative responses are read and left without a loss."""


METHOD = Transformer
