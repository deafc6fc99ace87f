#include "linear_data.h"

#include "backend/cpu/codes.h"
#include "backend/cpu/ref.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_AT_ONCE = 64 }; /* columns the reference takes */

const quant_type linear_types[N_LINEAR_TYPES] = {QUANT_Q4_0, QUANT_Q4_1, QUANT_Q5_0, QUANT_Q5_1, QUANT_Q8_0,
                                                 QUANT_Q2_K, QUANT_Q3_K, QUANT_Q4_K, QUANT_Q5_K, QUANT_Q6_K,
                                                 QUANT_F32,  QUANT_F16,  QUANT_BF16};

static uint64_t seed = 7;

uint32_t draw(void) { return (uint32_t)(check_random(&seed) >> 32); }

void *take(size_t n) {
    void *p = calloc(1, n ? n : 1);
    if (!p) abort();
    return p;
}

float *nan_floats(size_t n) {
    float *y = take(n * sizeof *y);
    memset(y, 0xFF, n * sizeof *y);
    return y;
}

bool quantised(quant_type t) { return code_form_of(t) != NULL; }

const char *spirit_name(spirit s) { return s == EVERYDAY ? "everyday" : s == EXTREME ? "extreme" : "not finite"; }

void kernel_name(char *to, size_t n, const char *form, quant_type t) {
    snprintf(to, n, "linear_%s_%s", form, quant_lookup((uint32_t)t)->name);
    for (; *to; to++) *to = (char)tolower((unsigned char)*to);
}

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
uint8_t *make_rows(const gpu_weight_planes *w, size_t n_rows, spirit s) {
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
void put_planes(check_rig *r, const gpu_weight_planes *w, const uint8_t *rows, size_t n_rows,
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

input make_input(quant_type t, uint32_t n, uint32_t k, spirit s) {
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

void free_input(input *in) {
    free(in->act.code), free(in->act.sum), free(in->act.scale);
    free(in->x), free(in->rows);
}

/* --- the reference ---------------------------------------------------------------------------------------------------------- */

/* y[c * y_stride + r] for columns [col0, col0 + n_col) of the first `k` values from `first` on. */
void reference(float *y, size_t y_stride, const gpu_weight_planes *w, const uint8_t *rows, uint32_t n_rows,
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
    for (uint32_t r = 0; r < n_rows; r += PANEL_ROWS)
        for (uint32_t c0 = 0; c0 < n_col; c0 += MOST_AT_ONCE) {
            float acc[MOST_AT_ONCE * PANEL_ROWS];
            const uint32_t n = n_rows - r < PANEL_ROWS ? n_rows - r : PANEL_ROWS;
            const uint32_t m = n_col - c0 < MOST_AT_ONCE ? n_col - c0 : MOST_AT_ONCE;
            linear_rows_ref(acc, rows + (size_t)r * w->row_bytes, w->row_bytes, n, w->type, w->k, &act, col0 + c0, m);
            for (uint32_t c = 0; c < m; c++)
                for (uint32_t i = 0; i < n; i++) y[(c0 + c) * y_stride + r + i] = acc[c * PANEL_ROWS + i];
        }
}

void quantised_row(uint8_t *to, const float *x, uint32_t n, uint32_t scale_block) {
    cpu_ops ops;
    cpu_ops_ref(&ops);
    cpu_act act = {.code = take(n), .scale = take(n / scale_block * 4), .sum = take(n / 8), .n_tok = 1};
    act.scale_block = scale_block;
    ops.quantize(&act, 0, x, n);
    memset(to, 0xFF, gpu_act_bytes(n, scale_block)); /* as the device's memory starts */
    memcpy(to, act.code, n);
    memcpy(to + gpu_act_sums(n), act.sum, n / 8);
    memcpy(to + gpu_act_scales(n), act.scale, n / scale_block * 4);
    free(act.code), free(act.scale), free(act.sum);
}

void one_nan(uint8_t *row, uint32_t n, uint32_t scale_block) {
    for (uint32_t b = 0; b < n / scale_block; b++) {
        uint8_t *p = row + gpu_act_scales(n) + 4 * (size_t)b;
        float f;
        memcpy(&f, p, 4);
        f = isnan(f) ? NAN : f;
        memcpy(p, &f, 4);
    }
}
