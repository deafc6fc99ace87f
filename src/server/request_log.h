/* The log's line about a finished request: who, how much, how long, how it ended; never what was said. Any thread. */
#ifndef ROCMFORGE_SERVER_REQUEST_LOG_H
#define ROCMFORGE_SERVER_REQUEST_LOG_H

#include "base/str.h"
#include "server/record.h"

void log_request(const request_record *r); /* info; warn when it failed */
/* A request answered with an error: what clients get wrong at debug, a full queue at info, what is wrong here at warn. */
void log_refused(const char *id, str path, int http, const char *code);

#endif
