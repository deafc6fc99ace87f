/* The cache and attention on the GPU: arguments of the kernels of attention.hip, attention_tile.hip and kv_append.hip.
 *
 * Pages lie in device memory as on the host (kv/kv.h), byte for byte. A step's tokens come with three arrays: pos [n_tok],
 * seq [n_tok], and the page tables end to end in `page`, sequence s from first_page[s] on; the page of position p is
 * page[first_page[s] + p / page_tokens]. Only entries up to a token's own position are read. What was never written is read
 * at most where it cannot matter: a group of sixteen keys is loaded whole, the scores of unseen ones are dropped.
 *
 * Every value is the CPU's, bit for bit (backend/cpu/ref_attention.c): chunks of 64 keys cut at absolute positions, each
 * with its (m, l, o), merged left to right. So it does not matter which of two forms computes a token:
 *
 *   split  attention_split + attention_merge: for tokens that stand alone (decode). A block has a chunk; its state
 *          goes to scratch memory, the merge follows in a launch of its own; or, where contexts are not long, the last block
 *          of a token's heads to come merges them and quantises the result for the linear that reads it (in_place).
 *   tile   attention_tile: for runs of tokens of one sequence (prefill): 64 queries meet each chunk once, no scratch.
 *
 * Which tokens go where stands in device memory (attn_single, attn_tile_of), so a captured graph may be replayed with other
 * tokens: entries past the end of a list are ATTN_NONE, and their blocks return at once. */
#ifndef ROCMFORGE_BACKEND_GPU_KERNELS_ARGS_ATTENTION_H
#define ROCMFORGE_BACKEND_GPU_KERNELS_ARGS_ATTENTION_H

#include "backend/gpu/kernels/args.h"

enum { /* as quant_type counts them */
       KV_F32 = 0,
       KV_F16 = 1,
       KV_Q4_0 = 2,
       KV_Q8_0 = 8,
       KV_BF16 = 30
};

enum {
    ATTN_MAX_D = 576,         /* longest key and value */
    ATTN_SPLIT_D = 256,       /* longest key of attention_split_h4 and _h8 */
    ATTN_KEYS = 64,           /* of a chunk: ATTN_CHUNK of the CPU */
    ATTN_SPLIT_THREADS = 128, /* a block of attention_split: one chunk */
    ATTN_MERGE_THREADS = 128, /* a block of attention_merge */
    ATTN_MERGE_D = 32,        /* and the outputs of a head that it computes */
    ATTN_PLACE_D = 1792,      /* outputs that a block merges in place, at most; heads of multiples of ATTN_MERGE_D */
    ATTN_PLACE_CHUNKS = 64,   /* and chunks x 512 outputs, rounded up: longer contexts want more blocks */
    ATTN_TILE_THREADS = 256,  /* a block of attention_tile */
    ATTN_TILE_QUERIES = 64,   /* tokens x query heads of a tile, at most */
    ATTN_TILE_HEADS = 16,     /* and query heads */
    ATTN_TILE_D = 128,        /* outputs of a head that a block computes */
    KV_APPEND_THREADS = 128
};
#define ATTN_NONE 0xffffffffu

/* One layer's part of the cache, and the step's tokens. */
typedef struct {
    GPU_PTR(uint8_t) layer; /* of page 0: the block plus the layer's offset in a page */
    GPU_PTR(const uint32_t) page;
    GPU_PTR(const uint32_t) first_page; /* [n_seq] */
    GPU_PTR(const uint32_t) seq;        /* [n_tok] */
    GPU_PTR(const int32_t) pos;         /* [n_tok] */
    uint64_t page_bytes;
    uint32_t head_bytes, k_scales, v, v_scales; /* kv_layer */
    uint32_t d_k, d_v, n_kv_head, page_tokens;  /* page_tokens: 16, 32, 64 */
    uint32_t type_k, type_v;                    /* KV_... */
} gpu_kv;                                       /* d_k, d_v at most ATTN_MAX_D */

/* A token whose seq is ATTN_NONE is none.
 *
 * kv_append: grid (tokens, n_head + n_kv_head), block KV_APPEND_THREADS. Rows of f32; the heads of a row lie one after the
 * other. table: as OP_ROPE_TABLE makes it, n_rot floats a row; n_rot 0: nothing is rotated. y: q rotated (y may be q; n_head 0:
 * no q). k is not changed: what is stored is rotated. Moves (4 + stored bytes) a value of k and v, 8 a value of q. */
