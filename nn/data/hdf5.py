"""Arrays of an HDF5 file that nobody vouches for. h5py is imported by who calls."""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from .checks import DataError
from .reading import refuse_implausible

#: So many bytes the checksum of a chunk takes.
CHECKSUM = 4


def read_array(file: Any, name: str, path: Path) -> np.ndarray:
    """The array ``name`` at the root of an open ``h5py.File``, whose path is ``path``.

    Raises:
        DataError: as of ``open_array``; or a chunk is damaged.
    """
    item = open_array(file, name, path)
    if item.chunks:
        numbers = filters_of(item)
        item.id.chunk_iter(lambda info: check_chunk(item, info, numbers, f"{path}: {name}"))
    array: np.ndarray = np.asarray(item[()])
    return array


def open_array(file: Any, name: str, path: Path) -> Any:
    """The ``h5py.Dataset`` that ``read_array`` reads.

    Raises:
        DataError: it is not stored in this file, holds no numbers, or is stored in a way that is not read.
    """
    import h5py

    what = f"{path}: {name}"
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise DataError(f"{what} is a link, which is not followed; store the array itself")
    item = file[name]
    if not isinstance(item, h5py.Dataset):
        raise DataError(f"{what} is a group, not a dataset; store the array under that name")
    if item.is_virtual or item.external:
        raise DataError(f"{what} lies in other files, which are not read; store the array itself")
    if item.shape is None or item.dtype.kind not in "biufcSU":
        held = "nothing" if item.shape is None else f"no numbers (it has type {item.dtype})"
        raise DataError(f"{what} holds {held}; store it as an array of numbers")
    stored = min(item.id.get_storage_size(), path.stat().st_size)
    if item.size and not stored:
        refuse_implausible(item.nbytes, stored, what)
        raise DataError(f"{what} was never written, though it has a shape, {item.shape}; write it again")
    # A chunk is taken whole into memory, whatever part of it the array has.
    chunk = math.prod(item.chunks) * item.dtype.itemsize if item.chunks else 0
    refuse_implausible(max(item.nbytes, chunk), stored, what)
    if item.chunks:
        _check_filters(item, what)
    elif stored < item.nbytes:
        raise DataError(f"{what} is damaged (it has {stored:,} of {item.nbytes:,} bytes); copy or download it again")
    return item


def filters_of(item: Any) -> list[int]:
    """The numbers of the filters that the chunks of a dataset go through when they are written."""
    created = item.id.get_create_plist()
    return [created.get_filter(index)[0] for index in range(created.get_nfilters())]


def _check_filters(item: Any, what: str) -> None:
    """Refuse chunks that cannot be unpacked here.

    Raises:
        DataError: naming the filter.
    """
    from h5py import h5z

    created = item.id.get_create_plist()
    for code, _, _, name in (created.get_filter(index) for index in range(created.get_nfilters())):
        if not h5z.filter_avail(code):
            shown = name.decode(errors="replace") or f"filter {code}"
            raise DataError(f"{what} is compressed by {shown}, which is not there to be read; store it with gzip")
    if filters_of(item).count(h5z.FILTER_DEFLATE) > 1:
        raise DataError(f"{what} is compressed several times over; store it with gzip once")


def check_chunk(item: Any, info: Any, filters: list[int], what: str) -> None:
    """Refuse a chunk that does not have the bytes that it should have: for more the library takes as much memory as
    there comes out, for less it gives what happens to lie in memory.

    Args:
        info: of the chunk, as ``chunk_iter`` gives it.
        filters: of the dataset.

    Raises:
        DataError: it is larger or smaller.
    """
    from h5py import h5z

    used = [code for index, code in enumerate(filters) if not info.filter_mask >> index & 1]
    if not {*used} <= {h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32}:
        return  # one that nobody writes to do harm
    packed = h5z.FILTER_DEFLATE in used
    before = used[: used.index(h5z.FILTER_DEFLATE)] if packed else used
    size = math.prod(item.chunks) * item.dtype.itemsize
    expected, found = size + CHECKSUM * before.count(h5z.FILTER_FLETCHER32), info.size
    if packed:
        _, content = item.id.read_direct_chunk(info.chunk_offset)
        found = len(zlib.decompressobj().decompress(content, expected + 1))
    if found != expected:
        raise DataError(f"{what} is damaged (a chunk is larger or smaller than it should be); download it again")
