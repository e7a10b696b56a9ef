"""From a name to a device that works, and its backend. The table of array libraries is here: ``LIBRARIES``.

A spec names a device: the name of a library and, after a colon, which of its devices.

    auto                     a GPU that works, else the CPU, with Numba where that works
    cpu, numpy               NumPy
    cuda, cuda:N, cupy       CuPy on GPU N; without a number on GPU 0, or, of several processes that were started
                             together, each on a GPU of its own
    numba                    NumPy, with loops compiled by Numba
    LIBRARY, LIBRARY:DEVICE  any other array-API library whose arrays can be written in place:
                             array_api_strict, array_api_strict:device1, torch, torch:cpu, torch:cuda:1

To add a spelling, add it to ``names`` of a row. To add a library, add a row:

    Library(names=("mylib",), title="MyLib", module="mylib", about="arrays on my hardware", install="pip install mylib")

That is all for one that follows the array-API standard: its devices are those that it reports, and the reference
operations of ``backends.base.Backend`` serve. A library with a device of its own kind (streams, quick copies) names the
function that makes and proves it, ``find``; one with operations of its own names the function that imports its class,
``backend``. ``backends.devices.library`` explains every column. What stands in a row is all that is known of a library:
the devices that are found, listed and tried, the sentence that says which are known, the help of ``--device`` and the
advice of ``python -m backends`` come from it.

A device is believed only after an elementwise operation and a small product have run on it, and it is made once:
``cuda``, ``cuda:0``, ``cupy`` and ``auto`` give one and the same object, so that there is one stream for each GPU.
"""

from __future__ import annotations

import difflib
import importlib.util
import sys
from collections.abc import Callable
from contextlib import suppress
from threading import RLock
from typing import Any

from .arguments import ArgumentTypeError, check_choice, check_dtype, check_flag, shown
from .base import Backend
from .cpu.device import find_numba, find_numpy
from .cuda import remedies
from .cuda.cublas import PRECISIONS
from .cuda.device import INSTALL, find_gpu, gpu_numbers, own_gpu
from .devices import Device, DeviceError, ErrorKind, Library
from .devices.array_api import find_torch


def _numpy_backend() -> Callable[..., Backend]:
    from .cpu.numpy_backend import NumpyBackend

    return NumpyBackend


def _numba_backend() -> Callable[..., Backend]:
    from .cpu.numba_backend import NumbaBackend

    return NumbaBackend


def _cupy_backend() -> Callable[..., Backend]:
    from .cuda.cupy_backend import CupyBackend

    return CupyBackend


#: One row for each library, in the order in which they are listed.
LIBRARIES = [
    Library(
        names=("cpu", "numpy"),
        title="NumPy",
        module="numpy",
        about="NumPy",
        install="pip install numpy",
        takes="nothing",
        find=find_numpy,
        backend=_numpy_backend,
        also_called=("host", "processor"),
    ),
    Library(
        names=("cuda", "cupy"),
        title="CuPy",
        module="cupy",
        about="an NVIDIA GPU, through CuPy",
        install=INSTALL,
        takes="a number",
        default=own_gpu,
        find=find_gpu,
        listed=gpu_numbers,
        backend=_cupy_backend,
        precisions=tuple(PRECISIONS),
        remedies=remedies.remedy,
        also_called=("gpu", "nvidia"),
    ),
    Library(
        names=("numba",),
        title="Numba",
        module="numba",
        about="NumPy, with loops compiled by Numba",
        install="pip install numba",
        takes="nothing",
        find=find_numba,
        backend=_numba_backend,
    ),
    Library(
        names=("torch",),
        title="PyTorch",
        module="torch",
        about="PyTorch",
        install="pip install torch",
        default="cpu",
        find=find_torch,
        also_called=("pytorch",),
    ),
    Library(
        names=("array_api_strict",),
        title="array-api-strict",
        module="array_api_strict",
        about="the array-API standard and nothing else, for tests",
        install="pip install array-api-strict",
        listed=lambda: ("", "device1"),
        also_called=("strict",),
    ),
]

