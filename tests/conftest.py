"""Every backend that is here, as a fixture; one that is not skips its tests and says why."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends import Backend, DeviceError, get_backend

#: (device, fused): the overrides and the reference operations of each library.
BACKENDS = [
    ("cpu", True),
    ("cpu", False),
    ("numba", True),
    ("array_api_strict", False),
    ("array_api_strict:device1", False),
    ("torch", False),
    ("cuda", True),
    ("cuda", False),
]


def backend_id(which: tuple[str, bool]) -> str:
    device, fused = which
    return device if fused or device not in ("cpu", "cuda") else f"{device}-reference"


def make_backend(which: tuple[str, bool], dtype: str = "float32") -> Backend:
    """The backend, or a skipped test with the reason why there is none."""
    device, fused = which
    try:
        return get_backend(device, dtype, fused=fused)
    except DeviceError as error:
        pytest.skip(str(error))


@pytest.fixture(params=BACKENDS, ids=backend_id)
def which_backend(request: pytest.FixtureRequest) -> tuple[str, bool]:
    """Which backend, for a test that makes it with a dtype of its own: ``make_backend(which_backend, "float64")``."""
    which: tuple[str, bool] = request.param
    return which


@pytest.fixture(params=["float32", "float64"])
def backend(which_backend: tuple[str, bool], request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Every backend in both dtypes, its device being the current one."""
    backend = make_backend(which_backend, request.param)
    with backend.use():
        yield backend


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """The folder with the real MNIST files."""
    folder = os.environ.get("XPNET_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("set the environment variable XPNET_DATA to the folder with the MNIST files")
    return Path(folder)
