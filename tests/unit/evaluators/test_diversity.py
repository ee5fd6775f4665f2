"""Shares of distinct replies."""

import pytest

from evaluators.diversity import distinct_share


@pytest.mark.parametrize(
    ("replies", "share"),
    [
        (["a"], 1.0),
        (["a", "b", "c", "d"], 1.0),
        (["a", "a", "a", "b"], 0.5),
        (["Hello  you", "hello you ", "HELLO\nYOU"], 1 / 3),
        (["", " "], 0.5),
    ],
)
def test_share(replies, share):
    assert distinct_share(replies) == share


def test_no_reply_has_no_share():
    with pytest.raises(ValueError, match="undefined"):
        distinct_share([])


def test_one_string_is_not_several_replies():
    with pytest.raises(TypeError):
        distinct_share("hello")
