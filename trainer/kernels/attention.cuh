// What attention is given and what it keeps, in bf16 and in f32: batches, masks, places, and what the backward knows of a query.
#pragma once
#include "device.cuh"

// Queries, or keys, of a block, and its threads.
#define TILE 64u
#define BLOCK 128u
#define LOG2E 1.44269504f

struct Batch {
    const u32* cu_seqlens;
    u32 n, heads;
    float scale;  // what scores are multiplied by: 1 / sqrt(head size)
};

// Which probabilities are kept: bit `element % 32` of word `element / 32`, made by `attention_mask`. A sequence's bits begin at 256 times
// offsets[sequence]; its elements are [heads, queries, keys].
struct Mask {
    const u32* bits;
    const u32* offsets;
    float scale;  // 0 where nothing is dropped
};

// ---- dropout -------------------------------------------------------------------------------------------------------------

// Moves bit i of 16 to bit 2 i.
__device__ __forceinline__ u32 spread(u32 x) {
    x = (x | x << 8) & 0x00ff00ffu;
    x = (x | x << 4) & 0x0f0f0f0fu;
    x = (x | x << 2) & 0x33333333u;
    return (x | x << 1) & 0x55555555u;
}

// A warp makes 256 bits: numbers 2 l and 2 l + 1 of each word of a group of 128 come of thread l of its half, word w of a half is the w-th 32 of the group.
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
    u32 my_even = 0u, my_odd = 0u;
#pragma unroll
    for (u32 w = 0; w < 4u; w++) {
        u32 even = __ballot_sync(ALL_LANES, (words.word[w] & 0xffffu) >= dropout.threshold);
        u32 odd = __ballot_sync(ALL_LANES, (words.word[w] >> 16) >= dropout.threshold);
        if (lane % 4u == w) {
            my_even = even;
            my_odd = odd;
        }
    }
    u32 half = lane / 4u * 16u;
    if (lane < 8u) bits[u64(at) * 8u + lane] = spread(my_even >> half & 0xffffu) | spread(my_odd >> half & 0xffffu) << 1;
}

// Bits of elements that follow one another.
struct Kept {
    u32 low, high;
};

// The bits of 64 keys from `key` on, of a query; all of them where nothing is dropped.
__device__ __forceinline__ Kept kept(Mask mask, u32 sequence, u32 head, u32 len, u32 query, u32 key) {
    Kept out = {0xffffffffu, 0xffffffffu};
    if (mask.scale == 0.0f || query >= len) return out;
    u64 element = (u64(head) * len + query) * len + key;
    // there is room to read beyond the last bit
    const u32* at = mask.bits + u64(mask.offsets[sequence]) * 8u + element / 32u;
    u32 shift = u32(element) % 32u;
    out.low = __funnelshift_r(at[0], at[1], shift);
    out.high = __funnelshift_r(at[1], at[2], shift);
    return out;
}

// ---- one head of one sequence --------------------------------------------------------------------------------------------

struct Place {
    u32 start, len, head, first;
};

__device__ __forceinline__ Place place_of(Batch batch) {
    Place place;
    place.start = batch.cu_seqlens[blockIdx.x];
    place.len = batch.cu_seqlens[blockIdx.x + 1u] - place.start;
    place.head = blockIdx.y;
    place.first = blockIdx.z * TILE;
    return place;
}

// Where rows of one head lie: `stride` elements from one token to the next. The bias (null is none) is added where they are loaded; only the tiles of bf16 are
// without it, and what is computed of them takes it into account.
struct Rows {
    const value* from;
    const float* bias;
    u32 stride;
};

template <u32 D>
struct Projected {
    const value* qkv;      // [N, 3 h], without the biases
    const float* biases[3];

    // Queries (0), keys (1) or values (2) of the place's sequence and head.
    __device__ __forceinline__ Rows rows(u32 which, Place place, u32 heads) const {
        u32 h = heads * D;
        const float* bias = which == 1u ? nullptr : biases[which] + place.head * D;
        Rows out = {qkv + u64(place.start) * 3u * h + which * h + place.head * D, bias, 3u * h};
        return out;
    }
};

template <u32 D>
__device__ __forceinline__ Rows context_rows(const value* context, Place place, u32 heads) {
    Rows out = {context + u64(place.start) * heads * D + place.head * D, nullptr, heads * D};
    return out;
}

struct Saved {
    const float* log_sums;   // [heads, N]
    float* deltas;           // [heads, N]: context . d_context, what the softmax's backward subtracts
    const value* context;    // [N, h]
    const value* d_context;  // [N, h]
};

// What the keys' gradient wants to know of a query: its log-sum-exp in powers of two, its delta, which of 64 keys are kept.
struct QueryFacts {
    float log_sum, delta;
    Kept bits;
};

__device__ __forceinline__ QueryFacts facts_of(Saved saved, Batch batch, Mask mask, Place place, u32 query) {
    // beyond the last query every probability is zero
    QueryFacts out = {INFINITY, 0.0f, {0u, 0u}};
    if (query >= place.len) return out;
    u64 at = u64(place.head) * batch.n + place.start + query;
    out.log_sum = saved.log_sums[at] * LOG2E;
    out.delta = saved.deltas[at];
    out.bits = kept(mask, blockIdx.x, place.head, place.len, query, place.first);
    return out;
}

// The kernels of a size of heads, which `forward`, `backward_queries` and `backward_keys` are the bodies of.
#define HEAD_SIZE(D)                                                                                                                    \
    KERNEL_OF(BLOCK, 4) attention_##D(value* context, float* log_sums, Projected<D> projected, Batch batch, Mask mask) {                              \
        forward<D>(context, log_sums, projected, batch, mask);                                                                          \
    }                                                                                                                                   \
    KERNEL_OF(BLOCK, 3) attention_backward_queries_##D(value* d_qkv, Projected<D> projected, Saved saved, Batch batch, Mask mask) {                   \
        backward_queries<D>(d_qkv, projected, saved, batch, mask);                                                                      \
    }                                                                                                                                   \
    KERNEL_OF(BLOCK, 3) attention_backward_keys_##D(value* d_qkv, Projected<D> projected, Saved saved, Batch batch, Mask mask) {                      \
        backward_keys<D>(d_qkv, projected, saved, batch, mask);                                                                         \
    }
