// A CUDA driver for tests on machines without a GPU. The GPU's memory is the host's, and a stream executes at once. The
// kernels are compiled for the CPU (kernels.inc), from the source that the crate passes to NVRTC.
//
// Like a real driver, it rejects wrong use: calls without a current context, frees of unknown addresses, copies beyond an
// allocation. `fake_cuda_launches` counts launches.
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
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
#undef isfinite
#define isfinite(x) std::isfinite(x)
#include "kernels.inc"

// A kernel with its arguments unpacked: `KERNEL(name)` is written for each kernel into table.inc.
using Call = void (*)(void **);
template <typename... A, size_t... I>
static void unpack(void (*kernel)(A...), void **arguments, std::index_sequence<I...>) {
    kernel(*static_cast<A *>(arguments[I])...);
}
template <typename... A> static void invoke(void (*kernel)(A...), void **arguments) {
    unpack(kernel, arguments, std::index_sequence_for<A...>{});
}
struct Kernel {
    const char *name;
    Call call;
};
#define KERNEL(name) {#name, [](void **arguments) { invoke(name, arguments); }},
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
static Call cooperative_call;
static void **cooperative_arguments;

static void fake_barrier() {
    if (cooperative) swapcontext(&threads[current].context, &scheduler);
}

static void thread_main() {
    cooperative_call(cooperative_arguments);
    threads[current].done = true;
    swapcontext(&threads[current].context, &scheduler);
}

static void run_cooperatively(Call call, void **arguments) {
    cooperative = true;
    cooperative_call = call;
    cooperative_arguments = arguments;
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
        for (current = 0; current < blockDim.x; current++) {
            if (threads[current].done) continue;
            threadIdx.x = current;
            swapcontext(&scheduler, &threads[current].context);
            left = left || !threads[current].done;
        }
    }
    cooperative = false;
}

// Largest number of reduction blocks that run with all their threads. In larger grids, one thread per block computes the
// same sums in another order, a hundred times faster.
static const unsigned MAX_COOPERATIVE = 8;
// Blocks of this size reduce; others have independent threads.
static const unsigned REDUCING = BLOCK;

static std::recursive_mutex lock;
static std::map<uint64_t, size_t> allocations;
static unsigned long launches = 0, in_use = 0, peak = 0;
static int context_object, stream_object, pool_object, module_object;
static thread_local bool is_current = false;
static uint64_t release_threshold = 0;

typedef int Status;
enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_CONTEXT = 201, NOT_FOUND = 500 };

// Whether `bytes` at an address are within one allocation.
static bool is_allocated(uint64_t address, size_t bytes) {
    auto next = allocations.upper_bound(address);
    if (next == allocations.begin()) return false;
    auto &[start, size] = *std::prev(next);
    return address + bytes <= start + size;
}

#define GUARD                                        \
    std::lock_guard<std::recursive_mutex> hold(lock); \
    if (!is_current) return INVALID_CONTEXT;

