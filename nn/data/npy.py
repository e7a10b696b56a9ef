"""What a .npy file, or a member of an .npz file, says of its array before the numbers."""

from __future__ import annotations

from typing import IO, Any

import numpy as np


def npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    """Shape and dtype of the array, and whether it lies column by column; ``file`` is then where the numbers begin."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_column, dtype = read(file)
    return shape, dtype, by_column
