// The matrix product of cuBLAS for tests on machines without a GPU: column-major, as cuBLAS defines it.
#include <dlfcn.h>

#include <cstdint>
#include <cstdlib>

enum { SUCCESS = 0, INVALID_VALUE = 7 };
typedef int Status;

extern "C" {
Status cublasCreate_v2(void **handle) { return *handle = malloc(1), SUCCESS; }
Status cublasDestroy_v2(void *handle) { return free(handle), SUCCESS; }
Status cublasSetStream_v2(void *, void *stream) { return stream ? SUCCESS : INVALID_VALUE; }
Status cublasSetWorkspace_v2(void *, uint64_t workspace, size_t bytes) {
    return workspace && bytes ? SUCCESS : INVALID_VALUE;
}
Status cublasSetMathMode(void *, int mode) { return mode == 0 || mode == 3 ? SUCCESS : INVALID_VALUE; }
Status cublasSgemm_v2(
    void *, int ta, int tb, int m, int n, int k, const float *alpha, const float *a, int lda, const float *b, int ldb,
    const float *beta, float *c, int ldc) {
    static void (*counts)() = (void (*)())dlsym(RTLD_DEFAULT, "fake_cuda_count");
    if (counts) counts();
    if (lda < (ta ? k : m) || ldb < (tb ? n : k) || ldc < m) return INVALID_VALUE;
    for (int j = 0; j < n; j++)
        for (int i = 0; i < m; i++) {
            double sum = 0.0;
            for (int l = 0; l < k; l++)
                sum += (double)a[ta ? l + (size_t)i * lda : i + (size_t)l * lda] *
                       b[tb ? j + (size_t)l * ldb : l + (size_t)j * ldb];
            float *out = c + i + (size_t)j * ldc;
            *out = *alpha * (float)sum + (*beta == 0.0f ? 0.0f : *beta * *out);
        }
    return SUCCESS;
}
}
