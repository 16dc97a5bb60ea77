// Row i of y = row rows[i] of x.
extern "C" __global__ void gather_rows(const float *x, const int *rows, float *y, int count, int columns) {
    int i = INDEX;
    // x may have more values than an int counts.
    if (i < count) y[i] = x[(long long)rows[i / columns] * columns + i % columns];
}
