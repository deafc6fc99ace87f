/* Row kernels against the CPU's reference (backend/cpu/ref.c) and, for rows of weights, against quant decode: equal bits on
 * awkward widths, strides with gaps, infinities and NaN, inputs that are views and results that lie over them. */
#include "gpu_check.h"

#include "backend/cpu/cpu_ops.h"
#include "backend/cpu/rope_table.h"
#include "backend/gpu/kernels/args_rows.h"
#include "backend/gpu/weights.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint32_t WIDTHS[] = {1, 15, 16, 17, 33, 128, 1000, 4096, 4097, 9001};
static uint64_t seed = 20251121;
static cpu_ops ref;

/* Rows on the host: n_rows of `stride` floats, of which `width` are the row's. */
typedef struct {
    float *v;
    uint32_t n_rows, width, stride;
} matrix;

static size_t n_bytes(const matrix *m) { return (size_t)m->n_rows * m->stride * sizeof(float); }
static float *row(const matrix *m, uint32_t r) { return m->v + (size_t)r * m->stride; }

static matrix make(uint32_t n_rows, uint32_t width, uint32_t gap) {
    matrix m = {.n_rows = n_rows, .width = width, .stride = width + gap};
    m.v = malloc(n_bytes(&m));
    if (!m.v) abort();
    for (size_t i = 0; i < (size_t)n_rows * m.stride; i++) m.v[i] = check_normal(&seed) * 4;
    return m;
}

/* Every row after the first gets something that is not an ordinary number. */
static void spoil(matrix *m) {
    static const float odd[] = {-0.0f, INFINITY, -INFINITY, NAN, 1e-42f, 3e38f, -104.0f, 89.5f};
    static const float plain[] = {-0.0f, INFINITY, -INFINITY, NAN, 1e-20f, 20.0f, -20.0f, 12.5f};
    for (uint32_t r = 1; r < m->n_rows; r++)
        row(m, r)[check_random(&seed) % m->width] = (check_tame() ? plain : odd)[(r - 1) % 8];
}

static uint32_t tiles(uint32_t n) { return (n + ROWS_TILE - 1) / ROWS_TILE; }

/* Compares row by row, so that gaps (which hold NaN patterns) do not count. */
static void compare(check_rig *r, const char *kernel, const matrix *got, const matrix *want) {
    for (uint32_t i = 0; i < want->n_rows; i++)
        check_floats(r, kernel, row(got, i), row(want, i), want->width, "width %u row %u", want->width, i);
}

/* --- one value at a time */
typedef struct {
    const char *kernel;
    void (*two)(float *y, const float *a, const float *b, size_t n);
    void (*one)(float *y, const float *x, size_t n);
    void (*with)(float *y, const float *x, float f, size_t n);
} each_case;

static void each_row(const each_case *c, float *y, const float *a, const float *b, float f, size_t n) {
    if (c->two) c->two(y, a, b, n);
    if (c->one) c->one(y, a, n);
    if (c->with) c->with(y, a, f, n);
}

static void run_each(check_rig *r, const each_case *c, uint32_t width, bool vector, bool over) {
    enum { ROWS = 10 };
    matrix a = make(ROWS, width, 3), b = make(vector ? 1 : ROWS, width, 5), y = make(ROWS, width, over ? 3 : 1);
    spoil(&a);
    if (!vector) spoil(&b);
    gpu_addr da = check_put(r, a.v, n_bytes(&a)), db = check_put(r, b.v, n_bytes(&b));
    gpu_addr dy = over ? da : check_put(r, NULL, n_bytes(&y));
    rows_args args = {.a = da, .b = c->two ? db : 0, .y = dy, .n_rows = ROWS, .width = width, .f = 30.5f};
    args.a_stride = a.stride * 4, args.b_stride = vector ? 0 : b.stride * 4, args.y_stride = y.stride * 4;
    check_launch(r, "rows", c->kernel, tiles(width), ROWS, 1, ROWS_BLOCK, &args, sizeof args);
    matrix got = make(ROWS, width, y.stride - width);
    check_get(r, got.v, dy, n_bytes(&got));
    for (uint32_t i = 0; i < ROWS; i++) each_row(c, row(&y, i), row(&a, i), row(&b, vector ? 0 : i), 30.5f, width);
    compare(r, c->kernel, &got, &y);
    free(a.v), free(b.v), free(y.v), free(got.v);
    check_reset(r);
}

