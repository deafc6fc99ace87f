/* The float kernels of the CPU backend: every slot of every tier this CPU has gives the reference's bits, on awkward sizes,
 * unaligned, between canaries, with special values; and the reference itself is near the exact result in double. */
#include "check.h"

#include "backend/cpu/canon.h"
#include "backend/cpu/cpu_ops.h"
#include "backend/cpu/rope_table.h"
#include "base/rng.h"
#include "kv/kv.h"

enum { MAX_N = 304, PAD = 32 };

static cpu_ops ref, tier_ops;

/* Runs f for each tier past the reference; names those that are missing. */
static void each_tier(void (*f)(void)) {
    cpu_ops_ref(&ref);
    for (cpu_tier t = TIER_AVX2; t < TIER_COUNT; t++) {
        if (t > cpu_tier_best()) {
            print_message("skipped: this CPU has no %s\n", cpu_tier_name(t));
            continue;
        }
        cpu_ops_init(&tier_ops, t);
        assert_string_equal(tier_ops.name, cpu_tier_name(t));
        f();
    }
}

/* --- inputs ------------------------------------------------------------------------------------------------------------- */
typedef enum { FILL_PLAIN, FILL_WIDE, FILL_SPECIAL, FILL_COUNT } fill_kind;

static uint64_t draws;

static double unit(void) { return rng_unit(7, draws++); }

static float plain(void) { return (float)((unit() + unit() + unit() - 1.5) * 3.0); }

static float wide(void) { return ldexpf((float)(unit() * 2.0 - 1.0), (int)(unit() * 250.0) - 140); }

static float special(void) {
    static const float values[] = {0.0f,           -0.0f,   INFINITY, -INFINITY, NAN,    1e-45f,  -1e-45f,
                                   1.1754942e-38f, 3.4e38f, -3.4e38f, 88.72f,    -87.5f, -103.9f, 0.625f};
    return unit() < 0.7 ? plain() : values[(size_t)(unit() * (sizeof values / sizeof *values))];
}

static void fill(float *x, size_t n, fill_kind kind) {
    for (size_t i = 0; i < n; i++) x[i] = kind == FILL_PLAIN ? plain() : kind == FILL_WIDE ? wide() : special();
}

/* --- comparing ---------------------------------------------------------------------------------------------------------- */
static bool same_bits(float a, float b) { return canon_bits(a) == canon_bits(b) || (isnan(a) && isnan(b)); }

static void expect_same(const float *want, const float *got, size_t n, const char *what, size_t size) {
    for (size_t i = 0; i < n; i++)
        if (!same_bits(want[i], got[i]))
            fail_msg("%s %s, size %zu: value %zu is %a, the reference says %a", tier_ops.name, what, size, i,
                     (double)got[i], (double)want[i]);
}

static const uint32_t CANARY = 0x7fa5c3e1u;

static void put_canaries(float *x, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = canon_from_bits(CANARY);
}

static void expect_canaries(const float *x, size_t n, const char *what, size_t size) {
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, &x[i], sizeof u);
        if (u != CANARY) fail_msg("%s %s, size %zu: wrote outside its result", tier_ops.name, what, size);
    }
}

/* --- rows --------------------------------------------------------------------------------------------------------------- */
static const char *const row_names[] = {"add",        "mul",        "scale",        "softcap", "silu",
                                        "gelu",       "gelu_erf",   "swiglu",       "geglu",   "rms_norm",
                                        "rms_norm 1", "layer_norm", "layer_norm 0", "softmax"};
enum { N_ROW_KERNELS = sizeof row_names / sizeof *row_names };

static void run_row(const cpu_ops *o, int kernel, float *y, const float *a, const float *b, const float *c, size_t n) {
    switch (kernel) {
    case 0: o->add(y, a, b, n); break;
    case 1: o->mul(y, a, b, n); break;
    case 2: o->scale(y, a, 0.3f, n); break;
    case 3: o->softcap(y, a, 30.0f, n); break;
    case 4: o->silu(y, a, n); break;
    case 5: o->gelu(y, a, n); break;
    case 6: o->gelu_erf(y, a, n); break;
    case 7: o->swiglu(y, a, b, n); break;
    case 8: o->geglu(y, a, b, n); break;
    case 9: o->rms_norm(y, a, b, n, 1e-5f); break;
    case 10: o->rms_norm(y, a, NULL, n, 1e-6f); break;
    case 11: o->layer_norm(y, a, b, c, n, 1e-5f); break;
    case 12: o->layer_norm(y, a, b, NULL, n, 1e-5f); break;
    default: o->softmax(y, a, n); break;
    }
}

static void check_row(int kernel, size_t n, fill_kind kind) {
    float a[MAX_N + 8], b[MAX_N + 8], c[MAX_N + 8], want[MAX_N], got[MAX_N + 2 * PAD];
    float *y = got + PAD + n % 5, *x = a + n % 4;
    fill(a, MAX_N + 8, kind);
    fill(b, MAX_N + 8, kind);
    fill(c, MAX_N + 8, kind);
    run_row(&ref, kernel, want, x, b + 1, c + 3, n);
    put_canaries(got, MAX_N + 2 * PAD);
    run_row(&tier_ops, kernel, y, x, b + 1, c + 3, n);
    expect_same(want, y, n, row_names[kernel], n);
    expect_canaries(got, (size_t)(y - got), row_names[kernel], n);
    expect_canaries(y + n, (size_t)(got + MAX_N + 2 * PAD - (y + n)), row_names[kernel], n);
    memcpy(y, x, n * sizeof *y); /* in place */
    run_row(&tier_ops, kernel, y, y, b + 1, c + 3, n);
    expect_same(want, y, n, row_names[kernel], n);
}

