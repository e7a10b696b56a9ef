"""Arrays of an HDF5 file that nobody vouches for. h5py is imported by who calls."""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from .checks import DataError
from .reading import ALWAYS_PLAUSIBLE, DEFLATE_RATIO, refuse_implausible


def read_array(file: Any, name: str, path: Path) -> np.ndarray:
    """The array ``name`` at the root of an open ``h5py.File``, whose path is ``path``.

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
    _check_filters(item, chunk, what)
    array: np.ndarray = np.asarray(item[()])
    return array


def _check_filters(item: Any, chunk: int, what: str) -> None:
    """Refuse chunks that cannot be unpacked here, or that unpack to more than the ``chunk`` bytes that they should
    have: the library would take as much memory as there comes out.

    Raises:
        DataError: naming what is wrong.
    """
    from h5py import h5z

    created = item.id.get_create_plist()
    filters = [created.get_filter(i) for i in range(created.get_nfilters())]
    for code, _, _, name in filters:
        if not h5z.filter_avail(code):
            shown = name.decode(errors="replace") or f"filter {code}"
            raise DataError(f"{what} is compressed by {shown}, which is not there to be read; store it with gzip")
    numbers = [code for code, *_ in filters]
    if numbers.count(h5z.FILTER_DEFLATE) > 1:
        raise DataError(f"{what} is compressed several times over; store it with gzip once")
    if h5z.FILTER_DEFLATE not in numbers:
        return

    def check(info: Any) -> None:
        if info.size * DEFLATE_RATIO > ALWAYS_PLAUSIBLE and not info.filter_mask:
            _, packed = item.id.read_direct_chunk(info.chunk_offset)
            if len(zlib.decompressobj().decompress(packed, chunk + 1)) > chunk:
                raise DataError(f"{what} is damaged (a chunk unpacks to more than it should); download it again")

    item.id.chunk_iter(check)
