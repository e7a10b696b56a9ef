"""Windows of rows read ahead by threads, into arrays of a device, while others are computed with."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, Protocol, TypeVar

import numpy as np

from backends.devices import Device
from backends.typing import Array, Shape

from ..checks import DataError, check_range
from .dataset import StreamedDataset
from .open_files import keep_files_open
from .order import Order, rows_in
from .ranges import all_targets, read_positions, smallest_dtype
from .reading import parts_in

#: Rows are read in pieces of about so many bytes, by as few threads as keep up with training, which each of them
#: holds up a little; by so many at most, which mostly wait for the disk.
PIECE = 1 << 22
THREADS = 4
#: Where they are read past the cache without a copy, in pieces of up to so many bytes, so that each thread has some:
#: the rows of each are read by one call of the system, without Python's lock. Of those that are chosen there is a copy.
LARGE_PIECE, LARGE_PIECE_OF_CHOSEN = 1 << 25, 1 << 24
#: Targets that have no more bytes than this, all together, are read once and stay in memory: to read and convert those
#: of each block by themselves would take Python's lock from the thread that trains about as often as the rows do.
MOST_TARGETS = 1 << 26
#: What there is for each position of a shuffled window, by name; all else is there for each row that is read.
OF_POSITIONS = ("order", "numbers")


T = TypeVar("T")


class Targets(Protocol):
    """Makes targets as a loss takes them of those of a data set, whose first row is row ``first``."""

    def __call__(self, y: np.ndarray, first: int = 0) -> np.ndarray: ...


@dataclass(frozen=True)
class Kept:
    """What of a row is on a device: its shape, and its dtype, which has the same name in NumPy and there."""

    shape: Shape
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, dtype: str, shape: Shape = ()) -> Kept:
        """Numbers of the dtype of that name."""
        return cls(tuple(shape), np.dtype(dtype))

    @property
    def bytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class _Window:
    """A window that is to be read.

    Attributes:
        order, epoch, index: the window of that number, of that epoch.
        ranges: of its rows that are read.
        arrays: by name, of the device.
        first: the number in the arrays of the first row.
        after: what may still read the arrays, as of ``Transfer``.
    """

    order: Order
    epoch: int
    index: int
    ranges: list[range]
    arrays: Mapping[str, Array]
    first: int
    after: Any


class Reading:
    """A window that is being read.

    Attributes:
        key: which one it is, whatever tells windows apart.
        late: whether it was to be there when it was waited for, and was not.
    """

    def __init__(self, key: Any, futures: Sequence[Future[Any]], left: deque[Any], ahead: bool) -> None:
        self.key, self._futures, self._left, self._ahead = key, futures, left, ahead
        self.late = False

    def wait(self) -> None:
        """Until all of it is there, or raise what has ended a thread."""
        self.late = self._ahead and not all(future.done() for future in self._futures)
        for future in self._futures:
            future.result()

    def cancel(self) -> None:
        """What has not begun never will; what has is waited for."""
        self._left.clear()
        for future in self._futures:
            future.cancel()
        wait([future for future in self._futures if not future.cancelled()])


class Reader:
    """Reads windows of a data set. Its threads begin with the first of them and end with ``close``.

    Args:
        data: whose rows.
        device: where to.
        kept: what of a row goes there: any of ``"x"``, ``"y"``, ``"weights"``, ``"order"``, ``"numbers"``.
        targets: makes ``"y"``; None where targets are taken as they are.
        weights: (n,), of all rows.
        as_stored: whether rows can be read straight from their file, to the arrays of the device, or to memory from
            which those that are chosen are copied.
    """

    def __init__(
        self,
        data: StreamedDataset,
        device: Device,
        kept: Mapping[str, Kept],
        targets: Targets | None = None,
        weights: np.ndarray | None = None,
        as_stored: bool = False,
    ) -> None:
        self._data, self._kept, self._targets, self._weights = data, kept, targets, weights
        chunk, row = data.rows.chunk, sum(each.bytes for each in kept.values())
        self._piece = max(PIECE // row // chunk, 1) * chunk
        self._holds_targets = data.targets is not None and (
            len(data) * prod(data.target_shape) * smallest_dtype(data).itemsize <= MOST_TARGETS
        )
        # Targets that are read beside them are copied, and pieces of that stay small.
        as_stored = as_stored and ("y" not in kept or self._holds_targets)
        large = LARGE_PIECE if data.chosen is None else LARGE_PIECE_OF_CHOSEN
        self._large_piece = max(large // row, 1) if as_stored else self._piece
        self._all_targets: np.ndarray | None = None
        self._threads = ThreadPoolExecutor(THREADS, "rows that are read ahead", keep_files_open)
        self._last: Reading | None = None
        self._needed = 1  # so many threads keep up, as far as is known
        self._transfer = device.transfer([each.bytes * self._piece for each in kept.values()], THREADS)

    def begin(
        self,
        key: Any,
        order: Order,
        epoch: int,
        index: int,
        ranges: list[range],
        arrays: Mapping[str, Array],
        first: int,
    ) -> Reading:
        """Have a window read.

        Args:
            order, epoch, index: the window of that number, of that epoch.
            ranges: of its rows that are read, as ``order`` gives them.
            arrays: (m, ...) by name: of ``OF_POSITIONS`` at least as long as the window, of the others as what is read
                of it. What was launched before may still read them.
            first: what is added to the numbers of rows, among those that are read, that go to ``"order"``.
        """
        after, last = self._transfer.mark(), self._last
        window = _Window(order, epoch, index, ranges, arrays, first, after)
        if last is not None and last.late:
            self._needed = min(self._needed + 1, THREADS)
        evenly = -(-sum(map(len, ranges)) // THREADS)
        left = deque(_pieces(window.ranges, max(self._piece, min(self._large_piece, evenly))))
        beside = self._threads.submit(self._at_work, self._beside_rows, window)
        # Nothing is computed while the first window is read.
        count = min(THREADS if last is None else self._needed, len(left))
        readers = [self._threads.submit(self._at_work, self._read_pieces, window, left, beside) for _ in range(count)]
        self._last = Reading(key, [beside, *readers], left, ahead=last is not None)
        return self._last

    def join(self) -> None:
        """What is computed from now on finds the windows that have been waited for."""
        self._transfer.join()

    def close(self) -> None:
        """End the threads, after what they are at."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._transfer.close()

    # ---- in the threads ----------------------------------------------------------------------------------------------

    def _at_work(self, function: Callable[..., T], *args: Any) -> T:
        with self._transfer.at_work():
            return function(*args)

    def _beside_rows(self, window: _Window) -> dict[str, np.ndarray]:
        """Write what there is for each position of a window, and give what its rows have beside x, by name: their
        weights, and the targets where all are in memory."""
        found, ranges = dict[str, np.ndarray](), window.ranges
        if not ranges:  # nobody visits a row of it here
            return found
        self._write_positions(window)
        if self._weights is not None:
            found["weights"] = np.concatenate([self._weights[rows.start : rows.stop] for rows in ranges])
        if "y" in self._kept and self._holds_targets:
            if self._all_targets is None:
                self._all_targets = all_targets(self._data, smallest_dtype(self._data))
            assert self._data.targets is not None
            y = np.concatenate([self._all_targets[rows.start : rows.stop] for rows in ranges])
            found["y"] = self._converted(y.astype(self._data.targets.dtype, copy=False), ranges)
        return found

    def _write_positions(self, window: _Window) -> None:
        """Write which row is visited first, second, ...: by its number in the arrays, and in the data set."""
        inside, found = window.order.inside(window.epoch, window.index), dict[str, np.ndarray]()
        if inside is not None:
            found["order"] = inside + window.first
        if "numbers" in self._kept:
            read = rows_in(window.ranges)
            found["numbers"] = read if inside is None else read[inside]
        for name, numbers in found.items():
            for begin in range(0, len(numbers), self._piece):
                part = numbers[begin : begin + self._piece]
                into = window.arrays[name][begin : begin + len(part)]
                self._transfer.write([into], [part.dtype], partial(_copy, part), window.after)

    def _converted(self, y: np.ndarray, ranges: Sequence[range]) -> np.ndarray:
        """The targets of several ranges as they go to the device; one that cannot be used is named by its row."""
        if self._targets is None:
            return y
        try:
            return self._targets(y)
        except ValueError:
            for rows, part in parts_in(ranges, y):
                self._targets(part, rows.start)
            raise

    def _read_pieces(
        self, window: _Window, left: deque[tuple[int, list[range]]], beside: Future[dict[str, np.ndarray]]
    ) -> None:
        """Read pieces until none is left, of which other threads read some as well."""
        while True:
            try:
                begin, ranges = left.popleft()
            except IndexError:
                return
            try:
                # What is beside is waited for with no memory of the transfer, which it may need.
                self._read(window, beside.result(), begin, ranges)
            except BaseException:
                left.clear()
                raise

    def _read(self, window: _Window, beside: Mapping[str, np.ndarray], begin: int, ranges: Sequence[range]) -> None:
        """Read neighbouring ranges into the arrays, from ``begin`` on."""
        end, names = begin + sum(map(len, ranges)), [name for name in self._kept if name not in OF_POSITIONS]
        parts = [window.arrays[name][begin:end, ...] for name in names]
        dtypes = [self._kept[name].dtype for name in names]

        def fill(host: Sequence[np.ndarray]) -> None:
            named = dict(zip(names, host, strict=True))
            for name, numbers in beside.items():
                named[name][...] = numbers[begin:end]
            self._fill(named, ranges)

        self._transfer.write(parts, dtypes, fill, window.after)

    def _fill(self, host: Mapping[str, np.ndarray], ranges: Sequence[range]) -> None:
        data, x, y = self._data, host["x"], None if self._holds_targets else host.get("y")
        straight = x.dtype == data.rows.dtype
        own_x = x if straight else np.empty(x.shape, data.rows.dtype)
        own_y = y
        if y is not None and self._targets is not None and data.targets is not None:
            own_y = np.empty((len(y), *data.target_shape), data.targets.dtype)
        read_positions(data, ranges, own_x, own_y)
        if not straight:
            for rows, part in parts_in(ranges, own_x):
                check_range(part, data.rows.name, x.dtype.name, rows.start)
            x[...] = own_x
        if y is not None and own_y is not None and self._targets is not None:
            y[...] = self._converted(own_y, ranges)


