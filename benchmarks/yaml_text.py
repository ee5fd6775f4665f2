"""Reading YAML that a user wrote: plain values alone, each key once, of a size that its text shows.

PyYAML's safe loader builds no objects but plain ones. It keeps the last of two equal keys, though, lets errors of
Python through (a date with a thirteenth month), and shares what an alias stands for, so that a few lines can mean
billions of values, which nobody may walk over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from benchmarks.errors import clip

if TYPE_CHECKING:
    from collections.abc import Hashable

MOST_VALUES = 100_000
"""Values in a text, each counted as often as aliases repeat it."""


def read_yaml(text: str) -> Any:  # noqa: ANN401 - YAML is of any type
    """The plain value that a text stands for.

    Raises:
        ValueError: what is wrong with it, in one line.
    """
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _require_tree(loader, node)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    # A date or a number that is none ends in an error of the function that was to make it.
    except (yaml.YAMLError, ValueError, AttributeError, TypeError, OverflowError) as error:
        raise ValueError(clip(" ".join(str(error).split()), 160)) from error


def _require_tree(loader: yaml.SafeLoader, root: yaml.Node) -> None:
    """Refuse a key that is there twice, a value that holds itself, and more values than there may be."""
    sizes: dict[int, int] = {}
    above: set[int] = set()

    def size(node: yaml.Node) -> int:
        """Values below a node, itself among them."""
        if id(node) in above:
            raise ValueError("a value holds itself")
        if id(node) not in sizes:
            above.add(id(node))
            sizes[id(node)] = 1 + sum(map(size, _parts(loader, node)))
            above.discard(id(node))
        if sizes[id(node)] > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES:,} values")
        return sizes[id(node)]

    size(root)


def _parts(loader: yaml.SafeLoader, node: yaml.Node) -> list[yaml.Node]:
    """What a node holds, its keys among them."""
    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    if not isinstance(node, yaml.MappingNode):
        return []
    seen: set[Hashable] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
            name = loader.construct_object(key)
            if name in seen:
                raise ValueError(f"the key {clip(repr(name))} is there twice, line {key.start_mark.line + 1}")
            seen.add(name)
    return [part for pair in node.value for part in pair]
