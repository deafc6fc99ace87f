#include "gguf/gguf.h"

#include "base/mem.h"
#include "gguf/shard.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

struct gguf {
    shard *shard; /* [n_shards]; the keys are the first one's */
    size_t n_shards;
    gguf_tensor *tensor; /* of all shards */
    size_t n_tensors;
    names tensor_names;
};

/* The first shard moves into g->shard, which has room for all of them. */
static status open_first(gguf *g, const char *path, split_info *info, err *e) {
    shard first;
    status rc = shard_open(&first, path, e);
    if (!rc && (rc = split_read(info, &first, e))) fail_in(e, rc, "%s: ", path);
    if (!rc) {
        g->shard = mem_array(info->count, sizeof *g->shard); /* count is at most GGUF_MAX_SHARDS */
        if (!g->shard) rc = fail(e, ERR_NOMEM, "no memory for %" PRIu64 " shards", info->count);
    }
    if (rc) {
        shard_close(&first);
        return rc;
    }
    g->shard[g->n_shards++] = first;
    g->n_tensors = first.n_tensors;
    return OK;
}

static status open_shards(gguf *g, const char *path, err *e) {
    split_info info;
    status rc = open_first(g, path, &info, e);
    for (uint64_t i = 1; !rc && i < info.count; i++) {
        shard *s = &g->shard[g->n_shards++];
        rc = split_open(s, &g->shard[0], &info, i, e);
        g->n_tensors += s->n_tensors;
        if (!rc && g->n_tensors > GGUF_MAX_TENSORS)
            rc =
                fail(e, ERR_GGUF_LIMIT, "%s: more than %d tensors up to shard %" PRIu64, path, GGUF_MAX_TENSORS, i + 1);
    }
    if (!rc && g->n_tensors != info.n_tensors)
        rc = fail(e, ERR_GGUF_SPLIT, "%s: key 'split.tensors.count' is %" PRIu64 ", the shards hold %zu tensors", path,
                  info.n_tensors, g->n_tensors);
    return rc;
}

/* One array over all shards, and its table. */
static status collect_tensors(gguf *g, err *e) {
    g->tensor = mem_array(g->n_tensors, sizeof *g->tensor);
    if (!g->tensor) return fail(e, ERR_NOMEM, "no memory for %zu tensors", g->n_tensors);
    gguf_tensor *to = g->tensor;
    for (size_t i = 0; i < g->n_shards; i++) {
        shard *s = &g->shard[i];
        memcpy(to, s->tensor, s->n_tensors * sizeof *to);
        to += s->n_tensors;
        mem_free(s->tensor);
        s->tensor = NULL;
    }
    size_t twice;
    status rc = names_build(&g->tensor_names, g->tensor, g->n_tensors, sizeof *g->tensor, &twice, e);
    if (!rc && twice < g->n_tensors)
        rc = fail(e, ERR_GGUF_TENSOR, "%s: tensor '%.*s' is there twice", file_map_path(g->tensor[twice].file),
                  STR(g->tensor[twice].name));
    return rc;
}

status gguf_open(gguf **out, const char *path, err *e) {
    *out = NULL;
    gguf *g = mem_zalloc(sizeof *g);
    if (!g) return fail(e, ERR_NOMEM, "no memory to open %s", path);
    status rc = open_shards(g, path, e);
    if (!rc) rc = collect_tensors(g, e);
    if (!rc) rc = gguf_check(g, e);
    if (rc)
        gguf_close(g);
    else
        *out = g;
    return rc;
}

void gguf_close(gguf *g) {
    if (!g) return;
    for (size_t i = 0; i < g->n_shards; i++) shard_close(&g->shard[i]);
    names_free(&g->tensor_names);
    mem_free(g->tensor);
    mem_free(g->shard);
    mem_free(g);
}

const char *gguf_path(const gguf *g) { return file_map_path(g->shard[0].file); }
uint32_t gguf_version(const gguf *g) { return g->shard[0].version; }
uint32_t gguf_n_shards(const gguf *g) { return (uint32_t)g->n_shards; }

uint64_t gguf_file_bytes(const gguf *g) {
    uint64_t n = 0;
    for (size_t i = 0; i < g->n_shards; i++) n += file_map_size(g->shard[i].file);
    return n;
}

uint64_t gguf_header_bytes(const gguf *g) {
    uint64_t n = g->n_tensors * sizeof *g->tensor + g->tensor_names.n_slots * sizeof *g->tensor_names.slot;
    for (size_t i = 0; i < g->n_shards; i++) {
        const shard *s = &g->shard[i];
        n += s->header_bytes + s->n_kv * sizeof *s->kv + s->kv_names.n_slots * sizeof *s->kv_names.slot;
    }
    return n;
}

status gguf_check(const gguf *g, err *e) {
    status rc = OK;
    for (size_t i = 0; !rc && i < g->n_shards; i++) rc = file_map_check(g->shard[i].file, e);
    return rc;
}

bool gguf_lost(const gguf *g) {
    for (size_t i = 0; i < g->n_shards; i++)
        if (file_map_lost(g->shard[i].file)) return true;
    return false;
}

size_t gguf_n_kv(const gguf *g) { return g->shard[0].n_kv; }
const gguf_kv *gguf_find(const gguf *g, const char *key) { return kv_find(&g->shard[0], key); }
size_t gguf_n_tensors(const gguf *g) { return g->n_tensors; }

const gguf_kv *gguf_kv_at(const gguf *g, size_t i) {
    assert(i < g->shard[0].n_kv);
    return &g->shard[0].kv[i];
}

const gguf_tensor *gguf_tensor_at(const gguf *g, size_t i) {
    assert(i < g->n_tensors);
    return &g->tensor[i];
}

const gguf_tensor *gguf_tensor_find(const gguf *g, const char *name) {
    return names_find(&g->tensor_names, str_of(name));
}
