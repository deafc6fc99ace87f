/* A generation that a client of the native or llama.cpp's routes asked for, on its way from its fields to the engine: its
 * fields are read, its prompt becomes ids (much text on another thread), then `start` starts the job. An asked owns itself:
 * it is freed when `start` returned, or when it was refused and replied. Loop thread. */
#ifndef ROCMFORGE_SERVER_ASKED_H
#define ROCMFORGE_SERVER_ASKED_H

#include "server/fields.h"

typedef struct asked asked;
struct asked {
    fields f;
    rf_request_params params; /* its lists and tokens live until start returns */
    sampler_lists lists;
    int32_t *ids;
    void *user;                    /* start sets it to NULL when it takes it over */
    void (*free_user)(void *user); /* NULL: user needs none */
    void (*start)(asked *q, app *a, exchange *x);
};

asked *asked_open(exchange *x); /* the body is a JSON object, the model is the loaded one. NULL: it replied */
/* When every getter was called: refuses, or goes on. `prompt` is read here. q is gone when it returns, or later. */
void asked_run(asked *q);
void asked_free(asked *q); /* one that does not get so far */

#endif
