"""Processes that train together: their sums, with the same bits for any number of them."""

from __future__ import annotations

from .base import Collectives, ProcessError
from .find import find_collectives, launched, local_rank
from .tree import Node, TreeSum, blocks_of, nodes_of, tree_sum

__all__ = [
    "Collectives",
    "Node",
    "ProcessError",
    "TreeSum",
    "blocks_of",
    "find_collectives",
    "launched",
    "local_rank",
    "nodes_of",
    "tree_sum",
]
