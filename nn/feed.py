"""Rows on the device, and the batches that are made of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod, radians
from typing import Any

from backends import Backend
from backends.pictures.distortion import N_DRAWS, N_MAP
from backends.random import permutation, row_key
from backends.typing import Array

from .data import Augment, Units
from .data.augment import gaussian
from .data.streamed import StreamedDataset
from .memory import Workspace

#: Batches are gathered into so many buffers in turn, of so many numbers in all.
MOST_BUFFERS = 4
MOST_NUMBERS = 1 << 21


@dataclass(eq=False)
class Rows:
    """A data set on the device, for one trainer.

    Attributes:
        data: where it comes from: a ``Dataset``, or a ``StreamedDataset``.
        x, y: rows as stored, and targets as the loss takes them.
        scale, shift: a row as the network sees it is x times scale plus shift.
        classes: whether y are class labels, so that there is an accuracy.
        owner: the trainer that uploaded it, whose loss decides what ``y`` is.
        weights: (n,) of mean 1, in the backend's dtype, what each row counts; None where all count the same.
    """

    data: Any
    x: Array
    y: Array
    scale: float
    shift: float
    classes: bool
    owner: Any  # a weak reference: what is recorded on rows must not keep them alive
    weights: Array | None = None

    @cached_property
    def units(self) -> Units:
        """What training on these rows teaches a model about its numbers."""
        found: Units = self.data.units if isinstance(self.data, StreamedDataset) else Units.of(self.data)
        return found

    def __len__(self) -> int:
        return int(self.x.shape[0])

    @property
    def settings(self) -> dict[str, Any]:
        """What the order of an epoch depends on, beside the seed: a run goes on only with the same."""
        return {}

    def reserve(self, size: int, lanes: range | None = None) -> tuple[int, ...]:
        """Have what batches of ``size`` rows need, to train on those lanes of them (``nn.data.streamed.order``), or to
        evaluate; for how much there is memory, where that is not for all rows."""
        return ()

    def close(self) -> None:
        """Nobody needs these rows now."""

    def scaled(self, backend: Backend) -> Rows:
        """The same rows as the network sees them, in the backend's dtype: for rows of which each batch has all."""
        if (self.scale, self.shift) == (1.0, 0.0) and self.x.dtype == backend.dtype:
            return self
        x = backend.take_rows(self.x, None, 0, len(self), scale=self.scale, shift=self.shift)
        return Rows(self.data, x, self.y, 1.0, 0.0, self.classes, self.owner, self.weights)


