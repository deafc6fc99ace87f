/* Searching: nearest vectors, full text, both merged, then along edges. Works inside one reading transaction, so that every
 * part of an answer is of the same state of the rows. */
#ifndef ROCMFORGE_CONTEXT_SEARCH_H
#define ROCMFORGE_CONTEXT_SEARCH_H

#include "context/index.h"

typedef enum { SEARCH_VECTOR = 1, SEARCH_WORDS, SEARCH_HYBRID } search_mode; /* as rf_context_mode */

enum { FOUND_VECTOR = 1, FOUND_WORDS = 2, FOUND_EDGE = 4 }; /* as RF_FOUND_ */
enum { SEARCH_MOST = 1000 /* hits, with those that expansion adds */, SEARCH_MOST_STEPS = 16 };

typedef struct {
    search_mode mode;
    str text;            /* words */
    const float *vector; /* [model.n_embd], of length 1; NULL: none, then there are no similarities */
    vector_model model;
    rows_filter filter;
    uint32_t k, expand;
    vector_index *index; /* NULL: every vector is compared */
} search_query;

typedef struct {
    int64_t id;
    float similarity; /* NAN: unknown */
    double score;
    unsigned found_by;
    int64_t near_id;
    uint32_t steps;
} search_hit;

typedef struct {
    search_hit *hit; /* [n]; freed by search_close */
    size_t n, cap;
    bool exact;
} search_hits;

MUST_CHECK status search_rows(sql_conn *c, const search_query *q, search_hits *out, err *e);
void search_close(search_hits *h);

#endif
