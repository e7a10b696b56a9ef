"""A data set that is larger than memory: what is known of its rows and targets, and the words of a ``Dataset``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from backends.arguments import NamedArguments, check_dtype, check_number, check_shape, check_whole_number
from backends.typing import Shape

from ..checks import DataError, check_numbers, check_weights
from ..columns import Column
from ..dataset import Dataset, as_tuple, class_numbers, divided, indices_or_mask, picture_in, renumbered
from ..labels import are_numbers
from ..units import Units
from ..values import listed
from .as_source import source_of, targets_of
from .checks import check_as_many, checked_indices, checked_rows
from .converted import CheckedNumbers, Converted, RenumberedLabels
from .learnt import learnt_rows, learnt_targets
from .ranges import RangesOfRows, all_targets, smallest_dtype
from .reading import looked_at, row_bytes
from .source import Source
from .splitting import divided_in_order
from .windows import LEAST_BLOCKS, default_block, default_window, warn_of_chunks

#: So many rows are held out as in memory, so that a run in windows and an evaluation without them agree on which are
#: for the test; of more, in less memory.
DIVIDED_AS_IN_MEMORY = 1 << 21


@dataclass(frozen=True, eq=False, init=False, repr=False)
class StreamedDataset(RangesOfRows, NamedArguments):
    """Rows and targets that stay where they are stored, and are read window by window as training goes on.

    It has the words of a ``Dataset``, and is taken wherever rows are: by ``fit``, ``evaluate``, ``predict``. Training
    visits rows in an order of (seed, epoch): blocks of rows in random order fill a window, whose rows are shuffled.
    Where one window holds all rows, it is the very training of the same rows in memory.

    Args:
        rows: x, (n, features) or pictures (n, height, width[, channels]): the path of a .npy file or of a zarr array, a
            list of these, one after the other; an array of NumPy, a memmap included, of h5py or zarr; or a ``Source``.
        targets: y, given likewise, or in memory as an array of any library or a list: class labels or values as
            ``as_dataset`` has them; None for rows without targets.
        window: how many rows are in memory at a time to be shuffled; as many as have 256 MiB by default. Twice as many
            are on the device.
        block: how many rows that lie together are read together; see the attribute.
        scale, shift: a row as the network sees it is ``x * scale + shift``. Without a scale, it is 1/255 for rows that
            look like pixels from 0 to 255, else 1.
        class_names: one name for each class; without them they follow from the labels.
        image_shape: (height, width[, channels]) of a row that is a picture.
        weights: (n,) numbers of at least 0, in memory: how much each row counts.
        columns: of a table; None where they have no names.
        dtype: ``"float32"`` or ``"float64"``, of rows of integers; by default float32 where the rows that are looked at
            fit into it.
        chosen: (m,) indices of the stored rows that belong to it; all by default. ``weights`` are of these.
        row_shape: of a row as it is given; flat by default.

    Attributes:
        rows: the source of x, of uint8, float32 or float64 as in memory.
        targets: the source of y: int64 (n,) class labels, or float32 or float64 (n,) or (n, k); None for no targets.
        chosen: (m,) int64, in ascending order where it is more than a window; None for all.
        window: rows that are shuffled together.
        block: rows that are read together: by default a 256th of the window, but of 64 KiB at least as far as the
            window has 64 blocks; of a source with chunks, a multiple of the chunk.

    Raises:
        DataError: what is stored cannot be used: the sentence names the file, the row and the remedy. What is beyond
            the rows that are looked at first may raise it when it is read.

    Warns:
        StreamWarning: the chunks of the file are too long for the window.
    """

    rows: Source
    targets: Source | None
    scale: float
    shift: float
    class_names: tuple[str, ...] | None
    image_shape: tuple[int, ...] | None
    weights: np.ndarray | None
    columns: tuple[Column, ...] | None
    window: int
    block: int
    chosen: np.ndarray | None
    row_shape: tuple[int, ...]

    def __init__(
        self,
        rows: Any,
        targets: Any = None,
        *,
        window: int | None = None,
        block: int | None = None,
        scale: float | None = None,
        shift: float = 0.0,
        class_names: Sequence[str] | None = None,
        image_shape: Sequence[int] | None = None,
        weights: Any = None,
        columns: Sequence[Column] | None = None,
        dtype: str | None = None,
        chosen: np.ndarray | None = None,
        row_shape: Shape | None = None,
    ) -> None:
        names = {"class_names": (class_names, str), "columns": (columns, Column), "image_shape": (image_shape, int)}
        values: dict[str, Any] = {
            name: as_tuple(f"StreamedDataset: {name}", given, kind) for name, (given, kind) in names.items()
        }
        check_shape("StreamedDataset: row_shape, unless it is None,", row_shape)
        x, y = checked_rows(source_of(rows, "x")), None if targets is None else targets_of(targets, "y")
        if y is not None:
            check_as_many(x, y)
        kept = checked_indices(chosen, x.shape[0])
        n = x.shape[0] if kept is None else len(kept)
        window = check_whole_number("StreamedDataset: window", default_window(x) if window is None else window)
        is_new = not isinstance(x, CheckedNumbers)  # parts of a data set are stored as it is
        if scale is None or is_new:
            wanted = None if dtype is None else check_dtype("StreamedDataset: dtype", dtype)
            found = learnt_rows(x, all_rows=x.shape[0] <= window, pixels=scale is None, dtype=wanted)
            x = found.rows
            scale = found.scale if scale is None else scale
            values["image_shape"] = values["image_shape"] or found.image_shape
        if y is not None and not isinstance(y, Converted):
            y, values["class_names"] = learnt_targets(y, values["class_names"])
        shape = tuple(row_shape or (math.prod(x.shape[1:]),))
        if math.prod(shape) != math.prod(x.shape[1:]):
            raise DataError(f"rows of shape {x.shape[1:]} have no shape {shape}; give them another row_shape")
        by_default = default_block(x, window, with_gaps=kept is not None)
        values |= {
            "rows": x,
            "targets": y,
            "scale": check_number("StreamedDataset: scale", scale),
            "shift": check_number("StreamedDataset: shift", shift),
            "weights": None if weights is None else check_weights(check_numbers(weights, "weights"), n),
            "window": window,
            "block": check_whole_number("StreamedDataset: block", by_default if block is None else block),
            "chosen": kept,
            "row_shape": shape,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        if is_new and block is None:
            warn_of_chunks(x, n, window)

    # ---- the words of a Dataset --------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        kind = f"{self.n_classes} classes" if self.has_classes else "values" if self.has_targets else "no targets"
        return (
            f"StreamedDataset({self.rows.name}: {len(self):,} rows of shape {self.row_shape}, {self.rows.dtype}, "
            f"{kind}, window={self.window})"
        )

    def __getitem__(self, rows: slice | np.ndarray | Sequence[int]) -> Dataset:
        """The rows of a slice, of an array of indices, or of a mask, read into memory."""
        if not isinstance(rows, slice):
            rows = indices_or_mask(rows, len(self))
        n = len(self)
        if isinstance(rows, slice):
            positions = np.arange(*rows.indices(n))
        else:
            positions = np.flatnonzero(rows) if rows.dtype.kind == "b" else rows.astype(np.int64) % max(n, 1)
        x, y = self._at(positions if self.chosen is None else self.chosen[positions])
        return self._dataset(x, y, None if self.weights is None else self.weights[positions])

    def _dataset(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray | None) -> Dataset:
        return Dataset(
            x.reshape(len(x), *self.row_shape),
            y,
            scale=self.scale,
            shift=self.shift,
            class_names=self.class_names,
            image_shape=self.image_shape,
            weights=weights,
            columns=self.columns,
        )

    def shaped_for(self, row_shape: Shape | None) -> StreamedDataset:
        """As ``Dataset.shaped_for``: the same rows in the shape that a network takes.

        Raises:
            DataError: rows of this data set do not fit that shape.
        """
        check_shape("row_shape, unless it is None,", row_shape)
        if row_shape is None or self.row_shape == tuple(row_shape):
            return self
        known = picture_in(self.row_shape, self.image_shape, row_shape)
        return replace(self, row_shape=tuple(row_shape), image_shape=known)

    def with_classes(self, names: tuple[str, ...] | None) -> StreamedDataset:
        """As ``Dataset.with_classes``: the same rows, their class labels numbered as ``names`` are.

        Raises:
            DataError: a class is not among them.
        """
        own, names = self.class_names, as_tuple("names", names, str)
        if are_numbers(names) or own is None or own == names:
            return self
        assert names is not None
        assert self.targets is not None
        if are_numbers(own) and len(own) <= len(names) and not set(own) <= set(names):
            return replace(self, class_names=names)
        index = {name: number for number, name in enumerate(names)}
        numbers = np.array([index.get(name, -1) for name in own])
        if (numbers < 0).any() and (unknown := numbers[y := self.y] < 0).any():
            row = int(unknown.argmax())
            raise DataError(
                f"{self.targets.name}[{self._stored_at(row)}] is {own[y[row]]!r}, a class that is not among those of "
                f"the training rows: {listed(names)}; correct the label or remove the row"
            )
        return replace(self, targets=RenumberedLabels(self.targets, numbers), class_names=names)

    def first(self, count: int) -> StreamedDataset:
        """The first ``count`` rows, or all, where there are fewer; they stay where they are."""
        count = check_whole_number("count", count)
        return self if count >= len(self) else self._only(np.arange(count))

    def spread(self, count: int) -> StreamedDataset:
        """``count`` rows, or all, where there are fewer, in blocks that are evenly spread over all: of sorted rows some
        of each kind. They stay where they are."""
        count, n = check_whole_number("count", count), len(self)
        if count >= n:
            return self
        if 2 * count > n:
            return self._only(np.arange(count) * n // count)
        blocks = -(-count // max(min(self.block, count // LEAST_BLOCKS), 1))
        ends = np.arange(blocks + 1) * count // blocks
        starts = np.arange(blocks) * n // blocks
        return self._only(np.arange(count) + np.repeat(starts - ends[:-1], np.diff(ends)))

    def only(self, classes: Sequence[int | str]) -> StreamedDataset:
        """As ``Dataset.only``: the rows of these classes, renumbered in the order given.

        Raises:
            DataError: a class is named twice, does not exist or has no rows.
        """
        y = self.y
        numbers, names = renumbered(classes, self.class_names, y)
        assert self.targets is not None
        part = self._only(np.flatnonzero(numbers[y] >= 0))
        return replace(part, targets=RenumberedLabels(self.targets, numbers), class_names=names)

    def one_against_rest(self, label: int | str) -> StreamedDataset:
        """As ``Dataset.one_against_rest``: class 1 for the rows of class ``label``, and class 0 for all others.

        Raises:
            DataError: it does not exist or has no rows.
        """
        (number,) = class_numbers([label], self.class_names, self.y)
        name, numbers = (self.class_names or ())[number], np.arange(self.n_classes) == number
        assert self.targets is not None
        return replace(self, targets=RenumberedLabels(self.targets, numbers), class_names=(f"not {name}", name))

    def split(self, fraction: float, seed: int = 0) -> tuple[StreamedDataset, StreamedDataset]:
        """``(rest, held_out)``, both read from the same place: the rows that ``Dataset.split`` gives, shuffled as there
        where one window holds all, else in the order in which they are stored. Of more than two million rows, and more
        than a window, others are held out, each class in the same proportion, too.

        Raises:
            DataError: ``fraction`` is not between 0 and 1, or there are too few rows to divide.
        """
        if len(self) <= max(self.window, DIVIDED_AS_IN_MEMORY):
            labels = self.y if self.has_classes else None
            rest, held_out = divided(len(self), labels, fraction, seed, self.class_names or ())
            if len(self) > self.window:
                rest, held_out = np.sort(rest), np.sort(held_out)
        else:
            labels = all_targets(self, smallest_dtype(self)) if self.has_classes else None
            rest, held_out = divided_in_order(len(self), labels, fraction, seed, self.class_names or ())
        return self._only(rest), self._only(held_out)

    def _only(self, positions: np.ndarray) -> StreamedDataset:
        """The rows at these positions, which stay where they are."""
        stored = positions if self.chosen is None else self.chosen[positions]
        weights = None if self.weights is None else self.weights[positions]
        part = replace(self, chosen=stored, weights=weights)
        by_default = default_block(self.rows, self.window, with_gaps=self.chosen is not None)
        if self.rows.chunk > 1 and self.block == by_default:
            object.__setattr__(part, "block", default_block(self.rows, self.window, with_gaps=True))
        return part

    @cached_property
    def sample(self) -> Dataset:
        """Rows in memory, evenly spread over all: 4,096, or as many as have 16 MiB."""
        ranges = looked_at(len(self), row_bytes(self.rows), self.rows.chunk)
        return self[np.concatenate([np.arange(start, stop) for start, stop in ranges])]

    @cached_property
    def units(self) -> Units:
        """What training on these rows teaches a model about their numbers: learnt of all of them where one window holds
        them, else of the sample."""
        if len(self) > self.window:
            return Units.of(self.sample)
        found: Units | None = None
        for x, _ in self.parts():
            of_part = Units.of(self._dataset(x, np.zeros((len(x), 0), np.float32), None))
            found = of_part if found is None else found.then(of_part)
        assert found is not None
        return found
