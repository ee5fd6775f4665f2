"""How many different things a model says."""

from __future__ import annotations

from collections.abc import Iterable


def distinct_share(replies: Iterable[str]) -> float:
    """The number of different replies, divided by the number of replies.

    Replies that differ in case or blanks alone are the same reply. Hashes of replies do as well as their texts.

    Returns:
        A share in (0, 1]: 1 when no reply occurs twice, 1/n when all n are the same.

    Raises:
        TypeError: ``replies`` is one string.
        ValueError: there is no reply, and therefore no share.
    """
    if isinstance(replies, str):
        raise TypeError("replies must be several strings, not one")
    normalised = [" ".join(reply.casefold().split()) for reply in replies]
    if not normalised:
        raise ValueError("the share of distinct replies is undefined without replies")
    return len(set(normalised)) / len(normalised)
