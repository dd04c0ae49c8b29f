// Runs kernels on a CPU, so that they are tested where there is no GPU: the very source, with its blocks, warps, barriers, shared memory,
// atomics and tensor core instructions. Threads of a block are fibers of one thread, and take turns at barriers and at what a warp does
// together. What would hang or be undefined on a GPU (a barrier or a warp's operation that not all reach) ends with an error.
//
// To be included before a kernel file; EMULATED(kernel, name) after it gives the kernel to `emulate` under a name.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <exception>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static thread_local
#define KERNEL static void
#define KERNEL_OF(threads, blocks) static void
#define DYNAMIC_SHARED(type, name) type* name = reinterpret_cast<type*>(simt::block->dynamic_shared.data())

namespace simt {

struct Dim {
    uint32_t x, y, z;
};

// Why a launch cannot go on.
struct Stopped : std::exception {
    std::string why;
    explicit Stopped(std::string why) : why(std::move(why)) {}
    const char* what() const noexcept override { return why.c_str(); }
};

// ---- fibers --------------------------------------------------------------------------------------------------------------

#if defined(__x86_64__)
struct Context {
    void* stack_pointer;
};
extern "C" void artel_switch(void** from, void* to);
inline void switch_to(Context& from, Context& to) { artel_switch(&from.stack_pointer, to.stack_pointer); }
inline void prepare(Context& context, char* stack, size_t len, void (*entry)()) {
    uintptr_t top = (reinterpret_cast<uintptr_t>(stack) + len) & ~uintptr_t(15);
    // six saved registers, the entry, and room that leaves the stack as a call would
    void** frame = reinterpret_cast<void**>(top) - 8;
    memset(frame, 0, 8 * sizeof(void*));
    frame[6] = reinterpret_cast<void*>(entry);
    context.stack_pointer = frame;
}
#else
using Context = ucontext_t;
inline void switch_to(Context& from, Context& to) { swapcontext(&from, &to); }
inline void prepare(Context& context, char* stack, size_t len, void (*entry)()) {
    getcontext(&context);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = len;
    context.uc_link = nullptr;
    makecontext(&context, entry, 0);
}
#endif

constexpr size_t STACK = 64 * 1024;
constexpr uint32_t WARP_LANES = 32;

enum class State { ready, at_barrier, at_warp, done };

// Sixteen bytes on their way to shared memory, or zeros.
struct Copy {
    void* to;
    const void* from;
};

struct Lane {
    Context context;
    State state;
    Dim thread;
    uint32_t index, operation;
    // what was begun, and what is waited for; it arrives no sooner than it must
    std::vector<Copy> begun, committed;
};

struct WarpState {
    uint32_t arrived, of_operation;
    // what lanes show one another, of this operation and of the one before
    uint32_t slots[2][WARP_LANES][8];
};

struct Block {
    Dim index, size, grid;
    std::vector<Lane> lanes;
    std::vector<WarpState> warps;
    std::vector<char> stacks, dynamic_shared;
    Context scheduler;
    std::string failure;
    void (*body)(void** args);
    void** args;
};

extern thread_local Block* block;
extern thread_local Lane* lane;

inline void yield() { switch_to(lane->context, block->scheduler); }

inline void barrier() {
    lane->state = State::at_barrier;
    yield();
    if (!block->failure.empty()) throw Stopped(block->failure);
}

// Shows `words` to the warp; once all lanes have shown theirs, gives back all of them.
inline const uint32_t (*exchange(const uint32_t* words, uint32_t count))[8] {
    WarpState& warp = block->warps[lane->index / WARP_LANES];
    uint32_t turn = lane->operation++ % 2u;
    memcpy(warp.slots[turn][lane->index % WARP_LANES], words, count * sizeof(uint32_t));
    if (++warp.arrived == WARP_LANES) {
        warp.arrived = 0;
        uint32_t first = lane->index / WARP_LANES * WARP_LANES;
        for (uint32_t i = first; i < first + WARP_LANES; i++) block->lanes[i].state = State::ready;
    } else {
        lane->state = State::at_warp;
        yield();
        if (!block->failure.empty()) throw Stopped(block->failure);
    }
    return warp.slots[turn];
}

// Runs `body` for every thread of every block; an empty string if it went well.
std::string launch(Dim grid, uint32_t threads, uint32_t shared_bytes, void (*body)(void** args), void** args);

// ---- kernels by name -----------------------------------------------------------------------------------------------------

template <class... A, size_t... I>
void call(void (*kernel)(A...), void** args, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_reference_t<A>*>(args[I])...);
}

struct Entry {
    Entry(const char* name, void (*body)(void**));
};

template <auto kernel>
struct Kernel;

template <class... A, void (*kernel)(A...)>
struct Kernel<kernel> {
    static void body(void** args) { call(kernel, args, std::index_sequence_for<A...>()); }
};

}  // namespace simt

