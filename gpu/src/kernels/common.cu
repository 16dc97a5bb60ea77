// Shared by all kernels. Values are float32 in NCHW. `inner` is the number of pixels of a feature map.
//
// Arguments of type `void *` are float32 in NCHW, or bfloat16 in NHWC if `bf16` is 1. They have the same type in one
// launch. Sums are always float32. The layout is given by sizes: NHWC is a matrix of pixels and channels, so `inner` is 1;
// and windows see NCHW as feature maps with one channel.
//
// A kernel with one thread per value has blocks of THREADS threads. A kernel that reduces has one block of BLOCK
// threads per result; it is correct for any power of two. Sums have a fixed order, so results are deterministic.
#define THREADS 256
#define BLOCK 512

// NVRTC does not include the standard headers.
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif

// This thread's value.
#define INDEX (int)(blockIdx.x * blockDim.x + threadIdx.x)

// Sum over the block's threads, returned to every thread.
static __device__ float block_sum(float value) {
    __shared__ float sums[BLOCK];
    sums[threadIdx.x] = value;
    __syncthreads();
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
        __syncthreads();
    }
    float sum = sums[0];
    __syncthreads();
    return sum;
}

// Maximum over the block's threads, returned to every thread. NaN if any value is NaN.
static __device__ float block_max(float value) {
    __shared__ float values[BLOCK];
    values[threadIdx.x] = value;
    __syncthreads();
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            float a = values[threadIdx.x], b = values[threadIdx.x + half];
            values[threadIdx.x] = a > b || a != a ? a : b;
        }
        __syncthreads();
    }
    float maximum = values[0];
    __syncthreads();
    return maximum;
}

static __device__ void store(float *y, int index, float value, int adds) {
    y[index] = adds ? y[index] + value : value;
}

// The nearest bfloat16, ties to even. NaN stays NaN.
static __device__ unsigned short bfloat16_of(float value) {
    unsigned bits = __float_as_uint(value);
    if (value != value) return (unsigned short)(bits >> 16 | 0x40u);
    return (unsigned short)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

static __device__ float float_of(unsigned short value) { return __uint_as_float((unsigned)value << 16); }

static __device__ float load(const void *x, int index, int bf16) {
    return bf16 ? float_of(((const unsigned short *)x)[index]) : ((const float *)x)[index];
}

static __device__ void store(void *y, int index, float value, int adds, int bf16) {
    if (!bf16) return store((float *)y, index, value, adds);
    unsigned short *to = (unsigned short *)y + index;
    *to = bfloat16_of(adds ? float_of(*to) + value : value);
}
