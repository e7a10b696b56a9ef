"""Counter-based random streams: the same numbers on every backend, keyed by (seed, purpose, name).

Two generators, both without hidden state, so that the state of a run is its seed and its step:

* On the host, NumPy's Philox (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), keyed by a hash
  of (seed, purpose, name). Initial values and permutations are drawn here, in float64 or int64, and copied to the
  device.
* On the device, an integer hash: of (key, step, element) for dropout, of (key, epoch, row, index) for the distortion of
  pictures. It is written once in array-API calls and once in CUDA, and integers are equal bit for bit everywhere.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

UINT32 = 0xFFFFFFFF
#: Multipliers and shifts of ``lowbias32``, Chris Wellons' 32-bit integer hash (https://nullprogram.com/blog/2018/07/31/).
MULTIPLIER_1, MULTIPLIER_2 = 0x7FEB352D, 0x846CA68B
SHIFT_1, SHIFT_2, SHIFT_3 = 16, 15, 16


def stream_key(seed: int, purpose: str, name: str | int = "") -> int:
    """A 128-bit key for the stream ``(seed, purpose, name)``, from BLAKE2b. Purposes have no slash; names may."""
    text = f"{seed}/{purpose}/{name}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "little")


def generator(seed: int, purpose: str, name: str | int = "") -> np.random.Generator:
    """NumPy's Philox generator at the start of the stream ``(seed, purpose, name)``."""
    return np.random.Generator(np.random.Philox(key=stream_key(seed, purpose, name)))


def permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    """The order in which ``n`` rows are visited in ``epoch``: int64, shape (n,)."""
    return generator(seed, "shuffle", epoch).permutation(n)


def mask_key(seed: int, name: str) -> tuple[int, int]:
    """Two 32-bit words that key the dropout masks of the layer called ``name``."""
    key = stream_key(seed, "dropout", name)
    return key & UINT32, (key >> 32) & UINT32


def mask_threshold(rate: float) -> int:
    """Elements whose hash is below this are dropped: ``rate`` as a fraction of 2**32."""
    return min(round(rate * 2**32), UINT32)


def hash32(x: Any) -> Any:
    """``lowbias32`` of integers in [0, 2**32): a Python int, or an int64 array of any library.

    int64 because few libraries multiply unsigned 32-bit integers; a product that wraps at 64 bits has the right low 32.
    """
    x = x ^ (x >> SHIFT_1)
    x = (x * MULTIPLIER_1) & UINT32
    x = x ^ (x >> SHIFT_2)
    x = (x * MULTIPLIER_2) & UINT32
    return x ^ (x >> SHIFT_3)


def mask_bits(element: Any, key: tuple[int, int], step: Any) -> Any:
    """32 random bits for each ``element`` of the mask of ``step``, as integers in [0, 2**32).

    Hashing twice, with the step mixed in between, leaves no simple relation between the masks of two steps.
    """
    return hash32(hash32((element + key[0]) & UINT32) ^ hash32((step + key[1]) & UINT32))


def row_key(seed: int, name: str) -> tuple[int, int]:
    """Two 32-bit words that key what is drawn for rows for the purpose called ``name``."""
    key = stream_key(seed, "rows", name)
    return key & UINT32, (key >> 32) & UINT32


def row_words(row: Any, key: tuple[int, int], epoch: Any) -> Any:
    """A word of 32 bits for each ``row`` of a data set in ``epoch``; of one epoch all differ, up to 2**32 rows."""
    return hash32(hash32((row + key[1]) & UINT32) ^ hash32((epoch + key[0]) & UINT32))


def row_bits(index: Any, word: Any, key: tuple[int, int]) -> Any:
    """32 random bits for each ``index`` of the row that has that word, as integers in [0, 2**32).

    The row and the index are mixed one after the other: as one number, row * width + index, they would not fit 32 bits.
    """
    return hash32(hash32((index + key[0]) & UINT32) ^ word)