#define EMULATED(kernel, name) static simt::Entry entry_of_##kernel(name, simt::Kernel<&kernel>::body);

// ---- what CUDA gives a kernel --------------------------------------------------------------------------------------------

#define threadIdx (simt::lane->thread)
#define blockIdx (simt::block->index)
#define blockDim (simt::block->size)
#define gridDim (simt::block->grid)

using std::isfinite;

inline void __syncthreads() { simt::barrier(); }

inline float __uint_as_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
inline uint32_t __float_as_uint(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}
inline uint32_t __umulhi(uint32_t a, uint32_t b) { return uint32_t((uint64_t(a) * b) >> 32); }
inline uint32_t __funnelshift_r(uint32_t low, uint32_t high, uint32_t shift) {
    return uint32_t((uint64_t(high) << 32 | low) >> (shift % 32u));
}
using std::exp2f;
using std::log2f;
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline float atomicAdd(float* to, float x) {
    float before = *to;
    *to = before + x;
    return before;
}

inline float __shfl_xor_sync(uint32_t, float x, uint32_t distance) {
    uint32_t bits = __float_as_uint(x);
    return __uint_as_float(simt::exchange(&bits, 1)[(simt::lane->index % 32u) ^ distance][0]);
}
inline uint32_t __ballot_sync(uint32_t, bool vote) {
    uint32_t mine = vote, all = 0;
    auto votes = simt::exchange(&mine, 1);
    for (uint32_t i = 0; i < simt::WARP_LANES; i++) all |= votes[i][0] << i;
    return all;
}

// The layout of PTX's mma.m16n8k16: thread 4 g + t holds of the left rows g and g + 8 (registers 0 and 1, then 2 and 3 for the columns from 8 on),
// columns 2 t and 2 t + 1; of the right column g, rows 2 t and 2 t + 1, and from 8 on; of the sums rows g and g + 8, columns 2 t, 2 t + 1.
inline void mma_m16n8k16(float* sums, const uint32_t* left, uint32_t right0, uint32_t right1) {
    uint32_t mine[6] = {left[0], left[1], left[2], left[3], right0, right1};
    auto all = simt::exchange(mine, 6);
    uint32_t g = simt::lane->index % 32u / 4u, t = simt::lane->index % 4u;
    auto half = [](uint32_t pair, uint32_t which) { return __uint_as_float(which ? pair & 0xffff0000u : pair << 16); };
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t row_half = i / 2u, column = 2u * t + i % 2u;
        float sum = 0.0f;
        for (uint32_t k = 0; k < 16u; k++) {
            uint32_t from = k % 8u / 2u, beyond = k / 8u;
            float a = half(all[4u * g + from][row_half + 2u * beyond], k % 2u);
            float b = half(all[4u * column + from][4u + beyond], k % 2u);
            sum += a * b;
        }
        sums[i] += sum;
    }
}

// Where the rows of four matrices are, as PTX's ldmatrix takes them: thread 8 m + r shows row r of matrix m.
struct MatrixRows {
    const uint16_t* row[simt::WARP_LANES];
    explicit MatrixRows(const uint16_t* mine) {
        if (reinterpret_cast<uintptr_t>(mine) % 16u != 0) throw simt::Stopped("a row of a matrix is not aligned");
        uint32_t words[2];
        memcpy(words, &mine, sizeof mine);
        auto all = simt::exchange(words, 2);
        for (uint32_t i = 0; i < simt::WARP_LANES; i++) memcpy(&row[i], all[i], sizeof mine);
    }
};
inline void load_matrices(uint32_t* to, const uint16_t* row) {
    MatrixRows rows(row);
    uint32_t g = simt::lane->index % 32u / 4u, t = simt::lane->index % 4u;
    for (uint32_t m = 0; m < 4; m++) memcpy(&to[m], rows.row[8u * m + g] + 2u * t, sizeof to[m]);
}
inline void load_matrices_turned(uint32_t* to, const uint16_t* row) {
    MatrixRows rows(row);
    uint32_t g = simt::lane->index % 32u / 4u, t = simt::lane->index % 4u;
    for (uint32_t m = 0; m < 4; m++) to[m] = rows.row[8u * m + 2u * t][g] | uint32_t(rows.row[8u * m + 2u * t + 1u][g]) << 16;
}

inline void begin_copy(uint16_t* to, const void* from, bool inside) {
    if ((reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from)) % 16u != 0) throw simt::Stopped("a copy is not aligned");
    simt::lane->begun.push_back({to, inside ? from : nullptr});
}
inline void commit_copies() {
    auto& lane = *simt::lane;
    lane.committed.insert(lane.committed.end(), lane.begun.begin(), lane.begun.end());
    lane.begun.clear();
}
inline void wait_copies() {
    for (const simt::Copy& copy : simt::lane->committed) {
        if (copy.from == nullptr) memset(copy.to, 0, 16);
        else memcpy(copy.to, copy.from, 16);
    }
    simt::lane->committed.clear();
}
