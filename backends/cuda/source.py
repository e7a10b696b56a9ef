"""The CUDA kernels of ``CupyBackend``, as text. Importable without CuPy and without a GPU.

One text, plain ``extern "C"`` functions, is compiled for float and for double through the macro ``REAL``. Every kernel
is correct for any number of blocks and any power of two of threads, one included: a sequence of loops in which the
threads of a block (or of the grid) share out elements, with barriers between them. So a compiler for the CPU can run
the same text thread by thread, and that is how the tests check it where there is no GPU.

Sums have a fixed order: there are no atomic operations on floats, and a second run on the same device gives the same
bits. Arrays handed in twice (``out`` that is an input) are allowed, hence no ``__restrict__``.
"""

from __future__ import annotations

from .. import random
from ..activations import ACTIVATIONS, Activation
from ..updates import BUILT_IN, RULES, Rule

#: No contraction of a * b + c into one rounding: these kernels wait for memory, not for arithmetic, and so elementwise
#: results agree with the CPU's to the last bit wherever CUDA's exp, log and tanh do.
OPTIONS = ("-std=c++17", "--fmad=false")

#: The most threads of a block, which is the length of the shared arrays of the trees.
MAX_THREADS = 1024
#: A column sum: columns that a block sums, rows that it reads at the same time, rows that each thread has in flight.
TILE, LANES, UNROLL = 32, 32, 4
#: Rows above which a column sum is split over several blocks, and the most blocks that it is split over.
ROWS_OF_BLOCK, MAX_ROW_BLOCKS = 512, 256

#: The most updates that one launch makes.
MOST_UPDATES = 4

#: The head kernel: rows of a block at a time, threads of a product, the most classes; bytes of the matrix, and of those
#: rows' inputs, which it keeps in shared memory.
HEAD_ROWS, HEAD_PARTS, HEAD_COLUMNS = 2, 8, 32
HEAD_MATRIX_BYTES, HEAD_ROWS_BYTES = 24576, 4096
#: The kernel of a network with one hidden layer: the bytes of the second matrix, of the rows' inputs and of the sums of
#: the slices in shared memory, and the widest hidden layer.
SMALL_MATRIX_BYTES, SMALL_INPUT_BYTES, SMALL_SUMS_BYTES, SMALL_WIDTH = 8192, 8192, 16384, 128

#: The kernel of weight gradients: the most of them in a launch, the most rows of a batch, the parts that a sum over
#: them is split into, and the rows and bytes of a row of a tile, which a block computes.
MOST_GRADIENTS, GROUP_ROWS, GROUP_PARTS, GROUP_HEIGHT, GROUP_WIDTH_BYTES = 3, 128, 4, 16, 256

#: Row dtypes that ``take_rows`` scales, and unsigned integers that stand for any dtype of the same size.
SCALED = {
    "uint8": "unsigned char",
    "int32": "int",
    "int64": "long long",
    "float32": "float",
    "float64": "double",
}
GATHERED = {
    "uint8": "unsigned char",
    "uint16": "unsigned short",
    "uint32": "unsigned int",
    "uint64": "unsigned long long",
}

#: Activations that no head has: their texts would make compiling it all take twice as long.
WITHOUT_HEAD = frozenset({"gelu", "gelu_tanh", "silu", "softplus", "leaky_relu", "elu"})

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

_BATCH = r"""
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

_TREES = r"""
// maximum() that lets NaN through.
__device__ REAL larger(REAL a, REAL b) { return (a >= b || a != a) ? a : b; }

// A binary tree over one value of each thread. All trees of a kernel use this array; the last barrier is for the next.
__shared__ double tree_memory[MAX_THREADS];
#define BLOCK_TREE(NAME, TYPE, COMBINED)                             \
    __device__ TYPE NAME(TYPE value)                                 \
    {                                                                \
        TYPE* shared = (TYPE*)tree_memory;                           \
        shared[threadIdx.x] = value;                                 \
        __syncthreads();                                             \
        for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {  \
            if (threadIdx.x < half) {                                \
                TYPE a = shared[threadIdx.x];                        \
                TYPE b = shared[threadIdx.x + half];                 \
                shared[threadIdx.x] = COMBINED;                      \
            }                                                        \
            __syncthreads();                                         \
        }                                                            \
        TYPE result = shared[0];                                     \
        __syncthreads();                                             \
        return result;                                               \
    }
BLOCK_TREE(block_max, REAL, larger(a, b))
BLOCK_TREE(block_sum, REAL, a + b)
BLOCK_TREE(block_sum_double, double, a + b)
BLOCK_TREE(block_least, Index, a < b ? a : b)

// A row of n values, to which a bias may still have to be added.
struct Row {
    const REAL* z;
    const REAL* bias;
};
__device__ REAL at(Row x, Index j) { return x.bias ? x.z[j] + x.bias[j] : x.z[j]; }

__device__ REAL row_max(Row x, Index n)
{
    REAL top = at(x, 0);
    FOR_BLOCK(j, n) top = larger(top, at(x, j));
    return block_max(top);
}

// The first column that holds `top`; 0 if none does, which is so for NaN.
__device__ Index first_column(Row x, REAL top, Index n)
{
    Index first = n;
    FOR_BLOCK(j, n) if (at(x, j) == top && j < first) first = j;
    first = block_least(first);
    return first < n ? first : 0;
}

__device__ REAL row_normalizer(Row x, REAL top, Index n)
{
    REAL sum = 0;
    FOR_BLOCK(j, n) sum += exp(at(x, j) - top);
    return block_sum(sum);
}

// The sum of m numbers as a tree over `lanes` threads, a power of two that m alone decides, adds them up: the bits do
// not depend on the number of threads.
__device__ double ordered_sum(const double* x, Index m)
{
    Index lanes = 32;
    while (lanes < m && lanes < MAX_THREADS) lanes *= 2;
    FOR_BLOCK(lane, lanes) {
        double sum = 0;
        for (Index i = lane; i < m; i += lanes) sum += x[i];
        tree_memory[lane] = sum;
    }
    __syncthreads();
    for (Index half = lanes / 2; half > 0; half /= 2) {
        FOR_BLOCK(lane, half) tree_memory[lane] += tree_memory[lane + half];
        __syncthreads();
    }
    const double result = tree_memory[0];
    __syncthreads();
    return result;
}

// The sums over the rows of a batch, added to totals or, where accumulate is 0, written there; by one block.
__device__ void sum_rows(const double* rows, double* totals, int accumulate, Index m)
{
    const double loss = ordered_sum(rows, m);
    const double correct = ordered_sum(rows + m, m);
    if (threadIdx.x == 0) {
        totals[0] = accumulate ? totals[0] + loss : loss;
        totals[1] = accumulate ? totals[1] + correct : correct;
    }
}

// Whether this block is the last one to ask, of all blocks of the launch; it then sees what the others have written
// before they asked. The ticket is 0 between launches.
__device__ bool is_last_block(unsigned int* ticket)
{
    __shared__ bool is_last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) is_last = atomicInc(ticket, gridDim.x - 1) == gridDim.x - 1;
    __syncthreads();
    __threadfence();
    return is_last;
}
"""

_FORWARD = r"""
__device__ REAL forward_@NAME@(REAL z) { return @FORWARD@; }
"""

_ACTIVATION = r"""
__device__ REAL derivative_@NAME@(REAL @SAVED@) { return @DERIVATIVE@; }

KERNEL bias_activation_@NAME@(
    const REAL* z, const REAL* bias, REAL* out, REAL* z_out, long long n, long long size)
{
    FOR_GRID(i, size) {
        REAL sum = bias ? z[i] + bias[i - divide(i, n) * n] : z[i];
        if (z_out) z_out[i] = sum;
        out[i] = forward_@NAME@(sum);
    }
}

