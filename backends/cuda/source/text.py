"""What CUDA texts are made of: what each begins with, functions that many of them use, and words to fill in."""

from __future__ import annotations

from ... import random
from .sizes import (
    GROUP_HEIGHT,
    GROUP_PARTS,
    GROUP_ROWS,
    GROUP_WIDTH_BYTES,
    HEAD_COLUMNS,
    HEAD_MATRIX_BYTES,
    HEAD_PARTS,
    HEAD_ROWS,
    HEAD_ROWS_BYTES,
    LANES,
    MAX_THREADS,
    SMALL_INPUT_BYTES,
    SMALL_MATRIX_BYTES,
    SMALL_SUMS_BYTES,
    SMALL_WIDTH,
    TILE,
    UNROLL,
)

_COMMON = r"""
// The bound keeps the registers of a thread few enough for a block of that many.
#define KERNEL extern "C" __global__ void __launch_bounds__(MAX_THREADS)

typedef long long Index;
typedef unsigned int Word;

// The elements of a thread of the whole grid, and those of a thread of a block.
#define FOR_GRID(i, size) \
    for (Index i = (Index)blockIdx.x * blockDim.x + threadIdx.x; i < (size); i += (Index)gridDim.x * blockDim.x)
#define FOR_BLOCK(i, size) for (Index i = threadIdx.x; i < (size); i += blockDim.x)
#define FOR_ROWS(row, m) for (Index row = blockIdx.x; row < (m); row += gridDim.x)
"""

DIVIDE = r"""
// A division of 32-bit numbers takes a fraction of the time of a 64-bit one.
__device__ Index divide(Index i, Index n)
{
    return ((i | n) >> 32) == 0 ? (Index)((Word)i / (Word)n) : i / n;
}
"""

DEPENDENT = r"""
// A kernel that calls this may be launched so that it begins while the launch before it is still running (`dependent`).
// Until then it writes nothing, and of what is in memory it reads only what the module of its text has as EARLY, which
// no launch of the same graph before it writes. The call returns when the launch before has ended and all that it wrote
// can be seen. So it is with all launches before that one, too: it has ended only after its own call returned, or it
// began only when they had ended. Hence every thread of every block makes the call: a launch that ended without it,
// before the one before has ended, would let the next one pass both. And only after it the next launch may begin, so
// that no more than two are under way at any time.
#if __CUDA_ARCH__ >= 900
#define GRID_CONTROL(what) asm volatile("griddepcontrol." #what ";" ::: "memory")
#elif !defined(GRID_CONTROL)
#define GRID_CONTROL(what)
#endif
__device__ void wait_for_launch_before()
{
    GRID_CONTROL(wait);
    GRID_CONTROL(launch_dependents);
}
"""

BATCH = r"""
// Nobody can check positions that are on the device without waiting for it; one that is out of range reads the
// nearest row instead of memory that is not ours.
__device__ Index within(Index i, Index size) { return i < 0 ? 0 : i < size ? i : size - 1; }

// The row of a data set of n rows that is row `row` of the batch which begins at position `first` of the order.
__device__ Index row_of_batch(const long long* order, Index first, Index positions, Index n, Index row)
{
    const Index position = within(first + row, positions);
    return order ? within(order[position], n) : position;
}
"""

HASH = r"""
__device__ Word hash32(Word x)
{
    x ^= x >> SHIFT_1;
    x *= MULTIPLIER_1;
    x ^= x >> SHIFT_2;
    x *= MULTIPLIER_2;
    return x ^ (x >> SHIFT_3);
}
"""


def head(real: str, **others: object) -> str:
    """What a CUDA text begins with: the constants, of which ``others`` are added or are others, and what is common."""
    constants = {
        "REAL": real,
        "MAX_THREADS": MAX_THREADS,
        "TILE": TILE,
        "LANES": LANES,
        "UNROLL": UNROLL,
        "GROUP_ROWS": GROUP_ROWS,
        "GROUP_PARTS": GROUP_PARTS,
        "GROUP_HEIGHT": GROUP_HEIGHT,
        "GROUP_WIDTH": f"((int)({GROUP_WIDTH_BYTES} / sizeof(REAL)))",
        "HEAD_ROWS": HEAD_ROWS,
        "HEAD_PARTS": HEAD_PARTS,
        "HEAD_COLUMNS": HEAD_COLUMNS,
        "SMALL_MATRIX": f"({SMALL_MATRIX_BYTES} / sizeof(REAL))",
        "SMALL_INPUT": f"({SMALL_INPUT_BYTES} / sizeof(REAL))",
        "SMALL_SUMS": f"((int)({SMALL_SUMS_BYTES} / sizeof(REAL)))",
        "SMALL_WIDTH": SMALL_WIDTH,
        "HEAD_MATRIX": f"({HEAD_MATRIX_BYTES} / sizeof(REAL))",
        "HEAD_TAKEN": f"({HEAD_ROWS_BYTES} / sizeof(REAL))",
        "MULTIPLIER_1": f"{random.MULTIPLIER_1:#x}u",
        "MULTIPLIER_2": f"{random.MULTIPLIER_2:#x}u",
        "SHIFT_1": random.SHIFT_1,
        "SHIFT_2": random.SHIFT_2,
        "SHIFT_3": random.SHIFT_3,
    } | others
    return "\n".join([*(f"#define {name} {value}" for name, value in constants.items()), _COMMON])


def fill(template: str, **words: str) -> str:
    """The template with each ``@WORD@`` replaced by its text."""
    for word, text in words.items():
        template = template.replace(f"@{word}@", text)
    return template
