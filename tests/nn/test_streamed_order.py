"""The order in which an epoch visits rows that are larger than memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.random import generator, permutation
from nn.data.streamed.order import Order

ORDERS = st.builds(
    Order.of,
    n=st.integers(1, 400),
    window=st.integers(1, 120),
    block=st.integers(1, 50),
    batch=st.integers(1, 40),
    seed=st.integers(0, 2),
    shuffled=st.booleans(),
)


@given(order=ORDERS, epoch=st.integers(1, 4))
def test_every_row_is_visited_once_by_seed_and_epoch_alone(order: Order, epoch: int) -> None:
    visited = order.epoch(epoch)
    assert visited.dtype == np.int64
    np.testing.assert_array_equal(np.sort(visited), np.arange(order.n))
    again = Order(order.n, order.window, order.block, order.seed, order.shuffled)
    np.testing.assert_array_equal(again.epoch(epoch), visited)


@given(order=ORDERS, epoch=st.integers(1, 4))
def test_windows_have_their_length_and_are_blocks_of_neighbours(order: Order, epoch: int) -> None:
    spans = [order.span(index) for index in range(order.windows)]
    assert [len(span) for span in spans[:-1]] == [order.window] * (order.windows - 1)
    assert 0 < len(spans[-1]) <= order.window
    cut = order.windows > 1 and order.shuffled
    stored = []
    for index, span in enumerate(spans):
        ranges = order.ranges(epoch, index)
        assert sum(map(len, ranges)) == len(span)
        if cut:
            assert all(len(rows) > 0 and rows.start // order.block == (rows.stop - 1) // order.block for rows in ranges)
        read = [row for rows in ranges for row in rows]
        assert sorted(order.rows(epoch, index).tolist()) == sorted(read)
        stored += read
    # What is read, one window after the other, is whole blocks in the order of a permutation.
    if cut:
        count = -(-order.n // order.block)
        blocks = generator(order.seed, "blocks", epoch).permutation(count).tolist()
        ends = [min((block + 1) * order.block, order.n) for block in blocks]
        whole = [range(block * order.block, end) for block, end in zip(blocks, ends, strict=True)]
        assert stored == [row for rows in whole for row in rows]
    elif not order.shuffled:
        assert order.epoch(epoch).tolist() == list(range(order.n))


def test_windows_are_whole_batches_and_one_that_has_all_rows_is_shuffled_as_in_memory() -> None:
    assert Order.of(1000, 100, 5, 32).window == 96
    assert Order.of(1000, 20, 5, 32).window == 32
    for whole in (Order.of(100, 100, 5, 32, seed=3), Order.of(100, 20, 5, 100, seed=3)):
        assert (whole.window, whole.windows) == (100, 1)
        for epoch in (1, 2):
            np.testing.assert_array_equal(whole.epoch(epoch), permutation(100, 3, epoch))


def test_epochs_seeds_and_windows_differ() -> None:
    order = Order.of(1000, 100, 5, 10, seed=3)
    first = order.epoch(1)
    for other in (order.epoch(2), Order.of(1000, 100, 5, 10, seed=4).epoch(1)):
        assert (first != other).mean() > 0.9
    assert not np.array_equal(order.inside(1, 0), order.inside(1, 1))  # type: ignore[arg-type]
    # Rows of a window are mixed, and so are the blocks that it is made of.
    blocks = order.rows(1, 0) // 5
    assert len(set(blocks.tolist())) == 20
    assert (np.diff(blocks) == 0).mean() < 0.2


@pytest.mark.parametrize("block", [1, 7, 100, 5000])
def test_rows_that_are_sorted_end_up_everywhere(block: int) -> None:
    """With blocks that are small against a window, the mean of the rows of a window is near that of all."""
    order = Order.of(5000, 1000, block, 10)
    means = [order.rows(1, index).mean() / 2499.5 for index in range(order.windows)]
    assert max(abs(mean - 1) for mean in means) < (0.1 if block <= 7 else 1.0)