class Feed:
    """Batches of rows, in their order or in that of an epoch.

    Args:
        workspace: where batches are gathered.
        rows: to take them from.
        shuffled: whether each epoch has an order of its own, by (seed, epoch).
        network_scales: whether the network multiplies the rows by their scale, so that a batch is without it.
    """

    def __init__(
        self, workspace: Workspace, rows: Rows, *, shuffled: bool = False, seed: int = 0, network_scales: bool = False
    ) -> None:
        backend = self.backend = workspace.backend
        self.workspace = workspace
        self.x, self.y, self.weights, self.shift = rows.x, rows.y, rows.weights, rows.shift
        self.size, self.seed = len(rows), seed
        self.row_shape, self.target_shape = tuple(rows.x.shape[1:]), tuple(rows.y.shape[1:])
        self.rotated = MOST_NUMBERS // max(prod(self.row_shape), 1)
        self.targets_buffer = "targets", str(rows.y.dtype)
        self.order = backend.empty((self.size,), backend.xp.int64) if shuffled else None
        self.ordered = 0  # the epoch whose order that is
        scale = 1.0 if network_scales else rows.scale
        # None: rows go to the network as they are.
        self.scale = None if (scale, rows.shift) == (1.0, 0.0) and rows.x.dtype == backend.dtype else scale

    def begin_epoch(self, epoch: int, size: int = 1, more: bool = False) -> None:
        """Have the rows in the order of that epoch, from 1; unless ``prepare`` was there before, it is made now. Epoch
        0 has them as they are stored, where there is no order.

        Args:
            size: how many rows a batch has, but for the last one.
            more: whether another epoch is to follow.
        """
        if self.ordered != epoch:
            self.prepare(epoch)

    def begin_in_order(self, size: int, part: range) -> None:
        """Have the rows of a part of them, which are neighbours, as they are stored, where there is no order.

        Args:
            size: how many rows a batch has, but for the last one.
        """

    def prepare(self, epoch: int) -> None:
        """Make the order of that epoch.

        A device that queues changes it when it has made the steps that were launched before this: they still read the
        order before. So this belongs after the last step of an epoch and before what waits for the device, which is
        busy then, and the 0.6 to 1 ms that the host takes for 60,000 rows cost nothing.
        """
        if self.order is not None:
            self.ordered = 0  # should this be interrupted
            self.order[...] = self.backend.asarray(permutation(self.size, self.seed, epoch))
            self.ordered = epoch

    def position(self, seen: int) -> int:
        """The position of the order from which on a batch is taken after ``seen`` rows of the epoch."""
        return seen

    def until(self, seen: int) -> int:
        """How many rows of the epoch are there to be taken, after ``seen`` of them, before ``position`` has to be asked
        again."""
        return self.size

    def row_numbers(self) -> Array:
        """(n,) int64: the number in the data set of the row at each position of the order."""
        if self.order is not None:
            return self.order
        return self.backend.xp.arange(self.size, dtype=self.backend.xp.int64, device=self.backend.device.handle)

    def close(self) -> None:
        """The epoch is over, or given up."""

    def batch(
        self, start: int | Array, count: int, number: int | Array = 0, *, offset: int = 0
    ) -> tuple[Array, Array, Array | None]:
        """``count`` rows from position ``start`` of the order on, as the network takes them, with their targets and
        their weights, None where there are none.

        Args:
            start, number: of the batch, which decides its buffer; they may be arrays of shape (1,) on the device.
            offset: how many positions after ``start`` the first row is.
        """
        take, buffer = self.backend.take_rows, self.workspace.buffer
        all_x, all_y, all_weights, order = self.x, self.y, self.weights, self.order
        if offset and isinstance(start, int):
            start += offset
        elif offset and order is not None:  # position start of what begins `offset` later
            order = order[offset:]
        elif offset:
            all_x, all_y = all_x[offset:, ...], all_y[offset:, ...]
            all_weights = None if all_weights is None else all_weights[offset:]
        x_buffer = y_buffer = weights = None
        # Where only the device knows the first row, no view of the rows is the batch, unless it is all of them.
        gathered = self.order is not None or not (isinstance(start, int) or count == self.size)
        if gathered or self.scale is not None:
            # Rotate buffers: rewriting one that other cores have just read forces cache-line transfers.
            buffers = min(MOST_BUFFERS, max(self.rotated // count, 1)) if isinstance(number, int) else 1
            x_buffer = buffer(("x", number % buffers if buffers > 1 else 0), (count, *self.row_shape))
        if gathered:
            y_buffer = buffer(self.targets_buffer, (count, *self.target_shape), self.y.dtype)
        x = take(all_x, order, start, count, scale=self.scale, shift=self.shift, out=x_buffer)
        y = take(all_y, order, start, count, out=y_buffer)
        if all_weights is not None:
            weights_buffer = buffer("weights", (count,), all_weights.dtype) if gathered else None
            weights = take(all_weights, order, start, count, out=weights_buffer)
        return x, y, weights


class AugmentedFeed(Feed):
    """Batches of pictures that are distorted at random, anew in each epoch.

    How a picture is distorted depends on (seed, epoch, number of the row) alone. All of it is computed on the device,
    in the buffers of the workspace, and can be recorded: the epoch is read from the device.

    Args:
        workspace, rows, shuffled, seed, network_scales: as of ``Feed``.
        augment: the distortions.
        shape: height, width and channels of a row.
    """

    def __init__(
        self,
        workspace: Workspace,
        rows: Rows,
        augment: Augment,
        shape: tuple[int, int, int],
        *,
        shuffled: bool = False,
        seed: int = 0,
        network_scales: bool = False,
    ) -> None:
        super().__init__(workspace, rows, shuffled=shuffled, seed=seed, network_scales=network_scales)
        backend, data = self.backend, rows.data
        self.numbers = self.row_numbers()
        height, width, self.channels = shape
        self.size_of_pictures = height, width
        self.key = row_key(seed, "augment")
        self.epoch = backend.zeros((1,), backend.xp.int64)
        self.settings: dict[str, Any] = {
            "rotation": radians(augment.rotation),
            "scale": float(augment.scale),
            "shear": radians(augment.shear),
            "shift": float(augment.shift),
            "flip_horizontal": augment.flip_horizontal,
            "flip_vertical": augment.flip_vertical,
        }
        # Outside of a picture is what the network would see there, or what it will multiply by its scale.
        fill = float(augment.fill)
        self.outside = fill if network_scales else fill * data.scale + data.shift
        self.cutout = augment.cutout
        self.smoothing: tuple[Array, Array, int] | None = None
        if augment.elastic is not None:
            alpha, sigma = augment.elastic
            (down, radius), (across, _) = gaussian(height, sigma), gaussian(width, sigma)
            self.smoothing = backend.asarray(down * alpha), backend.asarray(across), radius
        self.draws = N_DRAWS + (2 * height * width if self.smoothing is not None else 0)

    def prepare(self, epoch: int) -> None:
        """Make the order of that epoch, and let its pictures be distorted anew."""
        super().prepare(epoch)
        self.ordered = 0
        self.epoch[...] = epoch
        self.ordered = epoch

    def batch(
        self, start: int | Array, count: int, number: int | Array = 0, *, offset: int = 0
    ) -> tuple[Array, Array, Array | None]:
        """As ``Feed.batch``, the pictures distorted."""
        x, drawn, y, weights = self.parts(start, count, number, offset=offset)
        backend, buffer = self.backend, self.workspace.buffer
        maps = backend.affine_maps(drawn, self.size_of_pictures, out=buffer("maps", (count, N_MAP)), **self.settings)
        fields = None
        if self.smoothing is not None:
            down, across, radius = self.smoothing
            fields = buffer("fields", (count, 2, *self.size_of_pictures))
            backend.elastic_fields(drawn, down, across, radius=radius, out=fields)
        pictures = buffer("pictures", x.shape)
        backend.warp(x, maps, fields, fill=self.outside, cutout=self.cutout, out=pictures)
        return backend.xp.reshape(pictures, (count, *self.row_shape)), y, weights

    def parts(
        self, start: int | Array, count: int, number: int | Array = 0, *, offset: int = 0
    ) -> tuple[Array, Array, Array, Array | None]:
        """What a batch is made from: pictures (m, h, w, c) as they are and what is drawn for them; with their targets
        and their weights."""
        x, y, weights = super().batch(start, count, number, offset=offset)
        backend, buffer, xp = self.backend, self.workspace.buffer, self.backend.xp
        rows = buffer("row numbers", (count,), xp.int64)
        backend.take_rows(self.numbers[offset:] if offset else self.numbers, None, start, count, out=rows)
        drawn = buffer("draws", (count, self.draws))
        backend.random_rows(rows, self.draws, key=self.key, epoch=self.epoch, out=drawn)
        return xp.reshape(x, (count, *self.size_of_pictures, self.channels)), drawn, y, weights
