/* Two kernels whose code is known: what tests/gpu/test_static.py measures. */
#include "target.h"

struct probe_args {
    const word4 *w;
    const word4 *x;
    float *y;
    uint32_t n, pad;
};

/* A loop of two 16-byte loads and four dot products: 16 weights of a byte a round. */
KERNEL(probe_vec1_q8_0, probe_args, 256) {
    const word4 *w = a.w + block_x() * a.n + thread_x(), *x = a.x + thread_x();
    int32_t sum = 0;
    for (uint32_t i = 0; i < a.n; i += 256) {
        word4 q = w[i], v = x[i];
        for (int j = 0; j < 4; j++) sum = dot4((int32_t)q[j], (int32_t)v[j], sum);
    }
    a.y[block_x() * 256 + thread_x()] = (float)sum;
}

/* An array that no registers can hold, for it is indexed by a lane. */
KERNEL(probe_scratch, probe_args, 1024) {
    SHARED float part[1024];
    float keep[300];
    for (int i = 0; i < 300; i++) keep[i] = a.y[i * 1024 + thread_x()];
    part[thread_x()] = keep[(a.n + thread_x()) % 300];
    barrier();
    float sum = 0;
    for (int i = 0; i < 300; i++) sum = sum * keep[i] + part[(thread_x() + i) & 1023];
    a.y[thread_x()] = sum;
}
