"""The order in which an epoch visits rows that are larger than memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.random import generator, permutation
from nn.data.streamed.order import ALL_LANES, LANES, Order, lanes_of

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
    again = Order(order.n, order.window, order.block, order.batch, order.seed, order.shuffled)
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


def slots_of(order: Order, index: int, blocks: range, count: int) -> np.ndarray:
    """The positions in a window that these blocks of its batches have, of ``count`` blocks in all."""
    length, found = len(order.span(index)), list[int]()
    for start in range(0, length, order.batch):
        rows = min(order.batch, length - start)
        found += range(start + rows * blocks.start // count, start + rows * blocks.stop // count)
    return np.array(found, int)


@given(order=ORDERS, epoch=st.integers(1, 3), parts=st.sampled_from([(1, 1), (2, 1), (3, 2), (6, 1), (8, 3), (100, 7)]))
def test_lanes_have_all_rows_of_their_blocks_and_the_order_of_all(
    order: Order, epoch: int, parts: tuple[int, int]
) -> None:
    count, each = parts
    for index in range(order.windows):
        whole = order.rows(epoch, index)
        for first in range(0, count, each):
            blocks = range(first, min(first + each, count))
            part = replace(order, lanes=lanes_of(blocks, count))
            read = np.array([row for rows in part.ranges(epoch, index) for row in rows], int)
            slots = slots_of(order, index, blocks, count)
            inside = part.inside(epoch, index)
            assert len(read) == len(part.part(index)) <= part.most_read
            if inside is None:
                assert len(read) == len(whole)
                continue
            assert len(inside) == len(whole)
            assert inside.min() >= 0
            assert inside.max() < max(len(read), 1)
            np.testing.assert_array_equal(read[inside[slots]], whole[slots])
            if order.has_lanes:  # at each end of them there may be a lane of which only a part is needed
                batches = -(-len(whole) // order.batch)
                assert len(slots) <= len(read) <= len(slots) + 2 * batches * -(-order.batch // LANES)


@given(order=ORDERS, epoch=st.integers(1, 3))
def test_neighbouring_lanes_are_neighbouring_parts_of_what_is_read(order: Order, epoch: int) -> None:
    if not order.has_lanes:
        return
    for index in range(order.windows):
        lanes = [replace(order, lanes=range(lane, lane + 1)) for lane in ALL_LANES]
        read = [[row for rows in lane.ranges(epoch, index) for row in rows] for lane in lanes]
        whole = [row for rows in order.ranges(epoch, index) for row in rows]
        assert [row for rows in read for row in rows] == whole
        for lane, rows in zip(ALL_LANES, read, strict=True):
            slots = slots_of(order, index, range(lane, lane + 1), LANES)
            assert sorted(order.rows(epoch, index)[slots].tolist()) == sorted(rows)


@given(start=st.integers(0, 100), count=st.integers(1, 200), window=st.integers(1, 60), batch=st.integers(1, 40))
def test_a_part_of_the_rows_is_read_as_it_is_stored(start: int, count: int, window: int, batch: int) -> None:
    order = Order.of(count, window, 5, batch, shuffled=False, first=start)
    assert order.epoch(0).tolist() == list(range(start, start + count))
    assert all(order.window_of(row) == index for index in range(order.windows) for row in order.span(index))


def test_rows_are_shuffled_within_their_lane_only_and_everywhere_there() -> None:
    """Each row of a lane is at each of its slots about as often, over many epochs."""
    window = 3 * LANES  # of three batches, of which each lane has a slot
    order, found = Order.of(2 * window, window, 1, LANES, seed=1), np.zeros((3, 3), int)
    for epoch in range(1, 101):
        inside = order.inside(epoch, 0)
        assert inside is not None
        assert (inside // 3 == np.arange(window) % LANES).all()
        np.add.at(found, (np.arange(window) // LANES, inside % 3), 1)
    assert abs(found / (100 * window / 9) - 1).max() < 0.05  # four standard deviations


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
