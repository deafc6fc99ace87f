#include "server/sse.h"

#include <string.h>

#define NO_MEMORY "{\"error\":{\"message\":\"no memory for this event\",\"code\":\"memory.exhausted\"}}"

void sse_open(exchange *x) {
    exchange_add_header(x, "Cache-Control", "no-cache");
    exchange_add_header(x, "X-Accel-Buffering", "no");
    exchange_stream(x, 200, "text/event-stream");
}

void sse_json(exchange *x, json_t *v) {
    strbuf b = {0};
    err why;
    strbuf_puts(&b, "data: ");
    const status s = v ? json_write(v, &b, &why) : ERR_NOMEM;
    strbuf_puts(&b, "\n\n");
    json_decref(v);
    if (s || b.failed)
        sse_text(x, NO_MEMORY);
    else
        exchange_write(x, b.p, b.n);
    strbuf_free(&b);
}

void sse_text(exchange *x, const char *line) {
    char event[256] = "data: ";
    strncat(event, line, sizeof event - 16);
    strcat(event, "\n\n");
    exchange_write(x, event, strlen(event));
}

void sse_ping(exchange *x) { exchange_write(x, ": ping\n\n", 8); }
