/* What the files of the public context store share: a store, its index, and who embeds. */
#ifndef ROCMFORGE_API_CONTEXT_H
#define ROCMFORGE_API_CONTEXT_H

#include "api/api.h"
#include "context/search.h"

#include <pthread.h>

struct rf_context {
    store *store;
    vector_index *index; /* NULL: none is wanted */
    rf_engine *engine;   /* NULL: none */
    bool cut_long;
    const rf_model *model;
    uint32_t n_embd;
    pthread_mutex_t lock;              /* guards identity: it takes a while, and is made at its first use */
    uint8_t identity[VECTOR_IDENTITY]; /* of the model and of how it is pooled */
    bool has_identity;
};

/* context_embed.c. May the engine's model be used at all? */
MUST_CHECK status context_check_engine(const rf_engine *g, err *e);
/* Vectors of length 1 of n texts: *out [n, n_embd], mem_free; NULL without an engine. */
MUST_CHECK bool context_embed_texts(rf_context *c, const str *texts, size_t n, float **out, rf_error *e);
/* The rows of the engine's model; made if `make`. Without an engine: the newest model's. */
MUST_CHECK status context_model(rf_context *c, sql_conn *conn, bool make, vector_model *out, err *e);

/* context.c. Messages that message_check passed, and their vectors ([n, n_embd], or NULL), in one transaction, which the caller
 * ends; ids [n]. */
MUST_CHECK status context_put(rf_context *c, sql_conn *conn, const context_message *m, size_t n, const float *vectors,
                              int64_t *ids, err *e);
void context_kick(rf_context *c, const vector_model *m);
int64_t context_now_us(void); /* since 1970 */

#endif
