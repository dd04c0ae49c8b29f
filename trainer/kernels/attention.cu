// Self-attention inside each sequence of a packed batch, forward and backward, on tensor cores, tile by tile: no row of scores is ever whole
// (Dao, "FlashAttention-2", 2023). A block has 64 queries (or keys) of one head of one sequence, a warp 16 of them.
//
// A fragment of a product is spread over a warp as the instruction wants it: thread `lane` = 4 g + t has rows g and g + 8 and the columns
// 2 t and 2 t + 1 of every eight.
#include "device.cuh"

#define TILE 64u
#define BLOCK 128u
// From one row of a tile turned round to the next: eight more than a tile, so that a warp's reads fall on different banks.
#define TURNED (TILE + 8u)

struct Batch {
    const u32* cu_seqlens;
    u32 n, heads;
    float scale;  // what scores are multiplied by: 1 / sqrt(head size)
};

// Which probabilities are kept: a bit each, made by `attention_mask`. A sequence's bits begin at 256 times offsets[sequence].
struct Mask {
    const u32* bits;
    const u32* offsets;
    float scale;  // 0 where nothing is dropped
};

// ---- dropout -------------------------------------------------------------------------------------------------------------

// A warp makes 256 bits: of numbers 2 l and 2 l + 1 of each half's word w, thread l of that half has the ones, and word 2 w holds the even
// numbers' bits, word 2 w + 1 the odd ones'.
KERNEL attention_mask(u32* bits, const u32* offsets, const SampleKey* keys, Dropout dropout, u32 num_sequences) {
    u32 lane = threadIdx.x % WARP, at = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (at >= offsets[num_sequences]) return;
    u32 sequence = 0, beyond = num_sequences;
    while (beyond - sequence > 1u) {
        u32 middle = (sequence + beyond) / 2u;
        if (offsets[middle] <= at) sequence = middle;
        else beyond = middle;
    }
    u32 group = 2u * (at - offsets[sequence]) + lane / 16u;
    Words words = philox(group * 16u + lane % 16u, keys[sequence], dropout);
    u32 mine = 0u;
    for (u32 w = 0; w < 4u; w++) {
        u32 even = __ballot_sync(ALL_LANES, (words.word[w] & 0xffffu) >= dropout.threshold);
        u32 odd = __ballot_sync(ALL_LANES, (words.word[w] >> 16) >= dropout.threshold);
        if (lane == 2u * w) mine = even;
        if (lane == 2u * w + 1u) mine = odd;
    }
    if (lane < 8u) bits[u64(at) * 8u + lane] = mine;
}

// What a probability is multiplied by; `element` counts from the sequence's first.
__device__ __forceinline__ float kept(const u32* bits, u64 element, float scale) {
    u32 within = u32(element) % 256u;
    u32 word = bits[element / 256u * 8u + within % 128u / 32u * 2u + within % 2u];
    return (word >> (within / 128u * 16u + within % 32u / 2u)) & 1u ? scale : 0.0f;
}

// ---- fragments and tiles -------------------------------------------------------------------------------------------------

struct Fragment {
    u32 x[4];
};

