"""The CUDA kernels of operations on pictures, as text: a module of their own, which networks without pictures never
compile. What ``source`` says of its kernels holds for these.

A block has a line: a row of windows of one picture, or a row of its pixels. So which picture and which row are worked
out once for a block, and a thread is left with divisions of small numbers. Gradients of pixels are gathered: each
thread adds up, in a fixed order, what the windows that have its pixel hand back.
"""

from __future__ import annotations

from ..activations import Activation
from .source import DIVIDE, fill, forward_function, head

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
_WINDOWS = "int h, int w, int c, int kh, int kw, int down, int right, int above, int left,\n    int rows, int columns"

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

_LEAVE_EIGHT = r"""
__device__ void leave_eight(REAL* to, const Eight& x, int whole, int count)
{
    if (whole)
        UNROLLED UNROLLED for (int k = 0; k < FILTERS; k += 4) {
            Four left;
            UNROLLED for (int u = 0; u < 4; ++u) left.value[u] = x.value[k + u];
            *(Four*)(to + k) = left;
        }
    else
        UNROLLED for (int k = 0; k < FILTERS; ++k)
            if (k < count) to[k] = x.value[k];
}
"""

_CONVOLVE = r"""
// A convolution without patches, of PIXELS windows and FILTERS filters in a thread: z = alpha sum x W, plus bias where
// that is not null, goes to z_out, where that is not null, and f(z) to out. There are m windows in all pictures, and n
// threads' work; what neighbours read is the same or beside it, and comes from the cache. Where `whole` is not 0, all
// threads have FILTERS filters, which lie aligned.
//
// Where `backward` is not 0 it is the chain rule through a convolution of stride 1: x is dz, of c channels, and the
// `filters` are the channels of the pictures, so that weight is (kh, kw, filters / groups, c) and read from its end.
KERNEL convolve_@ACTIVATION@_@NAME@(
    const REAL* x, const REAL* weight, const REAL* bias, REAL* out, REAL* z_out, REAL alpha, @WINDOWS@,
    int filters, int groups, int whole, int backward, long long m, long long n)
{
    const int of_group = filters / groups, channels = c / groups;
    const int tiles = (of_group + FILTERS - 1) / FILTERS;
    FOR_GRID(task, n) {
        const Index beside = divide(task, tiles * groups);
        const int tile = (int)(task - beside * (tiles * groups));
        const int group = tile / tiles, own = tile % tiles * FILTERS, first = group * of_group + own;
        const int count = of_group - own < FILTERS ? of_group - own : FILTERS;
        const Index window = beside / LANES * (LANES * PIXELS) + beside % LANES;
        Index base[PIXELS];
        int top[PIXELS], side[PIXELS];
        UNROLLED for (int j = 0; j < PIXELS; ++j) {
            const Index i = window + j * LANES < m ? window + j * LANES : m - 1;
            const Index line = divide(i, columns), picture = divide(line, rows);
            top[j] = (int)(line - picture * rows) * down - above;
            side[j] = (int)(i - line * columns) * right - left;
            base[j] = ((picture * h + top[j]) * w + side[j]) * c + group * channels;
        }
        REAL sum[PIXELS][FILTERS] = {};
        for (int a = 0; a < kh; ++a)
            for (int b = 0; b < kw; ++b) {
                const Index shift = ((Index)a * w + b) * c;
                const REAL* factors = weight + ((Index)(a * kw + b) * channels) * filters + first;
                if (backward) {
                    const Index position = (kh - 1 - a) * kw + kw - 1 - b;
                    factors = weight + (position * of_group + own) * c + group * channels;
                }
                unsigned inside = 0;
                UNROLLED for (int j = 0; j < PIXELS; ++j)
                    if (top[j] + a >= 0 && top[j] + a < h && side[j] + b >= 0 && side[j] + b < w) inside |= 1u << j;
                for (int k = 0; k < channels; k += @CHUNK@) {
                    @TYPE@ value[PIXELS];
                    UNROLLED for (int j = 0; j < PIXELS; ++j) {
                        value[j] = {};
                        if (inside >> j & 1) value[j] = *(const @TYPE@*)(x + base[j] + shift + k);
                    }
                    if (backward)
                        UNROLLED for (int f = 0; f < FILTERS; ++f) {
                            @TYPE@ factor = {};
                            if (f < count) factor = *(const @TYPE@*)(factors + (Index)f * c + k);
                            UNROLLED for (int u = 0; u < @CHUNK@; ++u)
                                UNROLLED for (int j = 0; j < PIXELS; ++j)
                                    sum[j][f] = fma(part_of(value[j], u), part_of(factor, u), sum[j][f]);
                        }
                    else
                        UNROLLED for (int u = 0; u < @CHUNK@; ++u) {
                            const Eight factor = eight(factors + (Index)(k + u) * filters, whole, count);
                            UNROLLED for (int j = 0; j < PIXELS; ++j)
                                UNROLLED for (int f = 0; f < FILTERS; ++f)
                                    sum[j][f] = fma(part_of(value[j], u), factor.value[f], sum[j][f]);
                        }
                }
            }
        UNROLLED for (int j = 0; j < PIXELS; ++j) {
            const Index i = (window + j * LANES) * filters + first;
            if (window + j * LANES >= m) continue;
            Eight z, y;
            UNROLLED for (int f = 0; f < FILTERS; ++f) {
                z.value[f] = alpha * sum[j][f];
                if (bias && f < count) z.value[f] += bias[first + f];
                y.value[f] = forward_@ACTIVATION@(z.value[f]);
            }
            if (z_out) leave_eight(z_out + i, z, whole, count);
            leave_eight(out + i, y, whole, count);
        }
    }
}
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

_GRADIENT = r"""
// The gradient of filters without patches: blockIdx.x has a part of the m windows of all pictures and leaves its sums
// in parts[blockIdx.x], in the shape of the filters. Of n tiles, of FILTERS weights of each of FILTERS filters,
// blockIdx.y has some, and of each of these `lanes` threads share out the windows.
KERNEL weight_gradient_@NAME@(
    const REAL* x, const REAL* dz, REAL* parts, @WINDOWS@, int filters, int groups, int whole, int lanes,
    long long m, long long n)
{
    __shared__ REAL shared[GRADIENT_SIZE];
    const int of_group = filters / groups, channels = c / groups, weights = kh * kw * channels;
    const int across = (of_group + FILTERS - 1) / FILTERS, high = (weights + FILTERS - 1) / FILTERS;
    const int tiles = (int)((n + gridDim.y - 1) / gridDim.y), tasks = tiles * lanes;
    const Index share = (m + gridDim.x - 1) / gridDim.x;
    const Index begin = blockIdx.x * share, end = begin + share < m ? begin + share : m;
    FOR_BLOCK(t, tasks) {
        const int tile = (int)(blockIdx.y * tiles + t % tiles);
        REAL sum[FILTERS][FILTERS] = {};
        if (tile < n) {
            const int own = tile % across * FILTERS, top_weight = tile / across % high * FILTERS;
            const int group = tile / across / high;
            const int count = of_group - own < FILTERS ? of_group - own : FILTERS;
            int up[FILTERS / @CHUNK@], beside[FILTERS / @CHUNK@];
            Index shift[FILTERS / @CHUNK@];
            UNROLLED for (int u = 0; u < FILTERS / @CHUNK@; ++u) {
                const int weight = top_weight + u * @CHUNK@, position = weight / channels;
                up[u] = weight < weights ? position / kw - above : -h - rows * down;  // never on the picture
                beside[u] = position % kw - left;
                shift[u] = ((Index)up[u] * w + beside[u]) * c + group * channels + weight % channels;
            }
            // Where the first window of the lane is; the next ones are found without a division.
            Index window = begin + t / tiles;
            Index line = divide(window, columns), picture = divide(line, rows);
            int s = (int)(window - line * columns), r = (int)(line - picture * rows);
            for (; window < end; window += lanes) {
                const Index base = ((picture * h + r * down) * w + s * right) * c;
                const Eight slope = eight(dz + window * filters + group * of_group + own, whole, count);
                UNROLLED for (int u = 0; u < FILTERS / @CHUNK@; ++u) {
                    const int row = r * down + up[u], column = s * right + beside[u];
                    @TYPE@ read = {};
                    if (row >= 0 && row < h && column >= 0 && column < w) read = *(const @TYPE@*)(x + base + shift[u]);
                    UNROLLED for (int v = 0; v < @CHUNK@; ++v)
                        UNROLLED for (int f = 0; f < FILTERS; ++f)
                            sum[u * @CHUNK@ + v][f] = fma(part_of(read, v), slope.value[f], sum[u * @CHUNK@ + v][f]);
                }
                for (s += lanes; s >= columns; s -= columns)
                    if (++r == rows) {
                        r = 0;
                        ++picture;
                    }
            }
        }
        UNROLLED for (int i = 0; i < FILTERS; ++i)
            UNROLLED for (int f = 0; f < FILTERS; ++f) shared[(i * FILTERS + f) * tasks + t] = sum[i][f];
    }
    __syncthreads();
    FOR_BLOCK(e, weights * filters) {
        const int weight = (int)e / filters, filter = (int)e % filters, group = filter / of_group;
        const int own = filter % of_group;
        const int tile = (group * high + weight / FILTERS) * across + own / FILTERS - (int)blockIdx.y * tiles;
        if (tile < 0 || tile >= tiles) continue;
        const REAL* from = shared + (weight % FILTERS * FILTERS + own % FILTERS) * tasks + tile;
        REAL sum = from[0];
        for (int lane = 1; lane < lanes; ++lane) sum += from[lane * tiles];
        parts[(Index)blockIdx.x * weights * filters + e] = sum;
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
    parts = [_begin(real), _LINES, fill(_POOLING, WINDOWS=_WINDOWS), _SUM_PARTS]
    for template in (_PATCHES, _GRADIENT):
        parts += [fill(template, **words, WINDOWS=_WINDOWS) for words in _CHUNKS]
    return "\n".join(parts)


def convolution_source(real: str, activation: Activation) -> str:
    """The CUDA text of convolutions without patches, with one activation."""
    parts = [_begin(real), _LEAVE_EIGHT, forward_function(activation, activation.name)]
    parts += [fill(_CONVOLVE, **words, WINDOWS=_WINDOWS, ACTIVATION=activation.name) for words in _CHUNKS]
    return "\n".join(parts)


#: By how many channels at once a kernel reads.
_CHUNKS = (
    {"NAME": "one", "TYPE": "One", "CHUNK": "1"},
    {"NAME": "four", "TYPE": "Four", "CHUNK": str(CHUNK)},
)


def _begin(real: str) -> str:
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
