#include "gguf/shard.h"

#include "base/mem.h"

#include <inttypes.h>
#include <string.h>

/* Bytes of one element; 0 where it depends on the value. */
static const uint8_t elem_bytes[GGUF_TYPE_COUNT] = {
    [GGUF_U8] = 1,  [GGUF_I8] = 1,   [GGUF_U16] = 2, [GGUF_I16] = 2, [GGUF_U32] = 4, [GGUF_I32] = 4,
    [GGUF_F32] = 4, [GGUF_BOOL] = 1, [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8};

static const char *const type_names[GGUF_TYPE_COUNT] = {
    [GGUF_U8] = "u8",   [GGUF_I8] = "i8",   [GGUF_U16] = "u16",   [GGUF_I16] = "i16",       [GGUF_U32] = "u32",
    [GGUF_I32] = "i32", [GGUF_F32] = "f32", [GGUF_BOOL] = "bool", [GGUF_STRING] = "string", [GGUF_ARRAY] = "array",
    [GGUF_U64] = "u64", [GGUF_I64] = "i64", [GGUF_F64] = "f64"};

const char *gguf_type_name(gguf_type t) { return (unsigned)t < GGUF_TYPE_COUNT ? type_names[t] : "?"; }

static status read_key(reader *r, gguf_kv *kv, size_t i, err *e) {
    uint64_t n;
    kv->key = read_str(r, GGUF_MAX_KEY, &n);
    if (n > GGUF_MAX_KEY)
        return fail(e, ERR_GGUF_LIMIT, "metadata key %zu: a name of %" PRIu64 " bytes, the longest is %d", i, n,
                    GGUF_MAX_KEY);
    if (r->bad) return fail(e, ERR_GGUF_TRUNCATED, "the file ends in the name of metadata key %zu", i);
    if (n == 0) return fail(e, ERR_GGUF_KEY, "metadata key %zu has an empty name", i);
    if (memchr(kv->key.p, 0, kv->key.n))
        return fail(e, ERR_GGUF_KEY, "metadata key %zu: '%.*s' goes on after a NUL byte", i, STR(kv->key));
    if (!str_is_utf8(kv->key))
        return fail(e, ERR_GGUF_KEY, "metadata key %zu: '%.*s' is not valid UTF-8", i, STR(kv->key));
    return OK;
}

static status read_type(reader *r, gguf_kv *kv, err *e) {
    uint32_t type = read_u32(r), elem = type;
    kv->n = 1;
    if (type == GGUF_ARRAY) {
        elem = read_u32(r);
        kv->n = read_u64(r);
    }
    if (r->bad) return fail(e, ERR_GGUF_TRUNCATED, "the file ends in key '%.*s'", STR(kv->key));
    if (type >= GGUF_TYPE_COUNT || elem >= GGUF_TYPE_COUNT)
        return fail(e, ERR_GGUF_KEY, "key '%.*s': value type %" PRIu32 " does not exist", STR(kv->key),
                    type < GGUF_TYPE_COUNT ? elem : type);
    if (type == GGUF_ARRAY && elem == GGUF_ARRAY)
        return fail(e, ERR_GGUF_KEY, "key '%.*s': arrays of arrays are not read", STR(kv->key));
    if (kv->n > GGUF_MAX_ARRAY)
        return fail(e, ERR_GGUF_LIMIT, "key '%.*s': an array of %" PRIu64 " elements, at most %d are read",
                    STR(kv->key), kv->n, GGUF_MAX_ARRAY);
    kv->type = (gguf_type)type;
    kv->elem_type = (gguf_type)elem;
    return OK;
}

static status skip_strings(reader *r, const gguf_kv *kv, err *e) {
    for (uint64_t i = 0; i < kv->n; i++) {
        uint64_t n;
        read_str(r, GGUF_MAX_STRING, &n);
        if (n > GGUF_MAX_STRING)
            return fail(e, ERR_GGUF_LIMIT, "key '%.*s': string %" PRIu64 " of %" PRIu64 " bytes, the longest is %d",
                        STR(kv->key), i, n, GGUF_MAX_STRING);
        if (r->bad)
            return fail(e, ERR_GGUF_TRUNCATED, "the file ends in string %" PRIu64 " of key '%.*s'", i, STR(kv->key));
    }
    return OK;
}

static status check_bools(const gguf_kv *kv, err *e) {
    for (uint64_t i = 0; i < kv->n; i++)
        if (kv->data[i] > 1)
            return fail(e, ERR_GGUF_KEY, "key '%.*s': element %" PRIu64 " is %u, a bool is 0 or 1", STR(kv->key), i,
                        kv->data[i]);
    return OK;
}

static status read_value(reader *r, gguf_kv *kv, err *e) {
    kv->data = r->at;
    status rc = OK;
    if (kv->elem_type == GGUF_STRING) {
        rc = skip_strings(r, kv, e);
    } else if (!read_bytes(r, kv->n * elem_bytes[kv->elem_type])) {
        rc = fail(e, ERR_GGUF_TRUNCATED, "the file ends in the value of key '%.*s' (%" PRIu64 " x %s)", STR(kv->key),
                  kv->n, gguf_type_name(kv->elem_type));
    }
    if (!rc && kv->elem_type == GGUF_BOOL) rc = check_bools(kv, e);
    kv->n_bytes = (size_t)(r->at - kv->data);
    return rc;
}

status kv_parse(shard *s, reader *r, err *e) {
    s->kv = mem_array(s->n_kv, sizeof *s->kv);
    if (!s->kv) return fail(e, ERR_NOMEM, "no memory for %zu metadata keys", s->n_kv);
    for (size_t i = 0; i < s->n_kv; i++) {
        status rc = read_key(r, &s->kv[i], i, e);
        if (!rc) rc = read_type(r, &s->kv[i], e);
        if (!rc) rc = read_value(r, &s->kv[i], e);
        if (rc) return rc;
    }
    size_t twice;
    status rc = names_build(&s->kv_names, s->kv, s->n_kv, sizeof *s->kv, &twice, e);
    if (!rc && twice < s->n_kv) rc = fail(e, ERR_GGUF_KEY, "key '%.*s' is there twice", STR(s->kv[twice].key));
    return rc;
}

const gguf_kv *kv_find(const shard *s, const char *key) { return names_find(&s->kv_names, str_of(key)); }

bool kv_same_value(const gguf_kv *a, const gguf_kv *b) {
    return a->type == b->type && a->elem_type == b->elem_type && a->n == b->n && a->n_bytes == b->n_bytes &&
           memcmp(a->data, b->data, a->n_bytes) == 0;
}