static void rows_of_tier(void) {
    for (int kernel = 0; kernel < N_ROW_KERNELS; kernel++)
        for (size_t n = 1; n <= 300; n++)
            for (fill_kind kind = 0; kind < FILL_COUNT; kind++) check_row(kernel, n, kind);
}

static void test_rows(void **state) {
    (void)state;
    each_tier(rows_of_tier);
}

/* Every 1021st float of the whole line, NaNs and infinities with them. */
static void functions_of_tier(void) {
    enum { N = 256 };
    float x[N], want[N], got[N];
    for (uint64_t u = 0; u < 1ull << 32; u += 1021 * N) {
        for (uint32_t i = 0; i < N; i++) x[i] = canon_from_bits((uint32_t)(u + 1021 * i));
        for (int kernel = 3; kernel <= 6; kernel++) {
            run_row(&ref, kernel, want, x, NULL, NULL, N);
            run_row(&tier_ops, kernel, got, x, NULL, NULL, N);
            expect_same(want, got, N, row_names[kernel], N);
        }
    }
}

static void test_functions_everywhere(void **state) {
    (void)state;
    each_tier(functions_of_tier);
}

/* --- accuracy of the definition ------------------------------------------------------------------------------------------ */
static double ulp_of(double exact) {
    double a = fabs(exact);
    return a < 0x1p-126 ? 0x1p-149 : ldexp(1.0, ilogb(a) - 23);
}

static void worst(double *w, double got, double exact) {
    double e = fabs(got - exact) / ulp_of(exact);
    if (!(e <= *w)) *w = e;
}

static void test_accuracy_of_functions(void **state) {
    (void)state;
    double e_exp = 0, e_tanh = 0, e_silu = 0, e_gelu = 0, e_erf = 0;
    for (uint64_t u = 0; u < 1ull << 32; u += 499) {
        float x = canon_from_bits((uint32_t)u);
        if (!(fabsf(x) <= 200.0f)) continue;
        double d = x, g = d * (1.5957691216057308 * (1.0 + 0.044715 * d * d));
        if (d < 88.72 && d > -103.97) worst(&e_exp, canon_exp(x), exp(d));
        worst(&e_tanh, canon_tanh(x), tanh(d));
        if (d > -87.0) worst(&e_silu, canon_silu(x), d / (1.0 + exp(-d)));
        if (fabs(g) < 20.0) worst(&e_gelu, canon_gelu(x), d / (1.0 + exp(-g)));
        if (d > -9.0) worst(&e_erf, canon_gelu_erf(x), d * 0.5 * erfc(-d * 0.70710678118654752));
    }
    print_message("ulp: exp %.3f, tanh %.3f, silu %.3f; gelu %.1f, exact %.1f\n", e_exp, e_tanh, e_silu, e_gelu, e_erf);
    assert_true(e_exp < 1.0);
    assert_true(e_tanh < 2.5);
    assert_true(e_silu < 3.0);
    assert_true(e_gelu < 30.0); /* 2u loses up to its own size in ulp: 20 */
    assert_true(e_erf < 45.0);  /* x^2 / 2 loses up to its own size in ulp: 40 */
}

static void test_edges_of_functions(void **state) {
    (void)state;
    assert_true(canon_exp(0.0f) == 1.0f && canon_exp(-0.0f) == 1.0f);
    assert_true(canon_exp(INFINITY) == INFINITY && canon_exp(88.73f) == INFINITY && canon_exp(88.72f) < INFINITY);
    assert_true(canon_exp(-INFINITY) == 0.0f && canon_exp(-104.0f) == 0.0f && canon_exp(-103.0f) > 0.0f);
    assert_true(isnan(canon_exp(NAN)) && isnan(canon_tanh(NAN)) && isnan(canon_silu(NAN)) && isnan(canon_gelu(NAN)));
    assert_true(canon_tanh(INFINITY) == 1.0f && canon_tanh(-INFINITY) == -1.0f && canon_tanh(-20.0f) == -1.0f);
    assert_true(signbit(canon_tanh(-0.0f)) && canon_tanh(-0.0f) == 0.0f);
    assert_true(canon_silu(INFINITY) == INFINITY && canon_gelu(1e30f) == 1e30f && canon_gelu(-1e30f) == 0.0f);
    assert_true(isnan(canon_gelu_erf(NAN)) && canon_gelu_erf(1e30f) == 1e30f && canon_gelu_erf(-1e30f) == 0.0f);
    assert_true(canon_gelu_erf(0.0f) == 0.0f && canon_gelu_erf(-0.0f) == 0.0f);
}

