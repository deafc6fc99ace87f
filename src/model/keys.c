#include "model/keys.h"

#include <inttypes.h>
#include <stdio.h>

key_name keys_name(const keys *k, const char *suffix) {
    key_name name;
    snprintf(name.text, sizeof name.text, "%s.%s", k->arch, suffix);
    return name;
}

bool keys_has(const keys *k, const char *suffix) { return gguf_find(k->g, keys_name(k, suffix).text) != NULL; }

static status missing(const keys *k, const char *suffix) {
    return fail(k->e, ERR_MODEL_KEY, "key %s is missing", keys_name(k, suffix).text);
}

static status check_range(const keys *k, const char *suffix, uint64_t v, uint32_t lo, uint32_t hi) {
    if (v >= lo && v <= hi) return OK;
    return fail(k->e, ERR_MODEL_KEY, "key %s is %" PRIu64 ", outside %u to %u", keys_name(k, suffix).text, v, lo, hi);
}

status keys_u32(const keys *k, const char *suffix, uint32_t lo, uint32_t hi, uint32_t *out) {
    key_name name = keys_name(k, suffix);
    if (!gguf_find(k->g, name.text)) return OK;
    uint64_t v = 0;
    status s = gguf_get_u64(k->g, name.text, &v, k->e);
    if (!s) s = check_range(k, suffix, v, lo, hi);
    if (!s) *out = (uint32_t)v;
    return s;
}

status keys_need_u32(const keys *k, const char *suffix, uint32_t lo, uint32_t hi, uint32_t *out) {
    return keys_has(k, suffix) ? keys_u32(k, suffix, lo, hi, out) : missing(k, suffix);
}

status keys_f32(const keys *k, const char *suffix, float lo, float hi, float *out) {
    key_name name = keys_name(k, suffix);
    if (!gguf_find(k->g, name.text)) return OK;
    float v = 0.0f;
    status s = gguf_get_f32(k->g, name.text, &v, k->e);
    if (s) return s;
    if (!(v >= lo && v <= hi))
        return fail(k->e, ERR_MODEL_KEY, "key %s is %g, outside %g to %g", name.text, (double)v, (double)lo,
                    (double)hi);
    *out = v;
    return OK;
}

status keys_need_f32(const keys *k, const char *suffix, float lo, float hi, float *out) {
    return keys_has(k, suffix) ? keys_f32(k, suffix, lo, hi, out) : missing(k, suffix);
}

static bool is_integer(gguf_type t) {
    return t != GGUF_F32 && t != GGUF_F64 && t != GGUF_STRING && t != GGUF_ARRAY && t < GGUF_TYPE_COUNT;
}

status keys_layer_u32(const keys *k, const char *suffix, uint32_t n_layer, uint32_t layer, uint32_t lo, uint32_t hi,
                      uint32_t *out) {
    key_name name = keys_name(k, suffix);
    const gguf_kv *kv = gguf_find(k->g, name.text);
    if (!kv) return OK;
    if (kv->type != GGUF_ARRAY) return keys_u32(k, suffix, lo, hi, out);
    if (!is_integer(kv->elem_type))
        return fail(k->e, ERR_GGUF_KEY, "key %s is an array of %s, not of integers", name.text,
                    gguf_type_name(kv->elem_type));
    if (kv->n != n_layer)
        return fail(k->e, ERR_MODEL_KEY, "key %s has %" PRIu64 " values for %u layers", name.text, kv->n, n_layer);
    uint64_t v = gguf_array_uint(kv, layer);
    status s = check_range(k, suffix, v, lo, hi);
    if (s) return fail_in(k->e, s, "layer %u: ", layer);
    *out = (uint32_t)v;
    return OK;
}
