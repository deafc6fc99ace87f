/* Reads a stream of server-sent events as it comes, in pieces of any size: comments and every field but data are dropped, an
 * event is what stands in its data lines. Plain data, {0} is a new reader; one thread. */
#ifndef ROCMFORGE_CLI_EVENTS_H
#define ROCMFORGE_CLI_EVENTS_H

#include "base/str.h"

enum { EVENTS_MOST_BYTES = 16 << 20 }; /* of one event */

typedef struct {
    strbuf line, data;
    bool has_data, after_cr;
} event_reader;

typedef bool (*event_sink)(void *user, str data); /* false: no more */

/* false: the sink said so, an event is too long, or there is no memory. */
bool events_feed(event_reader *r, const char *p, size_t n, event_sink sink, void *user);
void events_free(event_reader *r);

#endif
