// Self-attention inside each sequence of a packed batch, forward and backward, on tensor cores, tile by tile: no row of scores is ever whole
// (Dao, "FlashAttention-2", 2023). A block has 64 queries (or keys) of one head of one sequence, a warp 16 of them.
//
// The keys' bias is left out: it adds the same to all scores of a query, which the softmax does not see, and drops out of every gradient.
#include "attention.cuh"
#include "tiles.cuh"

// Columns of scores that the backward holds at once: half a tile, so that registers suffice for more blocks.
#define HALF 32u

// Each row's product with a vector; rows g and g + 8.
template <u32 D>
__device__ __forceinline__ void dot_vector(float* dots, const Fragment* rows, const float* vector, u32 lane) {
    u32 t = lane % 4u;
    dots[0] = dots[1] = 0.0f;
#pragma unroll
    for (u32 k = 0; k < D / 16u; k++) {
#pragma unroll
        for (u32 i = 0; i < 4u; i++) {
            const float* at = vector + 16u * k + 2u * t + i / 2u * 8u;
            dots[i % 2u] += low(rows[k].x[i]) * at[0] + high(rows[k].x[i]) * at[1];
        }
    }
    dots[0] = quad_sum(dots[0]);
    dots[1] = quad_sum(dots[1]);
}

// Adds to rows of sums a vector times the rows' factors.
template <u32 D>
__device__ __forceinline__ void add_vector(float (*sums)[4], const float* factors, const float* vector, u32 lane) {
    u32 t = lane % 4u;
#pragma unroll
    for (u32 n = 0; n < D / 8u; n++) {
#pragma unroll
        for (u32 i = 0; i < 4u; i++) sums[n][i] += factors[i / 2u] * vector[8u * n + 2u * t + i % 2u];
    }
}

// ---- one head of one sequence --------------------------------------------------------------------------------------------

// Stores a warp's 16 rows of sums, times two factors: of the rows g, and of g + 8.
template <u32 D>
__device__ __forceinline__ void store_sums(bf16* to, u32 stride, float (*sums)[4], u32 first, u32 num_rows, float factor, float factor8, u32 lane) {
    u32 g = lane / 4u, t = lane % 4u;
#pragma unroll
    for (u32 n = 0; n < D / 8u; n++) {
        u32 feature = 8u * n + 2u * t;
        if (first + g < num_rows) {
            *reinterpret_cast<bf16x2*>(to + u64(first + g) * stride + feature) = narrow2(sums[n][0] * factor, sums[n][1] * factor);
        }
        if (first + g + 8u < num_rows) {
            *reinterpret_cast<bf16x2*>(to + u64(first + g + 8u) * stride + feature) = narrow2(sums[n][2] * factor8, sums[n][3] * factor8);
        }
    }
}

// Scores of columns beyond the last, which `column` begins at for this thread's of eight, do not count.
template <u32 N>
__device__ __forceinline__ void drop_columns(float (*scores)[4], u32 column, u32 len) {
    if (column - column % 8u + 8u * N <= len) return;
#pragma unroll
    for (u32 n = 0; n < N; n++) {
#pragma unroll
        for (u32 i = 0; i < 4u; i++) {
            if (column + 8u * n + i % 2u >= len) scores[n][i] = -INFINITY;
        }
    }
}

