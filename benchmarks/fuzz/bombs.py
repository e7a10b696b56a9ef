"""Small files that would grow to gigabytes."""

from __future__ import annotations

import gzip
import io
import random
import struct
import zipfile
import zlib
from functools import cache

import numpy as np

MEGABYTE = 1 << 20
#: What a table repeats.
PIECES = (b"1,0\n1,1\n", b"\n", b"0", b"1,", b'"', b'"\n', b",\n", b"a;b\r\n", b"\0", b"0.5\t", b"label,")


@cache
def _member(piece: bytes) -> bytes:
    """A megabyte of it, compressed by gzip."""
    return gzip.compress(piece * (MEGABYTE // len(piece)), 9, mtime=0)


def csv_bomb(rng: random.Random) -> bytes:
    begins = rng.choice((b"a,label\n1,0\n", b"1,0\n", b'"', b""))
    return gzip.compress(begins, mtime=0) + _member(rng.choice(PIECES)) * rng.choice((100, 150, 400))


def idx_bomb(rng: random.Random) -> bytes:
    """It may claim what it has, or anything else."""
    claimed, there = (rng.choice((10, 1000, 4000)) for _ in range(2))
    if rng.random() < 0.5:
        claimed = there
    header = b"\0\0\x08\x03" + struct.pack(">3I", claimed, 1024, 1024)
    return gzip.compress(header, mtime=0) + _member(b"\0") * there


@cache
def zeros(megabytes: int) -> bytes:
    """So much of nothing, as one DEFLATE stream: a megabyte that refers to none before it, again and again."""
    packing = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    one = packing.compress(bytes(MEGABYTE)) + packing.flush(zlib.Z_FULL_FLUSH)
    checksum = struct.pack(">2H", megabytes * MEGABYTE % 65521, 1)  # Adler-32 of zeros counts them
    return b"\x78\xda" + one * megabytes + packing.flush() + checksum


@cache
def npz_bomb(megabytes: int) -> bytes:
    content, header = io.BytesIO(), io.BytesIO()
    described = {"descr": "|u1", "fortran_order": False, "shape": (megabytes, MEGABYTE)}
    np.lib.format.write_array_header_1_0(header, described)
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        with archive.open("x_train.npy", "w", force_zip64=True) as member:
            member.write(header.getvalue())
            for _ in range(megabytes):
                member.write(bytes(MEGABYTE))
        labels = io.BytesIO()
        np.save(labels, np.arange(megabytes) % 2)
        archive.writestr("y_train.npy", labels.getvalue())
    return content.getvalue()


@cache
def hdf5_bomb(megabytes: int, chunk: tuple[int, int]) -> bytes:
    """A chunk that unpacks to so much."""
    import h5py

    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["y_train"] = np.arange(30) % 3
        options = {"maxshape": (None, None), "chunks": chunk, "compression": "gzip"}
        x = file.create_dataset("x_train", (30, 16), "u1", **options)
        x.id.write_direct_chunk((0, 0), zeros(megabytes))
    return content.getvalue()
