/* The log's line about a finished request: who, how much, how long, how it ended; never what was said. Any thread. */
#ifndef ROCMFORGE_SERVER_REQUEST_LOG_H
#define ROCMFORGE_SERVER_REQUEST_LOG_H

#include "server/record.h"

void log_request(const request_record *r); /* info; warn when it failed */
/* A request that was not accepted. id NULL: none yet. */
void log_refused(const char *id, const char *route, int http, const char *code);

#endif