// context = dropout(softmax(Q K^T scale)) V, and the log-sum-exp of each row of scores
template <u32 D>
__device__ __forceinline__ void forward(bf16* context, float* log_sums, Projected<D> projected, Batch batch, Mask mask) {
    __shared__ __align__(16) u16 keys[2][TILE * (D + 8u)];
    __shared__ __align__(16) u16 values[2][TILE * (D + 8u)];
    Place place = place_of(batch);
    if (place.first >= place.len) return;
    u32 lane = threadIdx.x % WARP, g = lane / 4u, t = lane % 4u, first = place.first + threadIdx.x / WARP * 16u;
    Rows key_rows = projected.rows(1, place, batch.heads), value_rows = projected.rows(2, place, batch.heads);
    begin_tile<D>(keys[0], key_rows, 0, place.len);
    begin_tile<D>(values[0], value_rows, 0, place.len);
    commit_copies();
    Fragment queries[D / 16u];
    load_left<D>(queries, projected.rows(0, place, batch.heads), first, place.len, lane);
    float scale = batch.scale * LOG2E, keep = mask.scale == 0.0f ? 1.0f : mask.scale;
    // of a row: its greatest score, the sum of its exponentials, and of those that are kept
    float out[D / 8u][4] = {}, greatest[2] = {-INFINITY, -INFINITY}, total[2] = {0.0f, 0.0f}, total_kept[2] = {0.0f, 0.0f};
    for (u32 tile = 0, now_in = 0; tile < place.len; tile += TILE, now_in ^= 1u) {
        wait_copies();
        __syncthreads();
        if (tile + TILE < place.len) {
            begin_tile<D>(keys[now_in ^ 1u], key_rows, tile + TILE, place.len);
            begin_tile<D>(values[now_in ^ 1u], value_rows, tile + TILE, place.len);
            commit_copies();
        }
        if (first >= place.len) continue;
        Kept bits[2];
#pragma unroll
        for (u32 half = 0; half < 2u; half++) {
            bits[half] = kept(mask, blockIdx.x, place.head, place.len, first + g + 8u * half, tile);
            bits[half].low >>= 2u * t;
            bits[half].high >>= 2u * t;
        }
        float scores[TILE / 8u][4] = {}, now[2] = {greatest[0], greatest[1]};
        product<TILE / 8u, D>(scores, queries, keys[now_in], lane);
        drop_columns<TILE / 8u>(scores, tile + 2u * t, place.len);
#pragma unroll
        for (u32 n = 0; n < TILE / 8u; n++) {
#pragma unroll
            for (u32 i = 0; i < 4u; i++) now[i / 2u] = fmaxf(now[i / 2u], scores[n][i]);
        }
        float offset[2];
#pragma unroll
        for (u32 half = 0; half < 2u; half++) {
            now[half] = quad_max(now[half]);
            float shrink = exp2_fast((greatest[half] - now[half]) * scale);
            greatest[half] = now[half];
            offset[half] = now[half] * scale;
            total[half] *= shrink;
            total_kept[half] *= shrink;
#pragma unroll
            for (u32 n = 0; n < D / 8u; n++) {
                out[n][2u * half] *= shrink;
                out[n][2u * half + 1u] *= shrink;
            }
        }
#pragma unroll
        for (u32 n = 0; n < TILE / 8u; n++) {
#pragma unroll
            for (u32 i = 0; i < 4u; i++) {
                float p = exp2_fast(scores[n][i] * scale - offset[i / 2u]);
                total[i / 2u] += p;
                u32 word = n < 4u ? bits[i / 2u].low : bits[i / 2u].high;
                scores[n][i] = word >> (8u * (n % 4u) + i % 2u) & 1u ? p : 0.0f;
                total_kept[i / 2u] += scores[n][i];
            }
        }
        Fragment probabilities[TILE / 16u];
        as_left<TILE>(probabilities, scores);
        product_by_columns<TILE, D>(out, probabilities, values[now_in], lane);
    }
    if (first >= place.len) return;
#pragma unroll
    for (u32 half = 0; half < 2u; half++) {
        total[half] = quad_sum(total[half]);
        total_kept[half] = quad_sum(total_kept[half]);
    }
    add_vector<D>(out, total_kept, value_rows.bias, lane);
    bf16* to = context + u64(place.start) * batch.heads * D + place.head * D;
    store_sums<D>(to, batch.heads * D, out, first, place.len, keep / total[0], keep / total[1], lane);
#pragma unroll
    for (u32 half = 0; half < 2u; half++) {
        u32 query = first + g + 8u * half;
        if (t == 0u && query < place.len) {
            log_sums[u64(place.head) * batch.n + place.start + query] = greatest[half] * batch.scale + logf(total[half]);
        }
    }
}

// Each row's product with another of 16 rows of D features; rows g and g + 8.
template <u32 D>
__device__ __forceinline__ void dot_rows(float* dots, const Fragment* a, const Fragment* b) {
    dots[0] = dots[1] = 0.0f;
#pragma unroll
    for (u32 k = 0; k < D / 16u; k++) {
#pragma unroll
        for (u32 i = 0; i < 4u; i++) dots[i % 2u] += low(a[k].x[i]) * low(b[k].x[i]) + high(a[k].x[i]) * high(b[k].x[i]);
    }
    dots[0] = quad_sum(dots[0]);
    dots[1] = quad_sum(dots[1]);
}

