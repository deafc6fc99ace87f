/* Integer matrix tiles: 16 weight rows by 16 columns, signed bytes in, exact 32-bit sums out, one tile a wave. What a target
 * has for it: WMMA (gfx11, gfx12), MFMA (gfx908, gfx90a, gfx942, gfx950), mma.sync (NVIDIA, sm_80 and above), else dot4; the
 * host's interpreter multiplies in plain C. Every lane of the wave calls, at the same place.
 *
 * Operands lie in shared memory as rows of bytes, a weight row or a column a row, in one of two pitches:
 *   CODES   128 bytes a row, 16-byte chunk c of row r at place c ^ (r & 7), so that neither rows nor chunks meet in a bank
 *   SMALL   16 bytes a row
 * lane: of the wave. tile_load_*<pitch>(lane, lds, row0, chunk) takes 32 values, two chunks from `chunk` (even), of the sixteen rows from row0 (a
 * multiple of 16); of SMALL there is one chunk, and only half 0 of the operand is good.
 *   tile_mma           all 32 values
 *   tile_mma_half<h>   16 of them: chunk h of the two
 * A lane holds TILE_W x TILE_X of the tile's sums: v[w * TILE_X + x] belongs to row tile_row(lane, w) and column tile_col(lane, x).
 *
 * Which lane holds what: AMD's "RDNA3" and "RDNA4" ISA guides, WMMA (gfx11: both halves of a wave hold an operand's 16 rows;
 * sums: register i of lane l is matrix row 2i + l / 16, gfx12 i + 8 (l / 16), matrix column l % 16), "CDNA3" ISA guide, MFMA
 * (16x16: lane l holds row l % 16, k from 4 or 8 (l / 16) on; sums: register i of lane l is row 4 (l / 16) + i, column l % 16);
 * PTX ISA, mma.m16n8k32. Weights are the side of the tile that a lane holds fewer rows of: they have scales of sub-blocks. */
#ifndef ROCMFORGE_BACKEND_GPU_KERNELS_TILE_H
#define ROCMFORGE_BACKEND_GPU_KERNELS_TILE_H

#include "target.h"

#if defined(GPU_HOST)
#define TILE_PLAIN
#elif defined(__NVPTX__)
#define TILE_MMA_SYNC
#elif defined(__GFX11__)
#define TILE_WMMA_11
#elif defined(__GFX12__)
#define TILE_WMMA_12
#elif defined(__gfx942__) || defined(__gfx950__)
#define TILE_MFMA_32
#elif defined(__gfx908__) || defined(__gfx90a__)
#define TILE_MFMA_16
#else
#define TILE_PLAIN
#endif

enum tile_pitch { TILE_CODES, TILE_SMALL };
enum { TILE = 16, TILE_CHUNKS = 8 };

/* The value, as if it were not known: what is made from it in a loop is made there, not kept in registers all along. */
DEVICE uint32_t made_here(uint32_t v) {
#if defined(__AMDGCN__)
    asm volatile("" : "+v"(v));
#elif !defined(GPU_HOST)
    asm volatile("" : "+r"(v));
#endif
    return v;
}

/* Index of a row's 16-byte chunk. */
template <int PITCH> DEVICE uint32_t tile_at(uint32_t row, uint32_t chunk) {
    return PITCH == TILE_CODES ? row * TILE_CHUNKS + (chunk ^ (row & 7)) : row;
}

/* The chunk's first bytes for this lane, and how many chunks there are in reach of a load. */
template <int PITCH> DEVICE uint32_t tile_limit(uint32_t chunk) { return PITCH == TILE_CODES ? chunk : 0; }

#if defined(TILE_WMMA_11)

enum { TILE_W = 1, TILE_X = 8 };
typedef int32_t tile_words __attribute__((ext_vector_type(4)));
typedef int32_t tile_regs __attribute__((ext_vector_type(8)));
struct tile_w {
    tile_words half[2];
};
typedef tile_w tile_x;

