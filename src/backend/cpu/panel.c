/* Panels: 16 rows of a quantised weight, interleaved so that a kernel reads them strictly upwards, a lane a row. They are
 * the same for every tier.
 *
 * The unit is a vector of 64 bytes: 16 rows x 4 bytes, in a row's 4 bytes four consecutive k. The 32 codes of a row's
 * block are eight groups of four, g = k / 4 % 8; byte b of a group is k = 4 g + b. The codes of one block of 16 rows:
 *
 *   nibbles, 4 vectors    low halves of vector v: group v, high halves: group v + 4       (bits 4 5 6)
 *   twos, 2 vectors       bits 2j, 2j + 1 of the bytes of vector v: group 4 v + j         (bits 2 3: the low two, 6: 4, 5)
 *   ones, 1 vector        bit g of its bytes: group g                                     (bits 3 5: the highest)
 *   bytes, 8 vectors      vector g: group g                                               (bits 8)
 *
 * in this order, those that the type has. Scales stand before the codes they belong to (n: bytes of a block's codes):
 *
 *   Q4_0 288  Q5_0 352  Q8_0 544    | d f16[16] | codes n |
 *   Q4_1 320  Q5_1 384              | d f16[16] | m f16[16] | codes n |
 *   Q3_K 1824  Q6_K 3360            | d f16[16] | sc i8[16 sub][16] | 8 x codes n |
 *   Q2_K 1600                       | d f16[16] | dmin f16[16] | sc i8[16][16] | mn u8[8][16][2] | 8 x codes n |
 *   Q4_K 2368  Q5_K 2880            | d f16[16] | dmin f16[16] | sc i8[8][16] | mn u8[4][16][2] | 8 x codes n |
 *
 * Minima of neighbouring sub-blocks stand side by side, as multiply-add instructions on pairs want them. */
#include "backend/cpu/codes.h"
#include "backend/cpu/cpu_ops.h"

#include <string.h>

enum { VECTOR = 64, LANE = 4 /* bytes */, HALVES = 2 * PANEL_ROWS /* bytes of 16 f16 */ };

/* Bytes of the codes of one block of 32, 16 rows: 512 values of `bits`. */
static size_t codes_bytes(const code_form *f) { return (size_t)f->bits * VECTOR; }

static size_t header_bytes(const code_form *f) {
    const size_t halves = f->has_min ? 2 * HALVES : HALVES, sub = (size_t)f->n_sub * PANEL_ROWS;
    return halves + (f->has_min ? 2 * sub : sub);
}

static size_t block_bytes(const code_form *f) { return header_bytes(f) + (f->n_sub ? 8 : 1) * codes_bytes(f); }

size_t panel_bytes(quant_type type, uint32_t k) {
    const code_form *f = code_form_of(type);
    return f && k % code_block_elems(f) == 0 ? k / code_block_elems(f) * block_bytes(f) : 0;
}

/* --- packing ----------------------------------------------------------------------------------------------------------- */

/* All parts of one block's codes, w[group][row]; loops over rows are the compiler's to vectorise. */
static void put_vector(uint8_t *p, const uint32_t v[PANEL_ROWS]) { memcpy(p, v, VECTOR); }

static void put_nibbles(uint8_t *p, uint32_t (*w)[PANEL_ROWS]) {
    for (int i = 0; i < 4; i++) {
        uint32_t v[PANEL_ROWS];
        for (int r = 0; r < PANEL_ROWS; r++) v[r] = (w[i][r] & 0x0F0F0F0F) | (w[i + 4][r] & 0x0F0F0F0F) << 4;
        put_vector(p + VECTOR * i, v);
    }
}

static void put_twos(uint8_t *p, uint32_t (*w)[PANEL_ROWS], int at) {
    for (int i = 0; i < 8; i += 4) {
        uint32_t v[PANEL_ROWS];
        for (int r = 0; r < PANEL_ROWS; r++)
            v[r] = (w[i][r] >> at & 0x03030303) | (w[i + 1][r] >> at & 0x03030303) << 2 |
                   (w[i + 2][r] >> at & 0x03030303) << 4 | (w[i + 3][r] >> at & 0x03030303) << 6;
        put_vector(p + VECTOR * (i / 4), v);
    }
}

static void put_ones(uint8_t *p, uint32_t (*w)[PANEL_ROWS], int at) {
    uint32_t v[PANEL_ROWS] = {0};
    for (int g = 0; g < 8; g++)
        for (int r = 0; r < PANEL_ROWS; r++) v[r] |= (w[g][r] >> at & 0x01010101) << g;
    put_vector(p, v);
}

/* Block i of 32 codes of the 16 rows. */
static void put_codes(uint8_t *p, const code_block b[PANEL_ROWS], int i, int bits) {
    uint32_t w[8][PANEL_ROWS];
    for (int r = 0; r < PANEL_ROWS; r++)
        for (int g = 0; g < 8; g++) memcpy(&w[g][r], b[r].q + 32 * i + 4 * g, 4);
    if (bits == 8) {
        memcpy(p, w, sizeof w);
        return;
    }
    if (bits >= 4) {
        put_nibbles(p, w);
        p += 4 * VECTOR;
    }
    if (bits == 6) put_twos(p, w, 4);
    if (bits == 5) put_ones(p, w, 4);
    if (bits <= 3) put_twos(p, w, 0);
    if (bits == 3) put_ones(p + 2 * VECTOR, w, 2);
}

