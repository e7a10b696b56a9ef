"""Rows that lie on the device already: what is to be predicted need not go to the host and back.

All other rows are checked on the host, by ``nn.data``. That is also where these go as soon as there is anything to say
or to do about them: NaN, other units, a table's columns, another shape.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

from backends import Backend
from backends.typing import Array, Shape

from .data import Units


class DeviceRows(NamedTuple):
    """Rows (m, ...) on the device, and what they are multiplied by and what is added to them: as of a ``Dataset``."""

    x: Array
    scale: float
    shift: float

    @property
    def n_features(self) -> int:
        return prod(self.x.shape[1:])


def device_rows(x: Any, backend: Backend, units: Units | None, row_shape: Shape | None) -> DeviceRows | None:
    """``x``, without a copy if it is in the backend's dtype, as a trained network that takes rows of ``row_shape`` sees
    it; None where the host has to look at it. Waits for the device: two numbers say whether all are finite.
    """
    if not backend.device.holds(x) or units is None or any(column.learnt for column in units.columns or ()):
        return None
    xp, device = backend.xp, backend.device
    with backend.use():
        try:
            rows = device.asarray(x)
        except TypeError:  # it is sparse
            return None
        if rows.dtype not in (xp.uint8, xp.float32, xp.float64) or not _lies_row_by_row(rows):
            return None
        if row_shape is None or tuple(rows.shape[1:]) != row_shape or rows.shape[0] == 0:
            return None
        low, high = backend.item(xp.min(rows)), backend.item(xp.max(rows))
        largest = float(xp.finfo(backend.dtype).max)
        if not -largest <= low <= high <= largest or units.may_differ(high):  # nor are NaN and infinity
            return None
        rows = backend.asarray(rows)
    return DeviceRows(rows, units.scale, units.shift)


def _lies_row_by_row(rows: Any) -> bool:
    """Whether the rows lie one after the other in memory, as far as the library says."""
    flags = getattr(rows, "flags", None)
    if flags is not None:
        return bool(flags.c_contiguous)
    return bool(rows.is_contiguous()) if hasattr(rows, "is_contiguous") else True
