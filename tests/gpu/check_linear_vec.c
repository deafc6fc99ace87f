/* The vector kernels of linear layers against the CPU's reference, bit for bit: every weight type, rows and values that are
 * no round number, one to eight columns, one to four parts, residuals, experts, scales that are not finite, extreme codes. */
#include "gpu_check.h"

#include "backend/cpu/codes.h"
#include "backend/cpu/cpu_ops.h"
#include "backend/cpu/ref.h"
#include "backend/gpu/weights.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const quant_type types[] = {QUANT_Q4_0, QUANT_Q4_1, QUANT_Q5_0, QUANT_Q5_1, QUANT_Q8_0, QUANT_Q2_K, QUANT_Q3_K,
                                   QUANT_Q4_K, QUANT_Q5_K, QUANT_Q6_K, QUANT_F32,  QUANT_F16,  QUANT_BF16};
enum { N_TYPES = sizeof types / sizeof *types, MOST_COLS = 8 };

typedef enum { EVERYDAY, EXTREME, NOT_FINITE } spirit;

static uint64_t seed = 7;
static uint32_t draw(void) { return (uint32_t)(check_random(&seed) >> 32); }

static void *take(size_t n) {
    void *p = calloc(1, n ? n : 1);
    if (!p) abort();
    return p;
}

static bool quantised(quant_type t) { return code_form_of(t) != NULL; }

/* --- weights: random bytes with everyday scales --------------------------------------------------------------------------- */

static uint16_t half_of(spirit s) {
    const uint32_t r = draw();
    if (s == NOT_FINITE && r % 8 == 0) return (uint16_t)(r & 0x8000) | (r & 0x10000 ? 0x7C00 : 0x7E00);
    if (r % 16 == 0) return (uint16_t)(r >> 8 & 0x83FF); /* denormal or zero */
    return (uint16_t)((r & 0x83FF) | (uint32_t)(4 + (r >> 16) % 12) << 10);
}

static void set_scales(uint8_t *block, quant_type t, spirit s) {
    static const uint8_t at[QUANT_COUNT][2] = {
        [QUANT_Q4_1] = {0, 2}, [QUANT_Q5_1] = {0, 2}, [QUANT_Q2_K] = {80, 82},   [QUANT_Q3_K] = {108, 108},
        [QUANT_Q4_K] = {0, 2}, [QUANT_Q5_K] = {0, 2}, [QUANT_Q6_K] = {208, 208},
    };
    for (int i = 0; i < 2; i++) {
        const uint16_t h = half_of(s);
        memcpy(block + at[t][i], &h, 2);
    }
}

static void float_block(uint8_t *to, quant_type t, spirit s) {
    float f = s == EXTREME ? (draw() % 2 ? 1e4f : -1e-7f) : check_normal(&seed);
    if (s == NOT_FINITE && draw() % 100 == 0) f = draw() % 2 ? INFINITY : NAN;
    const uint16_t h = t == QUANT_F16 ? f32_to_f16(f) : 0;
    if (t == QUANT_F32) memcpy(to, &f, 4);
    if (t == QUANT_F16) memcpy(to, &h, 2);
    if (t == QUANT_BF16) memcpy(to, (const uint8_t *)&f + 2, 2);
}

/* n_rows rows as filed. */
static uint8_t *make_rows(const gpu_weight_planes *w, size_t n_rows, spirit s) {
    const quant_info *q = quant_lookup((uint32_t)w->type);
    uint8_t *rows = take(n_rows * w->row_bytes);
    for (size_t i = 0; i < n_rows * w->row_bytes; i += q->block_bytes) {
        if (!quantised(w->type)) {
            float_block(rows + i, w->type, s);
            continue;
        }
        for (size_t b = 0; b < q->block_bytes; b++)
            rows[i + b] = s == EXTREME ? (draw() % 2 ? 0xFF : 0x80) : (uint8_t)draw();
        set_scales(rows + i, w->type, s);
    }
    return rows;
}

/* The planes on the device; place[p] from its first row on. */
static void put_planes(check_rig *r, const gpu_weight_planes *w, const uint8_t *rows, size_t n_rows,
                       gpu_addr place[LINEAR_PLANES]) {
    uint8_t *plane[LINEAR_PLANES];
    for (int p = 0; p < LINEAR_PLANES; p++) plane[p] = take(n_rows * w->stride[p]);
    gpu_weight_pack_rows(w, plane, rows, n_rows);
    for (int p = 0; p < LINEAR_PLANES; p++) {
        place[p] = w->stride[p] ? check_put(r, plane[p], n_rows * w->stride[p]) : 0;
        free(plane[p]);
    }
}

