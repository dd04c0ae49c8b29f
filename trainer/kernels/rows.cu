// Embeddings, residual sums and LayerNorm: a warp a row. Sums over tokens, for the gradients of vectors, are made in two steps: every
// block sums the rows that it goes through, and `add_partials` adds the blocks up in order. So they are the same at every run.
#include "device.cuh"

struct Moments {
    float mean, inverse_deviation;
};

template <u32 W>
__device__ __forceinline__ Moments moments(const Row<W>& row, u32 h, u32 lane, float eps) {
    float sum = 0.0f;
#pragma unroll
    for (u32 i = 0; i < 2u * Row<W>::PAIRS; i++) sum += row.x[i];
    float mean = warp_sum(sum) / float(h);
    float squares = 0.0f;
#pragma unroll
    for (u32 i = 0; i < 2u * Row<W>::PAIRS; i++) {
        float centred = feature_of(i / 2u, lane) < h ? row.x[i] - mean : 0.0f;
        squares += centred * centred;
    }
    Moments out = {mean, rsqrtf(warp_sum(squares) / float(h) + eps)};
    return out;
}

template <u32 W>
__device__ __forceinline__ void normalize_row(Row<W>& row, const float* gamma, const float* beta, u32 h, u32 lane, float eps) {
    Moments m = moments(row, h, lane, eps);
#pragma unroll
    for (u32 p = 0; p < Row<W>::PAIRS; p++) {
        u32 feature = feature_of(p, lane);
        if (feature >= h) continue;
        for (u32 i = 0; i < 2u; i++) {
            float* x = row.x + 2u * p + i;
            *x = (*x - m.mean) * m.inverse_deviation * gamma[feature + i] + beta[feature + i];
        }
    }
}

// The gradient of a LayerNorm's input from that of its output, `d`; the sums over tokens grow by this row's share.
template <u32 W>
__device__ __forceinline__ void normalize_row_backward(
    Row<W>& d, const Row<W>& x, const float* gamma, Row<W>& gamma_sums, Row<W>& beta_sums, u32 h, u32 lane, float eps) {
    Moments m = moments(x, h, lane, eps);
    float along = 0.0f, total = 0.0f;
#pragma unroll
    for (u32 p = 0; p < Row<W>::PAIRS; p++) {
        u32 feature = feature_of(p, lane);
        if (feature >= h) continue;
        for (u32 i = 0; i < 2u; i++) {
            u32 at = 2u * p + i;
            float unit = (x.x[at] - m.mean) * m.inverse_deviation;
            gamma_sums.x[at] += d.x[at] * unit;
            beta_sums.x[at] += d.x[at];
            d.x[at] *= gamma[feature + i];
            along += d.x[at] * unit;
            total += d.x[at];
        }
    }
    along = warp_sum(along) / float(h);
    total = warp_sum(total) / float(h);
#pragma unroll
    for (u32 p = 0; p < Row<W>::PAIRS; p++) {
        if (feature_of(p, lane) >= h) continue;
        for (u32 i = 0; i < 2u; i++) {
            u32 at = 2u * p + i;
            float unit = (x.x[at] - m.mean) * m.inverse_deviation;
            d.x[at] = (d.x[at] - total - unit * along) * m.inverse_deviation;
        }
    }
}

// A block's warps add up their sums in order, and the first one writes them to the block's row of `partials`.
template <u32 W>
__device__ __forceinline__ void store_sums(float* partials, const Row<W>& sums, u32 h, u32 lane, u32 warp, u32 num_warps, float* shared) {
    for (u32 turn = 0; turn < num_warps; turn++) {
        if (turn == warp) {
#pragma unroll
            for (u32 p = 0; p < Row<W>::PAIRS; p++) {
                u32 feature = feature_of(p, lane);
                if (feature >= h) continue;
                for (u32 i = 0; i < 2u; i++) {
                    float before = turn == 0u ? 0.0f : shared[feature + i];
                    shared[feature + i] = before + sums.x[2u * p + i];
                }
            }
        }
        __syncthreads();
    }
    for (u32 i = threadIdx.x; i < h; i += blockDim.x) partials[i] = shared[i];
    __syncthreads();
}

// ---- embeddings ----------------------------------------------------------------------------------------------------------

struct Tables {
    const float* words;
    const float* positions;
    const float* types;
    const u32* ids;
    const u32* type_ids;
};

template <u32 W>
__device__ __forceinline__ Row<W> embedded(Tables tables, Places places, u32 token, u32 h, u32 lane) {
    Row<W> row = load_vector<W>(tables.words + u64(tables.ids[token]) * h, h, lane);
    Row<W> kind = load_vector<W>(tables.types + u64(tables.type_ids[token]) * h, h, lane);
    Row<W> position = load_vector<W>(tables.positions + u64(places.position[token]) * h, h, lane);
    add_row(row, kind);
    add_row(row, position);
    return row;
}

