/* Finds the route of a request in the dialects' tables. Loop thread. */
#ifndef ROCMFORGE_SERVER_ROUTES_H
#define ROCMFORGE_SERVER_ROUTES_H

#include "server/app.h"

/* Runs the route, or replies 404, 405 with Allow, 501, or 503 while draining. *name: the route's pattern, set before it runs. */
void routes_run(app *a, exchange *x, const char **name);
bool routes_open(str path); /* a route of this path needs no key */

#endif
