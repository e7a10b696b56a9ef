"""Kernels of flat buffers: sums, clipping, averages, penalties, masks; and of the numbers of a step."""

from __future__ import annotations

BUFFERS = r"""
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
"""

NUMBERS = r"""
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
