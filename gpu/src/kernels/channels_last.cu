// Reductions of bfloat16 values in NHWC, as matrices whose rows are the channels of one pixel. A block sums LANES
// neighbouring channels over a part of the rows, so it reads memory in order. A second kernel adds the parts in a fixed
// order. Part p has the rows from p * part_rows.
#define LANES 32

struct Sums {
    float first, second;
};

// Sums of value(index, channel) over the rows from `from` to `to`, for the channels of a tile. They are returned to every
// thread, in `totals`.
template <typename Value>
static __device__ void sum_rows(int from, int to, int channels, int tile, Sums *totals, Value value) {
    __shared__ Sums sums[BLOCK];
    for (int t = threadIdx.x; t < BLOCK; t += blockDim.x) {
        int channel = tile * LANES + t % LANES;
        Sums sum = {0.0f, 0.0f};
        if (channel < channels)
            for (int row = from + t / LANES; row < to; row += BLOCK / LANES) {
                Sums next = value(row * channels + channel, channel);
                sum.first += next.first;
                sum.second += next.second;
            }
        sums[t] = sum;
    }
    __syncthreads();
    for (int lane = threadIdx.x; lane < LANES; lane += blockDim.x) {
        Sums sum = {0.0f, 0.0f};
        for (int t = lane; t < BLOCK; t += LANES) {
            sum.first += sums[t].first;
            sum.second += sums[t].second;
        }
        totals[lane] = sum;
    }
    __syncthreads();
}

// The tile of channels and the part of the rows of this block.
struct Part {
    int tile, number, from, to;
};

static __device__ Part part_of_block(int rows, int channels, int part_rows) {
    int tiles = (channels + LANES - 1) / LANES, number = blockIdx.x / tiles, from = number * part_rows;
    return {(int)(blockIdx.x % tiles), number, from, min(rows, from + part_rows)};
}

// Mean of each channel over each part of the rows, and the sum of the squared distances from it: `parts` is
// [part, 2, channels].
extern "C" __global__ void statistics_of_parts(
    const unsigned short *x, float *parts, int rows, int channels, int part_rows) {
    __shared__ Sums totals[LANES];
    __shared__ float means[LANES];
    Part part = part_of_block(rows, channels, part_rows);
    sum_rows(part.from, part.to, channels, part.tile, totals, [=](int i, int) { return Sums{float_of(x[i]), 0.0f}; });
    for (int lane = threadIdx.x; lane < LANES; lane += blockDim.x)
        means[lane] = totals[lane].first / (part.to - part.from);
    __syncthreads();
    sum_rows(part.from, part.to, channels, part.tile, totals, [=](int i, int channel) {
        float distance = float_of(x[i]) - means[channel % LANES];
        return Sums{distance * distance, 0.0f};
    });
    for (int lane = threadIdx.x; lane < LANES; lane += blockDim.x) {
        int channel = part.tile * LANES + lane;
        if (channel >= channels) continue;
        parts[2 * part.number * channels + channel] = means[lane];
        parts[(2 * part.number + 1) * channels + channel] = totals[lane].first;
    }
}

// Mean and 1/σ of each channel from those of the parts (Chan et al. 1983), and the moving statistics: see
// set_statistics. One thread per channel.
extern "C" __global__ void batch_statistics_of_parts(
    const float *parts, float *mean, float *spread, float *moving_mean, float *moving_variance, int rows, int channels,
    int part_rows, float epsilon, float momentum, float new_weight) {
    int channel = INDEX;
    if (channel >= channels) return;
    float center = 0.0f, squares = 0.0f;
    for (int from = 0; from < rows; from += part_rows) {
        float count = min(part_rows, rows - from), total = from + count;
        const float *part = parts + from / part_rows * 2 * channels + channel;
        float distance = part[0] - center;
        center += distance * (count / total);
        squares += part[channels] + distance * distance * (from * (count / total));
    }
    set_statistics(
        center, squares / rows, mean + channel, spread + channel, moving_mean + channel, moving_variance + channel,
        epsilon, momentum, new_weight);
}

