// A compiler for tests on machines without a GPU. Its result names no kernels: the fake driver has them compiled.
#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <string>

enum { SUCCESS = 0, INVALID_INPUT = 3, COMPILATION = 6 };
typedef int Status;
static const char CUBIN[] = "fake cubin", PTX[] = "fake PTX";
// Whether the last program is PTX.
static thread_local bool is_ptx;

// The version in the name of this file, as in libnvrtc.so.12.
static int version() {
    Dl_info info;
    const char *end = dladdr((void *)version, &info) ? strstr(info.dli_fname, ".so.") : nullptr;
    return end ? atoi(end + 4) : 13;
}

extern "C" {
Status nvrtcVersion(int *major, int *minor) { return *major = version(), *minor = 0, SUCCESS; }
Status nvrtcCreateProgram(void **program, const char *source, const char *, int, const char *const *, const char *const *) {
    return *program = strdup(source), SUCCESS;
}
Status nvrtcCompileProgram(void *program, int count, const char *const *options) {
    bool known = false;
    is_ptx = false;
    for (int i = 0; i < count; i++) {
        is_ptx = is_ptx || !strcmp(options[i], "--gpu-architecture=compute_90");
        for (const char *name : {"sm_75", "sm_80", "sm_90"})
            known = known || !strcmp(options[i], (std::string("--gpu-architecture=") + name).c_str());
    }
    known = known || is_ptx;
    if (!known) return INVALID_INPUT;
    return strstr((char *)program, "__global__") ? SUCCESS : COMPILATION;
}
Status nvrtcGetCUBINSize(void *, size_t *size) { return *size = is_ptx ? 0 : sizeof CUBIN, SUCCESS; }
Status nvrtcGetCUBIN(void *, char *cubin) {
    if (is_ptx) return INVALID_INPUT;
    return memcpy(cubin, CUBIN, sizeof CUBIN), SUCCESS;
}
Status nvrtcGetPTXSize(void *, size_t *size) { return *size = sizeof PTX, SUCCESS; }
Status nvrtcGetPTX(void *, char *ptx) { return memcpy(ptx, PTX, sizeof PTX), SUCCESS; }
Status nvrtcGetProgramLogSize(void *, size_t *size) { return *size = 4, SUCCESS; }
Status nvrtcGetProgramLog(void *, char *log) { return memcpy(log, "log", 4), SUCCESS; }
Status nvrtcDestroyProgram(void **program) { return free(*program), SUCCESS; }
}
