/* The matrix kernels of linear layers against the CPU's reference, bit for bit: every weight type, rows, columns and values
 * that are no round number, one to four parts, residuals, experts, scales that are not finite, extreme codes. */
#include "linear_data.h"

#include "backend/gpu/kernels/args_linear_mat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *name;
    uint32_t rows, cols, threads;
} form;

static const form forms[] = {{"mat", LINEAR_MAT_ROWS, LINEAR_MAT_COLS, LINEAR_MAT_THREADS},
                             {"mat_few", LINEAR_MAT_FEW_ROWS, LINEAR_MAT_FEW_COLS, LINEAR_MAT_FEW_THREADS}};
static const form float_form = {"mat", LINEAR_MAT_FLOAT_ROWS, LINEAR_MAT_FLOAT_COLS, LINEAR_MAT_FLOAT_THREADS};

static uint32_t forms_of(quant_type t) { return quantised(t) ? 2 : 1; }
static const form *form_of(quant_type t, uint32_t i) { return quantised(t) ? &forms[i] : &float_form; }

static const char *file_of(quant_type t) {
    if (!quantised(t)) return "linear_mat_float";
    return quant_lookup((uint32_t)t)->block_elems == 256 ? "linear_mat_k" : "linear_mat";
}

typedef struct {
    quant_type type;
    uint32_t k, n_rows[LINEAR_PARTS], n_parts, n_cols;
    bool residual;
    spirit s;
} shape;

static void launch_forms(check_rig *r, const shape *c, linear_mat_args *a, const float *want, size_t n_y) {
    for (uint32_t i = 0; i < forms_of(c->type); i++) {
        const form *f = form_of(c->type, i);
        char name[64];
        kernel_name(name, sizeof name, f->name, c->type);
        if (!check_wanted(r, name)) continue;
        uint32_t tiles = 0;
        for (uint32_t p = 0; p < c->n_parts; p++) tiles += (c->n_rows[p] + f->rows - 1) / f->rows;
        a->lin.y = check_put(r, NULL, n_y * 4);
        check_launch(r, file_of(c->type), name, (c->n_cols + f->cols - 1) / f->cols, tiles, 1, f->threads, a,
                     sizeof *a);
        float *got = take(n_y * 4);
        check_get(r, got, a->lin.y, n_y * 4);
        check_floats(r, name, got, want, n_y, "k %u, rows %u of %u parts, %u columns, %s%s", c->k, a->lin.n_rows,
                     c->n_parts, c->n_cols, c->residual ? "residual, " : "", spirit_name(c->s));
        free(got);
    }
}

/* Weights of each part, on the device and in `want`, parts with gaps between them in a row of y. */
static void make_parts(check_rig *r, const shape *c, const input *in, linear_args *a, float *want, uint32_t width) {
    gpu_weight_planes w;
    if (!gpu_weight_shape(&w, c->type, c->k)) abort();
    uint32_t column = 1;
    for (uint32_t p = 0; p < c->n_parts; p++) {
        gpu_weight *part = &a->part[p];
        uint8_t *rows = make_rows(&w, c->n_rows[p], c->s);
        put_planes(r, &w, rows, c->n_rows[p], part->plane);
        memcpy(part->stride, w.stride, sizeof part->stride);
        part->n_rows = c->n_rows[p];
        part->y_column = column;
        reference(want + column, width, &w, rows, c->n_rows[p], in, 0, 0, c->n_cols);
        a->n_rows += c->n_rows[p];
        column += c->n_rows[p] + p;
        free(rows);
    }
}

static void check_shape(check_rig *r, const shape *c) {
    input in = make_input(c->type, c->n_cols, c->k, c->s);
    uint32_t width = 3;
    for (uint32_t p = 0; p < c->n_parts; p++) width += c->n_rows[p] + p;
    const size_t n_y = (size_t)c->n_cols * width;
    float *want = nan_floats(n_y), *res = take(n_y * 4);
    for (size_t i = 0; i < n_y; i++) res[i] = (float)(int32_t)draw() * 1e-9f;
    linear_mat_args a = {0};
    linear_args *l = &a.lin;
    l->k = c->k, l->n_cols = c->n_cols, l->n_parts = c->n_parts;
    l->x_stride = in.stride, l->y_stride = l->residual_stride = width * 4;
    make_parts(r, c, &in, l, want, width);
    for (size_t i = 0; c->residual && i < n_y; i++) want[i] = want[i] + res[i];
    l->x = check_put(r, in.rows, (size_t)in.n * in.stride);
    l->residual = c->residual ? check_put(r, res, n_y * 4) : 0;
    launch_forms(r, c, &a, want, n_y);
    check_reset(r);
    free_input(&in);
    free(want), free(res);
}

