#include "gguf/shard.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static status get(const shard *s, const char *key, bool required, uint64_t *out, err *e) {
    const gguf_kv *kv = kv_find(s, key);
    if (!kv && required) return fail(e, ERR_GGUF_SPLIT, "key '%s' is missing in a shard of a split file", key);
    return kv_get_uint(kv, UINT32_MAX, out, e);
}

status split_read(split_info *out, const shard *first, err *e) {
    uint64_t count = 0, no = 0;
    *out = (split_info){.count = 1, .n_tensors = first->n_tensors};
    status rc = get(first, "split.count", false, &count, e);
    if (!rc) rc = get(first, "split.no", false, &no, e);
    if (rc) return rc;
    if (no > 0 && no < count)
        return fail(e, ERR_GGUF_SPLIT,
                    "this is shard %" PRIu64 " of %" PRIu64 ": open the first, ...-00001-of-%05" PRIu64 ".gguf", no + 1,
                    count, count);
    if (no > 0)
        return fail(e, ERR_GGUF_SPLIT, "key 'split.no' is %" PRIu64 ", but 'split.count' is %" PRIu64, no, count);
    if (count > GGUF_MAX_SHARDS)
        return fail(e, ERR_GGUF_SPLIT, "key 'split.count' is %" PRIu64 ", at most %d shards are read", count,
                    GGUF_MAX_SHARDS);
    if (count <= 1) return OK;
    out->count = count;
    return get(first, "split.tensors.count", true, &out->n_tensors, e);
}

/* "dir/name-00001-of-00003.gguf" -> "dir/name-00002-of-00003.gguf". Only the digits differ, so the name cannot lead out of
 * the directory that the user named. */
static status shard_path(strbuf *path, const char *first, uint64_t i, uint64_t count, err *e) {
    char mine[32], wanted[32];
    int n = snprintf(mine, sizeof mine, "-%05u-of-%05u.gguf", 1u, (unsigned)count);
    snprintf(wanted, sizeof wanted, "-%05u-of-%05u.gguf", (unsigned)i + 1, (unsigned)count);
    size_t all = strlen(first);
    if (all < (size_t)n || strcmp(first + all - n, mine) != 0)
        return fail(e, ERR_GGUF_SPLIT, "%s: the first of %u shards must be named ...%s to find the others", first,
                    (unsigned)count, mine);
    strbuf_add(path, first, all - (size_t)n);
    strbuf_puts(path, wanted);
    return path->failed ? fail(e, ERR_NOMEM, "no memory for a path") : OK;
}

/* Keys of a shard of its own are not handed out, so they must not say something else than the first shard's. Its number
 * and its alignment are its own affair. */
static status check_keys(const shard *s, const shard *first, err *e) {
    for (size_t i = 0; i < s->n_kv; i++) {
        const gguf_kv *kv = &s->kv[i], *other = names_find(&first->kv_names, kv->key);
        if (!other || str_is(kv->key, "split.no") || str_is(kv->key, "general.alignment")) continue;
        if (!kv_same_value(kv, other))
            return fail(e, ERR_GGUF_SPLIT, "key '%.*s' differs from the first shard's: another model's shard?",
                        STR(kv->key));
    }
    return OK;
}

static status check_belongs(const shard *s, const shard *first, const split_info *info, uint64_t i, err *e) {
    uint64_t no = 0, count = 0, n_tensors = info->n_tensors;
    status rc = get(s, "split.no", true, &no, e);
    if (!rc) rc = get(s, "split.count", true, &count, e);
    if (!rc) rc = get(s, "split.tensors.count", false, &n_tensors, e);
    if (rc) return rc;
    if (no != i || count != info->count)
        return fail(e, ERR_GGUF_SPLIT, "by its own keys it is shard %" PRIu64 " of %" PRIu64, no + 1, count);
    if (n_tensors != info->n_tensors)
        return fail(e, ERR_GGUF_SPLIT, "key 'split.tensors.count' is %" PRIu64 ", in the first shard %" PRIu64,
                    n_tensors, info->n_tensors);
    return check_keys(s, first, e);
}

status split_open(shard *s, const shard *first, const split_info *info, uint64_t i, err *e) {
    strbuf path = {0};
    status rc = shard_path(&path, file_map_path(first->file), i, info->count, e);
    if (!rc) rc = shard_open(s, path.p, e);
    if (!rc) rc = check_belongs(s, first, info, i, e);
    if (rc && rc != ERR_NOMEM && s->file == NULL) rc = rc == ERR_IO ? ERR_GGUF_SPLIT : rc;
    strbuf_free(&path);
    return rc ? fail_in(e, rc, "shard %u of %u: ", (unsigned)i + 1, (unsigned)info->count) : OK;
}