static void check_each(check_rig *r) {
    const each_case cases[] = {{"rows_add", ref.add, NULL, NULL},       {"rows_mul", ref.mul, NULL, NULL},
                               {"rows_swiglu", ref.swiglu, NULL, NULL}, {"rows_geglu", ref.geglu, NULL, NULL},
                               {"rows_silu", NULL, ref.silu, NULL},     {"rows_gelu", NULL, ref.gelu, NULL},
                               {"rows_scale", NULL, NULL, ref.scale},   {"rows_softcap", NULL, NULL, ref.softcap}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t w = 0; w < sizeof WIDTHS / sizeof *WIDTHS && check_wanted(r, cases[i].kernel); w++) {
            if (check_short() ? WIDTHS[w] != 33 : !check_long() && w % 3 != i % 3) continue;
            run_each(r, &cases[i], WIDTHS[w], false, w % 2);
            run_each(r, &cases[i], WIDTHS[w], true, false);
        }
}

/* Every float of a coarse grid over all exponents and signs through the functions that are more than one operation. */
static void check_all_exponents(check_rig *r) {
    const each_case cases[] = {{"rows_silu", NULL, ref.silu, NULL},
                               {"rows_gelu", NULL, ref.gelu, NULL},
                               {"rows_softcap", NULL, NULL, ref.softcap}};
    uint32_t n = check_long() ? 1u << 20 : check_short() ? 1u << 10 : 1u << 14;
    matrix a = make(1, n, 0), y = make(1, n, 0), got = make(1, n, 0);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t bits = i * (uint32_t)(0x100000000u / n) + (uint32_t)(check_random(&seed) % (0x100000000u / n));
        if (check_tame() && (bits >> 23 & 255) < 40) bits |= 64u << 23;
        memcpy(&a.v[i], &bits, 4);
    }
    for (size_t i = 0; i < 3; i++) {
        if (!check_wanted(r, cases[i].kernel)) continue;
        rows_args args = {.n_rows = 1, .width = n, .f = 50.0f};
        args.a = check_put(r, a.v, n_bytes(&a)), args.y = check_put(r, NULL, n_bytes(&y));
        check_launch(r, "rows", cases[i].kernel, tiles(n), 1, 1, ROWS_BLOCK, &args, sizeof args);
        check_get(r, got.v, args.y, n_bytes(&got));
        each_row(&cases[i], y.v, a.v, NULL, 50.0f, n);
        compare(r, cases[i].kernel, &got, &y);
        check_reset(r);
    }
    free(a.v), free(y.v), free(got.v);
}

/* --- sums of a row */
enum { SUM_ROWS = 9 };

static void run_rms(check_rig *r, uint32_t group, uint32_t n_groups, bool weights, bool small) {
    uint32_t width = group * n_groups;
    matrix a = make(SUM_ROWS, width, 4), w = make(1, group, 0), y = make(SUM_ROWS, width, 0),
           got = make(SUM_ROWS, width, 0);
    spoil(&a);
    rows_args args = {.n_rows = SUM_ROWS, .width = width, .group = group, .f = 1e-6f};
    args.a = check_put(r, a.v, n_bytes(&a)), args.y = check_put(r, NULL, n_bytes(&y));
    args.b = weights ? check_put(r, w.v, n_bytes(&w)) : 0;
    args.a_stride = a.stride * 4, args.y_stride = y.stride * 4;
    const char *kernel = small ? "rows_rms_norm_small" : "rows_rms_norm";
    uint32_t gx = small ? (SUM_ROWS * n_groups + ROWS_SMALL_GROUPS - 1) / ROWS_SMALL_GROUPS : n_groups;
    check_launch(r, "rows", kernel, gx, small ? 1 : SUM_ROWS, 1, ROWS_BLOCK, &args, sizeof args);
    check_get(r, got.v, args.y, n_bytes(&got));
    for (uint32_t i = 0; i < SUM_ROWS; i++)
        for (uint32_t g = 0; g < width; g += group)
            ref.rms_norm(row(&y, i) + g, row(&a, i) + g, weights ? w.v : NULL, group, args.f);
    compare(r, kernel, &got, &y);
    free(a.v), free(w.v), free(y.v), free(got.v);
    check_reset(r);
}

