/* Work between a request's fields and its job that may take long (rendering and tokenizing much text): done at once when it is
 * little, else on a thread of libuv's pool, so that the loop never stands still for it. */
#ifndef ROCMFORGE_SERVER_PREPARE_H
#define ROCMFORGE_SERVER_PREPARE_H

#include "server/app.h"

/* run(user) where it is fit, then done(user, x) on the loop thread: x NULL when the peer left meanwhile. While it waits x->user
 * and x->closed are taken; they are NULL again in done. n_bytes: of text. run may touch what user owns and the model. */
void prepare_run(exchange *x, size_t n_bytes, void (*run)(void *user), void (*done)(void *user, exchange *x),
                 void *user);

#endif
