// A CUDA driver for tests on machines without a GPU. The GPU's memory is the host's, and a stream executes at once. The
// kernels are compiled for the CPU (kernels.inc), from the source that the crate passes to NVRTC.
//
// Like a real one it refuses wrong use: calls without a current context, frees of unknown addresses, copies beyond an
// allocation, other streams. `fake_cuda_launches` counts launches.
#include <ucontext.h>

#include <atomic>
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

static int number(const char *variable, int otherwise) {
    const char *value = getenv(variable);
    return value ? atoi(value) : otherwise;
}

// Megabytes of memory; whether the GPU has memory pools; the compute capability.
static const size_t MEMORY = (size_t)number("FAKE_CUDA_MEMORY_MB", 8 << 10) << 20;
static const bool HAS_POOLS = number("FAKE_CUDA_POOLS", 1);
static const int CAPABILITY = number("FAKE_CUDA_CAPABILITY", 90);

static std::recursive_mutex lock;
static std::map<uint64_t, size_t> allocations;
static unsigned long launches = 0, in_use = 0, peak = 0, host_allocations = 0;
static int context_object, stream_object, pool_object, module_object;
// Contexts that are retained.
static std::atomic<int> retained;
static thread_local bool is_current = false;
static uint64_t release_threshold = 0;

typedef int Status;
enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_CONTEXT = 201, NOT_FOUND = 500, NOT_SUPPORTED = 801 };

