/* The CPU's kernels as one table, filled by the plain C reference and overwritten slot by slot by the tiers this CPU has
 * (chosen once, at open). The reference is the definition: every tier gives the same bits (tests compare for equality).
 *
 * Canonical numerics (DESIGN 5), binding for every slot:
 * - no contraction, no estimate instructions, no flush to zero, no libm transcendental; fma where written, nowhere else.
 * - activations become int8 once per linear input: a = max |x| over the block (taken on the bits, so NaN wins),
 *   inv = 127 / a, code = clamp(round_to_even(x * inv), -127, 127), scale = a / 127. a == 0: codes and scale 0.
 *   a not finite, or so small that inv overflows: codes 0; scale NaN for a not finite, else 0.
 * - products inside a block are summed as integers, exact in any order; the two scales' product is rounded once; across
 *   blocks each output is one f32 fma chain in ascending k; types with a minimum: the scale's fma, then the minimum's
 *   (linear_ref.c has each formula).
 * - float dots: sixteen partial sums (k mod 16), each an ascending fma chain from +0, added by one tree:
 *   (((s0+s8)+(s4+s12)) + ((s2+s10)+(s6+s14))) + (((s1+s9)+(s5+s13)) + ((s3+s11)+(s7+s15))).
 * All pointers are to finite sizes the caller checked; kernels touch nothing else, allocate nothing, any thread. */
#ifndef ROCMFORGE_BACKEND_CPU_CPU_OPS_H
#define ROCMFORGE_BACKEND_CPU_CPU_OPS_H

#include "quant/quant.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PANEL_ROWS = 16,
    ATTN_CHUNK = 64, /* keys per attention chunk, cut at absolute positions */
    ATTN_DIRECT = 12 /* up to so many queries, reading the cache as stored beats converting it first */
};

/* Quantised activations of n_tok rows of k values, block-major so that a weight block meets all its columns in a row:
 *   code  [k / 32][n_tok][32]     sum [k / 32][n_tok][2]  sums of the codes of each half block (16 values)
 *   scale [k / 32][n_tok] (q8) or [k / 256][n_tok] (q8k) */
typedef struct {
    int8_t *code;
    float *scale;
    int16_t *sum;
    uint32_t n_tok;
    uint32_t scale_block; /* 32 or 256 */
} cpu_act;

/* One panel: 16 rows of a quantised weight, interleaved for the kernels in the order they read (panel.c draws each type).
 * acc [n_col][16] receives the dot products of the panel's rows with columns col0 .. col0 + n_col of x. n_col <= 64. */
typedef void (*linear_panel_fn)(float *acc, const uint8_t *panel, uint32_t k, const cpu_act *x, uint32_t col0,
                                uint32_t n_col);

/* Queries of one kv head against one chunk of at most 64 keys, by groups of 16: K as [d_k][16], V as [16][d_v]. They are
 * f32, or as the cache stores them: f16, bf16, or q8_0 and q4_0 codes with their scales (kv/kv.h). Few queries (ATTN_DIRECT) had better
 * read the cache as it is; for many it pays to convert it once with kv_load. The bits are the same. */
typedef struct {
    const void *k[ATTN_CHUNK / 16]; /* groups that no query sees may be NULL */
    const void *v[ATTN_CHUNK / 16];
    const void *k_scales[ATTN_CHUNK / 16], *v_scales[ATTN_CHUNK / 16]; /* q8_0, q4_0 */
    quant_type type_k, type_v;                                         /* F32 (0), F16, BF16, Q8_0, Q4_0 */
    uint32_t d_k, d_v;
    float scale, softcap; /* score = dot * scale, then softcap * tanh(score / softcap) if softcap > 0 */
    uint32_t n_q;
    const float *const *q;   /* [n_q] pointers to [d_k] */
    const uint32_t *lo, *hi; /* [n_q] keys lo <= j < hi of the chunk are seen; lo < hi */
    const float *slope; /* NULL, or ALiBi: [n_q] what score j loses for each key between j and `at`; no softcap then */
    const int32_t *at;  /* [n_q] the query's own place, counted from the chunk's first key */
    float *m, *l, *o;   /* running state [n_q], [n_q], [n_q][d_v]; see attn_chunk */
} attn_chunk_args;

