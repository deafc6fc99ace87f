/* Weights in the GPU's planes: what the layout drawing says of a code's place (kernels/args_linear.h), read back one value at
 * a time, is what the reference reads from the file's block, for random blocks of every type. */
#include "check.h"

#include "backend/cpu/codes.h"
#include "backend/gpu/weights.h"
#include "base/clock.h"
#include "base/rng.h"

static const quant_type quantised[] = {QUANT_Q4_0, QUANT_Q4_1, QUANT_Q5_0, QUANT_Q5_1, QUANT_Q8_0,
                                       QUANT_Q2_K, QUANT_Q3_K, QUANT_Q4_K, QUANT_Q5_K, QUANT_Q6_K};
static const quant_type floats[] = {QUANT_F32, QUANT_F16, QUANT_BF16};
enum { N_QUANTISED = sizeof quantised / sizeof *quantised, CANARY = 0xA5, GUARD = 64 };

static uint64_t seed, at;
static uint8_t next(void) { return (uint8_t)(rng_u64(seed, at++) >> 24); }

typedef struct {
    gpu_weight_planes w;
    uint32_t n_rows;
    uint8_t *src, *plane[LINEAR_PLANES];
} scene;

static void scene_open(scene *s, quant_type type, uint64_t k, uint32_t n_rows) {
    assert_true(gpu_weight_shape(&s->w, type, k));
    s->n_rows = n_rows;
    const size_t n = (size_t)s->w.row_bytes * n_rows;
    s->src = malloc(n + 1);
    for (size_t i = 0; i < n; i++) s->src[i] = next();
    for (int p = 0; p < LINEAR_PLANES; p++) {
        const size_t bytes = (size_t)s->w.stride[p] * n_rows;
        s->plane[p] = malloc(bytes + GUARD);
        memset(s->plane[p], CANARY, bytes + GUARD);
    }
    gpu_weight_pack_rows(&s->w, s->plane, s->src, n_rows);
    for (int p = 0; p < LINEAR_PLANES; p++)
        for (size_t i = 0; i < GUARD; i++) assert_int_equal(s->plane[p][(size_t)s->w.stride[p] * n_rows + i], CANARY);
}

static void scene_close(scene *s) {
    free(s->src);
    for (int p = 0; p < LINEAR_PLANES; p++) free(s->plane[p]);
}

static const uint8_t *row_of(const scene *s, int plane, uint32_t r) {
    return s->plane[plane] + (size_t)r * s->w.stride[plane];
}

static uint32_t word_at(const uint8_t *p, size_t i) {
    uint32_t v;
    memcpy(&v, p + 4 * i, 4);
    return v;
}

/* Two bits of value v of a row. */
static uint32_t pair_of(const uint8_t *row, uint32_t v) {
    const uint32_t j = v % 16 / 4, b = v % 4;
    return word_at(row, v / 16) >> (8 * b + 2 * j) & 3;
}

static uint32_t nibble_of(const uint8_t *row, uint32_t v) {
    const uint32_t i = v % 32, j = i % 16 / 4, b = i % 4;
    return word_at(row + v / 32 * 16, j) >> (8 * b + (i >= 16 ? 4 : 0)) & 15;
}

static uint32_t bit_of(const uint8_t *row, uint32_t v) {
    const uint32_t j = v % 32 / 4, b = v % 4;
    return word_at(row, v / 32) >> (8 * b + j) & 1;
}

static uint32_t code_of(const scene *s, uint32_t r, uint32_t v) {
    const uint8_t *low = row_of(s, 0, r), *high = row_of(s, 1, r);
    switch (s->w.type) {
    case QUANT_Q8_0: return low[v] ^ 128u; /* the reference's q is moved by 128 */
    case QUANT_Q2_K: return pair_of(low, v);
    case QUANT_Q3_K: return pair_of(low, v) | bit_of(high, v) << 2;
    case QUANT_Q5_0:
    case QUANT_Q5_1:
    case QUANT_Q5_K: return nibble_of(low, v) | bit_of(high, v) << 4;
    case QUANT_Q6_K: return nibble_of(low, v) | pair_of(high, v) << 4;
    default: return nibble_of(low, v);
    }
}

