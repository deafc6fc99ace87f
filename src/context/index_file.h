/* PATH-index: a saved graph. Written under another name and renamed when it is whole and on the disk; believed only if its
 * checksum, version, store and model are right. It holds no vector and no text. Stateless.
 *
 *   index_head | the graph (hnsw.h) */
#ifndef ROCMFORGE_CONTEXT_INDEX_FILE_H
#define ROCMFORGE_CONTEXT_INDEX_FILE_H

#include "context/hnsw.h"
#include "context/vectors.h"

typedef struct {
    int64_t vectors, gone; /* up to which it knows rows */
} index_mark;

MUST_CHECK status index_file_write(const char *path, const uint8_t *store, const vector_model *m, index_mark at,
                                   const hnsw *h, err *e);
/* *bytes (mem_free) holds the graph at *graph, [n]. ERR_IO: there is none, ERR_STORE_DAMAGED: it is not believed. */
MUST_CHECK status index_file_read(const char *path, const uint8_t *store, const vector_model *m, index_mark *at,
                                  void **bytes, const void **graph, size_t *n, err *e);
void index_file_remove(const char *path);

#endif
