"""The CUDA kernels of operations on pictures, as text: a module of their own, which networks without pictures never
compile. What ``source`` says of its kernels holds for these.

A block has a line: a row of windows of one picture, or a row of its pixels. So which picture and which row are worked
out once for a block, and a thread is left with divisions of small numbers. Gradients of pixels are gathered: each
thread adds up, in a fixed order, what the windows that have its pixel hand back.
"""

from __future__ import annotations

from .convolutions import GRADIENT
from .text import fill
from .windows import CHUNKS, WINDOWS, begin

_LINES = r"""
__device__ void add(One& sum, const One& x) { sum += x; }
__device__ void add(Four& sum, const Four& x)
{
    for (int k = 0; k < 4; ++k) sum.value[k] += x.value[k];
}

// The elements of a thread of a block, of so few that 32 bits count them.
#define FOR_LINE(i, size) for (unsigned i = threadIdx.x; i < (unsigned)(size); i += blockDim.x)

// The windows that have row (or column) `pixel`, which is `before` + pixel from the first window's begin: from
// first_window to last_window, of which there are `count` at a distance of `step`. None where the first is behind the
// last.
__device__ int first_window(int pixel, int size, int step) { return pixel < size ? 0 : (pixel - size) / step + 1; }
__device__ int last_window(int pixel, int step, int count) { return min(pixel / step, count - 1); }
"""

_PATCHES = r"""
// What each window sees: out (groups, m rows columns, kh kw, c / groups), with zeros for the padding. There are m lines
// of n chunks: the rows of windows of all pictures.
KERNEL patches_@NAME@(
    const REAL* x, REAL* out, @WINDOWS@, int groups,
    long long m, long long n)
{
    const unsigned chunks = c / @CHUNK@, of_group = chunks / groups;
    FOR_ROWS(line, m) {
        const Index picture = line / rows;
        const int top = (int)(line - picture * rows) * down - above;
        const @TYPE@* from = (const @TYPE@*)x + picture * h * w * chunks;
        FOR_LINE(e, n) {
            const unsigned position = e / chunks, chunk = e - position * chunks;
            const unsigned beside = position / kw, b = position - beside * kw;
            const unsigned window = beside / kh, a = beside - window * kh;
            const unsigned group = groups == 1 ? 0 : chunk / of_group;
            const int row = top + (int)a, column = (int)(window * right + b) - left;
            const bool is_inside = row >= 0 && row < h && column >= 0 && column < w;
            const Index place = ((group * m + line) * columns + window) * (kh * kw) + a * kw + b;
            @TYPE@ value = {};
            if (is_inside) value = from[((Index)row * w + column) * chunks + chunk];
            ((@TYPE@*)out)[place * of_group + (chunk - group * of_group)] = value;
        }
    }
}

// The sums over the windows that have a pixel, of what they have there: the chain rule through patches. There are m
// lines of n chunks: the rows of all pictures.
KERNEL sum_patches_@NAME@(
    const REAL* patches, REAL* out, @WINDOWS@, int groups,
    long long m, long long n)
{
    const unsigned chunks = c / @CHUNK@, of_group = chunks / groups;
    const Index lines = m / h * rows;
    FOR_ROWS(line, m) {
        const Index picture = line / h;
        const int row = (int)(line - picture * h) + above;
        const int first_row = first_window(row, kh, down), last_row = last_window(row, down, rows);
        FOR_LINE(e, n) {
            const unsigned pixel = e / chunks, chunk = e - pixel * chunks;
            const unsigned group = groups == 1 ? 0 : chunk / of_group;
            const int column = (int)pixel + left;
            const int first = first_window(column, kw, right), last = last_window(column, right, columns);
            @TYPE@ sum = {};
            for (int r = first_row; r <= last_row; ++r)
                for (int s = first; s <= last; ++s) {
                    const Index window = (group * lines + picture * rows + r) * columns + s;
                    const Index place = window * (kh * kw) + (row - r * down) * kw + (column - s * right);
                    add(sum, ((const @TYPE@*)patches)[place * of_group + (chunk - group * of_group)]);
                }
            ((@TYPE@*)out)[line * n + e] = sum;
        }
    }
}
"""