// output = dropout(LayerNorm(word + type + position))
template <u32 W>
__device__ __forceinline__ void embed_rows(value* output, Tables tables, Places places, const float* gamma, const float* beta, Dropout dropout, u32 n, u32 h, float eps) {
    u32 lane = threadIdx.x % WARP, token = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (token >= n) return;
    Row<W> row = embedded<W>(tables, places, token, h, lane);
    normalize_row(row, gamma, beta, h, lane, eps);
    drop_row(row, places.position[token], h, lane, places.keys[places.sequence[token]], dropout);
    store_row(output + u64(token) * h, row, h, lane);
}

// `d` goes from the output's gradient to that of the sum of the three rows; partials is [2, blocks, h].
template <u32 W>
__device__ __forceinline__ void embed_backward_rows(
    value* d, float* partials, Tables tables, Places places, const float* gamma, Dropout dropout, u32 n, u32 h, float eps) {
    DYNAMIC_SHARED(float, shared);
    u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, num_warps = blockDim.x / WARP;
    Row<W> gamma_sums = {}, beta_sums = {};
    for (u32 token = blockIdx.x * num_warps + warp; token < n; token += gridDim.x * num_warps) {
        Row<W> x = embedded<W>(tables, places, token, h, lane);
        Row<W> grad = load_row<W>(d + u64(token) * h, h, lane);
        drop_row(grad, places.position[token], h, lane, places.keys[places.sequence[token]], dropout);
        normalize_row_backward(grad, x, gamma, gamma_sums, beta_sums, h, lane, eps);
        store_row(d + u64(token) * h, grad, h, lane);
    }
    store_sums(partials + u64(blockIdx.x) * h, gamma_sums, h, lane, warp, num_warps, shared);
    store_sums(partials + u64(gridDim.x + blockIdx.x) * h, beta_sums, h, lane, warp, num_warps, shared);
}

// A run of tokens whose gradients go to one row of a table; no run is long, so that a frequent word holds nobody up.
struct Run {
    u32 row, begin, end;
};

// table_grad[run.row] += the sum of d over the tokens order[run.begin .. run.end]
KERNEL scatter_rows(float* table_grad, const value* d, const u32* order, const Run* runs, u32 h) {
    Run run = runs[blockIdx.x];
    for (u32 feature = threadIdx.x; feature < h; feature += blockDim.x) {
        float sum = 0.0f;
        for (u32 i = run.begin; i < run.end; i++) sum += wide(d[u64(order[i]) * h + feature]);
        atomicAdd(table_grad + u64(run.row) * h + feature, sum);
    }
}

// ---- residual sums and LayerNorm -----------------------------------------------------------------------------------------

// output = LayerNorm(input)
template <u32 W>
__device__ __forceinline__ void normalize_rows(value* output, const value* input, const float* gamma, const float* beta, u32 n, u32 h, float eps) {
    u32 lane = threadIdx.x % WARP, token = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (token >= n) return;
    Row<W> row = load_row<W>(input + u64(token) * h, h, lane);
    normalize_row(row, gamma, beta, h, lane, eps);
    store_row(output + u64(token) * h, row, h, lane);
}

// sums = residual + dropout(sums + bias), output = LayerNorm(sums)
template <u32 W>
__device__ __forceinline__ void residual_normalize_rows(
    value* sums, value* output, const value* residual, Places places, const float* bias, const float* gamma, const float* beta, Dropout dropout,
    u32 n, u32 h, float eps) {
    u32 lane = threadIdx.x % WARP, token = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (token >= n) return;
    Row<W> row = load_row<W>(sums + u64(token) * h, h, lane);
    Row<W> added = load_vector<W>(bias, h, lane);
    add_row(row, added);
    drop_row(row, places.position[token], h, lane, places.keys[places.sequence[token]], dropout);
    added = load_row<W>(residual + u64(token) * h, h, lane);
    add_row(row, added);
    // what is normalised is what is kept, so that the backward sees the same numbers
    round_row(row);
    store_row(sums + u64(token) * h, row, h, lane);
    normalize_row(row, gamma, beta, h, lane, eps);
    store_row(output + u64(token) * h, row, h, lane);
}

