/* Whole pages of prompts in a folder, so that a new process finds again what an old one computed. One file a page, named by
 * its chain key, written to a temporary name and renamed by a thread of its own; never trusted: identity (model, tokenizer,
 * RoPE, cache type, page shape), tokens, parent, length and a checksum of everything are compared, and a file that fails is
 * removed and counted. The least recently used files go when the folder is over its size; files of other identities count,
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
    size_t page_bytes;
} kv_disk_options;

MUST_CHECK status kv_disk_open(kv_disk **out, const kv_disk_options *opt, err *e);
void kv_disk_close(kv_disk *d); /* what is queued is written first; NULL is fine */

/* Is a page of this key believed to be there? Cheap: from memory. */
bool kv_disk_has(const kv_disk *d, uint64_t key);
/* Queues a copy of `bytes` for writing; false: known already, or the queue is full. parent: key of the page before, 0: none */
bool kv_disk_save(kv_disk *d, uint64_t key, uint64_t parent, const int32_t *tokens, const void *bytes);
/* Reads a page whose tokens and parent must be those given. false: not there, or not to be trusted (then it is gone). */
bool kv_disk_load(kv_disk *d, uint64_t key, uint64_t parent, const int32_t *tokens, void *bytes);

typedef struct {
    uint64_t pages, bytes, loaded, dropped, saved;
} kv_disk_stats;
void kv_disk_get_stats(const kv_disk *d, kv_disk_stats *out);

#endif