/* --- activations: n rows of k values, as the CPU has them and as the device ------------------------------------------------ */

typedef struct {
    uint32_t n, k, stride; /* stride: bytes of a row on the device */
    cpu_act act;           /* quantised */
    float *x;              /* else, [n][k] */
    uint8_t *rows;         /* [n][stride] */
} input;

static int8_t code_of(spirit s) {
    if (s == EXTREME) return draw() % 2 ? 127 : -127;
    return (int8_t)((int)(draw() % 255) - 127);
}

static float scale_of(spirit s) {
    const uint32_t r = draw();
    if (s == NOT_FINITE && r % 4 == 0) return NAN;
    return r % 32 ? (float)(r % 100000) * 1e-6f : 0.0f;
}

static void fill_block(input *in, uint32_t row, uint32_t block, spirit s) {
    const size_t at = (size_t)block * in->n + row;
    int8_t *to = (int8_t *)in->rows + (size_t)row * in->stride;
    for (uint32_t i = 0; i < 32; i++) {
        const int8_t c = code_of(s);
        in->act.code[at * 32 + i] = c;
        in->act.sum[at * 2 + i / 16] = (int16_t)(in->act.sum[at * 2 + i / 16] + c);
        to[block * 32 + i] = c;
    }
    memcpy(to + gpu_act_sums(in->k) + block * 4, &in->act.sum[at * 2], 4);
    const uint32_t per = in->act.scale_block / 32;
    if (block % per) return;
    const float f = scale_of(s);
    in->act.scale[(size_t)(block / per) * in->n + row] = f;
    memcpy(to + gpu_act_scales(in->k) + block / per * 4, &f, 4);
}

static input make_input(quant_type t, uint32_t n, uint32_t k, spirit s) {
    input in = {.n = n, .k = k};
    if (!quantised(t)) {
        in.stride = k * 4 + 16 * (draw() % 3); /* the device's rows begin at multiples of 16 */
        in.stride = (in.stride + 15) & ~15u;
        in.x = take((size_t)n * k * 4);
        in.rows = take((size_t)n * in.stride);
        for (size_t i = 0; i < (size_t)n * k; i++) in.x[i] = check_normal(&seed);
        if (s == NOT_FINITE) in.x[draw() % ((size_t)n * k)] = INFINITY;
        for (uint32_t i = 0; i < n; i++) memcpy(in.rows + (size_t)i * in.stride, in.x + (size_t)i * k, (size_t)k * 4);
        return in;
    }
    in.act.n_tok = n;
    in.act.scale_block = code_block_elems(code_form_of(t));
    in.stride = gpu_act_bytes(k, in.act.scale_block) + 16 * (draw() % 3);
    in.rows = take((size_t)n * in.stride);
    in.act.code = take((size_t)n * k);
    in.act.sum = take((size_t)n * k / 16 * 2);
    in.act.scale = take((size_t)n * k / 32 * 4);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t b = 0; b < k / 32; b++) fill_block(&in, i, b, s);
    return in;
}

static void free_input(input *in) {
    free(in->act.code), free(in->act.sum), free(in->act.scale);
    free(in->x), free(in->rows);
}

/* --- the reference ---------------------------------------------------------------------------------------------------------- */

/* y[c * y_stride + r] for columns [col0, col0 + n_col) of the first `k` values from `first` on. */
static void reference(float *y, size_t y_stride, const gpu_weight_planes *w, const uint8_t *rows, uint32_t n_rows,
                      const input *in, uint32_t first, uint32_t col0, uint32_t n_col) {
    if (!quantised(w->type)) {
        linear_float_ref(y, y_stride, rows, w->type, w->row_bytes, n_rows, in->x + (size_t)col0 * in->k + first, in->k,
                         n_col, w->k);
        return;
    }
    cpu_act act = in->act;
    act.code += (size_t)first * in->n;
    act.sum += (size_t)first / 16 * in->n;
    act.scale += (size_t)first / act.scale_block * in->n;
    for (uint32_t r = 0; r < n_rows; r += PANEL_ROWS) {
        float acc[MOST_COLS * PANEL_ROWS];
        const uint32_t n = n_rows - r < PANEL_ROWS ? n_rows - r : PANEL_ROWS;
        linear_rows_ref(acc, rows + (size_t)r * w->row_bytes, w->row_bytes, n, w->type, w->k, &act, col0, n_col);
        for (uint32_t c = 0; c < n_col; c++)
            for (uint32_t i = 0; i < n; i++) y[c * y_stride + r + i] = acc[c * PANEL_ROWS + i];
    }
}