// The gradient of 64 queries: dS = P (mask dP - delta), dQ = dS K scale; and the deltas, which the keys' gradient reads
template <u32 D>
__device__ __forceinline__ void backward_queries(bf16* d_qkv, Projected<D> projected, Saved saved, Batch batch, Mask mask) {
    __shared__ __align__(16) u16 keys[2][TILE * (D + 8u)];
    __shared__ __align__(16) u16 values[2][TILE * (D + 8u)];
    Place place = place_of(batch);
    if (place.first >= place.len) return;
    u32 lane = threadIdx.x % WARP, g = lane / 4u, t = lane % 4u, first = place.first + threadIdx.x / WARP * 16u, h = batch.heads * D;
    Rows key_rows = projected.rows(1, place, batch.heads), value_rows = projected.rows(2, place, batch.heads);
    begin_tile<D>(keys[0], key_rows, 0, place.len);
    begin_tile<D>(values[0], value_rows, 0, place.len);
    commit_copies();
    Fragment queries[D / 16u], d_out[D / 16u];
    float log_sum[2], delta[2], d_of_bias[2], sums[D / 8u][4] = {};
    // in the place of the queries, for a while
    load_left<D>(queries, context_rows<D>(saved.context, place, batch.heads), first, place.len, lane);
    load_left<D>(d_out, context_rows<D>(saved.d_context, place, batch.heads), first, place.len, lane);
    dot_rows<D>(delta, queries, d_out);
    dot_vector<D>(d_of_bias, d_out, value_rows.bias, lane);
    load_left<D>(queries, projected.rows(0, place, batch.heads), first, place.len, lane);
#pragma unroll
    for (u32 half = 0; half < 2u; half++) {
        u32 query = first + g + 8u * half;
        u64 at = u64(place.head) * batch.n + place.start + query;
        log_sum[half] = query < place.len ? saved.log_sums[at] * LOG2E : 0.0f;
        if (t == 0u && query < place.len) saved.deltas[at] = delta[half];
    }
    float scale = batch.scale * LOG2E, keep = mask.scale == 0.0f ? 1.0f : mask.scale;
    for (u32 tile = 0, now_in = 0; tile < place.len; tile += TILE, now_in ^= 1u) {
        wait_copies();
        __syncthreads();
        if (tile + TILE < place.len) {
            begin_tile<D>(keys[now_in ^ 1u], key_rows, tile + TILE, place.len);
            begin_tile<D>(values[now_in ^ 1u], value_rows, tile + TILE, place.len);
            commit_copies();
        }
        if (first >= place.len) continue;
        Kept bits[2];
#pragma unroll
        for (u32 half = 0; half < 2u; half++) bits[half] = kept(mask, blockIdx.x, place.head, place.len, first + g + 8u * half, tile);
#pragma unroll 1
        for (u32 column = 0; column < TILE && tile + column < place.len; column += HALF) {
            float scores[HALF / 8u][4] = {}, d[HALF / 8u][4];
#pragma unroll
            for (u32 n = 0; n < HALF / 8u; n++) {
#pragma unroll
                for (u32 i = 0; i < 4u; i++) d[n][i] = d_of_bias[i / 2u];
            }
            product<HALF / 8u, D>(scores, queries, keys[now_in] + column * (D + 8u), lane);
            product<HALF / 8u, D>(d, d_out, values[now_in] + column * (D + 8u), lane);
            drop_columns<HALF / 8u>(scores, tile + column + 2u * t, place.len);
            u32 words[2] = {(column == 0u ? bits[0].low : bits[0].high) >> 2u * t, (column == 0u ? bits[1].low : bits[1].high) >> 2u * t};
#pragma unroll
            for (u32 n = 0; n < HALF / 8u; n++) {
#pragma unroll
                for (u32 i = 0; i < 4u; i++) {
                    float p = exp2_fast(scores[n][i] * scale - log_sum[i / 2u]);
                    float d_kept = words[i / 2u] >> (8u * n + i % 2u) & 1u ? d[n][i] * keep : 0.0f;
                    scores[n][i] = p * (d_kept - delta[i / 2u]);
                }
            }
            Fragment d_scores[HALF / 16u];
            as_left<HALF>(d_scores, scores);
            product_by_columns<HALF, D>(sums, d_scores, keys[now_in] + column * (D + 8u), lane);
        }
    }
    if (first >= place.len) return;
    store_sums<D>(d_qkv + u64(place.start) * 3u * h + place.head * D, 3u * h, sums, first, place.len, batch.scale, batch.scale, lane);
}

