"""The emulated GPU as ``cuda`` of a whole program: ``python -m tests.helpers.emulated_gpu MODULE ARGUMENTS``.

There it is in one process only, so the contenders of ``benchmarks.epoch`` share it.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from backends import registry
from backends.cuda.device import own_gpu
from backends.devices import prove
from benchmarks import epoch
from benchmarks.gpu import driver
from tests.helpers.emulated_cuda import HAS_COMPILER, EmulatedCudaDevice
from tests.helpers.emulated_driver import EmulatedDriver, get_elapsed_time
from tests.helpers.emulated_nccl import add_nccl

#: How many emulated GPUs there are, each of them in a process of its own.
GPUS = ("0", "1", "2", "3")


def find_emulated(number: str) -> EmulatedCudaDevice:
    """The GPU of that number, after it has proved that it computes."""
    device = EmulatedCudaDevice(index=int(number))
    add_nccl(device.cupy)
    with device.use():
        prove(device)
    return device


class Here:
    """A contender of ``benchmarks.epoch`` in this process."""

    def __init__(self, name: str, settings: argparse.Namespace) -> None:
        (x, y), self.test, origin = epoch.load_rows(settings.rows)
        named = argparse.Namespace(**{**vars(settings), "worker": name})
        self.contender, first = epoch.begin(named, x, y)
        self.answer = {"rows": origin, **first}

    def hear(self, seconds: float | None = None) -> dict[str, Any]:
        return self.answer

    def ask(self, request: str) -> None:
        self.answer = epoch.reply(self.contender, request, *self.test)

    def stop(self) -> None:
        pass


@contextmanager
def emulated_gpu() -> Iterator[EmulatedDriver]:
    """``cuda`` is the emulated GPU, and this its driver."""
    library = EmulatedDriver()
    index = next(i for i, library in enumerate(registry.LIBRARIES) if "cuda" in library.names)
    row, load, start = registry.LIBRARIES[index], driver.load, epoch.START
    cuda = EmulatedCudaDevice().cupy.cuda
    # "numpy", since CuPy need not be installed.
    emulated = replace(
        row, module="numpy", find=find_emulated, listed=lambda: ("0",), default=partial(own_gpu, lambda: GPUS)
    )
    registry.forget_devices()
    registry.LIBRARIES[index] = emulated
    driver.load = lambda: library  # type: ignore[assignment]
    epoch.START = Here
    cuda.get_elapsed_time = get_elapsed_time
    try:
        yield library
    finally:
        del cuda.get_elapsed_time
        epoch.START, driver.load = start, load
        registry.LIBRARIES[index] = row
        registry.forget_devices()


def main(argv: list[str]) -> int:
    """Run the module's ``main`` with those arguments."""
    if not HAS_COMPILER:
        print("the emulated GPU needs g++, which is not installed", file=sys.stderr)
        return 2
    name, *arguments = argv
    module = importlib.import_module(name)
    if not hasattr(module, "main"):
        module = importlib.import_module(f"{name}.__main__")
    with emulated_gpu():
        code: int = module.main(arguments)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
