// The functions of the fake driver that the other libraries call. Without the driver, every address is valid and work is
// done at once.
#pragma once
#include <dlfcn.h>

#include <cstdint>
#include <functional>

// A function of the fake driver, or null without it.
template <typename F> static F driver(const char *name) { return (F)dlsym(RTLD_DEFAULT, name); }

// Whether the driver knows the memory of an operand: catches swapped arguments.
static bool is_allocated(const void *address, size_t bytes) {
    static auto known = driver<int (*)(uint64_t, size_t)>("fake_cuda_is_allocated");
    return !known || known((uint64_t)address, bytes);
}

// Whether this thread has a context.
static bool is_current() {
    static auto current = driver<int (*)()>("fake_cuda_is_current");
    return !current || current();
}

static bool is_stream(void *stream) {
    static auto known = driver<int (*)(void *)>("fake_cuda_is_stream");
    return !known || known(stream);
}

// Counts an operation that a real library would launch.
static void count_launch() {
    static auto counts = driver<void (*)()>("fake_cuda_count");
    if (counts) counts();
}

// Adds a call to a stream.
static void add(void *stream, std::function<void()> call) {
    static auto to_stream = driver<void (*)(void *, void (*)(void *), void *)>("fake_cuda_add");
    if (!to_stream) return call();
    auto run = [](void *data) {
        auto call = (std::function<void()> *)data;
        (*call)();
        delete call;
    };
    to_stream(stream, run, new std::function<void()>(std::move(call)));
}
