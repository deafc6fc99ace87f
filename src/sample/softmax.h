/* The three passes over a whole vocabulary: largest value, sum of exponentials, the exponentials themselves. Written so
 * that compilers turn them into vector code; each value is computed alone and sums run in sixteen lanes (index mod 16) and
 * one fixed tree, so the bits depend neither on the compiler nor on the machine. Pure, any thread. */
#ifndef ROCMFORGE_SAMPLE_SOFTMAX_H
#define ROCMFORGE_SAMPLE_SOFTMAX_H

#include <stdbool.h>
#include <stdint.h>

/* Largest of x; *finite: whether all of them are. -infinity for n 0; meaningless when not finite because of a NaN. */
float softmax_max(const float *x, uint32_t n, bool *finite);

/* Sum of exp(x[i] - max), max as above (so no term exceeds 1). Relative error about 1e-7; what is below exp(-87) is 0. */
double softmax_sum(const float *x, uint32_t n, float max);

/* dst[i] = exp((x[i] - max) / temperature), x[i] <= max, -infinity gives 0. dst may be x. */
void softmax_weights(float *dst, const float *x, uint32_t n, float max, float temperature);

#endif