def _copy(numbers: np.ndarray, host: Sequence[np.ndarray]) -> None:
    """Write numbers into the only array."""
    host[0][...] = numbers


def some_rows(data: Any, what: str) -> Any:
    """The data set, all rows of which ``what`` needs at once.

    Raises:
        DataError: it is larger than memory.
    """
    if isinstance(data, StreamedDataset) and len(data) > data.window:
        raise DataError(
            f"{what} are computed from all rows at once, and these {len(data):,} are larger than memory; take some of "
            "them, data[:1000] for instance"
        )
    return data[:] if isinstance(data, StreamedDataset) else data


def a_target(data: StreamedDataset) -> np.ndarray:
    """The target of one row, (1, ...), as the data set has it."""
    if data.targets is None:
        return np.zeros((1, 0), np.float32)
    y = np.empty((1, *data.target_shape), data.targets.dtype)
    data.targets.read(0, 1, y)
    return y


def _pieces(ranges: Iterable[range], most: int) -> Iterator[tuple[int, list[range]]]:
    """The ranges in parts of about ``most`` rows, with how many rows there are before each part. They are divided at
    multiples of ``most`` only, which chunks end at, too."""
    begin, part, count = 0, list[range](), 0
    for whole in ranges:
        cuts = [*range(-(-(whole.start + 1) // most) * most, whole.stop, most)]
        for start, stop in zip([whole.start, *cuts], [*cuts, whole.stop], strict=True):
            if part and count + stop - start > most:
                yield begin, part
                begin, part, count = begin + count, [], 0
            part.append(range(start, stop))
            count += stop - start
    if part:
        yield begin, part
