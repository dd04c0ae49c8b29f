// What attention's products are made of: fragments of operands spread over a warp, and tiles of rows in shared memory.
//
// A fragment is spread as the instruction wants it: thread `lane` = 4 g + t has rows g and g + 8 and the columns 2 t and 2 t + 1 of every
// eight.
#pragma once
#include "attention.cuh"

struct Fragment {
    u32 x[4];
};

__device__ __forceinline__ bf16x2 load_pair(Rows rows, u32 row, u32 num_rows, u32 feature) {
    if (row >= num_rows) return 0u;
    bf16x2 pair = *reinterpret_cast<const bf16x2*>(rows.from + u64(row) * rows.stride + feature);
    if (rows.bias == nullptr) return pair;
    return narrow2(low(pair) + rows.bias[feature], high(pair) + rows.bias[feature + 1]);
}

// A warp's 16 rows as left operands: one fragment for 16 features.
template <u32 D>
__device__ __forceinline__ void load_left(Fragment* to, Rows rows, u32 first, u32 num_rows, u32 lane) {
    u32 g = lane / 4u, t = lane % 4u;
#pragma unroll
    for (u32 k = 0; k < D / 16u; k++) {
        to[k].x[0] = load_pair(rows, first + g, num_rows, 16u * k + 2u * t);
        to[k].x[1] = load_pair(rows, first + g + 8u, num_rows, 16u * k + 2u * t);
        to[k].x[2] = load_pair(rows, first + g, num_rows, 16u * k + 2u * t + 8u);
        to[k].x[3] = load_pair(rows, first + g + 8u, num_rows, 16u * k + 2u * t + 8u);
    }
}

// Begins to copy a tile of rows to [TILE, D + 8]: eight more, so that the rows of a matrix fall on different banks. Rows beyond the last are zero.
template <u32 D>
__device__ __forceinline__ void begin_tile(u16* tile, Rows rows, u32 first, u32 num_rows) {
    u32 feature = threadIdx.x % (D / 8u) * 8u;
#pragma unroll
    for (u32 row = threadIdx.x / (D / 8u); row < TILE; row += BLOCK / (D / 8u)) {
        bool inside = first + row < num_rows;
        begin_copy(tile + row * (D + 8u) + feature, rows.from + u64(inside ? first + row : 0u) * rows.stride + feature, inside);
    }
}

// sums[n] += left * the transpose of rows 8 n .. 8 n + 8 of the tile; K features.
template <u32 N, u32 K>
__device__ __forceinline__ void product(float (*sums)[4], const Fragment* left, const u16* tile, u32 lane) {
    const u16* at = tile + (lane / 16u * 8u + lane % 8u) * (K + 8u) + lane / 8u % 2u * 8u;
#pragma unroll
    for (u32 n = 0; n < N; n += 2u) {
#pragma unroll
        for (u32 k = 0; k < K / 16u; k++) {
            u32 right[4];
            load_matrices(right, at + 8u * n * (K + 8u) + 16u * k);
            mma_m16n8k16(sums[n], left[k].x, right[0], right[1]);
            mma_m16n8k16(sums[n + 1u], left[k].x, right[2], right[3]);
        }
    }
}

// sums[n] += left * columns 8 n .. 8 n + 8 of K rows of the tile; D features.
template <u32 K, u32 D>
__device__ __forceinline__ void product_by_columns(float (*sums)[4], const Fragment* left, const u16* tile, u32 lane) {
    const u16* at = tile + (lane / 8u % 2u * 8u + lane % 8u) * (D + 8u) + lane / 16u * 8u;
#pragma unroll
    for (u32 k = 0; k < K / 16u; k++) {
#pragma unroll
        for (u32 n = 0; n < D / 8u; n += 2u) {
            u32 right[4];
            load_matrices_turned(right, at + 16u * k * (D + 8u) + 8u * n);
            mma_m16n8k16(sums[n], left[k].x, right[0], right[1]);
            mma_m16n8k16(sums[n + 1u], left[k].x, right[2], right[3]);
        }
    }
}

// 16 rows of sums over COLUMNS columns as left operands of the next product.
template <u32 COLUMNS>
__device__ __forceinline__ void as_left(Fragment* to, float (*sums)[4]) {
#pragma unroll
    for (u32 k = 0; k < COLUMNS / 16u; k++) {
        to[k].x[0] = narrow2(sums[2 * k][0], sums[2 * k][1]);
        to[k].x[1] = narrow2(sums[2 * k][2], sums[2 * k][3]);
        to[k].x[2] = narrow2(sums[2 * k + 1][0], sums[2 * k + 1][1]);
        to[k].x[3] = narrow2(sums[2 * k + 1][2], sums[2 * k + 1][3]);
    }
}

// The four threads that share rows.
__device__ __forceinline__ float quad_sum(float x) {
    x += __shfl_xor_sync(ALL_LANES, x, 1u);
    return x + __shfl_xor_sync(ALL_LANES, x, 2u);
}

__device__ __forceinline__ float quad_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 1u));
    return fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 2u));
}