static void test_accuracy_of_rows(void **state) {
    (void)state;
    enum { N = 300 };
    float x[N], w[N], b[N], y[N];
    fill(x, N, FILL_PLAIN);
    fill(w, N, FILL_PLAIN);
    fill(b, N, FILL_PLAIN);
    double ss = 0, mean = 0, var = 0, sum = 0, max = -1e30;
    for (int i = 0; i < N; i++) {
        ss += (double)x[i] * x[i], mean += x[i] / (double)N;
        if (x[i] > max) max = x[i];
    }
    for (int i = 0; i < N; i++) var += (x[i] - mean) * (x[i] - mean) / N, sum += exp(x[i] - max);
    cpu_ops_ref(&ref);
    ref.rms_norm(y, x, w, N, 1e-5f);
    for (int i = 0; i < N; i++) assert_true(fabs(y[i] - x[i] / sqrt(ss / N + 1e-5) * w[i]) < 2e-6);
    ref.layer_norm(y, x, w, b, N, 1e-5f);
    for (int i = 0; i < N; i++) assert_true(fabs(y[i] - ((x[i] - mean) / sqrt(var + 1e-5) * w[i] + b[i])) < 4e-6);
    ref.softmax(y, x, N);
    for (int i = 0; i < N; i++) assert_true(fabs(y[i] - exp(x[i] - max) / sum) < 1e-8);
}

/* --- rope --------------------------------------------------------------------------------------------------------------- */
static void rope_of_tier(void) {
    float table[256], x[2048], want[2048], got[2048 + 2 * PAD];
    for (uint32_t n_rot = 2; n_rot <= 256; n_rot += 2)
        for (int neox = 0; neox < 2; neox++) {
            uint32_t dim = n_rot + (n_rot * 7 % 13), heads = 1 + n_rot % 3;
            size_t n = (size_t)dim * heads;
            fill(x, n, n_rot % 5 ? FILL_PLAIN : FILL_SPECIAL);
            fill(table, n_rot, FILL_PLAIN);
            ref.rope(want, x, table, heads, dim, n_rot, neox);
            put_canaries(got, n + 2 * PAD);
            tier_ops.rope(got + PAD, x, table, heads, dim, n_rot, neox);
            expect_same(want, got + PAD, n, "rope", n_rot);
            expect_canaries(got, PAD, "rope", n_rot);
            expect_canaries(got + PAD + n, PAD, "rope", n_rot);
            tier_ops.rope(x, x, table, heads, dim, n_rot, neox);
            expect_same(want, x, n, "rope in place", n_rot);
        }
}

static void test_rope(void **state) {
    (void)state;
    each_tier(rope_of_tier);
    float table[4] = {0.6f, 0.8f, 0.0f, 1.0f}, x[5] = {1, 2, 3, 4, 5}, y[5];
    ref.rope(y, x, table, 1, 5, 4, false); /* pairs (0, 1) and (2, 3); the fifth value is kept */
    const float adjacent[5] = {0.6f - 2 * 0.8f, 0.8f + 2 * 0.6f, -4, 3, 5};
    for (int i = 0; i < 5; i++) assert_true(fabsf(y[i] - adjacent[i]) < 1e-6f);
    ref.rope(y, x, table, 1, 5, 4, true); /* pairs (0, 2) and (1, 3) */
    const float halves[5] = {0.6f - 3 * 0.8f, -4, 0.8f + 3 * 0.6f, 2, 5};
    for (int i = 0; i < 5; i++) assert_true(fabsf(y[i] - halves[i]) < 1e-6f);
}

static void expect_angle(const float *pair, double theta, double length) {
    assert_true(fabs(pair[0] - cos(theta) * length) < 1e-7 * length + 2e-8 * fabs(length));
    assert_true(fabs(pair[1] - sin(theta) * length) < 1e-7 * length + 2e-8 * fabs(length));
}

static void test_rope_table_plain(void **state) {
    (void)state;
    static const int32_t positions[] = {0, 1, 17, 2047, 131071};
    graph_params p = {.rope_table = {.n_rot = 128, .base = 500000.0f, .freq_scale = 0.25f, .attn_factor = 1.0f}};
    float row[128], factors[64];
    for (int i = 0; i < 64; i++) factors[i] = 1.0f + (float)i / 8.0f;
    for (size_t k = 0; k < sizeof positions / sizeof *positions; k++) {
        int32_t pos = positions[k];
        rope_table_row(row, pos, &p, NULL);
        for (int i = 0; i < 64; i++) expect_angle(row + 2 * i, pos * 0.25 * pow(500000.0, -2.0 * i / 128), 1.0);
        rope_table_row(row, pos, &p, factors);
        for (int i = 0; i < 64; i++)
            expect_angle(row + 2 * i, pos * 0.25 * pow(500000.0, -2.0 * i / 128) / factors[i], 1.0);
    }
}

/* The numbers of a YaRN model (factor 4 over 32768, base 1e6, 128 dimensions): pairs up to 23 keep their angle, from 40 on it
 * is a quarter. 23 = floor(128 ln(32768 / (32 * 2 pi)) / (2 ln 1e6)), 40 = ceil of the same with 1 for 32. */
static void test_rope_table_yarn(void **state) {
    (void)state;
    graph_params p = {.rope_table = {.n_rot = 128,
                                     .orig_ctx = 32768,
                                     .base = 1e6f,
                                     .freq_scale = 0.25f,
                                     .ext_factor = 1.0f,
                                     .attn_factor = 1.0f,
                                     .beta_fast = 32.0f,
                                     .beta_slow = 1.0f}};
    float row[128];
    double length = 1.0 + 0.1 * log(4.0);
    for (int32_t pos = 0; pos < 40000; pos += 1999) {
        rope_table_row(row, pos, &p, NULL);
        for (int i = 0; i < 64; i++) {
            double angle = pos * pow(1e6, -2.0 * i / 128), kept = i <= 23 ? 1.0 : i >= 40 ? 0.0 : (40.0 - i) / 17.0;
            expect_angle(row + 2 * i, angle * kept + angle * 0.25 * (1.0 - kept), length);
        }
    }
}

