/* All that is known of one finished request: what metrics count, traces tell and the log says. Plain data. */
#ifndef ROCMFORGE_SERVER_RECORD_H
#define ROCMFORGE_SERVER_RECORD_H

#include "rocmforge.h"

typedef struct {
    const char *request_id, *route, *operation; /* operation: "chat", "text_completion", "embeddings" */
    uint32_t id;                                /* the native routes' number */
    const char *model, *response_id;
    const char *traceparent; /* as the client sent it; NULL: none */
    uint64_t received_unix_ns;
    int64_t queue_us, prompt_us, decode_us, ttft_us, total_us; /* ttft: received to first token; 0: none came */
    uint32_t n_prompt, n_cached, n_predicted, n_choices, n_preempted;
    unsigned waited_for;   /* RF_WAIT_ bits */
    const char *finish;    /* "stop", "length", "cancelled", "failed"; of the first choice */
    const rf_error *error; /* NULL: none */
    int http;              /* status sent */
    int64_t max_tokens;
    double temperature, top_p, frequency_penalty, presence_penalty;
    int32_t top_k;
    uint64_t seed;
    bool stream;
} request_record;

#endif
