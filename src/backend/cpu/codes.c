/* The file's blocks as codes. quant/legacy.c and quant/k.c draw the formats. */
#include "backend/cpu/codes.h"

#include <string.h>

static uint16_t u16_at(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }

/* --- blocks of 32 ------------------------------------------------------------------------------------------------------ */

static void nibbles(uint8_t *q, const uint8_t *p) {
    for (int i = 0; i < 16; i++) {
        q[i] = p[i] & 15;
        q[i + 16] = p[i] >> 4;
    }
}

/* Bit i of the 32 belongs to value i. Four bits become four bytes by one multiplication: bit i lands on 7 j + i, the mask
 * keeps j = i. */
static void fifth_bits(uint8_t *q, const uint8_t *p) {
    for (int i = 0; i < 8; i++) {
        const uint32_t four = p[i / 2] >> i % 2 * 4 & 15, spread = four * 0x00204081u & 0x01010101;
        uint32_t w;
        memcpy(&w, q + 4 * i, 4);
        w |= spread << 4;
        memcpy(q + 4 * i, &w, 4);
    }
}

static void read_q4_0(code_block *b, const uint8_t *p) {
    b->d = u16_at(p);
    b->m = 0;
    nibbles(b->q, p + 2);
}

static void read_q4_1(code_block *b, const uint8_t *p) {
    b->d = u16_at(p);
    b->m = u16_at(p + 2);
    nibbles(b->q, p + 4);
}

static void read_q5_0(code_block *b, const uint8_t *p) {
    b->d = u16_at(p);
    b->m = 0;
    nibbles(b->q, p + 6);
    fifth_bits(b->q, p + 2);
}

static void read_q5_1(code_block *b, const uint8_t *p) {
    b->d = u16_at(p);
    b->m = u16_at(p + 2);
    nibbles(b->q, p + 8);
    fifth_bits(b->q, p + 4);
}

static void read_q8_0(code_block *b, const uint8_t *p) {
    b->d = u16_at(p);
    b->m = 0;
    for (int i = 0; i < 32; i++) b->q[i] = p[2 + i] ^ 128; /* q + 128 */
}

/* --- super-blocks of 256 ----------------------------------------------------------------------------------------------- */

/* q[0..32) |= (p[0..32) >> from & mask) << to, byte by byte, as words: `mask` is the byte four times. */
static void merge_32(uint8_t *q, const uint8_t *p, int from, uint32_t mask, int to) {
    uint32_t in[8], out[8];
    memcpy(in, p, sizeof in);
    memcpy(out, q, sizeof out);
    for (int i = 0; i < 8; i++) out[i] |= (in[i] >> from & mask) << to;
    memcpy(q, out, sizeof out);
}

/* 2-bit values: value 32 j + l of each half of 128 is bits 2j of byte l of the half's 32. `at`: where the bits go in q. */
static void two_bits(uint8_t *q, const uint8_t *p, int at) {
    for (int j = 0; j < 8; j++) merge_32(q + 32 * j, p + j / 4 * 32, j % 4 * 2, 0x03030303, at);
}

/* One bit a value: value 32 s + l is bit s of byte l. */
static void one_bit(uint8_t *q, const uint8_t *p, int at) {
    for (int s = 0; s < 8; s++) merge_32(q + 32 * s, p, s, 0x01010101, at);
}

/* The six-bit scales and minima of Q4_K and Q5_K in 12 bytes: see quant/k.c. */
static void scales_mins(code_block *b, const uint8_t *p) {
    for (int s = 0; s < 4; s++) {
        b->sc[s] = (int8_t)(p[s] & 63);
        b->mn[s] = p[s + 4] & 63;
        b->sc[s + 4] = (int8_t)((p[s + 8] & 15) | p[s] >> 6 << 4);
        b->mn[s + 4] = (uint8_t)(p[s + 8] >> 4 | p[s + 4] >> 6 << 4);
    }
}

/* Each 64 values have 32 bytes: the first 32 in the low halves, the next in the high ones. */
static void nibbles_64(uint8_t *q, const uint8_t *p) {
    for (int c = 0; c < 4; c++)
        for (int l = 0; l < 32; l++) {
            q[64 * c + l] = p[32 * c + l] & 15;
            q[64 * c + 32 + l] = p[32 * c + l] >> 4;
        }
}

static void read_q2_k(code_block *b, const uint8_t *p) {
    b->d = u16_at(p + 80);
    b->m = u16_at(p + 82);
    for (int s = 0; s < 16; s++) {
        b->sc[s] = (int8_t)(p[s] & 15);
        b->mn[s] = p[s] >> 4;
    }
    memset(b->q, 0, CODE_SUPER);
    two_bits(b->q, p + 16, 0);
}

static void read_q3_k(code_block *b, const uint8_t *p) {
    b->d = u16_at(p + 108);
    b->m = 0;
    for (int s = 0; s < 16; s++) {
        const int low = s < 8 ? p[96 + s] & 15 : p[88 + s] >> 4;
        b->sc[s] = (int8_t)((low | (p[104 + s % 4] >> s / 4 * 2 & 3) << 4) - 32);
    }
    memset(b->q, 0, CODE_SUPER);
    two_bits(b->q, p + 32, 0);
    one_bit(b->q, p, 2); /* clear: 4 less, which is zero = 4 with the bit as the third */
}

static void read_q4_k(code_block *b, const uint8_t *p) {
    b->d = u16_at(p);
    b->m = u16_at(p + 2);
    scales_mins(b, p + 4);
    nibbles_64(b->q, p + 16);
}

static void read_q5_k(code_block *b, const uint8_t *p) {
    b->d = u16_at(p);
    b->m = u16_at(p + 2);
    scales_mins(b, p + 4);
    nibbles_64(b->q, p + 48);
    one_bit(b->q, p + 16, 4);
}

/* Each half (128 values) has 64 bytes of nibbles: values 0-63 the low halves, 64-127 the high ones. */
static void read_q6_k(code_block *b, const uint8_t *p) {
    b->d = u16_at(p + 208);
    b->m = 0;
    for (int s = 0; s < 16; s++) b->sc[s] = (int8_t)p[192 + s];
    for (int h = 0; h < 2; h++)
        for (int l = 0; l < 64; l++) {
            b->q[128 * h + l] = p[64 * h + l] & 15;
            b->q[128 * h + 64 + l] = p[64 * h + l] >> 4;
        }
    two_bits(b->q, p + 128, 4);
}

static const code_form forms[QUANT_COUNT] = {
    [QUANT_Q4_0] = {4, 8, 0, false, 18, read_q4_0},   [QUANT_Q4_1] = {4, 0, 0, true, 20, read_q4_1},
    [QUANT_Q5_0] = {5, 16, 0, false, 22, read_q5_0},  [QUANT_Q5_1] = {5, 0, 0, true, 24, read_q5_1},
    [QUANT_Q8_0] = {8, 128, 0, false, 34, read_q8_0}, [QUANT_Q2_K] = {2, 0, 16, true, 84, read_q2_k},
    [QUANT_Q3_K] = {3, 4, 16, false, 110, read_q3_k}, [QUANT_Q4_K] = {4, 0, 8, true, 144, read_q4_k},
    [QUANT_Q5_K] = {5, 0, 8, true, 176, read_q5_k},   [QUANT_Q6_K] = {6, 32, 16, false, 210, read_q6_k},
};

const code_form *code_form_of(quant_type type) {
    return (unsigned)type < QUANT_COUNT && forms[type].read ? &forms[type] : NULL;
}
