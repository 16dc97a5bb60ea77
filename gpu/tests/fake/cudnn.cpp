// The convolutions of cuDNN for tests on machines without a GPU: plain loops over the host's memory. Factors are rounded
// as the math type permits, so tests can distinguish precisions.
//
// Like cuDNN, it refuses descriptors that do not fit each other, a workspace that is too small, and a math type for which
// an algorithm was not offered.
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "driver.h"

enum { SUCCESS = 0, BAD_PARAM = 2000, NOT_SUPPORTED = 3000 };
enum { NCHW = 0, NHWC = 1 };
enum { FLOAT = 0, BFLOAT16 = 9 };
typedef int Status;
struct Tensor {
    int n, c, h, w, format, type;
};
struct Convolution {
    int pad_h, pad_w, stride_h, stride_w, dilation_h, dilation_w, groups, math;
};
struct Choice {
    int algorithm, status;
    float time;
    size_t memory;
    int determinism, math_type, reserved[3];
};
static bool fits(const Tensor *x, const Tensor *w, const Convolution *c, const Tensor *y) {
    int rows = (x->h + 2 * c->pad_h - c->dilation_h * (w->h - 1) - 1) / c->stride_h + 1;
    int columns = (x->w + 2 * c->pad_w - c->dilation_w * (w->w - 1) - 1) / c->stride_w + 1;
    return x->n == y->n && w->n == y->c && y->h == rows && y->w == columns && x->c == w->c * c->groups &&
           w->n % c->groups == 0 && x->type == w->type && x->type == y->type && x->format == w->format &&
           x->format == y->format;
}

// The stream of a handle.
static void *stream_of(void *handle) { return *(void **)handle; }

// Whether a handle has a stream of the driver.
static bool is_ready(void *handle) { return handle && is_stream(stream_of(handle)); }

static size_t count(const Tensor *t) { return (size_t)t->n * t->c * t->h * t->w; }
static size_t bytes(const Tensor *t) { return count(t) * (t->type == BFLOAT16 ? 2 : 4); }

enum { DEFAULT_MATH = 0, TENSOR_MATH = 1, FMA_MATH = 3 };
enum Direction { FORWARD, DATA, FILTER };

// The nearest float whose last `bits` bits are 0, ties to even.
static float rounded(float value, int bits) {
    uint32_t pattern;
    memcpy(&pattern, &value, 4);
    if (value != value) return value;
    pattern += (1u << (bits - 1)) - 1 + (pattern >> bits & 1);
    pattern &= ~((1u << bits) - 1);
    return memcpy(&value, &pattern, 4), value;
}

// Calls `visit` with each position in NCHW order and in the order of the memory.
template <typename F> static void positions(const Tensor *t, F visit) {
    size_t at = 0;
    for (int n = 0; n < t->n; n++)
        for (int c = 0; c < t->c; c++)
            for (int h = 0; h < t->h; h++)
                for (int w = 0; w < t->w; w++, at++)
                    visit(at, t->format == NCHW ? at : (((size_t)n * t->h + h) * t->w + w) * t->c + c);
}

// The values of a factor in NCHW order. Without FMA_MATH, tensor cores take 11 bits of a float.
static std::vector<double> factors(const Tensor *t, const void *data, int math) {
    std::vector<double> values(count(t));
    positions(t, [&](size_t at, size_t from) {
        float value;
        if (t->type == FLOAT) {
            value = ((const float *)data)[from];
            if (math != FMA_MATH) value = rounded(value, 13);
        } else {
            uint32_t pattern = (uint32_t)((const uint16_t *)data)[from] << 16;
            memcpy(&value, &pattern, 4);
        }
        values[at] = value;
    });
    return values;
}

static std::atomic<int> launched[2], last_algorithm{-1}, attempts, queries;