/* --- cases ------------------------------------------------------------------------------------------------------------------ */

typedef struct {
    quant_type type;
    uint32_t k, n_rows[LINEAR_PARTS], n_parts, n_cols;
    bool residual;
    spirit s;
} shape;

static void kernel_name(char *to, size_t n, const char *form, quant_type t) {
    snprintf(to, n, "linear_vec%s_%s", form, quant_lookup((uint32_t)t)->name);
    for (; *to; to++) *to = (char)tolower((unsigned char)*to);
}

static const char *file_of(quant_type t) { return quantised(t) ? "linear_vec" : "linear_vec_float"; }
static uint32_t rows_of_block(quant_type t, bool four) {
    return !quantised(t) ? LINEAR_VEC_FLOAT_ROWS : four ? LINEAR_VEC4_ROWS : LINEAR_VEC_ROWS;
}
static uint32_t threads_of(quant_type t, bool four) {
    return four && quantised(t) ? LINEAR_VEC4_THREADS : LINEAR_VEC1_THREADS;
}

/* NaN everywhere, as the device's memory starts. */
static float *nan_floats(size_t n) {
    float *y = take(n * sizeof *y);
    memset(y, 0xFF, n * sizeof *y);
    return y;
}

static uint32_t blocks_of(const shape *c, uint32_t rows) {
    uint32_t n = 0;
    for (uint32_t p = 0; p < c->n_parts; p++) n += (c->n_rows[p] + rows - 1) / rows;
    return n;
}

static void launch_both(check_rig *r, const shape *c, linear_args *a, const float *want, size_t n_y) {
    for (int four = 0; four < 2; four++) {
        char name[64];
        kernel_name(name, sizeof name, four ? "4" : "1", c->type);
        if (!check_wanted(r, name)) continue;
        a->y = check_put(r, NULL, n_y * 4);
        check_launch(r, file_of(c->type), name, blocks_of(c, rows_of_block(c->type, four != 0)),
                     four ? (c->n_cols + 3) / 4 : c->n_cols, 1, threads_of(c->type, four != 0), a, sizeof *a);
        float *got = take(n_y * 4);
        check_get(r, got, a->y, n_y * 4);
        check_floats(r, name, got, want, n_y, "k %u, rows %u of %u parts, %u columns, %s%s", c->k, a->n_rows,
                     c->n_parts, c->n_cols, c->residual ? "residual, " : "",
                     c->s == EVERYDAY  ? "everyday"
                     : c->s == EXTREME ? "extreme"
                                       : "not finite");
        free(got);
    }
}

static void check_shape(check_rig *r, const shape *c) {
    gpu_weight_planes w;
    if (!gpu_weight_shape(&w, c->type, c->k)) abort();
    input in = make_input(c->type, c->n_cols, c->k, c->s);
    uint32_t width = 3; /* of a row of y: parts with gaps between them */
    for (uint32_t p = 0; p < c->n_parts; p++) width += c->n_rows[p] + p;
    const size_t n_y = (size_t)c->n_cols * width;
    float *want = nan_floats(n_y), *res = take(n_y * 4);
    for (size_t i = 0; i < n_y; i++) res[i] = check_normal(&seed);
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
    kernel_name(name, sizeof name, "1_expert", t);
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
}

/* --- how fast: a model's matrices, weights far beyond the caches ------------------------------------------------------------ */

static void time_one(check_rig *r, quant_type t, uint32_t k, uint32_t n_rows, uint32_t n_cols) {
    gpu_weight_planes w;
    char name[64];
    kernel_name(name, sizeof name, n_cols > 1 ? "4" : "1", t);
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
    for (int t = 0; t < N_TYPES; t++)
        for (int i = 0; i < 5; i++)
            for (uint32_t cols = 1; cols <= 4; cols += 3) time_one(r, types[t], sizes[i][0], sizes[i][1], cols);
}

int main(int argc, char **argv) {
    check_rig *r = check_open(argc, argv);
    if (getenv("RF_TIME"))
        time_all(r);
    else
        for (int t = 0; t < N_TYPES; t++) check_type(r, types[t]);
    return check_close(r);
}