static void run_sum(check_rig *r, const char *kernel, uint32_t width) {
    matrix a = make(SUM_ROWS, width, 4), w = make(1, width, 0), b = make(1, width, 0);
    matrix y = make(SUM_ROWS, width, 2), got = make(SUM_ROWS, width, 2);
    bool norm = strcmp(kernel, "rows_layer_norm") == 0;
    spoil(&a);
    rows_args args = {.n_rows = SUM_ROWS, .width = width, .f = 1e-5f};
    args.a = check_put(r, a.v, n_bytes(&a)), args.y = check_put(r, NULL, n_bytes(&y));
    args.b = check_put(r, w.v, n_bytes(&w)), args.c = check_put(r, b.v, n_bytes(&b));
    args.a_stride = a.stride * 4, args.y_stride = y.stride * 4;
    check_launch(r, "rows", kernel, 1, SUM_ROWS, 1, ROWS_BLOCK, &args, sizeof args);
    check_get(r, got.v, args.y, n_bytes(&got));
    for (uint32_t i = 0; i < SUM_ROWS; i++)
        if (norm)
            ref.layer_norm(row(&y, i), row(&a, i), w.v, b.v, width, args.f);
        else
            ref.softmax(row(&y, i), row(&a, i), width);
    compare(r, kernel, &got, &y);
    free(a.v), free(w.v), free(b.v), free(y.v), free(got.v);
    check_reset(r);
}

static void check_sums(check_rig *r) {
    for (size_t w = 0; w < sizeof WIDTHS / sizeof *WIDTHS; w++) {
        if (check_short() && WIDTHS[w] != 17 && WIDTHS[w] != 1000) continue;
        if (check_wanted(r, "rows_rms_norm")) run_rms(r, WIDTHS[w], 1 + w % 2, w % 3 != 0, false);
        if (check_wanted(r, "rows_rms_norm_small") && WIDTHS[w] <= ROWS_SMALL_GROUP)
            run_rms(r, WIDTHS[w], 1 + (uint32_t)w * 3, w % 3 != 0, true);
        if (check_wanted(r, "rows_layer_norm")) run_sum(r, "rows_layer_norm", WIDTHS[w]);
        if (check_wanted(r, "rows_softmax")) run_sum(r, "rows_softmax", WIDTHS[w]);
    }
}

/* --- rope: tables of real positions, heads whole and partly turned, in place */
static void run_rope(check_rig *r, uint32_t n_head, uint32_t head_dim, uint32_t n_rot, bool neox, bool over) {
    enum { ROWS = 5 };
    graph_params p = {.rope_table = {.n_rot = n_rot, .base = 10000, .freq_scale = 1, .attn_factor = 1}};
    matrix a = make(ROWS, n_head * head_dim, 8), table = make(ROWS, n_rot, 0), y = make(ROWS, n_head * head_dim, 8);
    matrix got = make(ROWS, n_head * head_dim, 8);
    spoil(&a);
    for (uint32_t i = 0; i < ROWS; i++) rope_table_row(row(&table, i), (int32_t)(i * i * 977), &p, NULL);
    rows_args args = {
        .n_rows = ROWS, .width = a.width, .n_head = n_head, .head_dim = head_dim, .n_rot = n_rot, .neox = neox};
    args.a = check_put(r, a.v, n_bytes(&a)), args.b = check_put(r, table.v, n_bytes(&table));
    args.y = over ? args.a : check_put(r, NULL, n_bytes(&y));
    args.a_stride = args.y_stride = a.stride * 4, args.b_stride = table.stride * 4;
    check_launch(r, "rows", "rows_rope", tiles(a.width / 2), ROWS, 1, ROWS_BLOCK, &args, sizeof args);
    check_get(r, got.v, args.y, n_bytes(&got));
    for (uint32_t i = 0; i < ROWS; i++) ref.rope(row(&y, i), row(&a, i), row(&table, i), n_head, head_dim, n_rot, neox);
    compare(r, "rows_rope", &got, &y);
    free(a.v), free(table.v), free(y.v), free(got.v);
    check_reset(r);
}

