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

// The largest value of a row and its index: the first one of equal values. Values that are not numbers do not count.
struct Largest {
    float value;
    int index;
};

static __device__ Largest larger(Largest a, Largest b) {
    bool takes_b = b.value > a.value || (b.value == a.value && b.index < a.index);
    return takes_b ? b : a;
}

// The index of the largest value of a row of `columns` values, or 0 without one. Returned to every thread.
static __device__ int block_largest(const float *row, int columns) {
    __shared__ Largest found[BLOCK];
    Largest best = {-INFINITY, 0};
    for (int i = threadIdx.x; i < columns; i += blockDim.x)
        if (row[i] > best.value) best = {row[i], i};
    found[threadIdx.x] = best;
    __syncthreads();
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) found[threadIdx.x] = larger(found[threadIdx.x], found[threadIdx.x + half]);
        __syncthreads();
    }
    int index = found[0].index;
    __syncthreads();
    return index;
}

// Whether outputs and targets of each row have the same class: 1 or 0. The class is the index of the largest value, or
// for one column whether it exceeds `threshold`. One block per row.
extern "C" __global__ void class_matches(
    const float *outputs, const float *targets, float *matches, int columns, float threshold) {
    int row = blockIdx.x;
    const float *output = outputs + row * columns, *target = targets + row * columns;
    bool matches_target = columns == 1 ? (output[0] > threshold) == (target[0] > threshold)
                                       : block_largest(output, columns) == block_largest(target, columns);
    if (threadIdx.x == 0) matches[row] = matches_target ? 1.0f : 0.0f;
}

// The sum of all values. One block.
extern "C" __global__ void sum(const float *x, float *y, int count) {
    float total = 0.0f;
    for (int i = threadIdx.x; i < count; i += blockDim.x) total += x[i];
    total = block_sum(total);
    if (threadIdx.x == 0) y[0] = total;
}
