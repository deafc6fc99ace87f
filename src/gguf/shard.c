#include "gguf/shard.h"

#include "base/mem.h"

#include <inttypes.h>
#include <string.h>

static status read_magic(shard *s, reader *r, err *e) {
    size_t n = read_left(r) < 4 ? read_left(r) : 4;
    if (n && memcmp(r->at, "GGUF", n) != 0)
        return fail(e, ERR_GGUF_MAGIC, "not a GGUF file: it begins with %02x %02x %02x %02x", r->at[0],
                    n > 1 ? r->at[1] : 0, n > 2 ? r->at[2] : 0, n > 3 ? r->at[3] : 0);
    if (read_left(r) < GGUF_HEADER_BYTES)
        return fail(e, ERR_GGUF_TRUNCATED, "the file has %zu bytes, a GGUF header has %d", read_left(r),
                    GGUF_HEADER_BYTES);
    read_u32(r);
    s->version = read_u32(r);
    if (s->version > UINT16_MAX && __builtin_bswap32(s->version) <= UINT16_MAX)
        return fail(e, ERR_GGUF_MAGIC, "a big-endian GGUF file (version %08" PRIx32 "): convert it to little-endian",
                    s->version);
    if (s->version < 2 || s->version > 3)
        return fail(e, ERR_GGUF_VERSION, "GGUF version %" PRIu32 ", this program reads 2 and 3", s->version);
    return OK;
}

/* The counts are believed only as far as the bytes behind them could hold that many: memory follows the file's size. */
static status read_counts(shard *s, reader *r, err *e) {
    uint64_t n_tensors = read_u64(r), n_kv = read_u64(r);
    if (n_tensors > GGUF_MAX_TENSORS)
        return fail(e, ERR_GGUF_LIMIT, "%" PRIu64 " tensors declared, at most %d are read", n_tensors,
                    GGUF_MAX_TENSORS);
    if (n_kv > GGUF_MAX_KV)
        return fail(e, ERR_GGUF_LIMIT, "%" PRIu64 " metadata keys declared, at most %d are read", n_kv, GGUF_MAX_KV);
    if (n_kv * GGUF_KV_MIN_BYTES + n_tensors * GGUF_INFO_MIN_BYTES > read_left(r))
        return fail(e, ERR_GGUF_TRUNCATED,
                    "%" PRIu64 " keys and %" PRIu64 " tensors declared, but only %zu bytes follow", n_kv, n_tensors,
                    read_left(r));
    s->n_tensors = (size_t)n_tensors;
    s->n_kv = (size_t)n_kv;
    return OK;
}

static status parse(shard *s, err *e) {
    const uint8_t *data = file_map_data(s->file);
    if (!data) return fail(e, ERR_GGUF_TRUNCATED, "the file is empty");
    reader r = {data, data + file_map_size(s->file), false};
    status rc = read_magic(s, &r, e);
    if (!rc) rc = read_counts(s, &r, e);
    if (!rc) rc = kv_parse(s, &r, e);
    if (!rc) rc = tensor_parse(s, &r, e);
    s->header_bytes = (uint64_t)(r.at - data);
    return rc;
}

/* What the parser found is worth nothing, good or bad, when the file changed under it. */
status shard_open(shard *s, const char *path, err *e) {
    *s = (shard){0};
    status rc = file_map_open(&s->file, path, e);
    if (rc) return rc;
    rc = parse(s, e);
    if (rc != ERR_NOMEM) {
        err changed;
        status now = file_map_check(s->file, &changed);
        if (now) return fail(e, now, "%s", changed.text);
    }
    return rc ? fail_in(e, rc, "%s: ", path) : OK;
}

void shard_close(shard *s) {
    names_free(&s->kv_names);
    mem_free(s->kv);
    mem_free(s->tensor);
    file_map_close(s->file);
    *s = (shard){0};
}