// dz = dy f'(saved), where dz is not null, and the column sums of dz, where sums is not null: blockIdx.x counts tiles
// of TILE columns, blockIdx.y groups of rows, each of which writes its own row of `sums`. A lane sums every LANES-th
// row; a tree over the lanes follows, in the same order whatever the number of threads.
KERNEL activation_backward_@NAME@(
    const REAL* dy, const REAL* saved, REAL* dz, REAL* sums, long long m, long long n)
{
    __shared__ REAL shared[TILE * LANES];
    const Index rows = (m + gridDim.y - 1) / gridDim.y;
    const Index begin = blockIdx.y * rows;
    const Index end = begin + rows < m ? begin + rows : m;
    FOR_BLOCK(t, TILE * LANES) {
        const Index column = (Index)blockIdx.x * TILE + t % TILE;
        REAL sum = 0;
        if (column < n)
            for (Index row = begin + t / TILE; row < end; row += UNROLL * LANES) {
                // All reads of a round come before its writes (dz may be dy), so that they are under way together.
                REAL value[UNROLL];
                for (int k = 0; k < UNROLL; ++k) {
                    const Index i = (row + k * LANES) * n + column;
                    value[k] = row + k * LANES < end ? dy[i] * derivative_@NAME@(saved[i]) : REAL(0);
                }
                for (int k = 0; k < UNROLL; ++k)
                    if (row + k * LANES < end) {
                        if (dz) dz[(row + k * LANES) * n + column] = value[k];
                        sum += value[k];
                    }
            }
        shared[t] = sum;
    }
    if (!sums) return;
    __syncthreads();
    for (int half = LANES / 2; half > 0; half /= 2) {
        FOR_BLOCK(t, TILE * half) shared[t] += shared[t + TILE * half];
        __syncthreads();
    }
    FOR_BLOCK(t, TILE) {
        const Index column = (Index)blockIdx.x * TILE + t;
        if (column < n) sums[blockIdx.y * n + column] = shared[t];
    }
}
"""

_ROWS = r"""
KERNEL multiply(const REAL* a, const REAL* b, REAL* out, long long size)
{
    FOR_GRID(i, size) out[i] = a[i] * b[i];
}

// The kernels below give a block to each row. Where out is an input, the barriers of the trees separate the last read
// of an element by another thread from its being written.
KERNEL softmax(const REAL* logits, REAL* out, long long m, long long n)
{
    FOR_ROWS(row, m) {
        const Row x = {logits + row * n, nullptr};
        const REAL top = row_max(x, n);
        const REAL normalizer = row_normalizer(x, top, n);
        FOR_BLOCK(j, n) out[row * n + j] = exp(at(x, j) - top) / normalizer;
    }
}

KERNEL softmax_backward(const REAL* dy, const REAL* y, REAL* out, long long m, long long n)
{
    FOR_ROWS(row, m) {
        REAL sum = 0;
        FOR_BLOCK(j, n) sum += dy[row * n + j] * y[row * n + j];
        const REAL inner = block_sum(sum);
        FOR_BLOCK(j, n) out[row * n + j] = y[row * n + j] * (dy[row * n + j] - inner);
    }
}

KERNEL argmax(const REAL* x, long long* out, long long m, long long n)
{
    FOR_ROWS(row, m) {
        const Row values = {x + row * n, nullptr};
        const REAL top = row_max(values, n);
        const Index first = first_column(values, top, n);
        if (threadIdx.x == 0) out[row] = first;
    }
}
"""

_NORMALIZE = r"""
// Normalization. A block for each row where rows are normalized; where columns are, a block for TILE of them, in which
// LANES threads share out the rows of a column.
__device__ REAL scaled(REAL x, const REAL* weight, const REAL* bias, Index j)
{
    REAL y = x;
    if (weight) y *= weight[j];
    if (bias) y += bias[j];
    return y;
}

KERNEL normalize_rows(
    const REAL* x, const REAL* weight, const REAL* bias, REAL* normalized, REAL* inverse, REAL* out, REAL epsilon,
    long long m, long long n)
{
    FOR_ROWS(row, m) {
        REAL sum = 0;
        FOR_BLOCK(j, n) sum += x[row * n + j];
        const REAL mean = block_sum(sum) / n;
        sum = 0;
        FOR_BLOCK(j, n) {
            const REAL difference = x[row * n + j] - mean;
            sum += difference * difference;
        }
        const REAL factor = REAL(1) / sqrt(block_sum(sum) / n + epsilon);
        if (threadIdx.x == 0) inverse[row] = factor;
        FOR_BLOCK(j, n) {
            const REAL value = (x[row * n + j] - mean) * factor;
            normalized[row * n + j] = value;
            out[row * n + j] = scaled(value, weight, bias, j);
        }
    }
}

KERNEL normalize_rows_backward(
    const REAL* dy, const REAL* normalized, const REAL* inverse, const REAL* weight, REAL* out, long long m,
    long long n)
{
    FOR_ROWS(row, m) {
        REAL sum = 0;
        REAL product = 0;
        FOR_BLOCK(j, n) {
            const REAL g = scaled(dy[row * n + j], weight, nullptr, j);
            sum += g;
            product += g * normalized[row * n + j];
        }
        const REAL of_g = block_sum(sum) / n;
        const REAL of_both = block_sum(product) / n;
        FOR_BLOCK(j, n) {
            const REAL g = scaled(dy[row * n + j], weight, nullptr, j);
            out[row * n + j] = (g - of_g - normalized[row * n + j] * of_both) * inverse[row];
        }
    }
}

// The sums over the lanes of a tile, left in its first TILE numbers.
__device__ void sum_lanes(REAL* shared)
{
    __syncthreads();
    for (int half = LANES / 2; half > 0; half /= 2) {
        FOR_BLOCK(t, TILE * half) shared[t] += shared[t + TILE * half];
        __syncthreads();
    }
}

KERNEL normalize_columns(
    const REAL* x, const REAL* weight, const REAL* bias, REAL* running_mean, REAL* running_variance, REAL kept,
    REAL fresh, REAL* normalized, REAL* inverse, REAL* out, REAL epsilon, long long m, long long n)
{
    __shared__ REAL shared[TILE * LANES];
    __shared__ REAL mean[TILE];
    __shared__ REAL factor[TILE];
    const Index first = (Index)blockIdx.x * TILE;
    FOR_BLOCK(t, TILE * LANES) {
        const Index column = first + t % TILE;
        REAL sum = 0;
        if (column < n)
            for (Index row = t / TILE; row < m; row += LANES) sum += x[row * n + column];
        shared[t] = sum;
    }
    sum_lanes(shared);
    FOR_BLOCK(t, TILE) mean[t] = shared[t] / m;
    __syncthreads();
    FOR_BLOCK(t, TILE * LANES) {
        const Index column = first + t % TILE;
        REAL sum = 0;
        if (column < n)
            for (Index row = t / TILE; row < m; row += LANES) {
                const REAL difference = x[row * n + column] - mean[t % TILE];
                sum += difference * difference;
            }
        shared[t] = sum;
    }
    sum_lanes(shared);
    FOR_BLOCK(t, TILE) {
        const Index column = first + t;
        factor[t] = REAL(1) / sqrt(shared[t] / m + epsilon);
        if (column < n) {
            inverse[column] = factor[t];
            if (running_mean) {
                running_mean[column] = kept * running_mean[column] + fresh * mean[t];
                running_variance[column] = kept * running_variance[column] + fresh * (shared[t] / (m - 1));
            }
        }
    }
    __syncthreads();
    FOR_BLOCK(t, TILE * LANES) {
        const Index column = first + t % TILE;
        if (column < n)
            for (Index row = t / TILE; row < m; row += LANES) {
                const REAL value = (x[row * n + column] - mean[t % TILE]) * factor[t % TILE];
                normalized[row * n + column] = value;
                out[row * n + column] = scaled(value, weight, bias, column);
            }
    }
}

