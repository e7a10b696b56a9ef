// As much of CUDA as the kernels of backends/cuda/source use, for a C++20 compiler: each thread of a block is a
// thread, blocks run one after the other, and shared memory is static.
#include <math.h>

#include <algorithm>
#include <barrier>
#include <cstring>
#include <functional>
#include <thread>
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
static thread_local Position blockIdx, threadIdx, blockDim, gridDim;
static std::barrier<>* block_barrier = nullptr;

static void __syncthreads()
{
    if (block_barrier) block_barrier->arrive_and_wait();
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
static std::vector<Memory> of_launch_before;
static std::vector<std::pair<std::vector<char>, std::vector<char>>> kept;  // what is there, and what the block finds
static bool is_early = false;
static const char* problem = nullptr;

extern "C" void emulate_early(const Memory* memory, unsigned count) { of_launch_before.assign(memory, memory + count); }

// What was wrong with the launch before which `emulate_early` was called.
extern "C" const char* emulate_problem()
{
    of_launch_before.clear();
    return std::exchange(problem, nullptr);
}

static void begin_block()
{
    is_early = !of_launch_before.empty();
    kept.clear();
    for (const Memory& m : of_launch_before) kept.push_back({{m.begin, m.begin + m.size}, {}});
    for (const Memory& m : of_launch_before)
        if (m.is_written) memset(m.begin, 0xFF, m.size);
    for (size_t i = 0; i < kept.size(); ++i) {
        const Memory& m = of_launch_before[i];
        kept[i].second.assign(m.begin, m.begin + m.size);
    }
}

static void end_of_wait()
{
    for (size_t i = 0; i < kept.size(); ++i)
        if (!std::equal(kept[i].second.begin(), kept[i].second.end(), of_launch_before[i].begin))
            problem = "writes what the launch before uses, and has not waited for it";
    for (size_t i = 0; i < kept.size(); ++i)
        std::copy(kept[i].first.begin(), kept[i].first.end(), of_launch_before[i].begin);
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

static void emulate(unsigned blocks_x, unsigned blocks_y, unsigned threads, const std::function<void()>& kernel)
{
    auto thread = [&](unsigned index) {
        gridDim = {blocks_x, blocks_y};
        blockDim = {threads, 1};
        threadIdx = {index, 0};
        for (unsigned y = 0; y < blocks_y; ++y)
            for (unsigned x = 0; x < blocks_x; ++x) {
                blockIdx = {x, y};
                if (index == 0) begin_block();
                __syncthreads();
                kernel();
                __syncthreads();  // the next block must not find this one in its shared memory
                if (index == 0 && is_early) {
                    end_of_wait();
                    problem = "has a block that never waits for the launch before";
                }
            }
    };
    if (threads == 1) return thread(0);
    std::barrier<> barrier(threads);
    block_barrier = &barrier;
    {
        std::vector<std::jthread> others;
        for (unsigned index = 1; index < threads; ++index) others.emplace_back(thread, index);
        thread(0);
    }
    block_barrier = nullptr;
}
