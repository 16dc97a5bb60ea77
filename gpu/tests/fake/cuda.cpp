// A CUDA driver for tests on machines without a GPU. The GPU's memory is the host's. The kernels are compiled for the CPU
// (kernels.inc), from the source that the crate passes to NVRTC.
//
// Like a real one it refuses wrong use: calls without a current context, frees of unknown addresses, copies beyond an
// allocation, unknown streams. `fake_cuda_launches` counts launches.
//
// A stream executes an operation at once, unless FAKE_CUDA_ORDER is set. With `late`, streams execute only what something
// waits for. `early` is the same, except that the second stream of each context executes at once.
#include <algorithm>
#include <atomic>
#include <deque>
#include <functional>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "blocks.h"

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
static unsigned long launches = 0, in_use = 0, peak = 0, host_allocations = 0, uploaded = 0, downloaded = 0;
// Waits of the host for the last operation, and waits after which the GPU still has work.
static unsigned long waits = 0, waits_ahead = 0;
// The operations that the GPU still has after these waits, in all.
static unsigned long left_by_waits = 0;
// Launches of each kernel.
static std::map<std::string, unsigned long> kernel_launches;
static int context_object, pool_object, module_object;
// Contexts that are retained.
static std::atomic<int> retained;
static thread_local bool is_current = false;
static uint64_t release_threshold = 0;

typedef int Status;
enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_CONTEXT = 201, INVALID_HANDLE = 400, NOT_FOUND = 500, NOT_READY = 600, NOT_SUPPORTED = 801 };

// Operations in order. Each returns false as long as it waits for another stream.
struct Stream {
    std::deque<std::function<bool()>> operations;
    bool is_second;
};
static std::vector<Stream *> streams;
// The numbers of the last record, and of the last that was executed.
struct Event {
    unsigned long recorded, done;
};
// The events that exist. Operations that are not executed yet keep theirs after its end, as a real driver does.
static std::map<void *, std::shared_ptr<Event>> events;
static std::shared_ptr<Event> event_of(void *event) {
    auto found = events.find(event);
    return found == events.end() ? nullptr : found->second;
}
// Page-locked memory.
static std::map<uint64_t, size_t> host_memory;

static const char *order() {
    static const char *value = getenv("FAKE_CUDA_ORDER");
    return value ? value : "";
}

static bool is_stream(const void *stream) {
    return std::find(streams.begin(), streams.end(), stream) != streams.end();
}

// Executes the operations of a stream until `is_done`, and of other streams what it waits for.
static void execute(Stream *stream, std::function<bool()> is_done = [] { return false; }) {
    while (!stream->operations.empty() && !is_done()) {
        if (stream->operations.front()()) {
            stream->operations.pop_front();
            continue;
        }
        // What it waits for was recorded before, so the other streams do not wait for this operation.
        for (Stream *other : streams)
            if (other != stream) execute(other);
    }
}

static int add(void *stream, std::function<bool()> operation) {
    Stream *to = (Stream *)stream;
    to->operations.push_back(std::move(operation));
    if (!*order() || (to->is_second && !strcmp(order(), "early"))) execute(to);
    return 0;
}

