/* Texts, ids or (query, document) pairs on their way to vectors: what the routes of embeddings and of reranking share. A route
 * opens an embed, reads its fields with embed->f, and hands it to embed_run, which makes tokens (of much text on another
 * thread), refuses or cuts what is longer than the context, runs one job, and asks `reply` for the JSON. An embed owns itself:
 * it is gone after embed_run, or later. Loop thread, but for `reply`. */
#ifndef ROCMFORGE_SERVER_EMBED_H
#define ROCMFORGE_SERVER_EMBED_H

#include "server/fields.h"
#include "server/openai_input.h"

enum { EMBED_MOST_INPUTS = 2048 };

typedef struct embed embed;
struct embed {
    app *app;
    fields f; /* open until the reply is made: texts are borrowed from its body */
    const char *route;
    const char *field; /* of the inputs, named when one is refused */
    rf_pooling pooling;
    bool truncate;
    openai_input *in;
    uint32_t n_in;
    str query; /* p not NULL: each input is the document of a pair */
    /* How the reply is to look: the route's own affair. */
    bool base64, documents;
    int64_t dimensions, norm, top_n;
    json_t *(*reply)(embed *c); /* maybe on another thread, alone with c and the model; NULL: no memory */

    float *rows; /* [n_in, d_row], when the reply is asked for; not normalised */
    uint32_t d_row;
    uint64_t n_tokens;
    json_t *warnings; /* taken by embed_put_usage */
    struct embed_work *work;
};

embed *embed_open(app *a, exchange *x); /* the body is an object, the model the loaded one; NULL: it replied */
void embed_run(embed *c);               /* fields_finish, and all that follows */
/* usage {prompt_tokens, completion_tokens, total_tokens, cached_tokens} and warnings. */
void embed_put_usage(embed *c, json_t *reply);

#endif