// The gradients of weight and bias, where those are not null, and dx of normalized columns, where out is not null.
KERNEL normalize_columns_backward(
    const REAL* dy, const REAL* normalized, const REAL* inverse, const REAL* weight, REAL* bias_gradient,
    REAL* gain_gradient, REAL* out, long long m, long long n)
{
    __shared__ REAL sums[TILE * LANES];
    __shared__ REAL products[TILE * LANES];
    const Index first = (Index)blockIdx.x * TILE;
    FOR_BLOCK(t, TILE * LANES) {
        const Index column = first + t % TILE;
        REAL sum = 0;
        REAL product = 0;
        if (column < n)
            for (Index row = t / TILE; row < m; row += LANES) {
                sum += dy[row * n + column];
                product += dy[row * n + column] * normalized[row * n + column];
            }
        sums[t] = sum;
        products[t] = product;
    }
    sum_lanes(sums);
    sum_lanes(products);
    FOR_BLOCK(t, TILE) {
        const Index column = first + t;
        if (column < n && bias_gradient) bias_gradient[column] = sums[t];
        if (column < n && gain_gradient) gain_gradient[column] = products[t];
    }
    if (!out) return;
    FOR_BLOCK(t, TILE * LANES) {
        const Index column = first + t % TILE;
        if (column < n)
            for (Index row = t / TILE; row < m; row += LANES) {
                const Index i = row * n + column;
                const REAL inner = dy[i] - sums[t % TILE] / m - normalized[i] * (products[t % TILE] / m);
                out[i] = scaled(inner * inverse[column], weight, nullptr, column);
            }
    }
}

// The same for many rows, in several launches: blockIdx.y counts groups of rows, each of which leaves a row of sums,
// and every block adds up those of all groups, in the same order.
__device__ void sum_groups(const REAL* parts, REAL* shared, REAL* sums, Index first, Index n)
{
    FOR_BLOCK(t, TILE * LANES) {
        const Index column = first + t % TILE;
        REAL sum = 0;
        if (column < n)
            for (Index group = t / TILE; group < gridDim.y; group += LANES) sum += parts[group * n + column];
        shared[t] = sum;
    }
    sum_lanes(shared);
    FOR_BLOCK(t, TILE) sums[t] = shared[t];
    __syncthreads();
}

// The rows of a group.
#define FOR_GROUP(row, t, m)                                                                             \
    for (Index row = blockIdx.y * (((m) + gridDim.y - 1) / gridDim.y) + (t) / TILE,                      \
               end = (blockIdx.y + 1) * (((m) + gridDim.y - 1) / gridDim.y);                             \
         row < end && row < (m); row += LANES)

// Of each group the sums of the squared differences from the mean, of which `parts` has the sums.
KERNEL squares_of_groups(const REAL* x, const REAL* parts, REAL* squares, long long m, long long n)
{
    __shared__ REAL shared[TILE * LANES];
    __shared__ REAL mean[TILE];
    const Index first = (Index)blockIdx.x * TILE;
    sum_groups(parts, shared, mean, first, n);
    FOR_BLOCK(t, TILE) mean[t] /= m;
    __syncthreads();
    FOR_BLOCK(t, TILE * LANES) {
        const Index column = first + t % TILE;
        REAL sum = 0;
        if (column < n)
            FOR_GROUP(row, t, m) {
                const REAL difference = x[row * n + column] - mean[t % TILE];
                sum += difference * difference;
            }
        shared[t] = sum;
    }
    sum_lanes(shared);
    FOR_BLOCK(t, TILE) if (first + t < n) squares[blockIdx.y * n + first + t] = shared[t];
}

KERNEL normalize_groups(
    const REAL* x, const REAL* parts, const REAL* squares, const REAL* weight, const REAL* bias, REAL* running_mean,
    REAL* running_variance, REAL kept, REAL fresh, REAL* normalized, REAL* inverse, REAL* out, REAL epsilon,
    long long m, long long n)
{
    __shared__ REAL shared[TILE * LANES];
    __shared__ REAL mean[TILE];
    __shared__ REAL factor[TILE];
    const Index first = (Index)blockIdx.x * TILE;
    sum_groups(parts, shared, mean, first, n);
    sum_groups(squares, shared, factor, first, n);
    FOR_BLOCK(t, TILE) {
        const Index column = first + t;
        const REAL sum = factor[t];
        mean[t] /= m;
        factor[t] = REAL(1) / sqrt(sum / m + epsilon);
        if (column < n && blockIdx.y == 0) {
            inverse[column] = factor[t];
            if (running_mean) {
                running_mean[column] = kept * running_mean[column] + fresh * mean[t];
                running_variance[column] = kept * running_variance[column] + fresh * (sum / (m - 1));
            }
        }
    }
    __syncthreads();
    FOR_BLOCK(t, TILE * LANES) {
        const Index column = first + t % TILE;
        if (column < n)
            FOR_GROUP(row, t, m) {
                const REAL value = (x[row * n + column] - mean[t % TILE]) * factor[t % TILE];
                normalized[row * n + column] = value;
                out[row * n + column] = scaled(value, weight, bias, column);
            }
    }
}

// Of each group the sums of dy, and of dy times the normalized values.
KERNEL products_of_groups(
    const REAL* dy, const REAL* normalized, REAL* parts, REAL* products, long long m, long long n)
{
    __shared__ REAL sums[TILE * LANES];
    __shared__ REAL shared[TILE * LANES];
    const Index first = (Index)blockIdx.x * TILE;
    FOR_BLOCK(t, TILE * LANES) {
        const Index column = first + t % TILE;
        REAL sum = 0;
        REAL product = 0;
        if (column < n)
            FOR_GROUP(row, t, m) {
                sum += dy[row * n + column];
                product += dy[row * n + column] * normalized[row * n + column];
            }
        sums[t] = sum;
        shared[t] = product;
    }
    sum_lanes(sums);
    sum_lanes(shared);
    FOR_BLOCK(t, TILE) if (first + t < n) {
        parts[blockIdx.y * n + first + t] = sums[t];
        products[blockIdx.y * n + first + t] = shared[t];
    }
}

KERNEL normalize_groups_backward(
    const REAL* dy, const REAL* normalized, const REAL* inverse, const REAL* weight, const REAL* parts,
    const REAL* products, REAL* bias_gradient, REAL* gain_gradient, REAL* out, long long m, long long n)
{
    __shared__ REAL shared[TILE * LANES];
    __shared__ REAL sums[TILE];
    __shared__ REAL gains[TILE];
    const Index first = (Index)blockIdx.x * TILE;
    sum_groups(parts, shared, sums, first, n);
    sum_groups(products, shared, gains, first, n);
    FOR_BLOCK(t, TILE) {
        const Index column = first + t;
        if (column < n && blockIdx.y == 0 && bias_gradient) bias_gradient[column] = sums[t];
        if (column < n && blockIdx.y == 0 && gain_gradient) gain_gradient[column] = gains[t];
    }
    if (!out) return;
    FOR_BLOCK(t, TILE * LANES) {
        const Index column = first + t % TILE;
        if (column < n)
            FOR_GROUP(row, t, m) {
                const Index i = row * n + column;
                const REAL inner = dy[i] - sums[t % TILE] / m - normalized[i] * (gains[t % TILE] / m);
                out[i] = scaled(inner * inverse[column], weight, nullptr, column);
            }
    }
}

