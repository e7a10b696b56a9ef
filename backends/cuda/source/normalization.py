"""Kernels of normalization, of rows and of columns."""

from __future__ import annotations

NORMALIZE = r"""
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