/* --- int8 activations ---------------------------------------------------------------------------------------------------- */
enum { ACT_K = 1024, ACT_TOK = 5 };

typedef struct {
    int8_t code[ACT_K * ACT_TOK];
    float scale[ACT_K / 32 * ACT_TOK];
    int16_t sum[ACT_K / 16 * ACT_TOK];
} act_store;

static cpu_act act_of(act_store *s, uint32_t scale_block) {
    memset(s, 0x55, sizeof *s);
    return (cpu_act){s->code, s->scale, s->sum, ACT_TOK, scale_block};
}

static void fill_blocks(float *x,
                        fill_kind kind) { /* specials in some blocks only, and one of zeros, one that underflows */
    fill(x, ACT_K, kind == FILL_SPECIAL ? FILL_PLAIN : kind);
    if (kind == FILL_PLAIN) return;
    memset(x, 0, 256 * sizeof *x);
    for (int i = 256; i < 512; i++) x[i] = 1e-40f * (float)(i % 3);
    fill(x + 600, 40, kind);
}

static void quantize_of_tier(void) {
    static act_store want, got;
    float x[ACT_K + 1];
    for (int round = 0; round < 300; round++) {
        uint32_t block = round % 2 ? 32 : 256;
        cpu_act w = act_of(&want, block), g = act_of(&got, block);
        fill_blocks(x + 1, (fill_kind)(round % FILL_COUNT));
        uint32_t tok = (uint32_t)round % ACT_TOK;
        size_t n = block * (1 + (size_t)round % (ACT_K / block));
        ref.quantize(&w, tok, x + 1, n);
        tier_ops.quantize(&g, tok, x + 1, n);
        assert_memory_equal(want.code, got.code, sizeof want.code);
        assert_memory_equal(want.sum, got.sum, sizeof want.sum);
        expect_same(want.scale, got.scale, ACT_K / 32 * ACT_TOK, "quantize", n);
    }
}

static void test_quantize(void **state) {
    (void)state;
    each_tier(quantize_of_tier);
}

static void test_quantize_meaning(void **state) {
    (void)state;
    static act_store s;
    float x[256];
    cpu_ops_ref(&ref);
    for (uint32_t block = 32; block <= 256; block *= 8) {
        cpu_act a = act_of(&s, block);
        fill(x, 256, FILL_PLAIN);
        x[3] = -9.0f; /* the greatest: code -127 */
        ref.quantize(&a, 2, x, 256);
        assert_int_equal(s.code[2 * 32 + 3], -127);
        for (uint32_t i = 0; i < 256; i++) {
            float scale = s.scale[i / block * ACT_TOK + 2];
            int code = s.code[(i / 32 * ACT_TOK + 2) * 32 + i % 32];
            assert_true(fabsf(x[i] - scale * (float)code) <= 0.5001f * scale);
        }
        for (uint32_t h = 0; h < 16; h++) {
            int sum = 0;
            for (uint32_t i = 0; i < 16; i++) sum += s.code[(h / 2 * ACT_TOK + 2) * 32 + h % 2 * 16 + i];
            assert_int_equal(s.sum[(h / 2 * ACT_TOK + 2) * 2 + h % 2], sum);
        }
        x[200] = NAN;
        ref.quantize(&a, 2, x, 256);
        assert_true(isnan(s.scale[200 / block * ACT_TOK + 2]) && s.code[(200 / 32 * ACT_TOK + 2) * 32] == 0);
    }
}

/* --- float linear --------------------------------------------------------------------------------------------------------- */
enum { LIN_ROWS = 11, LIN_COLS = 9, LIN_K = 300 };

static void check_linear(quant_type type, uint32_t n_rows, uint32_t n_col, size_t k, fill_kind kind) {
    static unsigned char w[LIN_ROWS * (LIN_K + 3) * 4];
    static float x[LIN_COLS * (LIN_K + 5)], want[LIN_COLS * 16], got[LIN_COLS * 16 + 2 * PAD];
    size_t size = type == QUANT_F32 ? 4 : 2, w_stride = (k + 3) * size, x_stride = k + 5;
    for (size_t i = 0; i < n_rows * (k + 3); i++) {
        float f = kind == FILL_PLAIN ? plain() : kind == FILL_WIDE ? wide() : special();
        uint16_t h = type == QUANT_F16 ? f32_to_f16(f) : (uint16_t)(canon_bits(f) >> 16);
        memcpy(w + i * size, type == QUANT_F32 ? (void *)&f : (void *)&h, size);
    }
    fill(x, n_col * x_stride, kind);
    put_canaries(want, LIN_COLS * 16);
    put_canaries(got, LIN_COLS * 16 + 2 * PAD);
    ref.linear_float(want, 16, w, type, w_stride, n_rows, x, x_stride, n_col, k);
    tier_ops.linear_float(got + PAD, 16, w, type, w_stride, n_rows, x, x_stride, n_col, k);
    expect_same(want, got + PAD, LIN_COLS * 16, quant_lookup(type)->name, k);
    expect_canaries(got, PAD, "linear_float", k);
    expect_canaries(got + PAD + LIN_COLS * 16, PAD, "linear_float", k);
}

