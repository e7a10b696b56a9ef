"""Arrays of a device that are written from the host, by other threads, while the device computes with other arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from ..typing import Array

#: Writes numbers into arrays of the host, which have those shapes and dtypes.
Fill = Callable[[Sequence[np.ndarray]], None]


class Transfer:
    """Writes into arrays of a device.

    The thread that computes calls ``mark``, ``join`` and ``close``; any number of others ``write``. This class fills
    memory of the host and copies it: for a device that makes copies in the order of what was launched, or at once.

    Args:
        from_numpy: makes an array of the device from one of the host.
        use: a context in which the device is that of the calling thread.
    """

    def __init__(
        self, from_numpy: Callable[[np.ndarray], Array], use: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        self._from_numpy, self._use = from_numpy, use

    def mark(self) -> Any:
        """What ``write`` takes as ``after``: everything that was launched until now."""
        return None

    def at_work(self) -> AbstractContextManager[Any]:
        """A context in which a thread prepares and writes numbers: it may take time from the thread that computes."""
        return nullcontext()

    def write(self, arrays: Sequence[Array], dtypes: Sequence[np.dtype[Any]], fill: Fill, after: Any = None) -> None:
        """Have ``fill`` give the numbers of arrays on the device.

        Args:
            arrays: contiguous, no larger together than what ``Device.transfer`` was asked for.
            dtypes: of the arrays, as NumPy has them.
            fill: called once, before this returns; an error of it is raised here.
            after: nothing is written before that is done.
        """
        host = [np.empty(tuple(array.shape), dtype) for array, dtype in zip(arrays, dtypes, strict=True)]
        fill(host)
        with self._use():
            for array, numbers in zip(arrays, host, strict=True):
                array[...] = self._from_numpy(numbers)

    def join(self) -> None:
        """What is launched from now on finds written what was written until now."""

    def close(self) -> None:
        """Wait for what is being written, and let go of the memory that was needed for it."""