KERNEL normalize_by(
    const REAL* x, const REAL* mean, const REAL* variance, const REAL* weight, const REAL* bias, REAL epsilon,
    REAL* out, long long n, long long size)
{
    FOR_GRID(i, size) {
        const Index j = i - divide(i, n) * n;
        out[i] = scaled((x[i] - mean[j]) * (REAL(1) / sqrt(variance[j] + epsilon)), weight, bias, j);
    }
}
"""

_LOSSES = r"""
// The losses. A block for each row, which leaves its loss in rows[0 .. m) and in rows[m .. 2m) 1 where the row is
// correct, else 0; both times the row's weight, where weights is not null, as its gradient is. The loss itself goes to
// losses, where that is not null. With a ticket the last block adds the rows up to totals; else add_totals does.
//
// What comes right before a loss can be done here: with a bias, the outputs are z + bias, which goes to biased; and
// where gathered is not null, the targets are those of all rows, of which the batch's are taken as take_rows does, and
// go to gathered.
__device__ void leave_row(
    const REAL* weights, REAL* losses, double* rows, Index m, Index row, REAL loss, bool correct)
{
    if (losses) losses[row] = loss;
    const double weight = weights ? weights[row] : REAL(1);
    rows[row] = weight * loss;
    rows[m + row] = correct ? weight : weight * 0;
}

// Whether the first of the largest of both rows is in the same column, and no x is NaN; for all threads of a block.
__device__ bool largest_agree(Row x, Row t, Index n)
{
    const REAL top = row_max(x, n);
    const REAL target_top = row_max(t, n);
    const Index first = first_column(x, top, n);
    const Index target_first = first_column(t, target_top, n);
    return first == target_first && top == top;
}

KERNEL binary_cross_entropy(
    @OUTPUTS@, const REAL* targets, REAL* gathered, @PLACES@, int exclusive, @TOTALS@)
{
    FOR_ROWS(row, m) {
        const REAL weight = weights ? weights[row] : REAL(1);
        const Row x = {z + row * n, bias};
        const Row t = {targets + (gathered ? @TAKEN@ : row) * n, nullptr};
        const bool at_top = exclusive && largest_agree(x, t, n);  // before `out`, which may be z, is written
        REAL loss = 0;
        REAL wrong = 0;
        FOR_BLOCK(j, n) {
            const REAL value = at(x, j);
            const REAL target = at(t, j);
            if (gathered) gathered[row * n + j] = target;
            loss += (value <= REAL(0) ? REAL(0) : value) - value * target + log1p(exp(-fabs(value)));
            if (value != value || (value > REAL(0)) != (target > REAL(0.5))) wrong = 1;
            if (bias) biased[row * n + j] = value;
            if (out) out[row * n + j] = (forward_sigmoid(value) - target) * scale * weight;
        }
        loss = block_sum(loss);
        const bool correct = exclusive ? at_top : block_max(wrong) == REAL(0);
        if (threadIdx.x == 0) leave_row(weights, losses, rows, m, row, loss / (REAL)n, correct);
    }
    if (ticket && is_last_block(ticket)) sum_rows(rows, totals, accumulate, m);
}

KERNEL sigmoid_focal(
    @OUTPUTS@, const REAL* targets, REAL* gathered, @PLACES@, int exclusive, REAL gamma,
    REAL of_yes, REAL of_no, @TOTALS@)
{
    FOR_ROWS(row, m) {
        const REAL weight = weights ? weights[row] : REAL(1);
        const Row x = {z + row * n, bias};
        const Row t = {targets + (gathered ? @TAKEN@ : row) * n, nullptr};
        const bool at_top = exclusive && largest_agree(x, t, n);  // before `out`, which may be z, is written
        const REAL least = sizeof(REAL) == 4 ? REAL(1.17549435e-38) : REAL(2.2250738585072014e-308);
        REAL loss = 0;
        REAL wrong = 0;
        FOR_BLOCK(j, n) {
            const REAL value = at(x, j);
            const REAL target = at(t, j);
            if (gathered) gathered[row * n + j] = target;
            // The probabilities of the likelier answer and of the other one; and of the one that is not the target.
            const REAL e = exp(-fabs(value));
            const REAL likely = REAL(1) / (REAL(1) + e), unlikely = e * likely;
            const REAL yes = value >= REAL(0) ? likely : unlikely, no = value >= REAL(0) ? unlikely : likely;
            const REAL miss = yes * (REAL(1) - target) + no * target;
            const REAL entropy = (value <= REAL(0) ? REAL(0) : value) - value * target + log1p(e);
            const REAL factor = pow(miss, gamma) * (of_yes * target + of_no * (REAL(1) - target));
            loss += factor * entropy;
            if (value != value || (value > REAL(0)) != (target > REAL(0.5))) wrong = 1;
            if (bias) biased[row * n + j] = value;
            if (out) {
                const REAL share = likely * unlikely / larger(miss, least) * (REAL(1) - REAL(2) * target);
                out[row * n + j] = factor * (yes - target + gamma * share * entropy) * scale * weight;
            }
        }
        loss = block_sum(loss);
        const bool correct = exclusive ? at_top : block_max(wrong) == REAL(0);
        if (threadIdx.x == 0) leave_row(weights, losses, rows, m, row, loss / (REAL)n, correct);
    }
    if (ticket && is_last_block(ticket)) sum_rows(rows, totals, accumulate, m);
}

KERNEL add_totals(const double* rows, double* totals, int accumulate, long long m)
{
    sum_rows(rows, totals, accumulate, m);
}
"""

_SOFTMAX_LOSS = r"""
KERNEL @NAME@(
    @OUTPUTS@, const long long* targets, long long* gathered, @PLACES@, @SETTINGS@@TOTALS@)
{
    FOR_ROWS(row, m) {
        const Row x = {z + row * n, bias};
        const Index label = targets[gathered ? @TAKEN@ : row];
        if (gathered && threadIdx.x == 0) gathered[row] = label;
        const bool known = label >= 0 && label < n;
        const REAL top = row_max(x, n);
        const REAL normalizer = row_normalizer(x, top, n);
@MEAN@        const REAL loss = threadIdx.x == 0 ? log(normalizer) - (@PICKED@) : REAL(0);
        const Index first = first_column(x, top, n);
        if (threadIdx.x == 0) leave_row(weights, losses, rows, m, row, loss, first == label && top == top);
        const REAL weight = weights ? weights[row] : REAL(1);
        FOR_BLOCK(j, n) {
            const REAL value = at(x, j);
            if (bias) biased[row * n + j] = value;
            if (out)
                out[row * n + j] = (exp(value - top) / normalizer - (@EXPECTED@)) * scale * weight;
        }
    }
    if (ticket && is_last_block(ticket)) sum_rows(rows, totals, accumulate, m);
}
"""
#: Softmax cross-entropy, without and with the smoothing of labels: their share that stays, and that of each class.
_SOFTMAX_LOSSES = {
    "softmax_cross_entropy": {
        "SETTINGS": "",
        "MEAN": "",
        "PICKED": "known ? at(x, label) - top : REAL(0)",
        "EXPECTED": "j == label ? REAL(1) : REAL(0)",
    },
    "smoothed_cross_entropy": {
        "SETTINGS": "REAL kept, REAL spread, ",
        "MEAN": """        REAL shifted = 0;
        FOR_BLOCK(j, n) shifted += at(x, j) - top;
        shifted = block_sum(shifted);
