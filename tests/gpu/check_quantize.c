/* Quantised activations, alone and behind a norm or a gate, against the CPU's reference, bit for bit: rows of awkward widths,
 * values that are zero, tiny, huge, infinite and NaN, ties to even, groups that are a row or a head. */
#include "gpu_check.h"

#include "backend/cpu/cpu_ops.h"
#include "backend/gpu/kernels/args_quantize.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum { PLAIN, SWIGLU, GEGLU, NORM, N_OPS } op;
static const char *const names[N_OPS] = {"quantize_rows", "quantize_swiglu", "quantize_geglu", "quantize_norm"};

static uint64_t seed = 11;
static uint32_t draw(void) { return (uint32_t)(check_random(&seed) >> 32); }

static void *take(size_t n) {
    void *p = calloc(1, n ? n : 1);
    if (!p) abort();
    return p;
}

/* Of each 32 values, what some rows may meet. */
static void fill(float *x, size_t n) {
    for (size_t at = 0; at < n; at += 32) {
        const uint32_t kind = draw() % 12;
        for (size_t i = at; i < n && i < at + 32; i++) {
            x[i] = check_normal(&seed);
            if (kind == 0) x[i] = 0.0f;
            if (kind == 1) x[i] *= check_tame() ? 1e-15f : 1e-39f;
            if (kind == 2) x[i] *= 1e36f;
            if (kind == 3) x[i] = (float)((int)(draw() % 255) - 127) / 2; /* ties */
        }
        if (kind == 4) x[at + draw() % 32] = draw() % 2 ? INFINITY : -INFINITY;
        if (kind == 5) x[at + draw() % 32] = NAN;
        if (kind == 6) x[at] = check_tame() ? 1e-15f : 1e-38f; /* 127 / a still finite, or not */
    }
}

typedef struct {
    op op;
    uint32_t scale_block, n, n_rows, group;
    bool weights; /* of the norm */
} shape;

/* What the reference makes, in the device's layout. */
static void reference(uint8_t *y, uint32_t y_stride, const shape *c, const float *x, const float *x2) {
    cpu_ops ops;
    cpu_ops_ref(&ops);
    const uint32_t n = c->n, per = n / c->scale_block;
    float *row = take(n * sizeof *row);
    cpu_act act = {
        .code = take(n), .scale = take(per * 4), .sum = take(n / 8), .n_tok = 1, .scale_block = c->scale_block};
    for (uint32_t r = 0; r < c->n_rows; r++, x += n, y += y_stride) {
        const float *second = x2 + (size_t)r * n;
        if (c->op == PLAIN) memcpy(row, x, n * sizeof *row);
        if (c->op == SWIGLU) ops.swiglu(row, x, second, n);
        if (c->op == GEGLU) ops.geglu(row, x, second, n);
        for (uint32_t g = 0; c->op == NORM && g < n; g += c->group)
            ops.rms_norm(row + g, x + g, c->weights ? x2 : NULL, c->group, 1e-5f);
        ops.quantize(&act, 0, row, n);
        memcpy(y, act.code, n);
        memcpy(y + gpu_act_sums(n), act.sum, n / 8);
        memcpy(y + gpu_act_scales(n), act.scale, per * 4);
    }
    free(row), free(act.code), free(act.scale), free(act.sum);
}

/* Scales that are NaN may have other bits. */
static void settle_nan(uint8_t *y, const shape *c, uint32_t y_stride) {
    for (uint32_t r = 0; r < c->n_rows; r++)
        for (uint32_t b = 0; b < c->n / c->scale_block; b++) {
            uint8_t *p = y + (size_t)r * y_stride + gpu_act_scales(c->n) + 4 * b;
            float f;
            memcpy(&f, p, 4);
            f = isnan(f) ? NAN : f;
            memcpy(p, &f, 4);
        }
}

static gpu_addr put_rows(check_rig *r, const float *x, uint32_t n, uint32_t n_rows, uint32_t stride) {
    uint8_t *rows = take((size_t)n_rows * stride);
    for (uint32_t i = 0; i < n_rows; i++) memcpy(rows + (size_t)i * stride, x + (size_t)i * n, n * sizeof *x);
    gpu_addr at = check_put(r, rows, (size_t)n_rows * stride);
    free(rows);
    return at;
}

