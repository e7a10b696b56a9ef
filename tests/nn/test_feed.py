"""Batches of rows that are on the device: which rows they have, and in which memory."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from backends import get_backend
from backends.random import permutation
from nn import Dataset, Linear, Sequential, Trainer
from nn import feed as feed_module
from nn.feed import MOST_BUFFERS, MOST_NUMBERS, Feed, Rows
from nn.steps import Parts

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, size=(50, 6), dtype=np.uint8)
LABELS = RNG.integers(0, 3, 50)


def uploaded(data: Dataset) -> tuple[Trainer, Rows]:
    trainer = Trainer(Sequential(Linear(data.n_features, 3), backend="cpu"))
    return trainer, trainer.upload(data)


def feed_of(data: Dataset, **options: Any) -> Feed:
    trainer, rows = uploaded(data)
    return Feed(trainer.model.store.workspace, rows, **options)


def test_rows_in_their_order_and_as_they_are_need_no_copy() -> None:
    trainer, rows = uploaded(Dataset(RNG.normal(size=(50, 6)).astype("f4"), LABELS))
    feed = Feed(trainer.model.store.workspace, rows)
    for start, count in ((0, 20), (20, 20), (40, 10), (0, 50)):
        x, y, _ = feed.batch(start, count)
        np.testing.assert_array_equal(x, rows.x[start : start + count])
        np.testing.assert_array_equal(y, rows.y[start : start + count])
        assert np.shares_memory(x, rows.x)
        assert np.shares_memory(y, rows.y)
    # Of a first row that only the device knows there is no view, unless the batch is all rows.
    x, y, _ = feed.batch(np.array([20]), 20)
    np.testing.assert_array_equal(x, rows.x[20:40])
    np.testing.assert_array_equal(y, rows.y[20:40])
    assert not np.shares_memory(x, rows.x)
    assert not np.shares_memory(y, rows.y)
    assert np.shares_memory(feed.batch(np.array([0]), 50)[0], rows.x)


@pytest.mark.parametrize("network_scales", [False, True])
def test_pixels_become_what_the_network_takes(network_scales: bool) -> None:
    feed = feed_of(Dataset(PIXELS, LABELS, scale=1 / 255), network_scales=network_scales)
    x, y, _ = feed.batch(10, 20, 3)
    assert x.dtype == np.float32
    np.testing.assert_allclose(x, PIXELS[10:30] * (1.0 if network_scales else 1 / 255), rtol=1e-6)
    np.testing.assert_array_equal(y, LABELS[10:30])


def test_every_epoch_has_an_order_of_its_own() -> None:
    feed = feed_of(Dataset(PIXELS, LABELS), shuffled=True, seed=7)
    for epoch in (1, 2):
        feed.begin_epoch(epoch)
        order = permutation(50, 7, epoch)
        x, y, _ = feed.batch(16, 16)
        np.testing.assert_array_equal(x, PIXELS[order[16:32]])
        np.testing.assert_array_equal(y, LABELS[order[16:32]])
    feed = feed_of(Dataset(PIXELS, LABELS))
    feed.begin_epoch(1)
    np.testing.assert_array_equal(feed.batch(0, 50)[0], PIXELS)


def test_an_order_may_be_prepared_and_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def noted(n: int, seed: int, epoch: int) -> Any:
        made.append(epoch)
        return permutation(n, seed, epoch)

    monkeypatch.setattr(feed_module, "permutation", noted)
    feed = feed_of(Dataset(PIXELS, LABELS), shuffled=True, seed=7)
    feed.begin_epoch(3)
    feed.prepare(4)
    for epoch in (4, 4, 2):  # prepared; the same again; another than was prepared
        feed.begin_epoch(epoch)
        np.testing.assert_array_equal(feed.batch(0, 50)[1], LABELS[permutation(50, 7, epoch)])
    assert made == [3, 4, 2]
    feed.prepare(3)
    made.clear()
    monkeypatch.setattr(feed_module, "permutation", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        feed.prepare(5)
    monkeypatch.setattr(feed_module, "permutation", noted)
    feed.begin_epoch(3)
    assert made == [3]  # who was interrupted may have changed it
    in_order = feed_of(Dataset(PIXELS, LABELS))
    in_order.prepare(1)
    in_order.begin_epoch(1)
    assert made == [3]


def buffers_of(feed: Feed, count: int, numbers: list[Any]) -> list[int]:
    """Which memory the rows of these batches lie in, numbered in the order of appearance."""
    addresses = [feed.batch(0, count, number)[0].ctypes.data for number in numbers]
    return [addresses.index(address) for address in addresses]


def test_batches_are_gathered_into_several_buffers_in_turn() -> None:
    """So that none is written while other cores still have it; where the device knows the number, into one."""
    feed = feed_of(Dataset(PIXELS, LABELS), shuffled=True)
    feed.begin_epoch(1)
    assert MOST_BUFFERS == 4
    assert buffers_of(feed, 10, [0, 1, 2, 3, 4, 5, 9, 11]) == [0, 1, 2, 3, 0, 1, 1, 3]
    assert buffers_of(feed, 10, [np.array([0]), np.array([1])]) == [0, 0]
    first, second = feed.batch(0, 10, 0)[1], feed.batch(0, 10, 1)[1]
    assert np.shares_memory(first, second)  # targets are few


@pytest.mark.parametrize(("share", "buffers"), [(1 / 8, 4), (1 / 4, 4), (1 / 3, 3), (1 / 2, 2), (1, 1), (2, 1)])
def test_large_batches_are_gathered_into_fewer_buffers(share: float, buffers: int) -> None:
    """Into as many as have ``MOST_NUMBERS`` numbers together."""
    assert MOST_NUMBERS == 2**21
    width = 2**15
    count = int(MOST_NUMBERS * share) // width
    feed = feed_of(Dataset(np.zeros((count + 1, width), np.uint8), np.zeros(count + 1, int)), shuffled=True)
    feed.begin_epoch(1)
    assert len(set(buffers_of(feed, count, [0, 1, 2, 3, 4, 5]))) == buffers


def test_rows_are_scaled_once_where_each_batch_has_them_all() -> None:
    backend = get_backend("cpu")
    _, rows = uploaded(Dataset(PIXELS, LABELS, scale=1 / 255, shift=-0.5))
    scaled = rows.scaled(backend)
    np.testing.assert_allclose(scaled.x, PIXELS / np.float32(255) - np.float32(0.5), rtol=1e-6, atol=1e-7)
    assert (scaled.x.dtype, scaled.scale, scaled.shift, scaled.classes) == (np.float32, 1.0, 0.0, True)
    assert scaled.y is rows.y
    assert scaled.owner is rows.owner
    assert scaled.scaled(backend) is scaled
    _, plain = uploaded(Dataset(PIXELS, LABELS))
    assert plain.scaled(backend).x.dtype == np.float32
    for scale, shift in ((0.5, 0.0), (1.0, 0.5)):
        _, other = uploaded(Dataset(PIXELS.astype("f4"), LABELS, scale, shift))
        assert other.scaled(backend) is not other


def test_units_of_rows_are_those_of_their_data() -> None:
    _, rows = uploaded(Dataset(PIXELS, LABELS, scale=1 / 255))
    assert (rows.units.scale, rows.units.high, len(rows)) == (1 / 255, float(PIXELS.max()), 50)


def test_rows_in_memory_are_asked_for_nothing_at_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a window ends, which matters to rows that are larger than memory, is asked once an epoch, and where a batch
    begins once for all steps that are launched in one call."""
    asked = Counter[str]()

    def counted(owner: Any, name: str) -> None:
        method = getattr(owner, name)

        def call(self: Any, *arguments: Any) -> Any:
            asked[name] += 1
            return method(self, *arguments)

        monkeypatch.setattr(owner, name, call)

    for name in ("until", "position", "batch", "close"):
        counted(Feed, name)
    counted(Parts, "launch")
    trainer = Trainer(Sequential(Linear(6, 3), backend="cpu"))
    trainer.fit(Dataset(np.tile(PIXELS, (40, 1)), np.tile(LABELS, 40)), 5, 10)
    assert trainer.model.step == 5 * 200
    assert asked["until"] == 5
    assert asked["position"] == asked["launch"] < 500
    assert asked["batch"] == 1  # recorded
    assert asked["close"] == 0