static void check_scales(const scene *s, const code_form *f, const code_block *b, uint32_t r, uint32_t block) {
    const uint32_t n = f->has_min ? 4 : 2;
    assert_memory_equal(row_of(s, 3, r) + (size_t)block * n, &b->d, 2);
    if (f->has_min) assert_memory_equal(row_of(s, 3, r) + (size_t)block * n + 2, &b->m, 2);
    const uint8_t *sub = row_of(s, 2, r) + (size_t)block * 16;
    for (int i = 0; i < f->n_sub; i++) {
        if (s->w.type == QUANT_Q2_K) {
            assert_int_equal(sub[i], b->sc[i] | b->mn[i] << 4);
            continue;
        }
        assert_int_equal((int8_t)sub[i], b->sc[i]);
        if (f->has_min) assert_int_equal(sub[8 + i], b->mn[i]);
    }
}

static void check_row(const scene *s, uint32_t r) {
    const code_form *f = code_form_of(s->w.type);
    const uint32_t elems = code_block_elems(f);
    for (uint32_t block = 0; block < s->w.k / elems; block++) {
        code_block b;
        f->read(&b, s->src + (size_t)r * s->w.row_bytes + (size_t)block * f->bytes);
        for (uint32_t i = 0; i < elems; i++)
            if (code_of(s, r, block * elems + i) != b.q[i])
                fail_msg("%s row %u value %u: want %u, got %u", quant_lookup(s->w.type)->name, r, block * elems + i,
                         b.q[i], code_of(s, r, block * elems + i));
        check_scales(s, f, &b, r, block);
    }
}

static void test_quantised(void **state) {
    (void)state;
    for (int t = 0; t < N_QUANTISED; t++)
        for (uint32_t n_block = 1; n_block < 10; n_block++) {
            scene s;
            scene_open(&s, quantised[t], n_block * quant_lookup(quantised[t])->block_elems, n_block % 4 + 1);
            for (uint32_t r = 0; r < s.n_rows; r++) check_row(&s, r);
            scene_close(&s);
        }
}

static void test_floats(void **state) {
    (void)state;
    for (int t = 0; t < 3; t++)
        for (uint32_t k = 1; k < 40; k++) {
            scene s;
            scene_open(&s, floats[t], k, 3);
            for (uint32_t r = 0; r < s.n_rows; r++) {
                const uint8_t *row = row_of(&s, 0, r);
                assert_memory_equal(row, s.src + (size_t)r * s.w.row_bytes, s.w.row_bytes);
                for (uint32_t i = s.w.row_bytes; i < s.w.stride[0]; i++) assert_int_equal(row[i], 0);
            }
            scene_close(&s);
        }
}

static void test_shapes(void **state) {
    (void)state;
    gpu_weight_planes w;
    uint64_t place[LINEAR_PLANES], n;
    assert_false(gpu_weight_shape(&w, QUANT_IQ4_NL, 256));
    assert_false(gpu_weight_shape(&w, (quant_type)1000, 256));
    assert_false(gpu_weight_shape(&w, QUANT_Q4_K, 128));
    assert_false(gpu_weight_shape(&w, QUANT_Q4_0, 0));
    assert_false(gpu_weight_shape(&w, QUANT_F32, UINT64_C(1) << 40));
    assert_true(gpu_weight_shape(&w, QUANT_Q6_K, 512));
    assert_int_equal(w.stride[0], 256);
    assert_int_equal(w.stride[1], 128);
    assert_int_equal(w.stride[2], 32);
    assert_int_equal(w.stride[3], 16);
    assert_true(gpu_weight_layout(&w, 3, place, &n));
    assert_int_equal(place[1], 768);
    assert_int_equal(place[2], 768 + 512);
    assert_int_equal(place[3], 768 + 512 + 256);
    assert_int_equal(n, 768 + 512 + 256 + 256);
    assert_false(gpu_weight_layout(&w, UINT64_MAX / 256, place, &n));
}

/* How fast one core packs, printed: loading waits for it. */
static void test_speed(void **state) {
    (void)state;
    for (int t = 0; t < N_QUANTISED; t++) {
        scene s;
        scene_open(&s, quantised[t], 4096, 256);
        int64_t best = INT64_MAX;
        for (int i = 0; i < 8; i++) {
            const int64_t from = clock_us();
            gpu_weight_pack_rows(&s.w, s.plane, s.src, s.n_rows);
            const int64_t us = clock_us() - from + 1;
            best = us < best ? us : best;
        }
        print_message("%s %.1f GB/s\n", quant_lookup(s.w.type)->name,
                      (double)s.w.row_bytes * s.n_rows / (double)best * 1e-3);
        scene_close(&s);
    }
}

int main(void) {
    seed = 20261121;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_quantised),
        cmocka_unit_test(test_floats),
        cmocka_unit_test(test_speed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
