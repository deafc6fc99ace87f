/* Sizes of pages and where the parts of each lie; kv.h draws it. Every product is bounded or checked: head sizes come from
 * a file, the number of pages from a user. */
#include "kv/kv.h"

#include <inttypes.h>

enum { PART_ALIGN = 64, SCALE_BLOCK = 32, SCALE_BYTES = 2 };

bool kv_type_known(quant_type t) { return t == QUANT_F32 || t == QUANT_F16 || t == QUANT_BF16 || kv_has_scales(t); }

/* One part of a head, codes and then scales, each aligned: *at moves behind it. Cannot overflow: d is at most KV_MAX_D and
 * there are at most 64 tokens. */
static size_t part(size_t *at, quant_type t, uint32_t d, uint32_t page_tokens) {
    *at += kv_code_bytes(t, (size_t)page_tokens * d);
    *at = (*at + PART_ALIGN - 1) / PART_ALIGN * PART_ALIGN;
    size_t scales = *at;
    if (kv_has_scales(t)) *at += (size_t)page_tokens * (d / SCALE_BLOCK) * SCALE_BYTES;
    *at = (*at + PART_ALIGN - 1) / PART_ALIGN * PART_ALIGN;
    return scales;
}

enum { KV_MAX_D = 1 << 20, KV_MAX_HEADS = 1 << 16 };

static status check_head(uint32_t i, quant_type t, uint32_t d, const char *what, err *e) {
    if (d < 1 || d > KV_MAX_D) return fail(e, ERR_RANGE, "layer %" PRIu32 ": %s heads of %" PRIu32, i, what, d);
    if (kv_has_scales(t) && d % SCALE_BLOCK)
        return fail(e, ERR_UNSUPPORTED,
                    "layer %" PRIu32 ": a %s cache wants %s heads of a multiple of %d values, these have %" PRIu32, i,
                    quant_lookup(t)->name, what, SCALE_BLOCK, d);
    return OK;
}

static status make_layer(const kv_layout *l, uint32_t i, size_t *at, err *e) {
    kv_layer *y = &l->layer[i];
    status s = check_head(i, l->type_k, y->d_k, "key", e);
    if (!s) s = check_head(i, l->type_v, y->d_v, "value", e);
    if (s) return s;
    if (y->n_kv_head < 1 || y->n_kv_head > KV_MAX_HEADS)
        return fail(e, ERR_RANGE, "layer %" PRIu32 ": %" PRIu32 " key-value heads", i, y->n_kv_head);
    size_t head = 0;
    y->k_scales = part(&head, l->type_k, y->d_k, l->page_tokens);
    y->v = head;
    y->v_scales = part(&head, l->type_v, y->d_v, l->page_tokens);
    y->head_bytes = head;
    y->offset = *at;
    *at += head * y->n_kv_head; /* below 2^45, and 2^55 for all layers */
    return OK;
}

status kv_layout_make(kv_layout *l, err *e) {
    l->n_bytes = 0;
    if (l->n_layers > KV_MAX_LAYERS)
        return fail(e, ERR_RANGE, "%" PRIu32 " layers with a cache, at most %d", l->n_layers, KV_MAX_LAYERS);
    if (l->page_tokens != 16 && l->page_tokens != 32 && l->page_tokens != 64)
        return fail(e, ERR_RANGE, "pages of %" PRIu32 " tokens; 16, 32 or 64 are possible", l->page_tokens);
    if (!kv_type_known(l->type_k) || !kv_type_known(l->type_v)) {
        const quant_info *q = quant_lookup((uint32_t)(kv_type_known(l->type_k) ? l->type_v : l->type_k));
        return fail(e, ERR_UNSUPPORTED, "a key-value cache of type %s; F32, F16, BF16, Q8_0 and Q4_0 are possible",
                    q ? q->name : "?");
    }
    if (l->n_pages < 1) return fail(e, ERR_RANGE, "a key-value cache without pages");
    size_t at = 0;
    for (uint32_t i = 0; i < l->n_layers; i++) {
        status s = make_layer(l, i, &at, e);
        if (s) return s;
    }
    l->page_bytes = at;
    if (__builtin_mul_overflow(at, (size_t)l->n_pages, &l->n_bytes) || l->n_bytes > SIZE_MAX / 4)
        return fail(e, ERR_RANGE, "a key-value cache of %" PRIu32 " pages of %" PRIu32 " tokens is too large",
                    l->n_pages, l->page_tokens);
    return OK;
}