""",
        "PICKED": "kept * (known ? at(x, label) - top : REAL(0)) + spread * shifted",
        "EXPECTED": "(j == label ? kept : REAL(0)) + spread",
    },
}

_ERROR_LOSS = r"""
KERNEL @NAME@(
    @OUTPUTS@, const REAL* targets, REAL* gathered, @PLACES@, @SETTINGS@@TOTALS@)
{
    FOR_ROWS(row, m) {
        const Row x = {z + row * n, bias};
        const Row t = {targets + (gathered ? @TAKEN@ : row) * n, nullptr};
        const REAL top = row_max(x, n);
        const REAL target_top = row_max(t, n);
        const Index first = first_column(x, top, n);
        const Index target_first = first_column(t, target_top, n);
        const bool agree = n == 1 ? (top > REAL(0.5)) == (target_top > REAL(0.5)) : first == target_first;
        const REAL weight = weights ? weights[row] : REAL(1);
        REAL loss = 0;
        FOR_BLOCK(j, n) {
            const REAL value = at(x, j);
            const REAL target = at(t, j);
            const REAL difference = value - target;
            if (gathered) gathered[row * n + j] = target;
@NEAR@            loss += @VALUE@;
            if (bias) biased[row * n + j] = value;
            if (out) out[row * n + j] = @SLOPE@ * scale * weight;
        }
        loss = block_sum(loss);
        if (threadIdx.x == 0) leave_row(weights, losses, rows, m, row, loss / (REAL)n, agree && top == top);
    }
    if (ticket && is_last_block(ticket)) sum_rows(rows, totals, accumulate, m);
}
"""
#: Losses of the difference between outputs and targets; the scale has what is common to all slopes.
_ERROR_LOSSES = {
    "squared_error": {"SETTINGS": "", "NEAR": "", "VALUE": "difference * difference", "SLOPE": "difference"},
    "absolute_error": {
        "SETTINGS": "",
        "NEAR": "",
        "VALUE": "fabs(difference)",
        "SLOPE": "(difference > REAL(0) ? REAL(1) : difference < REAL(0) ? REAL(-1) : difference)",
    },
    "huber": {
        "SETTINGS": "REAL delta, ",
        "NEAR": """            const REAL near = difference > delta ? delta : difference < -delta ? -delta : difference;
""",
        "VALUE": "near * (difference - REAL(0.5) * near)",
        "SLOPE": "near",
    },
}

_COLUMN_SUMS = r"""
// The column sums of x (m, n), in the order of activation_backward for one group of rows; by one block.
__device__ void ordered_column_sums(const REAL* x, REAL* sums, Index m, Index n)
{
    REAL* shared = (REAL*)tree_memory;
    for (Index tile = 0; tile < n; tile += TILE) {
        FOR_BLOCK(t, TILE * LANES) {
            const Index column = tile + t % TILE;
            REAL sum = 0;
            if (column < n)
                for (Index row = t / TILE; row < m; row += LANES) sum += x[row * n + column];
            shared[t] = sum;
        }
        __syncthreads();
        for (int half = LANES / 2; half > 0; half /= 2) {
            FOR_BLOCK(t, TILE * half) shared[t] += shared[t + TILE * half];
            __syncthreads();
        }
        FOR_BLOCK(t, TILE) if (tile + t < n) sums[tile + t] = shared[t];
        __syncthreads();
    }
}
"""

_HEAD = r"""
// The end of a network of n classes and the way back through it, for few columns: z = alpha x matrix + bias, softmax
// and cross-entropy as softmax_cross_entropy does them, d = its gradient, and where dx is not null
// dx = d matrix^T f'(saved), without f' where saved is null. The last block adds up, where they are not null,
// d_sums and dx_sums, the column sums of d and dx. A block takes HEAD_ROWS rows at a time, and HEAD_PARTS threads each
// element of z.
@COMMENT@
KERNEL @KIND@_@NAME@(
    @INPUT@, const REAL* matrix, REAL alpha, const REAL* bias, REAL* z,
    const long long* targets, long long* gathered, @PLACES@,
    REAL* d, REAL* d_sums, @SAVED@REAL* dx, REAL* dx_sums, REAL scale,
    unsigned int* ticket, double* totals, int accumulate, long long m, long long k, long long n)
{
@MEMORY@
    __shared__ REAL part[HEAD_ROWS * HEAD_COLUMNS * HEAD_PARTS];
    __shared__ REAL logit[HEAD_ROWS * HEAD_COLUMNS];
    __shared__ REAL slope[HEAD_ROWS * HEAD_COLUMNS];
    __shared__ Index label[HEAD_ROWS];
    const int columns = n;
    const int width = k;
    FOR_BLOCK(i, width * columns) whole[i] = matrix[i];
    for (Index first = (Index)blockIdx.x * HEAD_ROWS; first < m; first += (Index)gridDim.x * HEAD_ROWS) {
        const int rows_here = first + HEAD_ROWS < m ? HEAD_ROWS : (int)(m - first);
        FOR_BLOCK(r, rows_here) {
            const Index row = first + r;
            label[r] = targets[gathered ? @TAKEN@ : row];
            if (gathered) gathered[row] = label[r];
        }
@FILL@
        __syncthreads();
        FOR_BLOCK(t, rows_here * columns * HEAD_PARTS) {
            const int o = (int)t / HEAD_PARTS, r = o / columns, j = o % columns;
            REAL sum = 0;
            for (int i = (int)t % HEAD_PARTS; i < width; i += HEAD_PARTS)
                sum = fma(taken[r * width + i], whole[i * columns + j], sum);
            part[t] = sum;
        }
        __syncthreads();
        FOR_BLOCK(o, rows_here * columns) {
            REAL sum = part[o * HEAD_PARTS];
            for (int p = 1; p < HEAD_PARTS; ++p) sum += part[o * HEAD_PARTS + p];
            sum *= alpha;
            if (bias) sum += bias[(int)o % columns];
            logit[o] = sum;
            z[first * columns + o] = sum;
        }
        __syncthreads();
        FOR_BLOCK(o, rows_here * columns) {
            const int r = (int)o / columns, j = (int)o % columns;
            const Index row = first + r;
            const REAL* values = logit + r * columns;
            REAL top = values[0];
            for (int i = 1; i < columns; ++i) top = larger(top, values[i]);
            REAL normalizer = 0;
            for (int i = 0; i < columns; ++i) normalizer += exp(values[i] - top);
            const REAL weight = weights ? weights[row] : REAL(1);
            slope[o] = (exp(values[j] - top) / normalizer - (j == label[r] ? REAL(1) : REAL(0))) * scale * weight;
            d[first * columns + o] = slope[o];
            if (j == 0) {
                const bool known = label[r] >= 0 && label[r] < columns;
                int at = 0;
                while (at < columns && values[at] != top) ++at;  // none is, where one of them is NaN
                const bool correct = at < columns && at == label[r] && top == top;
                const REAL loss = log(normalizer) - (known ? values[label[r]] - top : REAL(0));
                leave_row(weights, losses, rows, m, row, loss, correct);
            }
        }
        __syncthreads();
        if (dx) FOR_BLOCK(i, rows_here * width) {
            const int r = (int)i / width, column = (int)i % width;
            REAL sum = 0;
            for (int j = 0; j < columns; ++j) sum = fma(slope[r * columns + j], whole[column * columns + j], sum);
            dx[first * width + i] = @RESULT@;
        }
        __syncthreads();
    }
    if (!is_last_block(ticket)) return;
    sum_rows(rows, totals, accumulate, m);
    if (d_sums) ordered_column_sums(d, d_sums, m, n);
    if (dx_sums) ordered_column_sums(dx, dx_sums, m, k);
}
"""

#: What differs between the end of a network and the whole of one with a single hidden layer.
_HEADS = {
    "head": {
        "KIND": "head",
        "COMMENT": "// Here the x are given.",
        "INPUT": "const REAL* x",
        "SAVED": "const REAL* saved, ",
        "MEMORY": "    __shared__ REAL whole[HEAD_MATRIX];\n    __shared__ REAL taken[HEAD_TAKEN];",
        "FILL": "        FOR_BLOCK(i, rows_here * width) taken[i] = x[first * width + i];",
        "RESULT": "saved ? sum * derivative_@NAME@(saved[first * width + i]) : sum",
    },
    "small": {
        "KIND": "small",
        "COMMENT": """// Here x = f(first_alpha input first_matrix + first_bias), and the input is gathered from
