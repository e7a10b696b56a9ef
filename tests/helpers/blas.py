"""A stand-in for the BLAS of NumPy, which is allowed so many threads; the real one stays at one."""

from __future__ import annotations

from typing import Any

import pytest

from backends import Backend, get_backend
from backends.cpu import core
from backends.cpu.threads import Threads


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
