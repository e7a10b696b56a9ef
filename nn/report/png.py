"""Small pictures inside a page: PNG files made here, so that a report needs no library for pictures.

The format is that of the PNG specification, third edition, https://www.w3.org/TR/png-3/.
"""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

#: The colour type of a picture, by how many channels it has; 0 stands for (h, w), grey.
COLOUR_TYPES = {0: 0, 3: 2, 4: 6}


def png(pixels: np.ndarray) -> bytes:
    """A PNG file of (h, w) grey, (h, w, 3) colours or (h, w, 4) colours and opacity; uint8."""
    height, width = pixels.shape[:2]
    colour_type = COLOUR_TYPES[pixels.shape[2] if pixels.ndim == 3 else 0]
    rows = np.ascontiguousarray(pixels).reshape(height, -1)
    unfiltered = np.hstack((np.zeros((height, 1), np.uint8), rows))  # each line begins with the number of its filter
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)),
            _chunk(b"IDAT", zlib.compress(unfiltered.tobytes(), 9)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def data_uri(pixels: np.ndarray) -> str:
    """``png(pixels)`` as the address of an ``<img>``."""
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode()


def signed(values: np.ndarray, limit: float = 0.0) -> np.ndarray:
    """(h, w) numbers as colours (h, w, 4): red above 0, blue below, 0 transparent, ``limit`` opaque; 0 stands for the
    largest of them.

    Transparent, not white: so they are readable on a light page and on a dark one.
    """
    limit = limit or float(np.abs(values).max()) or 1.0
    pixels = np.empty((*values.shape, 4), np.uint8)
    pixels[..., :3] = np.where((values > 0)[..., None], (200, 46, 52), (38, 110, 190))
    # 32 shades, not 256: smaller files, and nothing less to see.
    pixels[..., 3] = np.rint(np.sqrt(np.abs(values) / limit) * 31) * (255 / 31)
    return pixels
