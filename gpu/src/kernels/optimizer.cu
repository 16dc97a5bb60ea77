// Steps of the optimizers, for all parameters in one launch. The parameters are parts (segments) of one array. A block
// works on one chunk: `chunks` has for each its start, its length and its segment. `settings` has for each segment the
// learning rate and the factor of the old value (weight decay). `clip` has a factor for its gradient, or is null.
#define SGD 0
#define ADAM 1
#define RMSPROP 2

// The sum of squares of each chunk of the gradient. One block per chunk.
extern "C" __global__ void gradient_squares(const float *gradient, const int *chunks, float *squares) {
    const int *chunk = chunks + 3 * blockIdx.x;
    float sum = 0.0f;
    for (int i = threadIdx.x; i < chunk[1]; i += blockDim.x) {
        float g = gradient[chunk[0] + i];
        sum += g * g;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) squares[blockIdx.x] = sum;
}

// The factor that scales each segment's gradient, or the whole gradient, down to the norm `limit`. One block per segment.
extern "C" __global__ void clip_factors(
    const float *squares, const int *chunks, float *clip, int chunk_count, float limit, int is_global) {
    float sum = 0.0f;
    for (int i = threadIdx.x; i < chunk_count; i += blockDim.x)
        if (is_global || chunks[3 * i + 2] == (int)blockIdx.x) sum += squares[i];
    float length = sqrtf(block_sum(sum));
    if (threadIdx.x == 0) clip[blockIdx.x] = fminf(1.0f, limit / fmaxf(length, 1e-12f));
}

// One step of the optimizer. It changes nothing if `stopped` is not 0. a and b are the rule's decay rates. new_a = 1 - a,
// and new_b = 1 - b. `first`, `second` and `third` are its state; unused ones are null. `limit` is the largest absolute
// value of a gradient, or 0.
extern "C" __global__ void optimizer_step(
    float *weights, const float *gradient, float *first, float *second, float *third, const int *chunks,
    const float *settings, const float *clip, const float *stopped, int rule, int flag, float a, float new_a, float b,
    float new_b, float epsilon, float limit) {
    if (stopped && stopped[0] != 0.0f) return;
    const int *chunk = chunks + 3 * blockIdx.x;
    float rate = settings[2 * chunk[2]], decay = settings[2 * chunk[2] + 1];
    float factor = clip ? clip[chunk[2]] : 1.0f;
    for (int j = threadIdx.x; j < chunk[1]; j += blockDim.x) {
        int i = chunk[0] + j;
        float g = gradient[i] * factor, w = weights[i];
        // Not a number stays one.
        if (limit > 0.0f) g = g > limit ? limit : g < -limit ? -limit : g;
        if (rule == ADAM) {
            float m = a * first[i] + new_a * g, v = b * second[i] + new_b * (g * g);
            first[i] = m;
            second[i] = v;
            w = decay * w - rate * m / (sqrtf(v) + epsilon);
        } else if (rule == RMSPROP) {
            float v = a * first[i] + new_a * (g * g);
            first[i] = v;
            if (flag) {
                float average = a * third[i] + new_a * g;
                third[i] = average;
                // Rounding can make a variance negative. Not a number stays one.
                v -= average * average;
                v = v < 0.0f ? 0.0f : v;
            }
            float step = rate * g / sqrtf(v + epsilon);
            if (b != 0.0f) {
                step += b * second[i];
                second[i] = step;
            }
            w = decay * w - step;
        } else if (a == 0.0f) {
            w = decay * w - rate * g;
        } else {
            float m = a * first[i] - rate * g;
            first[i] = m;
            w = decay * w + (flag ? a * m - rate * g : m);
        }
        weights[i] = w;
    }
}
