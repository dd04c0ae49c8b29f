// From token vectors to one embedding a sequence; a block a sequence. Pooled vectors and embeddings are f32: the loss is.
#include "device.cuh"

// As the host numbers them.
#define CLS 0u
#define MEAN 1u
#define MAX 2u

// The least norm that a vector is divided by, as torch's `normalize` has it.
#define NORM_EPS 1e-12f

// Which tokens of a sequence count: begins[s] .. cu_seqlens[s + 1]; none where a prompt fills it.
struct Counted {
    const u32* cu_seqlens;
    const u32* begins;
};

// The sum over a block, on every thread; `shared` has a place for each warp.
__device__ __forceinline__ float block_sum(float x, float* shared) {
    x = warp_sum(x);
    if (threadIdx.x % WARP == 0u) shared[threadIdx.x / WARP] = x;
    __syncthreads();
    float sum = 0.0f;
    for (u32 warp = 0; warp < blockDim.x / WARP; warp++) sum += shared[warp];
    __syncthreads();
    return sum;
}

// The first row with the greatest value of a feature.
__device__ __forceinline__ u32 greatest(const value* hidden, u32 begin, u32 end, u32 h, u32 feature) {
    u32 best = begin;
    for (u32 row = begin + 1u; row < end; row++) {
        if (wide(hidden[u64(row) * h + feature]) > wide(hidden[u64(best) * h + feature])) best = row;
    }
    return best;
}

// pooled = pool(hidden), embeddings = normalise(pooled)
KERNEL pool(float* pooled, float* embeddings, const value* hidden, Counted counted, u32 mode, u32 normalized, u32 h) {
    DYNAMIC_SHARED(float, shared);
    u32 sequence = blockIdx.x, begin = counted.begins[sequence], end = counted.cu_seqlens[sequence + 1];
    float squares = 0.0f;
    for (u32 feature = threadIdx.x; feature < h; feature += blockDim.x) {
        float x = 0.0f;
        if (mode == CLS) {
            x = wide(hidden[u64(begin < end ? begin : counted.cu_seqlens[sequence]) * h + feature]);
        } else if (mode == MEAN) {
            for (u32 row = begin; row < end; row++) x += wide(hidden[u64(row) * h + feature]);
            x /= float(end > begin ? end - begin : 1u);
        } else if (begin < end) {
            x = wide(hidden[u64(greatest(hidden, begin, end, h, feature)) * h + feature]);
        }
        pooled[u64(sequence) * h + feature] = x;
        squares += x * x;
    }
    float divisor = 1.0f;
    if (normalized) divisor = fmaxf(sqrtf(block_sum(squares, shared)), NORM_EPS);
    for (u32 feature = threadIdx.x; feature < h; feature += blockDim.x) {
        embeddings[u64(sequence) * h + feature] = pooled[u64(sequence) * h + feature] / divisor;
    }
}

// d_hidden, every row of the sequence, from the embeddings' gradient; only the maximum reads `hidden`, which may be where `d_hidden` is:
// a block writes a feature's rows after it has read them.
KERNEL pool_backward(
    value* d_hidden, const value* hidden, const float* pooled, const float* d_embeddings, Counted counted, u32 mode, u32 normalized, u32 h) {
    DYNAMIC_SHARED(float, shared);
    u32 sequence = blockIdx.x, start = counted.cu_seqlens[sequence], end = counted.cu_seqlens[sequence + 1];
    u32 begin = counted.begins[sequence];
    const float* x = pooled + u64(sequence) * h;
    const float* d = d_embeddings + u64(sequence) * h;
    float along = 0.0f, norm = 1.0f;
    if (normalized) {
        float squares = 0.0f, product = 0.0f;
        for (u32 feature = threadIdx.x; feature < h; feature += blockDim.x) {
            squares += x[feature] * x[feature];
            product += x[feature] * d[feature];
        }
        norm = sqrtf(block_sum(squares, shared));
        product = block_sum(product, shared);
        // the gradient of x / max(|x|, eps)
        if (norm < NORM_EPS) norm = NORM_EPS;
        else along = product / (norm * norm);
    }
    for (u32 feature = threadIdx.x; feature < h; feature += blockDim.x) {
        float grad = (d[feature] - x[feature] * along) / norm;
        u32 first = begin, last = end;
        if (mode == CLS) {
            first = begin < end ? begin : start;
            last = first + 1u;
        } else if (mode == MEAN) {
            grad /= float(end > begin ? end - begin : 1u);
        } else if (begin < end) {
            first = greatest(hidden, begin, end, h, feature);
            last = first + 1u;
        }
        for (u32 row = start; row < end; row++) {
            d_hidden[u64(row) * h + feature] = value_of(row >= first && row < last ? grad : 0.0f);
        }
    }
}
