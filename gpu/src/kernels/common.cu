// Shared by all kernels. Layout: NCHW, float32. `inner` is the number of pixels of a feature map.
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
