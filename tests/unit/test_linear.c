/* Quantised linear: every tier's panel kernels against the reference on the file's rows, bit for bit, on random bytes as
 * weights; panels read back against quant decode, bit for bit; the reference against doubles on decoded weights. */
#include "check.h"

#include "backend/cpu/cpu_ops.h"
#include "base/rng.h"

#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

static const quant_type types[] = {QUANT_Q4_0, QUANT_Q4_1, QUANT_Q5_0, QUANT_Q5_1, QUANT_Q8_0,
                                   QUANT_Q2_K, QUANT_Q3_K, QUANT_Q4_K, QUANT_Q5_K, QUANT_Q6_K};
enum { N_TYPES = sizeof types / sizeof *types, MAX_COL = 64, GUARD = 32 };

/* Where the f16 scales of a block are: d, then the minimum (or -1). */
static const int scale_at[N_TYPES][2] = {{0, -1},  {0, 2},    {0, -1}, {0, 2}, {0, -1},
                                         {80, 82}, {108, -1}, {0, 2},  {0, 2}, {208, -1}};

typedef enum { FILL_RANDOM, FILL_ONES, FILL_ZEROS, FILL_BITS_HIGH, FILL_COUNT } fill;

static uint64_t seed, at;
static uint32_t next(void) { return (uint32_t)(rng_u64(seed, at++) >> 16); }

typedef struct {
    quant_type type;
    uint32_t k, n_rows, n_tok;
    size_t stride;
    uint8_t *rows, *panel;
    size_t panel_bytes;
    cpu_act x;
} scene;

/* Memory that ends where a page without access begins: kernels are built without sanitizers, reading past it ends the
 * test all the same. Freed with guarded_free(p, n_bytes). */
static size_t page_room(size_t n_bytes) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (n_bytes + page - 1) / page * page;
}

static void *guarded(size_t n_bytes) {
    const size_t room = page_room(n_bytes), page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *p = mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(p != MAP_FAILED && mprotect(p + room, page, PROT_NONE) == 0);
    return p + room - n_bytes;
}

static void guarded_free(void *p, size_t n_bytes) {
    const size_t room = page_room(n_bytes);
    munmap((uint8_t *)p + n_bytes - room, room + (size_t)sysconf(_SC_PAGESIZE));
}

/* --- weights and activations ------------------------------------------------------------------------------------------- */

static uint16_t random_half(void) { /* finite, of everyday size, sometimes denormal or zero */
    const uint32_t r = next();
    if (r % 16 == 0) return (uint16_t)(r >> 8 & 0x83FF);
    return (uint16_t)((r & 0x83FF) | (uint32_t)(4 + (r >> 16) % 12) << 10);
}

static void set_scales(scene *s, int t, uint32_t row, int forced) {
    const quant_info *q = quant_lookup(s->type);
    for (uint32_t b = 0; b < s->k / q->block_elems; b++)
        for (int i = 0; i < 2; i++) {
            if (scale_at[t][i] < 0) continue;
            const uint16_t h = forced >= 0 ? (uint16_t)forced : random_half();
            memcpy(s->rows + row * s->stride + (size_t)b * q->block_bytes + scale_at[t][i], &h, 2);
        }
}

static uint8_t fill_byte(fill f) {
    if (f == FILL_ONES) return 0xFF;
    if (f == FILL_ZEROS) return 0;
    if (f == FILL_BITS_HIGH) return 0x80;
    return (uint8_t)next();
}

static int8_t fill_code(fill f, uint32_t col) {
    if (f == FILL_RANDOM) return (int8_t)((int)(next() % 255) - 127);
    if (col % 3 == 2) return next() & 1 ? 127 : -127;
    return col % 3 ? 127 : -127;
}

static void make_act(scene *s, fill f) {
    const uint32_t n_block = s->k / 32, per_scale = s->x.scale_block / 32;
    s->x.n_tok = s->n_tok;
    s->x.code = guarded((size_t)n_block * s->n_tok * 32);
    s->x.sum = guarded((size_t)n_block * s->n_tok * 4);
    s->x.scale = guarded((size_t)n_block / per_scale * s->n_tok * 4);
    for (size_t i = 0; i < (size_t)n_block * s->n_tok; i++) {
        int sum[2] = {0, 0};
        for (int j = 0; j < 32; j++) {
            s->x.code[32 * i + (size_t)j] = fill_code(f, (uint32_t)(i % s->n_tok));
            sum[j / 16] += s->x.code[32 * i + (size_t)j];
        }
        for (int j = 0; j < 2; j++) s->x.sum[2 * i + (size_t)j] = (int16_t)sum[j];
    }
    for (size_t i = 0; i < (size_t)n_block / per_scale * s->n_tok; i++)
        s->x.scale[i] = next() % 32 ? (float)(next() % 100000) * 1e-6f : 0.0f;
}

