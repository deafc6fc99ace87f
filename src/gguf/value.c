/* Typed reads of keys: the second half of gguf.h. */
#include "gguf/shard.h"

#include <assert.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

static bool is_integer(gguf_type t) { return t <= GGUF_I32 || t == GGUF_BOOL || t == GGUF_U64 || t == GGUF_I64; }

static bool is_signed(gguf_type t) { return t == GGUF_I8 || t == GGUF_I16 || t == GGUF_I32 || t == GGUF_I64; }

uint64_t gguf_array_uint(const gguf_kv *kv, uint64_t i) {
    assert(i < kv->n && is_integer(kv->elem_type));
    const uint8_t *p = kv->data;
    switch (kv->elem_type) {
    case GGUF_U8: return p[i];
    case GGUF_BOOL: return p[i] != 0;
    case GGUF_I8: return (uint64_t)(int8_t)p[i];
    case GGUF_U16: return (uint16_t)(p[2 * i] | p[2 * i + 1] << 8);
    case GGUF_I16: return (uint64_t)(int16_t)(p[2 * i] | p[2 * i + 1] << 8);
    case GGUF_U32: return load_le32(p + 4 * i);
    case GGUF_I32: return (uint64_t)(int32_t)load_le32(p + 4 * i);
    case GGUF_U64:
    case GGUF_I64: return load_le64(p + 8 * i);
    default: return 0;
    }
}

double gguf_array_float(const gguf_kv *kv, uint64_t i) {
    assert(i < kv->n && (kv->elem_type == GGUF_F32 || kv->elem_type == GGUF_F64));
    if (kv->elem_type == GGUF_F32) {
        uint32_t bits = load_le32(kv->data + 4 * i);
        float f;
        memcpy(&f, &bits, sizeof f);
        return f;
    }
    uint64_t bits = load_le64(kv->data + 8 * i);
    double d;
    memcpy(&d, &bits, sizeof d);
    return d;
}

str gguf_next_string(const gguf_kv *kv, const uint8_t **at) {
    reader r = {*at, kv->data + kv->n_bytes, false};
    str s = read_str(&r, GGUF_MAX_STRING, NULL);
    *at = r.at;
    return s;
}

static status wrong_type(const gguf_kv *kv, const char *wanted, err *e) {
    bool array = kv->type == GGUF_ARRAY;
    return fail(e, ERR_GGUF_KEY, "key '%.*s' is %s%s, not %s", STR(kv->key), array ? "an array of " : "",
                gguf_type_name(kv->elem_type), wanted);
}

status kv_get_uint(const gguf_kv *kv, uint64_t max, uint64_t *out, err *e) {
    if (!kv) return OK;
    if (kv->type == GGUF_ARRAY || !is_integer(kv->type)) return wrong_type(kv, "an integer", e);
    uint64_t v = gguf_array_uint(kv, 0);
    if (is_signed(kv->type) && (int64_t)v < 0)
        return fail(e, ERR_GGUF_KEY, "key '%.*s' is %" PRId64 ", less than 0", STR(kv->key), (int64_t)v);
    if (v > max) return fail(e, ERR_GGUF_KEY, "key '%.*s' is %" PRIu64 ", more than %" PRIu64, STR(kv->key), v, max);
    *out = v;
    return OK;
}

status gguf_get_u64(const gguf *g, const char *key, uint64_t *out, err *e) {
    return kv_get_uint(gguf_find(g, key), UINT64_MAX, out, e);
}

status gguf_get_u32(const gguf *g, const char *key, uint32_t *out, err *e) {
    uint64_t v = *out;
    status rc = kv_get_uint(gguf_find(g, key), UINT32_MAX, &v, e);
    if (!rc) *out = (uint32_t)v;
    return rc;
}

status gguf_get_bool(const gguf *g, const char *key, bool *out, err *e) {
    uint64_t v = *out;
    status rc = kv_get_uint(gguf_find(g, key), 1, &v, e);
    if (!rc) *out = v != 0;
    return rc;
}

status gguf_get_f32(const gguf *g, const char *key, float *out, err *e) {
    const gguf_kv *kv = gguf_find(g, key);
    if (!kv) return OK;
    if (kv->type != GGUF_F32 && kv->type != GGUF_F64) return wrong_type(kv, "a float", e);
    double v = gguf_array_float(kv, 0);
    if (!isfinite(v) || fabs(v) > FLT_MAX) return fail(e, ERR_GGUF_KEY, "key '%.*s' is not a finite f32", STR(kv->key));
    *out = (float)v;
    return OK;
}

status gguf_get_str(const gguf *g, const char *key, str *out, err *e) {
    const gguf_kv *kv = gguf_find(g, key);
    if (!kv) return OK;
    if (kv->type != GGUF_STRING) return wrong_type(kv, "a string", e);
    *out = (str){(const char *)kv->data + 8, kv->n_bytes - 8}; /* the length as it was checked at open */
    return OK;
}