typedef struct {
    const char *name; /* "scalar", "avx2", "avx512" */

    /* rows of n floats */
    void (*add)(float *y, const float *a, const float *b, size_t n);
    void (*mul)(float *y, const float *a, const float *b, size_t n);
    void (*scale)(float *y, const float *x, float f, size_t n);
    void (*softcap)(float *y, const float *x, float cap, size_t n); /* cap * tanh(x / cap) */
    void (*silu)(float *y, const float *x, size_t n);
    void (*gelu)(float *y, const float *x, size_t n);     /* tanh form */
    void (*gelu_erf)(float *y, const float *x, size_t n); /* exact form */
    void (*swiglu)(float *y, const float *gate, const float *up, size_t n);
    void (*geglu)(float *y, const float *gate, const float *up, size_t n);
    void (*rms_norm)(float *y, const float *x, const float *w, size_t n,
                     float eps); /* (x * (1 / sqrt(ss / n + eps))) * w; w NULL: 1 */
    /* fma((x - mean) * (1 / sqrt(var + eps)), w, b); b NULL: 0 */
    void (*layer_norm)(float *y, const float *x, const float *w, const float *b, size_t n, float eps);
    void (*softmax)(float *y, const float *x, size_t n);
    /* one row of heads; table: cos, sin per pair. neox: pairs (i, i + n_rot / 2), else (2i, 2i + 1). y may be x */
    void (*rope)(float *y, const float *x, const float *table, uint32_t n_head, uint32_t head_dim, uint32_t n_rot,
                 bool neox);
    /* row `tok` of x: n values (a multiple of x->scale_block) into the block-major activations */
    void (*quantize)(const cpu_act *dst, uint32_t tok, const float *x, size_t n);
    /* y[c * y_stride + r] = dot(w row r, x row c) for F32, F16, BF16 rows as filed (w_stride bytes apart) */
    void (*linear_float)(float *y, size_t y_stride, const void *w, quant_type type, size_t w_stride, uint32_t n_rows,
                         const float *x, size_t x_stride, uint32_t n_col, size_t k);
    linear_panel_fn linear_panel[QUANT_COUNT]; /* NULL in the reference: it reads rows as filed, linear_rows_ref */

    /* A group of 16 keys or values of one kv head, as the cache stores it (kv/kv.h), to f32 in the same order */
    void (*kv_load)(float *dst, const void *codes, const void *scales, quant_type type, uint32_t d, bool is_k);
    /* ALiBi: score = fma(-slope, |at - j|, dot * scale).
     * Scores of the chunk, its (m, l, o), merged into the running state from the left. l == 0 marks an empty state.
     * scores: one ascending fma chain over d_k per key. m_c = max; p = exp(s - m_c); l_c: sixteen partial sums (j mod 16)
     * and the tree above, unseen keys adding +0; o_c: one ascending fma chain over the seen keys per output.
     * merge: m' = max(m, m_c), a = exp(m - m'), b = exp(m_c - m'); l = fma(l_c, b, l * a), o = fma(o_c, b, o * a). */
    void (*attn_chunk)(const attn_chunk_args *a);
    /* the same merge for states computed apart: (m, l, o) <- (m, l, o) + (m2, l2, o2) on its right */
    void (*attn_merge)(float *m, float *l, float *o, const float *m2, const float *l2, const float *o2, uint32_t d_v);
} cpu_ops;

typedef enum { TIER_SCALAR, TIER_AVX2, TIER_AVX512, TIER_COUNT } cpu_tier;

cpu_tier cpu_tier_best(void); /* what this CPU and its system can run */
const char *cpu_tier_name(cpu_tier t);
bool cpu_tier_from_name(const char *name, cpu_tier *t); /* "scalar", "avx2", "avx512" */
void cpu_ops_init(cpu_ops *ops, cpu_tier tier);         /* tier <= cpu_tier_best() */

void cpu_ops_ref(cpu_ops *ops);
void cpu_ops_avx2_f32(cpu_ops *ops), cpu_ops_avx2_linear(cpu_ops *ops);
void cpu_ops_avx512_f32(cpu_ops *ops), cpu_ops_avx512_linear(cpu_ops *ops);

/* The reference of quantised linear, on rows as filed: acc [n_col][16], n_rows <= 16. */
void linear_rows_ref(float *acc, const void *rows, size_t row_stride, uint32_t n_rows, quant_type type, uint32_t k,
                     const cpu_act *x, uint32_t col0, uint32_t n_col);

/* --- panels (panel.c) ------------------------------------------------------------------------------------------------- */
size_t panel_bytes(quant_type type, uint32_t k); /* of one panel; 0: the type has no panel form */
void panel_pack(uint8_t *dst, const void *rows, size_t row_stride, uint32_t n_rows, quant_type type,
                uint32_t k); /* missing rows: zeros */
void panel_get_row(float *dst, const uint8_t *panel, uint32_t row, quant_type type,
                   uint32_t k); /* the bits of quant decode */

/* --- cache and tables (kv_store.c, rope_table.c): plain C, the same in every tier --------------------------------------- */
/* One token's key or value of one kv head into its page. x: [d]. slot: position in the page. */
void kv_store_k(void *codes, void *scales, quant_type type, uint32_t d, uint32_t slot, const float *x);
void kv_store_v(void *codes, void *scales, quant_type type, uint32_t d, uint32_t slot, const float *x);

#endif
