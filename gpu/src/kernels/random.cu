// Dropout. The mask is a function of the seed (Philox-4x32-10, Salmon et al. 2011), so the backward pass draws it again.
// `inner` values share one number.

static __device__ unsigned philox(unsigned long long seed, unsigned long long counter) {
    unsigned k0 = (unsigned)seed, k1 = (unsigned)(seed >> 32);
    unsigned x0 = (unsigned)counter, x1 = (unsigned)(counter >> 32), x2 = 0, x3 = 0;
    for (int round = 0; round < 10; round++) {
        unsigned long long p0 = 0xD2511F53ull * x0, p1 = 0xCD9E8D57ull * x2;
        unsigned y0 = (unsigned)(p1 >> 32) ^ x1 ^ k0, y2 = (unsigned)(p0 >> 32) ^ x3 ^ k1;
        x1 = (unsigned)p1;
        x3 = (unsigned)p0;
        x0 = y0;
        x2 = y2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return x0;
}

// y = x · mask / (1 - rate). The backward pass is the same operation on the gradient.
extern "C" __global__ void dropout(
    const void *x, void *y, int count, int inner, unsigned long long seed, float rate, int adds, int bf16) {
    int i = INDEX;
    if (i >= count) return;
    // A uniform number in [0, 1) with 24 bits.
    float uniform = (philox(seed, (unsigned long long)(i / inner)) >> 8) * (1.0f / 16777216.0f);
    store(y, i, uniform < rate ? 0.0f : load(x, i, bf16) / (1.0f - rate), adds, bf16);
}