#: Why ``auto`` takes the CPU, in a line; ``python -m backends`` tells the details.
WHY_NO_GPU = {
    ErrorKind.NOT_INSTALLED: "no GPU: CuPy is not installed",
    ErrorKind.CANNOT_IMPORT: "no GPU: CuPy cannot be imported",
    ErrorKind.NO_DRIVER: "no GPU: no NVIDIA driver, or one too old",
    ErrorKind.NO_GPU: "no GPU: the NVIDIA driver sees none",
    ErrorKind.NO_MEMORY: "GPU not used: it has no memory left",
    ErrorKind.CANNOT_COMPUTE: "GPU not used: CuPy cannot compute on it",
    ErrorKind.UNSAFE_ENVIRONMENT: "GPU not used: an environment variable forbids it",
}

#: What is added where ``auto`` takes the CPU with Numba: the first run takes seconds longer, and is told so.
WITH_NUMBA = "Numba compiles at first use"

_lock = RLock()  # held while a device is made, or two threads would make two, with a stream each
_made: dict[str, Device] = {}
_chosen: dict[bool, tuple[Device, str]] = {}


# ---- backends --------------------------------------------------------------------------------------------------------


def get_backend(
    spec: str | Backend = "auto", dtype: str = "float32", fused: bool = True, precision: str = "float32"
) -> Backend:
    """The backend for a device.

    Args:
        spec: ``"auto"`` (a GPU that works, else the CPU, with Numba where that works; ``backend.why_device`` says
            why), ``"cpu"``, ``"numba"``, ``"cuda"``, ``"cuda:1"``, ``"torch"``, ``"array_api_strict:device1"``, ...:
            see ``backends.registry``. A Backend is returned as it is.
        dtype: ``"float32"`` or ``"float64"``.
        fused: False gives the reference operations of the base class on that device: slower, and the specification.
        precision: of products of float32 matrices. ``"tf32"`` and ``"bf16"`` round the factors to 10 and 7 bits after
            the point, for the tensor cores of a GPU of compute capability 8.0 (Ampere) or newer; sums stay float32.

    Raises:
        DeviceError: (a ValueError) the device cannot be used, or not so; the message says why and what to do.
    """
    if isinstance(spec, Backend):
        return spec
    spec = _check_spec(spec)
    dtype, fused = check_dtype("dtype", dtype), check_flag("fused", fused)
    check_choice("precision", precision, PRECISIONS)
    device, why = choose(fused) if spec == "auto" else (find_device(spec), "")
    library = find_library(device.spec)
    if precision not in library.precisions:
        raise DeviceError(
            f"{device.spec} has no {precision} products; leave out the precision, or name a GPU: cuda",
            ErrorKind.LACKS_PRECISION,
        )
    if precision != "float32" and not fused:
        raise DeviceError(
            f"the reference operations have no {precision} products; leave out the precision",
            ErrorKind.LACKS_PRECISION,
        )
    options: dict[str, Any] = {} if precision == "float32" else {"precision": precision}
    make = library.backend() if fused and library.backend is not None else Backend
    backend: Backend = make(device, dtype, **options)
    backend.why_device = why
    return backend


# ---- devices ---------------------------------------------------------------------------------------------------------


def find_device(spec: str) -> Device:
    """The device called ``spec``, after it has proved that it computes: one object, however it is spelled.

    Raises:
        DeviceError: it cannot be used; the message says why and what to do.
    """
    if _check_spec(spec) == "auto":
        return choose()[0]
    library = find_library(spec)
    try:
        full = library.spec(spec.partition(":")[2])
        with _lock:
            if full not in _made:
                _made[full] = library.device(full)
            return _made[full]
    except DeviceError as error:
        raise DeviceError(error.reason, error.kind, spec) from None


def _check_spec(spec: Any) -> str:
    if not isinstance(spec, str):
        raise ArgumentTypeError(f"a device is named by a string such as 'cpu' or 'cuda:0', not by {shown(spec)}")
    return spec


