"""Rows that are larger than memory: two windows of them on the device, and the batches that are made of these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import Any

from backends import Backend
from backends.typing import Array, HostArray

from .data import Augment
from .data.streamed import StreamedDataset
from .data.streamed.order import ALL_LANES, LANES, Order
from .data.streamed.placement import Placement, is_numpy
from .data.streamed.reader import OF_POSITIONS, Kept, Reader, Reading, Targets, a_target
from .data.streamed.source import first_byte
from .feed import AugmentedFeed, Feed, Rows
from .memory import Workspace
from .out_of_memory import allocating

#: To evaluate and to predict, windows have about so many bytes: rows come in the order in which they are stored.
WINDOW_IN_ORDER = 1 << 24
#: And so many chunks of the file at least: those at its ends are unpacked twice.
CHUNKS_IN_ORDER = 8


class Ring:
    """Two windows of rows on the device: with the rows of one it computes while the other is read.

    Args:
        backend: whose device it is.
        data: the rows.
        kept: what of a row is on the device, beside where it is in the order: by name, as ``Reader`` takes it.
        targets, weights: as ``Reader`` takes them.

    Attributes:
        rows: how many of each of the two may be read; 0 before ``reserve``.
        window: how many each of them may have, where others are visited by other processes.
        arrays: (2 rows, ...) each, by name; (2 window,) of what there is for each position (``OF_POSITIONS``); and
            somewhat more, so that rows can lie as in their file.
    """

    def __init__(
        self,
        backend: Backend,
        data: StreamedDataset,
        kept: dict[str, Kept],
        targets: Targets | None = None,
        weights: HostArray | None = None,
    ) -> None:
        self._backend, self._data, self._kept = backend, data, kept
        self._targets, self._weights = targets, weights
        self.rows = self.window = 0
        self.arrays: dict[str, Array] = {}
        straight = is_numpy(backend.empty((0,))) and kept["x"].dtype == data.rows.dtype
        self._placement = Placement.of(data.rows, data.block) if straight and data.chosen is None else None
        # Rows that are chosen are copied to the ring, from where they lie as in their file.
        of_chosen = straight and data.chosen is not None and first_byte(data.rows) is not None
        self._as_stored = of_chosen or self._placement is not None
        self._order = Order(0, 1, 1, 1)
        self._epoch, self._more = 0, False
        self._reader: Reader | None = None
        self._coming: Reading | None = None
        self._held: tuple[int, int] | None = None  # the epoch, and the number of its window
        self._half = 0  # where that is
        self._skipped = 0  # so many rows are left free before those of the window that is coming
        self._ahead = 0  # how far positions in the ring are ahead of those in the epoch

    @property
    def templates(self) -> tuple[Array, Array]:
        """x and y without rows."""
        x, y = (self._empty(name, 0, 0) for name in ("x", "y"))
        return x, y

    def reserve(self, rows: int, window: int) -> None:
        """Have memory for windows of ``window`` rows, of which ``rows`` are read."""
        rows, window = max(rows, self.rows), max(window, self.window)
        if (rows, window) != (self.rows, self.window):
            self.close()
            self.arrays, self.rows, self.window = {}, 0, 0
            what = f"two windows of {rows:,} rows"
            with allocating(self._backend, what, "use a smaller one (window=...) or another device"):
                self.arrays = {name: self._empty(name, rows, window) for name in self._kept}
            self.rows, self.window = rows, window

    def need(self, name: str) -> Array:
        """``"order"``, the index of the row in the ring at each position, or ``"numbers"``, that in the data set."""
        if name not in self.arrays:
            self.close()
            self._kept = self._kept | {name: Kept.of("int64")}
            self.arrays[name] = self._empty(name, self.rows, self.window)
        return self.arrays[name]

    def _empty(self, name: str, rows: int, window: int) -> Array:
        kept, length = self._kept[name], self._begin(2, window if name in OF_POSITIONS else rows)
        empty = partial(self._backend.empty, dtype=getattr(self._backend.xp, kept.dtype.name))
        if name == "x" and self._placement is not None:
            return self._placement.empty(empty, (length, *kept.shape))
        return empty((length, *kept.shape))

    def _begin(self, half: int, length: int) -> int:
        """Where the memory of one of the two windows begins in an array that has ``length`` for each."""
        return half * (length + (self._placement.period - 1 if self._placement and length else 0))

    # ---- windows -----------------------------------------------------------------------------------------------------

    def begin(self, order: Order, epoch: int, more: bool) -> None:
        """An epoch in that order begins, or goes on; ``more``: another one is to follow."""
        if order != self._order:
            self._drop()
            self._order = order
        self._epoch, self._more = epoch, more

    def begin_in_order(self, size: int, part: range | None = None) -> None:
        """A pass over neighbouring rows as they are stored, all by default, begins, in batches of ``size`` rows."""
        part = range(len(self._data)) if part is None else part
        window = max(window_in_order(self._data), size)
        self.reserve(window, window)
        order = Order.of(len(part), self.rows, self._data.block, size, shuffled=False, first=part.start)
        self.begin(order, 0, False)

    def position(self, seen: int) -> int:
        """Where in the ring the row is that comes after ``seen`` others of the epoch. Waits until its window is there,
        and has the next one read.

        Raises:
            Exception: what has ended the reading of that window; a DataError where rows cannot be used.
        """
        index = self._order.window_of(seen)
        if (self._epoch, index) != self._held:
            self._hold(index)
        return seen + self._ahead

    def until(self, seen: int) -> int:
        """Where in the epoch the window ends in which that row is."""
        return self._order.span(self._order.window_of(seen)).stop

    def close(self) -> None:
        """End the threads that read; what is in the ring counts no more."""
        self._drop()
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def _hold(self, index: int) -> None:
        wanted, half = (self._epoch, index), 1 - self._half
        if self._coming is None or self._coming.key != wanted:
            self._begin_reading(wanted, half)
        assert self._coming is not None
        assert self._reader is not None
        try:
            self._coming.wait()
        except BaseException:
            self._cancel()
            raise
        self._coming = None
        self._reader.join()
        self._held, self._half = wanted, half
        self._ahead = self._part(half, of_positions=True).start - self._order.span(index).start
        if index + 1 < self._order.windows:
            self._begin_reading((self._epoch, index + 1), 1 - half)
        elif self._more:
            self._begin_reading((self._epoch + 1, 0), 1 - half)

    def _begin_reading(self, key: tuple[int, int], half: int) -> None:
        self._cancel()
        if self._reader is None:
            self._reader = Reader(
                self._data,
                self._backend.device,
                self._kept,
                self._targets,
                self._weights,
                as_stored=self._as_stored,
            )
        ranges, begin = self._order.ranges(*key), self._begin(half, self.rows)
        self._skipped = self._placement.skipped(ranges[0].start, begin) if self._placement and ranges else 0
        arrays = {name: array[self._part(half, name in OF_POSITIONS), ...] for name, array in self.arrays.items()}
        self._coming = self._reader.begin(key, self._order, *key, ranges, arrays, begin + self._skipped)

    def _part(self, half: int, of_positions: bool) -> slice:
        """Where one of the two windows is in an array. Without a shuffle rows are visited as they lie there."""
        if of_positions and self._order.shuffled:
            begin, length = self._begin(half, self.window), self.window
        else:
            begin, length = self._begin(half, self.rows) + self._skipped, self.rows
        return slice(begin, begin + length)

    def _cancel(self) -> None:
        coming, self._coming = self._coming, None
        if coming is not None:
            coming.cancel()

    def _drop(self) -> None:
        self._cancel()
        self._held = None


@dataclass(eq=False)
class StreamedRows(Rows):
    """A data set that is larger than memory, for one trainer.

    Attributes:
        data: where the rows are.
        x, y, weights: of the ring; before ``reserve`` without rows.
        ring: where they come to.
        lanes: those on which this process trains (``Order``).
    """

    ring: Ring = field(kw_only=True)
    lanes: range = ALL_LANES

    def __len__(self) -> int:
        return len(self.data)

    @property
    def settings(self) -> dict[str, Any]:
        return {"window": self.data.window, "block": self.data.block, "lanes": LANES}

    def reserve(self, size: int, lanes: range | None = None) -> tuple[int, ...]:
        """Have memory for windows of batches of ``size`` rows; to train on, for what those lanes have of as many as are
        shuffled together."""
        if lanes is None:
            rows = window = max(window_in_order(self.data), size)
        else:
            order = Order.of(len(self), self.data.window, self.data.block, size, lanes=lanes)
            rows, window, self.lanes = order.most_read, order.window, lanes
        self.ring.reserve(rows, window)
        arrays = self.ring.arrays
        self.x, self.y, self.weights = arrays["x"], arrays["y"], arrays.get("weights")
        return self.ring.rows, self.ring.window

    def scaled(self, backend: Backend) -> Rows:
        raise ValueError("rows that are larger than memory cannot be kept scaled; leave keep_scaled out")

    def close(self) -> None:
        self.ring.close()


class StreamedFeed(Feed):
    """Batches of rows that are larger than memory, in their order or in that of an epoch.

    Batches are made of the ring as ``Feed`` makes them of all rows: a step sees a position in the ring.

    Args:
        workspace, rows, shuffled, seed, network_scales: as of ``Feed``. The rows have memory for their windows.
    """

    def __init__(
        self,
        workspace: Workspace,
        rows: StreamedRows,
        *,
        shuffled: bool = False,
        seed: int = 0,
        network_scales: bool = False,
    ) -> None:
        super().__init__(workspace, rows, shuffled=False, seed=seed, network_scales=network_scales)
        self._ring, self._data, self._lanes, self._shuffled = rows.ring, rows.data, rows.lanes, shuffled
        if shuffled:
            self.order = self._ring.need("order")

    def begin_epoch(self, epoch: int, size: int = 1, more: bool = False) -> None:
        super().begin_epoch(epoch)
        order = Order.of(
            self.size,
            self._data.window,
            self._data.block,
            size,
            seed=self.seed,
            shuffled=self._shuffled,
            lanes=self._lanes,
        )
        self._ring.begin(order, epoch, more)

    def begin_in_order(self, size: int, part: range) -> None:
        self._ring.begin_in_order(size, part)

    def prepare(self, epoch: int) -> None:
        """The ring has the order, and reads ahead by itself."""

    def position(self, seen: int) -> int:
        return self._ring.position(seen)

    def until(self, seen: int) -> int:
        return self._ring.until(seen)

    def close(self) -> None:
        self._ring.close()

    def row_numbers(self) -> Array:
        return self._ring.need("numbers")


class AugmentedStreamedFeed(AugmentedFeed, StreamedFeed):
    """Batches of pictures that are larger than memory, distorted at random."""


def feed_of(
    workspace: Workspace,
    rows: Rows,
    augment: Augment | None,
    shape: Callable[[], tuple[int, int, int]],
    **settings: Any,
) -> Feed:
    """Batches of any rows.

    Args:
        augment: distorts them; None for rows as they are.
        shape: gives height, width and channels of a row, where they are distorted.
        settings: of the feed.
    """
    if isinstance(rows, StreamedRows):
        if augment is not None:
            return AugmentedStreamedFeed(workspace, rows, augment, shape(), **settings)
        return StreamedFeed(workspace, rows, **settings)
    if augment is not None:
        return AugmentedFeed(workspace, rows, augment, shape(), **settings)
    return Feed(workspace, rows, **settings)


def window_in_order(data: StreamedDataset) -> int:
    """How many rows a window has where these come in the order in which they are stored."""
    row = max(prod(data.row_shape) * data.rows.dtype.itemsize, 1)
    return min(data.window, max(WINDOW_IN_ORDER // row, CHUNKS_IN_ORDER * data.rows.chunk, 1))


def ring_of(
    backend: Backend,
    data: StreamedDataset,
    targets: Targets | None = None,
    weights: HostArray | None = None,
) -> Ring:
    """A ring for rows, and for their targets where ``targets`` makes them."""
    kept: dict[str, Any] = {"x": Kept.of(_on_device(backend, data.rows.dtype.name), data.row_shape)}
    if targets is not None:
        like = targets(a_target(data))
        kept["y"] = Kept.of(_on_device(backend, like.dtype.name), like.shape[1:])
    if weights is not None:
        kept["weights"] = Kept.of(backend.dtype_name)
    return Ring(backend, data, kept, targets, weights)


def _on_device(backend: Backend, dtype: str) -> str:
    """The dtype on the device of numbers of that dtype: floats have the backend's."""
    return backend.dtype_name if dtype.startswith("float") else dtype