static void scene_open(scene *s, int t, uint32_t n_block, uint32_t n_rows, uint32_t n_tok, fill f) {
    const quant_info *q = quant_lookup(types[t]);
    *s = (scene){.type = types[t], .k = n_block * q->block_elems, .n_rows = n_rows, .n_tok = n_tok};
    s->stride = (size_t)n_block * q->block_bytes + next() % 3 * 2;
    s->rows = guarded(s->stride * n_rows);
    for (size_t i = 0; i < s->stride * n_rows; i++) s->rows[i] = fill_byte(f);
    for (uint32_t r = 0; r < n_rows; r++) set_scales(s, t, r, -1);
    s->x.scale_block = q->block_elems;
    make_act(s, f);
    s->panel_bytes = panel_bytes(s->type, s->k);
    assert_true(s->panel_bytes > 0);
    s->panel = guarded(s->panel_bytes);
}

static void scene_pack(scene *s) { panel_pack(s->panel, s->rows, s->stride, s->n_rows, s->type, s->k); }

static void scene_close(scene *s) {
    const size_t n = (size_t)s->k / 32 * s->n_tok;
    guarded_free(s->rows, s->stride * s->n_rows);
    guarded_free(s->panel, s->panel_bytes);
    guarded_free(s->x.code, n * 32);
    guarded_free(s->x.sum, n * 4);
    guarded_free(s->x.scale, n / (s->x.scale_block / 32) * 4);
}

/* --- comparison -------------------------------------------------------------------------------------------------------- */

static bool same(float a, float b) { return (isnan(a) && isnan(b)) || memcmp(&a, &b, 4) == 0; }

static void check_kernel(const scene *s, linear_panel_fn fn, const char *tier, uint32_t col0, uint32_t n_col) {
    float want[MAX_COL * 16], got[MAX_COL * 16 + GUARD];
    const uint32_t n = n_col * 16;
    for (uint32_t i = 0; i < n + GUARD; i++) got[i] = 12345.0f;
    linear_rows_ref(want, s->rows, s->stride, s->n_rows, s->type, s->k, &s->x, col0, n_col);
    fn(got, s->panel, s->k, &s->x, col0, n_col);
    for (uint32_t i = 0; i < n; i++)
        if (i % 16 < s->n_rows && !same(want[i], got[i]))
            fail_msg("%s %s k %u rows %u: row %u column %u of %u from %u: want %a, got %a", tier,
                     quant_lookup(s->type)->name, s->k, s->n_rows, i % 16, i / 16, n_col, col0, (double)want[i],
                     (double)got[i]);
    for (uint32_t i = n; i < n + GUARD; i++) assert_true(got[i] == 12345.0f);
}

static void check_scene(const scene *s, const cpu_ops *ops, int t, uint32_t col0, uint32_t n_col) {
    if (ops->linear_panel[types[t]]) check_kernel(s, ops->linear_panel[types[t]], ops->name, col0, n_col);
}

static void check_tier(const cpu_ops *ops) {
    for (int t = 0; t < N_TYPES; t++) {
        assert_non_null(ops->linear_panel[types[t]]);
        for (uint32_t n_col = 1; n_col <= MAX_COL; n_col++) { /* every number of columns, at some place in the batch */
            scene s;
            const uint32_t col0 = next() % 5;
            scene_open(&s, t, 1 + next() % 7, 1 + next() % 16, col0 + n_col + next() % 3, FILL_RANDOM);
            scene_pack(&s);
            check_scene(&s, ops, t, col0, n_col);
            scene_close(&s);
        }
        for (int f = 0; f < FILL_COUNT; f++) { /* the largest sums: nothing saturates */
            scene s;
            scene_open(&s, t, 3, 16, 20, (fill)f);
            for (uint32_t r = 0; r < 16; r++) set_scales(&s, t, r, 0x3C00);
            scene_pack(&s);
            for (uint32_t n_col = 1; n_col <= 19; n_col += 3) check_scene(&s, ops, t, 1, n_col);
            scene_close(&s);
        }
    }
}

/* Only what the tiers of this CPU add; the test of a tier that it lacks is skipped, by name. */
static void ops_of(cpu_ops *ops, cpu_tier tier) {
    *ops = (cpu_ops){.name = tier == TIER_AVX512 ? "avx512" : "avx2"};
    if (tier > cpu_tier_best()) return;
    if (tier == TIER_AVX512)
        cpu_ops_avx512_linear(ops);
    else
        cpu_ops_avx2_linear(ops);
}

