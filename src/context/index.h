/* The index over the vectors of one model: an HNSW graph (hnsw.h) that one thread of its own loads, builds, keeps in step with
 * the rows and saves. It only proposes: what it names is looked up in the rows, and rows that it has not got to yet are
 * compared one by one, so a search never misses a row for its sake and never waits for it.
 *
 *   rows      vectors 1 .. last                                     deletions 1 .. gone_last
 *   graph     vectors 1 .. v     (the rest: compared exactly)       deletions 1 .. g     (the rest: not found as rows)
 *
 * Beyond INDEX_SMALL vectors there is a graph; where it is missing, damaged, of another store or too far behind, every vector
 * is compared until it is built. Where more than 30 % of its nodes are deleted it is built anew, beside the old one. In a
 * file's store it is kept as PATH-index: the graph without vectors, which come from the rows. Any thread may call. */
#ifndef ROCMFORGE_CONTEXT_INDEX_H
#define ROCMFORGE_CONTEXT_INDEX_H

#include "context/store.h"
#include "context/vectors.h"

typedef struct vector_index vector_index;

enum { INDEX_SMALL = 2000 };

MUST_CHECK status index_open(vector_index **out, store *s, err *e); /* s outlives it */
void index_close(vector_index *x);                                  /* saves what is worth it; NULL is fine */

/* Tells it what to index; again after every change. Costs next to nothing. */
void index_kick(vector_index *x, const vector_model *m);
/* Everything of the rows is gone, or the model: forgets the graph and removes its file. */
void index_forget(vector_index *x);
void index_remove_file(store *s);   /* for who has no index open */
void index_settle(vector_index *x); /* until its thread has nothing to do */

/* Into *best (of whatever capacity): candidates nearest to v, approximate ones of the graph and the exact best of what it
 * lacks, as the transaction of c sees the rows; more than best->cap are looked at. *used false: there is no graph to ask, and
 * *best is empty. Candidates may have been deleted since. */
MUST_CHECK status index_search(vector_index *x, sql_conn *c, const vector_model *m, const float *v, near_list *best,
                               bool *used, err *e);

typedef struct {
    const char *state; /* "none", "small", "ready", "building" */
    int64_t n_indexed, n_deleted;
} index_status;
void index_get_status(vector_index *x, int64_t n_vectors, index_status *out);

#endif
