/* Who may ask: the Host they name, the page they come from, the key they bring, and that what they bring is JSON. Looked at
 * when a request's head is complete, before its body and before any route. Loop thread. */
#ifndef ROCMFORGE_SERVER_GUARD_H
#define ROCMFORGE_SERVER_GUARD_H

#include "server/exchange.h"
#include "server/server.h"

typedef struct guard guard;

guard *guard_new(const server_options *opt); /* opt outlives it. NULL: out of memory */
void guard_free(guard *g);
bool guard_pass(guard *g, exchange *x); /* false: it replied, x is gone */
bool guard_is_loopback(const char *host);

#endif