// The sums of g and of g · x̂ for each channel over each part of the rows: `parts` is [part, 2, channels]. See
// normalize_backward_sums.
extern "C" __global__ void normalize_sums_of_parts(
    const unsigned short *dy, const unsigned short *x, const unsigned short *y, const float *mean, const float *spread,
    float *parts, int rows, int channels, int part_rows, float epsilon, int is_variance, int function) {
    __shared__ Sums totals[LANES];
    Part part = part_of_block(rows, channels, part_rows);
    sum_rows(part.from, part.to, channels, part.tile, totals, [=](int i, int channel) {
        float g = float_of(dy[i]);
        if (y) g *= slope(float_of(y[i]), function);
        return Sums{g, g * (float_of(x[i]) - mean[channel])};
    });
    for (int lane = threadIdx.x; lane < LANES; lane += blockDim.x) {
        int channel = part.tile * LANES + lane;
        if (channel >= channels) continue;
        parts[2 * part.number * channels + channel] = totals[lane].first;
        parts[(2 * part.number + 1) * channels + channel] =
            totals[lane].second * inverse(spread[channel], epsilon, is_variance);
    }
}

// The sums of each channel over each part of the rows: `parts` is [part, channels].
extern "C" __global__ void sums_of_parts(
    const unsigned short *x, float *parts, int rows, int channels, int part_rows) {
    __shared__ Sums totals[LANES];
    Part part = part_of_block(rows, channels, part_rows);
    sum_rows(part.from, part.to, channels, part.tile, totals, [=](int i, int) { return Sums{float_of(x[i]), 0.0f}; });
    for (int lane = threadIdx.x; lane < LANES; lane += blockDim.x) {
        int channel = part.tile * LANES + lane;
        if (channel < channels) parts[part.number * channels + channel] = totals[lane].first;
    }
}

// Adds `part_count` parts of `columns` sums. The first `channels` sums are also the gradient `first`, the others the
// gradient `second`; each array may be null. One thread per sum.
extern "C" __global__ void add_parts(
    const float *parts, float *sums, float *first, float *second, int part_count, int columns, int channels, int adds) {
    int column = INDEX;
    if (column >= columns) return;
    float sum = 0.0f;
    for (int part = 0; part < part_count; part++) sum += parts[part * columns + column];
    if (sums) sums[column] = sum;
    float *gradient = column < channels ? first : second;
    if (gradient) store(gradient, column % channels, sum, adds);
}

// Mean of each channel of each sample. One block per sample and tile of channels.
extern "C" __global__ void means_of_samples(const unsigned short *x, float *y, int channels, int inner) {
    __shared__ Sums totals[LANES];
    int tiles = (channels + LANES - 1) / LANES, tile = blockIdx.x % tiles, sample = blockIdx.x / tiles;
    sum_rows(sample * inner, (sample + 1) * inner, channels, tile, totals, [=](int i, int) {
        return Sums{float_of(x[i]), 0.0f};
    });
    for (int lane = threadIdx.x; lane < LANES; lane += blockDim.x) {
        int channel = tile * LANES + lane;
        if (channel < channels) y[sample * channels + channel] = totals[lane].first / inner;
    }
}

// The gradient of the factors of scale_maps. One block per sample and tile of channels.
extern "C" __global__ void products_of_samples(
    const unsigned short *dy, const unsigned short *x, unsigned short *ds, int channels, int inner, int adds) {
    __shared__ Sums totals[LANES];
    int tiles = (channels + LANES - 1) / LANES, tile = blockIdx.x % tiles, sample = blockIdx.x / tiles;
    sum_rows(sample * inner, (sample + 1) * inner, channels, tile, totals, [=](int i, int) {
        return Sums{float_of(dy[i]) * float_of(x[i]), 0.0f};
    });
    for (int lane = threadIdx.x; lane < LANES; lane += blockDim.x) {
        int channel = tile * LANES + lane;
        if (channel < channels) store(ds, sample * channels + channel, totals[lane].first, adds, 1);
    }
}
