/* Server-sent events on a streaming exchange. After each call the exchange may be gone: job.h says how a route sees that. */
#ifndef ROCMFORGE_SERVER_SSE_H
#define ROCMFORGE_SERVER_SSE_H

#include "base/json.h"
#include "server/exchange.h"

void sse_open(exchange *x);            /* 200 text/event-stream, not to be cached or buffered on the way */
void sse_json(exchange *x, json_t *v); /* one data event; takes v. NULL: an error event that says memory.exhausted */
void sse_text(exchange *x, const char *line); /* one data event of fixed text: "[DONE]" */
void sse_ping(exchange *x);                   /* a comment, so that proxies and clients see life */

#endif