/* Q4_0 and Q4_1 pair their nibbles in the file as panels do: words go over as they are. The last 16 bytes of a block. */
static void copy_nibbles(uint8_t *p, const uint8_t *rows, size_t row_stride, uint32_t n_rows, const code_form *f) {
    for (uint32_t r = 0; r < n_rows; r++, rows += row_stride) {
        memcpy(p + 2 * r, rows, 2);
        if (f->has_min) memcpy(p + HALVES + 2 * r, rows + 2, 2);
        for (int v = 0; v < 4; v++)
            memcpy(p + header_bytes(f) + VECTOR * v + LANE * r, rows + f->bytes - 16 + 4 * v, 4);
    }
}

static void put_blocks(uint8_t *p, const code_form *f, const code_block b[PANEL_ROWS]) {
    for (int r = 0; r < PANEL_ROWS; r++) {
        memcpy(p + 2 * r, &b[r].d, 2);
        if (f->has_min) memcpy(p + HALVES + 2 * r, &b[r].m, 2);
    }
    uint8_t *sc = p + (f->has_min ? 2 * HALVES : HALVES), *mn = sc + f->n_sub * PANEL_ROWS;
    for (int s = 0; s < f->n_sub; s++)
        for (int r = 0; r < PANEL_ROWS; r++) {
            sc[s * PANEL_ROWS + r] = (uint8_t)b[r].sc[s];
            if (f->has_min) mn[(s / 2 * PANEL_ROWS + r) * 2 + s % 2] = b[r].mn[s];
        }
    p += header_bytes(f);
    for (int i = 0; i < (f->n_sub ? 8 : 1); i++) put_codes(p + codes_bytes(f) * (size_t)i, b, i, f->bits);
}

void panel_pack(uint8_t *dst, const void *rows, size_t row_stride, uint32_t n_rows, quant_type type, uint32_t k) {
    const code_form *f = code_form_of(type);
    const uint32_t n_block = k / code_block_elems(f);
    const bool copied = f->bits == 4 && !f->n_sub;
    code_block b[PANEL_ROWS];
    if (!copied)
        memset(b, 0, sizeof b);
    else if (n_rows < PANEL_ROWS)
        memset(dst, 0, panel_bytes(type, k));
    for (uint32_t at = 0; at < n_block; at++, dst += block_bytes(f)) {
        const uint8_t *src = (const uint8_t *)rows + (size_t)at * f->bytes;
        if (copied) {
            copy_nibbles(dst, src, row_stride, n_rows, f);
            continue;
        }
        for (uint32_t r = 0; r < n_rows; r++, src += row_stride) f->read(&b[r], src);
        put_blocks(dst, f, b);
    }
}

/* --- reading back ------------------------------------------------------------------------------------------------------ */

static float half_at(const uint8_t *p, uint32_t row) {
    uint16_t h;
    memcpy(&h, p + 2 * row, 2);
    return f16_to_f32(h);
}

/* Code i of 32; p: the row's lane in the block's first vector. */
static int get_code(const uint8_t *p, int i, int bits) {
    const int g = i / 4;
    p += i % 4;
    if (bits == 8) return p[VECTOR * g];
    int q = 0;
    if (bits >= 4) {
        q = p[VECTOR * (g % 4)] >> g / 4 * 4 & 15;
        p += 4 * VECTOR;
    }
    if (bits == 6) q |= (p[VECTOR * (g / 4)] >> g % 4 * 2 & 3) << 4;
    if (bits == 5) q |= (*p >> g & 1) << 4;
    if (bits <= 3) q = p[VECTOR * (g / 4)] >> g % 4 * 2 & 3;
    if (bits == 3) q |= (p[2 * VECTOR] >> g & 1) << 2;
    return q;
}

static void get_block_32(float *dst, const uint8_t *p, uint32_t row, const code_form *f) {
    const float d = half_at(p, row), m = f->has_min ? half_at(p + HALVES, row) : 0.0f;
    const uint8_t *lane = p + header_bytes(f) + LANE * row;
    for (int i = 0; i < CODE_BLOCK; i++) {
        const float v = (float)(get_code(lane, i, f->bits) - f->zero) * d;
        dst[i] = f->has_min ? v + m : v;
    }
}

static void get_super_block(float *dst, const uint8_t *p, uint32_t row, const code_form *f) {
    const float d = half_at(p, row), dmin = f->has_min ? half_at(p + HALVES, row) : 0.0f;
    const uint8_t *sc = p + (f->has_min ? 2 * HALVES : HALVES), *mn = sc + f->n_sub * PANEL_ROWS;
    const uint8_t *codes = p + header_bytes(f) + LANE * row;
    for (int i = 0; i < CODE_SUPER; i++) {
        const int s = i * f->n_sub / CODE_SUPER;
        const float scale = d * (float)(int8_t)sc[s * PANEL_ROWS + row];
        const float v = scale * (float)(get_code(codes + codes_bytes(f) * (i / 32), i % 32, f->bits) - f->zero);
        dst[i] = f->has_min ? v - dmin * (float)mn[(s / 2 * PANEL_ROWS + row) * 2 + s % 2] : v;
    }
}

void panel_get_row(float *dst, const uint8_t *panel, uint32_t row, quant_type type, uint32_t k) {
    const code_form *f = code_form_of(type);
    const uint32_t elems = code_block_elems(f), n_block = k / elems;
    for (uint32_t at = 0; at < n_block; at++, dst += elems, panel += block_bytes(f))
        (f->n_sub ? get_super_block : get_block_32)(dst, panel, row, f);
}
