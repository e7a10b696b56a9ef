"""Rows of a zarr array, read range by range by the library, which is imported by who calls."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import DataError
from ..reading import library, reading, refuse_implausible
from .hdf5 import check_chunk_size
from .source import sampled_identity

#: The files that describe an array or a group, one of which is in its folder.
DESCRIPTIONS = ("zarr.json", ".zarray", ".zgroup")
#: What may be done to the chunks of an array: nothing that runs what is stored, as unpickling does.
CODECS = {
    "adler32", "astype", "bitround", "blosc", "bytes", "bz2", "crc32", "crc32c", "delta", "fixedscaleoffset",
    "fletcher32", "gzip", "jenkins_lookup3", "lz4", "lzma", "packbits", "quantize", "sharding_indexed", "shuffle",
    "transpose", "vlen-utf8", "zlib", "zstd",
}  # fmt: skip


def is_zarr(path: Path) -> bool:
    """Whether a path, which need not exist, is of zarr: by its name, or by what is in the folder."""
    return path.suffix.lower() == ".zarr" or any((path / name).is_file() for name in DESCRIPTIONS)


def open_zarr(path: Path) -> Any:
    """The ``zarr.Array`` or ``zarr.Group`` that a path holds, whoever wrote it.

    Raises:
        DataError: there is none, it has links in it, or zarr is not installed.
    """
    zarr = library("zarr", path)
    with reading(path):
        refuse_links(path)
        return zarr.open(path, mode="r")


def refuse_links(path: Path) -> None:
    """Raise a DataError for a link in a folder: who wrote it could name any file of the reader."""
    for folder, names, files in os.walk(path):
        for name in (*names, *files):
            if (found := Path(folder, name)).is_symlink():
                raise DataError(f"{found} is a link, which is not followed; store the array itself")


def zarr_array(found: Any, name: str) -> ZarrSource:
    """A source of an array that nobody vouches for.

    Raises:
        DataError: it claims to be much larger than what is stored of it, or as of ``ZarrSource``.
    """
    with reading(name):
        refuse_implausible(int(found.nbytes), int(found.nbytes_stored()), name)
    return ZarrSource(found, name)


class ZarrSource:
    """A zarr array.

    Args:
        array: a ``zarr.Array``.
        name: for messages; where it is stored, by default.

    Raises:
        DataError: it holds no numbers, or its chunks are too large.
    """

    def __init__(self, array: Any, name: str = "") -> None:
        self._array, self.name = array, name or str(getattr(array, "store_path", array.name))
        with reading(self.name):
            self.shape, stored = tuple(array.shape), np.dtype(array.dtype)
            _check_codecs(array.metadata, self.name)
            if stored.kind not in "biufU":
                raise DataError(f"{self.name} holds no numbers (it has type {stored}); store it as an array of numbers")
            if not self.shape:
                raise DataError(f"{self.name} holds a single number; store an array of rows")
            self.dtype, self.chunk = stored.newbyteorder("="), int(array.chunks[0])
            # Of a shard only the chunks that are wanted are read.
            check_chunk_size(math.prod(array.chunks) * stored.itemsize, self.name)

    def read(self, start: int, stop: int, out: np.ndarray) -> None:
        """As of ``Source``."""
        with reading(self.name):
            out[...] = self._array[start:stop]

    def identity(self) -> dict[str, Any]:
        """As of ``Source``."""
        return sampled_identity(self)


def _check_codecs(metadata: Any, name: str) -> None:
    """Raise a DataError where chunks are unpacked by something that is not known to be harmless."""
    codecs = [*(getattr(metadata, "codecs", None) or ()), *(getattr(metadata, "filters", None) or ())]
    if (compressor := getattr(metadata, "compressor", None)) is not None:
        codecs.append(compressor)
    for codec in codecs:
        inside = [*(getattr(codec, "codecs", None) or ()), *(getattr(codec, "index_codecs", None) or ())]
        for one in (codec, *inside):
            called = str(getattr(one, "codec_id", None) or one.to_dict()["name"]).removeprefix("numcodecs.")
            if called not in CODECS:
                raise DataError(f"{name} is packed by {called!r}, which is not read; store it with zstd, blosc or gzip")
