// Conversion between float32 in NCHW and bfloat16 in NHWC. One block of BLOCK threads converts TILE channels of TILE
// pixels through shared memory, so that both sides are read and written in order. Where the layouts are equal (one
// channel or one pixel), it converts the next TILE * TILE values.
#define TILE 32

// The first value, channel and pixel of this block's tile, from the numbers of channels and pixels.
struct Tile {
    int start, channel, pixel;
};

static __device__ Tile tile_of_block(int channels, int inner) {
    int columns = (inner + TILE - 1) / TILE, rows = (channels + TILE - 1) / TILE;
    int sample = blockIdx.x / (rows * columns);
    return {sample * channels * inner, (int)(blockIdx.x / columns % rows) * TILE, (int)(blockIdx.x % columns) * TILE};
}

extern "C" __global__ void float32_to_bfloat16(
    const float *x, unsigned short *y, int count, int channels, int inner, int adds) {
    __shared__ float values[TILE][TILE + 1];
    if (channels == 1 || inner == 1) {
        for (int i = threadIdx.x; i < TILE * TILE; i += blockDim.x) {
            int at = blockIdx.x * (TILE * TILE) + i;
            if (at < count) store(y, at, x[at], adds, 1);
        }
        return;
    }
    Tile tile = tile_of_block(channels, inner);
    for (int i = threadIdx.x; i < TILE * TILE; i += blockDim.x) {
        int channel = tile.channel + i / TILE, pixel = tile.pixel + i % TILE;
        if (channel < channels && pixel < inner) values[i / TILE][i % TILE] = x[tile.start + channel * inner + pixel];
    }
    __syncthreads();
    for (int i = threadIdx.x; i < TILE * TILE; i += blockDim.x) {
        int channel = tile.channel + i % TILE, pixel = tile.pixel + i / TILE;
        if (channel < channels && pixel < inner)
            store(y, tile.start + pixel * channels + channel, values[i % TILE][i / TILE], adds, 1);
    }
}

extern "C" __global__ void bfloat16_to_float32(
    const unsigned short *x, float *y, int count, int channels, int inner, int adds) {
    __shared__ float values[TILE][TILE + 1];
    if (channels == 1 || inner == 1) {
        for (int i = threadIdx.x; i < TILE * TILE; i += blockDim.x) {
            int at = blockIdx.x * (TILE * TILE) + i;
            if (at < count) store(y, at, float_of(x[at]), adds);
        }
        return;
    }
    Tile tile = tile_of_block(channels, inner);
    for (int i = threadIdx.x; i < TILE * TILE; i += blockDim.x) {
        int channel = tile.channel + i % TILE, pixel = tile.pixel + i / TILE;
        if (channel < channels && pixel < inner)
            values[i % TILE][i / TILE] = float_of(x[tile.start + pixel * channels + channel]);
    }
    __syncthreads();
    for (int i = threadIdx.x; i < TILE * TILE; i += blockDim.x) {
        int channel = tile.channel + i / TILE, pixel = tile.pixel + i % TILE;
        if (channel < channels && pixel < inner)
            store(y, tile.start + channel * inner + pixel, values[i / TILE][i % TILE], adds);
    }
}
