"""Every backend that a test can ask for; one that is not here skips the test and says why."""

from __future__ import annotations

import pytest

from backends import Backend, DeviceError, ErrorKind, get_backend

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

#: Those that a test of any backend runs on. The first device of array-api-strict is left out: its second one computes
#: the same and refuses more, every hidden transfer to the host. tests/backends/check tries all operations on both.
TRIED = [which for which in BACKENDS if which[0] != "array_api_strict"]


def backend_id(which: tuple[str, bool]) -> str:
    device, fused = which
    return device if fused or device not in ("cpu", "cuda") else f"{device}-reference"


def is_on_gpu(device: str) -> bool:
    return device.partition(":")[0] in ("cuda", "cupy")


def backend_params(which: list[tuple[str, bool]] = TRIED) -> list[object]:
    """Backends for ``parametrize`` and ``fixture(params=...)``, those on a GPU with the marker ``gpu``."""
    return [pytest.param(w, id=backend_id(w), marks=[pytest.mark.gpu] if is_on_gpu(w[0]) else []) for w in which]


#: What a machine may lack. Any other error of a device that is no GPU is one of ours, and no reason to skip its tests.
NOT_HERE = (ErrorKind.NOT_INSTALLED, ErrorKind.CANNOT_IMPORT)


def make_backend(which: tuple[str, bool], dtype: str = "float32") -> Backend:
    """The backend, or a skipped test with the reason why there is none here."""
    device, fused = which
    try:
        return get_backend(device, dtype, fused=fused)
    except DeviceError as error:
        if error.kind not in NOT_HERE and not is_on_gpu(device):
            raise
        pytest.skip(str(error))