// pixels as take_rows does; both are left in memory. A sum over the inputs has as many slices as memory allows.""",
        "INPUT": """const unsigned char* pixels, const long long* input_order, const long long* input_start_at,
    long long input_start, long long input_positions, long long input_sources, REAL input_scale, REAL input_shift,
    REAL* input, const REAL* first_matrix, REAL first_alpha, const REAL* first_bias, REAL* x, long long inputs""",
        "SAVED": "",
        "MEMORY": """    __shared__ REAL whole[SMALL_MATRIX];
    __shared__ REAL row_of[SMALL_INPUT];
    __shared__ REAL sums[SMALL_SUMS];
    __shared__ REAL taken[HEAD_ROWS * SMALL_WIDTH];
    const int across = ((int)k + 3) / 4;
    const int slices = SMALL_SUMS / (HEAD_ROWS * 4 * across);""",
        "FILL": """        const Index input_first = input_start_at ? *input_start_at : input_start;
        FOR_BLOCK(i, rows_here * (int)inputs) {
            const int r = (int)i / (int)inputs, column = (int)i % (int)inputs;
            const Index from = row_of_batch(input_order, input_first, input_positions, input_sources, first + r);
            row_of[i] = (REAL)pixels[from * inputs + column] * input_scale + input_shift;
            input[first * inputs + i] = row_of[i];
        }
        __syncthreads();
        // A thread has four columns, so far apart that neighbours read neighbours, of all rows, and a slice of the sum.
        FOR_BLOCK(t, across * slices) {
            const int c = (int)t % across, slice = (int)t / across;
            REAL sum[HEAD_ROWS][4] = {};
            for (int i = slice; i < (int)inputs; i += slices)
                for (int j = 0; j < 4; ++j) {
                    const int column = c + j * across;
                    const REAL weight = column < width ? first_matrix[(Index)i * width + column] : REAL(0);
                    for (int r = 0; r < HEAD_ROWS; ++r)
                        if (r < rows_here) sum[r][j] = fma(row_of[r * (int)inputs + i], weight, sum[r][j]);
                }
            for (int r = 0; r < HEAD_ROWS; ++r)
                for (int j = 0; j < 4; ++j) sums[((slice * HEAD_ROWS) + r) * 4 * across + c + j * across] = sum[r][j];
        }
        __syncthreads();
        FOR_BLOCK(o, rows_here * width) {
            const int r = (int)o / width, column = (int)o % width;
            REAL sum = 0;
            for (int slice = 0; slice < slices; ++slice) sum += sums[(slice * HEAD_ROWS + r) * 4 * across + column];
            sum *= first_alpha;
            if (first_bias) sum += first_bias[column];
            taken[o] = forward_@NAME@(sum);
            x[first * width + o] = taken[o];
        }""",
        "RESULT": "sum * derivative_@NAME@(taken[i])",
    },
}

#: Parameters that the losses have in common, before and after the targets; ``@TAKEN@`` is the row of a target.
_OF_LOSSES = {
    "OUTPUTS": "const REAL* z, const REAL* bias, REAL* biased",
    "PLACES": "const long long* order, const long long* start_at, long long start, long long positions,\n"
    "    long long sources, const REAL* weights, REAL* losses, double* rows",
    "TOTALS": "REAL* out, REAL scale,\n"
    "    unsigned int* ticket, double* totals, int accumulate, long long m, long long n",
    "TAKEN": "row_of_batch(order, start_at ? *start_at : start, positions, sources, row)",
}

#: The losses of differences.
ERRORS = tuple(_ERROR_LOSSES)

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

_FLAT = r"""
// Numbers that change from step to step come as `..._at`, a pointer, or where that is null as a value.
__device__ void sgd_element(
    REAL* params, const REAL* gradient, REAL* velocity, REAL rate,
    REAL momentum, REAL fresh, int nesterov, REAL weight_decay, Index n_decayed, Index i)
{
    REAL direction = gradient[i];
    if (velocity) {
        const REAL pushed = fresh * direction;
        const REAL v = momentum * velocity[i] + pushed;
        velocity[i] = v;
        direction = nesterov ? pushed + momentum * v : v;
    }
    REAL change = rate * direction;
    if (i < n_decayed) change += rate * weight_decay * params[i];
    params[i] -= change;
}

KERNEL sgd_update(
    REAL* params, const REAL* gradient, REAL* velocity, const REAL* learning_rate_at, REAL learning_rate,
    REAL momentum, REAL fresh, int nesterov, REAL weight_decay, long long n_decayed, long long size)
{
    const REAL rate = learning_rate_at ? *learning_rate_at : learning_rate;
    FOR_GRID(i, size)
        sgd_element(params, gradient, velocity, rate, momentum, fresh, nesterov, weight_decay, n_decayed, i);
}

KERNEL adam_update(
    REAL* params, const REAL* gradient, REAL* mean, REAL* square, const long long* number_at, long long number,
    const REAL* learning_rate_at, REAL learning_rate, REAL beta1, REAL fresh1, double log_beta1,
    REAL beta2, REAL fresh2, double log_beta2, REAL epsilon, int epsilon_hat, REAL weight_decay, long long n_decayed,
    long long size)
{
    // 1 - beta^number, once for each block: many GPUs are slow in double.
    __shared__ REAL correction[2];
    if (threadIdx.x == 0) {
        const double t = number_at ? *number_at : number;
        correction[0] = -expm1(t * log_beta1);
        correction[1] = -expm1(t * log_beta2);
    }
    __syncthreads();
    const REAL rate = learning_rate_at ? *learning_rate_at : learning_rate;
    const REAL added = epsilon_hat ? epsilon / sqrt(correction[1]) : epsilon;
    FOR_GRID(i, size) {
        const REAL g = gradient[i];
        const REAL a = beta1 * mean[i] + fresh1 * g;
        const REAL b = beta2 * square[i] + fresh2 * (g * g);
        mean[i] = a;
        square[i] = b;
        REAL change = rate * (a / correction[0]) / (sqrt(b / correction[1]) + added);
        if (i < n_decayed) change += rate * weight_decay * params[i];
        params[i] -= change;
    }
}

KERNEL axpby(REAL alpha, const REAL* x, REAL beta, REAL* y, long long size)
{
    FOR_GRID(i, size) y[i] = beta == REAL(0) ? alpha * x[i] : alpha * x[i] + beta * y[i];
}

// The sum over the blocks of rows of all processes, along the tree of collectives/tree.py. Process p has the sums of
// the blocks from p * each to (p + 1) * each, added up as far as that tree goes: nodes of 1, 2, 4, ... blocks, which
// begin at a multiple of their number, each in a row of its own, from row p * most on. A node that is the right half
// of a larger one is added to the left half; what is left at the end is added from the right.
KERNEL sum_nodes(
    const REAL* rows, REAL* out, int processes, int each, int most, long long stride, long long size)
{
    FOR_GRID(i, size) {
        REAL waiting[64];
        int blocks_of[64];
        int depth = 0;
        for (int process = 0; process < processes; process++) {
            const int end = (process + 1) * each;
            long long row = (long long)process * most;
            for (int first = process * each; first < end; row++) {
                int blocks = 1;
                while (first % (2 * blocks) == 0 && first + 2 * blocks <= end) blocks *= 2;
                REAL value = rows[row * stride + i];
                const int after = first + blocks;
                int begin = first;
                while (depth > 0 && blocks_of[depth - 1] == blocks && (begin - blocks) % (2 * blocks) == 0) {
                    value = waiting[--depth] + value;
                    begin -= blocks;
                    blocks *= 2;
                }
                waiting[depth] = value;
                blocks_of[depth++] = blocks;
                first = after;
            }
        }
        REAL total = waiting[--depth];
        while (depth > 0) total = waiting[--depth] + total;
        out[i] = total;
    }
}

KERNEL clip_values(REAL* x, REAL limit, long long size)
{
    FOR_GRID(i, size) {
        const REAL value = x[i];
        x[i] = value > limit ? limit : value < -limit ? -limit : value;
    }
}

// The norm of x is the root of the sum of the numbers in partial, which every block adds up by itself.
KERNEL clip_norm(REAL* x, const double* partial, double* norm, double limit, long long parts, long long size)
{
    const double found = sqrt(ordered_sum(partial, parts));
    if (blockIdx.x == 0 && threadIdx.x == 0) *norm = found;
    const double factor = limit / (found + 1e-6);
    if (factor >= 1) return;  // NaN is not
    FOR_GRID(i, size) x[i] *= (REAL)factor;
}

KERNEL update_average(
    REAL* average, const REAL* x, REAL fresh, const long long* number_at, long long number, long long first,
    long long size)
{
    const bool copies = (number_at ? *number_at : number) <= first;
    FOR_GRID(i, size) average[i] = copies ? x[i] : average[i] + fresh * (x[i] - average[i]);
}

KERNEL add_penalty(const REAL* gradient, const REAL* weights, REAL l1, REAL l2, REAL* out, long long size)
{
    FOR_GRID(i, size) {
        const REAL w = weights[i];
        REAL g = gradient[i];
        if (l2 != 0) g += l2 * w;
        if (l1 != 0) g += l1 * (w > 0 ? REAL(1) : w < 0 ? REAL(-1) : w);  // w is 0 or NaN there
        out[i] = g;
    }
}

// Each block sums its elements into partial[blockIdx.x]; one block sums those.
KERNEL partial_squares(const REAL* x, double* partial, long long size)
{
    double sum = 0;
    FOR_GRID(i, size) sum += (double)x[i] * (double)x[i];
    sum = block_sum_double(sum);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

KERNEL partial_nonfinite(const REAL* x, double* partial, long long size)
{
    double sum = 0;
    FOR_GRID(i, size) if (!isfinite(x[i])) sum += 1;
    sum = block_sum_double(sum);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

KERNEL sum_of_partial(const double* partial, double* out, long long size)
{
    double sum = 0;
    FOR_BLOCK(i, size) sum += partial[i];
    sum = block_sum_double(sum);
    if (threadIdx.x == 0) *out = sum;
}

KERNEL none_of_partial(const double* partial, bool* out, long long size)
{
    double sum = 0;
    FOR_BLOCK(i, size) sum += partial[i];
    sum = block_sum_double(sum);
    if (threadIdx.x == 0) *out = sum == 0;
}

KERNEL dropout_mask(
    REAL* out, unsigned int key_0, unsigned int key_1, const long long* step_at, long long step,
    unsigned int threshold, REAL kept, long long size)
{
    const Word now = hash32((Word)(step_at ? *step_at : step) + key_1);
    FOR_GRID(i, size) out[i] = hash32(hash32((Word)i + key_0) ^ now) >= threshold ? kept : REAL(0);
}

// The numbers of `size` steps on `count` rows each, one after the other, of which the first has the given ones; each
// its own learning rate, where those are given.
KERNEL set_numbers(
    long long* start, long long* step, long long* update, REAL* learning_rate, const REAL* learning_rates,
    long long new_start, long long new_step, long long new_update, REAL new_learning_rate,
    long long count, long long size)
{
    FOR_GRID(i, size) {
        start[i] = new_start + i * count;
        step[i] = new_step + i;
        update[i] = new_update + i;
        learning_rate[i] = learning_rates ? learning_rates[i] : new_learning_rate;
    }
}

// Those numbers after `steps` steps on `rows` rows in all.
KERNEL advance_numbers(
    long long* start, long long* step, long long* update, long long rows, long long steps, long long size)
{
    FOR_GRID(i, size) {
        start[i] += rows;
        step[i] += steps;
        update[i] += steps;
    }
}
"""

