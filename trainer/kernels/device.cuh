// What every kernel file begins with: bf16, warps, counter-based dropout. It compiles for a GPU by nvcc, and for the host by a
// C++ compiler after emulator.hpp, which gives the same names their meaning on a CPU.
//
// N tokens, S sequences, h the hidden width. Stored values are bf16, or f32 where WIDE_VALUES is defined, and all arithmetic is f32.
#pragma once

#ifdef __CUDACC__
#define KERNEL extern "C" __global__ void
// One whose blocks have so many threads, with registers for so many blocks at once.
#define KERNEL_OF(threads, blocks) extern "C" __global__ void __launch_bounds__(threads, blocks)
#define DYNAMIC_SHARED(type, name) extern __shared__ __align__(16) char dynamic_shared_bytes[]; type* name = reinterpret_cast<type*>(dynamic_shared_bytes)
#endif

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define WARP 32u
#define ALL_LANES 0xffffffffu

// ---- bf16 ----------------------------------------------------------------------------------------------------------------

// Two neighbours, as loads, stores and tensor cores take them: the first in the low half.
typedef u32 bf16x2;

struct bf16 {
    u16 bits;
};

__device__ __forceinline__ float wide(bf16 x) { return __uint_as_float(u32(x.bits) << 16); }
__device__ __forceinline__ float low(bf16x2 pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float high(bf16x2 pair) { return __uint_as_float(pair & 0xffff0000u); }

// To the nearest, ties to even; a NaN stays one.
__device__ __forceinline__ u32 narrow_bits(float x) {
    u32 bits = __float_as_uint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fffu;
    return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
}

__device__ __forceinline__ bf16x2 narrow2(float first, float second) {
#if defined(__CUDA_ARCH__)
    bf16x2 pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
    return pair;
#else
    return narrow_bits(first) | (narrow_bits(second) << 16);
#endif
}

__device__ __forceinline__ bf16 narrow(float x) {
    bf16 out;
    out.bits = u16(narrow2(x, 0.0f) & 0xffffu);
    return out;
}

// ---- stored values -------------------------------------------------------------------------------------------------------
// What activations, their gradients and the products' weights are: `value`, and `value2` two neighbours.

#ifdef WIDE_VALUES
typedef float value;
struct __align__(8) value2 {
    float first, second;
};

__device__ __forceinline__ float wide(float x) { return x; }
__device__ __forceinline__ float low(value2 pair) { return pair.first; }
__device__ __forceinline__ float high(value2 pair) { return pair.second; }
__device__ __forceinline__ value value_of(float x) { return x; }
__device__ __forceinline__ value2 pair_of(float first, float second) {
    value2 pair = {first, second};
    return pair;
}
#else
typedef bf16 value;
typedef bf16x2 value2;

__device__ __forceinline__ value value_of(float x) { return narrow(x); }
__device__ __forceinline__ value2 pair_of(float first, float second) { return narrow2(first, second); }
#endif

// ---- warps ---------------------------------------------------------------------------------------------------------------

__device__ __forceinline__ float warp_sum(float x) {
    for (u32 distance = WARP / 2; distance > 0; distance /= 2) x += __shfl_xor_sync(ALL_LANES, x, distance);
    return x;
}

// ---- tensor cores --------------------------------------------------------------------------------------------------------

#ifdef __CUDACC__
// sums[16, 8] += left[16, 16] right[16, 8], each spread over the warp as PTX has it for mma.m16n8k16.
__device__ __forceinline__ void mma_m16n8k16(float* sums, const u32* left, u32 right0, u32 right1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right0), "r"(right1));
}

// Four matrices of 8 x 8 in shared memory, each spread over the warp as right operands are: thread 4 g + t has columns 2 t and 2 t + 1 of row g. Thread
// 8 m + r says where row r of matrix m begins, a multiple of 16 bytes.
__device__ __forceinline__ void load_matrices(u32* to, const u16* row) {
    u32 at = u32(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(at));
}

// The same of the matrices turned round: thread 4 g + t has rows 2 t and 2 t + 1 of column g.
__device__ __forceinline__ void load_matrices_turned(u32* to, const u16* row) {
    u32 at = u32(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(at));
}

