"""Sums over blocks have the same bits however many processes have the blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import get_backend
from backends.collectives import Collectives, Node, TreeSum, blocks_of, nodes_of, tree_sum
from backends.collectives.tree import exchanges, halves_fit
from tests.helpers.processes import together


def blocks_with_sizes(most: int = 24) -> st.SearchStrategy[tuple[int, int]]:
    """How many blocks, and a number of processes that divides it."""
    divisors = {count: [size for size in range(1, count + 1) if count % size == 0] for count in range(1, most + 1)}
    return st.sampled_from([(count, size) for count, sizes in divisors.items() for size in sizes])


def values_of(block: int, n: int) -> np.ndarray:
    return np.random.default_rng((block, n)).normal(size=n).astype(np.float32)


def written_out(blocks: int, own: range | None = None) -> str:
    """The additions, in words: of all blocks, or of some that follow each other."""
    chosen = range(blocks) if own is None else own
    return tree_sum([Node(b, 1) for b in chosen], [str(b) for b in chosen], "({} {})".format)


@pytest.mark.parametrize(
    ("blocks", "additions"),
    [(1, "0"), (2, "(0 1)"), (3, "((0 1) 2)"), (4, "((0 1) (2 3))"), (6, "(((0 1) (2 3)) (4 5))"),
     (7, "(((0 1) (2 3)) ((4 5) 6))")],
)  # fmt: skip
def test_additions_are_those_of_a_binary_tree(blocks: int, additions: str) -> None:
    assert written_out(blocks) == additions


@given(blocks_with_sizes())
def test_whoever_adds_the_additions_are_the_same(counts: tuple[int, int]) -> None:
    blocks, size = counts
    nodes: list[Node] = []
    sums: list[str] = []
    for rank in range(size):
        tree = TreeSum[str]("({} {})".format)
        for block in blocks_of(rank, size, blocks):
            tree.put(Node(block, 1), str(block))
        assert [node for node, _ in tree.nodes] == nodes_of(blocks_of(rank, size, blocks))
        nodes += [node for node, _ in tree.nodes]
        sums += [text for _, text in tree.nodes]
    assert tree_sum(nodes, sums, "({} {})".format) == written_out(blocks)


@given(blocks_with_sizes(12), st.integers(1, 40))
def test_sums_over_processes_have_the_same_bits(counts: tuple[int, int], n: int) -> None:
    blocks, size = counts
    expected = tree_sum([Node(b, 1) for b in range(blocks)], [values_of(b, n) for b in range(blocks)], np.add)

    def work(collectives: Collectives) -> np.ndarray:
        backend = get_backend("cpu")
        backend.collectives = collectives
        tree = TreeSum[np.ndarray](np.add)
        for block in blocks_of(collectives.rank, size, blocks):
            tree.put(Node(block, 1), values_of(block, n))
        out = np.full(n, np.nan, np.float32)
        own = [values for _, values in tree.nodes]
        result: np.ndarray = backend.sum_over_processes(own, [node for node, _ in tree.nodes], blocks, out)
        return result

    for found in together(size, work):
        assert found.tobytes() == expected.tobytes()


@given(st.integers(0, 4), st.integers(0, 3), st.integers(0, 300))
def test_halves_are_added_as_the_tree_adds_and_come_back_to_all(power: int, more: int, n: int) -> None:
    size, blocks = 1 << power, 1 << (power + more)
    assert halves_fit(size, blocks)
    of_rank = [written_out(blocks, blocks_of(rank, size, blocks)) for rank in range(size)]
    values = [[text] * n for text in of_rank]
    plans = [exchanges(rank, size, n) for rank in range(size)]
    for number in range(power):
        before = [[*row] for row in values]
        for rank, plan in enumerate(plans):
            partner, is_left, keeps, gives = plan[number]
            assert plans[partner][number] == (rank, not is_left, gives, keeps)
            first, second = (rank, partner) if is_left else (partner, rank)
            values[rank][keeps] = [
                f"({a} {b})" for a, b in zip(before[first][keeps], before[second][keeps], strict=True)
            ]
    for number in reversed(range(power)):
        before = [[*row] for row in values]
        for rank, plan in enumerate(plans):
            partner, _, _, gives = plan[number]
            values[rank][gives] = before[partner][gives]
    assert values == [[written_out(blocks)] * n] * size


@pytest.mark.parametrize(("size", "blocks"), [(3, 3), (6, 6), (2, 6), (4, 12)])
def test_halves_do_not_fit_other_numbers(size: int, blocks: int) -> None:
    assert not halves_fit(size, blocks)


def test_halves_share_the_work() -> None:
    for rank in range(8):
        kept = [exchange.keeps for exchange in exchanges(rank, 8, 8000)]
        assert [part.stop - part.start for part in kept] == pytest.approx([4000, 2000, 1000], abs=64)
        assert [exchange.partner for exchange in exchanges(rank, 8, 8000)] == [rank ^ 1, rank ^ 2, rank ^ 4]


def test_the_order_of_additions_matters_for_these_numbers() -> None:
    values = [values_of(block, 40) for block in range(8)]
    assert tree_sum([Node(b, 1) for b in range(8)], values, np.add).tobytes() != sum(values[1:], values[0]).tobytes()


def test_blocks_that_cannot_be_dealt_out_are_refused() -> None:
    with pytest.raises(ValueError, match="8 blocks of rows cannot be dealt out evenly to 3 processes"):
        blocks_of(0, 3, 8)
