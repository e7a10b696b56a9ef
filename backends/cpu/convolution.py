"""Convolutions through NumPy and its BLAS: pictures in blocks that stay in the cache, and blocks on several threads.

Each operation is one noted call of a recorded step. What it needs besides is made when its shapes are first seen: for
each thread about ``BYTES_OF_BLOCK`` of pictures, patches and results, or those of one picture where that is more, in
one size or two; and at most ``MOST_BYTES_OF_SUMS`` for the partial sums of a gradient, or those of one.

No bit depends on the number of threads: pictures are cut into blocks, and blocks into parts, by shapes alone; a
gradient is added up within each part, and the sums of the parts in their order.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy

from ..activations import Activation, get_activation
from ..base import Backend
from ..core import check_beta, check_z_out
from ..pictures.convolution import check_convolution
from ..pictures.windows import Pair
from ..typing import Array
from .blas import Blas
from .blocks import Block, Convolution
from .core import NumpyCore, host_number
from .filters import make_filters
from .workers import MOST_PARTS, InBlocks, size_of_blocks

MOST_BYTES_OF_SUMS = 2**25


class _Blocks(InBlocks["_Thread"]):
    """What a convolution of m pictures needs besides its arrays.

    Attributes:
        multiplications: of one pass over all, as many as take a matrix product as long.
        dw, db: in the backward pass, the sums of each part: (parts, ...).
        row: the bias for a row of windows.
    """

    def __init__(self, it: Convolution, m: int, blas: Blas | None) -> None:
        self.it = it
        self.filters = make_filters(it, blas)
        most, size = MOST_PARTS, size_of_blocks(m, self.filters.bytes_of_picture)
        if it.backward:
            sums = prod(it.shape) * numpy.dtype(it.dtype).itemsize
            most = max(1, min(most, MOST_BYTES_OF_SUMS // sums))
        super().__init__(m, size, lambda n: _Thread(self.filters.make_block(n), it, n), most)
        self.multiplications = m * prod(it.windows.grid) * it.depth * it.filters * self.filters.cost
        count, columns = (len(self.parts), 0) if it.backward else (0, it.windows.grid[1])
        self.dw = numpy.zeros((max(count, 1), it.groups, it.depth, it.filters // it.groups), it.dtype)
        self.db = numpy.empty((count, it.filters), it.dtype)
        self.row = numpy.empty((columns, it.filters), it.dtype)


class _Numpy:
    """NumPy for a function that makes arrays of the same shapes, in the same order, whenever it is called: it makes
    them at the first call."""

    def __init__(self) -> None:
        self._arrays: list[Array] = []
        self._next = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(numpy, name)

    def begin(self) -> _Numpy:
        """For a new call."""
        self._next = 0
        return self

    def empty(self, shape: tuple[int, ...], dtype: Any = float) -> Array:
        """An array that is not used yet in this call."""
        if self._next == len(self._arrays):
            self._arrays.append(numpy.empty(shape, dtype))
        array = self._arrays[self._next]
        if array.shape != shape or array.dtype != dtype:  # another activation
            array = self._arrays[self._next] = numpy.empty(shape, dtype)
        self._next += 1
        return array

    def empty_like(self, x: Array) -> Array:
        return self.empty(x.shape, x.dtype)


class _Thread:
    """What a thread has for a block.

    Attributes:
        scratch: in the shape of its results.
        ones: for each of ``block.rows``.
        sums: for their column sums.
        numpy: for an activation.
    """

    def __init__(self, block: Block, it: Convolution, pictures: int) -> None:
        self.block = block
        self.scratch = numpy.empty((pictures, *it.windows.grid, it.filters), it.dtype)
        self.ones = numpy.ones(len(block.rows), it.dtype)
        self.sums = numpy.empty(it.filters, it.dtype)
        self.numpy = _Numpy()

    def numpy_for(self, known: Activation) -> Any:
        """What NumPy functions of an activation are given."""
        return self.numpy.begin() if known.recordable else numpy


class _Forward(NamedTuple):
    """``conv2d`` with its arrays, of which ``z_out`` and ``out`` have no gaps."""

    blocks: _Blocks
    xp: Any
    x: Array
    weight: Array
    bias: Array | None
    known: Activation
    alpha: float
    z_out: Array | None
    out: Array

    def begin(self) -> None:
        """What is done once for all blocks."""
        self.blocks.filters.set(self.weight, self.alpha)
        if self.bias is not None:
            numpy.copyto(self.blocks.row, self.bias)

    def compute(self, worker: int, part: int) -> None:
        """The results of the blocks of a part."""
        row = self.blocks.row.reshape(-1)
        for block in self.blocks.parts[part]:
            mine = self.blocks.of(worker, block)
            z = mine.block.forward(self.x[block])
            out = self.out[block].reshape(z.shape)
            if self.z_out is not None or self.bias is not None:
                kept = out if self.z_out is None else self.z_out[block].reshape(z.shape)
                numpy.copyto(kept, z) if self.bias is None else numpy.add(z, row, out=kept)
                z = kept
            if self.known.numpy_forward is not None:
                self.known.numpy_forward(mine.numpy_for(self.known), z, out)
            else:
                out[...] = self.known.forward(self.xp, z)


class _Backward(NamedTuple):
    """``conv2d_backward`` with its arrays."""

    blocks: _Blocks
    xp: Any
    dy: Array
    saved: Array
    x: Array
    weight: Array
    known: Activation
    bias_gradient: Array | None
    dz: Array
    dx: Array | None

    def begin(self) -> None:
        """What is done once for all blocks."""
        self.blocks.filters.set(self.weight, 1.0)
        self.blocks.filters.turn(self.weight)

    def compute(self, worker: int, part: int) -> None:
        """dz and dx of the blocks of a part, and its sums."""
        blocks = self.blocks
        blocks.dw[part] = 0
        blocks.db[part] = 0
        for block in blocks.parts[part]:
            mine = blocks.of(worker, block)
            self._differentiate(mine, block)
            mine.block.take(self.x[block], self.dz[block])
            if self.bias_gradient is not None:
                numpy.dot(mine.ones, mine.block.rows, out=mine.sums)
                numpy.add(blocks.db[part], mine.sums, out=blocks.db[part])
            mine.block.dw.fill(0)
            mine.block.add_dw()
            numpy.add(blocks.dw[part], mine.block.dw, out=blocks.dw[part])
            if self.dx is not None:
                mine.block.backward(self.dx[block])

    def _differentiate(self, mine: _Thread, block: slice) -> None:
        """dz <- dy f'"""
        dy, dz, known = self.dy[block], self.dz[block], self.known
        if known.numpy_derivative is not None:
            known.numpy_derivative(mine.numpy_for(known), self.saved[block], mine.scratch)
            numpy.multiply(dy, mine.scratch, out=dz)
        elif known.derivative is not None:
            numpy.multiply(dy, known.derivative(self.xp, self.saved[block]), out=dz)
        elif self.dz is not self.dy:
            numpy.copyto(dz, dy)


