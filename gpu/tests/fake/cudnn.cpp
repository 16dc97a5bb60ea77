// The convolutions of cuDNN for tests on machines without a GPU: plain loops over the host's memory. Like cuDNN, it
// rejects descriptors that do not fit together, and a workspace that is too small.
#include <dlfcn.h>

#include <cstdint>
#include <cstdlib>
#include <vector>

enum { SUCCESS = 0, BAD_PARAM = 2000, NOT_SUPPORTED = 3000 };
typedef int Status;
struct Tensor {
    int n, c, h, w;
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
// Bytes of workspace that each algorithm needs.
static const size_t WORKSPACE = 4096;

static bool fits(const Tensor *x, const Tensor *w, const Convolution *c, const Tensor *y) {
    int rows = (x->h + 2 * c->pad_h - c->dilation_h * (w->h - 1) - 1) / c->stride_h + 1;
    int columns = (x->w + 2 * c->pad_w - c->dilation_w * (w->w - 1) - 1) / c->stride_w + 1;
    return x->n == y->n && w->n == y->c && y->h == rows && y->w == columns && x->c == w->c * c->groups &&
           w->n % c->groups == 0;
}

// Whether the driver knows the memory of an operand: catches swapped arguments.
static bool is_allocated(uint64_t address, size_t bytes) {
    typedef int (*Function)(uint64_t, size_t);
    static Function known = (Function)dlsym(RTLD_DEFAULT, "fake_cuda_is_allocated");
    return !known || known(address, bytes);
}

static size_t count(const Tensor *t) { return (size_t)t->n * t->c * t->h * t->w; }

// Calls `visit` with the indices of input, kernel and output of each product.
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

static void count_launch() {
    static void (*counts)() = (void (*)())dlsym(RTLD_DEFAULT, "fake_cuda_count");
    if (counts) counts();
}

static void finish(const std::vector<double> &sums, float *result, float alpha, float beta) {
    count_launch();
    for (size_t i = 0; i < sums.size(); i++)
        result[i] = alpha * (float)sums[i] + (beta == 0.0f ? 0.0f : beta * result[i]);
}

// Three algorithms: the first is fast but not deterministic, the second needs too much memory, and the third is
// suitable.
static Status choose(const Convolution *c, int most, int *found, Choice *choices) {
    if (most < 4) return BAD_PARAM;
    *found = 4;
    choices[0] = {3, SUCCESS, 1.0f, 0, 0, 3, {0, 0, 0}};
    choices[1] = {6, SUCCESS, 2.0f, (size_t)1 << 50, 1, 3, {0, 0, 0}};
    choices[2] = {5, SUCCESS, 3.0f, WORKSPACE, 1, 1, {0, 0, 0}};
    // Less than the workspace that it needs, as some versions say.
    choices[3] = {1, SUCCESS, 4.0f, 0, 1, 3, {0, 0, 0}};
    // Without FMA_MATH, the tensor cores' algorithm is right, with the math type that is offered with it.
    if (c->math == 3) choices[2].status = NOT_SUPPORTED;
    return SUCCESS;
}

static size_t workspace_of(int algorithm) { return algorithm == 6 ? (size_t)1 << 50 : WORKSPACE; }

static bool is_right(const Convolution *c, int algorithm, uint64_t workspace, size_t bytes) {
    int expected = c->math == 3 ? 1 : c->math == 1 ? 5 : -1;
    return algorithm == expected && bytes >= WORKSPACE && is_allocated(workspace, bytes);
}

extern "C" {
Status cudnnCreate(void **handle) { return *handle = malloc(1), SUCCESS; }
Status cudnnDestroy(void *handle) { return free(handle), SUCCESS; }
Status cudnnSetStream(void *, void *stream) { return stream ? SUCCESS : BAD_PARAM; }
Status cudnnCreateTensorDescriptor(void **d) { return *d = new Tensor{}, SUCCESS; }
Status cudnnDestroyTensorDescriptor(void *d) { return delete (Tensor *)d, SUCCESS; }
Status cudnnSetTensor4dDescriptor(void *d, int format, int type, int n, int c, int h, int w) {
    if (format != 0 || type != 0 || n < 1 || c < 1 || h < 1 || w < 1) return BAD_PARAM;
    return *(Tensor *)d = {n, c, h, w}, SUCCESS;
}
Status cudnnCreateFilterDescriptor(void **d) { return *d = new Tensor{}, SUCCESS; }
Status cudnnDestroyFilterDescriptor(void *d) { return delete (Tensor *)d, SUCCESS; }
Status cudnnSetFilter4dDescriptor(void *d, int type, int format, int k, int c, int h, int w) {
    if (format != 0 || type != 0 || k < 1 || c < 1 || h < 1 || w < 1) return BAD_PARAM;
    return *(Tensor *)d = {k, c, h, w}, SUCCESS;
}
Status cudnnCreateConvolutionDescriptor(void **d) { return *d = new Convolution{0, 0, 1, 1, 1, 1, 1, 0}, SUCCESS; }
Status cudnnDestroyConvolutionDescriptor(void *d) { return delete (Convolution *)d, SUCCESS; }
Status cudnnSetConvolution2dDescriptor(void *d, int ph, int pw, int u, int v, int dh, int dw, int mode, int type) {
    if (mode != 1 || type != 0 || ph < 0 || pw < 0 || u < 1 || v < 1 || dh < 1 || dw < 1) return BAD_PARAM;
    return *(Convolution *)d = {ph, pw, u, v, dh, dw, 1, 0}, SUCCESS;
}
Status cudnnSetConvolutionMathType(void *d, int math) {
    return ((Convolution *)d)->math = math, math >= 0 && math <= 3 ? SUCCESS : BAD_PARAM;
}
Status cudnnSetConvolutionGroupCount(void *d, int groups) {
    return ((Convolution *)d)->groups = groups, groups < 1 ? BAD_PARAM : SUCCESS;
}
Status cudnnGetConvolutionForwardAlgorithm_v7(
    void *, Tensor *x, Tensor *w, Convolution *c, Tensor *y, int most, int *found, Choice *choices) {
    return fits(x, w, c, y) ? choose(c, most, found, choices) : BAD_PARAM;
}
Status cudnnGetConvolutionBackwardDataAlgorithm_v7(
    void *, Tensor *w, Tensor *dy, Convolution *c, Tensor *dx, int most, int *found, Choice *choices) {
    return fits(dx, w, c, dy) ? choose(c, most, found, choices) : BAD_PARAM;
}
Status cudnnGetConvolutionBackwardFilterAlgorithm_v7(
    void *, Tensor *x, Tensor *dy, Convolution *c, Tensor *dw, int most, int *found, Choice *choices) {
    return fits(x, dw, c, dy) ? choose(c, most, found, choices) : BAD_PARAM;
}
Status cudnnGetConvolutionForwardWorkspaceSize(void *, void *, void *, void *, void *, int algorithm, size_t *bytes) {
    return *bytes = workspace_of(algorithm), SUCCESS;
}
Status cudnnGetConvolutionBackwardDataWorkspaceSize(
    void *, void *, void *, void *, void *, int algorithm, size_t *bytes) {
    return *bytes = workspace_of(algorithm), SUCCESS;
}
Status cudnnGetConvolutionBackwardFilterWorkspaceSize(
    void *, void *, void *, void *, void *, int algorithm, size_t *bytes) {
    return *bytes = workspace_of(algorithm), SUCCESS;
}
Status cudnnConvolutionForward(
    void *, const float *alpha, Tensor *x, const float *xs, Tensor *w, const float *ws, Convolution *c, int algorithm,
    uint64_t workspace, size_t bytes, const float *beta, Tensor *y, float *ys) {
    if (!fits(x, w, c, y) || !is_right(c, algorithm, workspace, bytes)) return BAD_PARAM;
    std::vector<double> sums(count(y));
    products(x, w, c, y, [&](size_t i, size_t j, size_t k) { sums[k] += (double)xs[i] * ws[j]; });
    return finish(sums, ys, *alpha, *beta), SUCCESS;
}
Status cudnnConvolutionBackwardData(
    void *, const float *alpha, Tensor *w, const float *ws, Tensor *dy, const float *dys, Convolution *c, int algorithm,
    uint64_t workspace, size_t bytes, const float *beta, Tensor *dx, float *dxs) {
    if (!fits(dx, w, c, dy) || !is_right(c, algorithm, workspace, bytes)) return BAD_PARAM;
    std::vector<double> sums(count(dx));
    products(dx, w, c, dy, [&](size_t i, size_t j, size_t k) { sums[i] += (double)dys[k] * ws[j]; });
    return finish(sums, dxs, *alpha, *beta), SUCCESS;
}
Status cudnnConvolutionBackwardFilter(
    void *, const float *alpha, Tensor *x, const float *xs, Tensor *dy, const float *dys, Convolution *c, int algorithm,
    uint64_t workspace, size_t bytes, const float *beta, Tensor *dw, float *dws) {
    if (!fits(x, dw, c, dy) || !is_right(c, algorithm, workspace, bytes)) return BAD_PARAM;
    std::vector<double> sums(count(dw));
    products(x, dw, c, dy, [&](size_t i, size_t j, size_t k) { sums[j] += (double)xs[i] * dys[k]; });
    return finish(sums, dws, *alpha, *beta), SUCCESS;
}
}
