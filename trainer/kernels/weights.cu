// The parameters: the copy that products read, the gradient's norm, the optimizer.
#include "device.cuh"

struct __align__(16) Four {
    float x[4];
};

// Elements from i on, a multiple of four; zeros beyond the last.
__device__ __forceinline__ Four load_four(const float* from, u64 i, u32 len) {
    if (i + 4u <= len) return *reinterpret_cast<const Four*>(from + i);
    Four out = {};
    for (u32 j = 0; i + j < len; j++) out.x[j] = from[i + j];
    return out;
}

__device__ __forceinline__ void store_four(float* to, const Four& four, u64 i, u32 len) {
    if (i + 4u <= len) {
        *reinterpret_cast<Four*>(to + i) = four;
    } else {
        for (u32 j = 0; i + j < len; j++) to[i + j] = four.x[j];
    }
}

// A range of the flat vector, and where it begins in the copy; both even.
struct Copied {
    u32 from, len, to;
};

// to[range.to + i] = from[range.from + i], a range for each block y
KERNEL copy_weights(value* to, const float* from, const Copied* ranges) {
    Copied range = ranges[blockIdx.y];
    for (u32 i = 2u * (blockIdx.x * blockDim.x + threadIdx.x); i < range.len; i += 2u * gridDim.x * blockDim.x) {
        *reinterpret_cast<value2*>(to + range.to + i) = pair_of(from[range.from + i], from[range.from + i + 1u]);
    }
}

// to[i] = from[i] in bf16
KERNEL narrow_vector(bf16* to, const float* from, u32 len) {
    for (u64 i = u64(blockIdx.x) * blockDim.x + threadIdx.x; i < len; i += u64(gridDim.x) * blockDim.x) to[i] = narrow(from[i]);
}

// to[i] = from[i] in f32
KERNEL widen_vector(float* to, const bf16* from, u32 len) {
    for (u64 i = u64(blockIdx.x) * blockDim.x + threadIdx.x; i < len; i += u64(gridDim.x) * blockDim.x) to[i] = wide(from[i]);
}

// partials[block] = the sum of squares of the block's elements
KERNEL sum_squares(double* partials, const float* x, u32 len) {
    DYNAMIC_SHARED(double, shared);
    double sum = 0.0;
    for (u64 i = 4u * (u64(blockIdx.x) * blockDim.x + threadIdx.x); i < len; i += 4u * u64(gridDim.x) * blockDim.x) {
        Four four = load_four(x, i, len);
#pragma unroll
        for (u32 j = 0; j < 4u; j++) sum += double(four.x[j]) * double(four.x[j]);
    }
    shared[threadIdx.x] = sum;
    __syncthreads();
    for (u32 half = blockDim.x / 2u; half > 0u; half /= 2u) {
        if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0u) partials[blockIdx.x] = shared[0];
}

// outcome[0] = the gradient's norm, where the gradient is `share` times what was summed; outcome[1] = what the sum is to be multiplied by: `share`
// times torch's clip_grad_norm_ factor, max / (norm + 1e-6), at most 1. `max_norm` 0 is no clipping. One warp.
KERNEL clip(float* outcome, const double* partials, u32 blocks, double share, double max_norm) {
    __shared__ double shared[WARP];
    double sum = 0.0;
    for (u32 block = threadIdx.x; block < blocks; block += WARP) sum += partials[block];
    shared[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x != 0u) return;
    for (u32 lane = 1u; lane < WARP; lane++) sum += shared[lane];
    double norm = sqrt(sum) * share, factor = 1.0;
    if (max_norm > 0.0) {
        factor = max_norm / (norm + 1e-6);
        if (factor > 1.0) factor = 1.0;
    }
    outcome[0] = float(norm);
    outcome[1] = float(share * factor);
}

// The scalars of an update, as PyTorch applies them to f32.
struct Update {
    float keep, rise1, beta2, rise2, root_bc2, eps, step_size;
};

// Where parameters end, in order, whether those up to there decay, and how far the copy's place is from theirs; NO_COPY where there is none.
#define NO_COPY 0x80000000u
struct Entry {
    u32 end, decays, to_copy;
};

__device__ __forceinline__ u32 entry_of(const Entry* entries, u32 num_entries, u64 i) {
    u32 first = 0u, beyond = num_entries - 1u;
    while (first < beyond) {
        u32 middle = (first + beyond) / 2u;
        if (entries[middle].end <= i) first = middle + 1u;
        else beyond = middle;
    }
    return first;
}

// AdamW (torch.optim.AdamW), one pass, which brings the copy up to date too. Where loss or norm is not finite nothing is touched: the host then gives the step
// up. Entries begin at even places, so that pairs are of one.
KERNEL adamw(
    float* params, float* exp_avg, float* exp_avg_sq, value* copy, const float* grad, const float* outcome, const float* loss, const Entry* entries,
    u32 num_entries, Update update, u32 len) {
    if (!isfinite(outcome[0]) || !isfinite(*loss)) return;
    float grad_scale = outcome[1];
    for (u64 i = 4u * (u64(blockIdx.x) * blockDim.x + threadIdx.x); i < len; i += 4u * u64(gridDim.x) * blockDim.x) {
        Four g = load_four(grad, i, len), m = load_four(exp_avg, i, len), v = load_four(exp_avg_sq, i, len), param = load_four(params, i, len);
        u32 place = entry_of(entries, num_entries, i);
#pragma unroll
        for (u32 j = 0; j < 4u; j++) {
            if (i + j >= len) break;
            if (entries[place].end <= i + j) place++;
            float scaled = g.x[j] * grad_scale;
            if (entries[place].decays) param.x[j] *= update.keep;
            m.x[j] += update.rise1 * (scaled - m.x[j]);
            v.x[j] = v.x[j] * update.beta2 + update.rise2 * scaled * scaled;
            param.x[j] -= update.step_size * (m.x[j] / (sqrtf(v.x[j]) / update.root_bc2 + update.eps));
            u32 to = entries[place].to_copy;
            if (j % 2u == 1u && to != NO_COPY) {
                *reinterpret_cast<value2*>(copy + (u32(i) + j - 1u + to)) = pair_of(param.x[j - 1u], param.x[j]);
            }
        }
        store_four(exp_avg, m, i, len);
        store_four(exp_avg_sq, v, i, len);
        store_four(params, param, i, len);
    }
}