/* Columns are handed out so that a lane's eight sums are of neighbours: matrix row 2i + h is column i + 8h. */
DEVICE uint32_t tile_row(uint32_t lane, uint32_t) { return lane & 15; }
DEVICE uint32_t tile_col(uint32_t lane, uint32_t x) { return (lane >> 4 << 3) + x; }

template <int PITCH> DEVICE tile_w tile_load_from(const word4 *lds, uint32_t row, uint32_t chunk) {
    tile_w t;
    t.half[0] = __builtin_bit_cast(tile_words, lds[tile_at<PITCH>(row, chunk)]);
    t.half[1] = __builtin_bit_cast(tile_words, lds[tile_at<PITCH>(row, tile_limit<PITCH>(chunk + 1))]);
    return t;
}
template <int PITCH> DEVICE tile_w tile_load_w(uint32_t lane, const word4 *lds, uint32_t row0, uint32_t chunk) {
    return tile_load_from<PITCH>(lds, row0 + tile_row(lane, 0), chunk);
}
template <int PITCH> DEVICE tile_x tile_load_x(uint32_t lane, const word4 *lds, uint32_t row0, uint32_t chunk) {
    const uint32_t m = lane & 15;
    return tile_load_from<PITCH>(lds, row0 + (m & 1) * 8 + (m >> 1), chunk);
}
template <int HALF> DEVICE tile_regs tile_mma_half_of(tile_regs c, const tile_w &w, const tile_x &x) {
    return __builtin_amdgcn_wmma_i32_16x16x16_iu8_w32(true, x.half[HALF], true, w.half[HALF], c, false);
}
DEVICE tile_regs tile_mma_of(tile_regs c, const tile_w &w, const tile_x &x) {
    return tile_mma_half_of<1>(tile_mma_half_of<0>(c, w, x), w, x);
}

#elif defined(TILE_WMMA_12)

enum { TILE_W = 1, TILE_X = 8 };
typedef int32_t tile_words __attribute__((ext_vector_type(2)));
typedef int32_t tile_regs __attribute__((ext_vector_type(8)));
struct tile_w {
    tile_words half[2];
};
typedef tile_w tile_x;

DEVICE uint32_t tile_row(uint32_t lane, uint32_t) { return lane & 15; }
DEVICE uint32_t tile_col(uint32_t lane, uint32_t x) { return (lane >> 4 << 3) + x; }

template <int PITCH> DEVICE tile_w tile_load_w(uint32_t lane, const word4 *lds, uint32_t row0, uint32_t chunk) {
    const uint32_t row = row0 + tile_row(lane, 0), part = lane >> 4;
    const tile_words *at = (const tile_words *)lds;
    tile_w t;
    t.half[0] = at[tile_at<PITCH>(row, chunk) * 2 + part];
    t.half[1] = at[tile_at<PITCH>(row, tile_limit<PITCH>(chunk + 1)) * 2 + part];
    return t;
}
template <int PITCH> DEVICE tile_x tile_load_x(uint32_t lane, const word4 *lds, uint32_t row0, uint32_t chunk) {
    return tile_load_w<PITCH>(lane, lds, row0, chunk);
}
template <int HALF> DEVICE tile_regs tile_mma_half_of(tile_regs c, const tile_w &w, const tile_x &x) {
    return __builtin_amdgcn_wmma_i32_16x16x16_iu8_w32_gfx12(true, x.half[HALF], true, w.half[HALF], c, false);
}
DEVICE tile_regs tile_mma_of(tile_regs c, const tile_w &w, const tile_x &x) {
    return tile_mma_half_of<1>(tile_mma_half_of<0>(c, w, x), w, x);
}

#elif defined(TILE_MFMA_32)

enum { TILE_W = 1, TILE_X = 4 };
typedef int32_t tile_regs __attribute__((ext_vector_type(4)));
struct tile_w {
    int64_t all;
};
typedef tile_w tile_x;

DEVICE uint32_t tile_row(uint32_t lane, uint32_t) { return lane & 15; }
DEVICE uint32_t tile_col(uint32_t lane, uint32_t x) { return (lane >> 4 << 2) + x; }