// Begins to copy 16 bytes to shared memory; zeros where they are not `inside`.
__device__ __forceinline__ void begin_copy(u16* to, const bf16* from, bool inside) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(u32(__cvta_generic_to_shared(to))), "l"(from), "r"(inside ? 16u : 0u) : "memory");
}
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits for this thread's copies; a barrier shows them to the others.
__device__ __forceinline__ void wait_copies() { asm volatile("cp.async.wait_group 0;" ::: "memory"); }
#endif

// ---- the fast ways -------------------------------------------------------------------------------------------------------

// 2^x to two units in the last place; what would be denormal is zero.
__device__ __forceinline__ float exp2_fast(float x) {
#if defined(__CUDA_ARCH__)
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return exp2f(x);
#endif
}

// 1 / x to one unit in the last place.
__device__ __forceinline__ float reciprocal_fast(float x) {
#if defined(__CUDA_ARCH__)
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return 1.0f / x;
#endif
}

// ---- dropout -------------------------------------------------------------------------------------------------------------
// The numbers are those of the CPU: element e of a sequence lies in group e / 128; within it, word w = e % 128 / 32 of the counter
// 16 * group + e % 32 / 2, low half first.

struct Dropout {
    u32 key0, key1;
    u32 layer_and_site;
    u32 threshold;  // an element is kept if its number is at least this; 0 where nothing is dropped
    float scale;    // what kept elements are multiplied by
};

// Which text a sequence is: the last words of its counters.
struct SampleKey {
    u32 sample_low, sample_high, column;
};

struct Words {
    u32 word[4];
};

