/* One GGUF file, parsed: what a split model has several of. Internal to this room. The order of parsing is the order of the
 * file: header (shard.c), keys (kv.c), tensor infos and their places (tensor.c). Owns its mapping and arrays. */
#ifndef ROCMFORGE_GGUF_SHARD_H
#define ROCMFORGE_GGUF_SHARD_H

#include "gguf/gguf.h"
#include "gguf/names.h"
#include "gguf/reader.h"

enum {
    GGUF_MAX_KV = 65536,
    GGUF_MAX_TENSORS = 65536, /* of all shards */
    GGUF_MAX_STRING = 16 << 20,
    GGUF_MAX_ARRAY = 16 << 20,
    GGUF_MAX_KEY = 65535,
    GGUF_MAX_NAME = 63,
    GGUF_MAX_SHARDS = 1024,
    GGUF_ALIGN_DEFAULT = 32,
    GGUF_ALIGN_MIN = 8,
    GGUF_ALIGN_MAX = 1 << 20,
    GGUF_KV_MIN_BYTES = 8 + 1 + 4 + 1,       /* key of one byte, type, the smallest value */
    GGUF_INFO_MIN_BYTES = 8 + 1 + 4 + 4 + 8, /* name of one byte, no dimension, type, offset */
    GGUF_HEADER_BYTES = 4 + 4 + 8 + 8
};

typedef struct {
    file_map *file;
    uint32_t version;
    uint64_t header_bytes; /* up to the end of the tensor infos */
    gguf_kv *kv;
    size_t n_kv;
    names kv_names;
    gguf_tensor *tensor;
    size_t n_tensors;
} shard;

MUST_CHECK status shard_open(shard *s, const char *path, err *e); /* on failure s is left to shard_close */
void shard_close(shard *s);                                       /* {0} is fine */

/* Reads s->n_kv pairs; then s->kv and s->kv_names are complete. */
MUST_CHECK status kv_parse(shard *s, reader *r, err *e);
const gguf_kv *kv_find(const shard *s, const char *key);
bool kv_same_value(const gguf_kv *a, const gguf_kv *b);
/* A single integer or bool that lies in [0, max]; *out is left alone when kv is NULL. */
MUST_CHECK status kv_get_uint(const gguf_kv *kv, uint64_t max, uint64_t *out, err *e);

/* Reads s->n_tensors infos and gives each its place behind them, in the mapping. */
MUST_CHECK status tensor_parse(shard *s, reader *r, err *e);

/* split.*: how many files, and the path of each. */
typedef struct {
    uint64_t count;     /* 1: not split */
    uint64_t n_tensors; /* in all shards */
} split_info;

MUST_CHECK status split_read(split_info *out, const shard *first, err *e);
/* Opens shard number i (from 0) of the file opened as `first` and checks that it belongs to it. */
MUST_CHECK status split_open(shard *s, const shard *first, const split_info *info, uint64_t i, err *e);

#endif
