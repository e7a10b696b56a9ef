"""What the registry knows of an array library: how it is named, found, installed and mended."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .array_api import find_array_api
from .arrays import first_line
from .base import Device, DeviceError, ErrorKind


@dataclass(frozen=True)
class Library:
    """A row of ``backends.registry.LIBRARIES``.

    Attributes:
        names: what a device of this library is called before the colon. Messages use the first; the others are
            spellings of it.
        title: the library's name in a sentence.
        module: what Python imports.
        about: what it is, in a few words, for the help of ``--device``.
        install: the command that installs it.
        takes: what may follow the colon: nothing, the number of a device, or its name.
        default: the device that the bare name means, or what tells it; "" where that is for the library to say.
        find: makes a device from what follows the colon, after it has proved that it computes, or raises a DeviceError
            that says why not. By default the device is that of any array-API library.
        listed: what may follow the colon for the devices that are worth trying on this machine.
        backend: imports and returns the class with operations of its own for these devices, to be called with the
            device, the dtype and, unless it is float32, ``precision=``. None: the reference operations serve.
        precisions: of products of float32 matrices that the backend offers.
        remedies: what to do, given what is wrong (None: nothing, the device works), where the general advice of
            ``remedy`` does not do.
        also_called: what people say when they mean it, for "did you mean".
    """

    names: tuple[str, ...]
    title: str
    module: str
    about: str = ""
    install: str = ""
    takes: Literal["nothing", "a number", "a name"] = "a name"
    default: str | Callable[[], str] = ""
    find: Callable[[str], Device] | None = None
    listed: Callable[[], Sequence[str]] = lambda: ("",)
    backend: Callable[[], Callable[..., Any]] | None = None
    precisions: tuple[str, ...] = ("float32",)
    remedies: Callable[[ErrorKind | None], str] | None = None
    also_called: tuple[str, ...] = ()

    def spec(self, device: str) -> str:
        """The one spelling of a device, from what followed the colon, or "": ``cuda:0`` for "", "0" and "00".

        Raises:
            DeviceError: no device can be called that.
        """
        name = self.names[0]
        device = device.lower() or (self.default if isinstance(self.default, str) else self.default())
        if not device:
            return name
        if self.takes == "nothing":
            raise DeviceError(f"{self.title} has one device; say {name!r}", ErrorKind.NO_SUCH_DEVICE)
        if self.takes == "a number":
            if not device.isdecimal():
                raise DeviceError(
                    f"the number of a device must follow '{name}:', as in {name}:0", ErrorKind.NO_SUCH_DEVICE
                )
            device = str(int(device))
        return f"{name}:{device}"

    def device(self, spec: str) -> Device:
        """A new device, called by a ``spec`` of this library, after it has proved that it computes.

        Raises:
            DeviceError: it cannot be used.
        """
        self._import()
        name = spec.partition(":")[2]
        device = find_array_api(self.module, name) if self.find is None else self.find(name)
        device.spec = spec  # as the registry spells it, so that the device is found again by its spec
        return device

    def remedy(self, kind: ErrorKind | None) -> str:
        """What to do about a device that cannot be used, or (None) about one that works; "" where nothing is known."""
        if self.remedies is not None:
            return self.remedies(kind)
        if kind is ErrorKind.NOT_INSTALLED:
            return self.install
        if kind is ErrorKind.CANNOT_IMPORT:
            return f"python -c 'import {self.module}' must work first"
        if kind is ErrorKind.NO_MEMORY:
            return "end the process that holds the memory, or take another device"
        return ""

    def _import(self) -> None:
        try:
            importlib.import_module(self.module)
        except Exception as error:  # whatever a module may raise
            if isinstance(error, ModuleNotFoundError) and error.name == self.module:
                how = f" ({self.install})" if self.install else ""
                raise DeviceError(f"{self.title} is not installed{how}", ErrorKind.NOT_INSTALLED) from None
            raise DeviceError(
                f"{self.title} is installed but cannot be imported: {first_line(error)}", ErrorKind.CANNOT_IMPORT
            ) from None
