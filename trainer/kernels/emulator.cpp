// The scheduler of emulator.hpp, and what the host calls.
#include "emulator.hpp"

#include <map>

#if defined(__x86_64__)
__asm__(
    ".text\n"
    ".globl artel_switch\n"
    "artel_switch:\n"
    "  push %rbp\n  push %rbx\n  push %r12\n  push %r13\n  push %r14\n  push %r15\n"
    "  mov %rsp, (%rdi)\n"
    "  mov %rsi, %rsp\n"
    "  pop %r15\n  pop %r14\n  pop %r13\n  pop %r12\n  pop %rbx\n  pop %rbp\n"
    "  ret\n");
#endif

namespace simt {

thread_local Block* block = nullptr;
thread_local Lane* lane = nullptr;

static void run_lane() {
    try {
        block->body(block->args);
    } catch (const Stopped&) {
        // said once, by the scheduler
    }
    lane->state = State::done;
    yield();
    __builtin_trap();
}

static void begin_block(Block& now) {
    for (Lane& each : now.lanes) {
        each.state = State::ready;
        each.operation = 0;
        each.begun.clear();
        each.committed.clear();
        prepare(each.context, now.stacks.data() + each.index * STACK, STACK, run_lane);
    }
    for (WarpState& warp : now.warps) warp.arrived = 0;
}

// One block, from its threads' first turn to their last.
static void run_block(Block& now) {
    begin_block(now);
    for (;;) {
        bool moved = false;
        uint32_t done = 0, waiting = 0;
        for (Lane& each : now.lanes) {
            while (each.state == State::ready) {
                lane = &each;
                moved = true;
                switch_to(now.scheduler, each.context);
            }
            done += each.state == State::done;
            waiting += each.state == State::at_barrier;
        }
        uint32_t all = uint32_t(now.lanes.size());
        if (done == all) return;
        if (moved && done + waiting < all) continue;
        if (done + waiting == all && (done == 0 || !now.failure.empty())) {
            for (Lane& each : now.lanes) {
                if (each.state == State::at_barrier) each.state = State::ready;
            }
            continue;
        }
        // some will never be joined by the others; they learn of it, and end
        if (now.failure.empty()) {
            now.failure = done > 0 && waiting > 0 ? "some threads of a block ended before a barrier that others wait at"
                                                  : "some lanes of a warp never reach an operation that others wait at";
        }
        for (Lane& each : now.lanes) {
            if (each.state != State::done) each.state = State::ready;
        }
    }
}

std::string launch(Dim grid, uint32_t threads, uint32_t shared_bytes, void (*body)(void**), void** args) {
    if (threads == 0 || threads > 1024 || threads % WARP_LANES != 0) return "a block needs whole warps, at most 1024 threads";
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535) return "a grid of no blocks, or of too many";
    static thread_local Block now;
    if (now.lanes.size() != threads) {
        now.lanes.resize(threads);
        now.warps.resize(threads / WARP_LANES);
        now.stacks.resize(threads * STACK);
    }
    for (uint32_t i = 0; i < threads; i++) {
        now.lanes[i].index = i;
        now.lanes[i].thread = {i, 0, 0};
    }
    now.size = {threads, 1, 1};
    now.grid = grid;
    now.body = body;
    now.args = args;
    now.failure.clear();
    block = &now;
    for (uint32_t z = 0; z < grid.z; z++) {
        for (uint32_t y = 0; y < grid.y; y++) {
            for (uint32_t x = 0; x < grid.x; x++) {
                now.index = {x, y, z};
                // what a block finds in its shared memory is not to be relied on
                now.dynamic_shared.assign(shared_bytes, char(0xcd));
                run_block(now);
                if (!now.failure.empty()) return now.failure;
            }
        }
    }
    return "";
}

static std::map<std::string, void (*)(void**)>& kernels() {
    static std::map<std::string, void (*)(void**)> all;
    return all;
}

Entry::Entry(const char* name, void (*body)(void**)) { kernels()[name] = body; }

}  // namespace simt

// Runs a kernel; 0 if it went well, else 1 with the reason in `why`.
extern "C" int emulate(const char* name, const uint32_t* grid, uint32_t threads, uint32_t shared_bytes, void** args, char* why, size_t why_len) {
    auto found = simt::kernels().find(name);
    std::string failure = found == simt::kernels().end()
                              ? "there is no such kernel"
                              : simt::launch({grid[0], grid[1], grid[2]}, threads, shared_bytes, found->second, args);
    if (failure.empty()) return 0;
    strncpy(why, failure.c_str(), why_len - 1);
    why[why_len - 1] = 0;
    return 1;
}
