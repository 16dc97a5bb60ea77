// The kernels, compiled for the CPU (kernels.inc), and their blocks of threads, which are coroutines.
#pragma once
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <tuple>
#include <utility>
#include <vector>

using std::max;
using std::min;

struct Index {
    unsigned x, y, z;
};
static Index threadIdx, blockIdx, blockDim, gridDim;
static void fake_barrier();

#define __global__
#define __device__
#define __shared__ static
#define __syncthreads() fake_barrier()
static unsigned __float_as_uint(float value) {
    unsigned bits;
    return memcpy(&bits, &value, 4), bits;
}
static float __uint_as_float(unsigned bits) {
    float value;
    return memcpy(&value, &bits, 4), value;
}
#undef isfinite
#define isfinite(x) std::isfinite(x)
#include "kernels.inc"

// A kernel with copies of its arguments: `KERNEL(name)` is written for each kernel into table.inc.
using Call = std::function<void()>;
template <typename... A, size_t... I>
static Call copied(void (*kernel)(A...), void **arguments, std::index_sequence<I...>) {
    auto values = std::make_tuple(*static_cast<A *>(arguments[I])...);
    return [=] { kernel(std::get<I>(values)...); };
}
template <typename... A> static Call copied(void (*kernel)(A...), void **arguments) {
    return copied(kernel, arguments, std::index_sequence_for<A...>{});
}
struct Kernel {
    const char *name;
    Call (*bind)(void **);
};
#define KERNEL(name) {#name, [](void **arguments) { return copied(name, arguments); }},
static const Kernel TABLE[] = {
#include "table.inc"
};

// Threads of a block that wait for each other, as coroutines.
struct Thread {
    ucontext_t context;
    std::vector<char> stack;
    bool done;
};
static ucontext_t scheduler;
static std::vector<Thread> threads;
static unsigned current = 0;
static bool cooperative = false;
static const Call *cooperative_call;

static void fake_barrier() {
    if (cooperative) swapcontext(&threads[current].context, &scheduler);
}

static void thread_main() {
    (*cooperative_call)();
    threads[current].done = true;
    swapcontext(&threads[current].context, &scheduler);
}

// Threads run from the first to the last or in reverse, so that a missing barrier is noticed in both directions.
static void run_cooperatively(const Call &call, bool in_reverse) {
    cooperative = true;
    cooperative_call = &call;
    threads.resize(blockDim.x);
    for (auto &thread : threads) {
        thread.stack.resize(16 << 10);
        thread.done = false;
        getcontext(&thread.context);
        thread.context.uc_stack.ss_sp = thread.stack.data();
        thread.context.uc_stack.ss_size = thread.stack.size();
        thread.context.uc_link = &scheduler;
        makecontext(&thread.context, thread_main, 0);
    }
    for (bool left = true; left;) {
        left = false;
        for (unsigned turn = 0; turn < blockDim.x; turn++) {
            current = in_reverse ? blockDim.x - 1 - turn : turn;
            if (threads[current].done) continue;
            threadIdx.x = current;
            swapcontext(&scheduler, &threads[current].context);
            left = left || !threads[current].done;
        }
    }
    cooperative = false;
}
