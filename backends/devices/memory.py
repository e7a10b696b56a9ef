"""Memory that is not there: the error that says so, what libraries say instead, and what the host has left."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..messages import sentence

#: What a backend says that found no memory, and knows no more of it.
ARRAYS = "arrays"
#: How NumPy, CuPy and PyTorch say how much they asked for.
_ASKED = re.compile(r"(?:allocating|[Uu]nable to allocate|[Tt]ried to allocate) ([\d.,]+) (bytes|KiB|MiB|GiB|TiB)")
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
#: What PyTorch says of the memory of the host, in a plain RuntimeError; "not enough memory" on Windows.
_OF_TORCH = re.compile(r"DefaultCPUAllocator: (?:can't allocate|not enough) memory")
#: cudaErrorMemoryAllocation, which CuPy raises where no array is allocated: for a kernel or a graph.
_STATUS = 2
#: Where Linux says how much memory is free.
MEMINFO = Path("/proc/meminfo")


class OutOfMemoryError(MemoryError):
    """There is not so much memory; the message says what was asked for, what is free, and what would fit.

    Attributes:
        what: needs it, in words.
        asked: bytes that were asked for at last; None where the library did not say.
        free: bytes that were free then; None where the system does not say.
        advice: what to do.
        batch_size: one that would fit, where that is what to change; else None.
    """

    def __init__(
        self,
        message: str,
        *,
        what: str = "",
        asked: int | None = None,
        free: int | None = None,
        advice: str = "",
        batch_size: int | None = None,
    ) -> None:
        super().__init__(message)
        self.what = what
        self.asked = asked
        self.free = free
        self.advice = advice
        self.batch_size = batch_size

    def __str__(self) -> str:
        return sentence("; ".join(filter(None, (super().__str__(), self.advice))))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether that is what a library says by this error. They do not agree on its type."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # PyTorch's is a RuntimeError
        return True
    if type(error).__name__ == "CUDARuntimeError":
        return getattr(error, "status", None) == _STATUS
    return isinstance(error, RuntimeError) and _OF_TORCH.search(str(error)) is not None


def is_of_host(error: BaseException) -> bool:
    """Whether an error of that kind comes from Python or NumPy, and so is about the memory of the host."""
    return type(error) is MemoryError or type(error).__module__.partition(".")[0] == "numpy"


def asked_for(error: BaseException) -> int | None:
    """How many bytes were asked for; None where the error does not say."""
    if isinstance(error, OutOfMemoryError):
        return error.asked
    found = _ASKED.search(str(error))
    return None if found is None else int(float(found[1].replace(",", "")) * _UNITS[found[2]])


def size_text(size: float) -> str:
    """Bytes in words: 2.62 MiB."""
    units = ["B", "KiB", "MiB", "GiB", "TiB"]
    unit = 0
    while size >= 1024.0 and unit < len(units) - 1:
        size /= 1024.0
        unit += 1
    return f"{size:,.0f} {units[unit]}" if unit == 0 or size >= 100 else f"{size:.3g} {units[unit]}"


def host_memory() -> tuple[int, int] | None:
    """Free and total bytes of the host, as far as this process may use them; None where the system does not say."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        free, total = page * os.sysconf("SC_AVPHYS_PAGES"), page * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows and macOS have not all of these
        return None
    with suppress(OSError, ValueError, IndexError):  # the pages above are without those that only cache files
        free = 1024 * int(MEMINFO.read_text().partition("MemAvailable:")[2].split()[0])
    with suppress(ImportError, AttributeError, OSError, ValueError, IndexError):
        import resource

        pages = [int(number) for number in Path("/proc/self/statm").read_text().split()]
        for kind, used in ((resource.RLIMIT_AS, pages[0]), (resource.RLIMIT_DATA, pages[5])):
            limit, _ = resource.getrlimit(kind)
            if limit != resource.RLIM_INFINITY:
                free, total = min(free, max(limit - used * page, 0)), min(total, limit)
    return free, total


def out_of_memory(
    error: BaseException, where: str, what: str, found: tuple[int, int] | None, advice: str = ""
) -> OutOfMemoryError:
    """What to raise for an error that says that ``what``, in the plural, found no memory ``where``, of which so many
    bytes are free and there: one sentence, which ends in ``advice``."""
    asked = asked_for(error)
    needs = "find no memory" if asked is None else f"ask for {size_text(asked)}"
    free = "" if found is None else f", and {size_text(found[0])} of {size_text(found[1])} are free"
    return OutOfMemoryError(
        f"out of memory on {where}: {what} {needs}{free}",
        what=what,
        asked=asked,
        free=None if found is None else found[0],
        advice=advice,
    )


@contextmanager
def told_on_host(what: str, advice: str) -> Iterator[None]:
    """A context in which the host's memory may run out for ``what``, in the plural."""
    try:
        yield
    except MemoryError as error:
        if isinstance(error, OutOfMemoryError):
            raise
        told = out_of_memory(error, "the host", what, host_memory(), advice)
    else:
        return
    raise told