template <int PITCH> DEVICE tile_w tile_load_w(uint32_t lane, const word4 *lds, uint32_t row0, uint32_t chunk) {
    const uint32_t part = lane >> 4;
    tile_w t;
    t.all = ((const int64_t *)lds)[tile_at<PITCH>(row0 + tile_row(lane, 0), tile_limit<PITCH>(chunk + (part >> 1))) * 2 + (part & 1)];
    return t;
}
template <int PITCH> DEVICE tile_x tile_load_x(uint32_t lane, const word4 *lds, uint32_t row0, uint32_t chunk) {
    return tile_load_w<PITCH>(lane, lds, row0, chunk);
}
DEVICE tile_regs tile_mma_of(tile_regs c, const tile_w &w, const tile_x &x) {
    return __builtin_amdgcn_mfma_i32_16x16x32_i8(x.all, w.all, c, 0, 0, 0);
}
/* The instruction has no shorter form: the other sixteen weights are taken as zeros. */
template <int HALF> DEVICE tile_regs tile_mma_half_of(tile_regs c, const tile_w &w, const tile_x &x) {
    const tile_w only = {(thread_x() >> 5 & 1) == HALF ? w.all : 0};
    return tile_mma_of(c, only, x);
}

#elif defined(TILE_MFMA_16)

enum { TILE_W = 1, TILE_X = 4 };
typedef int32_t tile_regs __attribute__((ext_vector_type(4)));
struct tile_w {
    int32_t half[2];
};
typedef tile_w tile_x;

DEVICE uint32_t tile_row(uint32_t lane, uint32_t) { return lane & 15; }
DEVICE uint32_t tile_col(uint32_t lane, uint32_t x) { return (lane >> 4 << 2) + x; }

template <int PITCH> DEVICE tile_w tile_load_w(uint32_t lane, const word4 *lds, uint32_t row0, uint32_t chunk) {
    const uint32_t row = row0 + tile_row(lane, 0), part = lane >> 4;
    const int32_t *at = (const int32_t *)lds;
    tile_w t;
    t.half[0] = at[tile_at<PITCH>(row, chunk) * 4 + part];
    t.half[1] = at[tile_at<PITCH>(row, tile_limit<PITCH>(chunk + 1)) * 4 + part];
    return t;
}
template <int PITCH> DEVICE tile_x tile_load_x(uint32_t lane, const word4 *lds, uint32_t row0, uint32_t chunk) {
    return tile_load_w<PITCH>(lane, lds, row0, chunk);
}
template <int HALF> DEVICE tile_regs tile_mma_half_of(tile_regs c, const tile_w &w, const tile_x &x) {
    return __builtin_amdgcn_mfma_i32_16x16x16i8(x.half[HALF], w.half[HALF], c, 0, 0, 0);
}
DEVICE tile_regs tile_mma_of(tile_regs c, const tile_w &w, const tile_x &x) {
    return tile_mma_half_of<1>(tile_mma_half_of<0>(c, w, x), w, x);
}

#elif defined(TILE_MMA_SYNC)

enum { TILE_W = 2, TILE_X = 4 };
typedef int32_t tile_regs __attribute__((ext_vector_type(8)));
struct tile_w {
    uint32_t r[4]; /* rows g and 8 + g of half 0, then of half 1 */
};
struct tile_x {
    uint32_t r[4]; /* columns 0-7: half 0, half 1; columns 8-15 the same */
};

DEVICE uint32_t tile_row(uint32_t lane, uint32_t w) { return (lane >> 2) + 8 * w; }
DEVICE uint32_t tile_col(uint32_t lane, uint32_t x) { return (x >> 1) * 8 + (lane & 3) * 2 + (x & 1); }

/* Four 8 x 16-byte matrices: lane l names a row of matrix l / 8 and gets word l % 4 of row l / 4 of each. */
DEVICE void tile_ldmatrix(uint32_t r[4], const word4 *lds) {
    const uint32_t at = (uint32_t)(uintptr_t)(__attribute__((address_space(3))) const word4 *)lds;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}
