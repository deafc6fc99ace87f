/* Device memory for a model's weights: one block, or as few as the device allows (at most 16), cut into named pieces.
 * Hundreds of small allocations have hung RDNA3 drivers; here the driver sees one. A piece is the smallest free one that
 * fits, cut at its front; pieces begin at 256-byte boundaries; a rest below 64 bytes is no piece of its own and stays with
 * its neighbour; freed pieces join free neighbours of the same block. Takes no part in a step. One thread. */
#ifndef ROCMFORGE_BACKEND_GPU_MEMORY_H
#define ROCMFORGE_BACKEND_GPU_MEMORY_H

#include "backend/gpu/driver.h"

enum { GPU_ARENA_BLOCKS = 16, GPU_ALIGN = 256, GPU_FRAGMENT = 64 };

typedef struct gpu_arena gpu_arena;

typedef struct {
    uint32_t n_blocks, n_pieces; /* n_pieces: in use */
    uint64_t bytes, used, free;  /* used + free = bytes; used counts what alignment and dropped rests take */
    uint64_t largest_free;
    double fragmentation; /* 1 - largest_free / free; 0 when nothing is free */
} gpu_arena_stats;

/* n_bytes in all, `largest` of one piece: what several blocks have to be enlarged by, since no piece crosses their ends.
 * ERR_GPU_MEMORY: not even 16 blocks can be had. */
MUST_CHECK status gpu_arena_open(gpu_arena **out, gpu_driver *d, uint32_t dev, uint64_t n_bytes, uint64_t largest,
                                 err *e);
void gpu_arena_close(gpu_arena *a); /* NULL is fine; pieces die with it */

/* name is copied (cut at 63 bytes). ERR_GPU_MEMORY: no free piece is large enough. */
MUST_CHECK status gpu_arena_take(gpu_arena *a, uint64_t n_bytes, const char *name, gpu_addr *out, err *e);
void gpu_arena_drop(gpu_arena *a, gpu_addr p);              /* 0 is fine */
const char *gpu_arena_name(const gpu_arena *a, gpu_addr p); /* of the piece that holds this address; NULL: none */
gpu_arena_stats gpu_arena_get_stats(const gpu_arena *a);

static inline uint64_t gpu_align(uint64_t n) { return (n + GPU_ALIGN - 1) / GPU_ALIGN * GPU_ALIGN; }

#endif
