/* The log's lines about requests: who, how much, how long, how it ended; what was said only where that was asked for. Any
 * thread. */
#ifndef ROCMFORGE_SERVER_REQUEST_LOG_H
#define ROCMFORGE_SERVER_REQUEST_LOG_H

#include "base/str.h"
#include "server/record.h"

void log_request(const request_record *r); /* info; warn when it failed */
/* A request answered with an error: what clients get wrong at debug, a full queue at info, what is wrong here at warn. */
void log_refused(const char *id, str path, int http, const char *code);

/* What was asked and answered, at debug and only when that was asked for (--log-content). */
void log_prompt(const char *id, const rf_model *m, const int32_t *tokens, size_t n);
void log_answer(const char *id, uint32_t choice, str text);

#endif