// Philox 4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011).
__device__ __forceinline__ Words philox(u32 counter, SampleKey key, Dropout dropout) {
    u32 a = counter, b = key.sample_low, c = key.sample_high, d = key.column << 20 | dropout.layer_and_site;
    u32 k0 = dropout.key0, k1 = dropout.key1;
#pragma unroll
    for (int round = 0; round < 10; round++) {
        u64 product_a = u64(0xD2511F53u) * a, product_c = u64(0xCD9E8D57u) * c;
        a = u32(product_c >> 32) ^ b ^ k0;
        b = u32(product_c);
        c = u32(product_a >> 32) ^ d ^ k1;
        d = u32(product_a);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    Words words = {{a, b, c, d}};
    return words;
}

// What element `element` of a sequence is multiplied by.
__device__ __forceinline__ float keep_one(u64 element, SampleKey key, Dropout dropout) {
    u32 within = u32(element) % 128u;
    Words words = philox(u32(element / 128u) * 16u + within % 32u / 2u, key, dropout);
    u32 number = (words.word[within / 32u] >> (16u * (within % 2u))) & 0xffffu;
    return number >= dropout.threshold ? dropout.scale : 0.0f;
}

// ---- columns -------------------------------------------------------------------------------------------------------------
// A thread has C neighbours of a row: eight, which are 16 bytes of bf16, where the width allows it, else two.

template <u32 C>
struct Columns {
    float x[C];
};

struct __align__(16) Eight {
    value2 pair[4];
};

template <u32 C>
__device__ __forceinline__ Columns<C> load_columns(const value* from) {
    Columns<C> out;
    if constexpr (C == 8u) {
        Eight eight = *reinterpret_cast<const Eight*>(from);
#pragma unroll
        for (u32 i = 0; i < 4u; i++) {
            out.x[2u * i] = low(eight.pair[i]);
            out.x[2u * i + 1u] = high(eight.pair[i]);
        }
    } else {
        value2 pair = *reinterpret_cast<const value2*>(from);
        out.x[0] = low(pair);
        out.x[1] = high(pair);
    }
    return out;
}

template <u32 C>
__device__ __forceinline__ void store_columns(value* to, const Columns<C>& columns) {
    if constexpr (C == 8u) {
        Eight eight;
#pragma unroll
        for (u32 i = 0; i < 4u; i++) eight.pair[i] = pair_of(columns.x[2u * i], columns.x[2u * i + 1u]);
        *reinterpret_cast<Eight*>(to) = eight;
    } else {
        *reinterpret_cast<value2*>(to) = pair_of(columns.x[0], columns.x[1]);
    }
}

// ---- rows ----------------------------------------------------------------------------------------------------------------
// A warp holds a row of at most W features, an even number; W is a multiple of 256. Thread `lane` holds pairs of neighbours (0 <= p < W / 64), the
// first of them at feature_of(p, lane). This is the order of dropout's numbers: four pairs come of one counter.

__device__ __forceinline__ u32 feature_of(u32 pair, u32 lane) {
    return pair / 4u * 256u + lane / 16u * 128u + pair % 4u * 32u + lane % 16u * 2u;
}

template <u32 W>
struct Row {
    static constexpr u32 PAIRS = W / 64u;
    float x[2 * PAIRS];
};

template <u32 W>
__device__ __forceinline__ Row<W> load_row(const value* from, u32 h, u32 lane) {
    Row<W> row;
#pragma unroll
    for (u32 p = 0; p < Row<W>::PAIRS; p++) {
        u32 feature = feature_of(p, lane);
        value2 pair = feature < h ? *reinterpret_cast<const value2*>(from + feature) : pair_of(0.0f, 0.0f);
        row.x[2 * p] = low(pair);
        row.x[2 * p + 1] = high(pair);
    }
    return row;
}

template <u32 W>
__device__ __forceinline__ void store_row(value* to, const Row<W>& row, u32 h, u32 lane) {
#pragma unroll
    for (u32 p = 0; p < Row<W>::PAIRS; p++) {
        u32 feature = feature_of(p, lane);
        if (feature < h) *reinterpret_cast<value2*>(to + feature) = pair_of(row.x[2 * p], row.x[2 * p + 1]);
    }
}

template <u32 W>
__device__ __forceinline__ Row<W> load_vector(const float* from, u32 h, u32 lane) {
    Row<W> row;
#pragma unroll
    for (u32 p = 0; p < Row<W>::PAIRS; p++) {
        u32 feature = feature_of(p, lane);
        row.x[2 * p] = feature < h ? from[feature] : 0.0f;
        row.x[2 * p + 1] = feature < h ? from[feature + 1] : 0.0f;
    }
    return row;
}

template <u32 W>
__device__ __forceinline__ void add_row(Row<W>& to, const Row<W>& row) {
#pragma unroll
    for (u32 i = 0; i < 2u * Row<W>::PAIRS; i++) to.x[i] += row.x[i];
}

// Rounds a row as storing does.
template <u32 W>
__device__ __forceinline__ void round_row(Row<W>& row) {
#pragma unroll
    for (u32 p = 0; p < Row<W>::PAIRS; p++) {
        value2 pair = pair_of(row.x[2 * p], row.x[2 * p + 1]);
        row.x[2 * p] = low(pair);
        row.x[2 * p + 1] = high(pair);
    }
}

// Drops and scales token `token` of a sequence.
template <u32 W>
__device__ __forceinline__ void drop_row(Row<W>& row, u32 token, u32 h, u32 lane, SampleKey key, Dropout dropout) {
    if (dropout.threshold == 0u) return;
    if (h % 128u == 0u) {
#pragma unroll
        for (u32 chunk = 0; chunk < Row<W>::PAIRS / 4u; chunk++) {
            if (feature_of(4u * chunk, lane) >= h) break;
            u32 group = token * (h / 128u) + chunk * 2u + lane / 16u;
            Words words = philox(group * 16u + lane % 16u, key, dropout);
#pragma unroll
            for (u32 w = 0; w < 4u; w++) {
                float* pair = row.x + 2u * (4u * chunk + w);
                pair[0] = (words.word[w] & 0xffffu) >= dropout.threshold ? pair[0] * dropout.scale : 0.0f;
                pair[1] = (words.word[w] >> 16) >= dropout.threshold ? pair[1] * dropout.scale : 0.0f;
            }
        }
    } else {
#pragma unroll
        for (u32 p = 0; p < Row<W>::PAIRS; p++) {
            u32 feature = feature_of(p, lane);
            if (feature >= h) continue;
            row.x[2 * p] *= keep_one(u64(token) * h + feature, key, dropout);
            row.x[2 * p + 1] *= keep_one(u64(token) * h + feature + 1, key, dropout);
        }
    }
}

// Where tokens stand: in which sequence, at which position of it; and which texts the sequences are.
struct Places {
    const u32* sequence;
    const u32* position;
    const SampleKey* keys;
};
