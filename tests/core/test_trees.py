"""Trees: taking apart and putting together, and what each part is called."""

import dataclasses
from typing import Any, NamedTuple

import pytest

from tinygrad_vae.core import trees


class Pair(NamedTuple):
    first: Any
    second: Any


@dataclasses.dataclass(frozen=True)
class Layer:
    weight: Any
    inner: Any
    power: int = trees.static(default=2)


TREE = {"a": [1, (2,)], "b": Pair(3, None), "c": Layer(4, {"x": 5}, power=7)}


def test_leaves_stand_in_order_and_are_named_by_their_path():
    assert list(trees.paths(TREE)) == [
        ("a.0", 1),
        ("a.1.0", 2),
        ("b.first", 3),
        ("c.weight", 4),
        ("c.inner.x", 5),
    ]
    assert trees.leaves(None) == []
    assert list(trees.paths(8)) == [("", 8)]


def test_a_tree_is_put_together_as_it_was():
    assert trees.replace_leaves(TREE, trees.leaves(TREE)) == TREE
    doubled = trees.map_leaves(lambda x: 2 * x, TREE)
    assert doubled == {"a": [2, (4,)], "b": Pair(6, None), "c": Layer(8, {"x": 10}, power=7)}
    assert trees.map_leaves(lambda x, y: x - y, doubled, TREE) == TREE


def test_trees_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="5 leaves, found 1 new"):
        trees.replace_leaves(TREE, [1])
    with pytest.raises(ValueError, match="first tree has 5 leaves, another has 2"):
        trees.map_leaves(lambda x, y: x, TREE, [1, 2])