static void launch(check_rig *r, const char *name, const shape *c, const quantize_args *a) {
    const bool norm = c->op == NORM;
    const uint32_t gx = norm ? 1 : (c->n + QUANTIZE_TILE - 1) / QUANTIZE_TILE;
    check_launch(r, "quantize", name, gx, c->n_rows, 1, QUANTIZE_BLOCK, a, sizeof *a);
}

static void check_shape(check_rig *r, const shape *c) {
    char name[64];
    snprintf(name, sizeof name, "%s", names[c->op]);
    if (!check_wanted(r, name)) return;
    const size_t n = (size_t)c->n * c->n_rows;
    float *x = take(n * 4), *x2 = take(n * 4);
    fill(x, n), fill(x2, n);
    quantize_args a = {.k = c->n, .scale_block = c->scale_block, .group = c->group, .eps = 1e-5f};
    a.a_stride = c->n * 4 + 16 * (draw() % 3);
    a.b_stride = c->n * 4 + 16 * (draw() % 3);
    a.y_stride = gpu_act_bytes(c->n, c->scale_block) + 16 * (draw() % 3);
    const size_t n_y = (size_t)a.y_stride * c->n_rows;
    uint8_t *want = take(n_y), *got = take(n_y);
    memset(want, 0xFF, n_y);
    reference(want, a.y_stride, c, x, x2);
    a.a = put_rows(r, x, c->n, c->n_rows, a.a_stride);
    a.b = c->op == PLAIN || (c->op == NORM && !c->weights) ? 0 : put_rows(r, x2, c->n, c->n_rows, a.b_stride);
    a.y = check_put(r, NULL, n_y);
    launch(r, name, c, &a);
    check_get(r, got, a.y, n_y);
    settle_nan(got, c, a.y_stride), settle_nan(want, c, a.y_stride);
    check_bytes(r, name, got, want, n_y, "q8%s n %u, %u rows, group %u", c->scale_block == 256 ? "k" : "", c->n,
                c->n_rows, c->group);
    check_reset(r);
    free(x), free(x2), free(want), free(got);
}

static void check_op(check_rig *r, op o, uint32_t scale_block) {
    static const uint32_t widths[] = {1, 2, 7, 9, 16, 18, 27, 33, 64, 48};
    const uint32_t n = check_long() ? 40 : 10;
    for (uint32_t i = check_short() ? 3 : 0; i < (check_short() ? 4 : n); i++) {
        shape c = {o, scale_block, widths[i % 10] * (scale_block == 256 ? 256 : i % 3 ? 32 : 288), 1 + i * 3 % 5,
                   0, i % 3 != 0};
        c.group = c.n;
        if (o == NORM && i % 4 == 3 && scale_block == 32) c.group = c.n % 96 ? 32 : 96;
        if (o == NORM && i % 4 == 3 && scale_block == 256) c.group = i % 8 == 3 ? 64 : 128;
        check_shape(r, &c);
    }
}

static void time_op(check_rig *r, op o, uint32_t n, uint32_t n_rows) {
    char name[64];
    snprintf(name, sizeof name, "%s", names[o]);
    if (!check_wanted(r, name)) return;
    quantize_args a = {.k = n, .scale_block = 256, .group = n, .eps = 1e-5f, .a_stride = n * 4, .b_stride = n * 4};
    a.y_stride = gpu_act_bytes(n, 256);
    a.a = check_put(r, NULL, (size_t)n * n_rows * 4);
    a.b = o == PLAIN ? 0 : check_put(r, NULL, (size_t)n * n_rows * 4);
    a.y = check_put(r, NULL, (size_t)a.y_stride * n_rows);
    const bool norm = o == NORM;
    const double ms = check_time(r, "quantize", name, norm ? 1 : (n + QUANTIZE_TILE - 1) / QUANTIZE_TILE, n_rows, 1,
                                 QUANTIZE_BLOCK, &a, sizeof a, 50);
    if (ms > 0) printf("%s %u rows of %u: %.1f us\n", name, n_rows, n, ms * 1e3);
    check_reset(r);
}

int main(int argc, char **argv) {
    check_rig *r = check_open(argc, argv);
    for (int o = 0; o < N_OPS; o++) {
        if (getenv("RF_TIME")) {
            for (uint32_t rows = 1; rows <= 512; rows *= 512)
                time_op(r, (op)o, 4096, rows), time_op(r, (op)o, 14336, rows);
            continue;
        }
        check_op(r, (op)o, 32);
        check_op(r, (op)o, 256);
    }
    return check_close(r);
}