static void linear_of_tier(void) {
    static const quant_type types[] = {QUANT_F32, QUANT_F16, QUANT_BF16};
    static const size_t ks[] = {1, 2, 15, 16, 17, 31, 33, 64, 100, 255, 300};
    for (int t = 0; t < 3; t++)
        for (uint32_t rows = 1; rows <= LIN_ROWS; rows++)
            for (uint32_t cols = 1; cols <= LIN_COLS; cols++)
                for (size_t i = 0; i < sizeof ks / sizeof *ks; i++)
                    check_linear(types[t], rows, cols, ks[i], (fill_kind)((rows + cols + i) % FILL_COUNT));
}

/* More rows than one cache block holds. */
static void long_linear_of_tier(void) {
    enum { ROWS = 37, COLS = 6, K = 5003 };
    static float w[ROWS * K], x[COLS * K], want[COLS * ROWS], got[COLS * ROWS];
    fill(w, ROWS * K, FILL_PLAIN);
    fill(x, COLS * K, FILL_PLAIN);
    ref.linear_float(want, ROWS, w, QUANT_F32, K * sizeof *w, ROWS, x, K, COLS, K);
    tier_ops.linear_float(got, ROWS, w, QUANT_F32, K * sizeof *w, ROWS, x, K, COLS, K);
    expect_same(want, got, COLS * ROWS, "linear_float", K);
}

static void test_linear_float(void **state) {
    (void)state;
    each_tier(linear_of_tier);
    each_tier(long_linear_of_tier);
    float w[40], x[40], y;
    double exact = 0;
    fill(w, 40, FILL_PLAIN);
    fill(x, 40, FILL_PLAIN);
    for (int i = 0; i < 40; i++) exact += (double)w[i] * x[i];
    ref.linear_float(&y, 1, w, QUANT_F32, sizeof w, 1, x, 40, 1, 40);
    assert_true(fabs(y - exact) < 1e-4);
}

/* --- the cache ------------------------------------------------------------------------------------------------------------ */
static void expect_decoded(const float *got, size_t stride, const float *x, quant_type type, uint32_t d) {
    float want[256];
    unsigned char block[34 * 8];
    memcpy(want, x, d * sizeof *x);
    if (type == QUANT_F16)
        for (uint32_t i = 0; i < d; i++) want[i] = f16_to_f32(f32_to_f16(x[i]));
    if (type == QUANT_BF16)
        for (uint32_t i = 0; i < d; i++) want[i] = bf16_to_f32(f32_to_bf16(x[i]));
    if (type == QUANT_Q8_0 || type == QUANT_Q4_0) {
        (type == QUANT_Q8_0 ? quant_encode_q8_0 : quant_encode_q4_0)(block, x, d);
        quant_lookup(type)->decode(want, block, d);
    }
    for (uint32_t i = 0; i < d; i++) assert_true(same_bits(want[i], got[i * stride]));
}

/* A page of 64 tokens stored one by one, in any order, then read back group by group. */
static void check_cache(const cpu_ops *o, quant_type type, uint32_t d) {
    static float x[64 * 256], back[16 * 256 + 2 * PAD];
    static unsigned char codes[64 * 256 * 4 + 64], scales[64 * 8 * 2];
    for (int is_k = 0; is_k < 2; is_k++) {
        fill(x, 64 * d, FILL_PLAIN);
        memset(codes, 0xa5, sizeof codes);
        for (uint32_t i = 0; i < 64; i++) {
            uint32_t slot = i * 37 % 64;
            (is_k ? kv_store_k : kv_store_v)(codes, scales, type, d, slot, x + (size_t)slot * d);
        }
        for (size_t i = kv_code_bytes(type, 64 * (size_t)d); i < sizeof codes; i++) assert_int_equal(codes[i], 0xa5);
        for (uint32_t g = 0; g < 4; g++) {
            put_canaries(back, 16 * d + 2 * PAD);
            o->kv_load(back + PAD, codes + kv_code_bytes(type, g * 16 * (size_t)d), scales + g * (d / 32) * 16 * 2,
                       type, d, is_k);
            expect_canaries(back, PAD, "kv_load", d);
            expect_canaries(back + PAD + 16 * d, PAD, "kv_load", d);
            for (uint32_t j = 0; j < 16; j++)
                expect_decoded(back + PAD + (is_k ? j : j * d), is_k ? 16 : 1, x + (size_t)(g * 16 + j) * d, type, d);
        }
    }
}

static void cache_of_tier(void) {
    for (uint32_t d = 1; d <= 256; d += d < 40 ? 1 : 13) {
        check_cache(&tier_ops, QUANT_F32, d);
        check_cache(&tier_ops, QUANT_F16, d);
        check_cache(&tier_ops, QUANT_BF16, d);
    }
    for (uint32_t d = 32; d <= 256; d += 32) {
        check_cache(&tier_ops, QUANT_Q8_0, d);
        check_cache(&tier_ops, QUANT_Q4_0, d);
    }
}

static void test_cache(void **state) {
    (void)state;
    cpu_ops_ref(&ref);
    check_cache(&ref, QUANT_F32, 64);
    check_cache(&ref, QUANT_F16, 72);
    check_cache(&ref, QUANT_Q8_0, 96);
    check_cache(&ref, QUANT_BF16, 40);
    check_cache(&ref, QUANT_Q4_0, 96);
    each_tier(cache_of_tier);
}

