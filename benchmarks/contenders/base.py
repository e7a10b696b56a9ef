"""What a contender is."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from backends import Backend

from .config import Config

#: So many steps are made from the same initial values, on the first rows, to see that all compute the same.
STEPS_CHECKED = 5


class Contender:
    """Made from the rows: x uint8 (n, n_in), y int64 (n,)."""

    name: ClassVar[str]
    learns: ClassVar[bool] = True

    def __init__(self, config: Config, x: np.ndarray, y: np.ndarray, device: str) -> None:
        raise NotImplementedError

    def epoch(self) -> None:
        raise NotImplementedError

    def epochs(self, count: int) -> None:
        """So many, one after the other; on a GPU the host need not wait for each."""
        for _ in range(count):
            self.epoch()

    def accuracy(self, x: np.ndarray, y: np.ndarray) -> float:
        raise NotImplementedError

    def losses(self) -> list[float] | None:
        """The losses of ``STEPS_CHECKED`` steps from ``config.initial()``, on the first rows in their order; None where
        it cannot begin there. It forgets what it has learnt."""
        return None

    def version(self) -> str:
        """The library and its version."""
        return f"numpy {np.__version__}"

    def remark(self) -> str:
        """What a reader of the figures must know; "" where there is nothing."""
        return ""


def first_batches(config: Config, rows: int) -> list[slice]:
    """The batches of the steps that are checked."""
    size = min(config.batch_size, rows)
    return [slice(i % (rows // size) * size, (i % (rows // size) + 1) * size) for i in range(STEPS_CHECKED)]


def unrecorded(backend: Backend) -> str:
    """Why steps are launched one operation at a time; "" where they are recorded."""
    return f"not recorded as a CUDA graph ({backend.why_eager})" if backend.why_eager else ""