/* --- experts ---------------------------------------------------------------------------------------------------------------- */

typedef struct {
    uint32_t n_expert, n_used, n_tok, k, n_rows;
    bool per_slot;
} moe;

/* Picks sorted by expert; pick[i] belongs to of[i]. Every third expert is chosen by nobody. */
static void make_picks(const moe *m, uint32_t *first, uint32_t *pick, uint32_t *of) {
    const uint32_t n = m->n_tok * m->n_used;
    uint32_t *choice = take(n * sizeof *choice), at = 0;
    for (uint32_t i = 0; i < n; i++) {
        choice[i] = draw() % m->n_expert;
        if (choice[i] % 3 == 2) choice[i]--;
    }
    for (uint32_t e = 0; e < m->n_expert; e++) {
        first[e] = at;
        for (uint32_t i = 0; i < n; i++)
            if (choice[i] == e) of[at] = e, pick[at++] = i;
    }
    first[m->n_expert] = at;
    free(choice);
}

static void launch_experts(check_rig *r, quant_type t, const moe *m, linear_mat_args *a, const float *want,
                           size_t n_y) {
    for (uint32_t i = 0; i < forms_of(t); i++) {
        const form *f = form_of(t, i);
        char name[64];
        kernel_name(name, sizeof name, f->name, t);
        if (!check_wanted(r, name)) continue;
        a->lin.y = check_put(r, NULL, n_y * 4);
        check_launch(r, file_of(t), name, linear_mat_expert_tiles(m->n_tok * m->n_used, m->n_expert, f->cols),
                     (m->n_rows + f->rows - 1) / f->rows, 1, f->threads, a, sizeof *a);
        float *got = take(n_y * 4);
        check_get(r, got, a->lin.y, n_y * 4);
        check_floats(r, name, got, want, n_y, "k %u, rows %u, %u of %u experts, %u tokens%s", m->k, m->n_rows,
                     m->n_used, m->n_expert, m->n_tok, m->per_slot ? ", an input a slot" : "");
        free(got);
    }
}

static void check_experts(check_rig *r, quant_type t, const moe *m) {
    gpu_weight_planes w;
    if (!gpu_weight_shape(&w, t, m->k)) abort();
    const uint32_t n = m->n_tok * m->n_used, width = m->n_used * m->n_rows + 2;
    const size_t n_y = (size_t)m->n_tok * width;
    input in = make_input(t, m->n_tok, m->per_slot ? m->k * m->n_used : m->k, EVERYDAY);
    uint8_t *rows = make_rows(&w, (size_t)m->n_expert * m->n_rows, EVERYDAY);
    uint32_t *first = take((m->n_expert + 1) * 4), *pick = take(n * 4), *of = take(n * 4);
    float *want = nan_floats(n_y);
    make_picks(m, first, pick, of);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t tok = pick[i] / m->n_used, slot = pick[i] % m->n_used;
        reference(want + (size_t)tok * width + (size_t)slot * m->n_rows, width, &w,
                  rows + (size_t)of[i] * m->n_rows * w.row_bytes, m->n_rows, &in, m->per_slot ? slot * m->k : 0, tok,
                  1);
    }
    linear_mat_args a = {.n_expert = m->n_expert, .n_used = m->n_used, .per_slot = m->per_slot};
    put_planes(r, &w, rows, (size_t)m->n_expert * m->n_rows, a.lin.part[0].plane);
    memcpy(a.lin.part[0].stride, w.stride, sizeof w.stride);
    a.lin.part[0].n_rows = a.lin.n_rows = m->n_rows;
    a.lin.n_parts = 1;
    a.lin.k = m->k, a.lin.x_stride = in.stride, a.lin.y_stride = width * 4;
    a.lin.x = check_put(r, in.rows, (size_t)in.n * in.stride);
    a.pick = check_put(r, pick, n * 4);
    a.first = check_put(r, first, (m->n_expert + 1) * 4);
    launch_experts(r, t, m, &a, want, n_y);
    check_reset(r);
    free_input(&in);
    free(rows), free(want), free(first), free(pick), free(of);
}

/* --- which ------------------------------------------------------------------------------------------------------------------ */

static uint32_t some_k(quant_type t, uint32_t i) {
    static const uint32_t blocks[] = {5, 1, 18, 40, 3, 66, 131, 128}; /* of 32 */
    static const uint32_t super[] = {2, 1, 3, 5, 4, 7, 16, 9};        /* of 256 */
    static const uint32_t values[] = {40, 1, 256, 578, 67, 1024, 2050, 4099};
    const uint32_t n = quant_lookup((uint32_t)t)->block_elems;
    return n == 1 ? values[i % 8] : n * (n == 32 ? blocks : super)[i % 8];
}

