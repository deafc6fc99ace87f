/* hnswlib behind C: a graph of vectors for approximate nearest neighbours by cosine (M 16, efConstruction 200). A node is a
 * label (not 0, each at most once) and a unit vector. Nodes are never taken out: a deleted one stays as a way to others and is
 * filtered from results; a graph with too many of them is built anew by its owner.
 *
 * No exception leaves it. After a failure other than ERR_RANGE the graph is only good for hnsw_free. Threads: any number of
 * readers (search, has, counts) or one writer; the owner locks. The dot product is chosen by the caller (vec.h): the library's
 * own, which would have to be built once for each instruction set and whose templates the linker would then mix, is not
 * used. The same vectors added in the same order give the same graph on every CPU. */
#ifndef ROCMFORGE_CONTEXT_HNSW_H
#define ROCMFORGE_CONTEXT_HNSW_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "base/err.h"

typedef struct hnsw hnsw;
typedef float (*hnsw_dot)(const float *a, const float *b, size_t n);

enum { HNSW_M = 16, HNSW_EF_CONSTRUCTION = 200 };

MUST_CHECK status hnsw_new(hnsw **out, size_t n_embd, size_t capacity, hnsw_dot dot, err *e);
void hnsw_free(hnsw *h);                                                          /* NULL is fine */
MUST_CHECK status hnsw_add(hnsw *h, uint64_t label, const float *vector, err *e); /* grows when full */
bool hnsw_delete(hnsw *h, uint64_t label);                                        /* false: not there, or deleted */
bool hnsw_has(const hnsw *h, uint64_t label);                                     /* and not deleted */
size_t hnsw_count(const hnsw *h);                                                 /* with the deleted ones */
size_t hnsw_deleted(const hnsw *h);

typedef struct {
    uint64_t label;
    float similarity; /* dot of the two */
} hnsw_near;
/* Up to k labels nearest to the unit vector, nearest first, found by looking at ef candidates (>= k; the more, the surer).
 * *n: how many; fewer than k also means that too many of the candidates are deleted. */
MUST_CHECK status hnsw_search(hnsw *h, const float *vector, size_t k, size_t ef, hnsw_near *out, size_t *n, err *e);

/* The graph without its vectors, as bytes: labels, deleted, levels, links, a checksum of each vector. write returns false to stop. */
MUST_CHECK status hnsw_save(const hnsw *h, bool (*write)(void *user, const void *p, size_t n), void *user, err *e);
size_t hnsw_saved_bytes(const hnsw *h);
/* The graph of such bytes, every link checked (ERR_RANGE: they are no graph, or one of other vectors). vector gives [n_embd] of a label or NULL: the
 * node is then deleted, and gets the mean of its neighbours' vectors, so that it still leads to them. */
MUST_CHECK status hnsw_load(hnsw **out, const void *bytes, size_t n_bytes, size_t n_embd, hnsw_dot dot,
                            const float *(*vector)(void *user, uint64_t label), void *user, err *e);

#ifdef __cplusplus
}
#endif
#endif
