/* Which pages stand in a folder, from memory: found by identity and key, and listed by their last use, oldest first, those
 * of other identities before ours. Allocates in init only. Not locked: its owner (kv/disk.c) does that. */
#ifndef ROCMFORGE_KV_DISK_INDEX_H
#define ROCMFORGE_KV_DISK_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint32_t disk_entry_id; /* 0: none */

typedef struct {
    uint64_t identity[2], key, bytes;
    disk_entry_id chain;        /* same bucket, or free */
    disk_entry_id older, newer; /* in its list */
    uint32_t scan;              /* the last one that saw it */
    bool own;                   /* of our identity */
    bool stored;                /* it is a file, counted and listed; else pending: queued to become one */
} disk_entry;

typedef struct {
    disk_entry *entry; /* [n_entries + 1]; entry 0 is no page: free ones hang on its chain */
    disk_entry_id *bucket;
    uint32_t n_entries, n_free, n_bucket; /* power of two */
    disk_entry_id oldest[2], newest[2];   /* of others, of ours */
    uint32_t n_own;
    uint64_t bytes; /* of all files */
} disk_index;

bool disk_index_init(disk_index *x, uint32_t n_entries); /* false: out of memory */
void disk_index_free(disk_index *x);

disk_entry_id disk_index_find(const disk_index *x, const uint64_t identity[2], uint64_t key);
/* A pending page that is not in the index yet. 0: no entry is free. */
disk_entry_id disk_index_add(disk_index *x, const uint64_t identity[2], uint64_t key, bool own);
void disk_index_stored(disk_index *x, disk_entry_id i, uint64_t bytes); /* a pending page is a file, used now */
void disk_index_touch(disk_index *x, disk_entry_id i);                  /* used now */
void disk_index_remove(disk_index *x, disk_entry_id i);
disk_entry_id disk_index_oldest(const disk_index *x); /* what goes first; 0: there is none */

#endif
