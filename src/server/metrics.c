/* Bounds of vllm: families are vLLM's, so that its dashboards and alerts read ours; those of rocmforge_ are ROCmForge's. */
#include "server/metrics.h"

#include "base/clock.h"
#include "base/mem.h"
#include "server/metrics_own.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static const double decades[] = {.001, .01, .1, 1, 10, 100};
static const double retries[] = {1, 2, 4, 8, 16};
static const double first_token[] = {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
                                     1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560};
static const double gaps[] = {.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80};
static const double latency[] = {.3, .5, .8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                                 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};
static const double tokens[] = {1,    2,    5,   10,  20,  50,  100, 200, 500, 1000,
                                2000, 5000, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6};
static const double choices[] = {1, 2, 5, 10, 20};

metrics *metrics_new(void) {
    metrics *m = mem_zalloc(sizeof *m);
    if (!m) return NULL;
#define X(id, bounds, by_model, name, help) m->h[id] = histogram_of(bounds, sizeof bounds / sizeof *bounds);
    METRICS_HISTOGRAMS(X)
#undef X
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    m->started_unix = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    return m;
}

void metrics_free(metrics *m) { mem_free(m); }

/* The row of a name and status, made where there is none; the one past the last takes what has no room. */
static uint32_t row_of(tally *t, const char *name, int status) {
    char key[TALLY_NAME];
    snprintf(key, sizeof key, "%s", name && *name ? name : "other");
    for (uint32_t i = 0; i < t->n; i++)
        if (t->row[i].status == status && strcmp(t->row[i].name, key) == 0) return i;
    bool room = t->n < TALLY_MOST;
    uint32_t i = room ? t->n++ : TALLY_MOST;
    snprintf(t->row[i].name, sizeof t->row[i].name, "%s", room ? key : "overflow");
    t->row[i].status = room ? status : 0;
    return i;
}

static void count(tally *t, const char *name, int status) { t->row[row_of(t, name, status)].n++; }

void metrics_http(metrics *m, const char *route, int status) { count(&m->http, route, status); }
void metrics_refused(metrics *m, int http, const char *code) { count(&m->refused, code, http); }
void metrics_started(metrics *m) { m->started++; }

/* --- tokens ----------------------------------------------------------------------------------------------------------- */
static void count_token(metrics *m) {
    int64_t second = clock_us() / 1000000, i = second % RATE_SECONDS;
    if (m->recent[i].second != second) {
        m->recent[i].second = second;
        m->recent[i].n = 0;
    }
    m->recent[i].n++;
}

double metrics_rate(const metrics *m) {
    int64_t second = clock_us() / 1000000;
    uint64_t n = 0;
    for (int i = 0; i < RATE_SECONDS; i++)
        if (m->recent[i].second > second - RATE_SECONDS) n += m->recent[i].n;
    return (double)n / RATE_SECONDS;
}

void metrics_first_token(metrics *m, int64_t ttft_us) {
    count_token(m);
    histogram_add(&m->h[H_TTFT], (double)ttft_us / 1e6);
    histogram_add(&m->h[H_VLLM_TTFT], (double)ttft_us / 1e6);
}

void metrics_next_token(metrics *m, int64_t gap_us) {
    count_token(m);
    histogram_add(&m->h[H_VLLM_GAP], (double)gap_us / 1e6);
}

/* --- the end of a request --------------------------------------------------------------------------------------------- */
static request_end end_of(const request_record *r) {
    const char *why = r->finish ? r->finish : "failed";
    if (strcmp(why, "cancelled") == 0) return END_ABORT;
    if (r->error || strcmp(why, "failed") == 0) return END_ERROR;
    return strcmp(why, "length") == 0 ? END_LENGTH : END_STOP;
}

static void count_end(metrics *m, const request_record *r) {
    request_end end = end_of(r);
    m->ends[end]++;
    if (end == END_ABORT)
        m->cancelled++;
    else if (end == END_ERROR)
        m->failed++;
    else
        m->completed++;
    if (end == END_ERROR) count(&m->failures, r->error ? r->error->code : "internal.bug", r->http);
}

/* A phase that the request never reached is not counted as one that took no time. */
static void observe(metrics *m, const request_record *r) {
    double prompt = (double)r->prompt_us / 1e6, decode = (double)r->decode_us / 1e6, queue = (double)r->queue_us / 1e6;
    double total = (double)r->total_us / 1e6;
    bool read = r->prompt_us > 0, wrote = r->n_predicted > 0;
    histogram_add(&m->h[H_TOTAL], total);
    histogram_add(&m->h[H_VLLM_E2E], total);
    histogram_add(&m->h[H_QUEUE], queue);
    histogram_add(&m->h[H_VLLM_QUEUE], queue);
    if (read) histogram_add(&m->h[H_PREFILL], prompt);
    if (read) histogram_add(&m->h[H_VLLM_PREFILL], prompt);
    if (read) histogram_add(&m->h[H_VLLM_INFERENCE], prompt + decode);
    if (wrote) histogram_add(&m->h[H_DECODE], decode);
    if (wrote) histogram_add(&m->h[H_VLLM_DECODE], decode);
    histogram_add(&m->h[H_VLLM_PROMPT], r->n_prompt);
    histogram_add(&m->h[H_VLLM_GENERATION], r->n_predicted);
    histogram_add(&m->h[H_VLLM_N], r->n_choices);
    if (r->max_tokens > 0) histogram_add(&m->h[H_VLLM_MAX_TOKENS], (double)r->max_tokens);
    uint32_t n = r->n_choices ? r->n_choices : 1; /* decode_us is of one choice, n_predicted of all */
    if (r->n_predicted > n) histogram_add(&m->h[H_VLLM_PER_TOKEN], decode / ((double)(r->n_predicted - n) / n));
}

void metrics_ended(metrics *m, const request_record *r) {
    count_end(m, r);
    observe(m, r);
    m->generated += r->n_predicted;
    m->prompt += r->n_prompt;
    m->cached += r->n_cached;
    if (r->prompt_us > 0 && r->n_prompt > r->n_cached) m->prompt_computed += r->n_prompt - r->n_cached;
    m->prompt_us += r->prompt_us;
    m->decode_us += r->decode_us;
    uint32_t n = r->n_choices ? r->n_choices : 1;
    if (r->n_predicted > n) m->decoded += r->n_predicted / n - 1;
    uint32_t n_tokens = r->n_prompt + r->n_predicted / n;
    if (n_tokens > m->n_tokens_max) m->n_tokens_max = n_tokens;
}

metrics_totals metrics_get_totals(const metrics *m) {
    return (metrics_totals){.started = m->started,
                            .completed = m->completed,
                            .failed = m->failed,
                            .cancelled = m->cancelled,
                            .generated_tokens = m->generated,
                            .prompt_tokens = m->prompt,
                            .tokens_per_second = metrics_rate(m)};
}