extern "C" {

unsigned long fake_cuda_launches() { return launches; }
// Called by the other libraries for each operation that a real one would launch.
void fake_cuda_count() { launches++; }
unsigned long fake_cuda_allocations() { return allocations.size(); }
unsigned long fake_cuda_peak_bytes() { return peak; }
uint64_t fake_cuda_release_threshold() { return release_threshold; }
int fake_cuda_is_allocated(uint64_t address, size_t bytes) {
    std::lock_guard<std::recursive_mutex> hold(lock);
    return is_allocated(address, bytes);
}

static int number(const char *variable, int usual) {
    const char *value = getenv(variable);
    return value ? atoi(value) : usual;
}

Status cuInit(unsigned flags) { return flags ? INVALID_VALUE : SUCCESS; }
Status cuDriverGetVersion(int *version) { return *version = number("FAKE_CUDA_VERSION", 13000), SUCCESS; }
Status cuDeviceGetCount(int *count) { return *count = number("FAKE_CUDA_GPUS", 1), SUCCESS; }
Status cuDeviceGet(int *device, int ordinal) { return *device = ordinal, ordinal ? NO_DEVICE : SUCCESS; }
Status cuDeviceGetName(char *name, int length, int) { return snprintf(name, length, "Fake GPU"), SUCCESS; }
Status cuDeviceGetAttribute(int *value, int attribute, int) {
    *value = attribute == 75 ? 9 : 0;
    return attribute == 75 || attribute == 76 ? SUCCESS : INVALID_VALUE;
}
Status cuDeviceTotalMem_v2(size_t *bytes, int) { return *bytes = (size_t)8 << 30, SUCCESS; }
Status cuDevicePrimaryCtxRetain(void **context, int) { return *context = &context_object, SUCCESS; }
Status cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
Status cuCtxSetCurrent(void *context) {
    if (context != &context_object) return INVALID_CONTEXT;
    return is_current = true, SUCCESS;
}
Status cuStreamCreate(void **stream, unsigned flags) {
    GUARD
    return *stream = &stream_object, flags == 1 ? SUCCESS : INVALID_VALUE;
}
Status cuStreamSynchronize(void *) { GUARD return SUCCESS; }
Status cuStreamDestroy_v2(void *) { GUARD return SUCCESS; }
Status cuDeviceGetDefaultMemPool(void **pool, int) { return *pool = &pool_object, SUCCESS; }
Status cuMemPoolSetAttribute(void *pool, int attribute, void *value) {
    if (pool != &pool_object || attribute != 4) return INVALID_VALUE;
    return memcpy(&release_threshold, value, 8), SUCCESS;
}
Status cuMemAllocAsync(uint64_t *pointer, size_t bytes, void *stream) {
    GUARD
    if (stream != &stream_object || bytes == 0) return INVALID_VALUE;
    if (in_use + bytes > (size_t)8 << 30) return OUT_OF_MEMORY;
    void *memory = malloc(bytes);
    if (!memory) return OUT_OF_MEMORY;
    // Fills new memory with NaN, so that a read before the first write is detected.
    memset(memory, 0xff, bytes);
    *pointer = (uint64_t)memory;
    allocations[*pointer] = bytes;
    in_use += bytes;
    peak = std::max(peak, in_use);
    return SUCCESS;
}
Status cuMemFreeAsync(uint64_t pointer, void *) {
    GUARD
    auto found = allocations.find(pointer);
    if (found == allocations.end()) return INVALID_VALUE;
    in_use -= found->second;
    memset((void *)pointer, 0xff, found->second);
    free((void *)pointer);
    allocations.erase(found);
    return SUCCESS;
}
Status cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *) {
    GUARD
    if (!is_allocated(to, bytes)) return INVALID_VALUE;
    return memcpy((void *)to, from, bytes), launches++, SUCCESS;
}
Status cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *) {
    GUARD
    if (!is_allocated(from, bytes)) return INVALID_VALUE;
    return memcpy(to, (void *)from, bytes), launches++, SUCCESS;
}
Status cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *) {
    GUARD
    if (!is_allocated(to, bytes) || !is_allocated(from, bytes)) return INVALID_VALUE;
    return memmove((void *)to, (void *)from, bytes), launches++, SUCCESS;
}
Status cuMemsetD32Async(uint64_t to, unsigned value, size_t count, void *) {
    GUARD
    if (!is_allocated(to, count * 4)) return INVALID_VALUE;
    for (size_t i = 0; i < count; i++) ((unsigned *)to)[i] = value;
    return launches++, SUCCESS;
}
Status cuMemHostAlloc(void **pointer, size_t bytes, unsigned) {
    GUARD
    return *pointer = malloc(bytes), *pointer ? SUCCESS : OUT_OF_MEMORY;
}
Status cuMemFreeHost(void *pointer) {
    GUARD
    return free(pointer), SUCCESS;
}
Status cuEventCreate(void **event, unsigned) {
    GUARD
    return *event = malloc(1), SUCCESS;
}
Status cuEventRecord(void *, void *) { GUARD return SUCCESS; }
Status cuEventSynchronize(void *) { GUARD return SUCCESS; }
Status cuEventQuery(void *event) { GUARD return event ? SUCCESS : INVALID_VALUE; }
Status cuEventDestroy_v2(void *event) {
    GUARD
    return free(event), SUCCESS;
}
Status cuModuleLoadData(void **module, const void *image) {
    GUARD
    return *module = &module_object, strcmp((const char *)image, "fake cubin") ? INVALID_VALUE : SUCCESS;
}
Status cuModuleGetFunction(void **function, void *, const char *name) {
    GUARD
    for (auto &kernel : TABLE)
        if (!strcmp(kernel.name, name)) return *function = (void *)&kernel, SUCCESS;
    return NOT_FOUND;
}
Status cuLaunchKernel(
    void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned, void *stream,
    void **arguments, void **) {
    GUARD
    if (gy * gz * by * bz != 1 || gx == 0 || bx == 0 || bx > 1024 || stream != &stream_object) return INVALID_VALUE;
    launches++;
    Call call = ((Kernel *)function)->call;
    gridDim = {gx, 1, 1};
    blockDim = {bx, 1, 1};
    bool reduces = bx == REDUCING;
    if (reduces && gx > MAX_COOPERATIVE) blockDim.x = 1;
    for (blockIdx = {0, 0, 0}; blockIdx.x < gx; blockIdx.x++) {
        if (reduces && blockDim.x > 1) {
            run_cooperatively(call, arguments);
            continue;
        }
        for (threadIdx = {0, 0, 0}; threadIdx.x < blockDim.x; threadIdx.x++) call(arguments);
    }
    return SUCCESS;
}
Status cuGetErrorString(Status status, const char **text) {
    switch (status) {
        case INVALID_VALUE: *text = "invalid argument"; break;
        case OUT_OF_MEMORY: *text = "out of memory"; break;
        case INVALID_CONTEXT: *text = "invalid device context"; break;
        case NOT_FOUND: *text = "named symbol not found"; break;
        default: *text = nullptr; return INVALID_VALUE;
    }
    return SUCCESS;
}
}
