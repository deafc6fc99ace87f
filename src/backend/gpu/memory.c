/* Pieces stand in one array by ascending address inside their block, blocks one after the other: neighbours in the array
 * are neighbours in memory. Some hundred pieces, searched from the front: nobody waits for that. */
#include "backend/gpu/memory.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { NAME_BYTES = 64 };

typedef struct {
    gpu_addr at;
    uint64_t size;
    uint32_t block;
    bool used;
    char name[NAME_BYTES];
} piece;

struct gpu_arena {
    gpu_driver *d;
    uint32_t dev, n_blocks;
    gpu_addr block[GPU_ARENA_BLOCKS];
    piece *piece;
    uint32_t n, cap;
};

static bool grow(gpu_arena *a) {
    if (a->n < a->cap) return true;
    uint32_t cap = a->cap ? 2 * a->cap : 64;
    piece *p = mem_resize(a->piece, cap * sizeof *p);
    if (!p) return false;
    a->piece = p;
    a->cap = cap;
    return true;
}

static void release_blocks(gpu_arena *a) {
    for (uint32_t i = 0; i < a->n_blocks; i++) a->d->release(a->d, a->dev, a->block[i]);
    a->n_blocks = 0;
    a->n = 0;
}

static status take_blocks(gpu_arena *a, uint32_t n, uint64_t size, err *e) {
    for (uint32_t i = 0; i < n; i++) {
        if (!grow(a)) return fail(e, ERR_NOMEM, "memory of the GPU's weights");
        status s = a->d->alloc(a->d, a->dev, size, &a->block[i], e);
        if (s) return s;
        a->n_blocks = i + 1;
        a->piece[a->n++] = (piece){.at = a->block[i], .size = size, .block = i};
    }
    return OK;
}

status gpu_arena_open(gpu_arena **out, gpu_driver *d, uint32_t dev, uint64_t n_bytes, uint64_t largest, err *e) {
    *out = NULL;
    gpu_arena *a = mem_zalloc(sizeof *a);
    if (!a) return fail(e, ERR_NOMEM, "memory of the GPU's weights");
    a->d = d;
    a->dev = dev;
    status s = ERR_GPU_MEMORY;
    for (uint32_t n = 1; s == ERR_GPU_MEMORY && n <= GPU_ARENA_BLOCKS; n *= 2) {
        uint64_t size = n == 1 ? n_bytes : n_bytes / n + largest;
        s = take_blocks(a, n, gpu_align(size ? size : 1), e);
        if (s) release_blocks(a);
    }
    if (s)
        gpu_arena_close(a);
    else
        *out = a;
    return s;
}

void gpu_arena_close(gpu_arena *a) {
    if (!a) return;
    release_blocks(a);
    mem_free(a->piece);
    mem_free(a);
}

/* The smallest free piece of at least this size; n: none. */
static uint32_t best_fit(const gpu_arena *a, uint64_t size) {
    uint32_t best = a->n;
    for (uint32_t i = 0; i < a->n; i++)
        if (!a->piece[i].used && a->piece[i].size >= size && (best == a->n || a->piece[i].size < a->piece[best].size))
            best = i;
    return best;
}

status gpu_arena_take(gpu_arena *a, uint64_t n_bytes, const char *name, gpu_addr *out, err *e) {
    *out = 0;
    uint64_t size = gpu_align(n_bytes ? n_bytes : 1);
    if (size < n_bytes || !grow(a)) return fail(e, ERR_NOMEM, "memory of the GPU's weights");
    uint32_t i = best_fit(a, size);
    if (i == a->n) {
        gpu_arena_stats s = gpu_arena_get_stats(a);
        return fail(e, ERR_GPU_MEMORY, "%s needs %" PRIu64 " bytes; the largest free piece of the arena has %" PRIu64,
                    name, size, s.largest_free);
    }
    piece *p = &a->piece[i];
    if (p->size - size >= GPU_FRAGMENT) {
        memmove(p + 1, p, (a->n - i) * sizeof *p);
        p[1].at += size;
        p[1].size -= size;
        p->size = size;
        a->n++;
    }
    p->used = true;
    snprintf(p->name, sizeof p->name, "%s", name);
    *out = p->at;
    return OK;
}

static bool joins(const piece *l, const piece *r) { return !l->used && !r->used && l->block == r->block; }

/* Piece i and the one behind it become one. */
static void join(gpu_arena *a, uint32_t i) {
    a->piece[i].size += a->piece[i + 1].size;
    memmove(&a->piece[i + 1], &a->piece[i + 2], (a->n - i - 2) * sizeof *a->piece);
    a->n--;
}

static uint32_t holder(const gpu_arena *a, gpu_addr p) {
    uint32_t i = 0;
    while (i < a->n && (p < a->piece[i].at || p - a->piece[i].at >= a->piece[i].size)) i++;
    return i;
}

void gpu_arena_drop(gpu_arena *a, gpu_addr p) {
    uint32_t i = p ? holder(a, p) : a->n;
    if (i == a->n) return;
    a->piece[i].used = false;
    a->piece[i].name[0] = 0;
    if (i + 1 < a->n && joins(&a->piece[i], &a->piece[i + 1])) join(a, i);
    if (i && joins(&a->piece[i - 1], &a->piece[i])) join(a, i - 1);
}

const char *gpu_arena_name(const gpu_arena *a, gpu_addr p) {
    uint32_t i = holder(a, p);
    return i < a->n && a->piece[i].used ? a->piece[i].name : NULL;
}

gpu_arena_stats gpu_arena_get_stats(const gpu_arena *a) {
    gpu_arena_stats s = {.n_blocks = a->n_blocks};
    for (uint32_t i = 0; i < a->n; i++) {
        const piece *p = &a->piece[i];
        s.bytes += p->size;
        s.n_pieces += p->used;
        *(p->used ? &s.used : &s.free) += p->size;
        if (!p->used && p->size > s.largest_free) s.largest_free = p->size;
    }
    s.fragmentation = s.free ? 1.0 - (double)s.largest_free / (double)s.free : 0.0;
    return s;
}
