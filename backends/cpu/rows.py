"""Rows of a batch through NumPy, and the masks of dropout."""

from __future__ import annotations

from math import prod

import numpy

from .. import random
from ..typing import Array
from .core import NumpyCore, host_number


class NumpyRows(NumpyCore):
    """Rows taken in an order and scaled, and random masks in their shape."""

    def take_rows(
        self,
        rows: Array,
        order: Array | None,
        start: int | Array,
        count: int,
        *,
        scale: float | None = None,
        shift: float = 0.0,
        out: Array | None = None,
    ) -> Array:
        np = self._memory.numpy
        shape = (count, *rows.shape[1:])
        if order is None and (isinstance(start, int) or count == len(rows)):
            first = host_number(start)
            taken = rows[first : first + count]
        else:
            same = scale is None or rows.dtype == self.dtype_name
            gathered = out if same and out is not None else self._scratch("rows", shape, rows.dtype)
            if same and out is None:
                gathered = np.empty(shape, rows.dtype)
            taken = self._call(_gather, rows, order, start, count, gathered)
        if scale is None:
            if out is not None and out is not taken:
                np.copyto(out, taken, casting="unsafe")
            return taken if out is None else out
        return self._scaled(taken, scale, shift, np.empty(shape, self.dtype) if out is None else out)

    def _scaled(self, taken: Array, scale: float, shift: float, out: Array) -> Array:
        """out = taken * scale + shift"""
        np = self._memory.numpy
        if out is not taken:
            np.copyto(out, taken, casting="unsafe")
        if scale != 1.0:
            np.multiply(out, scale, out=out)
        return out if shift == 0.0 else np.add(out, shift, out=out)

    def dropout_mask(
        self,
        shape: tuple[int, ...],
        *,
        rate: float,
        key: tuple[int, int],
        step: int | Array,
        out: Array | None = None,
    ) -> Array:
        out = self._memory.numpy.empty(shape, self.dtype) if out is None else out
        self._call(self._mask, shape, rate, key, step, out)
        return out

    def _mask(self, shape: tuple[int, ...], rate: float, key: tuple[int, int], step: int | Array, out: Array) -> None:
        size = prod(shape)
        mixed = numpy.uint32(random.hash32((host_number(step) + key[1]) & random.UINT32))
        bits = self._scratch("bits", (size,), "u4")
        numpy.bitwise_xor(self._element_hash(size, key), mixed, out=bits)
        self._hash32_in_place(bits)
        kept = self._scratch("kept", shape, numpy.bool_)
        numpy.greater_equal(bits.reshape(shape), numpy.uint32(random.mask_threshold(rate)), out=kept)
        numpy.multiply(kept, self._number(1.0 / (1.0 - rate)), out=out)


def _gather(rows: Array, order: Array | None, start: int | Array, count: int, out: Array) -> Array:
    """The rows from position ``start`` on, of an order or of the rows themselves."""
    first = host_number(start)
    if order is None:
        numpy.copyto(out, rows[first : first + count], casting="unsafe")
        return out
    # mode="clip" lets NumPy write straight into `out`; an order is a permutation, there is nothing to clip.
    return rows.take(order[first : first + count], 0, out, "clip")