/* --- attention ------------------------------------------------------------------------------------------------------------- */
enum { AT_Q = 20, AT_D = 160, AT_CHUNKS = 3, AT_KEYS = AT_CHUNKS * ATTN_CHUNK };

typedef struct {
    float k[AT_KEYS * AT_D], v[AT_KEYS * AT_D], q[AT_Q * AT_D]; /* K as [group][d_k][16], V as [key][d_v] */
    const float *q_at[AT_Q];
    uint32_t from[AT_Q], to[AT_Q]; /* keys from <= j < to are seen */
    float m[AT_Q], l[AT_Q], o[AT_Q * AT_D + PAD];
    uint32_t d_k, d_v, n_q;
    float scale, softcap, alibi; /* alibi: 0, or the slope of query 0; of query i it is i + 1 times as steep */
    quant_type type_k, type_v;   /* how the codes below hold K and V; F32: the floats are used */
    unsigned char k_codes[AT_KEYS * AT_D * 2], v_codes[AT_KEYS * AT_D * 2];
    uint16_t k_scales[AT_KEYS * AT_D / 32], v_scales[AT_KEYS * AT_D / 32];
} attn_case;

static void make_case(attn_case *c, uint32_t n_q, uint32_t d_k, uint32_t d_v, fill_kind kind) {
    *c = (attn_case){.d_k = d_k, .d_v = d_v, .n_q = n_q, .scale = 1.0f / sqrtf((float)d_k)};
    fill(c->k, AT_KEYS * d_k, kind);
    fill(c->v, AT_KEYS * d_v, kind);
    fill(c->q, n_q * d_k, kind);
    for (uint32_t i = 0; i < n_q; i++) c->q_at[i] = c->q + (size_t)i * d_k;
}

/* Keys nobody may touch: not a number, so that one look spoils the answer. */
static void poison(attn_case *c, uint32_t from, uint32_t to) {
    for (uint32_t j = from; j < to; j++) {
        for (uint32_t i = 0; i < c->d_k; i++) c->k[((size_t)(j / 16) * c->d_k + i) * 16 + j % 16] = NAN;
        for (uint32_t i = 0; i < c->d_v; i++) c->v[(size_t)j * c->d_v + i] = NAN;
    }
}

/* Stores keys and values in these types; the floats become what the cache gives back. Unseen ones stay not a number. */
static void store_case(attn_case *c, quant_type type_k, quant_type type_v) {
    float row[AT_D];
    c->type_k = type_k, c->type_v = type_v;
    for (uint32_t j = 0; j < AT_KEYS; j++) {
        for (uint32_t i = 0; i < c->d_k; i++) row[i] = c->k[((size_t)(j / 16) * c->d_k + i) * 16 + j % 16];
        if (type_k) kv_store_k(c->k_codes, c->k_scales, type_k, c->d_k, j, row);
        if (type_v) kv_store_v(c->v_codes, c->v_scales, type_v, c->d_v, j, c->v + (size_t)j * c->d_v);
    }
    for (uint32_t j = 0; j < AT_KEYS; j += 16) {
        if (type_k)
            ref.kv_load(c->k + (size_t)j * c->d_k, c->k_codes + kv_code_bytes(type_k, j * c->d_k),
                        c->k_scales + j * (c->d_k / 32), type_k, c->d_k, true);
        if (type_v)
            ref.kv_load(c->v + (size_t)j * c->d_v, c->v_codes + kv_code_bytes(type_v, j * c->d_v),
                        c->v_scales + j * (c->d_v / 32), type_v, c->d_v, false);
    }
}

static void empty_states(attn_case *c) {
    for (uint32_t i = 0; i < AT_Q; i++) c->m[i] = c->l[i] = 0.0f;
    put_canaries(c->o, AT_Q * AT_D + PAD);
}

/* Where query i stands among the keys: anywhere, for the sake of distances to both sides. */
static int32_t query_at(const attn_case *c, uint32_t i) { return (int32_t)(c->to[i] + i) - 20; }

/* One chunk for the queries that see some of it. All of them see a common run of chunks here, so states stay in order. */
static void run_chunk(const cpu_ops *o, attn_case *c, uint32_t chunk, float *m, float *l, float *out) {
    uint32_t lo[AT_Q], hi[AT_Q], key0 = chunk * ATTN_CHUNK, n = 0, first = c->n_q, least = 64, most = 0;
    float slope[AT_Q];
    int32_t at[AT_Q];
    for (uint32_t i = 0; i < c->n_q; i++) {
        uint32_t a = c->from[i] > key0 ? c->from[i] - key0 : 0, b = c->to[i] > key0 ? c->to[i] - key0 : 0;
        b = b > 64 ? 64 : b;
        if (a >= b) continue;
        if (first == c->n_q) first = i;
        slope[n] = c->alibi * (float)(i + 1), at[n] = query_at(c, i) - (int32_t)key0;
        lo[n] = a, hi[n++] = b;
        least = a < least ? a : least, most = b > most ? b : most;
    }
    if (!n) return;
    attn_chunk_args args = {.d_k = c->d_k, .d_v = c->d_v, .scale = c->scale, .softcap = c->softcap, .n_q = n};
    for (uint32_t g = least / 16; g * 16 < most; g++) {
        size_t key = key0 + g * 16;
        args.k[g] = c->type_k ? (void *)(c->k_codes + kv_code_bytes(c->type_k, key * c->d_k)) : c->k + key * c->d_k;
        args.v[g] = c->type_v ? (void *)(c->v_codes + kv_code_bytes(c->type_v, key * c->d_v)) : c->v + key * c->d_v;
        args.k_scales[g] = c->k_scales + key * (c->d_k / 32);
        args.v_scales[g] = c->v_scales + key * (c->d_v / 32);
    }
    args.type_k = c->type_k, args.type_v = c->type_v;
    args.slope = c->alibi != 0.0f ? slope : NULL, args.at = at;
    args.q = c->q_at + first, args.lo = lo, args.hi = hi;
    args.m = m + first, args.l = l + first, args.o = out + (size_t)first * c->d_v;
    o->attn_chunk(&args);
}