template <int PITCH> DEVICE tile_w tile_load_w(uint32_t lane, const word4 *lds, uint32_t row0, uint32_t chunk) {
    tile_w t;
    tile_ldmatrix(t.r, lds + tile_at<PITCH>(row0 + (lane & 15), tile_limit<PITCH>(chunk + (lane >> 4))));
    return t;
}
template <int PITCH> DEVICE tile_x tile_load_x(uint32_t lane, const word4 *lds, uint32_t row0, uint32_t chunk) {
    const uint32_t row = row0 + (lane & 7) + (lane >> 4) * 8;
    tile_x t;
    tile_ldmatrix(t.r, lds + tile_at<PITCH>(row, tile_limit<PITCH>(chunk + (lane >> 3 & 1))));
    return t;
}
/* The sums of one instruction are rows g, 8 + g by two columns: c[0], c[1] and c[TILE_X], c[TILE_X + 1]. */
DEVICE tile_regs tile_mma_of(tile_regs c, const tile_w &w, const tile_x &x) {
    UNROLL for (int n = 0; n < 2; n++) {
        int32_t d0, d1, d2, d3;
        asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
            "{%10, %11, %12, %13};"
            : "=r"(d0), "=r"(d1), "=r"(d2), "=r"(d3)
            : "r"(w.r[0]), "r"(w.r[1]), "r"(w.r[2]), "r"(w.r[3]), "r"(x.r[2 * n]), "r"(x.r[2 * n + 1]), "r"(c[2 * n]),
              "r"(c[2 * n + 1]), "r"(c[2 * n + 4]), "r"(c[2 * n + 5]));
        c[2 * n] = d0, c[2 * n + 1] = d1, c[2 * n + 4] = d2, c[2 * n + 5] = d3;
    }
    return c;
}
template <int HALF> DEVICE tile_regs tile_mma_half_of(tile_regs c, const tile_w &w, const tile_x &x) {
    UNROLL for (int n = 0; n < 2; n++) {
        int32_t d0, d1, d2, d3;
        asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%7, %8, %9, %10};"
            : "=r"(d0), "=r"(d1), "=r"(d2), "=r"(d3)
            : "r"(w.r[2 * HALF]), "r"(w.r[2 * HALF + 1]), "r"(x.r[2 * n + HALF]), "r"(c[2 * n]), "r"(c[2 * n + 1]),
              "r"(c[2 * n + 4]), "r"(c[2 * n + 5]));
        c[2 * n] = d0, c[2 * n + 1] = d1, c[2 * n + 4] = d2, c[2 * n + 5] = d3;
    }
    return c;
}

#else /* TILE_PLAIN: operands stay where they are; a lane has 2 rows, and columns that differ in their low bits */

enum { TILE_W = 2, TILE_X = 128 / WAVE, TILE_X_STEP = TILE / TILE_X };
typedef int32_t tile_regs __attribute__((ext_vector_type(TILE_W * TILE_X)));
struct tile_w {
    const word4 *lds;
    uint32_t row0, chunk, small, lane;
};
typedef tile_w tile_x;

DEVICE uint32_t tile_row(uint32_t lane, uint32_t w) { return (lane & 7) + 8 * w; }
DEVICE uint32_t tile_col(uint32_t lane, uint32_t x) { return (lane >> 3) + TILE_X_STEP * x; }