/* One odd tile of two parts, and experts of which some have no token. */
static void check_little(check_rig *r, quant_type t) {
    const shape c = {t, some_k(t, 0), {9, 2}, 2, 17, true, NOT_FINITE};
    const moe m = {.n_expert = 3, .n_used = 2, .n_tok = 3, .k = some_k(t, 1), .n_rows = 5, .per_slot = true};
    check_shape(r, &c);
    check_experts(r, t, &m);
}

static void check_type(check_rig *r, quant_type t) {
    if (check_short()) {
        check_little(r, t);
        return;
    }
    const uint32_t n = check_long() ? 40 : 4;
    for (uint32_t i = 0; i < n; i++) {
        shape c = {.type = t, .k = some_k(t, i), .n_parts = 1 + i % 3, .n_cols = 1 + draw() % (i % 4 == 1 ? 130 : 40)};
        c.residual = i % 2 != 0;
        c.s = i % 4 == 2 ? EXTREME : i % 8 == 3 ? NOT_FINITE : EVERYDAY;
        for (uint32_t p = 0; p < c.n_parts; p++) c.n_rows[p] = 1 + draw() % (check_long() ? 200 : i % 2 ? 20 : 140);
        check_shape(r, &c);
    }
    for (uint32_t i = 0; i < (check_long() ? 8 : 2); i++) {
        const moe m = {.n_expert = 1 + draw() % 9,
                       .n_used = 1 + i % 3,
                       .n_tok = 1 + draw() % 60,
                       .k = some_k(t, i),
                       .n_rows = 1 + draw() % 80,
                       .per_slot = i % 2 != 0};
        check_experts(r, t, &m);
    }
}

/* --- how fast: a model's matrices -------------------------------------------------------------------------------------------- */

static void time_one(check_rig *r, quant_type t, uint32_t k, uint32_t n_rows, uint32_t n_cols, const form *f) {
    gpu_weight_planes w;
    char name[64];
    kernel_name(name, sizeof name, f->name, t);
    if (!check_wanted(r, name) || !gpu_weight_shape(&w, t, k)) return;
    double bytes = 0;
    linear_mat_args a = {0};
    linear_args *l = &a.lin;
    l->k = k, l->n_cols = n_cols, l->n_parts = 1, l->y_stride = n_rows * 4, l->n_rows = n_rows;
    for (int p = 0; p < LINEAR_PLANES; p++) {
        bytes += (double)w.stride[p] * n_rows;
        l->part[0].stride[p] = w.stride[p];
        l->part[0].plane[p] = w.stride[p] ? check_put(r, NULL, (size_t)w.stride[p] * n_rows) : 0;
    }
    l->part[0].n_rows = n_rows;
    l->x_stride = quantised(t) ? gpu_act_bytes(k, 32) : k * 4;
    l->x = check_put(r, NULL, (size_t)l->x_stride * n_cols);
    l->y = check_put(r, NULL, (size_t)n_rows * n_cols * 4);
    const double ms = check_time(r, file_of(t), name, (n_cols + f->cols - 1) / f->cols,
                                 (n_rows + f->rows - 1) / f->rows, 1, f->threads, &a, sizeof a, 20);
    if (ms > 0)
        printf("%s %u x %u, %u columns: %.1f us, %.1f TOPS, %.0f GB/s\n", name, n_rows, k, n_cols, ms * 1e3,
               2e-9 * k * n_rows * n_cols / ms, bytes / ms * 1e-6);
    check_reset(r);
}

static void time_all(check_rig *r) {
    static const uint32_t sizes[][2] = {{4096, 4096}, {4096, 28672}, {14336, 4096}};
    static const uint32_t cols[] = {16, 64, 512, 2048};
    for (int t = 0; t < N_LINEAR_TYPES; t++)
        for (int i = 0; i < 3; i++)
            for (int c = 0; c < 4; c++)
                for (uint32_t f = 0; f < forms_of(linear_types[t]); f++)
                    if (f == 0 || cols[c] <= 64)
                        time_one(r, linear_types[t], sizes[i][0], sizes[i][1], cols[c], form_of(linear_types[t], f));
}

int main(int argc, char **argv) {
    check_rig *r = check_open(argc, argv);
    if (getenv("RF_TIME"))
        time_all(r);
    else
        for (int t = 0; t < N_LINEAR_TYPES; t++) check_type(r, linear_types[t]);
    return check_close(r);
}