static void run_all(const cpu_ops *o, attn_case *c) {
    empty_states(c);
    for (uint32_t chunk = 0; chunk < AT_CHUNKS; chunk++) run_chunk(o, c, chunk, c->m, c->l, c->o);
}

/* causal: query i at position `last - n_q + 1 + i`; window 0: all before it. */
static void see(attn_case *c, uint32_t last, uint32_t window) {
    for (uint32_t i = 0; i < c->n_q; i++) {
        uint32_t pos = last + 1 + i - c->n_q;
        c->to[i] = pos + 1;
        c->from[i] = window && pos + 1 > window ? pos + 1 - window : 0;
    }
}

static void check_attention(uint32_t n_q, uint32_t d_k, uint32_t d_v, uint32_t last, uint32_t window, float softcap,
                            float alibi, fill_kind kind) {
    static attn_case want, got;
    make_case(&want, n_q, d_k, d_v, kind);
    want.softcap = softcap, want.alibi = alibi;
    see(&want, last, window);
    poison(&want, last + 1, AT_KEYS);
    poison(&want, 0, want.from[0]);
    got = want;
    for (uint32_t i = 0; i < n_q; i++) got.q_at[i] = got.q + (size_t)i * d_k;
    run_all(&ref, &want);
    run_all(&tier_ops, &got);
    expect_same(want.m, got.m, n_q, "attention m", d_k);
    expect_same(want.l, got.l, n_q, "attention l", d_k);
    expect_same(want.o, got.o, (size_t)n_q * d_v, "attention o", d_v);
    expect_canaries(got.o + (size_t)n_q * d_v, PAD, "attention", d_v);
    for (uint32_t i = 0; kind == FILL_PLAIN && i < n_q * d_v; i++) assert_false(isnan(got.o[i]));
}

static void attention_of_tier(void) {
    static const uint32_t dims[] = {1, 8, 16, 24, 33, 48, 64, 80, 96, 100, 128, 160};
    for (uint32_t n_q = 1; n_q <= AT_Q; n_q++)
        for (uint32_t i = 0; i < sizeof dims / sizeof *dims; i++) {
            uint32_t last = n_q - 1 + (n_q * 31 + i * 17) % (AT_KEYS - n_q), d = dims[i], other = dims[(i + n_q) % 12];
            fill_kind kind = (n_q + i) % 7 ? FILL_PLAIN : (n_q + i) % 2 ? FILL_SPECIAL : FILL_WIDE;
            check_attention(n_q, d, other, last, 0, 0.0f, i % 3 ? 0.0f : 0.07f, kind);
            check_attention(n_q, other, d, last, 1 + (n_q * 5 + i * 11) % 90, i % 2 ? 20.0f : 0.0f, i % 4 ? 0.0f : 0.5f,
                            kind);
        }
}

/* Reading the cache as stored gives the bits of reading it converted, in the reference and in the tier. */
static void check_stored(uint32_t n_q, uint32_t d_k, uint32_t d_v, quant_type type_k, quant_type type_v) {
    static attn_case c;
    static float want[AT_Q * AT_D];
    make_case(&c, n_q, d_k, d_v, FILL_PLAIN);
    see(&c, n_q - 1 + (n_q * 31 + d_k) % (AT_KEYS - n_q), n_q % 3 ? 0 : 70);
    poison(&c, c.to[n_q - 1], AT_KEYS);
    poison(&c, 0, c.from[0]);
    store_case(&c, type_k, type_v);
    c.type_k = c.type_v = QUANT_F32;
    run_all(&ref, &c);
    memcpy(want, c.o, sizeof want);
    for (uint32_t i = 0; i < n_q * d_v; i++) assert_false(isnan(want[i]));
    c.type_k = type_k, c.type_v = type_v;
    run_all(&ref, &c);
    expect_same(want, c.o, (size_t)n_q * d_v, "reference from the cache", d_v);
    run_all(&tier_ops, &c);
    expect_same(want, c.o, (size_t)n_q * d_v, "attention from the cache", d_v);
}

