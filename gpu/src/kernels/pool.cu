// Maximum of each window, and the index of its first maximum within the feature map.
extern "C" __global__ void max_pool(
    const float *x, float *y, int *indices, int count, int height, int width, int out_height, int out_width, int size,
    int stride, int top, int left) {
    int i = INDEX;
    if (i >= count) return;
    int column = i % out_width, row = i / out_width % out_height, map = i / (out_width * out_height);
    int best = -1;
    float maximum = 0.0f;
    for (int r = max(0, row * stride - top); r < min(height, row * stride - top + size); r++)
        for (int c = max(0, column * stride - left); c < min(width, column * stride - left + size); c++) {
            float value = x[(map * height + r) * width + c];
            // NaN counts as the maximum, as in PyTorch.
            if (best < 0 || value > maximum || (value != value && maximum == maximum)) {
                maximum = value;
                best = r * width + c;
            }
        }
    y[i] = maximum;
    indices[i] = best;
}

// One thread per input pixel adds the gradients of the windows whose maximum it is, without atomic additions.
extern "C" __global__ void max_pool_backward(
    const float *dy, const int *indices, float *dx, int count, int height, int width, int out_height, int out_width,
    int size, int stride, int top, int left, int adds) {
    int i = INDEX;
    if (i >= count) return;
    int column = i % width, row = i / width % height, map = i / (width * height);
    float sum = 0.0f;
    int from_row = max(0, (row + top - size + stride) / stride), to_row = min(out_height - 1, (row + top) / stride);
    int from_column = max(0, (column + left - size + stride) / stride);
    int to_column = min(out_width - 1, (column + left) / stride);
    for (int r = from_row; r <= to_row; r++)
        for (int c = from_column; c <= to_column; c++) {
            int at = (map * out_height + r) * out_width + c;
            if (indices[at] == row * width + column) sum += dy[at];
        }
    store(dx, i, sum, adds);
}

// Mean of each window's pixels, without the padding.
extern "C" __global__ void average_pool(
    const float *x, float *y, int count, int height, int width, int out_height, int out_width, int size, int stride,
    int top, int left) {
    int i = INDEX;
    if (i >= count) return;
    int column = i % out_width, row = i / out_width % out_height, map = i / (out_width * out_height);
    int r0 = max(0, row * stride - top), r1 = min(height, row * stride - top + size);
    int c0 = max(0, column * stride - left), c1 = min(width, column * stride - left + size);
    float sum = 0.0f;
    for (int r = r0; r < r1; r++)
        for (int c = c0; c < c1; c++) sum += x[(map * height + r) * width + c];
    y[i] = sum / ((r1 - r0) * (c1 - c0));
}

extern "C" __global__ void average_pool_backward(
    const float *dy, float *dx, int count, int height, int width, int out_height, int out_width, int size, int stride,
    int top, int left, int adds) {
    int i = INDEX;
    if (i >= count) return;
    int column = i % width, row = i / width % height, map = i / (width * height);
    float sum = 0.0f;
    int from_row = max(0, (row + top - size + stride) / stride), to_row = min(out_height - 1, (row + top) / stride);
    int from_column = max(0, (column + left - size + stride) / stride);
    int to_column = min(out_width - 1, (column + left) / stride);
    for (int r = from_row; r <= to_row; r++)
        for (int c = from_column; c <= to_column; c++) {
            int rows = min(height, r * stride - top + size) - max(0, r * stride - top);
            int columns = min(width, c * stride - left + size) - max(0, c * stride - left);
            sum += dy[(map * out_height + r) * out_width + c] / (rows * columns);
        }
    store(dx, i, sum, adds);
}

// Mean of each feature map. One block per feature map.
extern "C" __global__ void global_mean(const float *x, float *y, int inner) {
    int map = blockIdx.x;
    float sum = 0.0f;
    for (int i = threadIdx.x; i < inner; i += blockDim.x) sum += x[map * inner + i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) y[map] = sum / inner;
}

extern "C" __global__ void global_mean_backward(const float *dy, float *dx, int count, int inner, int adds) {
    int i = INDEX;
    if (i < count) store(dx, i, dy[i / inner] / inner, adds);
}
