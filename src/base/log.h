/* The log: lines or JSON objects for whoever runs the program. One per process, set up by main (log_open) before threads
 * start; without that, or below its level, a call costs one comparison and writes nothing. Any thread; a line is one write.
 * Never a word of a prompt or an answer, unless log_content was asked for.
 *
 *     log_event(LOG_INFO, "server", "request finished",
 *               (log_field[]){log_s("id", id), log_i("tokens", n), log_f("seconds", t), {0}});
 *
 * human: 2026-11-21T10:20:30.123Z info  server: request finished id=... tokens=12 seconds=0.5
 * json:  {"ts":"...","level":"info","module":"server","msg":"request finished","id":"...","tokens":12,"seconds":0.5} */
#ifndef ROCMFORGE_BASE_LOG_H
#define ROCMFORGE_BASE_LOG_H

#include "base/err.h"

#include <stdint.h>

typedef enum { LOG_TRACE, LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_OFF } log_level;

typedef struct {
    const char *key; /* NULL ends a list */
    enum { LOG_STRING, LOG_INTEGER, LOG_NUMBER } kind;
    const char *s;
    int64_t i;
    double f;
} log_field;

static inline log_field log_s(const char *key, const char *value) {
    return (log_field){.key = key, .kind = LOG_STRING, .s = value};
}
static inline log_field log_i(const char *key, int64_t value) {
    return (log_field){.key = key, .kind = LOG_INTEGER, .i = value};
}
static inline log_field log_f(const char *key, double value) {
    return (log_field){.key = key, .kind = LOG_NUMBER, .f = value};
}

/* levels: "info", or "warn,server=debug,sched=trace" (RUST_LOG's form). file NULL: standard error. */
MUST_CHECK status log_open(const char *levels, bool json, const char *file, err *e);
bool log_in_file(void);
log_level log_start_level(void); /* of what start-up also tells in plain lines: debug where both go to one console */
void log_reopen(void);           /* the file anew, after it was moved away (log rotation). Any thread */
void log_close(void);
void log_content(bool on); /* prompts and answers may be logged at debug */
bool log_content_wanted(void);
bool log_enabled(log_level level, const char *module);
void log_event(log_level level, const char *module, const char *msg, const log_field *fields); /* NULL: no fields */

#endif
