#include "sample/softmax.h"

#include "sample/exp_neg.h"

#include <math.h>
#include <string.h>

enum { LANES = 16 };

static inline uint32_t to_bits(float f) {
    uint32_t b;
    memcpy(&b, &f, sizeof b);
    return b;
}

float softmax_max(const float *x, uint32_t n, bool *finite) {
    float best[LANES];
    uint32_t odd[LANES] = {0};
    for (int j = 0; j < LANES; j++) best[j] = -INFINITY;
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) {
            const float v = x[i + j];
            best[j] = v > best[j] ? v : best[j];
            odd[j] |= (to_bits(v) & 0x7FFFFFFF) > 0x7F7FFFFF;
        }
    for (int j = 0; i < n; i++, j++) {
        best[j] = x[i] > best[j] ? x[i] : best[j];
        odd[j] |= !isfinite(x[i]);
    }
    for (int j = 1; j < LANES; j++) {
        best[0] = best[j] > best[0] ? best[j] : best[0];
        odd[0] |= odd[j];
    }
    *finite = !odd[0];
    return best[0];
}

static double tree(double lane[LANES]) {
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int j = 0; j < width; j++) lane[j] += lane[j + width];
    return lane[0];
}

static uint32_t chunk_at(uint32_t n, uint32_t at) { return n - at < SOFTMAX_CHUNK ? n - at : SOFTMAX_CHUNK; }

static double exp_chunk(const float *x, uint32_t n, float max) {
    double lane[LANES] = {0};
    float e[LANES];
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int j = 0; j < LANES; j++) e[j] = exp_neg(x[i + j] - max);
        for (int j = 0; j < LANES; j++) lane[j] += (double)e[j];
    }
    for (int j = 0; i < n; i++, j++) lane[j] += (double)exp_neg(x[i] - max);
    return tree(lane);
}

static double weight_chunk(const float *weight, uint32_t n) {
    double lane[LANES] = {0};
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) lane[j] += (double)weight[i + j];
    for (int j = 0; i < n; i++, j++) lane[j] += (double)weight[i];
    return tree(lane);
}

double softmax_sum(const float *x, uint32_t n, float max) {
    double lane[LANES] = {0};
    for (uint32_t at = 0; at < n; at += SOFTMAX_CHUNK)
        lane[at / SOFTMAX_CHUNK % LANES] += exp_chunk(x + at, chunk_at(n, at), max);
    return tree(lane);
}

double softmax_total(const float *weight, uint32_t n) {
    double lane[LANES] = {0};
    for (uint32_t at = 0; at < n; at += SOFTMAX_CHUNK)
        lane[at / SOFTMAX_CHUNK % LANES] += weight_chunk(weight + at, chunk_at(n, at));
    return tree(lane);
}

void softmax_weights(float *dst, const float *x, uint32_t n, float max, float temperature) {
    for (uint32_t i = 0; i < n; i++) dst[i] = exp_neg((x[i] - max) / temperature);
}

static bool there(double sum, double goal, bool past) { return past ? sum > goal : sum >= goal; }

static uint32_t walk_chunk(const float *weight, uint32_t n, double sum, double goal, bool past) {
    uint32_t last = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (weight[i] == 0) continue;
        last = i;
        sum += (double)weight[i];
        if (there(sum, goal, past)) break;
    }
    return last;
}

uint32_t softmax_walk(const float *weight, uint32_t n, double goal, bool past) {
    double sum = 0;
    for (uint32_t at = 0; at < n; at += SOFTMAX_CHUNK) {
        const uint32_t here = chunk_at(n, at);
        const double next = sum + weight_chunk(weight + at, here);
        if (there(next, goal, past)) return at + walk_chunk(weight + at, here, sum, goal, past);
        sum = next;
    }
    return SOFTMAX_NONE;
}