// Writes result = alpha * sums + beta * result. `sums` are in NCHW order.
static void finish(const Tensor *t, const std::vector<double> &sums, void *result, float alpha, float beta) {
    positions(t, [&](size_t at, size_t to) {
        float value = alpha * (float)sums[at];
        if (t->type == FLOAT) {
            float *out = (float *)result + to;
            *out = value + (beta == 0.0f ? 0.0f : beta * *out);
        } else {
            value = rounded(value, 16);
            uint32_t pattern;
            memcpy(&pattern, &value, 4);
            ((uint16_t *)result)[to] = (uint16_t)(pattern >> 16);
        }
    });
}

// Calls `visit` with the indices of input, kernel and output of each product, in NCHW order.
template <typename F> static void products(const Tensor *x, const Tensor *w, const Convolution *c, const Tensor *y, F visit) {
    int filters = w->n / c->groups;
    for (int n = 0; n < y->n; n++)
        for (int k = 0; k < y->c; k++)
            for (int i = 0; i < w->c; i++)
                for (int r = 0; r < w->h; r++)
                    for (int s = 0; s < w->w; s++) {
                        size_t weight = (((size_t)k * w->c + i) * w->h + r) * w->w + s;
                        int channel = k / filters * w->c + i;
                        for (int p = 0; p < y->h; p++) {
                            int row = p * c->stride_h + r * c->dilation_h - c->pad_h;
                            if (row < 0 || row >= x->h) continue;
                            size_t from = (((size_t)n * x->c + channel) * x->h + row) * x->w;
                            size_t to = (((size_t)n * y->c + k) * y->h + p) * y->w;
                            for (int q = 0; q < y->w; q++) {
                                int column = q * c->stride_w + s * c->dilation_w - c->pad_w;
                                if (column >= 0 && column < x->w) visit(from + column, weight, to + q);
                            }
                        }
                    }
}

// Options that tests set:
// - "none": no deterministic choice;
// - "large": the first choice has a workspace of 12 MiB;
// - "float": no algorithm for bfloat16;
// - "late": algorithms for bfloat16 that fail when they are run.
static bool is_set(const char *option) {
    const char *value = getenv("FAKE_CUDNN_CHOICES");
    return value && !strcmp(value, option);
}

// The algorithms, in the order of the heuristic:
// - 3 is fast and not deterministic;
// - 6 needs more than 1 GiB;
// - 4 needs 12 MiB;
// - 7 is offered and fails when it is run, as WINOGRAD_NONFUSED on some GPUs;
// - 5 uses tensor cores, and 1 does not;
// - 0 or 1 is the fallback: the heuristic offers it with DEFAULT_MATH only to old GPUs.
// For bfloat16, only 5 and the fallback exist.
static const int LARGE = 4, FAILING = 7;

// Bytes of workspace, or -1 for an algorithm and a math type that do not fit.
static int64_t workspace_of(Direction direction, int algorithm, const Convolution *c, int type) {
    bool is_fma = c->math == FMA_MATH;
    if (type == BFLOAT16) {
        bool is_known = algorithm == 5 || algorithm == (direction == FORWARD ? 0 : 1);
        return is_known && c->math == TENSOR_MATH && !is_set("float") ? 2048 * algorithm : -1;
    }
    switch (algorithm) {
        case 0: return direction == FORWARD && c->math != TENSOR_MATH ? 0 : -1;
        case 1: return c->math != TENSOR_MATH ? 4096 + 16 * c->math : -1;
        case 3: return 0;
        case 4: return is_fma ? 12 << 20 : -1;
        case 5: return c->math == TENSOR_MATH ? 8192 : -1;
        case 6: return ((int64_t)1 << 30) + 1;
        case 7: return is_fma ? 1024 : -1;
        default: return -1;
    }
}

