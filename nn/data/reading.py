"""For every reader of files: what is opened, how much is believed of what a file says, and what errors become.

A few kilobytes can claim, or unpack to, all the memory there is. So no more is taken for a file than it can plausibly
hold; the bounds stand here.
"""

from __future__ import annotations

import gzip
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

from ..files import what_is_no_file
from ..messages import first_line
from .checks import DataError, UnreadableError

#: So many bytes are taken for an array, whatever the file is like; above, at most so many times what it has on the
#: disk. gzip shrinks a table of zeros with a one in every 500th cell by 200.
ALWAYS_PLAUSIBLE = 1 << 28
PLAUSIBLE_RATIO = 200
#: The same of a table as text, which takes more memory than its numbers and is read more slowly.
ALWAYS_PLAUSIBLE_TEXT = 1 << 26
#: So much DEFLATE, the compression of gzip and zip, can shrink at most.
DEFLATE_RATIO = 1032
#: The longest line of a table, in bytes: a million columns of thirty characters.
LONGEST_LINE = 1 << 25


def refuse_implausible(size: int, stored: int, what: str, remedy: str = "store it uncompressed") -> None:
    """Refuse an array of ``size`` bytes that the file holds in ``stored``, where no data are that regular.

    Raises:
        DataError: with the remedy for data that are.
    """
    if size > max(ALWAYS_PLAUSIBLE, PLAUSIBLE_RATIO * stored):
        raise DataError(
            f"{what} claims {size / 1e9:,.1f} GB but has {stored / 1e6:,.3f} MB in the file, which is too little for "
            f"data; if it is right, {remedy}"
        )


def check_is_file(path: Path) -> None:
    """Refuse what would be waited for, or never end.

    Raises:
        DataError: there is a folder, a pipe, a device or a socket.
    """
    if kind := what_is_no_file(path):
        raise DataError(f"{path} is {kind}, not a file; save the data as a file and name that")


def open_file(path: Path) -> BinaryIO:
    """A file to read bytes from.

    Raises:
        DataError: it is no file.
        OSError: it is not there, or cannot be read.
    """
    check_is_file(path)
    return path.open("rb")


def is_gzip(file: IO[bytes]) -> bool:
    """Whether a file that was just opened is compressed by gzip."""
    begins = file.read(2)
    file.seek(0)
    return begins == b"\x1f\x8b"


#: What to do with data that shrink more than is plausible.
UNPACK = "unpack it (gunzip) and give the file that comes of it"
PIECE = 1 << 20


def check_text(path: Path) -> None:
    """Refuse a table as text, compressed by gzip or plain, that would take more memory than a table does. Its bytes are
    looked at once before any is parsed, which takes many times longer.

    Raises:
        DataError: it is no file, unpacks to more than is plausible, or has a line that is too long.
    """
    with open_file(path) as file:
        stored = path.stat().st_size
        compressed = is_gzip(file)
        most = max(ALWAYS_PLAUSIBLE_TEXT, PLAUSIBLE_RATIO * stored)
        source: Any = gzip.GzipFile(fileobj=file) if compressed else file
        size = of_line = 0
        while piece := source.read(PIECE):
            size += len(piece)
            if compressed and size > most:
                raise DataError(
                    f"{path} unpacks to more than {most / 1e6:,.0f} MB from {stored / 1e6:.3f}, too much for a table; "
                    f"if it is right, {UNPACK}"
                )
            end = max(piece.rfind(b"\n"), piece.rfind(b"\r"))
            of_line = len(piece) - end - 1 if end >= 0 else of_line + len(piece)
            if of_line > LONGEST_LINE:
                raise DataError(
                    f"{path} has a line of more than {LONGEST_LINE >> 20} MB, which is no row of a table; check the "
                    "file, or save the data as .npz"
                )


def library(name: str, what: str | os.PathLike[str], called: str = "", install: str = "") -> Any:
    """The module ``name``, by which a file is read, and which not everybody has.

    Args:
        what: the file, for the message.
        called: what the library is called; by default as the module.
        install: what pip installs for it; by default what it is called.

    Raises:
        DataError: it is not installed: the sentence says what to do.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise not_installed(what, called or name.partition(".")[0], install) from None


def not_installed(what: str | os.PathLike[str], called: str, install: str = "") -> DataError:
    """The error of ``library``, where another one was not found."""
    return DataError(f"{what} needs {called} to be read: pip install {install or called}")


@contextmanager
def reading(what: str | Path) -> Iterator[None]:
    """Turns whatever the libraries raise about a file, or a part of it, into a DataError that names it: on bytes that
    nobody meant they raise nearly anything."""
    try:
        yield
    except (DataError, ImportError):
        raise
    except MemoryError:
        raise DataError(f"{what} asks for more memory than there is; give fewer rows") from None
    except OSError as error:
        if error.errno is not None:
            raise UnreadableError(f"{what} cannot be read ({error.strerror}); check the file") from None
        raise _damaged(what, error) from None
    except Exception as error:
        raise _damaged(what, error) from None


def _damaged(what: str | Path, error: Exception) -> DataError:
    wrong = "empty" if _is_empty(Path(what)) else f"damaged ({first_line(error)})"
    return DataError(f"{what} is {wrong}; copy or download it again")


def _is_empty(path: Path) -> bool:
    """Whether there is a file without bytes, or a folder without files. Where a part of a file is meant there is
    neither."""
    try:
        return not any(path.iterdir()) if path.is_dir() else path.stat().st_size == 0
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return False
