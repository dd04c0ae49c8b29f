// The parameters: their bf16 copy, the gradient's norm, the optimizer.
#include "device.cuh"

// A range of the flat vector, and where it begins in the copy; both even.
struct Copied {
    u32 from, len, to;
};

// to[range.to + i] = from[range.from + i], a range for each block y
KERNEL narrow_ranges(bf16* to, const float* from, const Copied* ranges) {
    Copied range = ranges[blockIdx.y];
    for (u32 i = 2u * (blockIdx.x * blockDim.x + threadIdx.x); i < range.len; i += 2u * gridDim.x * blockDim.x) {
        *reinterpret_cast<bf16x2*>(to + range.to + i) = narrow2(from[range.from + i], from[range.from + i + 1u]);
    }
}

// partials[block] = the sum of squares of the block's elements
KERNEL sum_squares(double* partials, const float* x, u32 len) {
    DYNAMIC_SHARED(double, shared);
    double sum = 0.0;
    for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < len; i += gridDim.x * blockDim.x) sum += double(x[i]) * double(x[i]);
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

// Where parameters end, in order, and whether those up to there decay.
struct Entry {
    u32 end, decays;
};

// AdamW (torch.optim.AdamW), one pass. Where loss or norm is not finite nothing is touched: the host then gives the step up.
KERNEL adamw(
    float* params, float* exp_avg, float* exp_avg_sq, const float* grad, const float* outcome, const float* loss, const Entry* entries,
    u32 num_entries, Update update, u32 len) {
    if (!isfinite(outcome[0]) || !isfinite(*loss)) return;
    float grad_scale = outcome[1];
    for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < len; i += gridDim.x * blockDim.x) {
        u32 first = 0u, beyond = num_entries - 1u;
        while (first < beyond) {
            u32 middle = (first + beyond) / 2u;
            if (entries[middle].end <= i) first = middle + 1u;
            else beyond = middle;
        }
        float g = grad[i] * grad_scale, m = exp_avg[i], v = exp_avg_sq[i], param = params[i];
        if (entries[first].decays) param *= update.keep;
        m += update.rise1 * (g - m);
        v = v * update.beta2 + update.rise2 * g * g;
        exp_avg[i] = m;
        exp_avg_sq[i] = v;
        params[i] = param - update.step_size * (m / (sqrtf(v) / update.root_bc2 + update.eps));
    }
}
