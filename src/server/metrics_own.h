/* The books behind metrics.h, for metrics.c, which keeps them, and metrics_write.c, which writes them. Loop thread. */
#ifndef ROCMFORGE_SERVER_METRICS_OWN_H
#define ROCMFORGE_SERVER_METRICS_OWN_H

#include "server/histogram.h"
#include "server/metrics.h"

/* X(id, bounds, labelled with the model's name, family, help) */
#define METRICS_HISTOGRAMS(X) \
    X(H_PREFILL, decades, false, "rocmforge_prefill_duration_seconds", \
      "Time from a request's first prompt chunk to its first token.") \
    X(H_DECODE, decades, false, "rocmforge_decode_duration_seconds", "Time from a request's first token to its last.") \
    X(H_TOTAL, decades, false, "rocmforge_total_duration_seconds", "Time from a request's arrival to its end.") \
    X(H_TTFT, decades, false, "rocmforge_ttft_seconds", "Time from a request's arrival to its first token.") \
    X(H_QUEUE, decades, false, "rocmforge_queue_duration_seconds", "Time a request waited to be let in.") \
    X(H_GPU_RETRY, retries, false, "rocmforge_gpu_retry_attempt_histogram", \
      "Attempts that a retried GPU operation took.") \
    X(H_VLLM_TTFT, first_token, true, "vllm:time_to_first_token_seconds", \
      "Time from a request's arrival to its first token.") \
    X(H_VLLM_GAP, gaps, true, "vllm:inter_token_latency_seconds", "Time between one token and the next of a request.") \
    X(H_VLLM_PER_TOKEN, gaps, true, "vllm:request_time_per_output_token_seconds", \
      "Mean time per token of a request after its first.") \
    X(H_VLLM_E2E, latency, true, "vllm:e2e_request_latency_seconds", "Time from a request's arrival to its end.") \
    X(H_VLLM_QUEUE, latency, true, "vllm:request_queue_time_seconds", "Time a request waited to be let in.") \
    X(H_VLLM_INFERENCE, latency, true, "vllm:request_inference_time_seconds", "Time a request was computed on.") \
    X(H_VLLM_PREFILL, latency, true, "vllm:request_prefill_time_seconds", \
      "Time from a request's first prompt chunk to its first token.") \
    X(H_VLLM_DECODE, latency, true, "vllm:request_decode_time_seconds", \
      "Time from a request's first token to its last.") \
    X(H_VLLM_PROMPT, tokens, true, "vllm:request_prompt_tokens", "Tokens of a request's prompt.") \
    X(H_VLLM_GENERATION, tokens, true, "vllm:request_generation_tokens", "Tokens generated for a request.") \
    X(H_VLLM_N, choices, true, "vllm:request_params_n", "The n of a request.") \
    X(H_VLLM_MAX_TOKENS, tokens, true, "vllm:request_params_max_tokens", "The max_tokens of a request that named one.")

enum {
#define X(id, bounds, by_model, name, help) id,
    METRICS_HISTOGRAMS(X)
#undef X
        N_HISTOGRAMS
};

/* Counters by a name and a status, few by nature: routes, error codes. What does not fit is counted under "other". */
enum { TALLY_MOST = 160, TALLY_NAME = 48 };
typedef struct {
    struct {
        char name[TALLY_NAME];
        int status;
        uint64_t n;
    } row[TALLY_MOST + 1];
    uint32_t n;
} tally;

typedef enum { END_STOP, END_LENGTH, END_ABORT, END_ERROR, N_ENDS } request_end;

enum { RATE_SECONDS = 10 };

struct metrics {
    uint64_t started, completed, failed, cancelled, generated, prompt, cached;
    uint64_t ends[N_ENDS];
    uint64_t prompt_computed; /* tokens of prompts less those from the cache, of requests whose prompt was read */
    int64_t prompt_us, decode_us;
    uint64_t decoded; /* tokens that decode_us made: all but first ones */
    uint32_t n_tokens_max;
    histogram h[N_HISTOGRAMS];
    tally http, refused, failures;
    struct {
        int64_t second;
        uint32_t n;
    } recent[RATE_SECONDS]; /* tokens by second, at [second mod RATE_SECONDS] */
    double started_unix;
};

double metrics_rate(const metrics *m); /* tokens a second over the last RATE_SECONDS */

#endif
