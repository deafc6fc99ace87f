/* The vector kernels of linear layers against the CPU's reference, bit for bit: every weight type, rows and values that are
 * no round number, one to eight columns, one to four parts, residuals, experts, scales that are not finite, extreme codes. */
#include "linear_data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_COLS = 8 };

/* --- cases ------------------------------------------------------------------------------------------------------------------ */

typedef struct {
    quant_type type;
    uint32_t k, n_rows[LINEAR_PARTS], n_parts, n_cols;
    bool residual;
    spirit s;
} shape;

static const char *file_of(quant_type t) { return quantised(t) ? "linear_vec" : "linear_vec_float"; }
static uint32_t rows_of_block(quant_type t, bool four) {
    return !quantised(t) ? LINEAR_VEC_FLOAT_ROWS : four ? LINEAR_VEC4_ROWS : LINEAR_VEC_ROWS;
}
static uint32_t threads_of(quant_type t, bool four) {
    return four && quantised(t) ? LINEAR_VEC4_THREADS : LINEAR_VEC1_THREADS;
}

static uint32_t blocks_of(const shape *c, uint32_t rows) {
    uint32_t n = 0;
    for (uint32_t p = 0; p < c->n_parts; p++) n += (c->n_rows[p] + rows - 1) / rows;
    return n;
}

static void launch_both(check_rig *r, const shape *c, linear_args *a, const float *want, size_t n_y) {
    for (int four = 0; four < 2; four++) {
        char name[64];
        kernel_name(name, sizeof name, four ? "vec4" : "vec1", c->type);
        if (!check_wanted(r, name)) continue;
        a->y = check_put(r, NULL, n_y * 4);
        check_launch(r, file_of(c->type), name, blocks_of(c, rows_of_block(c->type, four != 0)),
                     four ? (c->n_cols + 3) / 4 : c->n_cols, 1, threads_of(c->type, four != 0), a, sizeof *a);
        float *got = take(n_y * 4);
        check_get(r, got, a->y, n_y * 4);
        check_floats(r, name, got, want, n_y, "k %u, rows %u of %u parts, %u columns, %s%s", c->k, a->n_rows,
                     c->n_parts, c->n_cols, c->residual ? "residual, " : "", spirit_name(c->s));
        free(got);
    }
}

static void check_shape(check_rig *r, const shape *c) {
    uint64_t state = 11;
    gpu_weight_planes w;
    if (!gpu_weight_shape(&w, c->type, c->k)) abort();
    input in = make_input(c->type, c->n_cols, c->k, c->s);
    uint32_t width = 3; /* of a row of y: parts with gaps between them */
    for (uint32_t p = 0; p < c->n_parts; p++) width += c->n_rows[p] + p;
    const size_t n_y = (size_t)c->n_cols * width;
    float *want = nan_floats(n_y), *res = take(n_y * 4);
    for (size_t i = 0; i < n_y; i++) res[i] = check_normal(&state);
    linear_args a = {
        .k = c->k, .n_cols = c->n_cols, .n_parts = c->n_parts, .x_stride = in.stride, .y_stride = width * 4};
    uint32_t column = 1;
    for (uint32_t p = 0; p < c->n_parts; p++) {
        gpu_weight *part = &a.part[p];
        uint8_t *rows = make_rows(&w, c->n_rows[p], c->s);
        put_planes(r, &w, rows, c->n_rows[p], part->plane);
        memcpy(part->stride, w.stride, sizeof part->stride);
        part->n_rows = c->n_rows[p];
        part->y_column = column;
        reference(want + column, width, &w, rows, c->n_rows[p], &in, 0, 0, c->n_cols);
        a.n_rows += c->n_rows[p];
        column += c->n_rows[p] + p;
        free(rows);
    }
    for (size_t i = 0; c->residual && i < n_y; i++) want[i] = want[i] + res[i];
    a.x = check_put(r, in.rows, (size_t)in.n * in.stride);
    a.residual = c->residual ? check_put(r, res, n_y * 4) : 0;
    a.residual_stride = width * 4;
    launch_both(r, c, &a, want, n_y);
    check_reset(r);
    free_input(&in);
    free(want), free(res);
}

