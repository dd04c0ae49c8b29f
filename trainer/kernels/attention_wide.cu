// Self-attention inside each sequence of a packed batch, forward and backward, in f32, tile by tile as in attention.cu and without tensor cores. A block has 64 queries
// (or keys) of one head of one sequence; two threads share one, each with half of its features.
#ifndef WIDE_VALUES
#define WIDE_VALUES
#endif
#include "attention.cuh"

// Scores that are made before the sums are scaled anew.
#define CHUNK 8u

struct __align__(16) Four {
    float x[4];
};

// The row of the block's 64 that this thread has a half of. Fours of features are shared out in turn, so that the two read neighbours.
struct Half {
    u32 row, first;
};

__device__ __forceinline__ Half my_half() {
    Half out = {threadIdx.x / 2u, threadIdx.x % 2u * 4u};
    return out;
}

// The two threads that share a row.
__device__ __forceinline__ float pair_sum(float x) { return x + __shfl_xor_sync(ALL_LANES, x, 1u); }

// Half a row with its bias; zeros beyond the last row.
template <u32 D>
__device__ __forceinline__ void load_half(float* to, Rows rows, u32 row, u32 num_rows, Half half) {
#pragma unroll
    for (u32 c = 0; c < D / 8u; c++) {
        u32 feature = 8u * c + half.first;
        Four four = {};
        if (row < num_rows) four = *reinterpret_cast<const Four*>(rows.from + u64(row) * rows.stride + feature);
#pragma unroll
        for (u32 i = 0; i < 4u; i++) to[4u * c + i] = four.x[i] + (rows.bias == nullptr ? 0.0f : rows.bias[feature + i]);
    }
}

template <u32 D>
__device__ __forceinline__ void store_half(float* to, const float* from, float factor, Half half) {
#pragma unroll
    for (u32 c = 0; c < D / 8u; c++) {
        Four four;
#pragma unroll
        for (u32 i = 0; i < 4u; i++) four.x[i] = from[4u * c + i] * factor;
        *reinterpret_cast<Four*>(to + 8u * c + half.first) = four;
    }
}

// A tile of rows with their biases in shared memory, [TILE, D]; rows beyond the last are not written.
template <u32 D>
__device__ __forceinline__ void load_tile(float* tile, Rows rows, u32 first, u32 num_rows) {
    u32 feature = threadIdx.x % (D / 4u) * 4u;
    for (u32 row = threadIdx.x / (D / 4u); row < TILE && first + row < num_rows; row += BLOCK / (D / 4u)) {
        Four four = *reinterpret_cast<const Four*>(rows.from + u64(first + row) * rows.stride + feature);
#pragma unroll
        for (u32 i = 0; i < 4u; i++) four.x[i] += rows.bias == nullptr ? 0.0f : rows.bias[feature + i];
        *reinterpret_cast<Four*>(tile + row * D + feature) = four;
    }
}

// The product of a row, whose halves two threads have, with a row of a tile.
template <u32 D>
__device__ __forceinline__ float dot_row(const float* mine, const float* row, Half half) {
    float sum = 0.0f;
#pragma unroll
    for (u32 c = 0; c < D / 8u; c++) {
        Four four = *reinterpret_cast<const Four*>(row + 8u * c + half.first);
#pragma unroll
        for (u32 i = 0; i < 4u; i++) sum += mine[4u * c + i] * four.x[i];
    }
    return pair_sum(sum);
}

// sums += factor times a row of a tile.
template <u32 D>
__device__ __forceinline__ void add_row(float* sums, float factor, const float* row, Half half) {
#pragma unroll
    for (u32 c = 0; c < D / 8u; c++) {
        Four four = *reinterpret_cast<const Four*>(row + 8u * c + half.first);
#pragma unroll
        for (u32 i = 0; i < 4u; i++) sums[4u * c + i] += factor * four.x[i];
    }
}

__device__ __forceinline__ bool bit_of(Kept bits, u32 key) { return (key < 32u ? bits.low >> key : bits.high >> (key - 32u)) & 1u; }

// context = dropout(softmax(Q K^T scale)) V, and the log-sum-exp of each row of scores
template <u32 D>
__device__ __forceinline__ void forward(float* context, float* log_sums, Projected<D> projected, Batch batch, Mask mask) {
    __shared__ __align__(16) float keys[TILE * D];
    __shared__ __align__(16) float values[TILE * D];
    Place place = place_of(batch);
    if (place.first >= place.len) return;
    Half half = my_half();
    u32 query = place.first + half.row;
    float queries[D / 2u], out[D / 2u] = {}, greatest = -INFINITY, total = 0.0f;
    load_half<D>(queries, projected.rows(0, place, batch.heads), query, place.len, half);
    float scale = batch.scale * LOG2E, keep = mask.scale == 0.0f ? 1.0f : mask.scale;
    for (u32 tile = 0; tile < place.len; tile += TILE) {
        __syncthreads();
        load_tile<D>(keys, projected.rows(1, place, batch.heads), tile, place.len);
        load_tile<D>(values, projected.rows(2, place, batch.heads), tile, place.len);
        __syncthreads();
        Kept bits = kept(mask, blockIdx.x, place.head, place.len, query, tile);
#pragma unroll 1
        for (u32 first = 0; first < TILE && tile + first < place.len; first += CHUNK) {
            float scores[CHUNK], now = greatest;
#pragma unroll
            for (u32 c = 0; c < CHUNK; c++) {
                scores[c] = -INFINITY;
                if (tile + first + c < place.len) scores[c] = dot_row<D>(queries, keys + (first + c) * D, half) * scale;
                now = fmaxf(now, scores[c]);
            }
            float shrink = exp2f(greatest - now);
            greatest = now;
            total *= shrink;
#pragma unroll
            for (u32 i = 0; i < D / 2u; i++) out[i] *= shrink;
#pragma unroll
            for (u32 c = 0; c < CHUNK; c++) {
                if (tile + first + c >= place.len) break;
                float p = exp2f(scores[c] - greatest);
                total += p;
                add_row<D>(out, bit_of(bits, first + c) ? p : 0.0f, values + (first + c) * D, half);
            }
        }
    }
    if (query >= place.len) return;
    store_half<D>(context + u64(place.start + query) * batch.heads * D + place.head * D, out, keep / total, half);
    if (half.first == 0u) log_sums[u64(place.head) * batch.n + place.start + query] = (greatest + log2f(total)) / LOG2E;
}

