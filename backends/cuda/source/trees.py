"""Sums and maxima of the threads of a block, in a fixed order."""

from __future__ import annotations

TREES = r"""
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

COLUMN_SUMS = r"""
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
