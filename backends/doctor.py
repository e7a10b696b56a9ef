"""What can compute on this machine, and for what cannot: the reason and what to do about it.

The reason is that of the DeviceError; what to do follows from its kind, and the library knows it (``Library.remedy``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .devices import Device, DeviceError, ErrorKind
from .registry import available, find_device, find_library


@dataclass(frozen=True)
class Finding:
    """A device: what it is or, where ``reason`` says why it cannot be used, ``remedy`` what to do."""

    spec: str
    text: str = ""
    reason: str = ""
    remedy: str = ""

    def lines(self) -> Iterator[str]:
        """As the command line prints it."""
        if not self.reason:
            yield f"{self.spec:<26} ready: {self.text}"
        else:
            yield f"{self.spec:<26} not usable: {self.reason}"
        if self.remedy:
            yield f"{'':<26} {'what to do' if self.reason else 'but'}: {self.remedy}"


def examine(specs: Iterable[str] = ()) -> list[Finding]:
    """The devices of those names; by default everything that is here or could be."""
    return [finding(spec, found) for spec, found in _find(specs)]


def finding(spec: str, found: Device | DeviceError) -> Finding:
    """What there is to say of a device, or of the error that came in its place."""
    if isinstance(found, Device):
        text = ", ".join(filter(None, (f"{found.version()} on {found.hardware()}", memory(found))))
        return Finding(spec, text, remedy=find_library(found.spec).remedy(None))
    if found.kind is ErrorKind.UNKNOWN:  # of no library
        return Finding(spec, reason=found.reason)
    library = find_library(spec)
    not_installed = found.kind is ErrorKind.NOT_INSTALLED  # whose reason names a general remedy; here is a better one
    reason = f"{library.title} is not installed" if not_installed else found.reason
    return Finding(spec, reason=reason, remedy=library.remedy(found.kind))


def memory(device: Device) -> str:
    """Free and total memory of a device; nothing where the system does not say."""
    try:
        found = device.memory()
    except RuntimeError:  # from the driver of a GPU
        found = None
    return "" if found is None else f"{found[0] / 2**30:.1f} of {found[1] / 2**30:.1f} GiB of memory free"


def _find(specs: Iterable[str]) -> Iterator[tuple[str, Device | DeviceError]]:
    named = list(specs)
    if not named:
        yield from available()
        named = ["torch:cuda"] if _torch_has_cuda() else []
    for spec in named:
        try:
            yield spec, find_device(spec)
        except DeviceError as error:
            yield spec, error


def _torch_has_cuda() -> bool:
    try:
        import torch

        return bool(torch.cuda.is_available())
    except Exception:  # a PyTorch that cannot be imported is found, with its reason, as device torch
        return False