static Status choose(void *handle, const Convolution *c, int type, int most, int *found, Choice *choices) {
    queries++;
    bool is_fma = c->math == FMA_MATH;
    int expected = type == BFLOAT16 ? TENSOR_MATH : DEFAULT_MATH;
    if (!is_ready(handle) || most < 6 || (c->math != expected && (type == BFLOAT16 || !is_fma))) return BAD_PARAM;
    int deterministic = !is_set("none");
    if (type == BFLOAT16) {
        int status = is_set("float") ? NOT_SUPPORTED : SUCCESS;
        choices[0] = {3, status, 1.0f, 0, 0, TENSOR_MATH, {0, 0, 0}};
        choices[1] = {5, status, 5.0f, 0, deterministic, TENSOR_MATH, {0, 0, 0}};
        return *found = 2, SUCCESS;
    }
    int tensor = is_fma ? NOT_SUPPORTED : SUCCESS, fma = is_fma ? SUCCESS : NOT_SUPPORTED;
    choices[0] = {3, SUCCESS, 1.0f, 0, 0, FMA_MATH, {0, 0, 0}};
    choices[1] = {6, SUCCESS, 2.0f, 0, deterministic, FMA_MATH, {0, 0, 0}};
    choices[2] = {LARGE, is_set("large") ? fma : NOT_SUPPORTED, 3.0f, 0, deterministic, FMA_MATH, {0, 0, 0}};
    choices[3] = {FAILING, fma, 4.0f, 0, deterministic, FMA_MATH, {0, 0, 0}};
    choices[4] = {5, tensor, 5.0f, 8192, deterministic, TENSOR_MATH, {0, 0, 0}};
    // Less than the workspace that it needs, as some versions say.
    choices[5] = {1, SUCCESS, 6.0f, 0, deterministic, FMA_MATH, {0, 0, 0}};
    return *found = 6, SUCCESS;
}

static Status workspace(void *handle, Direction direction, const Convolution *c, int type, int algorithm, size_t *bytes) {
    int64_t needed = workspace_of(direction, algorithm, c, type);
    if (!is_ready(handle)) return BAD_PARAM;
    return *bytes = (size_t)needed, needed < 0 ? NOT_SUPPORTED : SUCCESS;
}

static Status start(
    void *handle, Direction direction, const Convolution *c, int algorithm, uint64_t workspace, size_t size,
    const Tensor *x, const void *xs, const Tensor *w, const void *ws, const Tensor *y, const void *ys, float beta) {
    attempts++;
    if (!is_ready(handle) || !fits(x, w, c, y)) return BAD_PARAM;
    int64_t needed = workspace_of(direction, algorithm, c, x->type);
    if (needed < 0 || size < (size_t)needed || (needed && !is_allocated((void *)workspace, size))) return BAD_PARAM;
    // Not deterministic, or too large.
    if (algorithm == 3 || algorithm == 6) return BAD_PARAM;
    if (!is_allocated(xs, bytes(x)) || !is_allocated(ws, bytes(w)) || !is_allocated(ys, bytes(y))) return BAD_PARAM;
    last_algorithm = algorithm;
    // Not all algorithms for bfloat16 can add to the result.
    if (algorithm == FAILING || (x->type == BFLOAT16 && (beta != 0.0f || is_set("late")))) return NOT_SUPPORTED;
    count_launch();
    return launched[x->type == BFLOAT16]++, SUCCESS;
}

static int number(const char *variable, int otherwise) {
    const char *value = getenv(variable);
    return value ? atoi(value) : otherwise;
}

// A layout and a type that the crate uses together: two of four combinations.
static bool is_format(int format, int type) {
    return (format == NCHW && type == FLOAT) || (format == NHWC && type == BFLOAT16);
}

static std::atomic<int> handles, plans;

