"""Kernels of activations, and of rows: softmax, argmax, the rows of a batch."""

from __future__ import annotations

from ...activations import Activation
from .sizes import GATHERED, SCALED
from .text import fill

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

ROWS = r"""
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


def activation_kernels(activation: Activation, name: str) -> str:
    words = {"DERIVATIVE": activation.cuda_derivative, "SAVED": "z" if activation.needs_z else "y"}
    return forward_function(activation, name) + fill(_ACTIVATION, NAME=name, **words)


def forward_function(activation: Activation, name: str) -> str:
    """The function ``forward_NAME`` of a CUDA text."""
    return fill(_FORWARD, NAME=name, FORWARD=activation.cuda_forward)


def take_rows_kernels() -> list[str]:
    """The kernels that gather rows: scaled ones, and those that stay as they are."""
    return [
        fill(_TAKE_ROWS, KIND=f"scaled_{kind}", SOURCE=c_type, RESULT="REAL", EXPRESSION="(REAL)value * scale + shift")
        for kind, c_type in SCALED.items()
    ] + [
        fill(_TAKE_ROWS, KIND=kind, SOURCE=c_type, RESULT=c_type, EXPRESSION="value")
        for kind, c_type in GATHERED.items()
    ]
