// As much of CUDA as the kernels of backends/cuda/source use, for a C++20 compiler: each thread of a block is a
// thread, blocks run one after the other, and shared memory is static.
#include <math.h>

#include <barrier>
#include <functional>
#include <thread>
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

static void emulate(unsigned blocks_x, unsigned blocks_y, unsigned threads, const std::function<void()>& kernel)
{
    auto thread = [&](unsigned index) {
        gridDim = {blocks_x, blocks_y};
        blockDim = {threads, 1};
        threadIdx = {index, 0};
        for (unsigned y = 0; y < blocks_y; ++y)
            for (unsigned x = 0; x < blocks_x; ++x) {
                blockIdx = {x, y};
                kernel();
                __syncthreads();  // the next block must not find this one in its shared memory
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