// The gradients of 64 keys and values, everything turned round: dV = (mask P)^T dO, dK = dS^T Q scale
template <u32 D>
__device__ __forceinline__ void backward_keys(bf16* d_qkv, Projected<D> projected, Saved saved, Batch batch, Mask mask) {
    __shared__ __align__(16) u16 queries[2][TILE * (D + 8u)];
    __shared__ __align__(16) u16 d_out[2][TILE * (D + 8u)];
    __shared__ QueryFacts facts[2][TILE];
    Place place = place_of(batch);
    if (place.first >= place.len) return;
    u32 lane = threadIdx.x % WARP, g = lane / 4u, t = lane % 4u, warp = threadIdx.x / WARP, first = place.first + warp * 16u, h = batch.heads * D;
    Rows query_rows = projected.rows(0, place, batch.heads), d_rows = context_rows<D>(saved.d_context, place, batch.heads);
    begin_tile<D>(queries[0], query_rows, 0, place.len);
    begin_tile<D>(d_out[0], d_rows, 0, place.len);
    commit_copies();
    if (threadIdx.x < TILE) facts[0][threadIdx.x] = facts_of(saved, batch, mask, place, threadIdx.x);
    Fragment keys[D / 16u], values[D / 16u];
    load_left<D>(keys, projected.rows(1, place, batch.heads), first, place.len, lane);
    load_left<D>(values, projected.rows(2, place, batch.heads), first, place.len, lane);
    float score_of_bias[2], total[2] = {0.0f, 0.0f}, d_keys[D / 8u][4] = {}, d_values[D / 8u][4] = {};
    dot_vector<D>(score_of_bias, keys, query_rows.bias, lane);
    float scale = batch.scale * LOG2E, keep = mask.scale == 0.0f ? 1.0f : mask.scale;
    for (u32 tile = 0, now_in = 0; tile < place.len; tile += TILE, now_in ^= 1u) {
        wait_copies();
        __syncthreads();
        QueryFacts next = {};
        if (tile + TILE < place.len) {
            begin_tile<D>(queries[now_in ^ 1u], query_rows, tile + TILE, place.len);
            begin_tile<D>(d_out[now_in ^ 1u], d_rows, tile + TILE, place.len);
            commit_copies();
            if (threadIdx.x < TILE) next = facts_of(saved, batch, mask, place, tile + TILE + threadIdx.x);
        }
#pragma unroll 1
        for (u32 column = 0; column < TILE && tile + column < place.len && first < place.len; column += HALF) {
            float scores[HALF / 8u][4], d[HALF / 8u][4] = {};
#pragma unroll
            for (u32 n = 0; n < HALF / 8u; n++) {
#pragma unroll
                for (u32 i = 0; i < 4u; i++) scores[n][i] = score_of_bias[i / 2u];
            }
            product<HALF / 8u, D>(scores, keys, queries[now_in] + column * (D + 8u), lane);
            product<HALF / 8u, D>(d, values, d_out[now_in] + column * (D + 8u), lane);
#pragma unroll
            for (u32 n = 0; n < HALF / 8u; n++) {
#pragma unroll
                for (u32 j = 0; j < 2u; j++) {
                    QueryFacts query = facts[now_in][column + 8u * n + 2u * t + j];
                    u32 word = (warp < 2u ? query.bits.low : query.bits.high) >> (warp % 2u * 16u + g);
#pragma unroll
                    for (u32 half = 0; half < 2u; half++) {
                        u32 i = 2u * half + j;
                        bool stays = word >> (8u * half) & 1u;
                        float p = exp2_fast(scores[n][i] * scale - query.log_sum);
                        scores[n][i] = stays ? p : 0.0f;
                        d[n][i] = p * ((stays ? d[n][i] * keep : 0.0f) - query.delta);
                        total[half] += d[n][i];
                    }
                }
            }
            Fragment left[HALF / 16u];
            as_left<HALF>(left, scores);
            product_by_columns<HALF, D>(d_values, left, d_out[now_in] + column * (D + 8u), lane);
            as_left<HALF>(left, d);
            product_by_columns<HALF, D>(d_keys, left, queries[now_in] + column * (D + 8u), lane);
        }
        if (threadIdx.x < TILE) facts[now_in ^ 1u][threadIdx.x] = next;
    }
    if (first >= place.len) return;
    total[0] = quad_sum(total[0]);
    total[1] = quad_sum(total[1]);
    add_vector<D>(d_keys, total, query_rows.bias, lane);
    bf16* to = d_qkv + u64(place.start) * 3u * h + place.head * D;
    store_sums<D>(to + h, 3u * h, d_keys, first, place.len, batch.scale, batch.scale, lane);
    store_sums<D>(to + 2u * h, 3u * h, d_values, first, place.len, keep, keep, lane);
}

HEAD_SIZE(16)
HEAD_SIZE(32)
HEAD_SIZE(64)
