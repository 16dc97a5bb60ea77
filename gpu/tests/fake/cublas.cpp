// The matrix product of cuBLAS for tests on machines without a GPU: column-major, as cuBLAS defines it.
#include <cstdlib>
#include <cstring>

#include "driver.h"

enum { SUCCESS = 0, INVALID_VALUE = 7 };
typedef int Status;
struct Handle {
    void *stream;
    bool has_workspace;
};

// The version in the name of this file, as in libcublas.so.12.
static int version() {
    Dl_info info;
    const char *end = dladdr((void *)version, &info) ? strstr(info.dli_fname, ".so.") : nullptr;
    return end ? atoi(end + 4) : 13;
}

static int handles = 0;

extern "C" {
int fake_handles() { return handles; }
Status cublasGetProperty(int property, int *value) {
    return *value = property ? 0 : version(), property >= 0 && property <= 2 ? SUCCESS : INVALID_VALUE;
}
Status cublasCreate_v2(void **handle) {
    if (!is_current()) return INVALID_VALUE;
    return handles++, *handle = new Handle{}, SUCCESS;
}
Status cublasDestroy_v2(void *handle) {
    if (!is_current()) return INVALID_VALUE;
    return handles--, delete (Handle *)handle, SUCCESS;
}
// Like the real one it forgets the workspace.
Status cublasSetStream_v2(void *handle, void *stream) {
    return *(Handle *)handle = {stream, false}, is_stream(stream) ? SUCCESS : INVALID_VALUE;
}
Status cublasSetWorkspace_v2(void *handle, uint64_t workspace, size_t bytes) {
    bool is_right = is_allocated((void *)workspace, bytes);
    return ((Handle *)handle)->has_workspace = is_right, is_right ? SUCCESS : INVALID_VALUE;
}
// Products are in float32: CUBLAS_DEFAULT_MATH.
Status cublasSetMathMode(void *, int mode) { return mode == 0 ? SUCCESS : INVALID_VALUE; }
Status cublasSgemm_v2(
    void *handle, int ta, int tb, int m, int n, int k, const float *alpha, const float *a, int lda, const float *b,
    int ldb, const float *beta, float *c, int ldc) {
    count_launch();
    if (!is_stream(((Handle *)handle)->stream) || !((Handle *)handle)->has_workspace) return INVALID_VALUE;
    if (lda < (ta ? k : m) || ldb < (tb ? n : k) || ldc < m) return INVALID_VALUE;
    // The last column may be shorter than the distance of two.
    auto bytes = [](int rows, int columns, int ld) { return 4 * ((size_t)ld * (columns - 1) + rows); };
    if (!is_allocated(a, ta ? bytes(k, m, lda) : bytes(m, k, lda)) ||
        !is_allocated(b, tb ? bytes(n, k, ldb) : bytes(k, n, ldb)) || !is_allocated(c, bytes(m, n, ldc)))
        return INVALID_VALUE;
    add(((Handle *)handle)->stream, [=, alpha = *alpha, beta = *beta] {
        for (int j = 0; j < n; j++)
            for (int i = 0; i < m; i++) {
                double sum = 0.0;
                for (int l = 0; l < k; l++)
                    sum += (double)a[ta ? l + (size_t)i * lda : i + (size_t)l * lda] *
                           b[tb ? j + (size_t)l * ldb : l + (size_t)j * ldb];
                float *out = c + i + (size_t)j * ldc;
                *out = alpha * (float)sum + (beta == 0.0f ? 0.0f : beta * *out);
            }
    });
    return SUCCESS;
}
}