def choose(fused: bool = True) -> tuple[Device, str]:
    """What ``auto`` means, decided once: a GPU that works, else the CPU; and why, in a short line.

    The CPU with Numba where that is installed and can compile: it was faster for every network that was measured
    (docs/performance.md). Without ``fused`` plain NumPy, since the reference operations have no loops to compile.
    """
    with _lock:
        if fused not in _chosen:
            _chosen[fused] = _choose(fused)
        return _chosen[fused]


def _choose(fused: bool) -> tuple[Device, str]:
    try:
        return find_device("cuda"), "auto: a GPU that works"
    except DeviceError as error:
        why = WHY_NO_GPU.get(error.kind, "GPU not used: python -m backends says why")
    if fused:
        with suppress(DeviceError):
            return find_device("numba"), f"{why}; {WITH_NUMBA}"
    return find_device("cpu"), why


def forget_devices() -> None:
    """Find every device anew when it is next asked for, as after a driver was installed. Backends keep theirs."""
    with _lock:
        _made.clear()
        _chosen.clear()


def available() -> list[tuple[str, Device | DeviceError]]:
    """Every device of the table worth asking for here: ``(spec, device)``, or ``(spec, the error that says why not)``.

    The CPU, each GPU, and the other libraries; one that cannot be imported is listed once.
    """
    found: list[tuple[str, Device | DeviceError]] = []
    for library in LIBRARIES:
        for name in library.listed():
            spec = f"{library.names[0]}:{name}" if name else library.names[0]
            try:
                found.append((spec, find_device(spec)))
            except DeviceError as error:
                found.append((spec, error))
                if error.kind in (ErrorKind.NOT_INSTALLED, ErrorKind.CANNOT_IMPORT):
                    break
    return found


# ---- names -----------------------------------------------------------------------------------------------------------


def find_library(spec: str) -> Library:
    """The row of the library that a spec names; for another library that is installed, a row without more.

    Raises:
        DeviceError: nothing is called that. Its message says which names are known, and which may have been meant.
    """
    name = spec.partition(":")[0]
    for library in LIBRARIES:
        if name in library.names:
            return library
    if name.isidentifier() and _is_installed(name):
        return Library(names=(name,), title=name, module=name)
    meant = _meant(spec)
    did_you = f" (did you mean {meant}?)" if meant else ""
    raise DeviceError(f"unknown device {shown(spec)}{did_you}; known are {known_devices()}", ErrorKind.UNKNOWN)


def _is_installed(name: str) -> bool:
    """Whether there is a module of that name. A folder that packages only share, without code of its own, is none:
    NVIDIA's wheels make one that is called ``nvidia``."""
    module = sys.modules.get(name)
    found = importlib.util.find_spec(name) if module is None else getattr(module, "__spec__", None)
    return module is not None if found is None else found.origin is not None


def _meant(spec: str) -> str:
    """The spec that somebody who wrote an unknown one may have meant, or ""."""
    name, _, device = spec.lower().partition(":")
    words = {word: library.names[0] for library in LIBRARIES for word in library.also_called}
    words |= {word: word for library in LIBRARIES for word in library.names} | {"auto": "auto"}
    close = difflib.get_close_matches(name, words, n=1)
    if not close:
        return ""
    meant = words[close[0]]
    keeps = any(meant in library.names and library.takes != "nothing" for library in LIBRARIES)
    return f"{meant}:{device}" if device and keeps else meant


def known_devices() -> str:
    """The names of devices, for a sentence."""
    names = [name for library in LIBRARIES for name in _shown(library)]
    return ", ".join(["auto", *names, "or another installed array-API library"])


def device_help() -> str:
    """The names of devices and what they mean, for the help of ``--device``."""
    rows = [f"{' or '.join(_shown(library))} ({library.about})" for library in LIBRARIES]
    return ", ".join(
        [
            "auto (a GPU that works, else the CPU, with Numba where that works)",
            *rows,
            "or another installed array-API library",
        ]
    )


def _shown(library: Library) -> list[str]:
    name = library.names[0]
    return [name, f"{name}:N"] if library.takes == "a number" else [name]
