/* Counters, gauges and histograms of the server, written in Prometheus' text form under ROCmForge's, vLLM's and llama.cpp's
 * names from the same facts. Fed by real events only. Loop thread. */
#ifndef ROCMFORGE_SERVER_METRICS_H
#define ROCMFORGE_SERVER_METRICS_H

#include "base/str.h"
#include "server/record.h"

#include <jansson.h>

typedef struct metrics metrics;
metrics *metrics_new(void); /* NULL: out of memory */
void metrics_free(metrics *m);

void metrics_started(metrics *m);                             /* a generation was accepted */
void metrics_first_token(metrics *m, int64_t ttft_us);        /* of a request's first choice */
void metrics_next_token(metrics *m, int64_t gap_us);          /* since the token before it, of the same choice */
void metrics_ended(metrics *m, const request_record *r);      /* finished, failed or cancelled */
void metrics_refused(metrics *m, int http, const char *code); /* not accepted: 4xx, 429, 503 */
void metrics_http(metrics *m, const char *route, int status); /* every reply */

/* s: the engine's figures now. model: the name for labels. */
void metrics_write(const metrics *m, const rf_stats *s, const char *model, uint32_t connections, strbuf *out);

/* info: rf_engine_info's object. failed: its GPU is no more. */
void metrics_write_device(const json_t *info, bool failed, strbuf *out);

typedef struct {
    uint64_t started, completed, failed, cancelled, generated_tokens, prompt_tokens;
    double tokens_per_second; /* over the last ten seconds */
} metrics_totals;
metrics_totals metrics_get_totals(const metrics *m);

#endif
