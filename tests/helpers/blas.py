"""A stand-in for the BLAS of NumPy, which is allowed so many threads while the real one stays at one; two threads of
the real one; and training on either."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from backends import Backend, get_backend
from backends.cpu import core
from backends.cpu.blas import numpy_blas
from backends.cpu.threads import Threads, numpy_threads
from nn import SGD, Linear, Optimizer, Sequential, Sigmoid, Softmax, Trainer


class Library:
    """Stands in for an OpenBLAS: tells what its number of threads was set to."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.set_to: list[int] = []

    def openblas_get_num_threads(self) -> int:
        return self.number

    def openblas_set_num_threads(self, number: Any) -> None:
        self.number = getattr(number, "value", number)
        self.set_to.append(self.number)


def with_library(monkeypatch: pytest.MonkeyPatch, number: int) -> Library:
    """A library with so many threads, for backends that are made in this test."""
    library = Library(number)
    threads = Threads(library)  # type: ignore[arg-type]
    monkeypatch.setattr(core, "numpy_threads", lambda: threads)
    return library


def with_threads(monkeypatch: pytest.MonkeyPatch, number: int) -> tuple[Backend, Library]:
    """A backend on the CPU that may compute on so many threads, and its library."""
    library = with_library(monkeypatch, number)
    return get_backend("cpu"), library


@contextmanager
def two_threads() -> Iterator[Threads]:
    """Two threads of NumPy's own BLAS; the test is skipped where that cannot be."""
    threads = numpy_threads()
    if threads is None or numpy_blas("float32") is None:
        pytest.skip("the number of threads of NumPy's BLAS cannot be changed")
    before = threads.number()
    threads.set(2)
    try:
        yield threads
    finally:
        threads.set(before)


def train(
    backend: Backend,
    widths: list[int],
    batch: int,
    optimizer: Optimizer | None = None,
    *,
    steps: int = 3,
    epochs: int = 2,
    eagerly: bool = False,
) -> dict[str, np.ndarray]:
    """The parameters after training on ``steps`` batches, and half a one."""
    if eagerly:
        backend.record = lambda step, **_: Backend.record(backend, step)  # type: ignore[method-assign]
    rng = np.random.default_rng(1)
    rows = batch * steps + batch // 2
    layers: list[Any] = []
    for n_in, n_out in pairwise(widths):
        layers += [Linear(n_in, n_out), Sigmoid()]
    model = Sequential(*layers[:-1], Softmax(), backend=backend, seed=3)
    trainer = Trainer(model, optimizer=optimizer or SGD(0.1, momentum=0.9, dampening=0.9))
    trainer.fit((rng.random((rows, widths[0]), dtype="f4"), rng.integers(0, widths[-1], rows)), epochs, batch)
    return {name: np.array(x) for name, x in model.parameters.items()}