static void check_rope(check_rig *r) {
    if (!check_wanted(r, "rows_rope")) return;
    for (uint32_t i = 0; i < 4; i++) {
        if (check_short() && i == 2) break;
        run_rope(r, 3, 64, 64, i & 1, i & 2);
        run_rope(r, 1, 128, 96, i & 1, i & 2);
        run_rope(r, 17, 80, 32, i & 1, i & 2);
        run_rope(r, 5, 2, 2, i & 1, i & 2);
    }
}

/* --- rows by id */
static void check_take(check_rig *r) {
    enum { N_X = 11, ROWS = 7, ID_STRIDE = 3 };
    if (!check_wanted(r, "rows_take")) return;
    for (size_t w = 0; w < sizeof WIDTHS / sizeof *WIDTHS; w++) {
        if (check_short() && WIDTHS[w] != 33) continue;
        matrix x = make(N_X, WIDTHS[w], 2), y = make(ROWS, WIDTHS[w], 0), got = make(ROWS, WIDTHS[w], 0);
        int32_t id[ROWS * ID_STRIDE] = {0};
        for (int i = 0; i < ROWS; i++) id[i * ID_STRIDE] = i == 5 ? N_X : i == 6 ? -1 : i * 2;
        rows_take_args args = {.n_x = N_X, .n_rows = ROWS, .width = x.width, .id_stride = ID_STRIDE * 4};
        args.x = check_put(r, x.v, n_bytes(&x)), args.id = check_put(r, id, sizeof id);
        args.y = check_put(r, NULL, n_bytes(&y));
        args.x_stride = x.stride * 4, args.y_stride = y.stride * 4;
        check_launch(r, "rows", "rows_take", tiles(x.width), ROWS, 1, ROWS_BLOCK, &args, sizeof args);
        check_get(r, got.v, args.y, n_bytes(&got));
        for (uint32_t i = 0; i < ROWS; i++)
            for (uint32_t j = 0; j < x.width; j++) row(&y, i)[j] = i < 5 ? row(&x, i * 2)[j] : NAN;
        compare(r, "rows_take", &got, &y);
        free(x.v), free(y.v), free(got.v);
        check_reset(r);
    }
}

static void check_copy(check_rig *r) {
    if (!check_wanted(r, "rows_copy")) return;
    matrix x = make(4, 1025, 3), got = make(4, 1025, 9);
    spoil(&x);
    rows_args args = {.n_rows = 4, .width = 1025, .a_stride = x.stride * 4, .y_stride = got.stride * 4};
    args.a = check_put(r, x.v, n_bytes(&x)), args.y = check_put(r, NULL, n_bytes(&got));
    check_launch(r, "rows", "rows_copy", tiles(1025), 4, 1, ROWS_BLOCK, &args, sizeof args);
    check_get(r, got.v, args.y, n_bytes(&got));
    compare(r, "rows_copy", &got, &x);
    free(x.v), free(got.v);
    check_reset(r);
}

