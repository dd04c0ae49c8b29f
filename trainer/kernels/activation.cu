// The feed-forward activations with the bias before them. A thread has two columns and goes down the tokens.
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
        float cdf = 0.5f * (1.0f + erff(x * 0.70710678f));
        float pdf = 0.39894228f * expf(-0.5f * x * x);
        out.value = x * cdf;
        out.slope = cdf + x * pdf;
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
KERNEL activate(bf16* output, const bf16* input, const float* bias, u32 kind, u32 n, u32 width) {
    u32 column = 2u * (blockIdx.x * blockDim.x + threadIdx.x);
    if (column >= width) return;
    float first = bias[column], second = bias[column + 1];
    for (u32 token = blockIdx.y; token < n; token += gridDim.y) {
        u64 at = u64(token) * width + column;
        bf16x2 pair = *reinterpret_cast<const bf16x2*>(input + at);
        float a = activated(low(pair) + first, kind).value, b = activated(high(pair) + second, kind).value;
        *reinterpret_cast<bf16x2*>(output + at) = narrow2(a, b);
    }
}

// `input` becomes activation(input + bias), `d` goes from the value's gradient to that of the input, and partials[block y] receives its
// sum over the block's tokens.
KERNEL activate_backward(bf16* input, bf16* d, float* partials, const float* bias, u32 kind, u32 n, u32 width) {
    u32 column = 2u * (blockIdx.x * blockDim.x + threadIdx.x);
    if (column >= width) return;
    float first = bias[column], second = bias[column + 1], first_sum = 0.0f, second_sum = 0.0f;
    for (u32 token = blockIdx.y; token < n; token += gridDim.y) {
        u64 at = u64(token) * width + column;
        bf16x2 x = *reinterpret_cast<const bf16x2*>(input + at), grad = *reinterpret_cast<const bf16x2*>(d + at);
        Activated a = activated(low(x) + first, kind), b = activated(high(x) + second, kind);
        float d_a = low(grad) * a.slope, d_b = high(grad) * b.slope;
        *reinterpret_cast<bf16x2*>(input + at) = narrow2(a.value, b.value);
        *reinterpret_cast<bf16x2*>(d + at) = narrow2(d_a, d_b);
        first_sum += d_a;
        second_sum += d_b;
    }
    partials[u64(blockIdx.y) * width + column] = first_sum;
    partials[u64(blockIdx.y) * width + column + 1] = second_sum;
}
