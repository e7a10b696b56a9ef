"""What the CUDA texts of operations on pictures have in common: sizes, and a few neighbouring numbers at once."""

from __future__ import annotations

from .text import DIVIDE, head

#: The most threads of a block: so few that a thread may have 255 registers.
PICTURE_THREADS = 256
#: A convolution without patches: the windows and the filters of a thread, each of which it multiplies with each, and
#: the threads beside each other whose windows are neighbours.
PIXELS, FILTERS, LANES = 4, 8, 8
CONVOLVE_THREADS = 64
#: A gradient of filters without patches: the bytes of shared memory in which the threads of a block leave their sums.
GRADIENT_BYTES = 32768
#: Sums of parts: the elements of a block, and the threads that share out the parts of each.
SUM_TILE, SUM_LANES = 32, 8

#: Neighbouring channels that a thread copies at once, where all are so many together, in memory aligned to BYTES.
CHUNK, CHUNK_BYTES = 4, 16

#: The pictures are h x w pixels of c channels; windows of kh x kw pixels, `down` and `right` from one to the next, of
#: which the first begins `above` rows and `left` columns outside; there are `rows` x `columns` of them.
WINDOWS = "int h, int w, int c, int kh, int kw, int down, int right, int above, int left,\n    int rows, int columns"

_COMMON = r"""
// Loops over registers: an index that is not known when this is compiled would put them into memory.
#ifdef __CUDACC__
#define UNROLLED _Pragma("unroll")
#else
#define UNROLLED
#endif

typedef REAL One;
struct alignas(16) Four {
    REAL value[4];
};
"""

_EIGHT = r"""
// The numbers of FILTERS filters: `count` of them, or all and aligned where `whole` is not 0.
struct Eight {
    REAL value[FILTERS];
};
__device__ Eight eight(const REAL* from, int whole, int count)
{
    Eight result;
    if (whole)
        UNROLLED UNROLLED for (int k = 0; k < FILTERS; k += 4) {
            const Four read = *(const Four*)(from + k);
            UNROLLED for (int u = 0; u < 4; ++u) result.value[k + u] = read.value[u];
        }
    else
        UNROLLED for (int k = 0; k < FILTERS; ++k) result.value[k] = k < count ? from[k] : REAL(0);
    return result;
}
__device__ REAL part_of(const One& x, int) { return x; }
__device__ REAL part_of(const Four& x, int k) { return x.value[k]; }
"""

#: By how many channels at once a kernel reads.
CHUNKS = (
    {"NAME": "one", "TYPE": "One", "CHUNK": "1"},
    {"NAME": "four", "TYPE": "Four", "CHUNK": str(CHUNK)},
)


def begin(real: str) -> str:
    """What such a text begins with."""
    constants = {
        "MAX_THREADS": PICTURE_THREADS,
        "PIXELS": PIXELS,
        "FILTERS": FILTERS,
        "LANES": LANES,
        "GRADIENT_SIZE": f"({GRADIENT_BYTES} / sizeof(REAL))",
        "SUM_TILE": SUM_TILE,
        "SUM_LANES": SUM_LANES,
    }
    return "\n".join([head(real, **constants), DIVIDE, _COMMON, _EIGHT])