// Where rows of one head lie: `stride` elements from one token to the next; the bias is added on loading, null is none.
struct Rows {
    const bf16* from;
    const float* bias;
    u32 stride;
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

// A tile of rows, [TILE, D + 8], and the same turned round, [D, TURNED], whichever is wanted. Rows beyond the last are zero.
template <u32 D>
__device__ __forceinline__ void load_tile(u16* tile, u16* turned, Rows rows, u32 first, u32 num_rows) {
    for (u32 i = threadIdx.x; i < TILE * D / 2u; i += BLOCK) {
        // four pairs of each of eight rows for a warp: so its stores fall on different banks, turned round or not
        u32 row = i / 4u % TILE, feature = 2u * (i / (4u * TILE) * 4u + i % 4u);
        bf16x2 pair = load_pair(rows, first + row, num_rows, feature);
        if (tile != nullptr) *reinterpret_cast<bf16x2*>(tile + row * (D + 8u) + feature) = pair;
        if (turned != nullptr) {
            turned[feature * TURNED + row] = u16(pair & 0xffffu);
            turned[(feature + 1u) * TURNED + row] = u16(pair >> 16);
        }
    }
}

// sums[n] += left * the transpose of rows 8 n .. 8 n + 8 of the tile; K features, `stride` apart.
template <u32 N, u32 K>
__device__ __forceinline__ void product(float (*sums)[4], const Fragment* left, const u16* tile, u32 stride, u32 lane) {
    u32 g = lane / 4u, t = lane % 4u;
#pragma unroll
    for (u32 n = 0; n < N; n++) {
#pragma unroll
        for (u32 k = 0; k < K / 16u; k++) {
            const u16* at = tile + (8u * n + g) * stride + 16u * k + 2u * t;
            mma_m16n8k16(sums[n], left[k].x, *reinterpret_cast<const u32*>(at), *reinterpret_cast<const u32*>(at + 8));
        }
    }
}

// 16 rows of sums over TILE columns as left operands of the next product.
__device__ __forceinline__ void as_left(Fragment* to, float (*sums)[4]) {
#pragma unroll
    for (u32 k = 0; k < TILE / 16u; k++) {
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

// ---- one head of one sequence --------------------------------------------------------------------------------------------

struct Place {
    u32 start, len, head, first;
};

template <u32 D>
struct Projected {
    const bf16* qkv;      // [N, 3 h], without the biases
    const float* biases[3];

    // Queries (0), keys (1) or values (2) of the place's sequence and head.
    __device__ __forceinline__ Rows rows(u32 which, Place place, u32 heads) const {
        u32 h = heads * D;
        Rows out = {qkv + u64(place.start) * 3u * h + which * h + place.head * D, biases[which] + place.head * D, 3u * h};
        return out;
    }
};

template <u32 D>
__device__ __forceinline__ Rows context_rows(const bf16* context, Place place, u32 heads) {
    Rows out = {context + u64(place.start) * heads * D + place.head * D, nullptr, heads * D};
    return out;
}

__device__ __forceinline__ Place place_of(Batch batch) {
    Place place;
    place.start = batch.cu_seqlens[blockIdx.x];
    place.len = batch.cu_seqlens[blockIdx.x + 1u] - place.start;
    place.head = blockIdx.y;
    place.first = blockIdx.z * TILE;
    return place;
}

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

// context = dropout(softmax(Q K^T scale)) V, and the log-sum-exp of each row of scores
template <u32 D>
__device__ __forceinline__ void forward(bf16* context, float* log_sums, Projected<D> projected, Batch batch, Mask mask) {
    __shared__ __align__(16) u16 keys[TILE * (D + 8u)];
    __shared__ __align__(16) u16 values[D * TURNED];
    Place place = place_of(batch);
    if (place.first >= place.len) return;
    u32 lane = threadIdx.x % WARP, g = lane / 4u, t = lane % 4u, first = place.first + threadIdx.x / WARP * 16u;
    Fragment queries[D / 16u];
    load_left<D>(queries, projected.rows(0, place, batch.heads), first, place.len, lane);
    const float LOG2E = 1.44269504f;
    float scale = batch.scale * LOG2E, out[D / 8u][4] = {}, greatest[2] = {-INFINITY, -INFINITY}, total[2] = {0.0f, 0.0f};
    for (u32 tile = 0; tile < place.len; tile += TILE) {
        __syncthreads();
        load_tile<D>(keys, nullptr, projected.rows(1, place, batch.heads), tile, place.len);
        load_tile<D>(nullptr, values, projected.rows(2, place, batch.heads), tile, place.len);
        __syncthreads();
        float scores[TILE / 8u][4] = {}, now[2] = {greatest[0], greatest[1]};
        product<TILE / 8u, D>(scores, queries, keys, D + 8u, lane);
#pragma unroll
        for (u32 n = 0; n < TILE / 8u; n++) {
#pragma unroll
            for (u32 i = 0; i < 4u; i++) {
                u32 key = tile + 8u * n + 2u * t + i % 2u;
                scores[n][i] = key < place.len ? scores[n][i] * scale : -INFINITY;
                now[i / 2u] = fmaxf(now[i / 2u], scores[n][i]);
            }
        }
        float shrink[2];
#pragma unroll
        for (u32 half = 0; half < 2u; half++) {
            now[half] = quad_max(now[half]);
            shrink[half] = exp2f(greatest[half] - now[half]);
            greatest[half] = now[half];
            total[half] *= shrink[half];
        }
#pragma unroll
        for (u32 n = 0; n < D / 8u; n++) {
#pragma unroll
            for (u32 i = 0; i < 4u; i++) out[n][i] *= shrink[i / 2u];
        }
#pragma unroll
        for (u32 n = 0; n < TILE / 8u; n++) {
#pragma unroll
            for (u32 i = 0; i < 4u; i++) {
                float p = exp2f(scores[n][i] - greatest[i / 2u]);
                total[i / 2u] += p;
                u32 query = first + g + i / 2u * 8u, key = tile + 8u * n + 2u * t + i % 2u;
                if (mask.scale != 0.0f && query < place.len && key < place.len) {
                    u64 element = (u64(place.head) * place.len + query) * place.len + key;
                    p *= kept(mask.bits + u64(mask.offsets[blockIdx.x]) * 8u, element, mask.scale);
                }
                scores[n][i] = p;
            }
        }
        Fragment probabilities[TILE / 16u];
        as_left(probabilities, scores);
        product<D / 8u, TILE>(out, probabilities, values, TURNED, lane);
    }
    total[0] = quad_sum(total[0]);
    total[1] = quad_sum(total[1]);
    bf16* to = context + u64(place.start) * batch.heads * D + place.head * D;
    store_sums<D>(to, batch.heads * D, out, first, place.len, 1.0f / total[0], 1.0f / total[1], lane);
#pragma unroll
    for (u32 half = 0; half < 2u; half++) {
        u32 query = first + g + 8u * half;
        if (t == 0u && query < place.len) {
            log_sums[u64(place.head) * batch.n + place.start + query] = greatest[half] / LOG2E + logf(total[half]);
        }
    }
}

// deltas[head, token] = context . d_context: what the softmax's backward subtracts
KERNEL attention_deltas(float* deltas, const bf16* context, const bf16* d_context, u32 n, u32 heads, u32 size) {
    u32 at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= n * heads) return;
    u32 token = at / heads, head = at % heads;
    u64 begin = u64(token) * heads * size + head * size;
    float sum = 0.0f;
    for (u32 i = 0; i < size; i += 2u) {
        bf16x2 a = *reinterpret_cast<const bf16x2*>(context + begin + i), b = *reinterpret_cast<const bf16x2*>(d_context + begin + i);
        sum += low(a) * low(b) + high(a) * high(b);
    }
    deltas[u64(head) * n + token] = sum;
}

struct Saved {
    const float* log_sums;   // [heads, N]
    const float* deltas;     // [heads, N]
    const bf16* d_context;   // [N, h]
};

// The gradient of 64 queries: dS = P (mask dP - delta) scale, dQ = dS K
template <u32 D>
__device__ __forceinline__ void backward_queries(bf16* d_qkv, Projected<D> projected, Saved saved, Batch batch, Mask mask) {
    __shared__ __align__(16) u16 keys[TILE * (D + 8u)];
    __shared__ __align__(16) u16 keys_turned[D * TURNED];
    __shared__ __align__(16) u16 values[TILE * (D + 8u)];
    Place place = place_of(batch);
    if (place.first >= place.len) return;
    u32 lane = threadIdx.x % WARP, g = lane / 4u, t = lane % 4u, first = place.first + threadIdx.x / WARP * 16u, h = batch.heads * D;
    Fragment queries[D / 16u], d_out[D / 16u];
    load_left<D>(queries, projected.rows(0, place, batch.heads), first, place.len, lane);
    load_left<D>(d_out, context_rows<D>(saved.d_context, place, batch.heads), first, place.len, lane);
    float log_sum[2], delta[2], sums[D / 8u][4] = {};
#pragma unroll
    for (u32 half = 0; half < 2u; half++) {
        u32 query = first + g + 8u * half;
        u64 at = u64(place.head) * batch.n + place.start + query;
        log_sum[half] = query < place.len ? saved.log_sums[at] : 0.0f;
        delta[half] = query < place.len ? saved.deltas[at] : 0.0f;
    }
    for (u32 tile = 0; tile < place.len; tile += TILE) {
        __syncthreads();
        load_tile<D>(keys, keys_turned, projected.rows(1, place, batch.heads), tile, place.len);
        load_tile<D>(values, nullptr, projected.rows(2, place, batch.heads), tile, place.len);
        __syncthreads();
        float scores[TILE / 8u][4] = {}, d[TILE / 8u][4] = {};
        product<TILE / 8u, D>(scores, queries, keys, D + 8u, lane);
        product<TILE / 8u, D>(d, d_out, values, D + 8u, lane);
#pragma unroll
        for (u32 n = 0; n < TILE / 8u; n++) {
#pragma unroll
            for (u32 i = 0; i < 4u; i++) {
                u32 query = first + g + i / 2u * 8u, key = tile + 8u * n + 2u * t + i % 2u;
                bool inside = query < place.len && key < place.len;
                float keep = 1.0f;
                if (mask.scale != 0.0f && inside) {
                    u64 element = (u64(place.head) * place.len + query) * place.len + key;
                    keep = kept(mask.bits + u64(mask.offsets[blockIdx.x]) * 8u, element, mask.scale);
                }
                float p = expf(scores[n][i] * batch.scale - log_sum[i / 2u]);
                scores[n][i] = inside ? p * (keep * d[n][i] - delta[i / 2u]) * batch.scale : 0.0f;
            }
        }
        Fragment d_scores[TILE / 16u];
        as_left(d_scores, scores);
        product<D / 8u, TILE>(sums, d_scores, keys_turned, TURNED, lane);
    }
    store_sums<D>(d_qkv + u64(place.start) * 3u * h + place.head * D, 3u * h, sums, first, place.len, 1.0f, 1.0f, lane);
}

// The gradients of 64 keys and values, everything turned round: dV = (mask P)^T dO, dK = dS^T Q
template <u32 D>
__device__ __forceinline__ void backward_keys(bf16* d_qkv, Projected<D> projected, Saved saved, Batch batch, Mask mask) {
    __shared__ __align__(16) u16 queries[TILE * (D + 8u)];
    __shared__ __align__(16) u16 queries_turned[D * TURNED];
    __shared__ __align__(16) u16 d_out[TILE * (D + 8u)];
    __shared__ __align__(16) u16 d_out_turned[D * TURNED];
    __shared__ float log_sums[TILE];
    __shared__ float deltas[TILE];
    Place place = place_of(batch);
    if (place.first >= place.len) return;
    u32 lane = threadIdx.x % WARP, g = lane / 4u, t = lane % 4u, first = place.first + threadIdx.x / WARP * 16u, h = batch.heads * D;
    Fragment keys[D / 16u], values[D / 16u];
    load_left<D>(keys, projected.rows(1, place, batch.heads), first, place.len, lane);
    load_left<D>(values, projected.rows(2, place, batch.heads), first, place.len, lane);
    float d_keys[D / 8u][4] = {}, d_values[D / 8u][4] = {};
    for (u32 tile = 0; tile < place.len; tile += TILE) {
        __syncthreads();
        load_tile<D>(queries, queries_turned, projected.rows(0, place, batch.heads), tile, place.len);
        load_tile<D>(d_out, d_out_turned, context_rows<D>(saved.d_context, place, batch.heads), tile, place.len);
        for (u32 i = threadIdx.x; i < TILE; i += BLOCK) {
            u64 at = u64(place.head) * batch.n + place.start + tile + i;
            log_sums[i] = tile + i < place.len ? saved.log_sums[at] : 0.0f;
            deltas[i] = tile + i < place.len ? saved.deltas[at] : 0.0f;
        }
        __syncthreads();
        float scores[TILE / 8u][4] = {}, d[TILE / 8u][4] = {};
        product<TILE / 8u, D>(scores, keys, queries, D + 8u, lane);
        product<TILE / 8u, D>(d, values, d_out, D + 8u, lane);
#pragma unroll
        for (u32 n = 0; n < TILE / 8u; n++) {
#pragma unroll
            for (u32 i = 0; i < 4u; i++) {
                u32 key = first + g + i / 2u * 8u, column = 8u * n + 2u * t + i % 2u, query = tile + column;
                bool inside = query < place.len && key < place.len;
                float keep = 1.0f;
                if (mask.scale != 0.0f && inside) {
                    u64 element = (u64(place.head) * place.len + query) * place.len + key;
                    keep = kept(mask.bits + u64(mask.offsets[blockIdx.x]) * 8u, element, mask.scale);
                }
                float p = inside ? expf(scores[n][i] * batch.scale - log_sums[column]) : 0.0f;
                scores[n][i] = p * keep;
                d[n][i] = p * (keep * d[n][i] - deltas[column]) * batch.scale;
            }
        }
        Fragment left[TILE / 16u];
        as_left(left, scores);
        product<D / 8u, TILE>(d_values, left, d_out_turned, TURNED, lane);
        as_left(left, d);
        product<D / 8u, TILE>(d_keys, left, queries_turned, TURNED, lane);
    }
    bf16* to = d_qkv + u64(place.start) * 3u * h + place.head * D;
    store_sums<D>(to + h, 3u * h, d_keys, first, place.len, 1.0f, 1.0f, lane);
    store_sums<D>(to + 2u * h, 3u * h, d_values, first, place.len, 1.0f, 1.0f, lane);
}

#define HEAD_SIZE(D)                                                                                                                    \
    KERNEL attention_##D(bf16* context, float* log_sums, Projected<D> projected, Batch batch, Mask mask) {                              \
        forward<D>(context, log_sums, projected, batch, mask);                                                                          \
    }                                                                                                                                   \
    KERNEL attention_backward_queries_##D(bf16* d_qkv, Projected<D> projected, Saved saved, Batch batch, Mask mask) {                   \
        backward_queries<D>(d_qkv, projected, saved, batch, mask);                                                                      \
    }                                                                                                                                   \
    KERNEL attention_backward_keys_##D(bf16* d_qkv, Projected<D> projected, Saved saved, Batch batch, Mask mask) {                      \
        backward_keys<D>(d_qkv, projected, saved, batch, mask);                                                                         \
    }

HEAD_SIZE(16)
HEAD_SIZE(32)
HEAD_SIZE(64)
