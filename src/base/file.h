/* A file mapped for reading, that survives what happens to it. If the file shrinks, changes or its disk fails, touching a
 * lost page would raise SIGBUS; one process-wide handler (installed by the first open, chained to what was there) maps
 * zeros over the lost page instead and marks the mapping. Whoever publishes a result made from the bytes checks
 * file_map_check() first: it also compares size and time of change with those at open.
 * The mapping is owned by its opener and immutable; reading and file_map_check are safe from any thread. */
#ifndef ROCMFORGE_BASE_FILE_H
#define ROCMFORGE_BASE_FILE_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

typedef struct file_map file_map;

MUST_CHECK status file_map_open(file_map **out, const char *path, err *e); /* refuses what is no regular file */
void file_map_close(file_map *m);                                          /* NULL is fine */
const uint8_t *file_map_data(const file_map *m);                           /* page aligned; NULL for an empty file */
size_t file_map_size(const file_map *m);
const char *file_map_path(const file_map *m);
MUST_CHECK status file_map_check(const file_map *m,
                                 err *e); /* ERR_FILE_CHANGED once a page was lost or the file differs */
bool file_map_lost(const file_map *m);    /* the mark alone: one relaxed load, for a hot path */
/* The bytes at p, inside the mapping, read past it (pread): for those who go through the file once and want no pages of it.
 * false: they could not be had; dst is zeroed then, and the mapping marked as lost. Any thread. */
MUST_CHECK bool file_map_read(const file_map *m, const void *p, void *dst, size_t n_bytes);
/* The pages of [p, p + n_bytes) that lie wholly inside are given back to the kernel (they would be read again if touched). */
void file_map_release(const file_map *m, const void *p, size_t n_bytes);

#endif
