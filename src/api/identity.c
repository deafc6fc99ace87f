/* What makes two KV caches interchangeable: the numbers in their pages follow from the model's file (all of it: weights,
 * hyperparameters, vocabulary), from the types and shape of the pages, and from how this program computes. */
#include "api/api.h"

#define XXH_STATIC_LINKING_ONLY /* the state's size: it lives on the stack */
#include <xxhash.h>

/* To be raised when a page's layout, or the numbers that any model's cache holds, change. */
enum { CACHE_VERSION = 1 };

static void add(XXH3_state_t *h, const void *p, size_t n) { (void)XXH3_128bits_update(h, p, n); }

static void add_u64(XXH3_state_t *h, uint64_t v) { add(h, &v, sizeof v); }

static void add_str(XXH3_state_t *h, str s) {
    add_u64(h, s.n);
    if (s.n) add(h, s.p, s.n);
}

static void add_header(XXH3_state_t *h, const gguf *g) {
    add_u64(h, gguf_n_kv(g));
    for (size_t i = 0; i < gguf_n_kv(g); i++) {
        const gguf_kv *kv = gguf_kv_at(g, i);
        add_str(h, kv->key);
        add_u64(h, kv->type);
        add_u64(h, kv->elem_type);
        add_str(h, (str){(const char *)kv->data, kv->n_bytes});
    }
}

static void add_tensors(XXH3_state_t *h, const gguf *g) {
    add_u64(h, gguf_n_tensors(g));
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const gguf_tensor *t = gguf_tensor_at(g, i);
        add_str(h, t->name);
        add_u64(h, t->type);
        add(h, t->dim, sizeof t->dim);
        add_str(h, (str){(const char *)t->data, t->n_bytes});
        file_map_release(t->file, t->data, t->n_bytes);
    }
}

void api_cache_identity(uint64_t out[2], const rf_model *m, const exec_options *x) {
    XXH3_state_t h;
    (void)XXH3_128bits_reset(&h);
    add_u64(&h, CACHE_VERSION);
    add_u64(&h, x->page_tokens);
    add_u64(&h, x->type_k);
    add_u64(&h, x->type_v);
    add_header(&h, m->file);
    add_tensors(&h, m->file);
    XXH128_hash_t id = XXH3_128bits_digest(&h);
    out[0] = id.low64;
    out[1] = id.high64;
}

void api_model_identity(uint64_t out[2], const rf_model *m) {
    XXH3_state_t h;
    (void)XXH3_128bits_reset(&h);
    add_header(&h, m->file);
    add_tensors(&h, m->file);
    XXH128_hash_t id = XXH3_128bits_digest(&h);
    out[0] = id.low64;
    out[1] = id.high64;
}
