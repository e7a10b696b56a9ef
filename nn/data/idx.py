"""IDX files: arrays of bytes, the format of MNIST."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
from pathlib import Path
from typing import IO, Any

import numpy as np

from .checks import DataError
from .reading import DEFLATE_RATIO, UNPACK, is_gzip, open_file, reading, refuse_implausible

CHUNK = 1 << 20


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """An IDX file of unsigned bytes, gzip-compressed or plain, as a uint8 array.

    The format (http://yann.lecun.com/exdb/mnist): two zero bytes, a type code (8: unsigned byte), the number of
    dimensions, each dimension as a big-endian 32-bit integer, then the values in C order.

    Raises:
        DataError: the file is missing, damaged, shorter or longer than its header says, or of another type.
    """
    return read_with_hash(Path(path))[0]


def read_with_hash(path: Path) -> tuple[np.ndarray, str]:
    """The array, and the SHA-256 of the uncompressed file: one pass, nothing of the data held twice."""
    with reading(path), open_file(path) as raw:
        compressed, stored = is_gzip(raw), path.stat().st_size
        # A damaged header cannot ask for more memory than a file can fill.
        at_most = stored * (DEFLATE_RATIO if compressed else 1)
        file: Any = gzip.GzipFile(fileobj=raw) if compressed else raw
        header, shape = _read_header(file, path)
        size = math.prod(shape)
        if size == 0:
            raise DataError(f"{path} has no values (its shape is {shape}); copy or download it again")
        if size > at_most:
            raise DataError(f"{path} is cut short: its header says {size} values; copy or download it again")
        if compressed:
            refuse_implausible(size, stored, str(path), UNPACK)
        values = np.empty(size, dtype=np.uint8)
        digest = hashlib.sha256(header)
        filled = 0
        while filled < size and (n := file.readinto(values[filled : filled + CHUNK].data)):
            digest.update(values[filled : filled + n].data)
            filled += n
        if filled < size:
            raise DataError(f"{path} is cut short: {filled} of {size} values; copy or download it again")
        if file.read(1):
            raise DataError(f"{path} goes on after the {size} values of its header; copy or download it again")
    return values.reshape(shape), digest.hexdigest()


def _read_header(file: IO[bytes], path: Path) -> tuple[bytes, tuple[int, ...]]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or not 1 <= magic[3] <= 8:
        raise DataError(f"{path} is not an IDX file (it begins with {magic!r}); check the name or download it again")
    if magic[2] != 0x08:
        raise DataError(
            f"{path} holds values of type code 0x{magic[2]:02x}, but only unsigned bytes (0x08) are read; save the "
            "data as .npz instead"
        )
    dimensions = file.read(4 * magic[3])
    if len(dimensions) < 4 * magic[3]:
        raise DataError(f"{path} is cut short: it ends within its header; copy or download it again")
    shape = tuple(int(n) for n in np.frombuffer(dimensions, dtype=">u4"))
    return magic + dimensions, shape
