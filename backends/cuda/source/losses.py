"""Kernels of losses with their gradients."""

from __future__ import annotations

from .text import fill

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

#: Parameters that the losses have in common, before and after the targets; ``@TAKEN@`` is the row of a target.
OF_LOSSES = {
    "OUTPUTS": "const REAL* z, const REAL* bias, REAL* biased",
    "PLACES": "const long long* order, const long long* start_at, long long start, long long positions,\n"
    "    long long sources, const REAL* weights, REAL* losses, double* rows",
    "TOTALS": "REAL* out, REAL scale,\n"
    "    unsigned int* ticket, double* totals, int accumulate, long long m, long long n",
    "TAKEN": "row_of_batch(order, start_at ? *start_at : start, positions, sources, row)",
}

#: The losses of differences.
ERRORS = tuple(_ERROR_LOSSES)


def loss_kernels() -> list[str]:
    """The kernels of all losses, the functions that they have in common first."""
    kernels = [fill(_LOSSES, **OF_LOSSES)]
    for template, losses in ((_SOFTMAX_LOSS, _SOFTMAX_LOSSES), (_ERROR_LOSS, _ERROR_LOSSES)):
        kernels += [fill(template, **words, **OF_LOSSES, NAME=name) for name, words in losses.items()]
    return kernels
