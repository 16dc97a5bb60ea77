// A compiler for tests on machines without a GPU. Its result names no kernels: the fake driver has them compiled.
#include <cstdio>
#include <cstdlib>
#include <cstring>

enum { SUCCESS = 0, INVALID_INPUT = 3, COMPILATION = 6 };
typedef int Status;
static const char CUBIN[] = "fake cubin";

extern "C" {
Status nvrtcVersion(int *major, int *minor) {
    const char *version = getenv("FAKE_NVRTC_MAJOR");
    return *major = version ? atoi(version) : 13, *minor = 0, SUCCESS;
}
Status nvrtcCreateProgram(void **program, const char *source, const char *, int, const char *const *, const char *const *) {
    return *program = strdup(source), SUCCESS;
}
Status nvrtcCompileProgram(void *program, int count, const char *const *options) {
    bool known = false;
    for (int i = 0; i < count; i++) known = known || !strcmp(options[i], "--gpu-architecture=sm_90");
    if (!known) return INVALID_INPUT;
    return strstr((char *)program, "__global__") ? SUCCESS : COMPILATION;
}
Status nvrtcGetCUBINSize(void *, size_t *size) { return *size = sizeof CUBIN, SUCCESS; }
Status nvrtcGetCUBIN(void *, char *cubin) { return memcpy(cubin, CUBIN, sizeof CUBIN), SUCCESS; }
Status nvrtcGetProgramLogSize(void *, size_t *size) { return *size = 4, SUCCESS; }
Status nvrtcGetProgramLog(void *, char *log) { return memcpy(log, "log", 4), SUCCESS; }
Status nvrtcDestroyProgram(void **program) { return free(*program), SUCCESS; }
}