static int add_call(void *stream, std::function<void()> call) {
    return add(stream, [call] { return call(), true; });
}

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
int fake_cuda_is_stream(void *stream) {
    std::lock_guard<std::recursive_mutex> hold(lock);
    return is_stream(stream);
}
// Adds a call to a stream.
void fake_cuda_add(void *stream, void (*call)(void *), void *data) {
    std::lock_guard<std::recursive_mutex> hold(lock);
    add_call(stream, [=] { call(data); });
}
// Bytes copied from the host.
unsigned long fake_cuda_uploaded() { return uploaded; }
// Bytes copied to the host.
unsigned long fake_cuda_downloaded() { return downloaded; }
unsigned long fake_cuda_waits() { return waits; }
unsigned long fake_cuda_waits_ahead() { return waits_ahead; }
unsigned long fake_cuda_left_by_waits() { return left_by_waits; }
unsigned long fake_cuda_launches_of(const char *kernel) {
    std::lock_guard<std::recursive_mutex> hold(lock);
    return kernel_launches[kernel];
}
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
    streams.push_back(new Stream{{}, streams.size() % 2 == 1});
    return *stream = streams.back(), flags == 1 ? SUCCESS : INVALID_VALUE;
}
Status cuStreamSynchronize(void *stream) {
    GUARD
    if (!is_stream(stream)) return INVALID_VALUE;
    return waits++, execute((Stream *)stream), SUCCESS;
}
Status cuStreamWaitEvent(void *stream, void *event, unsigned flags) {
    GUARD
    auto of = event_of(event);
    if (!is_stream(stream) || flags) return INVALID_VALUE;
    if (!of) return INVALID_HANDLE;
    unsigned long record = of->recorded;
    return add(stream, [=] { return of->done >= record; });
}
Status cuStreamDestroy_v2(void *stream) {
    GUARD
    if (!is_stream(stream)) return INVALID_VALUE;
    execute((Stream *)stream);
    // Streams come in pairs, so the parity of the others does not change when both are destroyed.
    streams.erase(std::find(streams.begin(), streams.end(), stream));
    return delete (Stream *)stream, SUCCESS;
}
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
// Forgets memory. Returns its size, or 0 if it is unknown.
static size_t forget(uint64_t pointer) {
    auto found = allocations.find(pointer);
    if (found == allocations.end()) return 0;
    size_t bytes = found->second;
    in_use -= bytes;
    allocations.erase(found);
    return bytes;
}
static void release(uint64_t pointer, size_t bytes) {
    memset((void *)pointer, 0xff, bytes);
    free((void *)pointer);
}
Status cuMemAlloc_v2(uint64_t *pointer, size_t bytes) {
    GUARD
    return allocate(pointer, bytes);
}
Status cuMemFree_v2(uint64_t pointer) {
    GUARD
    size_t bytes = forget(pointer);
    if (!bytes) return INVALID_VALUE;
    // It waits for all work.
    for (Stream *stream : streams) execute(stream);
    return release(pointer, bytes), SUCCESS;
}
Status cuMemAllocAsync(uint64_t *pointer, size_t bytes, void *stream) {
    GUARD
    if (!HAS_POOLS) return NOT_SUPPORTED;
    return is_stream(stream) ? allocate(pointer, bytes) : INVALID_VALUE;
}
Status cuMemFreeAsync(uint64_t pointer, void *stream) {
    GUARD
    if (!HAS_POOLS) return NOT_SUPPORTED;
    if (!is_stream(stream)) return INVALID_VALUE;
    size_t bytes = forget(pointer);
    return bytes ? add_call(stream, [=] { release(pointer, bytes); }) : INVALID_VALUE;
}
// Whether `bytes` at an address of the host may be copied: pageable memory is unknown, page-locked memory is known.
static bool is_host(const void *address, size_t bytes) {
    auto next = host_memory.upper_bound((uint64_t)address);
    if (next == host_memory.begin()) return true;
    auto &[start, size] = *std::prev(next);
    return (uint64_t)address >= start + size || (uint64_t)address + bytes <= start + size;
}
static Status copy(void *to, const void *from, size_t bytes, void *stream) {
    return launches++, add_call(stream, [=] { memmove(to, from, bytes); });
}
Status cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *stream) {
    GUARD
    if (!is_stream(stream) || !is_allocated(to, bytes) || !is_host(from, bytes)) return INVALID_VALUE;
    uploaded += bytes;
    return copy((void *)to, from, bytes, stream);
}
Status cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *stream) {
    GUARD
    if (!is_stream(stream) || !is_allocated(from, bytes) || !is_host(to, bytes)) return INVALID_VALUE;
    downloaded += bytes;
    return copy(to, (void *)from, bytes, stream);
}
Status cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *stream) {
    GUARD
    if (!is_stream(stream) || !is_allocated(to, bytes) || !is_allocated(from, bytes)) return INVALID_VALUE;
    return copy((void *)to, (void *)from, bytes, stream);
}
Status cuMemsetD32Async(uint64_t to, unsigned value, size_t count, void *stream) {
    GUARD
    if (!is_stream(stream) || !is_allocated(to, count * 4)) return INVALID_VALUE;
    return launches++, add_call(stream, [=] { std::fill_n((unsigned *)to, count, value); });
}
Status cuMemGetInfo_v2(size_t *free, size_t *total) {
    GUARD
    return *free = MEMORY - in_use, *total = MEMORY, SUCCESS;
}
Status cuMemHostAlloc(void **pointer, size_t bytes, unsigned) {
    GUARD
    host_allocations++;
    *pointer = malloc(bytes);
    if (!*pointer) return OUT_OF_MEMORY;
    return host_memory[(uint64_t)*pointer] = bytes, SUCCESS;
}
Status cuMemFreeHost(void *pointer) {
    GUARD
    auto found = host_memory.find((uint64_t)pointer);
    if (found == host_memory.end()) return INVALID_VALUE;
    memset(pointer, 0xff, found->second);
    host_memory.erase(found);
    return free(pointer), SUCCESS;
}
Status cuEventCreate(void **event, unsigned) {
    GUARD
    auto created = std::make_shared<Event>();
    events[created.get()] = created;
    return *event = created.get(), SUCCESS;
}
Status cuEventRecord(void *event, void *stream) {
    GUARD
    auto of = event_of(event);
    if (!of) return INVALID_HANDLE;
    if (!is_stream(stream)) return INVALID_VALUE;
    unsigned long record = ++of->recorded;
    return add_call(stream, [=] { of->done = std::max(of->done, record); });
}
Status cuEventSynchronize(void *event) {
    GUARD
    auto of = event_of(event);
    if (!of) return INVALID_HANDLE;
    auto is_done = [of] { return of->done >= of->recorded; };
    if (is_done()) return SUCCESS;
    for (Stream *stream : streams) execute(stream, is_done);
    size_t left = 0;
    for (Stream *stream : streams) left += stream->operations.size();
    left_by_waits += left;
    return (left ? waits_ahead : waits)++, SUCCESS;
}
Status cuEventQuery(void *event) {
    GUARD
    auto of = event_of(event);
    if (!of) return INVALID_HANDLE;
    return of->done < of->recorded ? NOT_READY : SUCCESS;
}
Status cuEventDestroy_v2(void *event) {
    GUARD
    return events.erase(event) ? SUCCESS : INVALID_HANDLE;
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
    if (gy * gz * by * bz != 1 || gx == 0 || bx == 0 || bx > 1024 || !is_stream(stream)) return INVALID_VALUE;
    bool in_reverse = launches++ % 2;
    kernel_launches[((Kernel *)function)->name]++;
    Call call = ((Kernel *)function)->bind(arguments);
    return add_call(stream, [=] {
        gridDim = {gx, 1, 1};
        blockDim = {bx, 1, 1};
        bool reduces = bx == REDUCING;
        if (reduces && gx > MAX_COOPERATIVE) blockDim.x = 1;
        for (blockIdx = {0, 0, 0}; blockIdx.x < gx; blockIdx.x++) {
            if (reduces && blockDim.x > 1) {
                run_cooperatively(call, in_reverse);
                continue;
            }
            for (threadIdx = {0, 0, 0}; threadIdx.x < blockDim.x; threadIdx.x++) call();
        }
    });
}
Status cuGetErrorString(Status status, const char **text) {
    switch (status) {
        case INVALID_VALUE: *text = "invalid argument"; break;
        case OUT_OF_MEMORY: *text = "out of memory"; break;
        case INVALID_HANDLE: *text = "invalid resource handle"; break;
        case INVALID_CONTEXT: *text = "invalid device context"; break;
        case NOT_SUPPORTED: *text = "operation not supported"; break;
        case NOT_FOUND: *text = "named symbol not found"; break;
        default: *text = nullptr; return INVALID_VALUE;
    }
    return SUCCESS;
}
}
