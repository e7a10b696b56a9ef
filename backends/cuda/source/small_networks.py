"""Kernels of networks of few classes: the end of one, and the whole of one with a single small hidden layer."""

from __future__ import annotations

from ...activations import ACTIVATIONS
from .losses import OF_LOSSES
from .sizes import WITHOUT_HEAD
from .text import fill

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
    const Index own = (Index)blockIdx.x * HEAD_ROWS;
    for (Index first = own; first < m; first += (Index)gridDim.x * HEAD_ROWS) {
        const int rows_here = first + HEAD_ROWS < m ? HEAD_ROWS : (int)(m - first);
        FOR_BLOCK(r, rows_here) {
            const Index row = first + r;
            label[r] = targets[gathered ? @TAKEN@ : row];
        }
@GATHER@        wait_for_launch_before();
        if (first == own) FOR_BLOCK(i, width * columns) whole[i] = matrix[i];
        if (gathered) FOR_BLOCK(r, rows_here) gathered[first + r] = label[r];
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
    wait_for_launch_before();  // of a block without rows
    if (!is_last_block(ticket)) return;
    sum_rows(rows, totals, accumulate, m);
    if (d_sums) ordered_column_sums(d, d_sums, m, n);
    if (dx_sums) ordered_column_sums(dx, dx_sums, m, k);
}
"""

#: What they read before ``wait_for_launch_before``, by the beginning of a kernel's name.
EARLY = {
    "head_": ("targets", "order", "start_at"),
    "small_": ("targets", "order", "start_at", "pixels", "input_order", "input_start_at"),
}

#: What differs between the end of a network and the whole of one with a single hidden layer.
_HEADS = {
    "head": {
        "KIND": "head",
        "COMMENT": "// Here the x are given.",
        "INPUT": "const REAL* x",
        "SAVED": "const REAL* saved, ",
        "MEMORY": "    __shared__ REAL whole[HEAD_MATRIX];\n    __shared__ REAL taken[HEAD_TAKEN];",
        "GATHER": "",
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
        "GATHER": """        const Index input_first = input_start_at ? *input_start_at : input_start;
        FOR_BLOCK(i, rows_here * (int)inputs) {
            const int r = (int)i / (int)inputs, column = (int)i % (int)inputs;
            const Index from = row_of_batch(input_order, input_first, input_positions, input_sources, first + r);
            row_of[i] = (REAL)pixels[from * inputs + column] * input_scale + input_shift;
        }
""",
        "FILL": """        FOR_BLOCK(i, rows_here * (int)inputs) input[first * inputs + i] = row_of[i];
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


def head_kernels() -> list[str]:
    """The kernels of all activations known by now that have some."""
    kernels = []
    for activation in ACTIVATIONS.values():
        if activation.has_cuda and activation.name not in WITHOUT_HEAD:
            kernels.append(_head_of(activation.name, "head"))
            if activation.derivative is not None and not activation.needs_z:  # as `rules.whole_network` asks
                kernels.append(_head_of(activation.name, "small"))
    return kernels


def _head_of(activation: str, kind: str) -> str:
    return fill(_HEAD, **_HEADS[kind], **OF_LOSSES, NAME=activation)
