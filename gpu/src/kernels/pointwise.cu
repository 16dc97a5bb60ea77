// Activations, as numbered by `Activation::number`.
#define LINEAR 0
#define RELU 1
#define RELU6 2
#define SIGMOID 3
#define TANH 4
#define HARD_SIGMOID 5
#define SILU 6
#define GELU 7
#define GELU_TANH 8
#define HARD_SWISH 9

static __device__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

static __device__ float gelu_slope(float x) {
    // √(2/π)
    const float c = 0.7978845608f;
    float t = tanhf(c * (x + 0.044715f * x * x * x));
    return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * c * (1.0f + 3.0f * 0.044715f * x * x);
}

static __device__ float activate(float x, int function) {
    switch (function) {
        // NaN stays NaN.
        case RELU: return x < 0.0f ? 0.0f : x;
        case RELU6: return x < 0.0f ? 0.0f : x > 6.0f ? 6.0f : x;
        case SIGMOID: return sigmoid(x);
        case TANH: return tanhf(x);
        case HARD_SIGMOID: return x <= -3.0f ? 0.0f : x >= 3.0f ? 1.0f : (x + 3.0f) / 6.0f;
        case SILU: return x * sigmoid(x);
        case GELU: return 0.5f * x * (1.0f + erff(x * 0.70710678f));
        case GELU_TANH: return 0.5f * x * (1.0f + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
        case HARD_SWISH: return x <= -3.0f ? 0.0f : x >= 3.0f ? x : x * (x + 3.0f) / 6.0f;
        default: return x;
    }
}

// The derivative. `v` is the output for functions up to HARD_SIGMOID, and the input for the later ones.
static __device__ float slope(float v, int function) {
    switch (function) {
        case RELU: return v > 0.0f ? 1.0f : 0.0f;
        case RELU6: return v > 0.0f && v < 6.0f ? 1.0f : 0.0f;
        case SIGMOID: return v * (1.0f - v);
        case TANH: return 1.0f - v * v;
        case HARD_SIGMOID: return v > 0.0f && v < 1.0f ? 1.0f / 6.0f : 0.0f;
        case SILU: {
            float s = sigmoid(v);
            return s * (1.0f + v * (1.0f - s));
        }
        case GELU: return 0.5f * (1.0f + erff(v * 0.70710678f)) + v * 0.3989422804f * expf(-0.5f * v * v);
        case GELU_TANH: return gelu_slope(v);
        case HARD_SWISH: return v <= -3.0f ? 0.0f : v >= 3.0f ? 1.0f : (2.0f * v + 3.0f) / 6.0f;
        default: return 1.0f;
    }
}

// y = f(x + bias of the channel). Without a bias, `bias` is null.
extern "C" __global__ void bias_activation(
    const void *x, const float *bias, void *y, int count, int channels, int inner, int function, int bf16) {
    int i = INDEX;
    if (i >= count) return;
    float value = load(x, i, bf16);
    if (bias) value += bias[i / inner % channels];
    store(y, i, activate(value, function), 0, bf16);
}

// dx = dy · f'. `known` is f's output or input: see slope.
extern "C" __global__ void activation_backward(
    const void *dy, const void *known, void *dx, int count, int function, int adds, int bf16) {
    int i = INDEX;
    if (i < count) store(dx, i, load(dy, i, bf16) * slope(load(known, i, bf16), function), adds, bf16);
}

// The bias's gradient: the sum over samples and pixels. One block per channel.
extern "C" __global__ void bias_backward(const float *dy, float *db, int batch, int channels, int inner, int adds) {
    int channel = blockIdx.x;
    float sum = 0.0f;
    for (int i = threadIdx.x; i < batch * inner; i += blockDim.x)
        sum += dy[(i / inner * channels + channel) * inner + i % inner];
    sum = block_sum(sum);
    if (threadIdx.x == 0) store(db, channel, sum, adds);
}

// y = f(a + b)
extern "C" __global__ void add_activation(
    const void *a, const void *b, void *y, int count, int function, int bf16) {
    int i = INDEX;
    if (i < count) store(y, i, activate(load(a, i, bf16) + load(b, i, bf16), function), 0, bf16);
}

// y = x · scale + offset
extern "C" __global__ void affine(
    const void *x, void *y, int count, float scale, float offset, int adds, int bf16) {
    int i = INDEX;
    if (i < count) store(y, i, load(x, i, bf16) * scale + offset, adds, bf16);
}

// The feature map of value i, in NHWC, or in NCHW with one channel.
static __device__ int map_of(int i, int channels, int inner) {
    return i / (inner * channels) * channels + i % channels;
}

// y = x · s, with one factor for each feature map: squeeze-and-excitation.
extern "C" __global__ void scale_maps(
    const void *x, const void *s, void *y, int count, int channels, int inner, int adds, int bf16) {
    int i = INDEX;
    if (i < count) store(y, i, load(x, i, bf16) * load(s, map_of(i, channels, inner), bf16), adds, bf16);
}

// The factors' gradient. One block per feature map.
extern "C" __global__ void scale_maps_backward(const float *dy, const float *x, float *ds, int inner, int adds) {
    int map = blockIdx.x;
    float sum = 0.0f;
    for (int i = threadIdx.x; i < inner; i += blockDim.x) sum += dy[map * inner + i] * x[map * inner + i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) store(ds, map, sum, adds);
}

// The place of value i in feature maps: NHWC, or NCHW with one channel.
struct Pixel {
    int map, row, column, channel;
};

static __device__ Pixel pixel_of(int i, int channels, int height, int width) {
    int at = i / channels;
    return {at / (width * height), at / width % height, at % width, i % channels};
}

// Pads or crops feature maps: y's pixel (0, 0) is x's pixel (-top, -left). Pixels outside x are 0.
extern "C" __global__ void pad_maps(
    const void *x, void *y, int count, int channels, int height, int width, int out_height, int out_width, int top,
    int left, int adds, int bf16) {
    int i = INDEX;
    if (i >= count) return;
    Pixel to = pixel_of(i, channels, out_height, out_width);
    int column = to.column - left, row = to.row - top;
    bool inside = row >= 0 && row < height && column >= 0 && column < width;
    int from = to.map * height * width * channels + to.channel + (row * width + column) * channels;
    store(y, i, inside ? load(x, from, bf16) : 0.0f, adds, bf16);
}
