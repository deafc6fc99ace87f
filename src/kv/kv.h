/* Paged keys and values: how a page lies in memory, and who holds which page. Knows pages, not devices: the memory belongs
 * to a backend, this room hands out numbers.
 *
 * One page holds page_tokens consecutive positions of one sequence, of every layer. A layer's part of a page:
 *
 *   for each kv head:  K  [page_tokens / 16][d_k][16]     lanes are keys: sixteen neighbouring positions side by side
 *                      V  [page_tokens][d_v]
 *   q8_0 parts store int8 codes in that order; q4_0 parts half bytes, dimensions 2i (low) and 2i + 1 of one key together, that
 *   is K [page_tokens / 16][d_k / 2][16] and V [page_tokens][d_v / 2]. Both are followed by f16 scales:
 *                      K scales [page_tokens / 16][d_k / 32][16]      V scales [page_tokens][d_v / 32]
 *
 * The KV block is page after page, each with all its layers: memory becomes resident as sequences grow, and what belongs to
 * one position stands together.
 *
 * K is transposed so that a query meets sixteen keys per vector and every key's dot product is one fma chain in ascending
 * dimension, whatever computes it. All parts are 64-byte aligned.
 *
 * There is no compaction, and nothing to compact: a sequence's page table names any pages in any order, so a free page is
 * as good as any other, and what is lost is the unused end of each sequence's last page alone. */
#ifndef ROCMFORGE_KV_KV_H
#define ROCMFORGE_KV_KV_H

#include "base/err.h"
#include "quant/quant.h"

enum { KV_LANES = 16, KV_MAX_LAYERS = 1024 };

typedef struct {
    uint32_t n_kv_head, d_k, d_v;
    size_t offset;                /* of this layer inside a page */
    size_t head_bytes;            /* one kv head's part of it: K, K scales, V, V scales */
    size_t k_scales, v, v_scales; /* offsets inside a head's part */
} kv_layer;

typedef struct {
    kv_layer *layer; /* [n_layers] caller's array */
    uint32_t n_layers;
    uint32_t page_tokens; /* 16, 32 or 64 */
    uint32_t n_pages;
    quant_type type_k, type_v; /* F32, F16, BF16, Q8_0, Q4_0 */
    size_t page_bytes;         /* one page, all layers */
    size_t n_bytes;            /* the whole block */
} kv_layout;

bool kv_type_known(quant_type t);
/* Bytes of n codes (an even number of them for Q4_0), scales not counted. */
static inline size_t kv_code_bytes(quant_type t, size_t n) {
    return t == QUANT_F32 ? n * 4 : t == QUANT_Q8_0 ? n : t == QUANT_Q4_0 ? n / 2 : n * 2;
}
static inline bool kv_has_scales(quant_type t) { return t == QUANT_Q8_0 || t == QUANT_Q4_0; }

/* n_kv_head, d_k, d_v of each layer are set by the caller; fills the rest. ERR_RANGE / ERR_UNSUPPORTED name what is wrong
 * (head size not a multiple of 32 with q8_0 and q4_0; sizes that overflow). */
MUST_CHECK status kv_layout_make(kv_layout *l, err *e);

/* Page numbers: taken, shared (one more holder), dropped. One thread. */
typedef struct kv_pool kv_pool;
kv_pool *kv_pool_new(uint32_t n_pages);  /* NULL: out of memory */
size_t kv_pool_memory(uint32_t n_pages); /* what it takes */
void kv_pool_free(kv_pool *p);
bool kv_pool_take(kv_pool *p, uint32_t *page); /* false: all are in use */
void kv_pool_share(kv_pool *p, uint32_t page);
void kv_pool_drop(kv_pool *p, uint32_t page);
uint32_t kv_pool_n_free(const kv_pool *p);
uint32_t kv_pool_n_holders(const kv_pool *p, uint32_t page); /* 0: free */
/* Tells one listener when a page's holders become one (lone) or two of one: for who holds pages as long as others do not
 * need them. lone NULL: no longer. */
void kv_pool_watch(kv_pool *p, void (*lone)(void *ctx, uint32_t page, bool lone), void *ctx);

/* How well the cache's memory is used. A page is taken whole, so the end of each sequence's last page holds nothing. */
typedef struct {
    double fragmentation; /* of the slots in taken pages, the part that holds no token */
    double efficiency;    /* of all slots, the part that holds one */
} kv_use;
kv_use kv_use_of(uint32_t n_pages, uint32_t n_taken, uint32_t page_tokens, uint64_t n_tokens);

#endif
