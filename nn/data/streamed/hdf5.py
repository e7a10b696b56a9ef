"""Rows of an HDF5 dataset, read range by range.

What lies in the file as it does in memory is read without the library. Chunks that are plain or packed by gzip, as
nearly all are, are unpacked here: by several threads at once, where the library lets one at a time, and never to more
bytes than a chunk has, whatever the file says. All others are read by h5py, which is imported by who calls.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import DataError
from ..hdf5 import check_chunk, filters_of
from ..reading import reading
from .open_files import FileState
from .raw import RawSource
from .source import Source, sampled_identity

#: A chunk is unpacked whole: of so many bytes at most.
LARGEST_CHUNK = 1 << 30
#: What HDF5 calls its filters, in ``H5Zpublic.h``.
DEFLATE, SHUFFLE = 1, 2


def hdf5_source(item: Any, name: str = "") -> Source:
    """The source that an open ``h5py.Dataset`` gives; ``name`` is what messages call it.

    Raises:
        DataError: it holds no numbers, or its chunks are too large.
    """
    path, name = Path(item.file.filename), name or f"{item.file.filename}: {item.name.lstrip('/')}"
    with reading(name):
        if item.shape is None or item.dtype.kind not in "biuf":
            held = "nothing" if item.shape is None else f"no numbers (it has type {item.dtype})"
            raise DataError(f"{name} holds {held}; store it as an array of numbers")
        if not item.shape:
            raise DataError(f"{name} holds a single number; store an array of rows")
        check_chunk_size(math.prod(item.chunks or ()) * item.dtype.itemsize, name)
        # A file that may be written to is read by the library, which knows what is not yet on the disk.
        is_plain = item.file.mode == "r" and item.file.driver in ("sec2", "stdio", "windows") and path.is_file()
        state = FileState(path) if is_plain else None
        offset = item.id.get_offset() if not (item.chunks or item.is_virtual or item.external) else None
        if state is not None and offset is not None and item.file.userblock_size == 0:
            if int(offset) + item.nbytes > state.size:
                raise DataError(f"{name} is damaged (it ends after the file); copy or download it again")
            return RawSource(state, name, int(offset), item.shape, item.dtype)
        return Hdf5Source(item, name, state)


def check_chunk_size(size: int, name: str) -> None:
    """Raise a DataError where a chunk has so many bytes that it cannot be held beside a window."""
    if size > LARGEST_CHUNK:
        raise DataError(
            f"{name} is stored in chunks of {size / 1e9:.1f} GB, each of which is read whole; store it in smaller ones"
        )


class Hdf5Source:
    """An HDF5 dataset, in chunks or as only the library reads it.

    Args:
        item: an ``h5py.Dataset``, whose file stays open.
        name: for messages.
        state: of the file, which is read only; None where it may change.
    """

    def __init__(self, item: Any, name: str, state: FileState | None) -> None:
        self._item, self._state, self.name = item, state, name
        self.shape, self.dtype = tuple(item.shape), item.dtype.newbyteorder("=")
        self._chunks: tuple[int, ...] = tuple(item.chunks or ())
        self.chunk = self._chunks[0] if self._chunks else 1
        self._filters = filters_of(item) if self._chunks else []
        self._is_simple = bool(self._chunks) and self._filters in ([], [DEFLATE], [SHUFFLE], [SHUFFLE, DEFLATE])

    def read(self, start: int, stop: int, out: np.ndarray) -> None:
        """As of ``Source``."""
        if self._state is not None:
            self._state.check()
        with reading(self.name):
            if not self._is_simple:
                for offset in self._touched(start, stop) if self._chunks else ():
                    info = self._item.id.get_chunk_info_by_coord(offset)
                    if info.byte_offset is not None:
                        check_chunk(self._item, info, self._filters, self.name)
                out[...] = self._item[start:stop]
                return
            for offset in self._touched(start, stop):
                chunk = self._chunk(offset)
                first, last = max(offset[0], start), min(offset[0] + self._chunks[0], stop)
                others = [
                    slice(begin, min(begin + length, extent))
                    for begin, length, extent in zip(offset[1:], self._chunks[1:], self.shape[1:], strict=True)
                ]
                part = chunk[(slice(first - offset[0], last - offset[0]), *(slice(s.stop - s.start) for s in others))]
                out[(slice(first - start, last - start), *others)] = part

    def _touched(self, start: int, stop: int) -> Iterator[tuple[int, ...]]:
        """Where the chunks begin that have some of these rows."""
        length = self._chunks[0]
        rows = range(start // length * length, stop, length)
        yield from product(rows, *(range(0, n, size) for n, size in zip(self.shape[1:], self._chunks[1:], strict=True)))

    def _chunk(self, offset: tuple[int, ...]) -> np.ndarray:
        """The chunk that begins there."""
        item, dtype = self._item.id, self._item.dtype
        if item.get_chunk_info_by_coord(offset).byte_offset is None:  # it was never written
            return np.full(self._chunks, self._item.fillvalue, dtype)
        mask, content = item.read_direct_chunk(offset)
        size = math.prod(self._chunks) * dtype.itemsize
        used = [code for index, code in enumerate(self._filters) if not mask >> index & 1]
        if DEFLATE in used:
            content = zlib.decompressobj().decompress(content, size + 1)
        if len(content) != size:
            raise DataError(
                f"{self.name} is damaged (a chunk is larger or smaller than it should be); download it again"
            )
        numbers = np.frombuffer(content, np.uint8)
        if SHUFFLE in used and dtype.itemsize > 1:  # the first byte of all numbers, then the second, ...
            numbers = np.ascontiguousarray(numbers.reshape(dtype.itemsize, -1).T).reshape(-1)
        chunk: np.ndarray = numbers.view(dtype).reshape(self._chunks)
        return chunk

    def identity(self) -> dict[str, Any]:
        """As of ``Source``."""
        return sampled_identity(self)