// `d` goes from the output's gradient to the residual's, projected receives the projection's; partials is [3, blocks, h]:
// gamma, beta, bias.
template <u32 W>
__device__ __forceinline__ void residual_normalize_backward_rows(
    value* d, value* projected, float* partials, const value* sums, Places places, const float* gamma, Dropout dropout, u32 n, u32 h, float eps) {
    DYNAMIC_SHARED(float, shared);
    u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, num_warps = blockDim.x / WARP;
    Row<W> gamma_sums = {}, beta_sums = {}, bias_sums = {};
    for (u32 token = blockIdx.x * num_warps + warp; token < n; token += gridDim.x * num_warps) {
        Row<W> x = load_row<W>(sums + u64(token) * h, h, lane);
        Row<W> grad = load_row<W>(d + u64(token) * h, h, lane);
        normalize_row_backward(grad, x, gamma, gamma_sums, beta_sums, h, lane, eps);
        store_row(d + u64(token) * h, grad, h, lane);
        drop_row(grad, places.position[token], h, lane, places.keys[places.sequence[token]], dropout);
        store_row(projected + u64(token) * h, grad, h, lane);
        add_row(bias_sums, grad);
    }
    store_sums(partials + u64(blockIdx.x) * h, gamma_sums, h, lane, warp, num_warps, shared);
    store_sums(partials + u64(gridDim.x + blockIdx.x) * h, beta_sums, h, lane, warp, num_warps, shared);
    store_sums(partials + u64(2u * gridDim.x + blockIdx.x) * h, bias_sums, h, lane, warp, num_warps, shared);
}

// ---- sums over tokens ----------------------------------------------------------------------------------------------------

// partials[block y] = the sum over the block's tokens of columns of x, [n, width], eight columns a thread
KERNEL column_sums(float* partials, const value* x, u32 n, u32 width) {
    u32 column = 8u * (blockIdx.x * blockDim.x + threadIdx.x);
    if (column >= width) return;
    float sums[8] = {};
    for (u32 token = blockIdx.y; token < n; token += gridDim.y) {
        Columns<8> row = load_columns<8>(x + u64(token) * width + column);
#pragma unroll
        for (u32 i = 0; i < 8u; i++) sums[i] += row.x[i];
    }
#pragma unroll
    for (u32 i = 0; i < 8u; i++) partials[u64(blockIdx.y) * width + column + i] = sums[i];
}

#define GROUPS 8u

// Where sums go to, one for each block y.
struct Targets {
    float* grad[3];
};

// grad[i] += the sum of the `width` columns of partials' rows, `stride` apart, always in the same order; a block of GROUPS warps has 32 columns, and a warp every
// GROUPS-th row. The partials of one sum begin `apart` elements after those of the one before.
KERNEL add_partials(Targets targets, const float* partials, u32 apart, u32 blocks, u32 width, u32 stride) {
    __shared__ float shared[GROUPS * WARP];
    u32 lane = threadIdx.x % WARP, group = threadIdx.x / WARP, column = blockIdx.x * WARP + lane;
    float sum = 0.0f;
    partials += u64(blockIdx.y) * apart;
    for (u32 block = group; block < blocks && column < width; block += GROUPS) sum += partials[u64(block) * stride + column];
    shared[threadIdx.x] = sum;
    __syncthreads();
    if (group != 0u || column >= width) return;
    for (u32 other = 1u; other < GROUPS; other++) sum += shared[other * WARP + lane];
    targets.grad[blockIdx.y][column] += sum;
}

// ---- by width ------------------------------------------------------------------------------------------------------------
// A kernel for each greatest width, so that narrower models need fewer registers.

// H is the width: h, or where the kernel is for one width alone that number, so that nothing is asked of each feature. As many blocks are to fit at once.
#define ROW_THREADS 128
#define WIDTH(W, H, FORWARD_BLOCKS, BACKWARD_BLOCKS) \
    KERNEL embed_##W(value* output, Tables tables, Places places, const float* gamma, const float* beta, Dropout dropout, u32 n, u32 h, float eps) { \
        embed_rows<W>(output, tables, places, gamma, beta, dropout, n, H, eps); \
    } \
    KERNEL embed_backward_##W(value* d, float* partials, Tables tables, Places places, const float* gamma, Dropout dropout, u32 n, u32 h, float eps) { \
        embed_backward_rows<W>(d, partials, tables, places, gamma, dropout, n, H, eps); \
    } \
    KERNEL normalize_##W(value* output, const value* input, const float* gamma, const float* beta, u32 n, u32 h, float eps) { \
        normalize_rows<W>(output, input, gamma, beta, n, H, eps); \
    } \
    KERNEL_OF(ROW_THREADS, FORWARD_BLOCKS) residual_normalize_##W(value* sums, value* output, const value* residual, Places places, const float* bias, const float* gamma, const float* beta, Dropout dropout, u32 n, u32 h, float eps) { \
        residual_normalize_rows<W>(sums, output, residual, places, bias, gamma, beta, dropout, n, H, eps); \
    } \
    KERNEL_OF(ROW_THREADS, BACKWARD_BLOCKS) residual_normalize_backward_##W(value* d, value* projected, float* partials, const value* sums, Places places, const float* gamma, Dropout dropout, u32 n, u32 h, float eps) { \
        residual_normalize_backward_rows<W>(d, projected, partials, sums, places, gamma, dropout, n, H, eps); \
    }

WIDTH(512, h, 5, 3)
WIDTH(768, 768u, 5, 3)
WIDTH(1024, h, 3, 2)
