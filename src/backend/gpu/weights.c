/* Repacking, a word at a time: bits that lie across bytes in the file are moved by masks and transpositions of small bit
 * matrices, so that a core packs several GB/s. quant/legacy.c and quant/k.c draw the file's blocks. Little-endian hosts. */
#include "backend/gpu/weights.h"

#include <string.h>

enum { BLOCK = 32, SUPER = 256 };

/* One row's place in each plane, moved on block by block. */
typedef struct {
    uint8_t *low, *high, *sub, *scale;
} cursor;

typedef struct {
    uint8_t low, high, sub, scale; /* bytes of a block (32 or 256 values) in each plane */
    void (*pack)(uint8_t *low, uint8_t *high, uint8_t *sub, uint8_t *scale, const uint8_t *src);
} form;

static uint32_t u32_at(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static uint64_t u64_at(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static void put_u32(uint8_t *p, uint32_t v) { memcpy(p, &v, sizeof v); }
static void put_u64(uint8_t *p, uint64_t v) { memcpy(p, &v, sizeof v); }

/* --- blocks of 32: the file's nibbles lie as the plane's ---------------------------------------------------------------- */

/* Bit 4 j + b of the file to bit 8 b + j: four bits become four bytes by one multiplication, whose bit i lands on 7 j + i;
 * the mask keeps j = i. */
static uint32_t fifth_bits(uint32_t bits) {
    uint32_t out = 0;
    for (int j = 0; j < 8; j++) out |= ((bits >> 4 * j & 15) * 0x00204081u & 0x01010101u) << j;
    return out;
}

static void pack_q4_0(uint8_t *low, uint8_t *high, uint8_t *sub, uint8_t *scale, const uint8_t *p) {
    (void)high, (void)sub;
    memcpy(scale, p, 2);
    memcpy(low, p + 2, 16);
}
static void pack_q4_1(uint8_t *low, uint8_t *high, uint8_t *sub, uint8_t *scale, const uint8_t *p) {
    (void)high, (void)sub;
    memcpy(scale, p, 4);
    memcpy(low, p + 4, 16);
}
static void pack_q5_0(uint8_t *low, uint8_t *high, uint8_t *sub, uint8_t *scale, const uint8_t *p) {
    (void)sub;
    memcpy(scale, p, 2);
    put_u32(high, fifth_bits(u32_at(p + 2)));
    memcpy(low, p + 6, 16);
}
static void pack_q5_1(uint8_t *low, uint8_t *high, uint8_t *sub, uint8_t *scale, const uint8_t *p) {
    (void)sub;
    memcpy(scale, p, 4);
    put_u32(high, fifth_bits(u32_at(p + 4)));
    memcpy(low, p + 8, 16);
}
static void pack_q8_0(uint8_t *low, uint8_t *high, uint8_t *sub, uint8_t *scale, const uint8_t *p) {
    (void)high, (void)sub;
    memcpy(scale, p, 2);
    memcpy(low, p + 2, 32);
}

/* --- super-blocks of 256 ------------------------------------------------------------------------------------------------ */

static const uint64_t LOW_NIBBLES = 0x0f0f0f0f0f0f0f0fu;

/* 32 bytes whose low halves are one block of 32 values and whose high halves are another. */
static void nibbles(uint8_t *low, uint8_t *high, const uint8_t *p) {
    for (int i = 0; i < 16; i += 8) {
        uint64_t a = u64_at(p + i), b = u64_at(p + i + 16);
        put_u64(low + i, (a & LOW_NIBBLES) | (b & LOW_NIBBLES) << 4);
        put_u64(high + i, (a >> 4 & LOW_NIBBLES) | (b & ~LOW_NIBBLES));
    }
}

/* Swaps, in every byte, the bits of *a under mask << shift with those of *b under mask. */
static void swap_bits(uint64_t *a, uint64_t *b, int shift, uint64_t mask) {
    uint64_t t = (*a >> shift ^ *b) & mask;
    *b ^= t;
    *a ^= t << shift;
}

/* One bit a value. The file: bit s of byte 4 j + b belongs to value 32 s + 4 j + b; the plane: bit j of byte 4 s + b. With
 * word j of the file as row j, in each of its four bytes an 8 x 8 matrix of bits is transposed. */
static void one_bit(uint8_t *dst, const uint8_t *p) {
    uint64_t w[4]; /* rows j and j + 1 of words: w[j / 2] */
    for (int i = 0; i < 4; i++) w[i] = u64_at(p + 8 * i);
    swap_bits(&w[0], &w[2], 4, 0x0f0f0f0f0f0f0f0fu);
    swap_bits(&w[1], &w[3], 4, 0x0f0f0f0f0f0f0f0fu);
    swap_bits(&w[0], &w[1], 2, 0x3333333333333333u);
    swap_bits(&w[2], &w[3], 2, 0x3333333333333333u);
    for (int i = 0; i < 4; i++) {
        uint64_t t = (w[i] >> 1 ^ w[i] >> 32) & 0x55555555u;
        put_u64(dst + 8 * i, w[i] ^ t << 1 ^ t << 32);
    }
}

/* Two bits a value. The file, for each 128 values: bits 2 j of byte 16 g + 4 i + b belong to value 32 j + 16 g + 4 i + b; the
 * plane: bits 2 i of byte 8 j + 4 g + b. Of the words of each g, four by four matrices of bit pairs are transposed. */
static void two_bits_128(uint8_t *dst, const uint8_t *p) {
    uint64_t w[4]; /* row i: word 0 of g 0, word 1 of g 1 */
    for (int i = 0; i < 4; i++) w[i] = u32_at(p + 4 * i) | (uint64_t)u32_at(p + 16 + 4 * i) << 32;
    swap_bits(&w[0], &w[2], 4, 0x0f0f0f0f0f0f0f0fu);
    swap_bits(&w[1], &w[3], 4, 0x0f0f0f0f0f0f0f0fu);
    swap_bits(&w[0], &w[1], 2, 0x3333333333333333u);
    swap_bits(&w[2], &w[3], 2, 0x3333333333333333u);
    for (int i = 0; i < 4; i++) put_u64(dst + 8 * i, w[i]);
}

static void two_bits(uint8_t *dst, const uint8_t *p) {
    two_bits_128(dst, p);
    two_bits_128(dst + 32, p + 32);
}

/* The 12 bytes of Q4_K and Q5_K: sc[8] mn[8], six bits each. */
static void scales_mins(uint8_t *dst, const uint8_t *p) {
    const uint32_t a = u32_at(p), b = u32_at(p + 4), c = u32_at(p + 8);
    put_u32(dst, a & 0x3f3f3f3fu);
    put_u32(dst + 4, (c & 0x0f0f0f0fu) | (a >> 6 & 0x03030303u) << 4);
    put_u32(dst + 8, b & 0x3f3f3f3fu);
    put_u32(dst + 12, (c >> 4 & 0x0f0f0f0fu) | (b >> 6 & 0x03030303u) << 4);
}

/* The 12 bytes of Q3_K: 16 scales of six bits, less 32: bit 5 turned over, then spread over bits 6 and 7. */
static void scales_q3(uint8_t *dst, const uint8_t *p) {
    for (int i = 0; i < 4; i++) {
        const uint32_t low = u32_at(p + i % 2 * 4) >> i / 2 * 4 & 0x0f0f0f0fu;
        const uint32_t x = (low | (u32_at(p + 8) >> 2 * i & 0x03030303u) << 4) ^ 0x20202020u;
        put_u32(dst + 4 * i, x | (x & 0x20202020u) * 6);
    }
}

static void pack_q2_k(uint8_t *low, uint8_t *high, uint8_t *sub, uint8_t *scale, const uint8_t *p) {
    (void)high;
    memcpy(sub, p, 16);
    two_bits(low, p + 16);
    memcpy(scale, p + 80, 4);
}
static void pack_q3_k(uint8_t *low, uint8_t *high, uint8_t *sub, uint8_t *scale, const uint8_t *p) {
    one_bit(high, p);
    two_bits(low, p + 32);
    scales_q3(sub, p + 96);
    memcpy(scale, p + 108, 2);
}
static void pack_q4_k(uint8_t *low, uint8_t *high, uint8_t *sub, uint8_t *scale, const uint8_t *p) {
    (void)high;
    memcpy(scale, p, 4);
    scales_mins(sub, p + 4);
    for (int c = 0; c < 4; c++) nibbles(low + 32 * c, low + 32 * c + 16, p + 16 + 32 * c);
}
static void pack_q5_k(uint8_t *low, uint8_t *high, uint8_t *sub, uint8_t *scale, const uint8_t *p) {
    memcpy(scale, p, 4);
    scales_mins(sub, p + 4);
    one_bit(high, p + 16);
    for (int c = 0; c < 4; c++) nibbles(low + 32 * c, low + 32 * c + 16, p + 48 + 32 * c);
}
/* Each 128 values have 64 bytes of nibbles: blocks 0 and 1 the low halves of bytes 0-31 and 32-63, blocks 2 and 3 the high. */
static void pack_q6_k(uint8_t *low, uint8_t *high, uint8_t *sub, uint8_t *scale, const uint8_t *p) {
    for (int h = 0; h < 4; h++) {
        uint8_t *to = low + h / 2 * 64 + h % 2 * 16;
        nibbles(to, to + 32, p + 32 * h);
    }
    two_bits(high, p + 128);
    memcpy(sub, p + 192, 16);
    memcpy(scale, p + 208, 2);
}

static const form forms[QUANT_COUNT] = {
    [QUANT_Q4_0] = {16, 0, 0, 2, pack_q4_0},    [QUANT_Q4_1] = {16, 0, 0, 4, pack_q4_1},
    [QUANT_Q5_0] = {16, 4, 0, 2, pack_q5_0},    [QUANT_Q5_1] = {16, 4, 0, 4, pack_q5_1},
    [QUANT_Q8_0] = {32, 0, 0, 2, pack_q8_0},    [QUANT_Q2_K] = {64, 0, 16, 4, pack_q2_k},
    [QUANT_Q3_K] = {64, 32, 16, 2, pack_q3_k},  [QUANT_Q4_K] = {128, 0, 16, 4, pack_q4_k},
    [QUANT_Q5_K] = {128, 32, 16, 4, pack_q5_k}, [QUANT_Q6_K] = {128, 64, 16, 2, pack_q6_k},
};

static bool is_float(quant_type t) { return t == QUANT_F32 || t == QUANT_F16 || t == QUANT_BF16; }

static uint64_t up_to(uint64_t n, uint64_t align) { return (n + align - 1) / align * align; }

bool gpu_weight_shape(gpu_weight_planes *out, quant_type type, uint64_t k) {
    const quant_info *q = quant_lookup((uint32_t)type);
    *out = (gpu_weight_planes){.type = type};
    if (!q || !(is_float(type) || forms[type].pack) || k == 0 || k % q->block_elems || k > 1u << 28) return false;
    const uint64_t n = k / q->block_elems;
    out->k = (uint32_t)k;
    out->row_bytes = (uint32_t)(n * q->block_bytes);
    const form *f = &forms[type];
    const uint64_t bytes[LINEAR_PLANES] = {is_float(type) ? out->row_bytes : n * f->low, n * f->high, n * f->sub,
                                           n * f->scale};
    for (int p = 0; p < LINEAR_PLANES; p++) out->stride[p] = (uint32_t)up_to(bytes[p], 16);
    return true;
}

bool gpu_weight_layout(const gpu_weight_planes *w, uint64_t n_rows, uint64_t at[LINEAR_PLANES], uint64_t *n_bytes) {
    uint64_t sum = 0;
    for (int p = 0; p < LINEAR_PLANES; p++) {
        at[p] = sum;
        if (w->stride[p] && n_rows > (UINT64_MAX - sum - GPU_PLANE_ALIGN) / w->stride[p]) return false;
        sum += up_to(n_rows * w->stride[p], GPU_PLANE_ALIGN);
    }
    *n_bytes = sum;
    return true;
}

static void clear_gap(uint8_t *row, size_t used, size_t stride) {
    if (used < stride) memset(row + used, 0, stride - used);
}

static void pack_row(const gpu_weight_planes *w, const form *f, cursor row, const uint8_t *src) {
    const quant_info *q = quant_lookup((uint32_t)w->type);
    const size_t n = w->k / q->block_elems;
    cursor at = row;
    for (size_t b = 0; b < n; b++, src += q->block_bytes) {
        f->pack(at.low, at.high, at.sub, at.scale, src);
        at.low += f->low, at.high += f->high, at.sub += f->sub, at.scale += f->scale;
    }
    clear_gap(row.low, n * f->low, w->stride[0]);
    clear_gap(row.high, n * f->high, w->stride[1]);
    clear_gap(row.sub, n * f->sub, w->stride[2]);
    clear_gap(row.scale, n * f->scale, w->stride[3]);
}

void gpu_weight_pack_rows(const gpu_weight_planes *w, uint8_t *const dst[LINEAR_PLANES], const void *src,
                          size_t n_rows) {
    const uint8_t *from = src;
    for (size_t r = 0; r < n_rows; r++, from += w->row_bytes) {
        uint8_t *low = dst[0] + r * w->stride[0];
        if (is_float(w->type)) {
            memcpy(low, from, w->row_bytes);
            clear_gap(low, w->row_bytes, w->stride[0]);
            continue;
        }
        /* a plane of stride 0 is never written: its blocks have no bytes, so its cursor stays where the others begin */
        cursor c = {low, low, low, low};
        if (w->stride[1]) c.high = dst[1] + r * w->stride[1];
        if (w->stride[2]) c.sub = dst[2] + r * w->stride[2];
        if (w->stride[3]) c.scale = dst[3] + r * w->stride[3];
        pack_row(w, &forms[w->type], c, from);
    }
}
