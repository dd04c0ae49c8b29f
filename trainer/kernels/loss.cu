// MultipleNegativesRankingLoss under MatryoshkaLoss, tile by tile, in f32 (PARITY.md has the formulas). Widths are in ascending order; the Gram matrix of
// a width is that of the width below plus the product of the columns between, which the host has made.
//
//   logit_ij = scale n(q_i) n(D_j) <q_i, D_j>      w_ij = coefficient (exp(logit_ij - lse_i) - [j is i's own])
//   dq_i = sum_j w_ij n(q_i) n(D_j) D_j - n(q_i)^2 q_i sum_j w_ij cos_ij       (and dD_j likewise)
#include "device.cuh"

#define LEAST_NORM 1e-12f

// inverse[width][row] = 1 / max(|x[row][..width]|, 1e-12); a warp a row
KERNEL prefix_norms(float* inverse, const float* x, const u32* widths, u32 num_widths, u32 n, u32 h) {
    u32 lane = threadIdx.x % WARP, row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (row >= n) return;
    float squares = 0.0f;
    u32 feature = lane;
    for (u32 width = 0; width < num_widths; width++) {
        for (; feature < widths[width]; feature += WARP) squares += x[u64(row) * h + feature] * x[u64(row) * h + feature];
        float norm = sqrtf(warp_sum(squares));
        if (lane == 0u) inverse[u64(width) * n + row] = 1.0f / fmaxf(norm, LEAST_NORM);
    }
}

// to[i] = from[i]
KERNEL copy_vector(float* to, const float* from, u32 len) {
    for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < len; i += gridDim.x * blockDim.x) to[i] = from[i];
}

// A tile of one width: rows of anchors against columns of candidates.
struct Tile {
    const float* gram;             // [rows, columns]
    const float* row_inverse;      // of the tile's first row
    const float* column_inverse;   // of its first column
    float scale;
    u32 rows, columns;
    u32 first_own;                 // the column that the first row owns, which may lie outside
    u32 first_column;
};

__device__ __forceinline__ float logit(Tile tile, u32 row, u32 column) {
    return tile.gram[u64(row) * tile.columns + column] * tile.column_inverse[column] * (tile.scale * tile.row_inverse[row]);
}

__device__ __forceinline__ bool owns(Tile tile, u32 row, u32 column) { return tile.first_column + column == tile.first_own + row; }

__device__ __forceinline__ float block_reduce(float x, bool greatest, float* shared) {
    for (u32 distance = WARP / 2u; distance > 0u; distance /= 2u) {
        float other = __shfl_xor_sync(ALL_LANES, x, distance);
        x = greatest ? fmaxf(x, other) : x + other;
    }
    if (threadIdx.x % WARP == 0u) shared[threadIdx.x / WARP] = x;
    __syncthreads();
    x = shared[0];
    for (u32 warp = 1u; warp < blockDim.x / WARP; warp++) x = greatest ? fmaxf(x, shared[warp]) : x + shared[warp];
    __syncthreads();
    return x;
}

// What is known of a row so far; `own` is its own candidate's logit.
struct RowSum {
    float greatest, sum, own;
};

// Merges a tile's logits into the rows' sums; a block a row. `first` says that there was no tile before. A NaN among them makes the sum one.
KERNEL row_sums(RowSum* sums, Tile tile, u32 first) {
    DYNAMIC_SHARED(float, shared);
    u32 row = blockIdx.x;
    float greatest = -INFINITY, sum = 0.0f;
    for (u32 column = threadIdx.x; column < tile.columns; column += blockDim.x) {
        float x = logit(tile, row, column);
        if (owns(tile, row, column)) sums[row].own = x;
        greatest = fmaxf(greatest, x);
    }
    greatest = block_reduce(greatest, true, shared);
    float before = first ? -INFINITY : sums[row].greatest;
    float now = fmaxf(before, greatest);
    for (u32 column = threadIdx.x; column < tile.columns; column += blockDim.x) sum += expf(logit(tile, row, column) - now);
    sum = block_reduce(sum, false, shared);
    if (threadIdx.x == 0u) {
        sums[row].sum = (first ? 0.0f : sums[row].sum * expf(before - now)) + sum;
        sums[row].greatest = now;
    }
}

