/* The body of the dot product (vec.h), for whoever defines DOT_NAME: eight lanes of a generic vector become what the file's
 * flags allow, and mean the same additions in any case. */
#ifndef ROCMFORGE_CONTEXT_VEC_DOT_H
#define ROCMFORGE_CONTEXT_VEC_DOT_H

#include <stddef.h>
#include <string.h>

typedef float lanes8 __attribute__((vector_size(32)));

static inline void add_products(lanes8 *sum, const float *a, const float *b) {
    lanes8 x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    *sum += x * y;
}

static inline float dot_body(const float *a, const float *b, size_t n) {
    lanes8 lo = {0}, hi = {0};
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        add_products(&lo, a + i, b + i);
        add_products(&hi, a + i + 8, b + i + 8);
    }
    float s[16];
    memcpy(s, &lo, sizeof lo);
    memcpy(s + 8, &hi, sizeof hi);
    for (size_t j = 0; i < n; i++, j++) s[j] += a[i] * b[i];
    return (((s[0] + s[8]) + (s[4] + s[12])) + ((s[2] + s[10]) + (s[6] + s[14]))) +
           (((s[1] + s[9]) + (s[5] + s[13])) + ((s[3] + s[11]) + (s[7] + s[15])));
}

#endif