#: Updates that share their learning rate, in one launch: the first ``end_1`` elements are those of update 1, and so on.
_SGD_UPDATES = r"""
KERNEL sgd_updates_@COUNT@(
    const REAL* learning_rate_at, REAL learning_rate,
@PARAMETERS@,
    long long size)
{
    const REAL rate = learning_rate_at ? *learning_rate_at : learning_rate;
    FOR_GRID(i, size) {
@UPDATES@
    }
}
"""

#: Gradients of weights and the update of all parameters, in two sections, of which the second may be empty. Product k
#: is to_k = alpha_k rows_k^T slopes_k + beta_k to_k, which lies where the elements from at_k on have their gradients.
_GRADIENTS_AND_UPDATE = r"""
KERNEL gradients_and_update_@COUNT@(
@PRODUCTS@,
    const REAL* learning_rate_at, REAL learning_rate,
@SECTIONS@,
    long long m, long long size)
{
    __shared__ REAL taken[GROUP_ROWS * GROUP_HEIGHT];
    __shared__ REAL part[GROUP_PARTS * GROUP_HEIGHT * GROUP_WIDTH];
    const REAL rate = learning_rate_at ? *learning_rate_at : learning_rate;
    const int share = ((int)m + GROUP_PARTS - 1) / GROUP_PARTS;
    for (Index tile = blockIdx.x; tile < tiles_@COUNT@; tile += gridDim.x) {
        @CHOICE@
        const Index across = (width + GROUP_WIDTH - 1) / GROUP_WIDTH;
        const Index top = tile_here / across * GROUP_HEIGHT, left = tile_here % across * GROUP_WIDTH;
        FOR_BLOCK(i, (int)m * GROUP_HEIGHT) {
            const int row = (int)i / GROUP_HEIGHT, f = (int)i % GROUP_HEIGHT;
            taken[i] = top + f < height ? rows[row * height + top + f] : REAL(0);
        }
        __syncthreads();
        // A thread has 4 x 4 elements, and of each the part of the sum over its share of the rows.
        FOR_BLOCK(t, GROUP_PARTS * (GROUP_HEIGHT / 4) * (GROUP_WIDTH / 4)) {
            const int c = (int)t % (GROUP_WIDTH / 4);
            const int f = (int)t / (GROUP_WIDTH / 4) % (GROUP_HEIGHT / 4) * 4;
            const int p = (int)t / (GROUP_WIDTH / 4 * GROUP_HEIGHT / 4);
            const int end = (p + 1) * share < (int)m ? (p + 1) * share : (int)m;
            REAL sum[4][4] = {};
            for (int row = p * share; row < end; ++row) {
                REAL slope[4];
                for (int j = 0; j < 4; ++j) {
                    const Index column = left + c + j * (GROUP_WIDTH / 4);
                    slope[j] = column < width ? slopes[row * width + column] : REAL(0);
                }
                for (int i = 0; i < 4; ++i)
                    for (int j = 0; j < 4; ++j)
                        sum[i][j] = fma(taken[row * GROUP_HEIGHT + f + i], slope[j], sum[i][j]);
            }
            for (int i = 0; i < 4; ++i)
                for (int j = 0; j < 4; ++j)
                    part[(p * GROUP_HEIGHT + f + i) * GROUP_WIDTH + c + j * (GROUP_WIDTH / 4)] = sum[i][j];
        }
        __syncthreads();
        FOR_BLOCK(e, GROUP_HEIGHT * GROUP_WIDTH) {
            const Index row = top + (int)e / GROUP_WIDTH, column = left + (int)e % GROUP_WIDTH;
            if (row < height && column < width) {
                REAL sum = part[e];
                for (int p = 1; p < GROUP_PARTS; ++p) sum += part[p * GROUP_HEIGHT * GROUP_WIDTH + e];
                const Index at = row * width + column;
                to[at] = beta == REAL(0) ? alpha * sum : alpha * sum + beta * to[at];
                const Index i = first + at;
                @UPDATE@
            }
        }
        __syncthreads();
    }
    // All other elements: the last blocks first, which may have no tile.
    for (Index j = (Index)(gridDim.x - 1 - blockIdx.x) * blockDim.x + threadIdx.x; j < size;
         j += (Index)gridDim.x * blockDim.x) {
        Index i = j;
        @SKIPPED@
        @UPDATE@
    }
}
"""

