"""The CUDA kernels of convolutions without patches, as text: that of the products, and of the gradient of filters."""

from __future__ import annotations

from ...activations import Activation
from .elementwise import forward_function
from .text import fill
from .windows import CHUNKS, WINDOWS, begin

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

GRADIENT = r"""
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


def convolution_source(real: str, activation: Activation) -> str:
    """The CUDA text of convolutions without patches, with one activation."""
    parts = [begin(real), _LEAVE_EIGHT, forward_function(activation, activation.name)]
    parts += [fill(_CONVOLVE, **words, WINDOWS=WINDOWS, ACTIVATION=activation.name) for words in CHUNKS]
    return "\n".join(parts)
