/* What the server says of itself, for /health and for the page. Loop thread. */
#ifndef ROCMFORGE_SERVER_OPS_H
#define ROCMFORGE_SERVER_OPS_H

#include "server/app.h"

typedef enum { HEALTH_GOOD, HEALTH_DEGRADED, HEALTH_BAD } health;

json_t *ops_health(const app *a, health *how); /* NULL: no memory */
void ops_page(app *a, exchange *x);            /* GET / (page.c) */

#endif