_POOLING = r"""
// maximum() that lets NaN through.
__device__ REAL larger(REAL a, REAL b) { return (a >= b || a != a) ? a : b; }

// The largest value of each window, which the padding never is. There are m lines of n values: the rows of windows.
KERNEL max_pool(
    const REAL* x, REAL* out, @WINDOWS@,
    long long m, long long n)
{
    FOR_ROWS(line, m) {
        const Index picture = line / rows;
        const int row = (int)(line - picture * rows) * down - above;
        const int top = max(row, 0), bottom = min(row + kh, h);
        FOR_LINE(e, n) {
            const unsigned window = e / c, channel = e - window * c;
            const int column = (int)window * right - left;
            const int begin = max(column, 0), end = min(column + kw, w);
            const REAL* from = x + picture * h * w * c + channel;
            REAL top_value = from[((Index)top * w + begin) * c];
            for (int p = top; p < bottom; ++p)
                for (int q = begin; q < end; ++q) top_value = larger(top_value, from[((Index)p * w + q) * c]);
            out[line * n + e] = top_value;
        }
    }
}

__device__ bool is_largest(REAL value, REAL top) { return value == top || (value != value && top != top); }

// The sum of dy over the windows in which a pixel is the first of the largest. There are m lines of n values: the rows
// of all pictures.
KERNEL max_pool_backward(
    const REAL* dy, const REAL* x, const REAL* y, REAL* out, @WINDOWS@,
    long long m, long long n)
{
    FOR_ROWS(line, m) {
        const Index picture = line / h;
        const int row = (int)(line - picture * h);
        const int first_row = first_window(row + above, kh, down), last_row = last_window(row + above, down, rows);
        FOR_LINE(e, n) {
            const unsigned pixel = e / c, channel = e - pixel * c;
            const int column = (int)pixel;
            const int first = first_window(column + left, kw, right);
            const int last = last_window(column + left, right, columns);
            const REAL* from = x + picture * h * w * c + channel;
            const REAL value = x[line * n + e];
            REAL sum = 0;
            for (int r = first_row; r <= last_row; ++r)
                for (int s = first; s <= last; ++s) {
                    const Index window = (((picture * rows + r) * columns) + s) * c + channel;
                    const REAL top = y[window];
                    bool is_first = is_largest(value, top);
                    const int end = min(s * right - left + kw, w);
                    for (int p = max(r * down - above, 0); is_first && p <= row; ++p)
                        for (int q = max(s * right - left, 0); is_first && q < (p < row ? end : column); ++q)
                            is_first = !is_largest(from[((Index)p * w + q) * c], top);
                    if (is_first) sum += dy[window];
                }
            out[line * n + e] = sum;
        }
    }
}

// By what a window is divided: `share`, where that is not 0, else one by the number of its values on the picture.
__device__ REAL share_of(REAL share, int row, int column, int h, int w, int kh, int kw)
{
    if (share != REAL(0)) return share;
    const int height = min(row + kh, h) - max(row, 0), width = min(column + kw, w) - max(column, 0);
    return REAL(1) / (REAL)(height * width);
}

KERNEL avg_pool(
    const REAL* x, REAL* out, @WINDOWS@, REAL share,
    long long m, long long n)
{
    FOR_ROWS(line, m) {
        const Index picture = line / rows;
        const int row = (int)(line - picture * rows) * down - above;
        const int top = max(row, 0), bottom = min(row + kh, h);
        FOR_LINE(e, n) {
            const unsigned window = e / c, channel = e - window * c;
            const int column = (int)window * right - left;
            const int begin = max(column, 0), end = min(column + kw, w);
            const REAL* from = x + picture * h * w * c + channel;
            REAL sum = 0;
            for (int p = top; p < bottom; ++p)
                for (int q = begin; q < end; ++q) sum += from[((Index)p * w + q) * c];
            out[line * n + e] = sum * share_of(share, row, column, h, w, kh, kw);
        }
    }
}

KERNEL avg_pool_backward(
    const REAL* dy, REAL* out, @WINDOWS@, REAL share,
    long long m, long long n)
{
    FOR_ROWS(line, m) {
        const Index picture = line / h;
        const int row = (int)(line - picture * h) + above;
        const int first_row = first_window(row, kh, down), last_row = last_window(row, down, rows);
        FOR_LINE(e, n) {
            const unsigned pixel = e / c, channel = e - pixel * c;
            const int column = (int)pixel + left;
            const int first = first_window(column, kw, right), last = last_window(column, right, columns);
            REAL sum = 0;
            for (int r = first_row; r <= last_row; ++r)
                for (int s = first; s <= last; ++s) {
                    const REAL value = dy[(((picture * rows + r) * columns) + s) * c + channel];
                    sum += value * share_of(share, r * down - above, s * right - left, h, w, kh, kw);
                }
            out[line * n + e] = sum;
        }
    }
}
"""

_SUM_PARTS = r"""
// out = alpha (the sum of m rows of n parts) + beta out; a block has SUM_TILE columns, of each of which SUM_LANES
// threads share out the rows.
KERNEL sum_parts(const REAL* parts, REAL alpha, REAL beta, REAL* out, long long m, long long n)
{
    __shared__ REAL shared[SUM_TILE * SUM_LANES];
    for (Index first = (Index)blockIdx.x * SUM_TILE; first < n; first += (Index)gridDim.x * SUM_TILE) {
        FOR_BLOCK(t, SUM_TILE * SUM_LANES) {
            const Index column = first + t % SUM_TILE;
            REAL sum = 0;
            if (column < n)
                for (Index row = t / SUM_TILE; row < m; row += 4 * SUM_LANES) {
                    REAL read[4];  // all under way together
                    for (int k = 0; k < 4; ++k)
                        read[k] = row + k * SUM_LANES < m ? parts[(row + k * SUM_LANES) * n + column] : REAL(0);
                    for (int k = 0; k < 4; ++k) sum += read[k];
                }
            shared[t] = sum;
        }
        __syncthreads();
        FOR_BLOCK(t, SUM_TILE) {
            REAL sum = shared[t];
            for (int lane = 1; lane < SUM_LANES; ++lane) sum += shared[t + lane * SUM_TILE];
            if (first + t < n) out[first + t] = beta == REAL(0) ? alpha * sum : alpha * sum + beta * out[first + t];
        }
        __syncthreads();
    }
}
"""


def picture_source(real: str) -> str:
    """The CUDA text with ``REAL`` as ``"float"`` or ``"double"``, but for convolutions without patches."""
    parts = [begin(real), _LINES, fill(_POOLING, WINDOWS=WINDOWS), _SUM_PARTS]
    for template in (_PATCHES, GRADIENT):
        parts += [fill(template, **words, WINDOWS=WINDOWS) for words in CHUNKS]
    return "\n".join(parts)