template <int PITCH> DEVICE tile_w tile_load_w(uint32_t lane, const word4 *lds, uint32_t row0, uint32_t chunk) {
    return {lds, row0, chunk, PITCH == TILE_SMALL, lane};
}
template <int PITCH> DEVICE tile_x tile_load_x(uint32_t lane, const word4 *lds, uint32_t row0, uint32_t chunk) {
    return {lds, row0, chunk, PITCH == TILE_SMALL, lane};
}
DEVICE word4 tile_chunk(const tile_w &t, uint32_t row, uint32_t half) {
    row += t.row0;
    return t.lds[t.small ? tile_at<TILE_SMALL>(row, 0) : tile_at<TILE_CODES>(row, t.chunk + half)];
}
DEVICE int32_t tile_dot16(word4 a, word4 b, int32_t c) {
    UNROLL for (int i = 0; i < 4; i++) c = dot4((int32_t)a[i], (int32_t)b[i], c);
    return c;
}
DEVICE tile_regs tile_mma_plain(tile_regs c, const tile_w &w, const tile_x &x, uint32_t half) {
    word4 row[TILE_W];
    UNROLL for (uint32_t i = 0; i < TILE_W; i++) row[i] = tile_chunk(w, tile_row(w.lane, i), half);
    UNROLL for (uint32_t j = 0; j < TILE_X; j++) {
        const word4 col = tile_chunk(x, tile_col(x.lane, j), half);
        UNROLL for (uint32_t i = 0; i < TILE_W; i++) c[i * TILE_X + j] = tile_dot16(row[i], col, c[i * TILE_X + j]);
    }
    return c;
}
DEVICE void tile_meet() {
#if defined(GPU_HOST)
    wave_meet("tile");
#endif
}
template <int HALF> DEVICE tile_regs tile_mma_half_of(tile_regs c, const tile_w &w, const tile_x &x) {
    tile_meet();
    return tile_mma_plain(c, w, x, HALF);
}
DEVICE tile_regs tile_mma_of(tile_regs c, const tile_w &w, const tile_x &x) {
    tile_meet();
    return tile_mma_plain(tile_mma_plain(c, w, x, 0), w, x, 1);
}

#endif

enum { TILE_SUMS = TILE_W * TILE_X };

DEVICE tile_regs tile_mma(tile_regs c, const tile_w &w, const tile_x &x) { return tile_mma_of(c, w, x); }
template <int HALF> DEVICE tile_regs tile_mma_half(tile_regs c, const tile_w &w, const tile_x &x) {
    return tile_mma_half_of<HALF>(c, w, x);
}

/* What is before it is issued before what is after it: keeps the operands of few steps in registers at a time. */
DEVICE void tile_step_end() {
#if defined(__AMDGCN__)
    __builtin_amdgcn_sched_barrier(0);
#endif
}

/* Sums below 2^22 that are wanted as f32. On NVIDIA conversions are slow: the sum starts at 1.5 * 2^23 as bits, and is a float
 * with that added, which one exact subtraction takes away. */
#if defined(TILE_MMA_SYNC)
enum { TILE_FLOAT_ZERO = 0x4b400000 };
DEVICE float tile_float(int32_t v) { return as_float((uint32_t)v) - 12582912.0f; }
#else
enum { TILE_FLOAT_ZERO = 0 };
DEVICE float tile_float(int32_t v) { return (float)v; }
#endif

/* The same number everywhere. gfx12: in registers, where an inline 0 would do as well: the instruction-set emulator that the
 * tests run these kernels in does not know that form. */
DEVICE tile_regs tile_fill(int32_t v) {
    tile_regs c;
#if defined(TILE_WMMA_12)
    asm("v_mov_b32 %0, %1" : "=v"(v) : "i"(0));
#endif
    UNROLL for (int i = 0; i < TILE_SUMS; i++) c[i] = v;
    return c;
}

/* a * b + c of numbers that fit in 24 bits with their sign: full rate on AMD, where 32-bit products are not. One instruction:
 * left to itself the compiler gathers many products first, in registers, and adds them later. */
DEVICE int32_t mad24(int32_t a, int32_t b, int32_t c) {
#if defined(__AMDGCN__)
    c = ((int32_t)((uint32_t)a << 8) >> 8) * ((int32_t)((uint32_t)b << 8) >> 8) + c;
    asm("" : "+v"(c));
    return c;
#elif defined(__NVPTX__)
    int32_t d;
    asm("mad.lo.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
#else
    return a * b + c;
#endif
}

#endif
