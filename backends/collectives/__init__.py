"""Processes that train together: their sums, with the same bits for any number of them."""

from __future__ import annotations

from .base import Collectives
from .find import ProcessError, find_collectives, launched
from .tree import Node, TreeSum, blocks_of, nodes_of, tree_sum

__all__ = [
    "Collectives",
    "Node",
    "ProcessError",
    "TreeSum",
    "blocks_of",
    "find_collectives",
    "launched",
    "nodes_of",
    "tree_sum",
]