extern "C" {
int fake_handles() { return handles; }
int fake_cudnn_last_algorithm() { return last_algorithm; }
// Calls that start a convolution or ask for algorithms, also those that are refused.
int fake_cudnn_attempts() { return attempts; }
int fake_cudnn_queries() { return queries; }
// Convolution descriptors that exist.
int fake_cudnn_plans() { return plans; }
// Convolutions so far: of float, and of bfloat16.
int fake_cudnn_float() { return launched[0]; }
int fake_cudnn_bfloat16() { return launched[1]; }
size_t cudnnGetVersion() { return number("FAKE_CUDNN_VERSION", 92600); }
size_t cudnnGetCudartVersion() { return number("FAKE_CUDNN_CUDA", 13000); }
Status cudnnCreate(void **handle) {
    if (!is_current()) return BAD_PARAM;
    return handles++, *handle = new void *(nullptr), SUCCESS;
}
Status cudnnDestroy(void *handle) {
    if (!is_current()) return BAD_PARAM;
    return handles--, delete (void **)handle, SUCCESS;
}
Status cudnnSetStream(void *handle, void *stream) {
    return *(void **)handle = stream, is_ready(handle) ? SUCCESS : BAD_PARAM;
}
Status cudnnCreateTensorDescriptor(void **d) { return *d = new Tensor{}, SUCCESS; }
Status cudnnDestroyTensorDescriptor(void *d) { return delete (Tensor *)d, SUCCESS; }
Status cudnnSetTensor4dDescriptor(void *d, int format, int type, int n, int c, int h, int w) {
    if (!is_format(format, type) || n < 1 || c < 1 || h < 1 || w < 1) return BAD_PARAM;
    return *(Tensor *)d = {n, c, h, w, format, type}, SUCCESS;
}
Status cudnnCreateFilterDescriptor(void **d) { return *d = new Tensor{}, SUCCESS; }
Status cudnnDestroyFilterDescriptor(void *d) { return delete (Tensor *)d, SUCCESS; }
Status cudnnSetFilter4dDescriptor(void *d, int type, int format, int k, int c, int h, int w) {
    if (!is_format(format, type) || k < 1 || c < 1 || h < 1 || w < 1) return BAD_PARAM;
    return *(Tensor *)d = {k, c, h, w, format, type}, SUCCESS;
}
Status cudnnCreateConvolutionDescriptor(void **d) {
    return plans++, *d = new Convolution{0, 0, 1, 1, 1, 1, 1, 0}, SUCCESS;
}
Status cudnnDestroyConvolutionDescriptor(void *d) { return plans--, delete (Convolution *)d, SUCCESS; }
// The sums are floats for both types of factors.
Status cudnnSetConvolution2dDescriptor(void *d, int ph, int pw, int u, int v, int dh, int dw, int mode, int type) {
    if (mode != 1 || type != FLOAT || ph < 0 || pw < 0 || u < 1 || v < 1 || dh < 1 || dw < 1) return BAD_PARAM;
    return *(Convolution *)d = {ph, pw, u, v, dh, dw, 1, 0}, SUCCESS;
}
Status cudnnSetConvolutionMathType(void *d, int math) {
    return ((Convolution *)d)->math = math, math >= 0 && math <= 3 ? SUCCESS : BAD_PARAM;
}
Status cudnnSetConvolutionGroupCount(void *d, int groups) {
    return ((Convolution *)d)->groups = groups, groups < 1 ? BAD_PARAM : SUCCESS;
}
Status cudnnGetConvolutionForwardAlgorithm_v7(
    void *handle, Tensor *x, Tensor *w, Convolution *c, Tensor *y, int most, int *found, Choice *choices) {
    return fits(x, w, c, y) ? choose(handle, c, x->type, most, found, choices) : BAD_PARAM;
}
Status cudnnGetConvolutionBackwardDataAlgorithm_v7(
    void *handle, Tensor *w, Tensor *dy, Convolution *c, Tensor *dx, int most, int *found, Choice *choices) {
    return fits(dx, w, c, dy) ? choose(handle, c, w->type, most, found, choices) : BAD_PARAM;
}
Status cudnnGetConvolutionBackwardFilterAlgorithm_v7(
    void *handle, Tensor *x, Tensor *dy, Convolution *c, Tensor *dw, int most, int *found, Choice *choices) {
    return fits(x, dw, c, dy) ? choose(handle, c, x->type, most, found, choices) : BAD_PARAM;
}
Status cudnnGetConvolutionForwardWorkspaceSize(
    void *handle, Tensor *x, Tensor *w, Convolution *c, Tensor *y, int algorithm, size_t *bytes) {
    return fits(x, w, c, y) ? workspace(handle, FORWARD, c, x->type, algorithm, bytes) : BAD_PARAM;
}
Status cudnnGetConvolutionBackwardDataWorkspaceSize(
    void *handle, Tensor *w, Tensor *dy, Convolution *c, Tensor *dx, int algorithm, size_t *bytes) {
    return fits(dx, w, c, dy) ? workspace(handle, DATA, c, w->type, algorithm, bytes) : BAD_PARAM;
}
Status cudnnGetConvolutionBackwardFilterWorkspaceSize(
    void *handle, Tensor *x, Tensor *dy, Convolution *c, Tensor *dw, int algorithm, size_t *bytes) {
    return fits(x, dw, c, dy) ? workspace(handle, FILTER, c, x->type, algorithm, bytes) : BAD_PARAM;
}
Status cudnnConvolutionForward(
    void *handle, const float *alpha, Tensor *x, const void *xs, Tensor *w, const void *ws, Convolution *c,
    int algorithm, uint64_t workspace, size_t size, const float *beta, Tensor *y, void *ys) {
    Status status = start(handle, FORWARD, c, algorithm, workspace, size, x, xs, w, ws, y, ys, *beta);
    if (status != SUCCESS) return status;
    add(stream_of(handle), [=, x = *x, w = *w, c = *c, y = *y, alpha = *alpha, beta = *beta] {
        auto a = factors(&x, xs, c.math), b = factors(&w, ws, c.math);
        std::vector<double> sums(count(&y));
        products(&x, &w, &c, &y, [&](size_t i, size_t j, size_t k) { sums[k] += a[i] * b[j]; });
        finish(&y, sums, ys, alpha, beta);
    });
    return SUCCESS;
}
Status cudnnConvolutionBackwardData(
    void *handle, const float *alpha, Tensor *w, const void *ws, Tensor *dy, const void *dys, Convolution *c,
    int algorithm, uint64_t workspace, size_t size, const float *beta, Tensor *dx, void *dxs) {
    Status status = start(handle, DATA, c, algorithm, workspace, size, dx, dxs, w, ws, dy, dys, *beta);
    if (status != SUCCESS) return status;
    add(stream_of(handle), [=, dx = *dx, w = *w, c = *c, dy = *dy, alpha = *alpha, beta = *beta] {
        auto a = factors(&w, ws, c.math), b = factors(&dy, dys, c.math);
        std::vector<double> sums(count(&dx));
        products(&dx, &w, &c, &dy, [&](size_t i, size_t j, size_t k) { sums[i] += a[j] * b[k]; });
        finish(&dx, sums, dxs, alpha, beta);
    });
    return SUCCESS;
}
Status cudnnConvolutionBackwardFilter(
    void *handle, const float *alpha, Tensor *x, const void *xs, Tensor *dy, const void *dys, Convolution *c,
    int algorithm, uint64_t workspace, size_t size, const float *beta, Tensor *dw, void *dws) {
    Status status = start(handle, FILTER, c, algorithm, workspace, size, x, xs, dw, dws, dy, dys, *beta);
    if (status != SUCCESS) return status;
    add(stream_of(handle), [=, x = *x, dw = *dw, c = *c, dy = *dy, alpha = *alpha, beta = *beta] {
        auto a = factors(&x, xs, c.math), b = factors(&dy, dys, c.math);
        std::vector<double> sums(count(&dw));
        products(&x, &dw, &c, &dy, [&](size_t i, size_t j, size_t k) { sums[j] += a[i] * b[k]; });
        finish(&dw, sums, dws, alpha, beta);
    });
    return SUCCESS;
}
}
