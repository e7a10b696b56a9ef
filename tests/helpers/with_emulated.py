"""Every backend that a test can ask for, and that of the emulated GPU beside them."""

from __future__ import annotations

import pytest

from backends import Backend
from backends.cuda.cupy_backend import CupyBackend
from tests.helpers.backends import TRIED, backend_params, make_backend
from tests.helpers.emulated_cuda import HAS_COMPILER, EmulatedCudaDevice

EMULATED = ("emulated", True)
#: For ``fixture(params=...)``.
WITH_EMULATED = backend_params([*TRIED, EMULATED])


def made(which: tuple[str, bool], dtype: str) -> Backend:
    """The backend, or a skipped test with the reason why there is none here."""
    if which != EMULATED:
        return make_backend(which, dtype)
    if not HAS_COMPILER:
        pytest.skip("no g++ to run the CUDA text on the CPU")
    return CupyBackend(EmulatedCudaDevice(), dtype)
