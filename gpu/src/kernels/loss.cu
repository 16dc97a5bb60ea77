// Losses of logits, with their gradients. `weights` (one per sample) may be null. Each sample's loss is weighted; the
// gradient is that of the mean over `rows` samples. Targets are smoothed: t · keep + add.

static __device__ float target(const float *targets, int index, float keep, float add) {
    return targets[index] * keep + add;
}

// Cross-entropy of a softmax. One block per sample. `gradient` may be null.
extern "C" __global__ void softmax_cross_entropy(
    const float *logits, const float *targets, const float *weights, float *losses, float *probabilities,
    float *gradient, int rows, int columns, float keep, float add) {
    int row = blockIdx.x;
    const float *x = logits + row * columns;
    float most = -INFINITY;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) most = x[i] > most || x[i] != x[i] ? x[i] : most;
    most = block_max(most);
    float sum = 0.0f;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) sum += expf(x[i] - most);
    sum = block_sum(sum);
    float log_sum = logf(sum), loss = 0.0f, total = 0.0f;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) {
        float t = target(targets, row * columns + i, keep, add);
        loss -= t * (x[i] - most - log_sum);
        total += t;
    }
    loss = block_sum(loss);
    total = block_sum(total);
    float weight = weights ? weights[row] : 1.0f;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) {
        int at = row * columns + i;
        float p = expf(x[i] - most) / sum;
        probabilities[at] = p;
        if (gradient) gradient[at] = (p * total - target(targets, at, keep, add)) * weight / rows;
    }
    if (threadIdx.x == 0) losses[row] = loss * weight;
}

// Cross-entropy of a sigmoid, mean over the columns. One block per sample. `gradient` may be null.
extern "C" __global__ void sigmoid_cross_entropy(
    const float *logits, const float *targets, const float *weights, float *losses, float *probabilities,
    float *gradient, int rows, int columns, float keep, float add) {
    int row = blockIdx.x;
    float weight = weights ? weights[row] : 1.0f, loss = 0.0f;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) {
        int at = row * columns + i;
        float x = logits[at], t = target(targets, at, keep, add), p = sigmoid(x);
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
    float most = -INFINITY;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) most = row[i] > most || row[i] != row[i] ? row[i] : most;
    most = block_max(most);
    float sum = 0.0f;
    for (int i = threadIdx.x; i < columns; i += blockDim.x) sum += expf(row[i] - most);
    sum = block_sum(sum);
    for (int i = threadIdx.x; i < columns; i += blockDim.x) y[blockIdx.x * columns + i] = expf(row[i] - most) / sum;
}