static void test_avx2(void **state) {
    (void)state;
    cpu_ops ops;
    ops_of(&ops, TIER_AVX2);
    if (TIER_AVX2 > cpu_tier_best()) skip();
    check_tier(&ops);
}

static void test_avx512(void **state) {
    (void)state;
    cpu_ops ops;
    ops_of(&ops, TIER_AVX512);
    if (TIER_AVX512 > cpu_tier_best()) skip();
    check_tier(&ops);
}

/* A NaN or infinite scale spoils its row and no other. */
static void test_not_finite(void **state) {
    (void)state;
    static const int spoiled[] = {0x7E00, 0x7C00, 0xFC00, 0x7D01};
    cpu_ops tier[2];
    ops_of(&tier[0], TIER_AVX2);
    ops_of(&tier[1], TIER_AVX512);
    for (int t = 0; t < N_TYPES; t++)
        for (int i = 0; i < 4; i++) {
            scene s;
            float acc[16 * 7];
            scene_open(&s, t, 3, 16, 7, FILL_RANDOM);
            for (size_t j = 0; j < 7u * s.k / s.x.scale_block; j++) s.x.scale[j] = 0.5f;
            set_scales(&s, t, 5, spoiled[i]);
            scene_pack(&s);
            linear_rows_ref(acc, s.rows, s.stride, 16, s.type, s.k, &s.x, 0, 7);
            for (int j = 0; j < 16 * 7; j++) assert_true(isfinite(acc[j]) == (j % 16 != 5));
            for (int o = 0; o < 2; o++) check_scene(&s, &tier[o], t, 0, 7);
            scene_close(&s);
        }
}

/* --- panels and the reference itself ----------------------------------------------------------------------------------- */

static void test_panel_rows(void **state) {
    (void)state;
    for (int t = 0; t < N_TYPES; t++)
        for (int round = 0; round < 20; round++) {
            scene s;
            scene_open(&s, t, 1 + next() % 5, 1 + next() % 16, 1, (fill)(round % FILL_COUNT));
            scene_pack(&s);
            float *want = malloc(s.k * sizeof *want), *got = malloc(s.k * sizeof *got);
            for (uint32_t r = 0; r < 16; r++) {
                memset(want, 0, s.k * sizeof *want); /* rows past the last: zeros */
                if (r < s.n_rows) quant_lookup(s.type)->decode(want, s.rows + r * s.stride, s.k);
                panel_get_row(got, s.panel, r, s.type, s.k);
                for (uint32_t i = 0; i < s.k; i++)
                    if (r < s.n_rows ? !same(want[i], got[i]) : want[i] != got[i])
                        fail_msg("%s row %u k %u: want %a, got %a", quant_lookup(s.type)->name, r, i, (double)want[i],
                                 (double)got[i]);
            }
            free(want), free(got);
            scene_close(&s);
        }
}

/* The reference computes what decoded weights times decoded activations give, but for rounding. */
static void test_reference(void **state) {
    (void)state;
    for (int t = 0; t < N_TYPES; t++) {
        scene s;
        float acc[16 * 3];
        scene_open(&s, t, 4, 16, 3, FILL_RANDOM);
        float *w = malloc(s.k * sizeof *w);
        linear_rows_ref(acc, s.rows, s.stride, 16, s.type, s.k, &s.x, 0, 3);
        for (uint32_t r = 0; r < 16; r++) {
            quant_lookup(s.type)->decode(w, s.rows + r * s.stride, s.k);
            for (uint32_t c = 0; c < 3; c++) {
                double sum = 0, size = 0;
                for (uint32_t i = 0; i < s.k; i++) {
                    const double dx = (double)s.x.scale[i / s.x.scale_block * 3 + c];
                    const double v = (double)w[i] * dx * s.x.code[(i / 32 * 3 + c) * 32 + i % 32];
                    sum += v;
                    size += fabs(v);
                }
                assert_true(fabs(sum - (double)acc[c * 16 + r]) <= 1e-5 * size + 1e-12);
            }
        }
        free(w);
        scene_close(&s);
    }
}

static void test_no_panel(void **state) {
    (void)state;
    assert_int_equal(panel_bytes(QUANT_F32, 256), 0);
    assert_int_equal(panel_bytes(QUANT_Q4_0, 33), 0);
    assert_int_equal(panel_bytes(QUANT_Q6_K, 128), 0);
    assert_int_equal(panel_bytes((quant_type)1000, 256), 0);
    assert_int_equal(panel_bytes(QUANT_Q4_1, 64), 640);
}

int main(void) {
    seed = 20250101;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_panel),   cmocka_unit_test(test_panel_rows), cmocka_unit_test(test_reference),
        cmocka_unit_test(test_not_finite), cmocka_unit_test(test_avx2),       cmocka_unit_test(test_avx512),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
