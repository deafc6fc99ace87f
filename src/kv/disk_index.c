#include "kv/disk_index.h"

#include "base/mem.h"

#include <string.h>

bool disk_index_init(disk_index *x, uint32_t n_entries) {
    *x = (disk_index){.n_entries = n_entries, .n_bucket = 16};
    while (x->n_bucket < n_entries) x->n_bucket *= 2;
    x->entry = mem_array((size_t)n_entries + 1, sizeof *x->entry);
    x->bucket = mem_array(x->n_bucket, sizeof *x->bucket);
    if (!x->entry || !x->bucket) return false;
    for (disk_entry_id i = n_entries; i; i--) {
        x->entry[i].chain = x->entry[0].chain;
        x->entry[0].chain = i;
    }
    x->n_free = n_entries;
    return true;
}

void disk_index_free(disk_index *x) {
    mem_free(x->entry);
    mem_free(x->bucket);
    *x = (disk_index){0};
}

static disk_entry_id *bucket_of(const disk_index *x, uint64_t key) { return &x->bucket[key & (x->n_bucket - 1)]; }

disk_entry_id disk_index_find(const disk_index *x, const uint64_t identity[2], uint64_t key) {
    disk_entry_id i = *bucket_of(x, key);
    for (; i; i = x->entry[i].chain) {
        const disk_entry *e = &x->entry[i];
        if (e->key == key && e->identity[0] == identity[0] && e->identity[1] == identity[1]) break;
    }
    return i;
}

disk_entry_id disk_index_add(disk_index *x, const uint64_t identity[2], uint64_t key, bool own) {
    disk_entry_id i = x->entry[0].chain, *b = bucket_of(x, key);
    if (!i) return 0;
    x->entry[0].chain = x->entry[i].chain;
    x->n_free--;
    x->entry[i] = (disk_entry){.identity = {identity[0], identity[1]}, .key = key, .chain = *b, .own = own};
    *b = i;
    return i;
}

static void list_append(disk_index *x, disk_entry_id i) {
    disk_entry *e = &x->entry[i];
    disk_entry_id *newest = &x->newest[e->own], *oldest = &x->oldest[e->own];
    e->older = *newest;
    e->newer = 0;
    *(*newest ? &x->entry[*newest].newer : oldest) = i;
    *newest = i;
}

static void list_remove(disk_index *x, disk_entry_id i) {
    const disk_entry *e = &x->entry[i];
    *(e->older ? &x->entry[e->older].newer : &x->oldest[e->own]) = e->newer;
    *(e->newer ? &x->entry[e->newer].older : &x->newest[e->own]) = e->older;
}

void disk_index_stored(disk_index *x, disk_entry_id i, uint64_t bytes) {
    disk_entry *e = &x->entry[i];
    e->stored = true;
    e->bytes = bytes;
    x->bytes += bytes;
    x->n_own += e->own;
    list_append(x, i);
}

void disk_index_touch(disk_index *x, disk_entry_id i) {
    if (!x->entry[i].stored) return;
    list_remove(x, i);
    list_append(x, i);
}

void disk_index_remove(disk_index *x, disk_entry_id i) {
    disk_entry *e = &x->entry[i];
    if (e->stored) {
        list_remove(x, i);
        x->bytes -= e->bytes;
        x->n_own -= e->own;
    }
    disk_entry_id *at = bucket_of(x, e->key);
    while (*at != i) at = &x->entry[*at].chain;
    *at = e->chain;
    *e = (disk_entry){.chain = x->entry[0].chain};
    x->entry[0].chain = i;
    x->n_free++;
}

disk_entry_id disk_index_oldest(const disk_index *x) { return x->oldest[0] ? x->oldest[0] : x->oldest[1]; }