// Whether `bytes` at an address are within one allocation. No bytes are refused, because CUDA does not promise that
// they are permitted.
static bool is_allocated(uint64_t address, size_t bytes) {
    if (bytes == 0) return false;
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
int fake_cuda_is_current() { return is_current; }
int fake_cuda_retained() { return retained; }
void *fake_cuda_stream() { return &stream_object; }
unsigned long fake_cuda_host_allocations() { return host_allocations; }
unsigned long fake_cuda_allocations() { return allocations.size(); }
unsigned long fake_cuda_peak_bytes() { return peak; }
uint64_t fake_cuda_release_threshold() { return release_threshold; }
int fake_cuda_is_allocated(uint64_t address, size_t bytes) {
    std::lock_guard<std::recursive_mutex> hold(lock);
    return is_allocated(address, bytes);
}

Status cuInit(unsigned flags) { return flags ? INVALID_VALUE : SUCCESS; }
Status cuDriverGetVersion(int *version) { return *version = number("FAKE_CUDA_VERSION", 13000), SUCCESS; }
Status cuDeviceGetCount(int *count) { return *count = number("FAKE_CUDA_GPUS", 1), SUCCESS; }
Status cuDeviceGet(int *device, int ordinal) { return *device = ordinal, ordinal ? NO_DEVICE : SUCCESS; }
Status cuDeviceGetName(char *name, int length, int) { return snprintf(name, length, "Fake GPU"), SUCCESS; }
Status cuDeviceGetAttribute(int *value, int attribute, int) {
    switch (attribute) {
        case 75: *value = CAPABILITY / 10; break;
        case 76: *value = CAPABILITY % 10; break;
        case 115: *value = HAS_POOLS; break;
        default: return INVALID_VALUE;
    }
    return SUCCESS;
}
Status cuDeviceTotalMem_v2(size_t *bytes, int) { return *bytes = MEMORY, SUCCESS; }
Status cuDevicePrimaryCtxRetain(void **context, int) {
    return retained++, *context = &context_object, SUCCESS;
}
Status cuDevicePrimaryCtxRelease_v2(int) { return retained-- > 0 ? SUCCESS : INVALID_CONTEXT; }
Status cuCtxSetCurrent(void *context) {
    if (context != &context_object) return INVALID_CONTEXT;
    return is_current = true, SUCCESS;
}
Status cuStreamCreate(void **stream, unsigned flags) {
    GUARD
    return *stream = &stream_object, flags == 1 ? SUCCESS : INVALID_VALUE;
}
Status cuStreamSynchronize(void *stream) { GUARD return stream == &stream_object ? SUCCESS : INVALID_VALUE; }
Status cuStreamDestroy_v2(void *stream) { GUARD return stream == &stream_object ? SUCCESS : INVALID_VALUE; }
Status cuDeviceGetDefaultMemPool(void **pool, int) {
    return *pool = &pool_object, HAS_POOLS ? SUCCESS : NOT_SUPPORTED;
}
Status cuMemPoolSetAttribute(void *pool, int attribute, void *value) {
    if (pool != &pool_object || attribute != 4) return INVALID_VALUE;
    return memcpy(&release_threshold, value, 8), SUCCESS;
}
static Status allocate(uint64_t *pointer, size_t bytes) {
    if (bytes == 0) return INVALID_VALUE;
    if (in_use + bytes > MEMORY) return OUT_OF_MEMORY;
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
static Status release(uint64_t pointer) {
    auto found = allocations.find(pointer);
    if (found == allocations.end()) return INVALID_VALUE;
    in_use -= found->second;
    memset((void *)pointer, 0xff, found->second);
    free((void *)pointer);
    allocations.erase(found);
    return SUCCESS;
}
Status cuMemAlloc_v2(uint64_t *pointer, size_t bytes) {
    GUARD
    return allocate(pointer, bytes);
}
Status cuMemFree_v2(uint64_t pointer) {
    GUARD
    return release(pointer);
}
Status cuMemAllocAsync(uint64_t *pointer, size_t bytes, void *stream) {
    GUARD
    if (!HAS_POOLS) return NOT_SUPPORTED;
    return stream == &stream_object ? allocate(pointer, bytes) : INVALID_VALUE;
}
Status cuMemFreeAsync(uint64_t pointer, void *stream) {
    GUARD
    if (!HAS_POOLS) return NOT_SUPPORTED;
    return stream == &stream_object ? release(pointer) : INVALID_VALUE;
}
Status cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *stream) {
    GUARD
    if (stream != &stream_object || !is_allocated(to, bytes)) return INVALID_VALUE;
    return memcpy((void *)to, from, bytes), launches++, SUCCESS;
}
Status cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *stream) {
    GUARD
    if (stream != &stream_object || !is_allocated(from, bytes)) return INVALID_VALUE;
    return memcpy(to, (void *)from, bytes), launches++, SUCCESS;
}
Status cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *stream) {
    GUARD
    if (stream != &stream_object || !is_allocated(to, bytes) || !is_allocated(from, bytes)) return INVALID_VALUE;
    return memmove((void *)to, (void *)from, bytes), launches++, SUCCESS;
}
Status cuMemsetD32Async(uint64_t to, unsigned value, size_t count, void *stream) {
    GUARD
    if (stream != &stream_object || !is_allocated(to, count * 4)) return INVALID_VALUE;
    for (size_t i = 0; i < count; i++) ((unsigned *)to)[i] = value;
    return launches++, SUCCESS;
}
Status cuMemHostAlloc(void **pointer, size_t bytes, unsigned) {
    GUARD
    host_allocations++;
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
Status cuEventRecord(void *event, void *stream) {
    GUARD
    return event && stream == &stream_object ? SUCCESS : INVALID_VALUE;
}
Status cuEventSynchronize(void *) { GUARD return SUCCESS; }
Status cuEventQuery(void *event) { GUARD return event ? SUCCESS : INVALID_VALUE; }
Status cuEventDestroy_v2(void *event) {
    GUARD
    return free(event), SUCCESS;
}
Status cuModuleLoadData(void **module, const void *image) {
    GUARD
    // A cubin is for one architecture; PTX is for it and all later ones.
    const char *expected = CAPABILITY <= 90 ? "fake cubin" : "fake PTX";
    return *module = &module_object, strcmp((const char *)image, expected) ? INVALID_VALUE : SUCCESS;
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
        case NOT_SUPPORTED: *text = "operation not supported"; break;
        case NOT_FOUND: *text = "named symbol not found"; break;
        default: *text = nullptr; return INVALID_VALUE;
    }
    return SUCCESS;
}
}