// The gradient of 64 queries: dS = P (mask dP - delta), dQ = dS K scale; and the deltas, which the keys' gradient reads
template <u32 D>
__device__ __forceinline__ void backward_queries(float* d_qkv, Projected<D> projected, Saved saved, Batch batch, Mask mask) {
    __shared__ __align__(16) float keys[TILE * D];
    __shared__ __align__(16) float values[TILE * D];
    Place place = place_of(batch);
    if (place.first >= place.len) return;
    Half half = my_half();
    u32 query = place.first + half.row;
    float queries[D / 2u], d_out[D / 2u], sums[D / 2u] = {}, delta = 0.0f;
    // in the place of the queries, for a while
    load_half<D>(queries, context_rows<D>(saved.context, place, batch.heads), query, place.len, half);
    load_half<D>(d_out, context_rows<D>(saved.d_context, place, batch.heads), query, place.len, half);
#pragma unroll
    for (u32 i = 0; i < D / 2u; i++) delta += queries[i] * d_out[i];
    delta = pair_sum(delta);
    load_half<D>(queries, projected.rows(0, place, batch.heads), query, place.len, half);
    u64 at = u64(place.head) * batch.n + place.start + query;
    float log_sum = query < place.len ? saved.log_sums[at] * LOG2E : INFINITY;
    if (half.first == 0u && query < place.len) saved.deltas[at] = delta;
    float scale = batch.scale * LOG2E, keep = mask.scale == 0.0f ? 1.0f : mask.scale;
    for (u32 tile = 0; tile < place.len; tile += TILE) {
        __syncthreads();
        load_tile<D>(keys, projected.rows(1, place, batch.heads), tile, place.len);
        load_tile<D>(values, projected.rows(2, place, batch.heads), tile, place.len);
        __syncthreads();
        Kept bits = kept(mask, blockIdx.x, place.head, place.len, query, tile);
#pragma unroll 4
        for (u32 key = 0; key < TILE; key++) {
            if (tile + key >= place.len) break;
            float p = exp2f(dot_row<D>(queries, keys + key * D, half) * scale - log_sum);
            float d = dot_row<D>(d_out, values + key * D, half);
            add_row<D>(sums, p * ((bit_of(bits, key) ? d * keep : 0.0f) - delta), keys + key * D, half);
        }
    }
    if (query >= place.len) return;
    store_half<D>(d_qkv + u64(place.start + query) * 3u * batch.heads * D + place.head * D, sums, batch.scale, half);
}

// The gradients of 64 keys and values, everything turned round: dV = (mask P)^T dO, dK = dS^T Q scale
template <u32 D>
__device__ __forceinline__ void backward_keys(float* d_qkv, Projected<D> projected, Saved saved, Batch batch, Mask mask) {
    __shared__ __align__(16) float queries[TILE * D];
    __shared__ __align__(16) float d_out[TILE * D];
    __shared__ QueryFacts facts[TILE];
    Place place = place_of(batch);
    if (place.first >= place.len) return;
    Half half = my_half();
    u32 key = place.first + half.row, h = batch.heads * D;
    float keys[D / 2u], values[D / 2u], d_keys[D / 2u] = {}, d_values[D / 2u] = {};
    load_half<D>(keys, projected.rows(1, place, batch.heads), key, place.len, half);
    load_half<D>(values, projected.rows(2, place, batch.heads), key, place.len, half);
    float scale = batch.scale * LOG2E, keep = mask.scale == 0.0f ? 1.0f : mask.scale;
    for (u32 tile = 0; tile < place.len; tile += TILE) {
        __syncthreads();
        load_tile<D>(queries, projected.rows(0, place, batch.heads), tile, place.len);
        load_tile<D>(d_out, context_rows<D>(saved.d_context, place, batch.heads), tile, place.len);
        if (threadIdx.x < TILE) facts[threadIdx.x] = facts_of(saved, batch, mask, place, tile + threadIdx.x);
        __syncthreads();
#pragma unroll 2
        for (u32 row = 0; row < TILE; row++) {
            if (tile + row >= place.len) break;
            QueryFacts query = facts[row];
            bool stays = bit_of(query.bits, half.row);
            float p = exp2f(dot_row<D>(keys, queries + row * D, half) * scale - query.log_sum);
            float d = dot_row<D>(values, d_out + row * D, half);
            add_row<D>(d_values, stays ? p : 0.0f, d_out + row * D, half);
            add_row<D>(d_keys, p * ((stays ? d * keep : 0.0f) - query.delta), queries + row * D, half);
        }
    }
    if (key >= place.len) return;
    float* to = d_qkv + u64(place.start + key) * 3u * h + place.head * D;
    store_half<D>(to + h, d_keys, batch.scale, half);
    store_half<D>(to + 2u * h, d_values, keep, half);
}

HEAD_SIZE(16)
HEAD_SIZE(32)
HEAD_SIZE(64)
