// Losses of logits, with their gradients. `weights` (one per sample) may be null. Each sample's loss is weighted; the
// gradient is that of the mean over `rows` samples. Targets are smoothed: t · factor + offset.

static __device__ float target(const float *targets, int index, float factor, float offset) {
    return targets[index] * factor + offset;
}

// Cross-entropy of a softmax. One block per sample. `gradient` may be null.
extern "C" __global__ void softmax_cross_entropy(
    const float *logits, const float *targets, const float *weights, float *losses, float *probabilities,
    float *gradient, int rows, int columns, float factor, float offset) {
    int row = blockIdx.x;
    const float *x = logits + row * columns;
    float maximum = -INFINITY;
    for (int i = threadIdx.x; i < columns; i += blockDim.x)
        maximum = x[i] > maximum || x[i] != x[i] ? x[i] : maximum;
    maximum = block_max(maximum);
    float sum = 0.0f;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) sum += expf(x[i] - maximum);
    sum = block_sum(sum);
    float log_sum = logf(sum), loss = 0.0f, total = 0.0f;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) {
        float t = target(targets, row * columns + i, factor, offset);
        loss -= t * (x[i] - maximum - log_sum);
        total += t;
    }
    loss = block_sum(loss);
    total = block_sum(total);
    float weight = weights ? weights[row] : 1.0f;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) {
        int at = row * columns + i;
        float p = expf(x[i] - maximum) / sum;
        probabilities[at] = p;
        if (gradient) gradient[at] = (p * total - target(targets, at, factor, offset)) * weight / rows;
    }
    if (threadIdx.x == 0) losses[row] = loss * weight;
}

// Cross-entropy of a sigmoid, mean over the columns. One block per sample. `gradient` may be null.
extern "C" __global__ void sigmoid_cross_entropy(
    const float *logits, const float *targets, const float *weights, float *losses, float *probabilities,
    float *gradient, int rows, int columns, float factor, float offset) {
    int row = blockIdx.x;
    float weight = weights ? weights[row] : 1.0f, loss = 0.0f;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) {
        int at = row * columns + i;
        float x = logits[at], t = target(targets, at, factor, offset), p = sigmoid(x);
        // ln(1 + eˣ) = max(x, 0) + ln(1 + e^-|x|), which does not overflow. NaN stays NaN.
        loss += (x < 0.0f ? 0.0f : x) + log1pf(expf(-fabsf(x))) - x * t;
        probabilities[at] = p;
        if (gradient) gradient[at] = (p - t) * weight / ((float)rows * columns);
    }
    loss = block_sum(loss);
    if (threadIdx.x == 0) losses[row] = loss / columns * weight;
}

// Squared error, mean over the columns. One block per sample. `gradient` may be null.
extern "C" __global__ void squared_error(
    const float *outputs, const float *targets, const float *weights, float *losses, float *gradient, int rows,
    int columns) {
    int row = blockIdx.x;
    float weight = weights ? weights[row] : 1.0f, loss = 0.0f;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) {
        int at = row * columns + i;
        float error = outputs[at] - targets[at];
        loss += error * error;
        if (gradient) gradient[at] = 2.0f * error * weight / ((float)rows * columns);
    }
    loss = block_sum(loss);
    if (threadIdx.x == 0) losses[row] = loss / columns * weight;
}

// The mean loss, and a flag that stays 1 after the first loss that is not finite. One block.
extern "C" __global__ void mean_loss(const float *losses, float *mean, float *stopped, int rows) {
    float sum = 0.0f;
    for (int i = threadIdx.x; i < rows; i += blockDim.x) sum += losses[i];
    sum = block_sum(sum);
    if (threadIdx.x > 0) return;
    mean[0] = sum / rows;
    if (!isfinite(sum / rows)) stopped[0] = 1.0f;
}

// Softmax of each row. One block per row.
extern "C" __global__ void softmax(const float *x, float *y, int columns) {
    const float *row = x + blockIdx.x * columns;
    float maximum = -INFINITY;
    for (int i = threadIdx.x; i < columns; i += blockDim.x)
        maximum = row[i] > maximum || row[i] != row[i] ? row[i] : maximum;
    maximum = block_max(maximum);
    float sum = 0.0f;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) sum += expf(row[i] - maximum);
    sum = block_sum(sum);
    for (int i = threadIdx.x; i < columns; i += blockDim.x) y[blockIdx.x * columns + i] = expf(row[i] - maximum) / sum;
}
