#include "sample/topk.h"

#include "base/mem.h"

#include <math.h>
#include <string.h>

enum { SELECT_BITS = 12, DIGIT_BITS = 11, N_COUNT = 1 << SELECT_BITS };

bool topk_init(topk *t, uint32_t n_max) {
    t->key = mem_array(n_max, sizeof *t->key);
    t->spare = mem_array(n_max, sizeof *t->spare);
    t->count = mem_array(N_COUNT, sizeof *t->count);
    return t->key && t->spare && t->count;
}

void topk_free(topk *t) {
    mem_free(t->key);
    mem_free(t->spare);
    mem_free(t->count);
    *t = (topk){0};
}

/* Unsigned, smaller for larger floats; +0 and -0 alike. Positive floats order as integers, negative ones in reverse. */
static inline uint32_t descending(float f) {
    uint32_t b;
    f += 0.0f;
    memcpy(&b, &f, sizeof b);
    return b >> 31 ? b : b ^ 0x7FFFFFFF;
}

/* The first bucket (upper bits of `descending`) such that it and those before it hold k values or all. */
static uint32_t find_bucket(topk *t, const float *x, uint32_t n, uint32_t k) {
    memset(t->count, 0, N_COUNT * sizeof *t->count);
    for (uint32_t i = 0; i < n; i++) t->count[descending(x[i]) >> (32 - SELECT_BITS)]++;
    uint32_t b = 0;
    for (uint64_t have = t->count[0]; have < k && b + 1 < N_COUNT; have += t->count[b]) b++;
    return b;
}

/* One stable pass of a radix sort over DIGIT_BITS of the keys from `shift` up. */
static void sort_digit(topk *t, uint32_t n, int shift) {
    enum { N_DIGIT = 1 << DIGIT_BITS };
    memset(t->count, 0, N_DIGIT * sizeof *t->count);
    for (uint32_t i = 0; i < n; i++) t->count[t->key[i] >> shift & (N_DIGIT - 1)]++;
    uint32_t at = 0;
    for (int d = 0; d < N_DIGIT; d++) {
        const uint32_t c = t->count[d];
        t->count[d] = at;
        at += c;
    }
    for (uint32_t i = 0; i < n; i++) t->spare[t->count[t->key[i] >> shift & (N_DIGIT - 1)]++] = t->key[i];
    uint64_t *sorted = t->spare;
    t->spare = t->key;
    t->key = sorted;
}

uint32_t topk_select(topk *t, const float *x, uint32_t n, uint32_t k) {
    const uint32_t last = find_bucket(t, x, n, k);
    const uint32_t bound = (last << (32 - SELECT_BITS)) | (UINT32_MAX >> SELECT_BITS);
    uint32_t m = 0;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t order = descending(x[i]);
        if (order <= bound && x[i] > -INFINITY) t->key[m++] = (uint64_t)order << 32 | i;
    }
    for (int shift = 32; shift < 64; shift += DIGIT_BITS) sort_digit(t, m, shift);
    return m < k ? m : k;
}
