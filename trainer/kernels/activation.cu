// The feed-forward activations with the bias before them. A thread has a group of columns and goes down the tokens.
#include "device.cuh"

// As the host numbers them.
#define GELU 0u
#define GELU_TANH 1u
#define RELU 2u
#define SILU 3u

struct Activated {
    float value, slope;
};

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

__device__ __forceinline__ Activated activated(float x, u32 kind) {
    Activated out;
    if (kind == GELU) {
        // Phi(-|x|) by Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26 (to 1.5e-7), with the exponential that the slope wants too
        float size = fabsf(x), z = size * 0.70710678f, t = reciprocal_fast(1.0f + 0.3275911f * z);
        float bell = exp2_fast(-0.72134752f * x * x);
        float tail = 0.5f * t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f)))) * bell;
        float cdf = x < 0.0f ? tail : 1.0f - tail;
        out.value = x * cdf;
        out.slope = cdf + x * 0.39894228f * bell;
    } else if (kind == GELU_TANH) {
        // x/2 (1 + tanh(u)) = x sigmoid(2u) with u = sqrt(2/pi) (x + 0.044715 x^3)
        float square = x * x;
        float s = sigmoid(1.5957691f * x * (1.0f + 0.044715f * square));
        out.value = x * s;
        out.slope = s + x * s * (1.0f - s) * 1.5957691f * (1.0f + 3.0f * 0.044715f * square);
    } else if (kind == RELU) {
        out.value = x < 0.0f ? 0.0f : x;  // a NaN stays one
        out.slope = x > 0.0f ? 1.0f : 0.0f;
    } else {
        float s = sigmoid(x);
        out.value = x * s;
        out.slope = s + x * s * (1.0f - s);
    }
    return out;
}

// output = activation(input + bias); the two may be one
template <u32 C>
__device__ __forceinline__ void activate(value* output, const value* input, const float* bias, u32 kind, u32 n, u32 width) {
    u32 column = C * (blockIdx.x * blockDim.x + threadIdx.x);
    if (column >= width) return;
    float added[C];
#pragma unroll
    for (u32 i = 0; i < C; i++) added[i] = bias[column + i];
    for (u32 token = blockIdx.y; token < n; token += gridDim.y) {
        u64 at = u64(token) * width + column;
        Columns<C> x = load_columns<C>(input + at);
#pragma unroll
        for (u32 i = 0; i < C; i++) x.x[i] = activated(x.x[i] + added[i], kind).value;
        store_columns<C>(output + at, x);
    }
}

// `input` becomes activation(input + bias), `d` goes from the value's gradient to that of the input, and partials[block y] receives its
// sum over the block's tokens.
template <u32 C>
__device__ __forceinline__ void activate_backward(value* input, value* d, float* partials, const float* bias, u32 kind, u32 n, u32 width) {
    u32 column = C * (blockIdx.x * blockDim.x + threadIdx.x);
    if (column >= width) return;
    float added[C], sums[C] = {};
#pragma unroll
    for (u32 i = 0; i < C; i++) added[i] = bias[column + i];
    for (u32 token = blockIdx.y; token < n; token += gridDim.y) {
        u64 at = u64(token) * width + column;
        Columns<C> x = load_columns<C>(input + at), grad = load_columns<C>(d + at);
#pragma unroll
        for (u32 i = 0; i < C; i++) {
            Activated a = activated(x.x[i] + added[i], kind);
            x.x[i] = a.value;
            grad.x[i] *= a.slope;
            sums[i] += grad.x[i];
        }
        store_columns<C>(input + at, x);
        store_columns<C>(d + at, grad);
    }
#pragma unroll
    for (u32 i = 0; i < C; i++) partials[u64(blockIdx.y) * width + column + i] = sums[i];
}

#define COLUMNS(C)                                                                                                                     \
    KERNEL activate_##C(value* output, const value* input, const float* bias, u32 kind, u32 n, u32 width) {                              \
        activate<C>(output, input, bias, kind, n, width);                                                                              \
    }                                                                                                                                  \
    KERNEL activate_backward_##C(value* input, value* d, float* partials, const float* bias, u32 kind, u32 n, u32 width) {               \
        activate_backward<C>(input, d, partials, bias, kind, n, width);                                                                \
    }

COLUMNS(2)
COLUMNS(8)
