/* What a long prompt does to those who generate, without HTTP or a client beside it: gaps between the tokens of N sequences
 * before and while a prompt of LONG tokens is read.
 *
 *     bench_gap MODEL THREADS [N 7] [LONG 4000] */
#include "rocmforge.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MOST_GAPS = 200000, MOST_STREAMS = 64, MOST_LONG = 8000 };

typedef struct {
    double last;
    unsigned n;
} stream;

static double calm[MOST_GAPS], during[MOST_GAPS];
static unsigned n_calm, n_during;
static volatile bool
    reading; /* the long prompt is being read; set and read on the engine's thread, but for its start */
static volatile unsigned n_tokens;

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static void on_stream(void *user, const rf_event *ev) {
    stream *s = user;
    if (ev->kind != RF_EVENT_TOKEN || ev->id < 0) return;
    double t = now_ms();
    if (s->n++ > 20 && reading && n_during < MOST_GAPS) during[n_during++] = t - s->last;
    if (s->n > 20 && !reading && n_calm < MOST_GAPS) calm[n_calm++] = t - s->last;
    s->last = t;
    n_tokens++;
}

static void on_long(void *user, const rf_event *ev) {
    double *first = user;
    if (ev->kind == RF_EVENT_PROMPT && ev->prompt_done == 0) reading = true;
    if (ev->kind == RF_EVENT_TOKEN && *first == 0) *first = now_ms(), reading = false;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void show(const char *what, double *gaps, unsigned n) {
    qsort(gaps, n, sizeof *gaps, by_size);
    if (n) printf("| %-8s | %6u | %6.1f | %6.1f | %6.1f |\n", what, n, gaps[n / 2], gaps[n - 1 - n / 100], gaps[n - 1]);
}

static rf_request *begin(rf_engine *g, unsigned n_prompt, int64_t n_out, rf_callback cb, void *user) {
    static int32_t tokens[MOST_LONG];
    rf_request_params p = rf_request_defaults();
    rf_request *r = NULL;
    rf_error e;
    for (unsigned i = 0; i < n_prompt; i++) tokens[i] = 100 + rand() % 40000;
    p.tokens = tokens, p.n_tokens = n_prompt, p.max_tokens = n_out, p.temperature = 0, p.ignore_eos = true;
    if (!rf_request_start(&r, g, &p, cb, user, &e)) fprintf(stderr, "%s\n", e.message);
    return r;
}

static bool run(rf_engine *g, unsigned n, unsigned n_long) {
    static stream s[MOST_STREAMS];
    rf_request *r[MOST_STREAMS];
    double sent, first = 0;
    for (unsigned i = 0; i < n; i++)
        if (!(r[i] = begin(g, 50, 900, on_stream, &s[i]))) return false;
    while (n_tokens < n * 150) nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    sent = now_ms();
    rf_request *late = begin(g, n_long, 4, on_long, &first);
    if (!late) return false;
    rf_request_wait(late);
    for (unsigned i = 0; i < n; i++) rf_request_cancel(r[i]);
    for (unsigned i = 0; i < n; i++) rf_request_free(r[i]);
    rf_request_free(late);
    printf("| gaps, ms | number |    p50 |    p99 |    max |\n|-|-|-|-|-|\n");
    show("usual", calm, n_calm);
    show("reading", during, n_during);
    printf("first token of the long prompt after %.1f s\n", (first - sent) / 1e3);
    return true;
}

int main(int argc, char **argv) {
    if (argc < 3) return fprintf(stderr, "usage: bench_gap MODEL THREADS [N 7] [LONG 4000]\n"), 2;
    unsigned n = argc > 3 ? (unsigned)atoi(argv[3]) : 7, n_long = argc > 4 ? (unsigned)atoi(argv[4]) : 4000;
    if (n < 1 || n > MOST_STREAMS || n_long < 1 || n_long > MOST_LONG) return 2;
    rf_error e;
    rf_model *m = NULL;
    rf_engine *g = NULL;
    rf_engine_options opt = {
        .device = getenv("ROCMFORGE_DEVICE"), .threads = (uint32_t)atoi(argv[2]), .context = 8192, .parallel = n + 1};
    bool ok = rf_model_open(&m, argv[1], &e) && rf_engine_open(&g, m, &opt, &e);
    if (!ok) fprintf(stderr, "%s\n", e.message);
    ok = ok && run(g, n, n_long);
    rf_engine_close(g);
    rf_model_close(m);
    return ok ? 0 : 1;
}
