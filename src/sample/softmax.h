/* The passes over a whole vocabulary: largest value, sum of exponentials, the exponentials themselves, running sums over
 * them. Written so that compilers turn them into vector code, and so that a GPU can give the same bits (its sampler does):
 * each value is computed alone, and sums are cut into chunks of SOFTMAX_CHUNK values. A chunk's total is sixteen sums (index
 * mod 16) and one fixed tree; totals are added up in the same way, chunk c in sum c mod 16. So the bits depend neither on the
 * compiler nor on the machine. Pure, any thread. */
#ifndef ROCMFORGE_SAMPLE_SOFTMAX_H
#define ROCMFORGE_SAMPLE_SOFTMAX_H

#include <stdbool.h>
#include <stdint.h>

enum { SOFTMAX_CHUNK = 512 };

/* Largest of x; *finite: whether all of them are. -infinity for n 0; meaningless when not finite because of a NaN. */
float softmax_max(const float *x, uint32_t n, bool *finite);

/* Sum of exp(x[i] - max), max as above (so no term exceeds 1). Relative error about 1e-7; what is below exp(-87) is 0. */
double softmax_sum(const float *x, uint32_t n, float max);

/* dst[i] = exp((x[i] - max) / temperature), x[i] <= max, -infinity gives 0. dst may be x. */
void softmax_weights(float *dst, const float *x, uint32_t n, float max, float temperature);

/* Sum of weights as they are. */
double softmax_total(const float *weight, uint32_t n);

/* The first weight at which the running sum reaches goal (past: exceeds it), SOFTMAX_NONE when none does. Whole chunks are
 * passed over by their totals, added in ascending order; inside the chunk whose total gets there, weights are added one by
 * one, and where rounding keeps those from getting there it is the chunk's last that is not 0. Weights of 0 are never met. */
static const uint32_t SOFTMAX_NONE = UINT32_MAX;
uint32_t softmax_walk(const float *weight, uint32_t n, double goal, bool past);

#endif
