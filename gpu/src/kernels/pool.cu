// Maximum of each window, and the index of its first maximum within the feature map.
extern "C" __global__ void max_pool(
    const void *x, void *y, int *indices, int count, int channels, int height, int width, int out_height, int out_width,
    int size, int stride, int top, int left, int bf16) {
    int i = INDEX;
    if (i >= count) return;
    auto [map, row, column, channel] = pixel_of(i, channels, out_height, out_width);
    int start = map * height * width * channels + channel;
    int best = -1;
    float maximum = 0.0f;
    for (int r = max(0, row * stride - top); r < min(height, row * stride - top + size); r++)
        for (int c = max(0, column * stride - left); c < min(width, column * stride - left + size); c++) {
            float value = load(x, start + (r * width + c) * channels, bf16);
            // NaN counts as the maximum, as in PyTorch.
            if (best < 0 || value > maximum || (value != value && maximum == maximum)) {
                maximum = value;
                best = r * width + c;
            }
        }
    store(y, i, maximum, 0, bf16);
    indices[i] = best;
}

// One thread per input pixel adds the gradients of the windows whose maximum it is, without atomic additions.
extern "C" __global__ void max_pool_backward(
    const void *dy, const int *indices, void *dx, int count, int channels, int height, int width, int out_height,
    int out_width, int size, int stride, int top, int left, int adds, int bf16) {
    int i = INDEX;
    if (i >= count) return;
    auto [map, row, column, channel] = pixel_of(i, channels, height, width);
    int start = map * out_height * out_width * channels + channel;
    float sum = 0.0f;
    int from_row = max(0, (row + top - size + stride) / stride), to_row = min(out_height - 1, (row + top) / stride);
    int from_column = max(0, (column + left - size + stride) / stride);
    int to_column = min(out_width - 1, (column + left) / stride);
    for (int r = from_row; r <= to_row; r++)
        for (int c = from_column; c <= to_column; c++) {
            int at = start + (r * out_width + c) * channels;
            if (indices[at] == row * width + column) sum += load(dy, at, bf16);
        }
    store(dx, i, sum, adds, bf16);
}

// Mean of each window's pixels, without the padding.
extern "C" __global__ void average_pool(
    const void *x, void *y, int count, int channels, int height, int width, int out_height, int out_width, int size,
    int stride, int top, int left, int bf16) {
    int i = INDEX;
    if (i >= count) return;
    auto [map, row, column, channel] = pixel_of(i, channels, out_height, out_width);
    int start = map * height * width * channels + channel;
    int r0 = max(0, row * stride - top), r1 = min(height, row * stride - top + size);
    int c0 = max(0, column * stride - left), c1 = min(width, column * stride - left + size);
    float sum = 0.0f;
    for (int r = r0; r < r1; r++)
        for (int c = c0; c < c1; c++) sum += load(x, start + (r * width + c) * channels, bf16);
    store(y, i, sum / ((r1 - r0) * (c1 - c0)), 0, bf16);
}

extern "C" __global__ void average_pool_backward(
    const void *dy, void *dx, int count, int channels, int height, int width, int out_height, int out_width, int size,
    int stride, int top, int left, int adds, int bf16) {
    int i = INDEX;
    if (i >= count) return;
    auto [map, row, column, channel] = pixel_of(i, channels, height, width);
    int start = map * out_height * out_width * channels + channel;
    float sum = 0.0f;
    int from_row = max(0, (row + top - size + stride) / stride), to_row = min(out_height - 1, (row + top) / stride);
    int from_column = max(0, (column + left - size + stride) / stride);
    int to_column = min(out_width - 1, (column + left) / stride);
    for (int r = from_row; r <= to_row; r++)
        for (int c = from_column; c <= to_column; c++) {
            int rows = min(height, r * stride - top + size) - max(0, r * stride - top);
            int columns = min(width, c * stride - left + size) - max(0, c * stride - left);
            sum += load(dy, start + (r * out_width + c) * channels, bf16) / (rows * columns);
        }
    store(dx, i, sum, adds, bf16);
}

// Mean of each feature map. One block per feature map.
extern "C" __global__ void global_mean(const float *x, float *y, int inner) {
    int map = blockIdx.x;
    float sum = 0.0f;
    for (int i = threadIdx.x; i < inner; i += blockDim.x) sum += x[map * inner + i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) y[map] = sum / inner;
}

extern "C" __global__ void global_mean_backward(
    const float *dy, void *dx, int count, int channels, int inner, int adds, int bf16) {
    int i = INDEX;
    if (i < count) store(dx, i, dy[map_of(i, channels, inner)] / inner, adds, bf16);
}