/* Any bytes are a weight; f16 scales that are NaN or infinite come up among them. */
static void run_get(check_rig *r, quant_type type, uint32_t k, uint32_t n_rows) {
    enum { IDS = 4 };
    const quant_info *q = quant_lookup(type);
    gpu_weight_planes shape;
    uint64_t at[LINEAR_PLANES], all;
    if (!gpu_weight_shape(&shape, type, k) || !gpu_weight_layout(&shape, n_rows, at, &all)) abort();
    uint8_t *filed = malloc((size_t)shape.row_bytes * n_rows), *packed = calloc(1, all);
    uint8_t *dst[LINEAR_PLANES];
    for (size_t i = 0; i < (size_t)shape.row_bytes * n_rows; i++) filed[i] = (uint8_t)check_random(&seed);
    for (int p = 0; p < LINEAR_PLANES; p++) dst[p] = packed + at[p];
    gpu_weight_pack_rows(&shape, dst, filed, n_rows);
    int32_t id[IDS] = {(int32_t)n_rows - 1, 0, (int32_t)n_rows, (int32_t)n_rows / 2};
    matrix y = make(IDS, k, 0), got = make(IDS, k, 0);
    rows_get_args args = {.n_rows = IDS, .k = k, .type = type, .id_stride = 4, .y_stride = y.stride * 4};
    gpu_addr w = check_put(r, packed, all);
    for (int p = 0; p < LINEAR_PLANES; p++) args.w.plane[p] = w + at[p], args.w.stride[p] = shape.stride[p];
    args.w.n_rows = n_rows, args.id = check_put(r, id, sizeof id), args.y = check_put(r, NULL, n_bytes(&y));
    check_launch(r, "rows_get", "rows_get", tiles(k), IDS, 1, ROWS_BLOCK, &args, sizeof args);
    check_get(r, got.v, args.y, n_bytes(&got));
    for (uint32_t i = 0; i < IDS; i++) {
        if ((uint32_t)id[i] < n_rows) q->decode(row(&y, i), filed + (size_t)id[i] * shape.row_bytes, k);
        for (uint32_t j = 0; j < k && (uint32_t)id[i] >= n_rows; j++) row(&y, i)[j] = NAN;
        check_floats(r, "rows_get", row(&got, i), row(&y, i), k, "%s k %u row %d", q->name, k, id[i]);
    }
    free(filed), free(packed), free(y.v), free(got.v);
    check_reset(r);
}

static void check_weights(check_rig *r) {
    static const quant_type types[] = {QUANT_F32,  QUANT_F16,  QUANT_BF16, QUANT_Q4_0, QUANT_Q4_1,
                                       QUANT_Q5_0, QUANT_Q5_1, QUANT_Q8_0, QUANT_Q2_K, QUANT_Q3_K,
                                       QUANT_Q4_K, QUANT_Q5_K, QUANT_Q6_K};
    if (!check_wanted(r, "rows_get")) return;
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        uint32_t block = quant_lookup(types[t])->block_elems;
        run_get(r, types[t], block, 3);
        if (!check_short()) run_get(r, types[t], block * 5, 17);
        if (check_long()) run_get(r, types[t], (4096 / block + 1) * block, 33);
    }
}

/* Milliseconds of a norm, of many values together: only on a real device. */
static void time_norm(check_rig *r, uint32_t width, uint32_t n_rows) {
    matrix a = make(n_rows, width, 0);
    rows_args args = {.n_rows = n_rows, .width = width, .group = width, .f = 1e-6f, .a_stride = width * 4};
    args.a = check_put(r, a.v, n_bytes(&a)), args.y = check_put(r, NULL, n_bytes(&a)), args.y_stride = width * 4;
    double ms = check_time(r, "rows", "rows_rms_norm", 1, n_rows, 1, ROWS_BLOCK, &args, sizeof args, 100);
    printf("time: rows_rms_norm %u x %u: %.2f us\n", n_rows, width, ms * 1000);
    ms = check_time(r, "rows", "rows_silu", tiles(width), n_rows, 1, ROWS_BLOCK, &args, sizeof args, 100);
    printf("time: rows_silu %u x %u: %.2f us\n", n_rows, width, ms * 1000);
    free(a.v);
    check_reset(r);
}

int main(int argc, char **argv) {
    check_rig *r = check_open(argc, argv);
    cpu_ops_ref(&ref);
    check_each(r);
    check_all_exponents(r);
    check_sums(r);
    check_rope(r);
    check_take(r);
    check_copy(r);
    check_weights(r);
    for (uint32_t n = 1; n <= 4096 && getenv("RF_TIME"); n *= 16) time_norm(r, 4096, n);
    return check_close(r);
}