static void stored_of_tier(void) {
    static const quant_type types[] = {QUANT_F32, QUANT_F16, QUANT_Q8_0, QUANT_BF16, QUANT_Q4_0};
    for (uint32_t n_q = 1; n_q <= 13; n_q += n_q < 7 ? 1 : 6)
        for (int k = 0; k < 5; k++)
            for (int v = 0; v < 5; v++)
                for (uint32_t d = 32; d <= AT_D; d += 32) {
                    uint32_t odd = d - 7;
                    check_stored(n_q, d, 192 - d, types[k], types[v]);
                    if (!kv_has_scales(types[k]) && !kv_has_scales(types[v]))
                        check_stored(n_q, odd, odd, types[k], types[v]);
                }
}

static void test_attention_from_cache(void **state) {
    (void)state;
    each_tier(stored_of_tier);
}

static void test_attention(void **state) {
    (void)state;
    each_tier(attention_of_tier);
}

/* Chunks computed apart and merged give the bits of chunks run one after the other. */
static void apart_of(const cpu_ops *o) {
    static attn_case c;
    static float m2[AT_Q], l2[AT_Q], o2[AT_Q * AT_D];
    for (uint32_t d_v = 40; d_v <= 128; d_v += 44) {
        make_case(&c, 7, 64, d_v, FILL_PLAIN);
        see(&c, AT_KEYS - 3, 0);
        run_all(o, &c);
        float m[AT_Q], l[AT_Q], out[AT_Q * AT_D];
        memcpy(m, c.m, sizeof m), memcpy(l, c.l, sizeof l), memcpy(out, c.o, sizeof out);
        empty_states(&c);
        for (uint32_t chunk = 0; chunk < AT_CHUNKS; chunk++) {
            memset(l2, 0, sizeof l2);
            run_chunk(o, &c, chunk, m2, l2, o2);
            for (uint32_t i = 0; i < c.n_q; i++)
                o->attn_merge(&c.m[i], &c.l[i], c.o + (size_t)i * d_v, &m2[i], &l2[i], o2 + (size_t)i * d_v, d_v);
        }
        expect_same(m, c.m, c.n_q, "merge m", d_v);
        expect_same(l, c.l, c.n_q, "merge l", d_v);
        expect_same(out, c.o, (size_t)c.n_q * d_v, "merge o", d_v);
        float none = 0.0f; /* an empty state on the right changes nothing */
        o->attn_merge(&c.m[0], &c.l[0], c.o, m2, &none, o2, d_v);
        expect_same(out, c.o, d_v, "merge with nothing", d_v);
    }
}

static void apart_of_tier(void) { apart_of(&tier_ops); }

static void test_attention_apart(void **state) {
    (void)state;
    cpu_ops_ref(&ref);
    tier_ops.name = "scalar";
    apart_of(&ref);
    each_tier(apart_of_tier);
}

static double exact_output(const attn_case *c, uint32_t q, uint32_t d) {
    double s[AT_KEYS], max = -1e300, sum = 0, out = 0;
    for (uint32_t j = c->from[q]; j < c->to[q]; j++) {
        s[j] = 0;
        for (uint32_t i = 0; i < c->d_k; i++)
            s[j] += (double)c->q_at[q][i] * c->k[((size_t)(j / 16) * c->d_k + i) * 16 + j % 16];
        s[j] *= c->scale;
        s[j] -= c->alibi * (q + 1) * fabs((double)query_at(c, q) - j);
        if (c->softcap > 0) s[j] = c->softcap * tanh(s[j] / c->softcap);
        if (s[j] > max) max = s[j];
    }
    for (uint32_t j = c->from[q]; j < c->to[q]; j++) {
        sum += exp(s[j] - max);
        out += exp(s[j] - max) * c->v[(size_t)j * c->d_v + d];
    }
    return out / sum;
}

static void test_attention_meaning(void **state) {
    (void)state;
    static attn_case c;
    cpu_ops_ref(&ref);
    for (int round = 0; round < 6; round++) {
        make_case(&c, 9, 64, 48, FILL_PLAIN);
        c.softcap = round & 1 ? 10.0f : 0.0f;
        if (round >= 4) c.softcap = 0.0f, c.alibi = round == 4 ? 0.02f : 0.3f;
        see(&c, 150, round & 2 ? 40 : 0);
        run_all(&ref, &c);
        for (uint32_t q = 0; q < c.n_q; q++)
            for (uint32_t d = 0; d < c.d_v; d++)
                assert_true(fabs(c.o[q * c.d_v + d] / c.l[q] - exact_output(&c, q, d)) < 5e-6);
    }
}

static void test_tier_names(void **state) {
    (void)state;
    cpu_tier t;
    for (cpu_tier i = 0; i < TIER_COUNT; i++) assert_true(cpu_tier_from_name(cpu_tier_name(i), &t) && t == i);
    assert_false(cpu_tier_from_name("avx", &t));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_functions_everywhere),
        cmocka_unit_test(test_accuracy_of_functions),
        cmocka_unit_test(test_edges_of_functions),
        cmocka_unit_test(test_accuracy_of_rows),
        cmocka_unit_test(test_rope),
        cmocka_unit_test(test_rope_table_plain),
        cmocka_unit_test(test_rope_table_yarn),
        cmocka_unit_test(test_quantize),
        cmocka_unit_test(test_quantize_meaning),
        cmocka_unit_test(test_linear_float),
        cmocka_unit_test(test_cache),
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_attention_from_cache),
        cmocka_unit_test(test_attention_apart),
        cmocka_unit_test(test_attention_meaning),
        cmocka_unit_test(test_tier_names),
    };
    return cmocka_run_group_tests_name("f32", tests, NULL, NULL);
}