// loss += factor times the sum over the rows of log-sum-exp less own logit; one block
KERNEL add_loss(float* loss, const RowSum* sums, u32 n, float factor) {
    DYNAMIC_SHARED(float, shared);
    float sum = 0.0f;
    for (u32 row = threadIdx.x; row < n; row += blockDim.x) sum += (sums[row].greatest - sums[row].own) + logf(sums[row].sum);
    sum = block_reduce(sum, false, shared);
    if (threadIdx.x == 0u) *loss += factor * sum;
}

// w_ij; the own entry's p - 1 is taken apart where p is near 1
__device__ __forceinline__ float weight(Tile tile, RowSum sum, u32 row, u32 column, float coefficient) {
    float x = logit(tile, row, column) - sum.greatest;
    if (owns(tile, row, column)) return coefficient * expm1f(x - logf(sum.sum));
    return coefficient * expf(x) / sum.sum;
}

// coefficients (+)= w_ij n(q_i) n(D_j), and the rows' radial sums += sum_j w_ij cos_ij; a block a row
KERNEL coefficients(float* coefficients, float* row_radials, const RowSum* sums, Tile tile, float coefficient, u32 first) {
    DYNAMIC_SHARED(float, shared);
    u32 row = blockIdx.x;
    RowSum sum = sums[row];
    float radial = 0.0f;
    for (u32 column = threadIdx.x; column < tile.columns; column += blockDim.x) {
        u64 at = u64(row) * tile.columns + column;
        float w = weight(tile, sum, row, column, coefficient) * tile.row_inverse[row] * tile.column_inverse[column];
        coefficients[at] = (first ? 0.0f : coefficients[at]) + w;
        radial += w * tile.gram[at];
    }
    radial = block_reduce(radial, false, shared);
    if (threadIdx.x == 0u) row_radials[row] += radial;
}

// partials[block y][column] = sum_i w_ij cos_ij over the block's rows, RADIAL_ROWS of them; a thread a column
#define RADIAL_ROWS 64u
KERNEL column_radials(float* partials, const RowSum* sums, Tile tile, float coefficient) {
    u32 column = blockIdx.x * blockDim.x + threadIdx.x, begin = blockIdx.y * RADIAL_ROWS;
    if (column >= tile.columns) return;
    u32 end = begin + RADIAL_ROWS < tile.rows ? begin + RADIAL_ROWS : tile.rows;
    float radial = 0.0f;
    for (u32 row = begin; row < end; row++) {
        float w = weight(tile, sums[row], row, column, coefficient) * tile.row_inverse[row] * tile.column_inverse[column];
        radial += w * tile.gram[u64(row) * tile.columns + column];
    }
    partials[u64(blockIdx.y) * tile.columns + column] = radial;
}

// d[row][feature] -= x[row][feature] times the sum, over the widths that have the feature, of n^2 radial; a block a row
KERNEL subtract_radials(float* d, const float* x, const float* inverse, const float* radials, const u32* widths, u32 num_widths, u32 n, u32 h) {
    u32 row = blockIdx.x;
    for (u32 feature = threadIdx.x; feature < h; feature += blockDim.x) {
        float factor = 0.0f;
        for (u32 width = 0; width < num_widths; width++) {
            u64 at = u64(width) * n + row;
            // where the least norm stood in for the norm, the norm did not move
            bool moves = inverse[at] < 1.0f / LEAST_NORM;
            if (feature < widths[width] && moves) factor += inverse[at] * inverse[at] * radials[at];
        }
        d[u64(row) * h + feature] -= x[u64(row) * h + feature] * factor;
    }
}
