/* GGUF files (v2, v3, little endian; one file or shards). Parses the header in one pass, checks every number in it, and
 * hands out views into the mapping: nothing of the file is copied, memory and time are bounded by the file's own size.
 * Source of the format: the GGUF specification of the ggml project (docs/gguf.md).
 *
 *   file:  magic u32 | version u32 | n_tensors u64 | n_kv u64 | kv ... | tensor info ... | pad | tensor data
 *   kv:    key string | type u32 | value          string: n u64 | n bytes         array: type u32 | n u64 | values
 *   info:  name string | n_dims u32 | dim u64 ... | type u32 | offset u64 (into the data section)
 *
 * Refused by name, beyond what does not parse: caps (65,536 keys and tensors, strings of 16 MiB, arrays of 16 Mi elements,
 * names of 63 bytes, 4 dimensions, 1,024 shards), arrays of arrays (nobody writes them, llama.cpp refuses them too),
 * alignments other than a power of two from 8 to 1 MiB, empty dimensions, keys and names that are empty, twice, or no
 * UTF-8, booleans other than 0 and 1, tensors that overlap or are not in the order of their data.
 * Shards: keys come from the first; a key of a later shard must not contradict it. Shard names are made from the path given
 * and two numbers, nothing else. A merged file keeps split.count 0: that, like 1, is a single file.
 * A scalar (0 dimensions) is shown as one dimension of 1. String values may hold any bytes.
 *
 * A gguf owns its mappings; all views die with gguf_close. Immutable after open: any thread may read.
 * Errors name the offending key or tensor. What this refuses, `inspect` and `generate` refuse alike. */
#ifndef ROCMFORGE_GGUF_GGUF_H
#define ROCMFORGE_GGUF_GGUF_H

#include "base/err.h"
#include "base/file.h"
#include "base/str.h"
#include "quant/quant.h"

typedef enum {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_TYPE_COUNT
} gguf_type;

enum { GGUF_MAX_DIMS = 4 };

typedef struct {
    str key;
    gguf_type type;      /* GGUF_ARRAY for an array, whose elements have elem_type */
    gguf_type elem_type; /* == type for a single value */
    uint64_t n;          /* elements; 1 for a single value */
    const uint8_t
        *data;      /* first element as it stands in the file: unaligned, little endian, strings with their length */
    size_t n_bytes; /* of the elements */
} gguf_kv;

typedef struct {
    str name;                    /* not terminated */
    uint32_t n_dims;             /* 1..4; dims past it are 1 */
    uint64_t dim[GGUF_MAX_DIMS]; /* dim[0] is contiguous: the columns of a matrix */
    quant_type type;
    const uint8_t *data;  /* in the mapping of its shard */
    uint64_t n_bytes;     /* of data */
    const file_map *file; /* the shard that holds it */
} gguf_tensor;

typedef struct gguf gguf;

/* path: the file, or the first shard of a split one; the other shards are found beside it by their names. */
MUST_CHECK status gguf_open(gguf **out, const char *path, err *e);
void gguf_close(gguf *g); /* NULL is fine */

const char *gguf_path(const gguf *g);
uint32_t gguf_version(const gguf *g);
uint64_t gguf_file_bytes(const gguf *g);   /* of all shards */
uint64_t gguf_header_bytes(const gguf *g); /* memory of the headers, once read: their bytes and our tables */
uint32_t gguf_n_shards(const gguf *g);
MUST_CHECK status gguf_check(const gguf *g,
                             err *e); /* ERR_FILE_CHANGED when any shard was lost or changed since open */
bool gguf_lost(const gguf *g);        /* a page was lost: relaxed loads only, for every step */

size_t gguf_n_kv(const gguf *g);
const gguf_kv *gguf_kv_at(const gguf *g, size_t i);       /* in file order */
const gguf_kv *gguf_find(const gguf *g, const char *key); /* NULL: absent */

size_t gguf_n_tensors(const gguf *g);
const gguf_tensor *gguf_tensor_at(const gguf *g, size_t i);           /* in file order, shard after shard */
const gguf_tensor *gguf_tensor_find(const gguf *g, const char *name); /* NULL: absent. Hashed */

/* Typed reads of single values. An absent key leaves *out as it was (set the default first) and is OK; a key of another
 * type or out of range is ERR_GGUF_KEY naming it. Any integer type is accepted where the value fits; u32 takes BOOL as 0/1. */
MUST_CHECK status gguf_get_u32(const gguf *g, const char *key, uint32_t *out, err *e);
MUST_CHECK status gguf_get_u64(const gguf *g, const char *key, uint64_t *out, err *e);
MUST_CHECK status gguf_get_f32(const gguf *g, const char *key, float *out, err *e); /* F32 or F64; must be finite */
MUST_CHECK status gguf_get_bool(const gguf *g, const char *key, bool *out, err *e);
MUST_CHECK status gguf_get_str(const gguf *g, const char *key, str *out, err *e);

/* Arrays. Index must be below kv->n. */
uint64_t gguf_array_uint(const gguf_kv *kv, uint64_t i); /* any integer or bool element, sign extended */
double gguf_array_float(const gguf_kv *kv, uint64_t i);  /* F32 or F64 elements */
/* Walks an array of strings: start with *at = kv->data; each call gives the next and moves on. All were checked at open;
 * the length is checked again, since the file may have been written to: the view never leaves the elements of kv. */
str gguf_next_string(const gguf_kv *kv, const uint8_t **at);

const char *gguf_type_name(gguf_type t); /* "u32", "string", ... */

#endif