typedef struct {
    gpu_kv kv;
    GPU_PTR(const float) q;
    GPU_PTR(float) y;
    GPU_PTR(const float) k;
    GPU_PTR(const float) v;
    GPU_PTR(const float) table;
    uint32_t q_stride, y_stride, k_stride, v_stride, table_stride; /* bytes from row to row */
    uint32_t n_head, n_rot, neox;                                  /* n_head: of q, whose heads have d_k values */
} kv_append_args;

/* A token that attention_split computes: its states begin at state number first_state. pos and first_page as the step's arrays
 * have them: one load instead of four that wait for each other. */
typedef struct {
    uint32_t tok, first_state, pos, first_page;
} attn_single;

/* Tokens tok0 .. tok0 + n_tok of one sequence, in ascending position, that attention_tile computes together. */
typedef struct {
    uint32_t tok0, n_tok; /* tok0 ATTN_NONE: none */
} attn_tile_of;

/* group: n_head / n_kv_head.
 *
 * attention_split_h4, _h8, _wide (4, 8, 8 query heads of a block; the first two for d_k up to ATTN_SPLIT_D): grid (chunks of
 *   the longest context, n_kv_head * ceil(group / heads), singles), block ATTN_SPLIT_THREADS.
 * attention_merge: grid (singles, n_head, ceil(d_v / ATTN_MERGE_D)), block ATTN_MERGE_THREADS.
 * attention_tile: grid (tiles, n_kv_head * ceil(group / ATTN_TILE_HEADS), ceil(d_v / ATTN_TILE_D)), block ATTN_TILE_THREADS. A
 *   tile has at most ATTN_TILE_QUERIES / min(group, ATTN_TILE_HEADS) tokens.
 *
 * in_place > 0: the heads of so many kv heads are merged in place, n_kv_head a multiple of it, their outputs whole scale blocks
 * (of 32 or 256 values) from one such on; y is not written. Blocks count themselves in come[single][n_kv_head / in_place], all 0
 * before and behind the launch.
 *
 * A state: of one chunk, all heads: m [n_head] | l [n_head] | to 16 bytes | o [n_head][d_v], f32. A single's states, one a
 * chunk from the first that it sees, follow each other from number first_state, gpu_attn_state_bytes apart. */
typedef struct {
    gpu_kv kv;
    GPU_PTR(const float) q;            /* rows [n_head][d_k] */
    GPU_PTR(const float) sinks;        /* [n_head]; 0: none */
    GPU_PTR(float) y;                  /* rows [n_head][d_v] */
    GPU_PTR(uint8_t) states;           /* 16-byte aligned; split only */
    GPU_PTR(const attn_single) single; /* split only */
    GPU_PTR(const attn_tile_of) tile;  /* tile only */
    GPU_PTR(uint8_t) quantised;  /* rows of activations of n_head * d_v values (args_linear.h); split in place only */
    GPU_PTR(uint32_t) come;      /* likewise */
    GPU_PTR(const int32_t) last; /* 0: causal; else [n_seq], a token sees all keys up to its sequence's last */
    uint32_t q_stride, y_stride; /* bytes from row to row */
    uint32_t n_head, window;     /* window 0: none */
    float scale, softcap;        /* softcap 0: none */
    uint32_t in_place, quantised_stride, scale_block, pad;
} attention_args;

#if defined(__cplusplus) && !defined(GPU_HOST)
#define ATTN_SHARED_INLINE static inline __attribute__((host, device))
#else
#define ATTN_SHARED_INLINE static inline
#endif
ATTN_SHARED_INLINE uint32_t gpu_attn_split_heads(uint32_t group, uint32_t d_k) { /* 4: _h4, 8: _h8 or _wide */
    return group <= 4 && d_k <= ATTN_SPLIT_D ? 4 : 8;
}
ATTN_SHARED_INLINE uint32_t gpu_attn_tile_heads(uint32_t group) {
    return group < ATTN_TILE_HEADS ? group : (uint32_t)ATTN_TILE_HEADS;
}
ATTN_SHARED_INLINE uint64_t gpu_attn_state_o(uint32_t n_head) { return ((uint64_t)n_head * 8 + 15) & ~(uint64_t)15; }
ATTN_SHARED_INLINE uint64_t gpu_attn_state_bytes(uint32_t n_head, uint32_t d_v) {
    return (gpu_attn_state_o(n_head) + (uint64_t)n_head * d_v * 4 + 15) & ~(uint64_t)15;
}

#endif