/* n_tok rows that each choose n_used of n_expert. */
static void check_expert(check_rig *r, quant_type t, uint32_t k, uint32_t n_rows, uint32_t n_tok, bool per_slot) {
    enum { EXPERTS = 5, USED = 3 };
    char name[64];
    kernel_name(name, sizeof name, "vec1_expert", t);
    if (!check_wanted(r, name)) return;
    gpu_weight_planes w;
    if (!gpu_weight_shape(&w, t, k)) abort();
    const uint32_t width = USED * n_rows + 2;
    input in = make_input(t, n_tok, per_slot ? k * USED : k, EVERYDAY);
    uint8_t *rows = make_rows(&w, (size_t)EXPERTS * n_rows, EVERYDAY);
    struct {
        int32_t expert;
        float weight;
    } route[MOST_COLS][USED + 1] = {0};
    float *want = nan_floats((size_t)n_tok * width), *got = take((size_t)n_tok * width * 4);
    for (uint32_t i = 0; i < n_tok; i++)
        for (uint32_t u = 0; u < USED; u++) {
            route[i][u].expert = (int32_t)((i + 2 * u + draw() % 2) % EXPERTS);
            reference(want + (size_t)i * width + (size_t)u * n_rows, width, &w,
                      rows + (size_t)route[i][u].expert * n_rows * w.row_bytes, n_rows, &in, per_slot ? u * k : 0, i,
                      1);
        }
    linear_expert_args a = {.k = k, .n_tok = n_tok, .n_used = USED, .n_expert = EXPERTS, .per_slot = per_slot};
    put_planes(r, &w, rows, (size_t)EXPERTS * n_rows, a.w.plane);
    for (int p = 0; p < LINEAR_PLANES; p++) a.expert_stride[p] = (uint64_t)n_rows * w.stride[p];
    memcpy(a.w.stride, w.stride, sizeof a.w.stride);
    a.w.n_rows = n_rows;
    a.x = check_put(r, in.rows, (size_t)in.n * in.stride);
    a.x_stride = in.stride;
    a.route = check_put(r, route, sizeof route);
    a.route_stride = sizeof route[0];
    a.y = check_put(r, NULL, (size_t)n_tok * width * 4);
    a.y_stride = width * 4;
    check_launch(r, file_of(t), name, (n_rows + rows_of_block(t, false) - 1) / rows_of_block(t, false), n_tok * USED, 1,
                 threads_of(t, false), &a, sizeof a);
    check_get(r, got, a.y, (size_t)n_tok * width * 4);
    check_floats(r, name, got, want, (size_t)n_tok * width, "k %u, rows %u, %u tokens%s", k, n_rows, n_tok,
                 per_slot ? ", an input a slot" : "");
    check_reset(r);
    free_input(&in);
    free(rows), free(want), free(got);
}

/* A gate and its up with what comes behind, n outputs; twice, for the counts. */
static void check_gated(check_rig *r, quant_type t, uint32_t k, uint32_t n, bool gelu, spirit s) {
    char name[64];
    kernel_name(name, sizeof name, "vec1_gated", t);
    if (!check_wanted(r, name)) return;
    gpu_weight_planes w;
    cpu_ops ops;
    cpu_ops_ref(&ops);
    if (!gpu_weight_shape(&w, t, k)) abort();
    input in = make_input(t, 1, k, s);
    const uint32_t up_first = draw() % 2, n_units = (n + LINEAR_GATED_UNIT - 1) / LINEAR_GATED_UNIT;
    linear_gated_args a = {.n = n, .scale_block = in.act.scale_block, .gelu = gelu};
    float *y = take((size_t)n * 2 * 4), *z = take((size_t)n * 4);
    for (uint32_t p = 0; p < 2; p++) {
        gpu_weight *part = &a.lin.part[p];
        uint8_t *rows = make_rows(&w, n, s);
        put_planes(r, &w, rows, n, part->plane);
        memcpy(part->stride, w.stride, sizeof part->stride);
        part->n_rows = n;
        part->y_column = p * n;
        reference(y + p * n, n, &w, rows, n, &in, 0, 0, 1);
        free(rows);
    }
    a.gate = up_first ? n : 0;
    a.up = n - a.gate;
    (gelu ? ops.geglu : ops.swiglu)(z, y + a.gate, y + a.up, n);
    const uint32_t n_out = gpu_act_bytes(n, a.scale_block);
    uint8_t *want = take(n_out), *got = take(n_out);
    quantised_row(want, z, n, a.scale_block);
    one_nan(want, n, a.scale_block);
    uint32_t *zeros = take(n_units * 4), *count = take(n_units * 4);
    a.lin.x = check_put(r, in.rows, in.stride);
    a.lin.x_stride = in.stride;
    a.lin.y = check_put(r, NULL, (size_t)n * 2 * 4);
    a.lin.k = k, a.lin.n_cols = 1, a.lin.n_parts = 2, a.lin.n_rows = 2 * n, a.lin.y_stride = n * 8;
    a.come = check_put(r, zeros, n_units * 4);
    for (int twice = 0; twice < 2; twice++) {
        a.out = check_put(r, NULL, n_out);
        check_launch(r, "linear_vec_one", name, n / LINEAR_VEC_ROWS * 2, 1, 1, LINEAR_VEC1_THREADS, &a, sizeof a);
        check_get(r, got, a.out, n_out);
        one_nan(got, n, a.scale_block);
        check_bytes(r, name, got, want, n_out, "k %u, %u outputs, %s", k, n, spirit_name(s));
        check_get(r, count, a.come, n_units * 4);
        check_bytes(r, name, count, zeros, n_units * 4, "k %u, %u outputs: the counts", k, n);
    }
    check_reset(r);
    free_input(&in);
    free(y), free(z), free(want), free(got), free(zeros), free(count);
}

