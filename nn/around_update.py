"""What is done to gradients before an update and to parameters after it: clipping, adding up over batches, averaging.

All of it works on the flat buffers, on the device, by operations of the backend; the plan (``nn.plan``) says when.
"""

from __future__ import annotations

from numbers import Real
from typing import NamedTuple

from backends.typing import Array

from .data.checks import check_whole_number


class Clipping(NamedTuple):
    """How gradients are made smaller before an update: first by value, then by norm.

    Attributes:
        value: the largest absolute value that an element may have; None for any.
        limit: the largest norm that all gradients together may have; None for any.
        norm: (1,) of the wide dtype, where their norm goes before it is clipped.
    """

    value: float | None
    limit: float | None
    norm: Array


class Average(NamedTuple):
    """The exponential moving average of the parameters over the updates.

    Attributes:
        array: laid out like the parameters.
        decay: what is kept of it at each update.
        first: the number of the update that it begins with, as a copy.
    """

    array: Array
    decay: float
    first: int


class Share(NamedTuple):
    """Which one a batch is of several whose gradients make one update together.

    Attributes:
        rows: of all of them.
        is_first, is_last: of them.
        alike: how many batches from this one on are neither or, where this one is either, 1.
    """

    rows: int
    is_first: bool
    is_last: bool
    alike: int = 1

    @classmethod
    def of(cls, start: int, count: int, size: int, batches: int, rows: int) -> Share:
        """That of the batch of ``count`` rows from position ``start`` on, in an epoch of ``rows`` rows in batches of
        ``size``, of which so many make an update. An epoch ends with an update: of the batches that are left."""
        begin = start // (size * batches) * (size * batches)
        end = min(begin + size * batches, rows)
        is_first, is_last = start == begin, start + count == end
        alike = 1 if is_first or is_last else (end - start - 1) // size
        return cls(end - begin, is_first, is_last, alike)


def check_around_update(
    clip_norm: float | None, clip_value: float | None, accumulate: int, average: float | None
) -> None:
    """Raise a ValueError or TypeError for a setting of ``Trainer`` that is out of its range."""
    for name, limit in (("clip_norm", clip_norm), ("clip_value", clip_value)):
        if limit is not None and not (_is_number(limit) and limit > 0.0):
            raise ValueError(f"{name} must be a number above 0, or None for no limit, not {limit!r}")
    check_whole_number("accumulate", accumulate)
    if average is not None and not (_is_number(average) and 0.0 <= average < 1.0):
        raise ValueError(
            f"average must be a number of at least 0 and below 1, what the average keeps of itself at each update, or "
            f"None for no average, not {average!r}"
        )


def _is_number(x: object) -> bool:
    return isinstance(x, Real) and not isinstance(x, bool)
