#include "check.h"

#include "quant/quant.h"

#include <math.h>

#if defined(__x86_64__)
#include <immintrin.h>

__attribute__((target("f16c"))) static uint16_t f16c_encode(float f) {
    return (uint16_t)_mm_extract_epi16(_mm_cvtps_ph(_mm_set_ss(f), _MM_FROUND_TO_NEAREST_INT), 0);
}

__attribute__((target("f16c"))) static float f16c_decode(uint16_t h) {
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h)));
}

static void test_half_is_as_the_cpu_converts(void **state) {
    (void)state;
    if (!__builtin_cpu_supports("avx2"))
        skip(); /* every CPU with AVX2 has F16C, which not every compiler can ask for */
    for (uint32_t h = 0; h < 65536; h++) {
        const float a = f16_to_f32((uint16_t)h), b = f16c_decode((uint16_t)h);
        if (memcmp(&a, &b, sizeof a)) fail_msg("f16 %04x", h);
    }
    for (uint64_t bits = 0; bits < UINT64_C(1) << 32; bits += 977) {
        const uint32_t u = (uint32_t)bits;
        float f;
        memcpy(&f, &u, sizeof f);
        if (f32_to_f16(f) != f16c_encode(f)) fail_msg("f32 %08x", u);
    }
}
#else
static void test_half_is_as_the_cpu_converts(void **state) {
    (void)state;
    skip();
}
#endif

static void test_half_round_trip(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        const float f = f16_to_f32((uint16_t)h);
        if (isnan(f))
            assert_true((h & 0x7FFF) > 0x7C00 && (f32_to_f16(f) | 0x200) == (h | 0x200));
        else
            assert_int_equal(f32_to_f16(f), h);
    }
    assert_int_equal(f32_to_f16(65519.996f), 0x7BFF);
    assert_int_equal(f32_to_f16(65520.0f), 0x7C00);
    assert_int_equal(f32_to_f16(0x1p-25f), 0);
    assert_int_equal(f32_to_f16(-0x1.000002p-25f), 0x8001);
}

static void test_names(void **state) {
    (void)state;
    quant_type t;
    assert_true(quant_from_name("q4_k", &t) && t == QUANT_Q4_K);
    assert_true(quant_from_name("BF16", &t) && t == QUANT_BF16);
    assert_false(quant_from_name("q4", &t) || quant_from_name("", &t));
    assert_null(quant_lookup(4));
    assert_null(quant_lookup(QUANT_COUNT));
    assert_null(quant_lookup(UINT32_MAX));
    assert_null(quant_lookup(QUANT_IQ4_NL)->decode);
}

/* Decoders write n_elems floats and read whole blocks, no byte more. */
static void test_decode_stays_inside(void **state) {
    (void)state;
    for (uint32_t t = 0; t < QUANT_COUNT; t++) {
        const quant_info *q = quant_lookup(t);
        if (!q || !q->decode) continue;
        const size_t n_blocks = 3, n = n_blocks * q->block_elems;
        uint8_t *src = malloc(n_blocks * q->block_bytes); /* exact: ASan sees a read past it */
        float *dst = malloc((n + 1) * sizeof *dst);
        memset(src, 0, n_blocks * q->block_bytes);
        for (size_t i = 0; i <= n; i++) dst[i] = -77;
        q->decode(dst, src, 0);
        assert_true(dst[0] == -77);
        q->decode(dst, src, n);
        for (size_t i = 0; i < n; i++) assert_true(dst[i] == 0);
        assert_true(dst[n] == -77);
        free(src), free(dst);
    }
}

static void test_q8_0_round_trip(void **state) {
    (void)state;
    float x[64], y[64];
    uint8_t blocks[68];
    for (int i = 0; i < 64; i++) x[i] = (float)(i - 20) * 0.37f;
    quant_encode_q8_0(blocks, x, 64);
    quant_lookup(QUANT_Q8_0)->decode(y, blocks, 64);
    for (int i = 0; i < 64; i++) assert_true(fabsf(x[i] - y[i]) <= 43 * 0.37f / 127 * 0.51f);
    for (int i = 0; i < 32; i++) x[i] = 0x1p-140f; /* 1 / d overflows: zeros, not nonsense */
    quant_encode_q8_0(blocks, x, 32);
    for (int i = 0; i < 34; i++) assert_int_equal(blocks[i], 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_half_is_as_the_cpu_converts),
        cmocka_unit_test(test_half_round_trip),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_decode_stays_inside),
        cmocka_unit_test(test_q8_0_round_trip),
    };
    return cmocka_run_group_tests_name("quant", tests, NULL, NULL);
}