/* Parts of several K types over one column. */
static void check_mixed(check_rig *r, uint32_t k, const quant_type t[LINEAR_PARTS], uint32_t n_parts, bool residual) {
    static const char name[] = "linear_vec1_mixed_k";
    if (!check_wanted(r, name)) return;
    uint64_t state = 5;
    input in = make_input(QUANT_Q4_K, 1, k, EVERYDAY);
    linear_args a = {.k = k, .n_cols = 1, .n_parts = n_parts, .x_stride = in.stride};
    uint32_t n[LINEAR_PARTS], width = 0, column = 0;
    for (uint32_t p = 0; p < n_parts; p++) width += n[p] = 1 + draw() % 20;
    float *want = nan_floats(width), *got = take(width * 4), *res = take(width * 4);
    for (uint32_t i = 0; i < width; i++) res[i] = check_normal(&state);
    for (uint32_t p = 0; p < n_parts; column += n[p++]) {
        gpu_weight_planes w;
        if (!gpu_weight_shape(&w, t[p], k)) abort();
        uint8_t *rows = make_rows(&w, n[p], EVERYDAY);
        put_planes(r, &w, rows, n[p], a.part[p].plane);
        memcpy(a.part[p].stride, w.stride, sizeof w.stride);
        a.part[p].n_rows = n[p];
        a.part[p].y_column = column;
        a.types |= (uint32_t)t[p] << 8 * p;
        reference(want + column, width, &w, rows, n[p], &in, 0, 0, 1);
        free(rows);
    }
    for (uint32_t i = 0; residual && i < width; i++) want[i] = want[i] + res[i];
    a.n_rows = width;
    a.x = check_put(r, in.rows, in.stride);
    a.y = check_put(r, NULL, width * 4);
    a.residual = residual ? check_put(r, res, width * 4) : 0;
    uint32_t blocks = 0;
    for (uint32_t p = 0; p < n_parts; p++) blocks += (n[p] + LINEAR_VEC_ROWS - 1) / LINEAR_VEC_ROWS;
    check_launch(r, "linear_vec_one", name, blocks, 1, 1, LINEAR_VEC1_THREADS, &a, sizeof a);
    check_get(r, got, a.y, width * 4);
    check_floats(r, name, got, want, width, "k %u, %u parts", k, n_parts);
    check_reset(r);
    free_input(&in);
    free(want), free(got), free(res);
}

static void check_mixed_all(check_rig *r) {
    static const quant_type types[] = {QUANT_Q4_K, QUANT_Q6_K, QUANT_Q2_K, QUANT_Q3_K, QUANT_Q5_K};
    for (uint32_t i = 0; i < (check_short() ? 1 : check_long() ? 30 : 6); i++) {
        quant_type t[LINEAR_PARTS];
        for (uint32_t p = 0; p < LINEAR_PARTS; p++) t[p] = types[(i + p * (1 + i % 3)) % 5];
        check_mixed(r, 256 * (1 + i * 7 % 20), t, check_short() ? 2 : 2 + i % 3, i % 2);
    }
}

static uint32_t some_k(quant_type t, uint32_t i) {
    static const uint32_t blocks[] = {1, 5, 18, 128, 129, 160, 270, 448};       /* of 32 */
    static const uint32_t super[] = {1, 2, 5, 16, 17, 19, 33, 56};              /* of 256 */
    static const uint32_t values[] = {1, 40, 256, 576, 2048, 4099, 8192, 6000}; /* floats */
    const uint32_t n = quant_lookup((uint32_t)t)->block_elems;
    return n == 1 ? values[i % 8] : n * (n == 32 ? blocks : super)[i % 8];
}

