// As much of CUDA as the kernels of backends/cuda/source use, for a C++20 compiler on POSIX: each thread of a block is a
// context of its own (ucontext.h), which runs up to its next __syncthreads, blocks run one after the other, and shared
// memory is static. With eight real threads a launch took 3 ms, as they waited for each other, and takes 0.2 so.
#ifdef __APPLE__  // where contexts are there for programs that ask for them, and are called outdated
#define _XOPEN_SOURCE 700
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#endif
#include <math.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#define __global__
#define __device__ static
#define __shared__ static
#define __launch_bounds__(threads)

[[maybe_unused]] static int min(int a, int b) { return a < b ? a : b; }
[[maybe_unused]] static int max(int a, int b) { return a > b ? a : b; }

struct Position {
    unsigned x = 0, y = 0;
};
static Position blockIdx, threadIdx, blockDim, gridDim;

// The threads of a block, where it has several. From one __syncthreads to the next they run one after the other, the
// first one first or the last one first, in turns, and the other way round in the next launch: what one reads of another
// without a __syncthreads between them is right in one of the two orders at most.
struct Thread {
    ucontext_t context;
    std::unique_ptr<char[]> stack{new char[1 << 18]};
    bool has_ended = false;
};
static std::vector<Thread> threads_of_block;
static ucontext_t scheduler;
static Thread* running = nullptr;

static void run(Thread& thread)
{
    running = &thread;
    threadIdx = {unsigned(&thread - threads_of_block.data()), 0};
    swapcontext(&scheduler, &thread.context);
    running = nullptr;
}

static void run_all()
{
    static bool begins_with_last = false;
    begins_with_last = !begins_with_last;
    bool last_one_first = begins_with_last;
    for (size_t ended = 0; ended == 0; last_one_first = !last_one_first) {
        if (last_one_first)
            for (size_t i = threads_of_block.size(); i-- > 0;) run(threads_of_block[i]);
        else
            for (Thread& thread : threads_of_block) run(thread);
        for (const Thread& thread : threads_of_block) ended += thread.has_ended;
        if (ended != 0 && ended != threads_of_block.size()) {
            fputs("a thread of a block ends while others wait in __syncthreads, which would never end on a GPU\n", stderr);
            abort();
        }
    }
}

static void __syncthreads()
{
    if (running) swapcontext(&running->context, &scheduler);
}

// Blocks run one after the other: each sees what those before it have written.
[[maybe_unused]] static void __threadfence() {}

// By one thread of each block only.
[[maybe_unused]] static unsigned atomicInc(unsigned* address, unsigned last)
{
    const unsigned old = *address;
    *address = old >= last ? 0 : old + 1;
    return old;
}

// A launch that begins while the one before it is running. Until a block has waited, it finds 0xFF in what that one
// writes, and must not write at all into what that one uses.
struct Memory {
    char* begin;
    size_t size;
    bool is_written;
};
static std::vector<Memory> of_launch_before;  // no two of them have a byte in common
static std::vector<std::vector<char>> kept;   // what is there
static bool is_early = false;
static const char* problem = nullptr;

// The same memory in pieces that do not overlap, written where one of those that overlap there is.
static std::vector<Memory> apart(const Memory* memory, unsigned count)
{
    std::vector<char*> ends;
    for (unsigned i = 0; i < count; ++i) ends.insert(ends.end(), {memory[i].begin, memory[i].begin + memory[i].size});
    std::sort(ends.begin(), ends.end());
    std::vector<Memory> found;
    for (size_t i = 0; i + 1 < ends.size(); ++i) {
        Memory piece = {ends[i], size_t(ends[i + 1] - ends[i]), false};
        bool is_used = false;
        for (unsigned k = 0; k < count; ++k)
            if (piece.size && memory[k].begin <= ends[i] && ends[i + 1] <= memory[k].begin + memory[k].size)
                is_used = true, piece.is_written |= memory[k].is_written;
        if (is_used) found.push_back(piece);
    }
    return found;
}

extern "C" void emulate_early(const Memory* memory, unsigned count)
{
    of_launch_before = apart(memory, count);
    kept.resize(std::max(kept.size(), of_launch_before.size()));
}

// What was wrong with the launch before which `emulate_early` was called.
extern "C" const char* emulate_problem()
{
    of_launch_before.clear();
    return std::exchange(problem, nullptr);
}

static void begin_block()
{
    is_early = !of_launch_before.empty();
    for (size_t i = 0; i < of_launch_before.size(); ++i) {
        const Memory& m = of_launch_before[i];
        kept[i].assign(m.begin, m.begin + m.size);
        if (m.is_written) memset(m.begin, 0xFF, m.size);
    }
}

static void end_of_wait()
{
    for (size_t i = 0; i < of_launch_before.size(); ++i) {
        const Memory& m = of_launch_before[i];
        // All bytes are 0xFF where the first is, and each is the one after it.
        const bool is_as_found = m.is_written ? m.begin[0] == char(0xFF) && !memcmp(m.begin, m.begin + 1, m.size - 1)
                                              : !memcmp(m.begin, kept[i].data(), m.size);
        if (!is_as_found) problem = "writes what the launch before uses, and has not waited for it";
        if (m.is_written || !is_as_found) memcpy(m.begin, kept[i].data(), m.size);
    }
    is_early = false;
}

// Each thread of a block comes here equally often.
[[maybe_unused]] static void grid_control_wait()
{
    __syncthreads();
    if (threadIdx.x == 0 && is_early) end_of_wait();
    __syncthreads();
}

[[maybe_unused]] static void grid_control_launch_dependents()
{
    if (threadIdx.x == 0 && is_early) problem = "lets the next launch begin before it has waited";
}
#define GRID_CONTROL(what) grid_control_##what()

static std::function<void()> body;  // of each thread of the launch
static void run_body()
{
    body();
    running->has_ended = true;
}

static void emulate(unsigned blocks_x, unsigned blocks_y, unsigned threads, const std::function<void()>& kernel)
{
    gridDim = {blocks_x, blocks_y};
    blockDim = {threads, 1};
    body = [&] {
        for (unsigned y = 0; y < blocks_y; ++y)
            for (unsigned x = 0; x < blocks_x; ++x) {
                blockIdx = {x, y};
                if (threadIdx.x == 0) begin_block();
                __syncthreads();
                kernel();
                __syncthreads();  // the next block must not find this one in its shared memory
                if (threadIdx.x == 0 && is_early) {
                    end_of_wait();
                    problem = "has a block that never waits for the launch before";
                }
            }
    };
    if (threads == 1) {
        threadIdx = {};
        return body();
    }
    threads_of_block.resize(threads);
    for (Thread& thread : threads_of_block) {
        thread.has_ended = false;
        getcontext(&thread.context);
        thread.context.uc_stack.ss_sp = thread.stack.get();
        thread.context.uc_stack.ss_size = 1 << 18;
        thread.context.uc_link = &scheduler;
        makecontext(&thread.context, run_body, 0);
    }
    run_all();
}