class NumpyConvolutions(NumpyCore):
    """Convolution of pictures, and the chain rule through it."""

    def conv2d(
        self,
        x: Array,
        weight: Array,
        bias: Array | None = None,
        activation: str = "identity",
        *,
        stride: Pair = (1, 1),
        padding: Pair = (0, 0),
        groups: int = 1,
        alpha: float = 1.0,
        z_out: Array | None = None,
        out: Array | None = None,
    ) -> Array:
        check_z_out("conv2d", z_out, out)
        windows = check_convolution("conv2d", x.shape, weight.shape, stride, padding, groups)
        it, m = Convolution(windows, x.shape[3], weight.shape[3], groups, self.dtype_name, backward=False), x.shape[0]
        out = self.empty((m, *windows.grid, it.filters)) if out is None else out
        plain_z, plain_out = self._without_gaps("z_out", z_out), self._without_gaps("out", out)
        blocks, known = self._blocks(it, m), get_activation(activation)
        operation = _Forward(blocks, self.xp, x, weight, bias, known, alpha, plain_z, plain_out)
        self._call_shared(blocks.multiplications, self._convolve, operation, z_out, out)
        return out

    def _convolve(self, it: _Forward, z_out: Array | None, out: Array) -> None:
        it.begin()
        self._share(it.blocks.job, it.compute, it.blocks.multiplications, it.blocks.prepare)
        for asked, made in ((z_out, it.z_out), (out, it.out)):
            if asked is not None and made is not None and asked is not made:
                numpy.copyto(asked, made)

    def conv2d_backward(
        self,
        dy: Array,
        saved: Array,
        x: Array,
        weight: Array,
        activation: str = "identity",
        *,
        stride: Pair = (1, 1),
        padding: Pair = (0, 0),
        groups: int = 1,
        alpha: float = 1.0,
        beta: float = 0.0,
        times: float | Array = 1.0,
        needs_dx: bool = True,
        bias_gradient: Array | None = None,
        weight_gradient: Array | None = None,
        dz: Array | None = None,
        out: Array | None = None,
    ) -> tuple[Array | None, Array, Array, Array | None]:
        operation = "conv2d_backward"
        windows = check_convolution(operation, x.shape, weight.shape, stride, padding, groups)
        it = Convolution(windows, x.shape[3], weight.shape[3], groups, self.dtype_name, backward=True)
        check_beta(operation, beta, weight_gradient, "weight_gradient")
        if weight_gradient is None:
            weight_gradient = self.empty(weight.shape)
        known = get_activation(activation)
        if dz is None:
            dz = dy if known.derivative is None else self.empty(dy.shape)
        dx = None if not needs_dx else self.empty(x.shape) if out is None else out
        blocks = self._blocks(it, x.shape[0])
        call = _Backward(blocks, self.xp, dy, saved, x, weight, known, bias_gradient, dz, dx)
        self._call_shared(blocks.multiplications, self._convolve_backward, call, alpha, beta, times, weight_gradient)
        return dx, dz, weight_gradient, bias_gradient

    def _convolve_backward(
        self, it: _Backward, alpha: float, beta: float, times: float | Array, weight_gradient: Array
    ) -> None:
        blocks, dw = it.blocks, it.blocks.dw
        it.begin()
        passes = 1 if it.dx is None else 2
        self._share(blocks.job, it.compute, passes * blocks.multiplications, blocks.prepare)
        if it.bias_gradient is not None:
            numpy.add.reduce(blocks.db, 0, None, it.bias_gradient)
        for of_part in dw[1:]:
            numpy.add(dw[0], of_part, out=dw[0])
        product = _in_shape(dw[0], it.weight.shape)
        if not blocks.filters.is_exact(dw[0], it.dx is not None):
            windows = blocks.it.windows
            exact = Backend.conv2d_backward(
                self, it.dz, it.dz, it.x, it.weight, stride=windows.stride, padding=windows.padding,
                groups=blocks.it.groups, needs_dx=it.dx is not None, out=it.dx,
            )  # fmt: skip
            numpy.copyto(product, exact[2])
        factor = alpha * host_number(times)
        if factor != 1.0:
            numpy.multiply(product, factor, out=product)
        if beta == 0.0:
            numpy.copyto(weight_gradient, product)
        else:
            numpy.multiply(weight_gradient, beta, out=weight_gradient)
            numpy.add(weight_gradient, product, out=weight_gradient)

    def _blocks(self, it: Convolution, m: int) -> _Blocks:
        made: _Blocks = self._constant("conv2d", (it, m), lambda: _Blocks(it, m, self._blas))
        return made

    def _without_gaps(self, name: str, out: Array | None) -> Array | None:
        """Where results are written that are to go to ``out``."""
        return out if out is None or out.flags.c_contiguous else self._scratch(f"conv2d {name}", out.shape)


def _in_shape(dw: Array, shape: tuple[int, ...]) -> Array:
    """(groups, depth, filters of a group) in the shape of the filters."""
    groups, _, filters = dw.shape
    return numpy.moveaxis(dw.reshape(groups, *shape[:3], filters), 0, 3).reshape(shape)