/* Both forms on three columns of two parts, and the experts' form. */
static void check_little(check_rig *r, quant_type t) {
    const uint32_t i = quantised(t) && quant_lookup((uint32_t)t)->block_elems == 32 ? 1 : 0;
    const shape c = {t, some_k(t, i + 1), {3, 2}, 2, 3, true, NOT_FINITE};
    check_shape(r, &c);
    check_expert(r, t, some_k(t, i), 3, 1, true);
    if (quantised(t)) check_gated(r, t, some_k(t, i), quant_lookup((uint32_t)t)->block_elems, false, EVERYDAY);
}

static void check_type(check_rig *r, quant_type t) {
    if (check_short()) {
        check_little(r, t);
        return;
    }
    const uint32_t n = check_long() ? 48 : 8;
    for (uint32_t i = 0; i < n; i++) {
        shape c = {
            .type = t, .k = some_k(t, i), .n_parts = 1 + i % LINEAR_PARTS, .n_cols = 1 + (i * 5 + i / 8) % MOST_COLS};
        c.residual = i % 2 != 0;
        c.s = i % 8 == 2 ? EXTREME : i % 8 == 4 ? NOT_FINITE : EVERYDAY;
        for (uint32_t p = 0; p < c.n_parts; p++) c.n_rows[p] = 1 + (draw() % (check_long() ? 40 : 18));
        check_shape(r, &c);
    }
    for (uint32_t i = 0; i < (check_long() ? 8 : 2); i++)
        check_expert(r, t, some_k(t, i + 1), 1 + draw() % 20, 1 + i % 3, i % 2 != 0);
    const uint32_t unit = quant_lookup((uint32_t)t)->block_elems;
    for (uint32_t i = 0; quantised(t) && i < (check_long() ? 12 : 3); i++)
        check_gated(r, t, some_k(t, i), unit * (unit == 32 ? 1 + i * 9 % 20 : 1 + i % 3), i % 2,
                    i % 3 ? EVERYDAY : NOT_FINITE);
}

/* --- how fast: a model's matrices, weights far beyond the caches ------------------------------------------------------------ */

static void time_one(check_rig *r, quant_type t, uint32_t k, uint32_t n_rows, uint32_t n_cols) {
    gpu_weight_planes w;
    char name[64];
    kernel_name(name, sizeof name, n_cols > 1 ? "vec4" : "vec1", t);
    if (!check_wanted(r, name) || !gpu_weight_shape(&w, t, k)) return;
    double bytes = 0;
    linear_args a = {.k = k, .n_cols = n_cols, .n_parts = 1, .y_stride = n_rows * 4, .n_rows = n_rows};
    for (int p = 0; p < LINEAR_PLANES; p++) {
        bytes += (double)w.stride[p] * n_rows;
        a.part[0].stride[p] = w.stride[p];
        a.part[0].plane[p] = w.stride[p] ? check_put(r, NULL, (size_t)w.stride[p] * n_rows) : 0;
    }
    a.part[0].n_rows = n_rows;
    a.x_stride = quantised(t) ? gpu_act_bytes(k, 32) : k * 4;
    a.x = check_put(r, NULL, (size_t)a.x_stride * n_cols);
    a.y = check_put(r, NULL, (size_t)n_rows * n_cols * 4);
    const uint32_t rows = rows_of_block(t, n_cols > 1), blocks = (n_rows + rows - 1) / rows;
    const double ms =
        check_time(r, file_of(t), name, blocks, (n_cols + 3) / 4, 1, threads_of(t, n_cols > 1), &a, sizeof a, 50);
    if (ms > 0)
        printf("%s %u x %u, %u columns: %.1f us, %.0f GB/s\n", name, n_rows, k, n_cols, ms * 1e3, bytes / ms * 1e-6);
    check_reset(r);
}

static void time_all(check_rig *r) {
    static const uint32_t sizes[][2] = {{4096, 4096}, {4096, 14336}, {14336, 4096}, {4096, 28672}, {4096, 128256}};
    for (int t = 0; t < N_LINEAR_TYPES; t++)
        for (int i = 0; i < 5; i++)
            for (uint32_t cols = 1; cols <= 4; cols += 3) time_one(r, linear_types[t], sizes[i][0], sizes[i][1], cols);
}

int main(int argc, char **argv) {
    check_rig *r = check_open(argc, argv);
    if (getenv("RF_TIME"))
        time_all(r);
    else
        for (int t = 0; t < N_LINEAR_TYPES; t++) check_type(r, linear_types[t]);
    if (!getenv("RF_TIME")) check_mixed_all(r);
    return check_close(r);
}
