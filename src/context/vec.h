/* Vectors of embeddings: f32, of length 1. One order of every sum, so that a similarity has the same bits on every CPU:
 *
 *   dot: sixteen partial sums (k mod 16), each product rounded, then added, in ascending k from +0; then the tree
 *   (((s0+s8)+(s4+s12)) + ((s2+s10)+(s6+s14))) + (((s1+s9)+(s5+s13)) + ((s3+s11)+(s7+s15)))
 *
 * without fma, which a CPU of the baseline lacks. vec_dot.h is that sum; it is built twice, for any x86-64 and for AVX2, and
 * vec_dot_best chooses at run time. Stateless; any thread. */
#ifndef ROCMFORGE_CONTEXT_VEC_H
#define ROCMFORGE_CONTEXT_VEC_H

#include <stdbool.h>
#include <stddef.h>

enum { VEC_MOST = 16384 }; /* floats of a vector */

typedef float (*vec_dot_fn)(const float *a, const float *b, size_t n);
float vec_dot_base(const float *a, const float *b, size_t n);
float vec_dot_avx2(const float *a, const float *b, size_t n); /* only where there is AVX2 */
vec_dot_fn vec_dot_best(void);

/* y = x / |x|, the length in double. false: x is zero or not finite. y may be x. */
bool vec_normalise(float *y, const float *x, size_t n);
/* Of two unit vectors: their dot, no more than 1 and no less than -1. */
float vec_similarity(const float *a, const float *b, size_t n);

#endif
