// Batch normalisation. `spread` is 1/σ of the batch, or the moving variance: see inverse.

// 1/σ, from itself or from a variance.
static __device__ float inverse(float spread, float epsilon, int is_variance) {
    return is_variance ? 1.0f / sqrtf(spread + epsilon) : spread;
}

// Sets mean and 1/σ of a channel, and updates its moving statistics. `momentum` is the weight of their old values, and
// new_weight = 1 - momentum.
static __device__ void set_statistics(
    float center, float variance, float *mean, float *spread, float *moving_mean, float *moving_variance, float epsilon,
    float momentum, float new_weight) {
    *mean = center;
    *spread = 1.0f / sqrtf(variance + epsilon);
    float next_mean = *moving_mean * momentum + center * new_weight;
    float next_variance = *moving_variance * momentum + variance * new_weight;
    if (isfinite(next_mean)) *moving_mean = next_mean;
    if (isfinite(next_variance)) *moving_variance = next_variance;
}

// Mean and 1/σ of each channel over samples and pixels, and the moving statistics: see set_statistics. One block per channel.
extern "C" __global__ void batch_statistics(
    const float *x, float *mean, float *spread, float *moving_mean, float *moving_variance, int batch, int channels,
    int inner, float epsilon, float momentum, float new_weight) {
    int channel = blockIdx.x, count = batch * inner;
    float sum = 0.0f;
    for (int i = threadIdx.x; i < count; i += blockDim.x)
        sum += x[(i / inner * channels + channel) * inner + i % inner];
    float center = block_sum(sum) / count;
    float squares = 0.0f;
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        float d = x[(i / inner * channels + channel) * inner + i % inner] - center;
        squares += d * d;
    }
    float variance = block_sum(squares) / count;
    if (threadIdx.x > 0) return;
    set_statistics(
        center, variance, mean + channel, spread + channel, moving_mean + channel, moving_variance + channel, epsilon,
        momentum, new_weight);
}

// y = f((x - mean) · gamma / σ + beta + residual). Without a residual, it is null.
extern "C" __global__ void normalize(
    const void *x, const float *mean, const float *spread, const float *gamma, const float *beta, const void *residual,
    void *y, int count, int channels, int inner, float epsilon, int is_variance, int function, int bf16) {
    int i = INDEX;
    if (i >= count) return;
    int channel = i / inner % channels;
    float scale = gamma[channel] * inverse(spread[channel], epsilon, is_variance);
    float value = (load(x, i, bf16) - mean[channel]) * scale + beta[channel];
    if (residual) value += load(residual, i, bf16);
    store(y, i, activate(value, function), 0, bf16);
}

// The gradients of beta and gamma for each channel: the sums of g and of g · x̂, where g is dy before the activation.
// `y` is the output, or null without an activation. One block per channel. `beta_gradient` and `gamma_gradient` may be
// null.
extern "C" __global__ void normalize_backward_sums(
    const float *dy, const float *x, const float *y, const float *mean, const float *spread, float *sums,
    float *gamma_gradient, float *beta_gradient, int batch, int channels, int inner, float epsilon, int is_variance,
    int function, int adds) {
    int channel = blockIdx.x;
    float center = mean[channel], factor = inverse(spread[channel], epsilon, is_variance);
    float sum = 0.0f, weighted = 0.0f;
    for (int i = threadIdx.x; i < batch * inner; i += blockDim.x) {
        int at = (i / inner * channels + channel) * inner + i % inner;
        float g = y ? dy[at] * slope(y[at], function) : dy[at];
        sum += g;
        weighted += g * (x[at] - center);
    }
    sum = block_sum(sum);
    weighted = block_sum(weighted) * factor;
    if (threadIdx.x > 0) return;
    sums[channel] = sum;
    sums[channels + channel] = weighted;
    if (beta_gradient) store(beta_gradient, channel, sum, adds);
    if (gamma_gradient) store(gamma_gradient, channel, weighted, adds);
}

// dx and the residual's gradient. With `sums`, mean and variance depend on x; without (null), they are constant. dx and
// `residual_gradient` may be null.
extern "C" __global__ void normalize_backward(
    const void *dy, const void *x, const void *y, const float *mean, const float *spread, const float *gamma,
    const float *sums, void *dx, void *residual_gradient, int count, int batch, int channels, int inner, float epsilon,
    int is_variance, int function, int dx_adds, int residual_adds, int bf16) {
    int i = INDEX;
    if (i >= count) return;
    int channel = i / inner % channels;
    float g = load(dy, i, bf16);
    if (y) g *= slope(load(y, i, bf16), function);
    if (residual_gradient) store(residual_gradient, i, g, residual_adds, bf16);
    if (!dx) return;
    float factor = inverse(spread[channel], epsilon, is_variance);
    if (sums) {
        float n = (float)batch * inner;
        g -= sums[channel] / n + (load(x, i, bf16) - mean[channel]) * factor * sums[channels + channel] / n;
    }
    store(dx, i, g * gamma[channel] * factor, dx_adds, bf16);
}
