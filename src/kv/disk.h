/* Whole pages of prompts in a folder, so that a new process finds again what an old one computed. One file a page, named by
 * identity and chain key, written to a temporary name and renamed by a thread of its own; never trusted: identity (model,
 * tokenizer, RoPE, cache type, page shape), every token that led to the page, length and a checksum of everything are
 * compared, and a file that fails is removed and counted. (All tokens, not the key of the page before: whoever finds two
 * beginnings with one key could have the one answered from the other's pages.) The least recently used files go when the folder is over its size; files of other identities count,
 * and go first. Two processes may share a folder.
 * The scheduler's thread calls; it never waits for the disk to write: what the queue cannot take is not kept. */
#ifndef ROCMFORGE_KV_DISK_H
#define ROCMFORGE_KV_DISK_H

#include "base/err.h"
#include "kv/kv.h"

typedef struct kv_disk kv_disk;

typedef struct {
    const char *dir;      /* made if missing; ERR_IO when it cannot be used */
    uint64_t max_bytes;   /* of files */
    uint64_t identity[2]; /* XXH3-128 of everything that makes two caches interchangeable */
    uint32_t page_tokens;
    uint32_t max_tokens; /* the longest sequence; pages that end later are not kept */
    size_t page_bytes;
} kv_disk_options;

size_t kv_disk_memory(const kv_disk_options *opt); /* what open takes, less what files of others need in the index */
MUST_CHECK status kv_disk_open(kv_disk **out, const kv_disk_options *opt, err *e);
void kv_disk_close(kv_disk *d); /* what is queued is written first; NULL is fine */

/* Is a page of this key believed to be there? Cheap: from memory. key: kv_prefix_node_key */
bool kv_disk_has(const kv_disk *d, uint64_t key);
/* tokens: the whole sequence from its start to the page's end, n_tokens a multiple of page_tokens.
 * Queues a copy of `bytes` for writing; false: known already, or the queue is full. Allocates nothing. */
bool kv_disk_save(kv_disk *d, uint64_t key, const int32_t *tokens, uint32_t n_tokens, const void *bytes);
/* Reads the page whose tokens are these. false: not there, or not to be trusted (then it is gone); bytes may be written to. */
bool kv_disk_load(kv_disk *d, uint64_t key, const int32_t *tokens, uint32_t n_tokens, void *bytes);

typedef struct {
    uint64_t pages, bytes;           /* ours that are there; of all files */
    uint64_t loaded, dropped, saved; /* pages; dropped: damaged or foreign */
    uint64_t failed;                 /* could not be written: disk full, read-only */
} kv_disk_stats;
void kv_disk_get_stats(const kv_disk *d, kv_disk_stats *out);

#endif
