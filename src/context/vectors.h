/* Vectors as rows: f32 of length 1, one for each message and model. Functions work inside the transaction of the connection
 * they are given. A blob that is not n_embd floats is ERR_STORE_DAMAGED. */
#ifndef ROCMFORGE_CONTEXT_VECTORS_H
#define ROCMFORGE_CONTEXT_VECTORS_H

#include "context/near.h"
#include "context/rows.h"

/* Who computed vectors: the rows of a model and how many floats they have. id 0: there is none. */
typedef struct {
    int64_t id;
    uint32_t n_embd;
} vector_model;

enum { VECTOR_IDENTITY = 24 }; /* bytes of a model's identity */

/* The model of this identity; it is made where `make`. ERR_STORE_DAMAGED where its vectors have another length. */
MUST_CHECK status vectors_model(sql_conn *c, const uint8_t *identity, uint32_t n_embd, bool make, vector_model *out,
                                err *e);
MUST_CHECK status vectors_newest_model(sql_conn *c, vector_model *out, err *e);
MUST_CHECK status vectors_add(sql_conn *c, const vector_model *m, int64_t message, const float *v, err *e);
/* The same, unless the message has gone or has one of this model already. */
MUST_CHECK status vectors_add_if(sql_conn *c, const vector_model *m, int64_t message, const float *v, err *e);

/* How far vectors and deletions have come. An index that knows vectors up to v and deletions up to g still holds if
 * g + 1 >= gone_first: then what it lacks are the vectors beyond v and the deletions beyond g. */
typedef struct {
    int64_t last, gone_first, gone_last; /* gone_first: 1 where none was ever kept */
} vectors_state;
MUST_CHECK status vectors_get_state(sql_conn *c, const vector_model *m, vectors_state *out, err *e);
/* How many there are, up to this one. */
MUST_CHECK status vectors_count(sql_conn *c, const vector_model *m, int64_t up_to, int64_t *n, err *e);

/* Compares the unit vector with those beyond `after` whose messages pass the filter (NULL: all), into *best. */
MUST_CHECK status vectors_scan(sql_conn *c, const vector_model *m, int64_t after, const rows_filter *f, const float *v,
                               near_list *best, err *e);
/* One message's: *similarity to v, where it passes the filter and has a vector, else *there is false. */
MUST_CHECK status vectors_compare(sql_conn *c, const vector_model *m, int64_t message, const rows_filter *f,
                                  const float *v, bool *there, float *similarity, err *e);
/* Up to `most` of those beyond `after`, ascending: ids [most], messages [most], data [most, n_embd]. */
MUST_CHECK status vectors_batch(sql_conn *c, const vector_model *m, int64_t after, size_t most, int64_t *ids,
                                int64_t *messages, float *data, size_t *n, err *e);
/* The same for deletions: numbers [most], messages [most]. */
MUST_CHECK status vectors_gone(sql_conn *c, int64_t after, size_t most, int64_t *numbers, int64_t *messages, size_t *n,
                               err *e);
/* Messages that have no vector of this model, oldest first, at most so many. */
MUST_CHECK status vectors_missing(sql_conn *c, const vector_model *m, size_t most, message_list *l, err *e);

#endif