_RULE = r"""
KERNEL @NAME@(
    REAL* params, const REAL* gradients, @STATE@const long long* number_at, long long number_given,
    const REAL* learning_rate_at, REAL learning_rate, @SETTINGS@REAL weight_decay, long long n_decayed, long long size)
{
    const double number = number_at ? *number_at : number_given;
    (void)number;
    const REAL rate = learning_rate_at ? *learning_rate_at : learning_rate;
    FOR_GRID(i, size) {
        const REAL gradient = gradients[i];
        REAL direction = gradient;
        @LOAD@
        { @STATEMENTS@ }
        @STORE@
        REAL change = rate * direction;
        if (i < n_decayed) change += rate * weight_decay * params[i];
        params[i] -= change;
    }
}
"""

_TAKE_ROWS = r"""
KERNEL take_rows_@KIND@(
    const @SOURCE@* rows, const long long* order, const long long* start_at, long long start, REAL scale, REAL shift,
    @RESULT@* out, long long positions, long long n, long long width, long long size)
{
    const Index first = start_at ? *start_at : start;
    FOR_GRID(i, size) {
        const Index row = divide(i, width);
        const Index from = row_of_batch(order, first, positions, n, row);
        const @SOURCE@ value = rows[from * width + (i - row * width)];
        out[i] = @EXPRESSION@;
    }
}
"""


def source(real: str) -> str:
    """The CUDA text with ``REAL`` as ``"float"`` or ``"double"``, and with the activations known by now."""
    activations = [_activation(a, a.name) for a in ACTIVATIONS.values() if a.has_cuda]
    parts = [head(real), DIVIDE, _BATCH, _TREES, *activations, _ROWS, _NORMALIZE, fill(_LOSSES, **_OF_LOSSES)]
    for template, kernels in ((_SOFTMAX_LOSS, _SOFTMAX_LOSSES), (_ERROR_LOSS, _ERROR_LOSSES)):
        parts += [fill(template, **words, **_OF_LOSSES, NAME=name) for name, words in kernels.items()]
    parts += [HASH, _FLAT, _COLUMN_SUMS]
    for activation in ACTIVATIONS.values():
        if activation.has_cuda and activation.name not in WITHOUT_HEAD:
            parts.append(_head_of(activation.name, "head"))
            if activation.derivative is not None and not activation.needs_z:  # as `rules.whole_network` asks
                parts.append(_head_of(activation.name, "small"))
    parts += [_rule(rule, update_kernel(rule.name)) for rule in RULES.values() if rule.name in BUILT_IN and rule.cuda]
    parts += [_sgd_updates(count) for count in range(2, MOST_UPDATES + 1)]
    parts += [_gradients_and_update(count) for count in range(1, MOST_GRADIENTS + 1)]
    parts += [
        fill(_TAKE_ROWS, KIND=f"scaled_{kind}", SOURCE=c_type, RESULT="REAL", EXPRESSION="(REAL)value * scale + shift")
        for kind, c_type in SCALED.items()
    ]
    parts += [
        fill(_TAKE_ROWS, KIND=kind, SOURCE=c_type, RESULT=c_type, EXPRESSION="value")
        for kind, c_type in GATHERED.items()
    ]
    return "\n".join(parts)


def source_of(activation: Activation, name: str, real: str) -> str:
    """A CUDA text with the kernels of one activation only, under ``name``."""
    return f"{head(real)}\n{DIVIDE}\n{_activation(activation, name)}"


def source_of_rule(rule: Rule, name: str, real: str) -> str:
    """A CUDA text with the kernel of one rule of updating only, under ``name``."""
    return f"{head(real)}\n{_rule(rule, name)}"


def update_kernel(rule: str) -> str:
    """The kernel of a built-in rule of updating."""
    return f"{rule}_update"


def _rule(rule: Rule, name: str) -> str:
    """The kernel ``name`` of a rule of updating: its arrays, its settings in their order."""
    settings = [f"{'int' if isinstance(value, bool) else 'double'} {key}, " for key, value in rule.settings.items()]
    words = {
        "NAME": name,
        "STATE": "".join(f"REAL* {key}_of, " for key in rule.state),
        "SETTINGS": "".join(settings),
        "LOAD": " ".join(f"REAL {key} = {key}_of ? {key}_of[i] : REAL(0);" for key in rule.state),
        "STORE": " ".join(f"if ({key}_of) {key}_of[i] = {key};" for key in rule.state),
        "STATEMENTS": rule.cuda,
    }
    return fill(_RULE, **words)


def _head_of(activation: str, kind: str) -> str:
    return fill(_HEAD, **_HEADS[kind], **_OF_LOSSES, NAME=activation)


def _section(k: int) -> str:
    """The parameters of an update by SGD of a section of the parameters."""
    return (
        f"    REAL* params_{k}, const REAL* gradient_{k}, REAL* velocity_{k}, REAL momentum_{k}, REAL fresh_{k},\n"
        f"    int nesterov_{k}, REAL weight_decay_{k}, long long n_decayed_{k}, long long end_{k}"
    )


def _update_of_element(count: int) -> str:
    """The update of element i of so many sections."""
    updates = []
    for k in range(1, count + 1):
        before, within = (f" - end_{k - 1}" if k > 1 else ""), (f"if (i < end_{k}) " if k < count else "")
        updates.append(
            f"        {'else ' if k > 1 else ''}{within}sgd_element(\n"
            f"            params_{k}, gradient_{k}, velocity_{k}, rate, momentum_{k}, fresh_{k}, nesterov_{k},\n"
            f"            weight_decay_{k}, n_decayed_{k}, i{before});"
        )
    return "\n".join(updates)


def _sgd_updates(count: int) -> str:
    sections = ",\n".join(map(_section, range(1, count + 1)))
    return fill(_SGD_UPDATES, COUNT=str(count), PARAMETERS=sections, UPDATES=_update_of_element(count))


def _gradients_and_update(count: int) -> str:
    products, choices, skipped = [], [], []
    for k in range(1, count + 1):
        products.append(
            f"    const REAL* rows_{k}, const REAL* slopes_{k}, REAL* to_{k}, REAL alpha_{k}, REAL beta_{k},\n"
            f"    long long height_{k}, long long width_{k}, long long at_{k}, long long tiles_{k}"
        )
        skipped.append(f"if (i >= at_{k}) i += height_{k} * width_{k};")
    for kind, name in (
        ("const REAL*", "rows"), ("const REAL*", "slopes"), ("REAL*", "to"), ("const REAL", "alpha"),
        ("const REAL", "beta"), ("const Index", "height"), ("const Index", "width"), ("const Index", "at"),
    ):  # fmt: skip
        cases = "".join(f"tile < tiles_{k} ? {name}_{k} : " for k in range(1, count))
        choices.append(f"{kind} {'first' if name == 'at' else name} = {cases}{name}_{count};")
    before = "".join(f"tile < tiles_{k} ? {f'tiles_{k - 1}' if k > 1 else 'Index(0)'} : " for k in range(1, count))
    choices.append(f"const Index tile_here = tile - ({before}{f'tiles_{count - 1}' if count > 1 else 'Index(0)'});")
    return fill(
        _GRADIENTS_AND_UPDATE,
        COUNT=str(count),
        PRODUCTS=",\n".join(products),
        SECTIONS=",\n".join(map(_section, (1, 2))),
        CHOICE="\n        ".join(choices),
        SKIPPED="\n        ".join(skipped),
        UPDATE=_update_of_element(2),
    )


def _activation(activation: Activation, name: str) -> str:
    words = {"DERIVATIVE": activation.cuda_derivative, "SAVED": "z" if activation.needs_z else "y"}
    return forward_function(activation, name) + fill(_ACTIVATION, NAME=name, **words)


def forward_function(activation: Activation, name: str) -> str:
    """The function ``forward_NAME`` of a CUDA text."""
    return fill(_FORWARD, NAME=name, FORWARD=activation.cuda_forward)


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
